"""The records of a send stream behind its BEGIN, judged before ZFS sees them. Pure: bytes in, counts out.

It knows where a stream ends, and refuses what no `zfs send` says: ZFS parses records in the kernel, and a stream is
whatever the other side wrote. What is inside of payloads, and the checksums, are ZFS's to judge.

In raw streams every object is described before anything of it is written or freed, in its block of dnodes.

Sources in OpenZFS: include/sys/zfs_ioctl.h (dmu_replay_record), module/zfs/dmu_recv.c (receive_read_record,
recv_check_drr_*), module/zfs/dmu_send.c (dump_*).
"""

from collections.abc import Callable
from struct import Struct

from replication.errors import StreamRefused
from zfs.stream import HEADER_SIZE, Begin, Feature

MAX_BLOCK = 16 << 20
"""SPA_MAXBLOCKSIZE: no payload is longer."""

_OLD_MAX_BLOCK = 128 << 10
_MIN_BLOCK = 512
_MAX_OBJECT = 1 << 48
_MAX_SLOTS = 32
_OBJECTS_IN_BLOCK = 32
_SLOT = 512
_CORE, _POINTER = 64, 128
_NO_BONUS = _CORE + _POINTER
"""A dnode's core and its first block pointer."""
_SYSTEM_ATTRIBUTES = 44
_MOST_POINTERS = 3
_MAX_LEVELS = 12
_MAX_EMBEDDED = 112
_CHECKSUMS = 15
_LZ4, _ZSTD = 15, 16
_ALL = (1 << 64) - 1

_DEDUP, _BYTESWAP, _SPILL = 1, 2, 4

_VALID_TYPES = frozenset({*range(54), *(new for new in range(0x80, 0x100) if new & 0x1F < 10)})
"""DMU_OT_IS_VALID; ZFS looks the others up beyond the end of its tables."""


class _Wrong(Exception):
    """Why a record is refused."""


class Walker:
    """Follows one stream from behind its BEGIN record to the end of its END record.

    `ended` is whether END was seen, `left` how many bytes of payload come before the next header, `position` where it
    stands, in bytes from the beginning of BEGIN.
    """

    def __init__(self, begin: Begin) -> None:
        self.ended = False
        self.left = 0
        self.position = HEADER_SIZE + begin.payload_size
        self._number = 0
        order = ">" if begin.big_endian else "<"
        self._type = Struct(order + "I").unpack_from
        self._kinds = _kinds(order, _Limits(begin))

    def feed(self, data: memoryview) -> int:
        """How many bytes of *data*, the next of the stream, may go to ZFS; feed the others again, with more behind.

        All of them up to the end of END, but for a header that is not complete. Raises StreamRefused; what it was
        fed by then goes nowhere.
        """
        size = len(data)
        at = min(self.left, size)
        self.left -= at
        while not self.left and not self.ended and size - at >= HEADER_SIZE:
            payload = self._judge(data, at)
            at += HEADER_SIZE
            self.left = payload - min(payload, size - at)
            at += payload - self.left
        self.position += at
        return at

    def passed(self, count: int) -> None:
        """*count* of the bytes `left` went to ZFS another way."""
        if not 0 <= count <= self.left:
            raise ValueError(f"{count} bytes are not within the {self.left} of the payload")
        self.left -= count
        self.position += count

    def _judge(self, data: memoryview, at: int) -> int:
        """The header at *at*; how many bytes of payload follow it."""
        self._number += 1
        kind: int = self._type(data, at)[0]
        known = self._kinds.get(kind)
        if known is None:
            raise self._refused(at, f"type {kind}", _UNWANTED.get(kind, "there is no such record"))
        name, unpack, judge = known
        try:
            payload = judge(*unpack(data, at))
        except _Wrong as wrong:
            raise self._refused(at, name, str(wrong)) from None
        self.ended = kind == _END
        return payload

    def _refused(self, at: int, name: str, why: str) -> StreamRefused:
        return StreamRefused(
            f"record {self._number} of the stream ({name}, at byte {self.position + at}) is not in order: {why}"
        )


