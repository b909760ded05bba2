"""Streams that do not leave this host: into another dataset, into a file, and the first record of one.

The workers are those of the mesh, at the two ends of a pair of sockets instead of a connection.
"""

import asyncio
import base64
import contextlib
import hashlib
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from node.transfers import Workers
from replication.errors import Interrupted, TransferFailed
from replication.jobs import ReceiveStep, SendStep
from zfs.stream import HEADER_SIZE, BadStreamHeader, crypt_payload, read_begin

CHUNK = 1 << 20

T = TypeVar("T")
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Wrap:
    """The wrapped key that raw streams of a dataset carry: its fingerprint, and the BEGIN payload in base64."""

    fingerprint: str
    payload: str


@dataclass(frozen=True, slots=True)
class Written:
    """A stream in a file: bytes, SHA-256 (hex), and the fingerprint of the wrapped key in it ("" for none)."""

    size: int
    sha256: str
    key: str


async def copy(
    workers: Workers, step: SendStep, into: ReceiveStep, *, resume: tuple[int, int] | None, progress: Progress
) -> None:
    """Send *step*, not raw, as *into*; *resume* is (object, offset). Raises TransferFailed by the side that knows why.

    What arrived of a stream that was cut short stays, to be resumed.
    """
    with _pair() as (near, far):
        receiving = await workers.receive(
            far, steps=[into], raw=False, resuming=resume is not None, on_progress=progress
        )
        try:
            sending = await workers.send(near, steps=[step], raw=False, resume=resume)
        except BaseException:
            await receiving.cancel()
            raise
        sent, received = await asyncio.gather(
            _closing(near, sending.outcome()), _closing(far, receiving.outcome()), return_exceptions=True
        )
    if isinstance(
        received, BaseException
    ):  # else the snapshot is there, and the sender may only have missed the end
        _raise_cause(received, sent)


async def to_file(workers: Workers, step: SendStep, path: Path, *, raw: bool, progress: Progress) -> Written:
    """Write one stream to *path*, which must not exist; durable when this returns. Raises TransferFailed, OSError."""
    with _pair() as (near, far):
        sending = await workers.send(near, steps=[step], raw=raw, on_progress=progress)
        saving = asyncio.ensure_future(asyncio.to_thread(_save, far, path))
        sent, saved = await asyncio.gather(
            _closing(near, sending.outcome()), _closing(far, saving), return_exceptions=True
        )
    if isinstance(saved, OSError):  # the disk's own word; the sender only saw that nobody reads
        raise saved
    _raise_cause(sent, saved)
    assert isinstance(saved, Written)
    return saved


async def wrap_of(workers: Workers, snapshot: str) -> Wrap | None:
    """The wrapped key that a raw stream of *snapshot* would carry; None where it is not encrypted.

    Raises TransferFailed. Reads the stream's first record and lets the rest go.
    """
    with _pair() as (near, far):
        sending = await workers.send(near, steps=[SendStep(snapshot, None)], raw=True)
        reading = asyncio.ensure_future(asyncio.to_thread(_first_record, far))
        ending = asyncio.ensure_future(_closing(near, sending.outcome()))
        try:
            payload = await reading
        finally:
            far.close()
            await sending.cancel()
            (ended,) = await asyncio.gather(ending, return_exceptions=True)
    if payload is None:
        raise ended if isinstance(ended, TransferFailed) else Interrupted(f"no stream came of {snapshot}")
    key = crypt_payload(payload)
    return None if key is None else Wrap(key.fingerprint(), base64.b64encode(payload).decode("ascii"))


def feed(path: Path, sock: socket.socket) -> None:
    """Write the file to *sock* and shut its writing side down; ends early when nobody reads. Blocks. Raises OSError."""
    with (
        open(_open(path), "rb", buffering=0) as file,
        contextlib.suppress(BrokenPipeError, ConnectionResetError),
    ):
        while chunk := file.read(CHUNK):
            sock.sendall(chunk)
        sock.shutdown(socket.SHUT_WR)


def digest(path: Path) -> tuple[int, str]:
    """Size and SHA-256 (hex) of a plain file. Blocks. Raises OSError."""
    sums, size = hashlib.sha256(), 0
    with open(_open(path), "rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            sums.update(chunk)
            size += len(chunk)
    return size, sums.hexdigest()


def pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a stream, both the caller's to close."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


@contextlib.contextmanager
def _pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    near, far = pair()
    with near, far:
        yield near, far


async def _closing(sock: socket.socket, work: Awaitable[T]) -> T:
    """The result of *work*; its end of the pair is closed then, so that the other end never waits for it."""
    try:
        return await work
    finally:
        with contextlib.suppress(OSError):  # the other side may be gone before us
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()


def _raise_cause(*outcomes: object) -> None:
    """Of what failed the first that says more than that the other side went away."""
    failures = [one for one in outcomes if isinstance(one, BaseException)]
    told = [
        one
        for one in failures
        if not isinstance(one, Interrupted) and getattr(one, "code", "") != "peer_gone"
    ]
    if failures:
        raise (told or failures)[0]


def _save(sock: socket.socket, path: Path) -> Written:
    sums, size, head = hashlib.sha256(), 0, b""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "wb", buffering=0) as file:
        while chunk := sock.recv(CHUNK):
            view = memoryview(chunk)
            while view:
                view = view[file.write(view) :]
            sums.update(chunk)
            size += len(chunk)
            head += chunk if len(head) < CHUNK else b""
        os.fsync(file.fileno())
    return Written(size, sums.hexdigest(), _key_in(head))


def _key_in(head: bytes) -> str:
    try:
        begin = read_begin(head[:HEADER_SIZE])
        key = crypt_payload(head[HEADER_SIZE : HEADER_SIZE + begin.payload_size])
    except BadStreamHeader:
        return ""  # it was cut before it began, and the sender says why
    return key.fingerprint() if key else ""


def _first_record(sock: socket.socket) -> bytes | None:
    """The payload of the BEGIN record; None where the stream ends before. Raises BadStreamHeader."""
    header = _exactly(sock, HEADER_SIZE)
    return None if header is None else _exactly(sock, read_begin(header).payload_size)


def _exactly(sock: socket.socket, size: int) -> bytes | None:
    data = b""
    while len(data) < size:
        chunk = sock.recv(size - len(data))
        if not chunk:
            return None
        data += chunk
    return data


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
