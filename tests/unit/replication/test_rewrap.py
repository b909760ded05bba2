"""A raw stream under another wrap: what changes, what stays, and sums that ZFS would reckon the same.

That ZFS takes it is shown in a guest (tests/lab/test_failback.py).
"""

import base64
import json
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from replication.rewrap import CannotRewrap, rewrapped
from tests.fakes import records
from tests.fakes.nvlist import native, xdr
from tests.fakes.zfs_state import wrapped
from tests.fakes.zfs_streams import crypt_fields
from zfs.stream import HEADER_SIZE, Feature, KeyMaterial, crypt_payload, read_begin

GUID = 77
THEN = replace(wrapped(b"hers", random.Random(1)), to_ivset_guid=1)
NOW = replace(wrapped(b"the thief's", random.Random(2), THEN.guid), to_ivset_guid=3, from_ivset_guid=2)
Encode = Callable[[dict[str, object]], bytes]


def payload_of(key: KeyMaterial, encode: Encode = native) -> bytes:
    return encode({"crypt_keydata": crypt_fields(key)})


def sums(data: bytes) -> bytes:
    """Fletcher-4 by its definition: sums of sums of sums of sums."""
    rows = [0, 0, 0, 0]
    for (word,) in struct.iter_unpack("<I", data):
        for place in range(4):
            rows[place] += word if place == 0 else rows[place - 1]
    return struct.pack("<4Q", *(row % (1 << 64) for row in rows))


def stream_of(key: KeyMaterial, encode: Encode = native) -> bytes:
    """BEGIN, a freed range, an object and its block, END, as dump_record writes them."""
    payload = payload_of(key, encode)
    features = Feature.LZ4 | Feature.COMPRESSED | Feature.LARGE_DNODE | Feature.RAW
    begin = struct.pack(
        "<IIQQQIIQQ", 0, len(payload), 0x2F5BACBAC, (int(features) << 2) | 1, 5, 2, 12, GUID, 66
    )
    made = (begin + b"tank/back@w").ljust(HEADER_SIZE, b"\0") + payload
    block = records.write(GUID, bytes(range(64)) * 8)
    for record in (records.free_objects(GUID, 1, 5), records.object_record(GUID, 1), block):
        head, body = record[:280], record[HEADER_SIZE:]
        made += head
        made += sums(made)
        made += body
    end = records.end(GUID)[:280]
    made += end[:8] + sums(made) + end[40:]
    return made + sums(made)


@pytest.mark.parametrize("encode", [native, xdr])
def test_it_is_the_stream_that_zfs_would_have_made_under_the_other_wrap(encode: Encode) -> None:
    meant = replace(THEN, to_ivset_guid=NOW.to_ivset_guid, from_ivset_guid=NOW.from_ivset_guid)
    assert rewrapped(stream_of(NOW, encode), payload_of(THEN)) == stream_of(meant, encode)


def test_its_own_wrap_changes_nothing() -> None:
    assert rewrapped(stream_of(NOW), payload_of(NOW)) == stream_of(NOW)


def test_what_is_of_the_snapshot_stays_and_what_is_of_the_wrap_does_not() -> None:
    made = rewrapped(stream_of(NOW), payload_of(THEN))
    key = crypt_payload(made[HEADER_SIZE : HEADER_SIZE + read_begin(made[:HEADER_SIZE]).payload_size])
    assert key is not None
    assert key.fingerprint() == THEN.fingerprint() != NOW.fingerprint()
    assert (key.to_ivset_guid, key.from_ivset_guid) == (3, 2)


@pytest.mark.parametrize("field", ["guid", "suite", "version"])
def test_the_wrap_of_another_key_is_refused(field: str) -> None:
    other = replace(THEN, **{field: getattr(THEN, field) + 1})
    with pytest.raises(CannotRewrap, match="another key"):
        rewrapped(stream_of(NOW), payload_of(other))


def test_a_wrap_of_another_form_is_refused() -> None:
    with pytest.raises(CannotRewrap, match="one form"):
        rewrapped(stream_of(NOW), payload_of(replace(THEN, hmac_key=bytes(63))))


@pytest.mark.parametrize("archived", [b"", b"\0\1", random.Random(3).randbytes(64), native({"other": 1})])
def test_what_is_no_wrap_is_refused(archived: bytes) -> None:
    with pytest.raises(CannotRewrap):
        rewrapped(stream_of(NOW), archived)


def test_a_stream_that_is_not_whole_is_refused_wherever_it_was_cut() -> None:
    whole = stream_of(NOW)
    for end in range(0, len(whole), 61):
        with pytest.raises(CannotRewrap):
            rewrapped(whole[:end], payload_of(THEN))
    with pytest.raises(CannotRewrap, match="follows"):
        rewrapped(whole + b"more", payload_of(THEN))


def test_it_makes_the_bytes_that_a_real_zfs_took() -> None:
    """From a guest with OpenZFS 2.3: `taken` was received, and the passphrase of `archived` opened it then."""
    found = json.loads(Path(__file__).with_name("rewrapped.json").read_text())
    stream, archived, taken = (base64.b64decode(found[name]) for name in ("stream", "archived", "taken"))
    assert rewrapped(stream, archived) == taken
    own = stream[HEADER_SIZE : HEADER_SIZE + read_begin(stream[:HEADER_SIZE]).payload_size]
    assert rewrapped(stream, own) == stream, "the sums are not those that ZFS itself reckons"
