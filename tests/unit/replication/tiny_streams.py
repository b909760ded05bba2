"""Streams that begin with a genuine BEGIN record and go on with a length and that many bytes.

Small on purpose: what ZFS makes of a stream is the business of tests/fakes/zfs_streams.py; here it is how the
bytes travel.
"""

import os
import struct
import threading
from dataclasses import dataclass, field

from tests.fakes.nvlist import native
from zfs.errors import BadStream, ZfsError
from zfs.stream import HEADER_SIZE, Feature, crypt_payload, read_begin

MAGIC = 0x2F5BACBAC
CHUNK = bytes(range(256)) * 1024
WRAP = b"w" * 32


def begin(
    to_guid: int = 2,
    from_guid: int | None = 1,
    *,
    features: Feature = Feature.RAW | Feature.COMPRESSED,
    wrap: bytes | None = WRAP,
    header_type: int = 1,
    flags: int = 0,
    resume: tuple[int, int] | None = None,
) -> bytes:
    """A BEGIN record and its payload."""
    fields: dict[str, object] = {}
    if wrap is not None:
        fields["crypt_keydata"] = {
            **dict.fromkeys(("DSL_CRYPTO_SUITE", "DSL_CRYPTO_GUID", "DSL_CRYPTO_VERSION", "keyformat"), 1),
            **dict.fromkeys(("DSL_CRYPTO_HMAC_KEY_1", "DSL_CRYPTO_IV", "DSL_CRYPTO_MAC"), bytes(16)),
            **dict.fromkeys(("pbkdf2iters", "pbkdf2salt", "to_ivset_guid", "from_ivset_guid"), 1),
            "DSL_CRYPTO_MASTER_KEY_1": wrap,
        }
    if resume is not None:
        features |= Feature.RESUMING
        fields |= {"resume_object": resume[0], "resume_offset": resume[1]}
    payload = native(fields) if fields else b""
    info = (int(features) << 2) | header_type
    head = struct.pack("<IIQQQIIQQ", 0, len(payload), MAGIC, info, 0, 2, flags, to_guid, from_guid or 0)
    return (head + b"tank/home@b").ljust(HEADER_SIZE, b"\0") + payload


def fingerprint(record: bytes) -> str:
    """Of the key material in a BEGIN record."""
    key = crypt_payload(record[HEADER_SIZE:])
    assert key is not None
    return key.fingerprint()


@dataclass
class TinySender:
    """Writes *start*, a length and *size* bytes; fails after *fails_at* of them, or never ends."""

    start: bytes
    size: int
    fails_at: int | None = None
    error: Exception | None = None
    endless: bool = False
    asked: list[tuple[str, str | None, bool, tuple[int, int] | None]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def send(
        self, snapshot: str, base: str | None, fd: int, *, raw: bool, resume: tuple[int, int] | None = None
    ) -> None:
        self.asked.append((snapshot, base, raw, resume))
        try:
            write(fd, self.start + struct.pack(">Q", self.size))
            sent = 0
            while self.endless or sent < self.size:
                if self.fails_at is not None and sent >= self.fails_at:
                    assert self.error is not None
                    raise self.error
                sent += write(fd, CHUNK if self.endless else CHUNK[: self.size - sent])
        except BrokenPipeError as error:
            raise BadStream(snapshot, "the reader went away") from error
        finally:
            self.ended.set()

    def receive(self, snapshot: str, fd: int, *, raw: bool) -> None:
        raise NotImplementedError


@dataclass
class TinyReceiver:
    """Reads one stream; `received` has the snapshots that came whole, `bytes` what came at all."""

    fails_at: int | None = None
    error: ZfsError | None = None
    received: list[str] = field(default_factory=list)
    bytes: int = 0
    called: bool = False

    def receive(self, snapshot: str, fd: int, *, raw: bool) -> None:
        self.called = True
        record = read_begin(self._exactly(snapshot, fd, HEADER_SIZE))
        self._exactly(snapshot, fd, record.payload_size)
        (size,) = struct.unpack(">Q", self._exactly(snapshot, fd, 8))
        got = 0
        while got < size:
            if self.fails_at is not None and got >= self.fails_at:
                assert self.error is not None
                raise self.error
            piece = os.read(fd, min(len(CHUNK), size - got))
            if not piece:
                raise BadStream(snapshot, "incomplete stream")
            place = got % len(CHUNK)
            if piece != (CHUNK + CHUNK)[place : place + len(piece)]:
                raise BadStream(snapshot, "wrong checksum")
            got += len(piece)
            self.bytes = got
        self.received.append(snapshot)

    def send(
        self, snapshot: str, base: str | None, fd: int, *, raw: bool, resume: tuple[int, int] | None = None
    ) -> None:
        raise NotImplementedError

    @staticmethod
    def _exactly(snapshot: str, fd: int, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = os.read(fd, size - len(data))
            if not piece:
                raise BadStream(snapshot, "incomplete stream")
            data += piece
        return data


def write(fd: int, data: bytes) -> int:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    return len(data)
