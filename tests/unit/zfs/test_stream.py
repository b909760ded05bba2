"""Reading BEGIN records, key material and resume tokens."""

import base64
import contextlib
import struct
import zlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.nvlist import Fields, native, xdr
from tests.fakes.zfs_streams import crypt_fields
from zfs.model import ResumeState
from zfs.stream import (
    HEADER_SIZE,
    BadResumeToken,
    BadStreamHeader,
    Begin,
    Feature,
    KeyMaterial,
    crypt_payload,
    decode_resume_token,
    fletcher4_first,
    holds_all_objects,
    read_begin,
    resume_point,
)

RAW = Feature.RAW | Feature.COMPRESSED | Feature.LARGE_BLOCKS
KEYS = KeyMaterial(
    suite=8,
    guid=0x1122334455667788,
    version=1,
    master_key=bytes(range(32)),
    hmac_key=bytes(range(64)),
    iv=bytes(range(12)),
    mac=bytes(range(16)),
    keyformat=3,
    pbkdf2_iterations=350_000,
    pbkdf2_salt=0xFFEEDDCCBBAA9988,
    to_ivset_guid=42,
    from_ivset_guid=None,
)


def record(
    *,
    order: str = "<",
    magic: int = 0x2F5BACBAC,
    record_type: int = 0,
    payload: int = 0,
    info: int = (int(RAW) << 2) | 1,
    kind: int = 2,
    flags: int = 0,
    from_guid: int = 0,
    name: bytes = b"tank/a b:c@snap",
) -> bytes:
    """A BEGIN record as zfs_ioctl.h lays it out."""
    head = struct.pack(
        order + "IIQQQIIQQ", record_type, payload, magic, info, 1_700_000_000, kind, flags, 77, from_guid
    )
    return (head + name).ljust(HEADER_SIZE, b"\0")


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_begin_record_is_read_in_either_byte_order(order: str) -> None:
    assert read_begin(record(order=order, payload=1028, from_guid=5)) == Begin(
        to_name="tank/a b:c@snap",
        to_guid=77,
        from_guid=5,
        creation=1_700_000_000,
        kind="filesystem",
        compound=False,
        features=RAW,
        unknown=0,
        flags=0,
        payload_size=1028,
        big_endian=order == ">",
    )


def test_what_a_receiver_may_refuse_has_a_name() -> None:
    plain = read_begin(record())
    assert (plain.raw, plain.resuming, plain.redacted, plain.dedup, plain.clone) == (
        True,
        False,
        False,
        False,
        False,
    )
    assert read_begin(record(info=2)).compound
    assert read_begin(record(info=(int(Feature.REDACTED) << 2) | 1)).redacted
    assert read_begin(record(info=(int(Feature.DEDUP) << 2) | 1)).dedup
    assert read_begin(record(info=(int(Feature.RESUMING) << 2) | 1)).resuming
    assert read_begin(record(flags=1)).clone
    assert read_begin(record(info=(1 << 18 << 2) | (1 << 40 << 2) | 1)).unknown == (1 << 18) | (1 << 40)
    assert read_begin(record(kind=3)).kind == "volume"
    assert read_begin(record(kind=1)).kind == "other"
    assert read_begin(record()).from_guid is None


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (b"", "312"),
        (record()[:-1], "312"),
        (record(magic=0), "magic"),
        (record(record_type=3), "type 3"),
        (record(payload=1 << 30), "too large"),
        (record(info=0), "header type"),
        (record(info=3), "header type"),
        (record(name=b"x" * 256), "does not end"),
    ],
)
def test_what_is_no_begin_record_is_refused_with_the_reason(header: bytes, why: str) -> None:
    with pytest.raises(BadStreamHeader, match=why):
        read_begin(header)


@given(st.binary(min_size=HEADER_SIZE, max_size=HEADER_SIZE))
def test_arbitrary_headers_are_never_worse_than_refused(header: bytes) -> None:
    for one in (header, record()[:40] + header[40:], header[:8] + record()[8:16] + header[16:]):
        with contextlib.suppress(BadStreamHeader):
            read_begin(one)


