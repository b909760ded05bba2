"""Send streams taken apart and put together again with sums that fit, so that only the lie in them is wrong. Pure.

Sources in OpenZFS: include/sys/zfs_ioctl.h (dmu_replay_record), module/zfs/dmu_send.c (dump_record).
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

HEADER = 312
_SUM = HEADER - 32
_ALL = (1 << 64) - 1

BEGIN, OBJECT, FREEOBJECTS, WRITE, FREE, END, WRITE_BYREF, SPILL, EMBEDDED, OBJECT_RANGE, REDACT = range(11)

# Where fields stand in a record, in bytes, and how: of BEGIN, OBJECT, WRITE and all others.
LENGTH = (4, "I")
MAGIC, VERSION_INFO, CREATION, FLAGS, TO_GUID, FROM_GUID = (
    (8, "Q"), (16, "Q"), (24, "Q"), (36, "I"), (40, "Q"), (48, "Q"),
)  # fmt: skip
OBJECT_NUMBER, OBJECT_BONUS, OBJECT_LEVELS, OBJECT_LAST = (8, "Q"), (28, "I"), (49, "B"), (56, "Q")
OBJECT_RAW_BONUS = (36, "I")
WRITE_OFFSET, WRITE_SIZE, WRITE_GUID, WRITE_PACKED = (24, "Q"), (32, "Q"), (40, "Q"), (96, "Q")
FREE_OFFSET = (16, "Q")

Field = tuple[int, str]


@dataclass(slots=True)
class Record:
    """A header, whose sum is of no account, and what follows it."""

    header: bytearray
    payload: bytes = b""

    @property
    def kind(self) -> int:
        return int(struct.unpack_from("<I", self.header)[0])

    def set(self, field: Field, value: int) -> None:
        struct.pack_into("<" + field[1], self.header, field[0], value)

    def get(self, field: Field) -> int:
        return int(struct.unpack_from("<" + field[1], self.header, field[0])[0])


def record(kind: int, *values: tuple[Field, int], payload: bytes = b"") -> Record:
    """A record of zeros but for *values*."""
    made = Record(bytearray(struct.pack("<I", kind).ljust(HEADER, b"\0")), payload)
    for field, value in values:
        made.set(field, value)
    return made


def parse(stream: bytes) -> list[Record]:
    """The records of one genuine substream of this host's byte order."""
    found, at = [], 0
    while not found or found[-1].kind != END:
        one = Record(bytearray(stream[at : at + HEADER]))
        if len(one.header) < HEADER:
            raise ValueError("the stream ends before its END record")
        at += HEADER
        size = _payload(one)
        one.payload = stream[at : at + size]
        at += size
        found.append(one)
    return found


def _payload(one: Record) -> int:
    size = struct.unpack_from
    match one.kind:
        case 0:
            return one.get(LENGTH)
        case 1:
            return one.get(OBJECT_RAW_BONUS) or -(-one.get(OBJECT_BONUS) // 8) * 8
        case 3:
            return one.get(WRITE_PACKED) if one.header[50] else one.get(WRITE_SIZE)
        case 7:
            length, packed = size("<Q", one.header, 16)[0], size("<Q", one.header, 40)[0]
            return int(packed or length)
        case 8:
            return int(-(-size("<I", one.header, 52)[0] // 8) * 8)
    return 0


def packed(records: list[Record]) -> bytes:
    """The stream, with every sum as ZFS would have made it."""
    total, out = _Fletcher(), bytearray()
    for one in records:
        header = one.header
        if one.kind == END:
            header[8:40] = total.packed()
        total.add(header[:_SUM])
        if one.kind != BEGIN:
            header[_SUM:] = total.packed()
        total.add(header[_SUM:])
        total.add(one.payload)
        out += header + one.payload
    return bytes(out)


def forged(stream: bytes, lie: Callable[[list[Record]], None]) -> bytes:
    """*stream* after *lie* changed its records."""
    records = parse(stream)
    lie(records)
    return packed(records)


def first(records: list[Record], kind: int) -> int:
    """Where the first record of that type stands. Raises ValueError where there is none."""
    return (
        next((n for n, one in enumerate(records) if one.kind == kind), -1)
        if _has(records, kind)
        else _none(kind)
    )


def _has(records: list[Record], kind: int) -> bool:
    return any(one.kind == kind for one in records)


def _none(kind: int) -> int:
    raise ValueError(f"the stream has no record of type {kind}")


def cuts(stream: bytes) -> Iterator[tuple[int, int]]:
    """(type, a length that ends within the header or the payload of the first record of that type)."""
    seen, at = set(), 0
    for one in parse(stream):
        if one.kind not in seen:
            seen.add(one.kind)
            yield one.kind, at + HEADER // 2
            if one.payload:
                yield one.kind, at + HEADER + len(one.payload) // 2
        at += HEADER + len(one.payload)


class _Fletcher:
    """Fletcher-4 of all it was given; a rest that is no whole word does not count."""

    def __init__(self) -> None:
        self._sums = (0, 0, 0, 0)

    def add(self, data: bytes | bytearray) -> None:
        a, b, c, d = self._sums
        for word in struct.unpack_from(f"<{len(data) // 4}I", data):
            a += word
            b += a
            c += b
            d += c
        self._sums = a & _ALL, b & _ALL, c & _ALL, d & _ALL

    def packed(self) -> bytes:
        return struct.pack("<4Q", *self._sums)
