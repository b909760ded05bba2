"""Reading packed nvlists, as found in resume tokens and BEGIN records. Decodes only; touches nothing.

Source: module/nvpair/nvpair.c of OpenZFS (nvs_native_*, nvs_xdr_*). Both encodings and both byte orders. The
input may come from an enemy: everything is bounded, and what the kernel might read differently (a name
twice, a malformed name, bytes after the end) is refused rather than interpreted.
"""

import struct
from typing import Literal, TypeAlias

Value: TypeAlias = (
    "bool | int | float | str | bytes | tuple[bool | int | str, ...] | Nvlist | tuple[Nvlist, ...]"
)
Nvlist: TypeAlias = dict[str, Value]

MAX_SIZE = 1 << 20
MAX_DEPTH = 8
MAX_PAIRS = 4096

_BOOLEAN, _STRING, _BYTE_ARRAY, _STRING_ARRAY = 1, 9, 10, 17
_NVLIST, _NVLIST_ARRAY, _BOOLEAN_VALUE, _BOOLEAN_ARRAY = 19, 20, 21, 24
_BYTES = {_BYTE_ARRAY, 26}
"""byte[] and uint8[]: both become bytes."""

_SCALARS = dict(zip((2, 3, 4, 5, 6, 7, 8, 18, 21, 22, 23, 27), "BhHiIqQqibBd", strict=True))
_ARRAYS = dict(zip((10, 11, 12, 13, 14, 15, 16, 24, 25, 26), "BhHiIqQibB", strict=True))
"""The numeric types as `struct` letters."""

_PAIR_HEADER = 16
_NVLIST_HEADER = 24
"""sizeof(nvlist_t): what stands in a native pair in place of the list that follows it."""


class BadNvlist(ValueError):
    """These bytes are no nvlist that we read. Nothing was changed."""


def decode(data: bytes) -> Nvlist:
    """The list in *data*, which must be packed in either encoding and nothing more. Raises BadNvlist.

    Integers become int, booleans bool (a pair without value: True), strings str, byte and uint8 arrays bytes,
    other arrays tuples, lists dicts.
    """
    if len(data) > MAX_SIZE:
        raise BadNvlist(f"{len(data)} bytes are more than {MAX_SIZE}")
    if len(data) < 4:
        raise BadNvlist("too short for a header")
    encoding, endian = data[0], data[1]
    if encoding not in (0, 1) or endian not in (0, 1):
        raise BadNvlist(f"unknown encoding {encoding} or byte order {endian}")
    order: Literal["<", ">"] = "<" if endian == 1 and encoding == 0 else ">"
    reader = _Reader(data, order)
    reader.take(4)
    result = _Native(reader).top() if encoding == 0 else _Xdr(reader).nvlist(0)
    if reader.left:
        raise BadNvlist(f"{reader.left} bytes after the end")
    return result


class _Reader:
    """A cursor that never leaves its bytes, and the budget of pairs."""

    def __init__(self, data: bytes, order: Literal["<", ">"]) -> None:
        self._data = data
        self._at = 0
        self._pairs = MAX_PAIRS
        self.order = order

    @property
    def left(self) -> int:
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        if count < 0 or count > self.left:
            raise BadNvlist(f"{count} bytes wanted, {self.left} left")
        chunk = self._data[self._at : self._at + count]
        self._at += count
        return chunk

    def peek_int32(self) -> int:
        at = self._at
        value = self.int32()
        self._at = at
        return value

    def int32(self) -> int:
        (value,) = struct.unpack(self.order + "i", self.take(4))
        return int(value)

    def spend_pair(self) -> None:
        self._pairs -= 1
        if self._pairs < 0:
            raise BadNvlist(f"more than {MAX_PAIRS} pairs")


def _add(result: Nvlist, name: str, value: Value) -> None:
    if name in result:
        raise BadNvlist(f"{name!r} stands twice")
    result[name] = value


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _check_depth(depth: int) -> None:
    if depth > MAX_DEPTH:
        raise BadNvlist(f"nested deeper than {MAX_DEPTH}")


def _check_version(version: int) -> None:
    if version != 0:
        raise BadNvlist(f"unknown nvlist version {version}")


def _check_count(kind: int, count: int) -> None:
    single = kind in _SCALARS or kind in (_STRING, _NVLIST)
    if count < 0 or (single and count != 1) or (kind == _BOOLEAN and count != 0):
        raise BadNvlist(f"{count} elements in a pair of type {kind}")


def _numbers(kind: int, values: tuple[int, ...], raw: bytes) -> Value:
    if kind in _BYTES:
        return raw
    return tuple(value != 0 for value in values) if kind == _BOOLEAN_ARRAY else values


