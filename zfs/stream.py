"""Reading what a ZFS send stream and a resume token say of themselves, before ZFS itself sees them. Pure.

Sources in OpenZFS: include/sys/zfs_ioctl.h (dmu_replay_record), module/zfs/dsl_crypt.c
(dsl_crypto_populate_key_nvlist), lib/libzfs/libzfs_sendrecv.c (zfs_send_resume_token_to_nvlist).
"""

import hashlib
import re
import struct
import zlib
from dataclasses import dataclass
from enum import IntFlag
from typing import Literal, TypeVar

from zfs.model import ResumeState
from zfs.nvlist import BadNvlist, Nvlist, decode

HEADER_SIZE = 312
"""Every record of a stream begins with this many bytes."""

MAX_PAYLOAD = 1 << 18
"""Bytes of BEGIN payload that we read; one with key material has about 1 KiB."""

MAX_TOKEN = 1 << 16
"""Characters of a resume token, and bytes it may unpack to."""

_MAGIC = 0x2F5BACBAC
_OBJSET_KINDS: dict[int, Literal["filesystem", "volume"]] = {2: "filesystem", 3: "volume"}

T = TypeVar("T", int, bytes)


MAX_OBJECT = 1 << 48
"""DN_MAX_OBJECT: no object has this number."""

_METADNODE = ("mdn_nlevels", "mdn_blksz", "mdn_indblkshift", "mdn_nblkptr", "mdn_maxblkid")


class BadStreamHeader(ValueError):
    """The bytes are no BEGIN record, or its payload is not well formed. Nothing was changed."""


class BadResumeToken(ValueError):
    """The text is no resume token. Nothing was changed."""


class Feature(IntFlag):
    """DMU_BACKUP_FEATURE_*: what a receiver must understand."""

    DEDUP = 1 << 0
    DEDUP_PROPS = 1 << 1
    SA_SPILL = 1 << 2
    EMBED_DATA = 1 << 16
    LZ4 = 1 << 17
    LARGE_BLOCKS = 1 << 19
    RESUMING = 1 << 20
    REDACTED = 1 << 21
    COMPRESSED = 1 << 22
    LARGE_DNODE = 1 << 23
    RAW = 1 << 24
    ZSTD = 1 << 25
    HOLDS = 1 << 26
    SWITCH_TO_LARGE_BLOCKS = 1 << 27
    LONGNAME = 1 << 28
    LARGE_MICROZAP = 1 << 29


KNOWN_FEATURES = Feature((1 << 30) - 1) & ~Feature(1 << 18)


@dataclass(frozen=True, slots=True)
class Begin:
    """The BEGIN record. `creation` is the sender's claim, in epoch seconds; `flags` are DRR_FLAG_* bits.

    `unknown` are feature bits that this program has no name for; `big_endian` is the sender's byte order.
    """

    to_name: str
    to_guid: int
    from_guid: int | None
    creation: int
    kind: Literal["filesystem", "volume", "other"]
    compound: bool
    features: Feature
    unknown: int
    flags: int
    payload_size: int
    big_endian: bool

    @property
    def raw(self) -> bool:
        """Whether blocks come as they are encrypted on disk."""
        return Feature.RAW in self.features

    @property
    def resuming(self) -> bool:
        """Whether it goes on with a stream that was cut."""
        return Feature.RESUMING in self.features

    @property
    def redacted(self) -> bool:
        """Whether parts of the data were left out on purpose."""
        return Feature.REDACTED in self.features

    @property
    def dedup(self) -> bool:
        """Whether it is an old deduplicated stream, which no current ZFS receives."""
        return bool(self.features & (Feature.DEDUP | Feature.DEDUP_PROPS))

    @property
    def clone(self) -> bool:
        """Whether it makes a clone of a snapshot of another dataset."""
        return bool(self.flags & 1)


