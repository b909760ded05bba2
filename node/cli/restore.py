"""restore: bring data back from a replica."""

import time

import click

from node.cli import output
from node.cli.base import flags, group
from node.cli.progress import watch
from node.cli.replicate import outcome
from node.cli.values import located

__all__ = ["restore"]

restore = group("restore", "Bring data back from a replica.")


@restore.command("dataset")
@click.argument("dataset", metavar="[NODE:]DATASET")
@click.option("--from", "source", metavar="NODE", required=True, help="Who has the replica.")
@click.option("--at", metavar="SNAPSHOT", help="As of this snapshot; default: the newest.")
@click.option("--to", "target", metavar="DATASET", required=True, help="The new dataset; it must not exist.")
@click.option("--wait", is_flag=True, help="Wait for the outcome; the exit code is that of the outcome.")
def dataset_(dataset: str, source: str, at: str | None, target: str, wait: bool) -> None:
    """Receive DATASET back, raw; its own key opens it. NODE: names the owner, if that is not this node."""
    owner, name = located(dataset)
    args = {"dataset": name, "owner": owner, "from": source, "at": at, "to": target, "wait": wait}
    result = watch("restore.dataset", args, f"{source} → {target}", silent=flags().quiet or flags().json)
    line = outcome(f"{source}:{name} → {target}", result, time.time())
    following = [f"  next  {result['next']}"] if result.get("next") else []
    output.emit(result, [line, *following], as_json=flags().json)
