"""A call of the ZFS door that blocks in the kernel, in a thread of its own, with its end of a pipe."""

import contextlib
import os
import select
import threading
from collections.abc import Callable

from replication.errors import Cancelled, TransferFailed, WorkerHangs, ZfsFailed, of_zfs
from zfs.errors import ZfsError

PATIENCE_SECONDS = 60.0


class BlockingCall:
    """Runs ``call(fd)``, then closes *fd*, whatever happens: the other end of the pipe sees EOF or EPIPE."""

    def __init__(self, call: Callable[[int], None], fd: int) -> None:
        self._call = call
        self._fd = fd
        self._error: BaseException | None = None
        self._ended = os.eventfd(0, os.EFD_CLOEXEC)
        # A daemon: one that hangs in a suspended pool must not keep the worker from saying so.
        self._thread = threading.Thread(target=self._run, name="zfs", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._call(self._fd)
        except BaseException as error:  # noqa: BLE001 (handed to the thread that waits)
            self._error = error
        finally:
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