class _Limits:
    """What one stream's records must keep to, by its BEGIN. Each method judges one type, and returns its payload."""

    def __init__(self, begin: Begin) -> None:
        features = begin.features
        self._guid = begin.to_guid
        self._raw = begin.raw
        self._swap = _BYTESWAP if begin.raw else 0
        self._embedded = Feature.EMBED_DATA in features and not begin.raw
        self._compressed = Feature.COMPRESSED in features
        self._slots = _MAX_SLOTS if Feature.LARGE_DNODE in features else 1
        self._block = MAX_BLOCK if Feature.LARGE_BLOCKS in features else _OLD_MAX_BLOCK
        self._shapes: dict[int, tuple[int, int]] = {}
        newer = {_LZ4: Feature.LZ4, _ZSTD: Feature.ZSTD}
        self._compressions = frozenset(
            one for one in range(_ZSTD + 1) if newer.get(one, Feature(0)) in features
        )

    def object_(
        self,
        number: int,
        kind: int,
        bonus_kind: int,
        block: int,
        bonus: int,
        checksum: int,
        compression: int,
        slots: int,
        flags: int,
        raw_bonus: int,
        guid: int,
        indirect: int,
        levels: int,
        pointers: int,
        last: int,
    ) -> int:
        self._check_guid(guid)
        _check_object(number)
        _check_kind(kind)
        _check_kind(bonus_kind)
        if kind == 0:
            raise _Wrong("it is an object of no type")
        if checksum >= _CHECKSUMS or compression > _ZSTD:
            raise _Wrong(f"unknown checksum {checksum} or compression {compression}")
        self._check_block(block)
        if block % _MIN_BLOCK:
            raise _Wrong(f"blocks of {block} bytes")
        if not 0 <= slots <= self._slots or number + slots > _MAX_OBJECT:
            raise _Wrong(f"a dnode of {slots} slots")
        if max(bonus, raw_bonus) > max(slots, 1) * _SLOT - _NO_BONUS:
            raise _Wrong(f"a bonus of {max(bonus, raw_bonus)} bytes")
        if flags & ~(_SPILL | self._swap):
            raise _Wrong(f"flags {flags:#x}")
        if self._raw:
            if raw_bonus < bonus:
                raise _Wrong(f"a raw bonus of {raw_bonus} bytes for one of {bonus}")
            if not 1 <= levels <= _MAX_LEVELS or not 1 <= pointers <= 3:
                raise _Wrong(f"{levels} levels and {pointers} block pointers")
            if (indirect or levels > 1) and not 12 <= indirect <= 17:
                raise _Wrong(f"indirect blocks of 2**{indirect} bytes")
            if pointers > _pointers(bonus_kind, bonus, max(slots, 1)):
                raise _Wrong(f"{pointers} block pointers beside a bonus of {bonus} bytes")
            bits = (indirect - 7) * (levels - 1) if levels > 1 else 0
            if bits >= 64:
                raise _Wrong(f"{levels} levels of indirect blocks of 2**{indirect} bytes")
            blocks = pointers << bits
            if last >= blocks:
                raise _Wrong(f"a block {last}, where {blocks} can be pointed to")
            self._shapes[number] = block, block * blocks
        elif raw_bonus or levels or pointers or indirect:
            raise _Wrong("it has what only raw streams have")
        return raw_bonus or -(-bonus // 8) * 8

    def free_objects(self, first: int, count: int, guid: int) -> int:
        self._check_guid(guid)
        if first + count > _ALL:
            raise _Wrong(f"{count} objects from {first}")
        return 0

    def write(
        self,
        number: int,
        kind: int,
        offset: int,
        size: int,
        guid: int,
        checksum: int,
        flags: int,
        compression: int,
        packed: int,
    ) -> int:
        # Every few KiB one: in line what the others leave to functions.
        if guid != self._guid:
            raise _other_guid(guid, self._guid)
        if not 0 < number < _MAX_OBJECT:
            raise _Wrong(f"object {number}")
        if not _MIN_BLOCK <= size <= self._block or offset + size > _ALL:
            raise _Wrong(f"{size} bytes at {offset}, where blocks have at most {self._block}")
        if packed > size:
            raise _Wrong(f"{packed} bytes on the wire for {size}")
        if self._raw:
            block, end = self._shape(number)
            if size != block or offset % block or offset >= end:
                raise _Wrong(f"{size} bytes at {offset} of an object with blocks of {block} up to {end}")
        if kind not in _VALID_TYPES or checksum >= _CHECKSUMS or compression not in self._compressions:
            raise _Wrong(
                f"data type {kind}, checksum {checksum} or compression {compression} is unknown here"
            )
        if flags & ~(_DEDUP | self._swap):
            raise _Wrong(f"flags {flags:#x}")
        if not packed:
            if self._raw or compression:
                raise _Wrong("it does not say how many bytes are on the wire")
            return size
        if not self._raw and not (self._compressed and compression):
            raise _Wrong("it is compressed in a stream that is not")
        return packed if compression else size

    def free(self, number: int, offset: int, size: int, guid: int) -> int:
        self._check_guid(guid)
        _check_object(number)
        if size != _ALL and offset + size > _ALL:
            raise _Wrong(f"{size} bytes at {offset}")
        if self._raw:
            block, _ = self._shape(number)
            if offset % block or (size != _ALL and size % block):
                raise _Wrong(f"{size} bytes at {offset} of an object with blocks of {block}")
        return 0

    def end(self, guid: int) -> int:
        self._check_guid(guid)
        return 0

    def spill(
        self, number: int, size: int, guid: int, flags: int, compression: int, packed: int, kind: int
    ) -> int:
        self._check_guid(guid)
        _check_object(number)
        _check_kind(kind)
        # Spill blocks may be large whatever the features are.
        if not _MIN_BLOCK <= size <= MAX_BLOCK or packed > size:
            raise _Wrong(f"{packed} bytes on the wire for {size}")
        if flags & ~(_SPILL | self._swap):
            raise _Wrong(f"flags {flags:#x}")
        if bool(packed) != self._raw or (not packed and compression):
            raise _Wrong("how many bytes are on the wire is said in raw streams and only there")
        self._check_compression(compression)
        return packed or size

    def embedded(
        self, number: int, offset: int, block: int, guid: int, compression: int, size: int, packed: int
    ) -> int:
        self._check_guid(guid)
        _check_object(number)
        if not self._embedded:
            raise _Wrong("the stream has no embedded data")
        if block > self._block or offset + block > _ALL or size > block:
            raise _Wrong(f"{size} bytes of {block} at {offset}")
        if packed > min(size, _MAX_EMBEDDED):
            raise _Wrong(f"{packed} bytes on the wire for {size}")
        self._check_compression(compression)
        return -(-packed // 8) * 8

    def object_range(self, first: int, count: int, guid: int, flags: int) -> int:
        self._check_guid(guid)
        if not self._raw:
            raise _Wrong("only raw streams have it")
        if count != _OBJECTS_IN_BLOCK or first % _OBJECTS_IN_BLOCK or first + count > _MAX_OBJECT:
            raise _Wrong(f"{count} objects from {first} are not one block of dnodes")
        if flags & ~self._swap:
            raise _Wrong(f"flags {flags:#x}")
        self._shapes.clear()
        return 0

    def _shape(self, number: int) -> tuple[int, int]:
        """(size of a block, where the last one that can be pointed to ends) of an object of this block of dnodes.

        ZFS takes these from a raw stream as they are, and stops the whole pool where they do not fit together.
        """
        shape = self._shapes.get(number)
        if shape is None:
            raise _Wrong(f"nothing was said of object {number} before")
        return shape

    def _check_guid(self, guid: int) -> None:
        if guid != self._guid:
            raise _other_guid(guid, self._guid)

    def _check_block(self, size: int) -> None:
        if not _MIN_BLOCK <= size <= self._block:
            raise _Wrong(f"blocks of {size} bytes, where they have at most {self._block}")

    def _check_compression(self, compression: int) -> None:
        if compression not in self._compressions:
            raise _Wrong(f"compression {compression} is not among the stream's")


def _other_guid(guid: int, expected: int) -> _Wrong:
    return _Wrong(f"it is of snapshot {guid}, the stream is of {expected}")


def _pointers(bonus_kind: int, bonus: int, slots: int) -> int:
    """How many block pointers ZFS gives to such an object (dnode_allocate)."""
    if bonus_kind == _SYSTEM_ATTRIBUTES:
        return 1
    return min(_MOST_POINTERS, 1 + (slots * _SLOT - _NO_BONUS - bonus) // _POINTER)


def _check_object(number: int) -> None:
    if not 0 < number < _MAX_OBJECT:
        raise _Wrong(f"object {number}")


def _check_kind(kind: int) -> None:
    if kind not in _VALID_TYPES:
        raise _Wrong(f"data type {kind} is unknown here")


_END = 5
_UNWANTED = {
    0: "a second BEGIN",
    6: "references belong into deduplicated streams, which were refused",
    10: "redactions belong into redacted streams, which were refused",
}

_Kind = tuple[str, Callable[..., tuple[int, ...]], Callable[..., int]]


def _kinds(order: str, limits: _Limits) -> dict[int, _Kind]:
    """By type: its name, the reader of its fields, and their judge. The first 8 bytes are the type and a length
    that only BEGIN has.
    """
    layouts: dict[int, tuple[str, str, Callable[..., int]]] = {
        1: ("OBJECT", "QIIIIBBBBIQBBB5xQ", limits.object_),
        2: ("FREEOBJECTS", "QQQ", limits.free_objects),
        3: ("WRITE", "QI4xQQQBBB5x40xQ", limits.write),
        4: ("FREE", "QQQQ", limits.free),
        _END: ("END", "32xQ", limits.end),
        7: ("SPILL", "QQQBB6xQ36xI", limits.spill),
        8: ("WRITE_EMBEDDED", "QQQQBx6xII", limits.embedded),
        9: ("OBJECT_RANGE", "QQQ36xB", limits.object_range),
    }
    return {
        kind: (name, Struct(f"{order}8x{fields}").unpack_from, judge)
        for kind, (name, fields, judge) in layouts.items()
    }
