"""What may follow a BEGIN record: valid streams pass unchanged, all else is refused with its place and reason."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.errors import StreamRefused
from replication.records import MAX_BLOCK, Walker
from tests.fakes import records
from tests.fakes.records import BLOCK, HEADER
from zfs.stream import Begin, Feature

GUID = 77
RAW = Begin(
    to_name="tank/home@b",
    to_guid=GUID,
    from_guid=1,
    creation=0,
    kind="filesystem",
    compound=False,
    features=Feature.RAW | Feature.COMPRESSED | Feature.LZ4 | Feature.LARGE_DNODE,
    unknown=0,
    flags=12,
    payload_size=1000,
    big_endian=False,
)
PLAIN = replace(RAW, features=Feature.COMPRESSED | Feature.LZ4 | Feature.EMBED_DATA)
LARGE = replace(RAW, features=RAW.features | Feature.LARGE_BLOCKS | Feature.ZSTD)
START = HEADER + RAW.payload_size
ALL = (1 << 64) - 1
OBJECT = records.object_record(GUID, 1)


def raw_stream(order: str = "<") -> bytes:
    """One of every record that a raw stream has."""
    return b"".join(
        (
            records.free_objects(GUID, 0, 3, order=order),
            records.object_range(GUID, 0, order=order, flags=2),
            records.object_record(GUID, 1, order=order, flags=4),
            records.object_record(
                GUID, 2, order=order, slots=8, bonus=1000, raw_bonus=3904, block=1024, levels=5, last=1 << 30
            ),
            records.object_record(
                GUID, 10, order=order, bonus_kind=0, bonus=0, block=512, pointers=3, last=2
            ),
            records.free(GUID, 1, BLOCK, ALL, order=order),
            records.write(GUID, bytes(range(256)) * 16, order=order, flags=3),
            records.write(GUID, b"x" * 1000, number=2, order=order, size=1024, offset=1 << 40, compression=2),
            records.write(GUID, b"y" * 512, number=10, order=order, size=512, offset=1024, compression=0),
            records.spill(GUID, 1, b"z" * 512, order=order),
            records.end(GUID, order=order),
        )
    )


def plain_stream() -> bytes:
    return b"".join(
        (
            records.object_record(GUID, 1, raw_bonus=None),
            records.write(GUID, b"x" * 512, size=512, compression=0, packed=0),
            records.write(GUID, b"x" * 100),
            records.embedded(GUID, 1, b"e" * 13),
            records.spill(GUID, 1, b"s" * 512, compression=0, packed=0),
            records.end(GUID),
        )
    )


def follow(begin: Begin, data: bytes, chunk: int = 1 << 20) -> tuple[Walker, bytes]:
    """Feed *data* in chunks as a receiver does; what went to ZFS."""
    walker, passed, window, at = Walker(begin), b"", b"", 0
    while not walker.ended:
        count = walker.feed(memoryview(window))
        passed, window = passed + window[:count], window[count:]
        assert len(window) < HEADER or walker.ended, "only a header that is not complete waits"
        if walker.ended or at >= len(data):
            break
        window, at = window + data[at : at + chunk], at + chunk
    return walker, passed


def refused(begin: Begin, data: bytes) -> str:
    """What is said of *data*, behind an object that its records are of."""
    with pytest.raises(StreamRefused) as error:
        follow(begin, (OBJECT if begin.raw else b"") + data)
    return error.value.text


class TestWhatZfsSends:
    @pytest.mark.parametrize("chunk", [1, 7, HEADER, 1000, 1 << 20])
    @pytest.mark.parametrize("order", ["<", ">"])
    def test_every_record_of_a_raw_stream_passes_unchanged(self, order: str, chunk: int) -> None:
        data = raw_stream(order)
        walker, passed = follow(replace(RAW, big_endian=order == ">"), data, chunk)
        assert passed == data
        assert walker.ended
        assert walker.position == START + len(data)

    def test_every_record_of_a_plain_stream_passes_unchanged(self) -> None:
        data = plain_stream()
        assert follow(PLAIN, data)[1] == data

    def test_the_large_blocks_and_zstd_of_streams_that_have_them(self) -> None:
        data = records.object_record(GUID, 1, block=MAX_BLOCK)
        data += records.write(GUID, b"x" * (1 << 20), size=MAX_BLOCK, compression=16) + records.end(GUID)
        assert follow(LARGE, data, 1 << 16)[1] == data

    def test_what_comes_behind_the_end_is_not_its(self) -> None:
        data = raw_stream()
        _, passed = follow(RAW, data + b"the next one's BEGIN" * 100)
        assert passed == data

    def test_payload_may_go_another_way(self) -> None:
        data = records.write(GUID, b"x" * 100_000) + records.end(GUID)
        walker = Walker(RAW)
        walker.feed(memoryview(OBJECT))
        assert walker.feed(memoryview(data)[:1000]) == 1000
        assert walker.left == HEADER + 100_000 - 1000
        walker.passed(walker.left)
        assert walker.feed(memoryview(data)[HEADER + 100_000 :]) == HEADER
        assert walker.ended
        assert walker.position == START + len(OBJECT) + len(data)
        with pytest.raises(ValueError, match="not within"):
            walker.passed(1)


REFUSED: dict[str, tuple[Begin, bytes, str]] = {
    "a second BEGIN": (RAW, bytes(HEADER), "second BEGIN"),
    "a reference": (RAW, records.free(GUID, 1, 0, 1, kind=6), "dedup"),
    "a redaction": (RAW, records.free(GUID, 1, 0, 1, kind=10), "redact"),
    "a type of the future": (RAW, records.free(GUID, 1, 0, 1, kind=11), "no such record"),
    "the other byte order": (RAW, records.end(GUID, order=">"), "no such record"),
    "object of another snapshot": (RAW, records.object_record(GUID + 1, 1), "snapshot 78"),
    "objects freed of another": (RAW, records.free_objects(1, 1, 1), "snapshot 1"),
    "write of another": (RAW, records.write(1, b"x" * 100), "snapshot 1"),
    "free of another": (RAW, records.free(1, 1, 0, 1), "snapshot 1"),
    "spill of another": (RAW, records.spill(1, 1, b"x" * 512), "snapshot 1"),
    "embedded of another": (PLAIN, records.embedded(1, 1, b"x"), "snapshot 1"),
    "range of another": (RAW, records.object_range(1, 0), "snapshot 1"),
    "end of another": (RAW, records.end(1), "snapshot 1"),
    "object 0": (RAW, records.object_record(GUID, 0), "object 0"),
    "object too high": (RAW, records.object_record(GUID, 1 << 48), "object"),
    "object of no type": (RAW, records.object_record(GUID, 1, kind=0), "no type"),
    "object type beyond the table": (RAW, records.object_record(GUID, 1, kind=54), "data type 54"),
    "object type of a new kind beyond": (RAW, records.object_record(GUID, 1, kind=0x80 | 10), "data type"),
    "object type that overflows": (RAW, records.object_record(GUID, 1, kind=1 << 31), "data type"),
    "bonus type beyond the table": (RAW, records.object_record(GUID, 1, bonus_kind=99), "data type 99"),
    "object checksum": (RAW, records.object_record(GUID, 1, checksum=15), "checksum"),
    "object compression": (RAW, records.object_record(GUID, 1, compression=17), "compression"),
    "object of odd blocks": (RAW, records.object_record(GUID, 1, block=1000), "1000"),
    "object of no blocks": (RAW, records.object_record(GUID, 1, block=0), "0 bytes"),
    "object of large blocks": (RAW, records.object_record(GUID, 1, block=BLOCK + 512), "at most"),
    "object beyond the largest": (LARGE, records.object_record(GUID, 1, block=MAX_BLOCK + 512), "at most"),
    "dnode too large": (RAW, records.object_record(GUID, 1, slots=33), "33 slots"),
    "large dnode unannounced": (PLAIN, records.object_record(GUID, 1, slots=2, raw_bonus=None), "2 slots"),
    "bonus beyond the dnode": (RAW, records.object_record(GUID, 1, bonus=321, raw_bonus=328), "bonus"),
    "raw bonus below": (RAW, records.object_record(GUID, 1, bonus=320, raw_bonus=312), "raw bonus"),
    "object flags": (RAW, records.object_record(GUID, 1, flags=8), "flags 0x8"),
    "swapped in a plain stream": (
        PLAIN,
        records.object_record(GUID, 1, raw_bonus=None, flags=2),
        "flags 0x2",
    ),
    "no levels": (RAW, records.object_record(GUID, 1, levels=0), "0 levels"),
    "many levels": (RAW, records.object_record(GUID, 1, levels=13), "13 levels"),
    "many pointers": (RAW, records.object_record(GUID, 1, pointers=4), "4 block pointers"),
    "indirect blocks": (RAW, records.object_record(GUID, 1, indirect=18), "2**18"),
    "raw object in a plain stream": (PLAIN, records.object_record(GUID, 1), "only raw streams"),
    "levels without indirect blocks": (RAW, records.object_record(GUID, 1, indirect=0, levels=2), "2**0"),
    "more levels than offsets have": (RAW, records.object_record(GUID, 1, levels=8), "8 levels of"),
    "pointers where attributes are": (
        RAW,
        records.object_record(GUID, 1, pointers=2),
        "2 block pointers beside",
    ),
    "pointers where a bonus is": (
        RAW,
        records.object_record(GUID, 1, bonus_kind=17, bonus=264, pointers=2),
        "2 block pointers beside",
    ),
    "a last block beyond the pointer": (RAW, records.object_record(GUID, 1, last=1), "a block 1, where 1"),
    "a last block beyond the levels": (
        RAW,
        records.object_record(GUID, 1, levels=2, last=1024),
        "a block 1024, where 1024",
    ),
    "write to what was not described": (RAW, records.write(GUID, b"x" * 512, number=2), "nothing was said"),
    "write to what another range had": (
        RAW,
        records.object_range(GUID, 32) + records.write(GUID, b"x" * 512),
        "nothing was said",
    ),
    "write beyond the pointer": (RAW, records.write(GUID, b"x" * 512, offset=BLOCK), "up to 131072"),
    "write beyond the levels": (
        RAW,
        records.object_record(GUID, 1, levels=2) + records.write(GUID, b"x" * 512, offset=BLOCK << 10),
        f"up to {BLOCK << 10}",
    ),
    "write of another size": (RAW, records.write(GUID, b"x" * 512, size=4096), "4096 bytes at 0"),
    "write within a block": (RAW, records.write(GUID, b"x" * 512, offset=512), "at 512 of an object"),
    "free within a block": (RAW, records.free(GUID, 1, 512, ALL), "at 512 of an object"),
    "free of a part of a block": (RAW, records.free(GUID, 1, 0, BLOCK + 512), f"{BLOCK + 512} bytes at 0"),
    "free of what was not described": (RAW, records.free(GUID, 3, 0, ALL), "nothing was said"),
    "objects that overflow": (RAW, records.free_objects(GUID, 2, ALL), "objects from 2"),
    "write to object 0": (RAW, records.write(GUID, b"x" * 100, number=0), "object 0"),
    "write of nothing": (RAW, records.write(GUID, b"", size=0), "0 bytes"),
    "write below a sector": (RAW, records.write(GUID, b"x", size=511), "511 bytes"),
    "large write": (RAW, records.write(GUID, b"x" * 100, size=BLOCK + 512), "at most"),
    "largest write": (LARGE, records.write(GUID, b"x" * 100, size=MAX_BLOCK + 512), "at most"),
    "write that overflows": (RAW, records.write(GUID, b"x" * 100, offset=ALL), "bytes at"),
    "more on the wire than there is": (RAW, records.write(GUID, b"", size=512, packed=513), "513 bytes"),
    "4 GiB on the wire": (RAW, records.write(GUID, b"", packed=4 << 30), "on the wire"),
    "2**64 on the wire": (RAW, records.write(GUID, b"", packed=ALL), "on the wire"),
    "raw and nothing on the wire": (RAW, records.write(GUID, b"x", packed=0), "does not say"),
    "zstd unannounced": (RAW, records.write(GUID, b"x", compression=16), "compression 16"),
    "compression beyond": (LARGE, records.write(GUID, b"x", compression=17), "compression 17"),
    "write type beyond": (RAW, records.write(GUID, b"x", kind=54), "data type 54"),
    "write checksum": (RAW, records.write(GUID, b"x", checksum=15), "checksum 15"),
    "write flags": (RAW, records.write(GUID, b"x", flags=4), "flags 0x4"),
    "plain write swapped": (PLAIN, records.write(GUID, b"x", flags=2), "flags 0x2"),
    "plain write with a size": (PLAIN, records.write(GUID, b"x", compression=0), "compressed in a stream"),
    "plain write compressed unannounced": (
        replace(PLAIN, features=Feature.LZ4),
        records.write(GUID, b"x"),
        "compressed in a stream",
    ),
    "free of object 0": (RAW, records.free(GUID, 0, 0, 1), "object 0"),
    "free that overflows": (RAW, records.free(GUID, 1, 2, ALL - 1), "bytes at 2"),
    "spill of object 0": (RAW, records.spill(GUID, 0, b"x" * 512), "object 0"),
    "spill type": (RAW, records.spill(GUID, 1, b"x" * 512, kind=54), "data type 54"),
    "spill too large": (RAW, records.spill(GUID, 1, b"x", size=MAX_BLOCK + 1), "on the wire"),
    "spill below a sector": (RAW, records.spill(GUID, 1, b"x", size=100), "on the wire"),
    "spill longer than it is": (RAW, records.spill(GUID, 1, b"", packed=4 << 30), "on the wire"),
    "spill flags": (RAW, records.spill(GUID, 1, b"x" * 512, flags=1), "flags 0x1"),
    "raw spill without a size": (RAW, records.spill(GUID, 1, b"x", packed=0), "raw streams"),
    "plain spill with a size": (PLAIN, records.spill(GUID, 1, b"x" * 512), "raw streams"),
    "plain spill compressed": (PLAIN, records.spill(GUID, 1, b"", packed=0, compression=15), "raw streams"),
    "spill compression": (RAW, records.spill(GUID, 1, b"x" * 512, compression=16), "compression 16"),
    "embedded in a raw stream": (RAW, records.embedded(GUID, 1, b"x"), "no embedded"),
    "embedded of object 0": (PLAIN, records.embedded(GUID, 0, b"x"), "object 0"),
    "embedded too long": (PLAIN, records.embedded(GUID, 1, b"", packed=113), "113 bytes"),
    "embedded 4 GiB": (PLAIN, records.embedded(GUID, 1, b"", packed=(4 << 30) - 1), "on the wire"),
    "embedded longer than its block": (PLAIN, records.embedded(GUID, 1, b"x", size=5000), "5000 bytes"),
    "embedded in a large block": (PLAIN, records.embedded(GUID, 1, b"x", block=MAX_BLOCK), "bytes of"),
    "embedded compression": (PLAIN, records.embedded(GUID, 1, b"x", compression=16), "compression 16"),
    "range in a plain stream": (PLAIN, records.object_range(GUID, 0), "only raw"),
    "range of another size": (RAW, records.object_range(GUID, 0, 64), "64 objects"),
    "range between blocks": (RAW, records.object_range(GUID, 16), "from 16"),
    "range too high": (RAW, records.object_range(GUID, 1 << 48), "objects from"),
    "range flags": (RAW, records.object_range(GUID, 0, flags=1), "flags 0x1"),
}


class TestRefused:
    @pytest.mark.parametrize(("begin", "record", "why"), REFUSED.values(), ids=REFUSED.keys())
    def test_what_no_sender_says(self, begin: Begin, record: bytes, why: str) -> None:
        assert why in refused(begin, record)

    def test_it_says_which_record_and_where(self) -> None:
        good = records.write(GUID, b"x" * 1000)
        text = refused(RAW, good + good + records.write(1, b"y"))
        assert f"record 4 of the stream (WRITE, at byte {START + len(OBJECT) + 2 * len(good)})" in text

    def test_a_bonus_of_4_gib(self) -> None:
        record = bytearray(records.object_record(GUID, 1))
        record[36:40] = b"\xff" * 4
        assert "bonus of 4294967295 bytes" in refused(RAW, bytes(record))


def borders(data: bytes) -> Iterator[int]:
    """Where the records of `raw_stream` begin and end, and some places inside them."""
    walker, at = Walker(RAW), 0
    while not walker.ended:
        yield from (at, at + 1, at + HEADER - 1, at + HEADER)
        at += walker.feed(memoryview(data)[at : at + HEADER])
        yield at + walker.left // 2
        at += walker.left
        walker.passed(walker.left)


class TestCutShort:
    @pytest.mark.parametrize("cut", sorted(set(borders(raw_stream()))))
    def test_at_every_border_and_inside(self, cut: int) -> None:
        data = raw_stream()
        if cut >= len(data):
            assert follow(RAW, data)[0].ended
            return
        walker, passed = follow(RAW, data[:cut])
        assert not walker.ended
        assert data.startswith(passed)
        assert cut - len(passed) < HEADER


class TestHostile:
    """Whatever comes: refused, waited for, or passed as it came."""

    @staticmethod
    def check(begin: Begin, data: bytes, chunk: int) -> None:
        try:
            walker, passed = follow(begin, data, chunk)
        except StreamRefused:
            return
        assert data.startswith(passed)
        assert 0 <= walker.left <= MAX_BLOCK

    @given(
        changes=st.lists(st.tuples(st.integers(0, len(raw_stream()) - 1), st.integers(0, 255)), max_size=8),
        chunk=st.integers(1, 5000),
    )
    def test_bytes_changed_anywhere(self, changes: list[tuple[int, int]], chunk: int) -> None:
        data = bytearray(raw_stream())
        for at, value in changes:
            data[at] = value
        self.check(RAW, bytes(data), chunk)

    @given(
        make=st.sampled_from([raw_stream, plain_stream]),
        record=st.integers(0, 9),
        word=st.integers(0, 18),
        value=st.one_of(
            st.integers(0, ALL), st.sampled_from([0, 1, 511, 512, BLOCK, 1 << 32, 1 << 48, 1 << 63, ALL])
        ),
    )
    def test_words_of_headers_changed(
        self, make: Callable[[], bytes], record: int, word: int, value: int
    ) -> None:
        begin = RAW if make is raw_stream else PLAIN
        walker, data, at = Walker(begin), make(), 0
        for _ in range(record):
            if walker.ended:
                return
            at += walker.feed(memoryview(data)[at : at + HEADER])
            at += walker.left
            walker.passed(walker.left)
        where = at + 8 * word
        self.check(begin, data[:where] + value.to_bytes(8, "little") + data[where + 8 :], 4096)

    @given(data=st.binary(min_size=HEADER, max_size=3 * HEADER), kind=st.integers(0, 12))
    def test_noise_behind_a_known_type(self, data: bytes, kind: int) -> None:
        self.check(RAW, kind.to_bytes(4, "little") + data, 100)

    @given(data=st.binary(max_size=2000))
    def test_noise(self, data: bytes) -> None:
        self.check(LARGE, data, 512)
