"""What a raw stream says of the dataset as a whole is judged with its BEGIN record."""

import struct

import pytest

from replication.announced import Announced, judge
from tests.fakes.nvlist import native
from tests.fakes.zfs_streams import crypt_fields
from zfs.stream import HEADER_SIZE, Feature, KeyMaterial

KEYS = KeyMaterial(8, 1, 1, b"m" * 32, b"h" * 64, b"i" * 12, b"a" * 16, 3, 350_000, 7, 42, None)
ASKED = Announced(to_guid=2, from_guid=None, raw=True, resuming=False, key_fingerprint=None)
FEATURES = Feature.RAW | Feature.COMPRESSED | Feature.LZ4


@pytest.mark.parametrize(("changed", "refused"), [({}, False), ({"mdn_nlevels": 1}, True)])
def test_a_dataset_that_cannot_hold_its_objects_never_reaches_zfs(
    changed: dict[str, int], refused: bool
) -> None:
    payload = native({"crypt_keydata": crypt_fields(KEYS) | changed})
    head = struct.pack("<IIQQQIIQQ", 0, len(payload), 0x2F5BACBAC, int(FEATURES) << 2 | 1, 0, 2, 12, 2, 0)
    judged = judge((head + b"tank/home@a").ljust(HEADER_SIZE, b"\0"), payload, ASKED)
    assert (judged.refusal is not None) is refused
    assert judged.refusal is None or judged.refusal.code == "stream_refused"
