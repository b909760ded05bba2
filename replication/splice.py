"""Moving bytes between a socket and a pipe inside the kernel (splice(2)): none of them passes through Python.

One of the two must be a pipe. Raise it to 1 MiB first (`wide_pipe`): the default 64 KiB would be the
bottleneck.
"""

import contextlib
import errno
import fcntl
import math
import os
import select
import socket
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from replication.errors import Cancelled, Unsupported
from replication.pace import TokenBucket

PIPE_SIZE = 1 << 20
CHUNK = 1 << 20
PROGRESS_SECONDS = 0.5
WATCH_SECONDS = 10.0
WAKE_BYTES = 256 << 10
"""What must have arrived before a waiting receiver is woken: waking for each packet costs more than the data does."""
LOOK_EVERY = 16
"""Chunks that may pass before the cancel descriptor is looked at again."""

Progress = Callable[[int], None]


def wide_pipe() -> tuple[int, int]:
    """A pipe (read end, write end) of 1 MiB, or of what the kernel grants to this user. Close-on-exec."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    # Refused to a user above /proc/sys/fs/pipe-user-pages-soft; the old size only costs speed.
    with contextlib.suppress(OSError):
        fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    return reader, writer


@dataclass(slots=True)
class Mover:
    """Moves one stream and counts it in `moved`. *limit* is in bytes per second

    *progress* is told the count so far at most twice a second, and at the end. Readable data or EOF on
    *cancel_fd* ends it. *watch* is asked every ten seconds while nothing moves, and
    raises to give up. *clock* counts seconds and never goes back.
    """

    limit: int | None = None
    progress: Progress | None = None
    cancel_fd: int | None = None
    watch: Callable[[], None] | None = None
    clock: Callable[[], float] = time.monotonic
    moved: int = field(default=0, init=False)
    _reported: float = field(default=float("-inf"), init=False)

    def move(self, source: int, sink: int) -> int:
        """Move until EOF on *source*; returns the bytes moved.

        Raises Cancelled, Unsupported where the kernel cannot splice these two, and OSError (EPIPE where
        nobody reads *sink* any more). Sets O_NONBLOCK on both, and SO_RCVLOWAT on a socket to read from.
        """
        os.set_blocking(source, False)
        os.set_blocking(sink, False)
        _wake_for_more_than_a_packet(source)
        bucket = TokenBucket(self.limit, self.clock()) if self.limit else None
        try:
            self._move(source, sink, bucket)
        finally:  # ZFS may close its end as soon as it has all, before the end of the stream is seen here
            if self.progress:
                self.progress(self.moved)
        return self.moved

    def _move(self, source: int, sink: int, bucket: TokenBucket | None) -> None:
        reading, writing = self._poller(source, select.POLLIN, sink), self._poller(sink, select.POLLOUT, sink)
        pausing = self._poller(None, 0, None)
        passed = 0
        while True:
            chunk = self._allowance(bucket, pausing)
            if passed % LOOK_EVERY == 0:
                self._poll(pausing, 0)
            passed += 1
            count = _splice(source, sink, chunk)
            if count is None:
                self._wait(reading, source, sink)
                self._wait(writing, sink, sink)
                continue
            if count == 0:
                return
            self.moved += count
            if bucket:
                bucket.spend(count)
            self._report()

    def _allowance(self, bucket: TokenBucket | None, pausing: select.poll) -> int:
        while bucket:
            allowed = bucket.allowance(self.clock())
            if allowed:
                return min(allowed, CHUNK)
            self._poll(pausing, bucket.delay())
        return CHUNK

    def _wait(self, poller: select.poll, fd: int, sink: int) -> None:
        """Until *fd* is ready. Nobody reading *sink* ends it too, even while there is nothing to move."""
        while True:
            ready = self._poll(poller, WATCH_SECONDS)
            if ready.get(sink, 0) & (select.POLLERR | select.POLLHUP):
                raise BrokenPipeError(errno.EPIPE, "nobody reads any more")
            if fd in ready:
                return
            if not ready and self.watch:
                self.watch()

    def _poller(self, fd: int | None, event: int, sink: int | None) -> select.poll:
        """Waits for *event* on *fd*, for trouble on *sink*, and for the cancel descriptor."""
        poller = select.poll()
        if sink is not None:
            poller.register(sink, 0)
        if fd is not None:
            poller.register(fd, event)
        if self.cancel_fd is not None:
            poller.register(self.cancel_fd, select.POLLIN)
        return poller

    def _poll(self, poller: select.poll, seconds: float) -> dict[int, int]:
        ready = dict(poller.poll(math.ceil(seconds * 1000)))
        if self.cancel_fd in ready:
            raise Cancelled
        return ready

    def _report(self) -> None:
        if self.progress and (now := self.clock()) - self._reported >= PROGRESS_SECONDS:
            self._reported = now
            self.progress(self.moved)


def _wake_for_more_than_a_packet(source: int) -> None:
    """The end of the stream and errors wake the reader all the same (tcp(7), SO_RCVLOWAT)."""
    if stat.S_ISSOCK(os.fstat(source).st_mode):
        with socket.socket(fileno=os.dup(source)) as again:
            again.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, WAKE_BYTES)


def _splice(source: int, sink: int, chunk: int) -> int | None:
    """Bytes moved, 0 at EOF, None where one of the two was not ready after all."""
    try:
        return os.splice(source, sink, chunk, flags=os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOSYS):
            raise Unsupported(f"the kernel cannot splice from {source} to {sink}: {error}") from error
        raise