class _Native:
    """The encoding that is the memory of the C structures; lists follow the pair that announces them."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader

    def top(self) -> Nvlist:
        version, _flags = struct.unpack(self._reader.order + "iI", self._reader.take(8))
        _check_version(version)
        return self._pairs(0)

    def _pairs(self, depth: int) -> Nvlist:
        _check_depth(depth)
        result: Nvlist = {}
        while (size := self._reader.peek_int32()) != 0:
            self._reader.spend_pair()
            name, value = self._pair(self._reader.take(size), depth)
            _add(result, name, value)
        self._reader.take(4)
        return result

    def _pair(self, pair: bytes, depth: int) -> tuple[str, Value]:
        if len(pair) < _PAIR_HEADER:
            raise BadNvlist("a pair shorter than its header")
        _size, name_size, _, count, kind = struct.unpack_from(self._reader.order + "ihhii", pair)
        name = pair[_PAIR_HEADER : _PAIR_HEADER + max(name_size, 0)]
        if len(name) != name_size or name.find(b"\0") != name_size - 1:
            raise BadNvlist("a malformed name")
        _check_count(kind, count)
        body = pair[_align8(_PAIR_HEADER + name_size) :]
        return _text(name[:-1]), self._value(kind, count, body, depth)

    def _value(self, kind: int, count: int, body: bytes, depth: int) -> Value:
        if kind == _BOOLEAN:
            return True
        if kind == _STRING:
            return _strings(body, 1)[0]
        if kind == _STRING_ARRAY:
            return _strings(body[8 * count :], count)
        if kind == _NVLIST:
            return self._embedded(body, 1, depth)[0]
        if kind == _NVLIST_ARRAY:
            return self._embedded(body[8 * count :], count, depth)
        if kind in _SCALARS:
            (value,) = _unpack(self._reader.order + _SCALARS[kind], body)
            return value != 0 if kind == _BOOLEAN_VALUE else value
        if kind in _ARRAYS:
            return _numbers(kind, _unpack(f"{self._reader.order}{count}{_ARRAYS[kind]}", body), body[:count])
        raise BadNvlist(f"unknown type {kind}")

    def _embedded(self, body: bytes, count: int, depth: int) -> tuple[Nvlist, ...]:
        if len(body) < count * _NVLIST_HEADER:
            raise BadNvlist("an embedded list without its header")
        for index in range(count):
            (version,) = _unpack(self._reader.order + "i", body[index * _NVLIST_HEADER :])
            _check_version(version)
        return tuple(self._pairs(depth + 1) for _ in range(count))


def _align8(size: int) -> int:
    return (size + 7) & ~7


def _unpack(layout: str, body: bytes) -> tuple[int, ...]:
    try:
        return struct.unpack_from(layout, body)
    except struct.error as error:
        raise BadNvlist("a value shorter than its type") from error


def _strings(body: bytes, count: int) -> tuple[str, ...]:
    parts = body.split(b"\0", count)
    if len(parts) <= count:
        raise BadNvlist("an unterminated string")
    return tuple(_text(part) for part in parts[:count])


class _Xdr:
    """The big-endian encoding, four bytes at a time; lists stand in place."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader

    def nvlist(self, depth: int) -> Nvlist:
        _check_depth(depth)
        _check_version(self._reader.int32())
        self._reader.int32()  # flags
        result: Nvlist = {}
        while True:
            # The kernel goes by decoded size alone; encoded size and the real length are not compared there.
            encoded, decoded = self._reader.int32(), self._reader.int32()
            if decoded == 0:
                break
            if encoded < 0 or decoded < 0:
                raise BadNvlist("a pair of negative size")
            self._reader.spend_pair()
            name = self._string()
            kind, count = self._reader.int32(), self._reader.int32()
            _check_count(kind, count)
            _add(result, name, self._value(kind, count, depth))
        return result

    def _value(self, kind: int, count: int, depth: int) -> Value:
        if kind == _BOOLEAN:
            return True
        if kind == _STRING:
            return self._string()
        if kind == _NVLIST:
            return self.nvlist(depth + 1)
        self._check_room(count)
        if kind == _STRING_ARRAY:
            return tuple(self._string() for _ in range(count))
        if kind == _NVLIST_ARRAY:
            return tuple(self.nvlist(depth + 1) for _ in range(count))
        if kind in _SCALARS:
            value = self._scalar(_SCALARS[kind])
            return value != 0 if kind == _BOOLEAN_VALUE else value
        if kind in _ARRAYS:
            return self._array(kind, count)
        raise BadNvlist(f"unknown type {kind}")

    def _check_room(self, count: int) -> None:
        if count > self._reader.left:
            raise BadNvlist(f"{count} elements in {self._reader.left} bytes")

    def _array(self, kind: int, count: int) -> Value:
        if kind == _BYTE_ARRAY:
            return self._opaque(count)
        if count == 0:
            return b"" if kind in _BYTES else ()
        if self._reader.int32() != count:
            raise BadNvlist("an array that counts its elements twice, differently")
        values = tuple(self._scalar(_ARRAYS[kind]) for _ in range(count))
        return _numbers(kind, values, bytes(value & 0xFF for value in values) if kind in _BYTES else b"")

    def _scalar(self, code: str) -> int:
        """One element: 8 bytes for the wide types, otherwise 4 with the value in the low ones."""
        if code in "qQd":
            return _unpack(">" + code, self._reader.take(8))[0]
        word = self._reader.take(4)
        size = struct.calcsize(">" + code)
        if word[: 4 - size].strip(b"\0") and word[: 4 - size].strip(b"\xff"):
            raise BadNvlist("a small integer out of range")
        return _unpack(">" + code, word[4 - size :])[0]

    def _opaque(self, size: int) -> bytes:
        data = self._reader.take(size)
        self._reader.take(-size % 4)
        return data

    def _string(self) -> str:
        raw = self._opaque(self._reader.int32())
        if b"\0" in raw:
            raise BadNvlist("a string with a NUL in it")
        return _text(raw)
