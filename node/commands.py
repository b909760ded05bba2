"""Running other programs: by argument list, with a time limit, in plain English, without our secrets."""

import asyncio
import contextlib
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from node.errors import Exit, MeshkeepError

# A fixed environment: no NOTIFY_SOCKET or credentials leak, and what programs say can be read by code.
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C",
    "SYSTEMD_COLORS": "0",
}


class CommandMissing(MeshkeepError):
    """A program that is needed is not installed. Nothing was changed."""

    def __init__(self, program: str) -> None:
        super().__init__(
            f"{program} is not installed", code="command_missing", exit=Exit.FAILED, hint=_packages(program)
        )
        self.program = program


class CommandNotStarted(MeshkeepError):
    """A program could not be started: this host lacks memory, processes or open files. Nothing was changed."""

    def __init__(self, program: str, error: OSError) -> None:
        super().__init__(
            f"{program} could not be started", code="command_not_started", why=error.strerror or str(error)
        )


class CommandTimeout(MeshkeepError):
    """A program did not end in time and was killed. What it had begun may be half done."""

    def __init__(self, argv: Sequence[str], timeout: float) -> None:
        super().__init__(f"{' '.join(argv)} did not end within {timeout:g} s", code="command_timeout")


@dataclass(frozen=True, slots=True)
class Result:
    """How a program ended and what it wrote."""

    code: int
    out: str = ""
    err: str = ""

    @property
    def ok(self) -> bool:
        """Whether it ended with 0."""
        return self.code == 0

    @property
    def words(self) -> str:
        """What it said, for an error text."""
        return (self.err.strip() or self.out.strip()) or f"exit code {self.code}"


class Runner(Protocol):
    """Runs programs; `Commands` does, tests record."""

    async def run(self, argv: Sequence[str], timeout: float = 30) -> Result:
        """Run *argv* to its end. Raises CommandMissing, CommandNotStarted, CommandTimeout."""
        ...


class Commands:
    """The real runner."""

    async def run(self, argv: Sequence[str], timeout: float = 30) -> Result:
        """Run *argv* with no input; on timeout or cancellation its whole process group is killed."""
        try:
            process = await asyncio.create_subprocess_exec(
                *argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=_ENVIRONMENT,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise CommandMissing(argv[0]) from None
        except OSError as error:
            raise CommandNotStarted(argv[0], error) from error
        try:
            async with asyncio.timeout(timeout):
                out, err = await process.communicate()
        except TimeoutError:
            raise CommandTimeout(argv, timeout) from None
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
        return Result(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))


def _packages(program: str) -> str:
    package = {"exportfs": "nfs-kernel-server", "mount.nfs": "nfs-common", "nft": "nftables"}.get(program)
    return f"apt install {package}" if package else ""
