"""What the red team uses is right, and docs/red-team.md names all that it tries: the attacks themselves need a lab."""

import re
import struct
from pathlib import Path

import pytest

from replication.errors import StreamRefused
from replication.records import Walker
from replication.rewrap import rewrapped
from tests.fakes import records
from tests.fakes.nvlist import native
from tests.fakes.zfs_streams import crypt_fields
from tests.lab.red_team import forge
from tests.lab.red_team.catalogue import ATTACKS
from tests.lab.red_team.forging import BEYOND, Lie, begin, feature, number, swapped
from zfs.stream import HEADER_SIZE, KeyMaterial, crypt_payload, holds_all_objects, read_begin

GUID = 77
KEYS = KeyMaterial(
    8, 1, 1, b"m" * 32, b"h" * 64, b"i" * 12, b"a" * 16, 3, 350_000, 0x0102030405060708, 42, 43
)
TABLE = (Path(__file__).parents[2] / "docs" / "red-team.md").read_text()


def stream() -> bytes:
    """A small raw one, with the sums of ZFS."""
    payload = native({"crypt_keydata": crypt_fields(KEYS)})
    features = 1 << 24 | 1 << 22 | 1 << 17
    head = struct.pack("<IIQQQIIQQ", 0, len(payload), 0x2F5BACBAC, features << 2 | 1, 5, 2, 12, GUID, 66)
    parts = (
        records.object_range(GUID, 0),
        records.object_record(GUID, 1),
        records.write(GUID, b"x" * 512),
        records.spill(GUID, 1, b"z" * 512),
        records.free(GUID, 1, 0, (1 << 64) - 1),
        records.end(GUID),
    )
    raw = (head + b"tank/photos@b").ljust(HEADER_SIZE, b"\0") + payload + b"".join(parts)
    return forge.packed(forge.parse(raw))


def test_a_stream_without_a_lie_is_as_it_was() -> None:
    assert forge.forged(stream(), lambda _: None) == stream()
    assert [one.kind for one in forge.parse(stream())] == [0, 9, 1, 3, 7, 4, 5]


def test_the_sums_are_those_that_rewrapping_makes_too() -> None:
    payload = stream()[HEADER_SIZE : HEADER_SIZE + read_begin(stream()[:HEADER_SIZE]).payload_size]
    assert rewrapped(stream(), payload) == stream()


@pytest.mark.parametrize("part", ["master_key", "hmac_key", "iv", "mac", "pbkdf2_salt", "from_ivset_guid"])
def test_one_part_of_the_key_is_swapped(part: str) -> None:
    lied = forge.parse(forge.forged(stream(), swapped(part)))[0].payload
    keys = crypt_payload(lied)
    assert keys is not None
    assert [name for name in KEYS.__slots__ if getattr(keys, name) != getattr(KEYS, name)] == [part]


def test_numbers_and_bits_of_the_beginning() -> None:
    lied = forge.parse(forge.forged(stream(), number(b"pbkdf2iters", 9)))[0].payload
    assert crypt_payload(lied) == KeyMaterial(
        *(9 if n == "pbkdf2_iterations" else getattr(KEYS, n) for n in KEYS.__slots__)
    )
    assert not holds_all_objects(forge.parse(forge.forged(stream(), number(b"mdn_nlevels", 1)))[0].payload)
    assert read_begin(forge.forged(stream(), feature(0))[:HEADER_SIZE]).dedup
    assert read_begin(forge.forged(stream(), begin(forge.TO_GUID, 5))[:HEADER_SIZE]).to_guid == 5


@pytest.mark.parametrize("lie", BEYOND)
def test_what_would_stop_a_pool_is_not_in_order(lie: Lie) -> None:
    lied = forge.forged(stream(), lie)
    begun = read_begin(lied[:HEADER_SIZE])
    rest = memoryview(lied)[HEADER_SIZE + begun.payload_size :]
    with pytest.raises(StreamRefused):
        Walker(begun).feed(rest)


def test_it_is_cut_within_each_type_of_record() -> None:
    found = list(forge.cuts(stream()))
    assert {kind for kind, _ in found} == {0, 9, 1, 3, 7, 4, 5}
    assert len({at for _, at in found}) == len(found)
    assert all(0 < at < len(stream()) for _, at in found)


def test_there_are_forty_at_least_and_each_says_what_it_tries() -> None:
    names = [one.name for one in ATTACKS]
    assert len(set(names)) == len(names) >= 40
    assert [one.name for one in ATTACKS if not one.tries.endswith(".") or not one.expects] == []


def test_the_docs_name_all_of_them_and_what_became_of_each() -> None:
    told = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", TABLE, re.MULTILINE))
    for one in ATTACKS:
        ends = ", ".join(f"`{code}`" for code in sorted(one.expects))
        assert told.get(one.name) == f"{one.tries} | {ends}", one.name