@pytest.mark.parametrize("pack", [lambda f: native(f, "<"), lambda f: native(f, ">"), xdr])
def test_the_key_material_is_read_from_any_encoding(pack) -> None:  # type: ignore[no-untyped-def]
    payload = pack({"crypt_keydata": crypt_fields(KEYS), "resume_object": 3, "resume_offset": 131072})
    assert crypt_payload(payload) == KEYS
    assert resume_point(payload) == (3, 131072)


def test_a_payload_without_keys_has_none() -> None:
    assert crypt_payload(b"") is None
    assert resume_point(b"") is None
    assert crypt_payload(native({"resume_object": 1, "resume_offset": 0})) is None
    assert resume_point(native({"crypt_keydata": crypt_fields(KEYS)})) is None


def test_every_pinned_field_changes_the_fingerprint_and_the_ivsets_do_not() -> None:
    for field in fields(KeyMaterial):
        value = getattr(KEYS, field.name)
        other: Any = bytes(len(value)) if isinstance(value, bytes) else 99
        changed = replace(KEYS, **{field.name: other})
        pinned = not field.name.endswith("ivset_guid")
        assert (changed.fingerprint() != KEYS.fingerprint()) == pinned, field.name


def test_bytes_that_move_between_fields_change_the_fingerprint() -> None:
    moved = replace(KEYS, iv=KEYS.iv + KEYS.mac[:1], mac=KEYS.mac[1:])
    assert moved.fingerprint() != KEYS.fingerprint()


@pytest.mark.parametrize(
    "missing", [name for name in crypt_fields(KEYS) if not name.startswith(("mdn", "portable"))]
)
def test_key_material_that_lacks_a_field_is_refused(missing: str) -> None:
    crypt = crypt_fields(KEYS)
    del crypt[missing]
    with pytest.raises(BadStreamHeader, match=missing):
        crypt_payload(native({"crypt_keydata": crypt}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("mdn_nlevels", 0),
        ("mdn_nlevels", 1),
        ("mdn_nlevels", 4),
        ("mdn_nlevels", 8),
        ("mdn_indblkshift", 12),
        ("mdn_indblkshift", 18),
        ("mdn_nblkptr", 1),
        ("mdn_blksz", 0),
        ("mdn_maxblkid", 1 << 43),
        ("mdn_maxblkid", (1 << 64) - 1),
    ],
)
def test_a_list_of_objects_that_cannot_hold_them_all(name: str, value: int) -> None:
    crypt = crypt_fields(KEYS)
    for pack in (native, xdr):
        assert holds_all_objects(pack({"crypt_keydata": crypt}))
        assert not holds_all_objects(pack({"crypt_keydata": crypt | {name: value}}))


def test_a_list_of_objects_that_zfs_refuses_by_itself() -> None:
    crypt = crypt_fields(KEYS)
    del crypt["mdn_nlevels"]
    assert holds_all_objects(native({"crypt_keydata": crypt}))
    assert holds_all_objects(b"")
    with pytest.raises(BadStreamHeader, match="mdn_nlevels"):
        holds_all_objects(native({"crypt_keydata": crypt | {"mdn_nlevels": "6"}}))


@pytest.mark.parametrize("payload", [b"junk", native({"crypt_keydata": 1}), native({"crypt_keydata": {}})])
def test_a_malformed_payload_is_refused(payload: bytes) -> None:
    with pytest.raises(BadStreamHeader):
        crypt_payload(payload)


