"""Streams that begin with a genuine BEGIN record and go on with blocks of a known pattern.

Small on purpose: what ZFS makes of a stream is the business of tests/fakes/zfs_streams.py; here it is how the
bytes travel.
"""

import os
import struct
import threading
from dataclasses import dataclass, field

from tests.fakes import records
from tests.fakes.nvlist import native
from zfs.errors import BadStream, ZfsError
from zfs.stream import HEADER_SIZE, BadStreamHeader, Feature, crypt_payload, read_begin

MAGIC = 0x2F5BACBAC
CHUNK = bytes(range(256)) * 512
WRAP = b"w" * 32


def begin(
    to_guid: int = 2,
    from_guid: int | None = 1,
    *,
    features: Feature = Feature.RAW | Feature.COMPRESSED | Feature.LZ4,
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


def described(start: bytes, block: int = len(CHUNK)) -> bytes:
    """*start* and what a raw stream says of the object that its blocks are of."""
    try:
        record = read_begin(start[:HEADER_SIZE])
    except BadStreamHeader:
        return start
    return start + records.object_record(record.to_guid, 1, block=block, levels=6) if record.raw else start


def stream(size: int = 0, start: bytes | None = None, to_guid: int = 2) -> bytes:
    """A whole one with *size* bytes of data."""
    blocks = (records.write(to_guid, CHUNK[: size - at], offset=at) for at in range(0, size, len(CHUNK)))
    return described(begin(to_guid) if start is None else start) + b"".join(blocks) + records.end(to_guid)


def length(size: int) -> int:
    """Of `stream`, in bytes."""
    return len(described(begin())) + size + HEADER_SIZE * (1 + -(-size // len(CHUNK)))


@dataclass
class TinySender:
    """Writes *start*, *size* bytes in blocks and an end; fails after *fails_at* bytes, or never ends.

    `starts` are those of the next steps.
    """

    start: bytes
    size: int
    fails_at: int | None = None
    error: Exception | None = None
    endless: bool = False
    starts: list[bytes] = field(default_factory=list)
    block: int = len(CHUNK)
    asked: list[tuple[str, str | None, bool, tuple[int, int] | None]] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def send(
        self, snapshot: str, base: str | None, fd: int, *, raw: bool, resume: tuple[int, int] | None = None
    ) -> None:
        self.asked.append((snapshot, base, raw, resume))
        start = self.starts.pop(0) if len(self.asked) > 1 and self.starts else self.start
        guid = read_begin(start[:HEADER_SIZE]).to_guid
        try:
            write(fd, described(start, self.block))
            sent = 0
            while self.endless or sent < self.size:
                if self.fails_at is not None and sent >= self.fails_at:
                    assert self.error is not None
                    raise self.error
                block = (CHUNK * (self.block // len(CHUNK)))[: None if self.endless else self.size - sent]
                write(fd, records.write(guid, block, offset=sent % (1 << 60), size=self.block))
                sent += len(block)
            write(fd, records.end(guid))
        except BrokenPipeError as error:
            raise BadStream(snapshot, "the reader went away") from error
        finally:
            self.ended.set()

    def receive(self, snapshot: str, fd: int, *, raw: bool) -> None:
        raise NotImplementedError


@dataclass
class TinyReceiver:
    """Reads streams; `received` has the snapshots that came whole, `bytes` the data that came at all."""

    fails_at: int | None = None
    error: ZfsError | None = None
    failing: str | None = None
    received: list[str] = field(default_factory=list)
    bytes: int = 0
    called: bool = False

    def receive(self, snapshot: str, fd: int, *, raw: bool) -> None:
        self.called = True
        record = read_begin(self._exactly(snapshot, fd, HEADER_SIZE))
        self._exactly(snapshot, fd, record.payload_size)
        failing = self.fails_at is not None and self.failing in (None, snapshot)
        got = 0
        while True:
            if failing and got >= (self.fails_at or 0):
                assert self.error is not None
                raise self.error
            header = self._exactly(snapshot, fd, HEADER_SIZE)
            if header[0] == 1:
                header = self._exactly(snapshot, fd, records.BONUS + HEADER_SIZE)[records.BONUS :]
            if header[0] == 5:
                self.received.append(snapshot)
                return
            got += self._block(snapshot, fd, struct.unpack_from("<Q", header, 96)[0])

    def _block(self, snapshot: str, fd: int, size: int) -> int:
        got = 0
        while got < size:
            piece = os.read(fd, min(size - got, len(CHUNK) - got % len(CHUNK)))
            if not piece:
                raise BadStream(snapshot, "incomplete stream")
            place = got % len(CHUNK)
            if piece != CHUNK[place : place + len(piece)]:
                raise BadStream(snapshot, "wrong checksum")
            got += len(piece)
            self.bytes += len(piece)
        return got

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
