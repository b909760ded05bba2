"""Running `zfs` and `zpool` for what libzfs_core cannot do. Secrets go in by stdin only."""

import asyncio
import os
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Sequence

from zfs import errors
from zfs.causes import of_stderr

_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}


async def run(name: str, *argv: str, stdin: bytes | None = None) -> str:
    """Standard output of *argv*, which is about *name*. Raises the class of `zfs.errors` that stderr tells.

    Cancelled, it kills the command.
    """
    code, out, err = await _communicate(name, argv, stdin)
    if code != 0:
        raise of_stderr(err or out, name)
    return out


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
