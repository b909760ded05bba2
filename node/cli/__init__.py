"""The command line: every command asks the agent over its socket and shows what it answered.

Commands load on use and nothing heavy loads at all, because the shell starts this at every TAB.
"""

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from node.cli import output
from node.errors import Exit, MeshkeepError

if TYPE_CHECKING:
    from click import ClickException

__all__ = ["main"]

INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code (see `node.errors.Exit`; 130 when interrupted)."""
    args = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in args
    try:
        return _run(args)
    except MeshkeepError as error:
        output.show_error(error, as_json=as_json)
        return int(error.exit)
    except KeyboardInterrupt:
        output.say("interrupted; what the agent has begun goes on: meshkeep status")
        return INTERRUPTED
    except BrokenPipeError:
        # The reader left (`meshkeep status | head`). Keep the interpreter's last flush from complaining.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.FAILED)


def _run(args: list[str]) -> int:
    import click

    from node.cli.root import root

    try:
        code = root.main(args=args, prog_name="meshkeep", standalone_mode=False)
    except click.ClickException as error:
        raise _usage(error) from None
    except click.Abort:
        raise KeyboardInterrupt from None
    return code if isinstance(code, int) else int(Exit.OK)


def _usage(error: "ClickException") -> MeshkeepError:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "meshkeep"
    return MeshkeepError(
        f"{command}: {error.format_message().rstrip('.')}",
        code="usage",
        exit=Exit.USAGE,
        hint=f"{command} --help",
    )
