"""snapshot: take, list, hold, release, destroy."""

import time
from collections.abc import Sequence

import click

from node import client
from node.cli import output
from node.cli.base import flags, group
from node.cli.confirm import confirm
from node.cli.values import located
from node.errors import Exit

__all__ = ["snapshot"]

snapshot = group("snapshot", "Take, list, hold, release or destroy snapshots.")

SNAPSHOTS = "[NODE:]DATASET@SNAPSHOT…"


@snapshot.command("take")
@click.argument("dataset", metavar="[NODE:]DATASET")
@click.option("--name", metavar="S", help="The part behind the @; default: from the time.")
@click.option("-r", "--recursive", is_flag=True, help="Of all below it too, in the same instant.")
def take(dataset: str, name: str | None, recursive: bool) -> None:
    """Take a snapshot of DATASET now."""
    node, where = located(dataset)
    args = {"node": node, "dataset": where, "name": name, "recursive": recursive}
    result = client.call("snapshot.take", args)
    lines = [f"{snapshot}  taken" for snapshot in result["snapshots"]]
    output.emit(result, lines, as_json=flags().json)


@snapshot.command("list")
@click.argument("dataset", metavar="[NODE:]DATASET")
def list_(dataset: str) -> None:
    """The snapshots of DATASET, oldest first, and why each is kept or goes."""
    node, where = located(dataset)
    result = client.call("snapshot.list", {"node": node, "dataset": where})
    now = time.time()
    rows = [
        [
            str(row["name"]),
            f"{output.ago(row['creation'], now)} ago",
            output.size(row["used"]) if "used" in row else "-",
            str(row.get("kind") or "-"),
            ("" if row.get("keep", True) else "goes: ") + str(row.get("reason") or "-"),
        ]
        for row in result["snapshots"]
    ]
    header = ["SNAPSHOT", "TAKEN", "USED", "TYPE", "WHY IT IS KEPT"]
    lines = output.table(header, rows) if rows else [f"{dataset}: no snapshots"]
    output.emit(result, lines, as_json=flags().json)


@snapshot.command("hold")
@click.argument("snapshots", metavar=SNAPSHOTS, nargs=-1, required=True)
@click.option("--tag", default="keep", show_default=True, help="What it is held by.")
def hold(snapshots: Sequence[str], tag: str) -> None:
    """Hold snapshots: nothing destroys them until they are released."""
    node, names = _located(snapshots)
    result = client.call("snapshot.hold", {"node": node, "snapshots": names, "tag": tag})
    lines = [
        f"{row['snapshot']}  {'held' if row['new'] else 'was held already'} by {result['tag']}"
        for row in result["snapshots"]
    ]
    output.emit(result, lines, as_json=flags().json)


@snapshot.command("release")
@click.argument("snapshots", metavar=SNAPSHOTS, nargs=-1, required=True)
@click.option("--tag", default="keep", show_default=True, help="The hold to take away.")
def release(snapshots: Sequence[str], tag: str) -> None:
    """Take a hold away. Other tags go on holding."""
    node, names = _located(snapshots)
    result = client.call("snapshot.release", {"node": node, "snapshots": names, "tag": tag})
    lines = [
        f"{row['snapshot']}  {'released' if row['released'] else f'was not held by {tag}'}"
        + (f", still held by {', '.join(row['tags'])}" if row["tags"] else "")
        for row in result["snapshots"]
    ]
    output.emit(result, lines, as_json=flags().json)


@snapshot.command("destroy")
@click.argument("snapshots", metavar=SNAPSHOTS, nargs=-1, required=True)
@click.option("-n", "--dry-run", is_flag=True, help="Show what would be done; changes nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def destroy(snapshots: Sequence[str], dry_run: bool, yes: bool) -> int:
    """Destroy snapshots: all of them or, if one is held, none.

    Another node is asked, and decides by its own rules: a vault refuses.
    """
    node, names = _located(snapshots)
    if not dry_run:
        many = f"{len(names)} snapshots: {', '.join(snapshots)}"
        name = names[0] if len(names) == 1 else str(len(names))
        confirm(f"destroy {snapshots[0] if len(names) == 1 else many}", name, yes=yes)
    result = client.call("snapshot.destroy", {"node": node, "snapshots": names, "dry_run": dry_run})
    done = "would be destroyed" if dry_run else "destroyed"
    before = f"{node}:" if node else ""
    lines = [f"{before}{name}  {done}" for name in result["snapshots"]]
    lines += [f"{mark}  {'would be' if dry_run else 'is'} left for a replica" for mark in result["bookmarks"]]
    lines += [f"{row['snapshot']}  stays: {row['reason']}" for row in result["failed"]]
    output.emit(result, lines, as_json=flags().json)
    return int(Exit.PARTIAL if result["failed"] else Exit.OK)


def _located(snapshots: Sequence[str]) -> tuple[str | None, list[str]]:
    """The node that all are on, and the names. Raises UsageError."""
    places = [located(one) for one in snapshots]
    for text, (_, name) in zip(snapshots, places, strict=True):
        if "@" not in name:
            raise click.UsageError(f"{text!r} is no DATASET@SNAPSHOT", click.get_current_context())
    if len({node for node, _ in places}) > 1:
        raise click.UsageError("all must be on one node", click.get_current_context())
    return places[0][0], [name for _, name in places]
