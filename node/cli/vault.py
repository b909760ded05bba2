"""vault: set up a host that only stores."""

import click

from node.cli import output
from node.cli.base import flags, group

__all__ = ["vault"]

vault = group("vault", "Set up a host that only stores.")


@vault.command("prepare")
@click.option("--disk", metavar="DEV", required=True, help="An empty disk.")
@click.option("--pool", metavar="NAME", required=True, help="The name of the new pool.")
@click.option("--if-needed", is_flag=True, help="Do nothing when the pool is there already.")
def prepare(disk: str, pool: str, if_needed: bool) -> None:
    """Make a pool on an empty disk. Refuses a disk that has anything on it. Works without the agent."""
    from node.vault_setup import prepare as make

    result = make(disk, pool, if_needed=if_needed)
    text = f"pool {pool} made on {disk}" if result["made"] else f"pool {pool} is there already"
    output.emit(result, [text], as_json=flags().json)
