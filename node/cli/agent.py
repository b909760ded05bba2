"""agent, version."""

import click

from node.cli import output
from node.cli.base import Command, flags

__all__ = ["agent", "version"]


@click.command(cls=Command)
def agent() -> int:
    """Run the agent in the foreground; systemd does this."""
    from node.daemon import main

    code = main()
    return code if isinstance(code, int) else 0


@click.command(cls=Command)
def version() -> None:
    """Print the version."""
    from node.version import version as installed

    number = installed()
    output.emit(
        {"schema": "meshkeep.version/1", "version": number}, [f"meshkeep {number}"], as_json=flags().json
    )
