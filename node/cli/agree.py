"""Asking whether what was shown is to be done."""

import sys
from collections.abc import Sequence

import click

from node.cli import output
from node.cli.base import flags
from node.errors import Exit, MeshkeepError

__all__ = ["agree"]


def agree(plan: Sequence[str], *, yes: bool) -> None:
    """Show *plan* and ask, unless *yes*. Raises MeshkeepError (refused) for a no, or where there is nobody to ask."""
    if yes:
        return
    if flags().json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise MeshkeepError(
            "not done without being asked for",
            code="not_confirmed",
            exit=Exit.REFUSED,
            why="there is no terminal to ask at",
            hint="look at the plan with -n, then give --yes",
        )
    for line in plan:
        output.say(line)
    if not click.confirm("do it?", err=True):
        raise MeshkeepError("not done", code="not_confirmed", exit=Exit.REFUSED)
