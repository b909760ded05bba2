"""Asking before something is gone for good."""

import sys

from node.cli.output import say
from node.errors import Exit, MeshkeepError

__all__ = ["confirm"]


def confirm(what: str, name: str, *, yes: bool) -> None:
    """Have the name typed, unless `yes`. Raises `MeshkeepError` (refused) without a terminal or a match."""
    if yes:
        return
    if sys.stdin.isatty() and sys.stderr.isatty():
        say(f"{what}: this cannot be undone.")
        print(f"type {name} to go on: ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip() == name:
            return
        raise MeshkeepError("not done: the name did not match", code="not_confirmed", exit=Exit.REFUSED)
    raise MeshkeepError(
        f"{what}: not done without being confirmed",
        code="not_confirmed",
        exit=Exit.REFUSED,
        why="this cannot be undone, and there is no terminal to ask at",
        hint="give --yes",
    )
