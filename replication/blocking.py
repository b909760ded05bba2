"""Calls of the ZFS door that block in the kernel, in a thread of their own, with their ends of pipes."""

import contextlib
import os
import select
import threading
from collections import deque
from collections.abc import Callable

from replication.errors import Cancelled, TransferFailed, WorkerHangs, ZfsFailed, of_zfs
from zfs.errors import ZfsError

PATIENCE_SECONDS = 60.0


class BlockingCall:
    """Runs *call*, then closes *fd*, whatever happens: the other end of the pipe sees EOF or EPIPE."""

    def __init__(self, call: Callable[[], None], fd: int | None = None) -> None:
        self._call = call
        self._fd = fd
        self._error: BaseException | None = None
        self._ended = os.eventfd(0, os.EFD_CLOEXEC)
        # A daemon: one that hangs in a suspended pool must not keep the worker from saying so.
        self._thread = threading.Thread(target=self._run, name="zfs", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> int:
        """Becomes readable at its end."""
        return self._ended

    def _run(self) -> None:
        try:
            self._call()
        except BaseException as error:  # noqa: BLE001 (handed to the thread that waits)
            self._error = error
        finally:
            if self._fd is not None:
                with contextlib.suppress(OSError):
                    os.close(self._fd)
            os.eventfd_write(self._ended, 1)

    def finish(self, patience: float | None = None, cancel_fd: int | None = None) -> TransferFailed | None:
        """Wait for its end, once; what went wrong, or None. Raises what was not ZFS's or the pipe's doing.

        Call it with the other end of the pipe closed. Without *patience* (seconds) it waits as long as it takes,
        for the end of a receive waits for the pool to write; with it the answer may be WorkerHangs. Data on
        *cancel_fd* ends the waiting too.
        """
        ready = self._wait(patience, cancel_fd)
        if self._ended not in ready:
            if cancel_fd in ready:
                return Cancelled("stopped while ZFS was finishing")
            return WorkerHangs(f"ZFS has not come back {patience:.0f} s after its stream was gone")
        self._thread.join()
        os.close(self._ended)
        if isinstance(self._error, ZfsError):
            return of_zfs(self._error)
        if isinstance(self._error, OSError):
            return ZfsFailed(str(self._error))
        if self._error is not None:
            raise self._error
        return None

    def _wait(self, patience: float | None, cancel_fd: int | None) -> set[int]:
        poller = select.poll()
        poller.register(self._ended, select.POLLIN)
        if cancel_fd is not None:
            poller.register(cancel_fd, select.POLLIN)
        return {fd for fd, _ in poller.poll(None if patience is None else patience * 1000)}


class Line:
    """Calls that wait their turn in one thread, each with a pipe of its own to read; the first that fails is the last.

    A pipe of its own, so that what reads in the kernel can never come upon what is meant for the next. The next ones
    are filled meanwhile, *AHEAD* at most: that hides the wait for ZFS to finish each.
    """

    AHEAD = 8

    def __init__(self, call: Callable[[int, int], None]) -> None:
        """``call(number, fd)``, with numbers from 0."""
        self.done = 0
        self._each = call
        self._turn = threading.Condition()
        self._waiting: deque[int] = deque()
        self._closed = False
        self.room = os.eventfd(self.AHEAD, os.EFD_CLOEXEC | os.EFD_SEMAPHORE | os.EFD_NONBLOCK)
        """Readable while there is room for another one."""
        self._call = BlockingCall(self._run)

    @property
    def ended(self) -> int:
        """Becomes readable when there will be no more calls; before `finish`, because one failed."""
        return self._call.ended

    def add(self, fd: int) -> None:
        """The next call, with *fd*, which is its to close. First wait for `room`. Where one failed, *fd* is closed."""
        with self._turn:
            if not self._closed:
                os.eventfd_read(self.room)
                self._waiting.append(fd)
                self._turn.notify()
                return
        os.close(fd)

    def drop(self) -> None:
        """Those that have not begun are not to begin any more."""
        with self._turn:
            self._close()

    def finish(self, patience: float | None = None, cancel_fd: int | None = None) -> TransferFailed | None:
        """There are no more. As `BlockingCall.finish`, with *patience* for each call."""
        with self._turn:
            self._closed = True
            self._turn.notify()
        done = -1
        failed: TransferFailed | None = None
        while done != self.done:
            done = self.done
            failed = self._call.finish(patience, cancel_fd)
            if not isinstance(failed, WorkerHangs):
                break
        if not isinstance(failed, WorkerHangs | Cancelled):
            os.close(self.room)
        return failed

    def _run(self) -> None:
        try:
            while (fd := self._next()) is not None:
                try:
                    self._each(self.done, fd)
                finally:
                    os.close(fd)
                self.done += 1
                os.eventfd_write(self.room, 1)
        finally:
            with self._turn:
                self._close()

    def _close(self) -> None:
        self._closed = True
        while self._waiting:
            os.close(self._waiting.popleft())

    def _next(self) -> int | None:
        with self._turn:
            while not self._waiting and not self._closed:
                self._turn.wait()
            return self._waiting.popleft() if self._waiting else None
