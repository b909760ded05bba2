"""snapshot: take, list, destroy."""

import time

import click

from node import client
from node.cli import output
from node.cli.base import flags, group
from node.cli.confirm import confirm
from node.cli.values import located

__all__ = ["snapshot"]

snapshot = group("snapshot", "Take, list or destroy snapshots.")


@snapshot.command("take")
@click.argument("dataset", metavar="[NODE:]DATASET")
@click.option("--name", metavar="S", help="The part behind the @; default: from the time.")
def take(dataset: str, name: str | None) -> None:
    """Take a snapshot of DATASET now."""
    node, where = located(dataset)
    result = client.call("snapshot.take", {"node": node, "dataset": where, "name": name})
    lines = [f"{snapshot}  taken" for snapshot in result["snapshots"]]
    output.emit(result, lines, as_json=flags().json)


@snapshot.command("list")
@click.argument("dataset", metavar="[NODE:]DATASET")
def list_(dataset: str) -> None:
    """The snapshots of DATASET, oldest first."""
    node, where = located(dataset)
    result = client.call("snapshot.list", {"node": node, "dataset": where})
    now = time.time()
    rows = [
        [
            str(row["name"]),
            f"{output.ago(row['creation'], now)} ago",
            output.size(row["used"]) if "used" in row else "-",
            "held" if row.get("holds") else "-",
        ]
        for row in result["snapshots"]
    ]
    lines = (
        output.table(["SNAPSHOT", "TAKEN", "USED", "HELD"], rows) if rows else [f"{dataset}: no snapshots"]
    )
    output.emit(result, lines, as_json=flags().json)


@snapshot.command("destroy")
@click.argument("snapshot_", metavar="[NODE:]DATASET@SNAPSHOT")
@click.option("--yes", is_flag=True, help="Do not ask.")
def destroy(snapshot_: str, yes: bool) -> None:
    """Destroy one snapshot. Another node is asked, and decides by its own rules: a vault refuses."""
    node, name = located(snapshot_)
    if "@" not in name:
        raise click.UsageError(f"{snapshot_!r} is no DATASET@SNAPSHOT", click.get_current_context())
    confirm(f"destroy {snapshot_}", name, yes=yes)
    result = client.call("snapshot.destroy", {"node": node, "snapshot": name})
    output.emit(result, [f"{snapshot_}  destroyed"], as_json=flags().json)
