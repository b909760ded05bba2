"""replicate adopt: take over a copy that syncoid or zfs send made."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from node import client
from node.cli import output
from node.cli.agree import agree
from node.cli.base import Command, flags
from node.cli.values import located
from node.errors import Exit, MeshkeepError

__all__ = ["adopt"]


@click.command("adopt", cls=Command)
@click.argument("dataset")
@click.option("--of", "of", metavar="OWNER:DATASET", required=True, help="Whose copy it is, and of what.")
@click.option(
    "-r", "--recursive", is_flag=True, help="With the datasets below it, each as a copy of its own."
)
@click.option("--unmount", is_flag=True, help="Though it is mounted: nobody needs it there.")
@click.option(
    "--with", "named", multiple=True, metavar="DATASET", help="Though this lies below it, or is a clone."
)
@click.option(
    "--guids",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The guids of the owner's snapshots, one a line, - for stdin, instead of asking the owner.",
)
@click.option("--dry-run", "-n", is_flag=True, help="Show what would be done, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def adopt(
    dataset: str,
    of: str,
    recursive: bool,
    unmount: bool,
    named: tuple[str, ...],
    guids: Path | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Make DATASET, which syncoid or zfs send copied here, the replica of OWNER's DATASET; without sending it again.

    It is renamed to its owner's place in the same pool, unmounted, read-only, and kept by this host's own policy from
    now on. Its owner then adds to it incrementally. Nothing in it is changed.
    """
    owner, source = located(of)
    if owner is None:
        raise click.BadParameter(f"{of!r} names no node; write OWNER:DATASET", param_hint="--of")
    args: dict[str, Any] = {"dataset": dataset, "owner": owner, "source": source, "recursive": recursive}
    args |= {"unmount": unmount, "with": list(named)}
    if guids is not None:
        args["guids"] = _guids(guids)
    planned = client.call("replicate.adopt", {**args, "plan": True})
    lines = _lines(planned)
    if dry_run:
        output.emit(planned, lines, as_json=flags().json)
        return
    agree(lines, yes=yes)
    done = client.call("replicate.adopt", {**args, "plan": False})
    output.emit(done, _lines(done), as_json=flags().json)


def _guids(path: Path) -> list[int]:
    try:
        with click.open_file(str(path), encoding="utf-8") as file:
            words = file.read().split()
    except (OSError, UnicodeDecodeError) as error:
        raise MeshkeepError(
            f"the guids cannot be read: {error}", code="no_guids", exit=Exit.NOT_FOUND
        ) from None
    if not words or not all(word.isascii() and word.isdigit() and len(word) <= 20 for word in words):
        raise MeshkeepError(
            f"{path} is no list of guids",
            code="bad_guids",
            exit=Exit.USAGE,
            hint="zfs list -Hp -t snapshot -o guid",
        )
    return [int(word) for word in words]


def _lines(told: Mapping[str, Any]) -> list[str]:
    verb = "adopted" if told["done"] else "would adopt"
    lines = [f"{verb} {told['dataset']} as {told['owner']}:{told['source']}, checked {told['checked']}"]
    for one in told["datasets"]:
        form = "raw" if one["raw"] else "in plaintext"
        what = "no copy, comes along" if one["foreign"] else f"{form}, in common up to @{one['common']}"
        lines.append(f"  {one['from']} → {one['to']}")
        lines.append(f"    {one['snapshots']} snapshots, {what}")
        lines += [f"    {name}={_shown(value)} is cleared" for name, value in one["clears"].items()]
        if one["mounted"] and not told["done"]:
            lines.append("    is unmounted")
        if one["foreign"]:
            lines.append(f"    {told['owner']} may list and read it there")
    lines.append("  all of it counts as received now: the floor begins with the adoption")
    lines.append(f"  next  {told['next']}")
    if told["done"]:
        lines += ["  undo", *(f"    {line}" for line in told["undo"])]
    return lines


def _shown(value: str) -> str:
    return value if value.isprintable() and value.isascii() else ascii(value)