def test_the_first_bytes_of_a_real_raw_stream_are_read() -> None:
    # zfs send -w tank/gold@a of OpenZFS 2.3.9; the numbers are those of zfs get guid, pbkdf2salt, creation.
    data = base64.b64decode(Path(__file__).with_name("begin-2.3.9.b64").read_text())
    begin = read_begin(data[:HEADER_SIZE])
    assert (begin.to_name, begin.to_guid, begin.from_guid) == ("tank/gold@a", 15243901988685316027, None)
    assert (begin.kind, begin.raw, begin.compound, begin.unknown) == ("filesystem", True, False, 0)
    assert (begin.creation, begin.payload_size) == (1795528547, 1028)
    keys = crypt_payload(data[HEADER_SIZE:])
    assert keys is not None
    assert holds_all_objects(data[HEADER_SIZE:])
    assert (keys.suite, keys.version, keys.keyformat) == (8, 1, 3)
    assert (keys.pbkdf2_iterations, keys.pbkdf2_salt) == (350_000, 11899762499394171349)
    assert [len(part) for part in (keys.master_key, keys.hmac_key, keys.iv, keys.mac)] == [32, 64, 12, 16]
    assert keys.from_ivset_guid is None


def test_a_real_resume_token_is_decoded() -> None:
    # The values are those that `zfs send -nvt TOKEN` of OpenZFS 2.3.9 prints.
    text = (
        "1-10f656ab19-118-789c636064000310a501c49c50360710a715e5e7a69766a63040c1eefad24be216bd9715806c762475f949"
        "59a9c9250c0ccc507518f26969c5a925201919b83c1b927c5265496a3190ee5192c3aabf241fe28ab4b680a64cdd79221a48f29c"
        "60f9bcc4dc54209d9897ad9f9e9f93e2900437879b01e1bfe4fcdc82a2d4e2e2fc6c889804d41d30f9a2c472981403008d5423c2"
    )
    assert decode_resume_token(text) == ResumeState(
        to_guid=0x149E2D6982508666,
        from_guid=0xD38D3817D2757FBB,
        to_name="tank/gold@b",
        object=3,
        offset=0x1C0000,
        bytes=0x1E228C,
        raw=True,
    )


TOKEN: Fields = {
    "fromguid": 11, "object": 5, "offset": 131072, "bytes": 9_000_000, "toguid": 77,
    "toname": "tank/a@b", "largeblockok": True, "compressok": True, "rawok": True,
}  # fmt: skip


def token(content: Fields, *, size: int | None = None, checksum: int | None = None) -> str:
    """As get_receive_resume_token_impl (dsl_dataset.c) writes it."""
    packed = native(content)
    compressed = zlib.compress(packed)
    total = fletcher4_first(compressed) if checksum is None else checksum
    return f"1-{total:x}-{len(packed) if size is None else size:x}-{compressed.hex()}"


def test_a_resume_token_is_decoded() -> None:
    assert decode_resume_token(token(TOKEN)) == ResumeState(77, 11, "tank/a@b", 5, 131072, 9_000_000, True)


def test_a_token_of_a_full_plain_stream_has_no_base_and_is_not_raw() -> None:
    content = {name: value for name, value in TOKEN.items() if name not in ("fromguid", "rawok")}
    state = decode_resume_token(token(content))
    assert (state.from_guid, state.raw) == (None, False)
    assert decode_resume_token(token({**TOKEN, "fromguid": 0})).from_guid is None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "form"),
        ("-", "form"),
        ("2-1-1-00", "form"),
        (token(TOKEN) + "0", "form"),
        (token(TOKEN).upper(), "form"),
        (token(TOKEN, checksum=1), "checksum"),
        (token(TOKEN, size=3), "announced size"),
        (token(TOKEN, size=60_000), "announced size"),
        (token(TOKEN, size=1 << 30), "too many"),
        (token({**TOKEN, "toguid": "seven"}), "toguid"),
        (token({"toguid": 1}), "object"),
        ("1-0-8-00000000", "decompress"),
    ],
)
def test_a_bad_token_is_refused_with_the_reason(text: str, why: str) -> None:
    with pytest.raises(BadResumeToken, match=why):
        decode_resume_token(text)


def test_a_bomb_is_not_unpacked() -> None:
    compressed = zlib.compress(bytes(1 << 24))
    with pytest.raises(BadResumeToken, match="announced size"):
        decode_resume_token(f"1-{fletcher4_first(compressed):x}-100-{compressed.hex()}")


@given(st.text(max_size=80))
def test_arbitrary_text_is_no_token(text: str) -> None:
    with pytest.raises(BadResumeToken):
        decode_resume_token(text)
