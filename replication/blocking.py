"""A call of the ZFS door that blocks in the kernel, in a thread of its own, with its end of a pipe."""

import contextlib
import os
import threading
from collections.abc import Callable

from replication.errors import TransferFailed, WorkerHangs, ZfsFailed, of_zfs
from zfs.errors import ZfsError

PATIENCE_SECONDS = 60.0


class BlockingCall:
    """Runs ``call(fd)``, then closes *fd*, whatever happens: the other end of the pipe sees EOF or EPIPE."""

    def __init__(self, call: Callable[[int], None], fd: int) -> None:
        self._call = call
        self._fd = fd
        self._error: BaseException | None = None
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

    def finish(self, patience: float = PATIENCE_SECONDS) -> TransferFailed | None:
        """Wait for its end; what went wrong, or None. Raises what was not ZFS's or the pipe's doing.

        Call it when the other end of the pipe is closed: then only a pool that hangs can keep it.
        """
        self._thread.join(patience)
        if self._thread.is_alive():
            return WorkerHangs(f"ZFS has not come back {patience:.0f} s after the stream ended")
        if isinstance(self._error, ZfsError):
            return of_zfs(self._error)
        if isinstance(self._error, OSError):
            return ZfsFailed(str(self._error))
        if self._error is not None:
            raise self._error
        return None
