"""Writing packed nvlists, the opposite of `zfs.nvlist`; the layout is that of module/nvpair/nvpair.c."""

import struct
from dataclasses import dataclass
from typing import Any, Literal

Order = Literal["<", ">"]

NUMBERS = dict(zip((2, 3, 4, 5, 6, 7, 8, 18, 21, 22, 23), "BhHiIqQqibB", strict=True))
ARRAYS = dict(zip((10, 11, 12, 13, 14, 15, 16, 24, 25, 26), "BhHiIqQibB", strict=True))


@dataclass(frozen=True, slots=True)
class Typed:
    """A value with its DATA_TYPE_*, where the Python type does not tell."""

    kind: int
    value: Any


Fields = dict[str, Any]


def _typed(value: Any) -> tuple[int, Any]:
    """Plain Python in the types that ZFS itself uses."""
    if isinstance(value, Typed):
        return value.kind, value.value
    if value is True:
        return 1, None
    kinds: dict[type, int] = {int: 8, str: 9, bytes: 26, dict: 19, list: 20, tuple: 16}
    return kinds[type(value)], value


def _count(kind: int, value: Any) -> int:
    if kind == 1:
        return 0
    return len(value) if isinstance(value, bytes | tuple | list) else 1


def native(fields: Fields, order: Order = "<") -> bytes:
    """*fields* in the native encoding of a machine of that byte order."""
    return (
        bytes([0, 1 if order == "<" else 0, 0, 0]) + struct.pack(order + "iI", 0, 1) + _pairs(fields, order)
    )


def _pairs(fields: Fields, order: Order) -> bytes:
    return b"".join(_pair(name, value, order) for name, value in fields.items()) + bytes(4)


def _pair(name: str, typed: Any, order: Order) -> bytes:
    kind, value = _typed(typed)
    encoded = name.encode("utf-8", "surrogateescape") + b"\0"
    body, after = _body(kind, value, order)
    head = _padded(struct.pack(order + "ihhii", 0, len(encoded), 0, _count(kind, value), kind) + encoded)
    pair = head + _padded(body)
    return struct.pack(order + "i", len(pair)) + pair[4:] + after


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def _body(kind: int, value: Any, order: Order) -> tuple[bytes, bytes]:
    """What stands in the pair, and what follows it."""
    if kind == 1:
        return b"", b""
    if kind == 9:
        return str(value).encode("utf-8", "surrogateescape") + b"\0", b""
    if kind == 17:
        texts = [str(one).encode("utf-8", "surrogateescape") + b"\0" for one in value]
        return bytes(8 * len(texts)) + b"".join(texts), b""
    if kind == 19:
        return bytes(24), _pairs(value, order)
    if kind == 20:
        lists = b"".join(_pairs(one, order) for one in value)
        return bytes(32 * _count(kind, value)), lists
    if kind in NUMBERS:
        return struct.pack(order + NUMBERS[kind], int(value)), b""
    values = tuple(value)
    return struct.pack(f"{order}{len(values)}{ARRAYS[kind]}", *values), b""


def xdr(fields: Fields) -> bytes:
    """*fields* in the XDR encoding, as OpenZFS after 2.4 sends them."""
    return bytes([1, 1, 0, 0]) + _xdr_list(fields)


def _xdr_list(fields: Fields) -> bytes:
    pairs = b""
    for name, typed in fields.items():
        kind, value = _typed(typed)
        pair = _xdr_string(name) + struct.pack(">ii", kind, _count(kind, value)) + _xdr_value(kind, value)
        pairs += struct.pack(">ii", len(pair) + 8, len(pair) + 64) + pair
    return struct.pack(">iI", 0, 1) + pairs + bytes(8)


def _xdr_string(text: Any) -> bytes:
    data = str(text).encode("utf-8", "surrogateescape")
    return struct.pack(">i", len(data)) + data + bytes(-len(data) % 4)


def _xdr_value(kind: int, value: Any) -> bytes:
    if kind == 1:
        return b""
    if kind == 9:
        return _xdr_string(value)
    if kind == 10:
        return bytes(value) + bytes(-len(value) % 4)
    if kind == 17:
        return b"".join(map(_xdr_string, value))
    if kind == 19:
        return _xdr_list(value)
    if kind == 20:
        return b"".join(map(_xdr_list, value))
    if kind in NUMBERS:
        return _xdr_number(NUMBERS[kind], value)
    values = tuple(value)
    numbers = b"".join(_xdr_number(ARRAYS[kind], one) for one in values)
    return struct.pack(">i", len(values)) + numbers if values else b""


def _xdr_number(code: str, value: Any) -> bytes:
    wide = {"q": "q", "Q": "Q"}.get(code, "i" if code in "bhi" else "I")
    return struct.pack(">" + wide, int(value))
