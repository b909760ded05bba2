"""The records of a send stream, as ZFS lays them out (zfs_ioctl.h, dmu_replay_record), of either byte order."""

import struct

HEADER = 312
LZ4 = 15
BLOCK = 128 << 10
BONUS = 320
"""Of a file's dnode in a raw stream, in bytes."""


def _record(order: str, kind: int, fields: str, *values: object, length: int = 0) -> bytes:
    return struct.pack(f"{order}II{fields}", kind, length, *values).ljust(HEADER, b"\0")


def begin(guid: int, *, features: int = 1 << 17 | 1 << 22, order: str = "<") -> bytes:
    """Of a full stream that is not raw, with LZ4 blocks as they are."""
    return _record(order, 0, "QQQIIQQ32s", 0x2F5BACBAC, features << 2 | 1, 0, 2, 12, guid, 0, b"tank/home@a")


def object_record(
    guid: int,
    number: int,
    *,
    order: str = "<",
    kind: int = 19,
    bonus_kind: int = 44,
    block: int = BLOCK,
    bonus: int = 168,
    checksum: int = 0,
    compression: int = 0,
    slots: int = 1,
    flags: int = 0,
    raw_bonus: int | None = BONUS,
    indirect: int = 17,
    levels: int = 1,
    pointers: int = 1,
    last: int = 0,
) -> bytes:
    """A file's dnode with the number of its *last* block; with no *raw_bonus* as in a stream that is not raw."""
    size = raw_bonus or -(-bonus // 8) * 8
    raw = (indirect, levels, pointers) if raw_bonus is not None else (0, 0, 0)
    return _record(
        order, 1, "QIIIIBBBBIQBBB5xQ", number, kind, bonus_kind, block, bonus, checksum, compression, slots, flags,
        raw_bonus or 0, guid, *raw, last,
    ) + bytes(size)  # fmt: skip


def free_objects(guid: int, first: int, count: int, *, order: str = "<") -> bytes:
    return _record(order, 2, "QQQ", first, count, guid)


def write(
    guid: int,
    payload: bytes,
    *,
    order: str = "<",
    number: int = 1,
    kind: int = 19,
    offset: int = 0,
    size: int = BLOCK,
    checksum: int = 7,
    flags: int = 0,
    compression: int = LZ4,
    packed: int | None = None,
) -> bytes:
    """A block that is *payload* on the wire and *size* bytes to read."""
    wire = len(payload) if packed is None else packed
    fields = (number, kind, offset, size, guid, checksum, flags, compression, wire)
    return _record(order, 3, "QI4xQQQBBB5x40xQ", *fields) + payload


def free(guid: int, number: int, offset: int, size: int, *, order: str = "<", kind: int = 4) -> bytes:
    return _record(order, kind, "QQQQ", number, offset, size, guid)


def end(guid: int, digest: bytes = b"", *, order: str = "<") -> bytes:
    """*digest* is up to 32 bytes in the place of the checksum."""
    return _record(order, 5, "32sQ", digest, guid)


def spill(
    guid: int,
    number: int,
    payload: bytes,
    *,
    order: str = "<",
    size: int = 512,
    flags: int = 0,
    compression: int = 2,
    packed: int | None = None,
    kind: int = 44,
) -> bytes:
    wire = len(payload) if packed is None else packed
    return _record(order, 7, "QQQBB6xQ36xI", number, size, guid, flags, compression, wire, kind) + payload


def embedded(
    guid: int,
    number: int,
    payload: bytes,
    *,
    order: str = "<",
    offset: int = 0,
    block: int = 4096,
    compression: int = LZ4,
    size: int = 512,
    packed: int | None = None,
) -> bytes:
    wire = len(payload) if packed is None else packed
    fields = (number, offset, block, guid, compression, 0, size, wire)
    return _record(order, 8, "QQQQBB6xII", *fields) + payload.ljust(-(-len(payload) // 8) * 8, b"\0")


def object_range(guid: int, first: int, count: int = 32, *, order: str = "<", flags: int = 0) -> bytes:
    return _record(order, 9, "QQQ36xB", first, count, guid, flags)
