"""Fixed big-endian layouts, written and read: a Reader takes what a Writer would write, and nothing else."""

import base64
import unicodedata
from collections.abc import Sequence
from ipaddress import ip_address
from itertools import pairwise

from mesh.endpoints import MAX_NAMES, BadEndpoint, Endpoint, NamedEndpoint

_NAMED = 0
"""In the place of an address family: what follows is a name."""


class Malformed(ValueError):
    """The bytes or values do not fit their layout; the text says where. Nothing was changed."""


class Writer:
    """Appends fields. Every method raises Malformed for a value that does not fit its field."""

    def __init__(self) -> None:
        self._data = bytearray()

    def done(self) -> bytes:
        """Everything written so far."""
        return bytes(self._data)

    def uint(self, value: int, size: int) -> None:
        """An unsigned integer of *size* bytes."""
        if not 0 <= value < 1 << (8 * size):
            raise Malformed(f"{value} does not fit into {size} bytes")
        self._data += value.to_bytes(size, "big")

    def fixed(self, value: bytes, size: int) -> None:
        """Exactly *size* bytes."""
        if len(value) != size:
            raise Malformed(f"{len(value)} bytes where {size} belong")
        self._data += value

    def blob(self, value: bytes, limit: int) -> None:
        """A 16-bit length and that many bytes."""
        if len(value) > limit:
            raise Malformed(f"{len(value)} bytes where at most {limit} belong")
        self.uint(len(value), 2)
        self._data += value

    def text(self, value: str, limit: int = 255) -> None:
        """An 8-bit length and printable UTF-8 of at most *limit* bytes."""
        data = printable(value).encode()
        if len(data) > limit:
            raise Malformed(f"text of {len(data)} bytes where at most {limit} belong")
        self.uint(len(data), 1)
        self._data += data

    def keys(self, values: Sequence[bytes], limit: int) -> None:
        """A 16-bit count and that many 32-byte values, strictly ascending."""
        check_ascending(values, limit)
        self.uint(len(values), 2)
        for value in values:
            self.fixed(value, 32)

    def places(self, names: Sequence[NamedEndpoint], values: Sequence[Endpoint], limit: int) -> None:
        """An 8-bit count of both; names as (0, text, port), then (family 4|6, address, port), by preference each."""
        check_count(len(names), MAX_NAMES)
        check_count(len(names) + len(values), limit)
        self.uint(len(names) + len(values), 1)
        for name in names:
            self.uint(_NAMED, 1)
            self.text(name.name, 253)
            self.uint(name.port, 2)
        for value in values:
            address = ip_address(value.host)
            self.uint(address.version, 1)
            self._data += address.packed
            self.uint(value.port, 2)


class Reader:
    """Takes fields off the front. Every method raises Malformed; `end` is where trailing bytes are met."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def fixed(self, size: int) -> bytes:
        """The next *size* bytes."""
        end = self._at + size
        if end > len(self._data):
            raise Malformed(f"ends {end - len(self._data)} bytes too early")
        piece = self._data[self._at : end]
        self._at = end
        return piece

    def uint(self, size: int) -> int:
        """An unsigned integer of *size* bytes."""
        return int.from_bytes(self.fixed(size), "big")

    def flag(self) -> bool:
        """One byte, 0 or 1."""
        value = self.uint(1)
        if value > 1:
            raise Malformed(f"{value} where 0 or 1 belongs")
        return value == 1

    def blob(self, limit: int) -> bytes:
        """The inverse of `Writer.blob`."""
        size = self.uint(2)
        check_count(size, limit)
        return self.fixed(size)

    def text(self, limit: int = 255) -> str:
        """The inverse of `Writer.text`."""
        size = self.uint(1)
        check_count(size, limit)
        try:
            return printable(self.fixed(size).decode())
        except UnicodeDecodeError as error:
            raise Malformed("text is not UTF-8") from error

    def keys(self, limit: int) -> tuple[bytes, ...]:
        """The inverse of `Writer.keys`."""
        count = self.uint(2)
        check_count(count, limit)
        values = tuple(self.fixed(32) for _ in range(count))
        check_ascending(values, limit)
        return values

    def places(self, limit: int) -> tuple[tuple[NamedEndpoint, ...], tuple[Endpoint, ...]]:
        """The inverse of `Writer.places`."""
        count = self.uint(1)
        check_count(count, limit)
        names: list[NamedEndpoint] = []
        endpoints: list[Endpoint] = []
        for _ in range(count):
            family = self.uint(1)
            if family == _NAMED and not endpoints:
                names.append(self._named())
            else:
                endpoints.append(self._endpoint(family))
        check_count(len(names), MAX_NAMES)
        return tuple(names), tuple(endpoints)

    def _named(self) -> NamedEndpoint:
        try:
            return NamedEndpoint(self.text(253), self.uint(2))
        except BadEndpoint as error:
            raise Malformed(str(error)) from error

    def _endpoint(self, family: int) -> Endpoint:
        if family not in (4, 6):
            raise Malformed(f"address family {family} here")
        packed = self.fixed(4 if family == 4 else 16)
        text = str(ip_address(packed))
        try:
            endpoint = Endpoint(text, self.uint(2))
        except BadEndpoint as error:
            raise Malformed(str(error)) from error
        if endpoint.host != text:
            raise Malformed(f"{text} is not canonical")
        return endpoint

    def end(self) -> None:
        """Nothing may be left."""
        if self._at != len(self._data):
            raise Malformed(f"{len(self._data) - self._at} trailing bytes")


def printable(text: str) -> str:
    """Return *text* if no character of it could break a line, a terminal or a log. Raises Malformed."""
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in text):
        raise Malformed("text contains control characters")
    return text


def check_count(count: int, limit: int) -> None:
    """Raises Malformed if there are more than *limit*."""
    if count > limit:
        raise Malformed(f"{count} where at most {limit} belong")


def check_ascending(values: Sequence[bytes], limit: int) -> None:
    """Raises Malformed unless *values* are at most *limit* and strictly ascending."""
    check_count(len(values), limit)
    if any(low >= high for low, high in pairwise(values)):
        raise Malformed("list is not strictly ascending")


def base32(data: bytes) -> str:
    """Lower-case base32 without padding."""
    return base64.b32encode(data).decode().rstrip("=").lower()


def from_base32(text: str) -> bytes:
    """The inverse of `base32`. Raises Malformed for anything that `base32` would not have written."""
    try:
        data = base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except ValueError as error:
        raise Malformed("not base32") from error
    if base32(data) != text:
        raise Malformed("not canonical base32")
    return data


def to_base64(data: bytes) -> str:
    """Standard base64, as WireGuard writes keys."""
    return base64.b64encode(data).decode()


def from_base64(text: str) -> bytes:
    """The inverse of `to_base64`. Raises Malformed."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise Malformed("not base64") from error
    if to_base64(data) != text:
        raise Malformed("not canonical base64")
    return data
