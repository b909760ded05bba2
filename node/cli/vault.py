"""vault: set up a host that only stores, see what it lets go, and on what terms it keeps things."""

import time
from collections.abc import Mapping
from typing import Any

import click

from node import client
from node.cli import output
from node.cli.base import flags, group
from node.cli.terms import cancel, extend, shorten, terms

__all__ = ["vault"]

vault = group("vault", "Set up a host that only stores; what it lets go, and on what terms it keeps things.")
for command in (terms, extend, shorten, cancel):
    vault.add_command(command)


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


@vault.command("keep")
@click.option(
    "-n",
    "--plan",
    "plan",
    is_flag=True,
    help="Show each stored snapshot, and why it stays or goes (the default).",
)
@click.option(
    "--clock-is-right", is_flag=True, help="After a clock jump: you have looked, and the time is right now."
)
def keep(plan: bool, clock_is_right: bool) -> None:
    """What this host stores for others, what it lets go in its next round, and why. Changes nothing by itself."""
    if plan and clock_is_right:
        raise click.UsageError("-n only shows", click.get_current_context())
    if clock_is_right:
        result = client.call("storage.vouch", {})
        output.emit(result, [_vouched(result)], as_json=flags().json)
        return
    result = client.call("storage.plan", {})
    output.emit(result, _plan(result), as_json=flags().json)


def _vouched(result: Mapping[str, Any]) -> str:
    if not result["vouched"]:
        return "the clock was not seen to jump; nothing to do"
    if result["counts_anew"]:
        return (
            "snapshots go again; since nothing says how old the stored ones are, their floor counts from now"
        )
    return "snapshots go again; the time that this host was not seen to be up does not count"


def _plan(result: Mapping[str, Any]) -> list[str]:
    now = time.time()
    rows = [
        [
            f"{replica['node']}:{replica['dataset']}@{one['name']}",
            output.ago(one["received"], now),
            "goes" if one["goes"] else "stays",
            ", ".join(one["reasons"]),
        ]
        for replica in result["replicas"]
        for one in replica["snapshots"]
    ]
    lines = output.table(["SNAPSHOT", "RECEIVED", "NEXT", "WHY"], rows) if rows else ["nothing is stored"]
    if result["clock"]:
        lines += [
            f"nothing goes: {result['clock']}",
            "is the clock right? meshkeep vault keep --clock-is-right",
        ]
    return lines
