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
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from replication.errors import Cancelled, Unsupported
from replication.pace import TokenBucket

PIPE_SIZE = 1 << 20
CHUNK = 1 << 20
PROGRESS_SECONDS = 0.5
WATCH_SECONDS = 10.0

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
        nobody reads *sink* any more). Sets O_NONBLOCK on both.
        """
        os.set_blocking(source, False)
        os.set_blocking(sink, False)
        bucket = TokenBucket(self.limit, self.clock()) if self.limit else None
        while True:
            chunk = self._allowance(bucket)
            self._poll({}, 0)
            count = _splice(source, sink, chunk)
            if count is None:
                self._wait(source, select.POLLIN, sink)
                self._wait(sink, select.POLLOUT, sink)
                continue
            if count == 0:
                break
            self.moved += count
            if bucket:
                bucket.spend(count)
            self._report()
        if self.progress:
            self.progress(self.moved)
        return self.moved

    def _allowance(self, bucket: TokenBucket | None) -> int:
        while bucket:
            allowed = bucket.allowance(self.clock())
            if allowed:
                return min(allowed, CHUNK)
            self._poll({}, bucket.delay())
        return CHUNK

    def _wait(self, fd: int, event: int, sink: int) -> None:
        """Until *event* on *fd*. Nobody reading *sink* ends it too, even while there is nothing to move."""
        while True:
            ready = self._poll({sink: 0, fd: event}, WATCH_SECONDS)
            if ready.get(sink, 0) & (select.POLLERR | select.POLLHUP):
                raise BrokenPipeError(errno.EPIPE, "nobody reads any more")
            if fd in ready:
                return
            if not ready and self.watch:
                self.watch()

    def _poll(self, interest: dict[int, int], seconds: float) -> dict[int, int]:
        poller = select.poll()
        for fd, event in interest.items():
            poller.register(fd, event)
        if self.cancel_fd is not None:
            poller.register(self.cancel_fd, select.POLLIN)
        ready = dict(poller.poll(math.ceil(seconds * 1000)))
        if self.cancel_fd in ready:
            raise Cancelled
        return ready

    def _report(self) -> None:
        if self.progress and (now := self.clock()) - self._reported >= PROGRESS_SECONDS:
            self._reported = now
            self.progress(self.moved)


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
