"""Transfer workers as threads over the fake's streams: real sockets and pipes, no processes.

What goes wrong in the middle of a stream is told beforehand: `cut` ends the next stream after so many bytes,
`pause` stops it there until it is let go.
"""

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from replication.errors import of_code
from replication.jobs import (
    Received,
    ReceiveJob,
    ReceiveOutcome,
    ReceiveStep,
    SendJob,
    SendOutcome,
    SendStep,
)
from replication.receiver import Stepped, receive_stream
from replication.sender import send_stream
from tests.fakes.zfs import FakeZfs
from tests.fakes.zfs_streams import FakeStreams
from zfs.errors import BadStream

T = TypeVar("T", SendOutcome, ReceiveOutcome)
Progress = Callable[[int], None]
PATIENCE = 20.0


@dataclass
class Point:
    """A place in a stream, in bytes from its beginning, BEGIN record included; `streams` go by before it."""

    after: int
    cut: bool
    streams: int = 0
    reached: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    async def wait(self) -> None:
        """Until the stream stands there."""
        assert await asyncio.to_thread(self.reached.wait, PATIENCE), "the stream never came so far"


class FaultyStreams:
    """The fake's streams, with `points` met in order by one stream after the other."""

    def __init__(self, zfs: FakeZfs) -> None:
        self._inner = FakeStreams(zfs)
        self.points: list[Point] = []

    def send(
        self, snapshot: str, base: str | None, fd: int, *, raw: bool, resume: tuple[int, int] | None = None
    ) -> None:
        if not self.points or self.points[0].streams:
            if self.points:
                self.points[0].streams -= 1
            return self._inner.send(snapshot, base, fd, raw=raw, resume=resume)
        point = self.points.pop(0)
        whole = os.memfd_create("stream")
        try:
            self._inner.send(snapshot, base, whole, raw=raw, resume=resume)
            data = os.pread(whole, os.fstat(whole).st_size, 0)
        finally:
            os.close(whole)
        try:
            _write(fd, data[: point.after])
            point.reached.set()
            if point.cut:
                raise BadStream(snapshot, "cut by the test")
            assert point.go_on.wait(PATIENCE), "nobody let the stream go on"
            _write(fd, data[point.after :])
        except BrokenPipeError as error:
            raise BadStream(snapshot, "the reader went away") from error

    def receive(self, snapshot: str, fd: int, *, raw: bool) -> None:
        self._inner.receive(snapshot, fd, raw=raw)


class FakeTransfer(Generic[T]):
    """As `replication.transfer.Transfer`, of a thread."""

    def __init__(self, work: Callable[[Progress, int], T], progress: Progress | None) -> None:
        self.bytes = 0
        self.said: T | None = None
        self.cancelled = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._progress = progress
        self._reader, self._writer = os.pipe()
        self._task = asyncio.ensure_future(asyncio.to_thread(work, self._told, self._reader))
        self._task.add_done_callback(self._ended)

    async def outcome(self) -> T:
        try:
            said = await asyncio.shield(self._task)
        except asyncio.CancelledError:
            await self.cancel()
            raise
        self._count(said.bytes)
        self.said = said
        if said.code:
            raise of_code(said.code, said.text)
        return said

    async def cancel(self, grace: float = 0, give_up: float = 0) -> None:
        if not self._task.done():
            os.write(self._writer, b"!")
            self.cancelled.set()
            await asyncio.wait([self._task])

    def _told(self, count: int) -> None:
        self._loop.call_soon_threadsafe(self._count, count)

    def _count(self, count: int) -> None:
        self.bytes = max(self.bytes, count)
        if self._progress:
            self._progress(self.bytes)

    def _ended(self, _: object) -> None:
        os.close(self._reader)
        os.close(self._writer)


class FakeWorkers:
    """`node.transfers.Workers` of the host of *zfs*. `sends` and `receives` list the jobs there were."""

    def __init__(self, zfs: FakeZfs) -> None:
        self.streams = FaultyStreams(zfs)
        self.sends: list[SendJob] = []
        self.receives: list[ReceiveJob] = []
        self.users: list[str | None] = []
        self.sending: FakeTransfer[SendOutcome] | None = None
        self.receiving: FakeTransfer[ReceiveOutcome] | None = None

    @property
    def sent(self) -> list[SendStep]:
        """The steps of all jobs, however they were packed."""
        return [step for job in self.sends for step in job.steps]

    def cut(self, after: int, *, streams: int = 0) -> Point:
        """The next stream made here, or that behind so many *streams*, ends after so many bytes."""
        self.streams.points.append(Point(after, cut=True, streams=streams))
        return self.streams.points[-1]

    def pause(self, after: int, *, streams: int = 0) -> Point:
        """The next stream made here, or that behind so many *streams*, stops there until `go_on` is set."""
        self.streams.points.append(Point(after, cut=False, streams=streams))
        return self.streams.points[-1]

    async def send(
        self,
        sock: socket.socket,
        *,
        steps: Sequence[SendStep],
        raw: bool,
        resume: tuple[int, int] | None = None,
        rate_limit: int | None = None,
        on_progress: Progress | None = None,
    ) -> FakeTransfer[SendOutcome]:
        object_, offset = resume if resume else (None, None)
        job = SendJob(tuple(steps), raw, object_, offset, rate_limit)
        self.sends.append(job)
        work = _on(sock, lambda s, p, c: send_stream(self.streams, job, s, p, c))
        self.sending = FakeTransfer(work, on_progress)
        return self.sending

    async def receive(
        self,
        sock: socket.socket,
        *,
        steps: Sequence[ReceiveStep],
        raw: bool,
        resuming: bool,
        pinned: str | None = None,
        keys: Sequence[str] = (),
        user: str | None = None,
        rate_limit: int | None = None,
        on_progress: Progress | None = None,
        on_step: Stepped | None = None,
    ) -> FakeTransfer[ReceiveOutcome]:
        job = ReceiveJob(tuple(steps), raw, resuming, pinned, rate_limit, tuple(keys))
        self.receives.append(job)
        self.users.append(user)
        told = _in_loop(on_step)
        work = _on(sock, lambda s, p, c: receive_stream(self.streams, job, s, p, c, told))
        self.receiving = FakeTransfer(work, on_progress)
        return self.receiving


def _in_loop(stepped: Stepped | None) -> Stepped:
    """Tell *stepped* in the loop's thread, as the agent's side of a worker does."""
    loop = asyncio.get_running_loop()

    def tell(one: Received) -> None:
        if stepped is not None:
            loop.call_soon_threadsafe(stepped, one)

    return tell


def _on(
    sock: socket.socket, work: Callable[[socket.socket, Progress, int], T]
) -> Callable[[Progress, int], T]:
    """*work* on a copy of the socket, as a worker process has one."""
    copy = sock.dup()

    def run(progress: Progress, cancel_fd: int) -> T:
        with copy:
            return work(copy, progress, cancel_fd)

    return run


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