def read_begin(header: bytes) -> Begin:
    """The BEGIN record in the first 312 bytes of a stream, of either byte order. Raises BadStreamHeader."""
    if len(header) != HEADER_SIZE:
        raise BadStreamHeader(f"{len(header)} bytes are not the {HEADER_SIZE} of a record")
    for order in ("<", ">"):
        record = struct.unpack_from(order + "IIQQQIIQQ", header)
        if record[2] == _MAGIC:
            return _begin(record, header[56:], big_endian=order == ">")
    raise BadStreamHeader("not a ZFS send stream (wrong magic)")


def _begin(record: tuple[int, ...], name: bytes, *, big_endian: bool) -> Begin:
    record_type, payload_size, _, info, creation, kind, flags, to_guid, from_guid = record
    if record_type != 0:
        raise BadStreamHeader(f"the first record is of type {record_type}, not BEGIN")
    if payload_size > MAX_PAYLOAD:
        raise BadStreamHeader(f"a BEGIN payload of {payload_size} bytes is too large")
    header_type, features = info & 3, (info >> 2) & ((1 << 56) - 1)
    if header_type not in (1, 2):
        raise BadStreamHeader(f"unknown header type {header_type}")
    to_name, nul, _ = name.partition(b"\0")
    if not nul:
        raise BadStreamHeader("the snapshot's name does not end")
    return Begin(
        to_name=to_name.decode("utf-8", "surrogateescape"),
        to_guid=to_guid,
        from_guid=from_guid or None,
        creation=creation,
        kind=_OBJSET_KINDS.get(kind, "other"),
        compound=header_type == 2,
        features=Feature(features & KNOWN_FEATURES),
        unknown=features & ~int(KNOWN_FEATURES),
        flags=flags,
        payload_size=payload_size,
        big_endian=big_endian,
    )


@dataclass(frozen=True, slots=True)
class KeyMaterial:
    """The wrapped key that a raw stream carries, and that a receive writes over the replica's.

    All of it is public (the master key is encrypted); which wrap it is decides which passphrase opens it.
    The ivset guids change with every snapshot and are no part of the wrap.
    """

    suite: int
    guid: int
    version: int
    master_key: bytes
    hmac_key: bytes
    iv: bytes
    mac: bytes
    keyformat: int
    pbkdf2_iterations: int
    pbkdf2_salt: int
    to_ivset_guid: int
    from_ivset_guid: int | None

    def fingerprint(self) -> str:
        """BLAKE2b-256 (hex) of the pinned fields: equal for all streams under one wrap, and no others."""
        numbers = struct.pack(
            ">6Q",
            self.suite,
            self.guid,
            self.version,
            self.keyformat,
            self.pbkdf2_iterations,
            self.pbkdf2_salt,
        )
        digest = hashlib.blake2b(numbers, digest_size=32, person=b"mk-zfs-wrap")
        for part in (self.master_key, self.hmac_key, self.iv, self.mac):
            digest.update(struct.pack(">I", len(part)) + part)
        return digest.hexdigest()


def crypt_payload(payload: bytes) -> KeyMaterial | None:
    """The key material in a BEGIN record's payload; None where it carries none. Raises BadStreamHeader."""
    crypt = _payload(payload).get("crypt_keydata")
    if crypt is None:
        return None
    if not isinstance(crypt, dict):
        raise BadStreamHeader("crypt_keydata is no list")
    return KeyMaterial(
        suite=_field(crypt, "DSL_CRYPTO_SUITE", int),
        guid=_field(crypt, "DSL_CRYPTO_GUID", int),
        version=_field(crypt, "DSL_CRYPTO_VERSION", int),
        master_key=_field(crypt, "DSL_CRYPTO_MASTER_KEY_1", bytes),
        hmac_key=_field(crypt, "DSL_CRYPTO_HMAC_KEY_1", bytes),
        iv=_field(crypt, "DSL_CRYPTO_IV", bytes),
        mac=_field(crypt, "DSL_CRYPTO_MAC", bytes),
        keyformat=_field(crypt, "keyformat", int),
        pbkdf2_iterations=_field(crypt, "pbkdf2iters", int),
        pbkdf2_salt=_field(crypt, "pbkdf2salt", int),
        to_ivset_guid=_field(crypt, "to_ivset_guid", int),
        from_ivset_guid=_field(crypt, "from_ivset_guid", int) or None,
    )


