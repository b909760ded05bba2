"""Running `zfs` and `zpool` for what libzfs_core cannot do. Secrets go in by stdin only."""

import asyncio
import os
import re
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence

from zfs import errors
from zfs.causes import of_stderr

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_CANNOT_OPEN = re.compile(r"cannot open '([^']+)': .+")


async def run(name: str, *argv: str, stdin: bytes | None = None) -> str:
    """Standard output of *argv*, which is about *name*. Raises the class of `zfs.errors` that stderr tells.

    Cancelled, it kills the command.
    """
    code, out, err = await _communicate(name, argv, stdin)
    if code != 0:
        raise of_stderr(err or out, name)
    return out


async def run_for_each(names: Sequence[str], *argv: str) -> tuple[str, dict[str, errors.ZfsError]]:
    """Run *argv* with *names* behind it, of which some may be gone: what it printed, and of what it said nothing, why.

    `zfs list` opens one name after the other, complains on stderr, and goes on. Raises as `run` where that is no
    complaint about one of *names*.
    """
    code, out, err = await _communicate(names[0], [*argv, *names], None)
    if code == 0:
        return out, {}
    failed: dict[str, errors.ZfsError] = {}
    for line in err.splitlines():
        opened = _CANNOT_OPEN.fullmatch(line)
        if opened is None or opened[1] not in names:
            raise of_stderr(err or out, names[0])
        failed[opened[1]] = of_stderr(line, opened[1])
    if not failed:
        raise of_stderr(err or out, names[0])
    return out, failed


async def _communicate(name: str, argv: Sequence[str], stdin: bytes | None) -> tuple[int, str, str]:
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=DEVNULL if stdin is None else PIPE, stdout=PIPE, stderr=PIPE, env=_ENVIRONMENT
        )
    except FileNotFoundError as error:
        raise errors.Unsupported(argv[0], "there is no such command: OpenZFS is not installed") from error
    except OSError as error:
        raise errors.NotStarted(name, f"{argv[0]} could not be started: {error.strerror or error}") from error
    try:
        out, err = await process.communicate(stdin)
    except asyncio.CancelledError:
        if process.returncode is None:
            process.kill()
        raise
    return process.returncode or 0, os.fsdecode(out), os.fsdecode(err)
