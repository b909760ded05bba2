"""share, mount, umount: a dataset by NFS inside the mesh, on both ends."""

import os

import click

from node import client
from node.cli import output
from node.cli.base import Command, flags, group
from node.cli.values import place

__all__ = ["mount", "share", "umount"]

share = group("share", "Share a dataset by NFS inside the mesh.")


@share.command("add")
@click.argument("dataset")
@click.option("--to", metavar="NODE", required=True, help="Who may mount it.")
@click.option("--rw", is_flag=True, help="May also write.")
@click.option(
    "--squash",
    type=click.Choice(["all", "root", "none"]),
    default="all",
    show_default=True,
    help="Whose uids are mapped to nobody.",
)
def add(dataset: str, to: str, rw: bool, squash: str) -> None:
    """Let NODE mount DATASET; nobody else, and only through the mesh."""
    result = client.call("share.add", {"dataset": dataset, "to": to, "rw": rw, "squash": squash})
    text = f"{dataset}  shared with {to}, {'read-write' if rw else 'read-only'}"
    output.emit(result, [text], as_json=flags().json)


@share.command("list")
def list_() -> None:
    """What this node shares, with whom."""
    result = client.call("share.list")
    rows = [
        [row["dataset"], row["to"], "rw" if row.get("rw") else "ro", str(row.get("squash", "-"))]
        for row in result["shares"]
    ]
    lines = output.table(["DATASET", "TO", "ACCESS", "SQUASH"], rows) if rows else ["nothing is shared"]
    output.emit(result, lines, as_json=flags().json)


@share.command("remove")
@click.argument("dataset")
@click.option("--to", metavar="NODE", help="Only from this node; default: from all.")
def remove(dataset: str, to: str | None) -> None:
    """Stop sharing DATASET."""
    result = client.call("share.remove", {"dataset": dataset, "to": to})
    output.emit(result, [f"{dataset}  no longer shared{f' with {to}' if to else ''}"], as_json=flags().json)


@click.command(cls=Command)
@click.argument("what", metavar="NODE:DATASET|NODE:/PATH")
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False))
def mount(what: str, directory: str) -> None:
    """Mount NODE's share at DIR, by systemd, when it is first used."""
    where = os.path.abspath(directory)
    result = client.call("mount", {**place(what), "dir": where})
    output.emit(result, [f"{what}  at {where}"], as_json=flags().json)


@click.command(cls=Command)
@click.argument("directory", metavar="DIR", type=click.Path())
def umount(directory: str) -> None:
    """Take the mount at DIR away."""
    where = os.path.abspath(directory)
    result = client.call("umount", {"dir": where})
    output.emit(result, [f"{where}  unmounted"], as_json=flags().json)
