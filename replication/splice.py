"""Moving bytes between a socket and a pipe: inside the kernel (splice(2)) where none of them need be looked at.

To splice, one of the two must be a pipe. Raise it to 1 MiB first (`wide_pipe`): the default 64 KiB would be the
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
LINGER_SECONDS = 0.2
"""After which less than `WAKE_BYTES` is taken too: a small stream must not wait for a large one behind it."""

WATCH_SECONDS = 10.0
WAKE_BYTES = 256 << 10
"""What must have arrived before a waiting receiver is woken: waking for each packet costs more than the data does."""

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
    """Moves streams and counts what left its source in `moved`. *limit* is in bytes per second.

    *progress* is told the count so far at most twice a second, and at the end. Readable data or EOF on
    *cancel_fd* ends it, on *stop_fd* too: there is nobody any more to move it for. *watch* is asked every ten seconds
    while nothing moves, and raises to give up. *clock* counts seconds and never goes back.

    All its methods raise Cancelled, BrokenPipeError where nobody reads the sink any more, and OSError.
    """

    limit: int | None = None
    progress: Progress | None = None
    cancel_fd: int | None = None
    watch: Callable[[], None] | None = None
    clock: Callable[[], float] = time.monotonic
    stop_fd: int | None = None
    moved: int = field(default=0, init=False)
    _reported: float = field(default=float("-inf"), init=False)
    _bucket: TokenBucket | None = field(default=None, init=False)
    _pausing: select.poll = field(init=False)

    def __post_init__(self) -> None:
        self._bucket = TokenBucket(self.limit, self.clock()) if self.limit else None
        self._pausing = self._poller()

    def move(self, source: int, sink: int) -> int:
        """Splice until EOF on *source*; returns the bytes moved.

        Raises Unsupported where the kernel cannot splice these two. Sets O_NONBLOCK on both, and SO_RCVLOWAT on a
        socket to read from.
        """
        prepare(source)
        os.set_blocking(sink, False)
        try:
            while self.splice(source, sink, CHUNK):
                continue
        finally:  # ZFS may close its end as soon as it has all, before the end of the stream is seen here
            self.end()
        return self.moved

    def end(self) -> None:
        """Tell the last count."""
        if self.progress:
            self.progress(self.moved)

    def splice(self, source: int, sink: int, most: int) -> int:
        """Move up to *most* bytes in the kernel, at least one; 0 at EOF. Neither of the two may block."""
        count = None
        while count is None:
            count = _splice(source, sink, min(most, self._allowance()))
            if count is None:
                self._wait(source, select.POLLIN, sink)
                self._wait(sink, select.POLLOUT, sink)
        self._count(count)
        return count

    def read(self, sock: socket.socket, into: memoryview, sink: int | None = None) -> int:
        """Read at least one byte; 0 at EOF. *sink* is where it will go: while there is nothing, that is watched too."""
        room = min(len(into), self._allowance())
        while True:
            try:
                count = sock.recv_into(into, room)
            except BlockingIOError:
                self._wait(sock.fileno(), select.POLLIN, sink, linger=LINGER_SECONDS)
                continue
            self._count(count)
            return count

    def write(self, sink: int, data: memoryview) -> None:
        """All of it. What was counted when it was read is not counted again."""
        while data:
            try:
                data = data[os.write(sink, data) :]
            except BlockingIOError:
                self._wait(sink, select.POLLOUT, sink)

    def wait(self, fd: int) -> None:
        """Until *fd* is readable."""
        self._wait(fd, select.POLLIN, None)

    def _count(self, count: int) -> None:
        self.moved += count
        if self._bucket:
            self._bucket.spend(count)
        if count:
            self._report()

    def _allowance(self) -> int:
        self._poll(self._pausing, 0)
        while self._bucket:
            allowed = self._bucket.allowance(self.clock())
            if allowed:
                return min(allowed, CHUNK)
            self._poll(self._pausing, self._bucket.delay())
        return CHUNK

    def _wait(self, fd: int, event: int, sink: int | None, linger: float | None = None) -> None:
        """Until *fd* is ready, or *linger* seconds have passed. Nobody reading *sink* ends it too, even while there is
        nothing to move.
        """
        poller = self._poller()
        if sink is not None:
            poller.register(sink, 0)
        poller.register(fd, event)
        while True:
            ready = self._poll(poller, WATCH_SECONDS if linger is None else linger)
            if sink is not None and ready.get(sink, 0) & (select.POLLERR | select.POLLHUP):
                raise BrokenPipeError(errno.EPIPE, "nobody reads any more")
            if fd in ready or linger is not None:
                return
            if not ready and self.watch:
                self.watch()

    def _poller(self) -> select.poll:
        poller = select.poll()
        for fd in (self.cancel_fd, self.stop_fd):
            if fd is not None:
                poller.register(fd, select.POLLIN)
        return poller

    def _poll(self, poller: select.poll, seconds: float) -> dict[int, int]:
        ready = dict(poller.poll(math.ceil(seconds * 1000)))
        if self.cancel_fd in ready:
            raise Cancelled
        if self.stop_fd in ready:
            raise BrokenPipeError(errno.EPIPE, "nobody reads any more")
        return ready

    def _report(self) -> None:
        if self.progress and (now := self.clock()) - self._reported >= PROGRESS_SECONDS:
            self._reported = now
            self.progress(self.moved)


def prepare(fd: int) -> None:
    """Do not block reading it, and do not wake for every packet."""
    os.set_blocking(fd, False)
    _wake_for_more_than_a_packet(fd)


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