def holds_all_objects(payload: bytes) -> bool:
    """Whether the list of objects that a raw stream describes (mdn_*) can be pointed to up to the last number that an
    object may have. ZFS makes every dataset so, takes it from the stream as it is, and stops the whole pool where it
    cannot hold an object. True for what ZFS itself refuses, and without key material. Raises BadStreamHeader.
    """
    crypt = _payload(payload).get("crypt_keydata")
    if not isinstance(crypt, dict) or any(name not in crypt for name in _METADNODE):
        return True
    levels, block, shift, pointers, last = (_field(crypt, name, int) for name in _METADNODE)
    if not (1 <= levels <= 12 and 12 <= shift <= 17 and pointers == 3):
        return False
    in_block, bits = block // 512, (levels - 1) * (shift - 7)
    return bits < 64 and in_block * pointers << bits >= MAX_OBJECT and last * in_block < MAX_OBJECT


def resume_point(payload: bytes) -> tuple[int, int] | None:
    """(object, offset) at which a resuming stream goes on; None for a fresh one. Raises BadStreamHeader."""
    fields = _payload(payload)
    if "resume_object" not in fields:
        return None
    return _field(fields, "resume_object", int), _field(fields, "resume_offset", int)


def _payload(payload: bytes) -> Nvlist:
    if not payload:
        return {}
    try:
        return decode(payload)
    except BadNvlist as error:
        raise BadStreamHeader(f"the payload of BEGIN is malformed: {error}") from error


def _field(fields: Nvlist, name: str, kind: type[T]) -> T:
    value = fields.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise BadStreamHeader(f"the payload has no proper {name}")
    if isinstance(value, int) and not 0 <= value < 1 << 64:
        raise BadStreamHeader(f"{name} is out of range")
    return value


_TOKEN = re.compile(r"1-([0-9a-f]{1,16})-([0-9a-f]{1,8})-((?:[0-9a-f]{2})+)")


def decode_resume_token(text: str) -> ResumeState:
    """What the property receive_resume_token says. Raises BadResumeToken."""
    match = _TOKEN.fullmatch(text)
    if match is None or len(text) > MAX_TOKEN:
        raise BadResumeToken("not of the form 1-CHECKSUM-SIZE-HEX")
    packed = bytes.fromhex(match[3])
    if fletcher4_first(packed) != int(match[1], 16):
        raise BadResumeToken("the checksum is wrong")
    try:
        fields = decode(_inflate(packed, int(match[2], 16)))
    except BadNvlist as error:
        raise BadResumeToken(f"the content is malformed: {error}") from error
    to_name = fields.get("toname", "")
    return ResumeState(
        to_guid=_number(fields, "toguid"),
        from_guid=_number(fields, "fromguid", 0) or None,
        to_name=to_name if isinstance(to_name, str) else "",
        object=_number(fields, "object"),
        offset=_number(fields, "offset"),
        bytes=_number(fields, "bytes", 0),
        raw=fields.get("rawok") is True,
    )


def _inflate(packed: bytes, size: int) -> bytes:
    if size > MAX_TOKEN:
        raise BadResumeToken(f"{size} bytes are too many")
    inflater = zlib.decompressobj()
    try:
        data = inflater.decompress(packed, size + 1)
    except zlib.error as error:
        raise BadResumeToken("the content does not decompress") from error
    if len(data) != size or not inflater.eof:
        raise BadResumeToken("the content is not of the announced size")
    return data


def fletcher4_first(data: bytes) -> int:
    """The first word of fletcher-4: the sum of 32-bit little-endian words modulo 2**64, a rest ignored."""
    count = len(data) // 4
    return int(sum(struct.unpack_from(f"<{count}I", data))) & ((1 << 64) - 1)


def _number(fields: Nvlist, name: str, default: int | None = None) -> int:
    value = fields.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise BadResumeToken(f"it has no proper {name}")
    return value
