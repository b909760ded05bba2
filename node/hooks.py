"""Hooks: a person's shell commands around snapshots and prunes.

Whatever they do, they neither hang the agent nor fill its memory. A program that a hook leaves behind in the
background goes on, but nobody reads what it prints any more.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass

KEPT = 4096
"""Bytes of output that are kept: the last ones, where a program says why it failed."""

DRAINED = 1 << 20
"""Bytes read at most after the shell's end: what it wrote is in the pipe (64 KiB), the rest is of others."""

_CHUNK = 1 << 16
_GRACE = 2.0
_BASE = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C.UTF-8",
}


@dataclass(frozen=True, slots=True)
class HookResult:
    """How a hook ended: `code` None where it was killed or never began. `output` is the end of what it printed."""

    code: int | None
    timed_out: bool = False
    output: str = ""

    @property
    def ok(self) -> bool:
        """Whether it ended with 0 in time."""
        return self.code == 0 and not self.timed_out

    @property
    def words(self) -> str:
        """Why it is not ok, in one line."""
        said = " ".join(self.output.split())[-300:]
        if self.timed_out:
            why = "did not end in time and was killed"
        elif self.code is None:
            why = "could not be run"
        elif self.code < 0:
            why = f"was ended by signal {-self.code}"
        else:
            why = f"failed with exit code {self.code}"
        return f"{why}: {said}" if said else why


class HookRunner:
    """Runs hooks. *grace* are the seconds between SIGTERM and SIGKILL."""

    def __init__(self, grace: float = _GRACE) -> None:
        self._grace = grace

    async def run(self, command: str, environment: Mapping[str, str], timeout: int) -> HookResult:
        """Run *command* by /bin/sh, with no input, in a session of its own; *timeout* in seconds, 0 or less for ever.

        The whole process group is killed on timeout and on cancellation, and only then. Never raises for what the
        command does.
        """
        with contextlib.closing(_Output()) as output:
            try:
                # A pipe of our own: asyncio would wait for its end, which a child in the background keeps open.
                process = await asyncio.create_subprocess_exec(
                    *("/bin/sh", "-c", command),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output.writer,
                    stderr=output.writer,
                    cwd="/",
                    env={**_BASE, **environment},
                    start_new_session=True,
                )
            except (OSError, ValueError) as error:  # ValueError: a NUL in the command
                return HookResult(None, output=str(error))
            output.begin()
            ended = await self._end(process, timeout)
        return HookResult(process.returncode if ended else None, not ended, output.text)

    async def _end(self, process: asyncio.subprocess.Process, timeout: int) -> bool:
        """Wait for its end, or make one. Whether it came by itself."""
        try:
            if await _ends(process, timeout if timeout > 0 else None):
                return True
            _signal(process, signal.SIGTERM)
            await _ends(process, self._grace)
            _signal(process, signal.SIGKILL)
            await process.wait()
        except asyncio.CancelledError:
            _signal(process, signal.SIGKILL)
            raise
        return False


async def _ends(process: asyncio.subprocess.Process, within: float | None) -> bool:
    try:
        async with asyncio.timeout(within):
            await process.wait()
    except TimeoutError:
        return False
    return True


def _signal(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """To the whole group; its leader may be gone while others of it are not."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


class _Output:
    """The pipe that a hook prints into, and the end of what came out of it."""

    def __init__(self) -> None:
        self._reader, self.writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._tail = b""
        self._watching: asyncio.AbstractEventLoop | None = None

    def begin(self) -> None:
        """The hook has its end: from now on it is read as it prints."""
        os.close(self.writer)
        self.writer = -1
        self._watching = asyncio.get_running_loop()
        self._watching.add_reader(self._reader, self._read)

    def close(self) -> None:
        """Take what is still in the pipe, and no more."""
        if self.writer >= 0:
            os.close(self.writer)
        drained = 0
        while drained < DRAINED and (read := self._read()):
            drained += read
        self._ignore()
        os.close(self._reader)

    @property
    def text(self) -> str:
        return self._tail.decode(errors="replace")

    def _read(self) -> int:
        try:
            chunk = os.read(self._reader, _CHUNK)
        except BlockingIOError:
            return 0
        if not chunk:
            self._ignore()
        self._tail = (self._tail + chunk)[-KEPT:]
        return len(chunk)

    def _ignore(self) -> None:
        if self._watching is not None:
            self._watching.remove_reader(self._reader)
            self._watching = None
