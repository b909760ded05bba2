"""replicate seed: a first copy on a disk that is carried."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from node import client
from node.cli import output
from node.cli.agree import agree
from node.cli.base import flags, group
from node.cli.progress import watch

__all__ = ["seed"]

seed = group("seed", "Carry a first copy on a disk: export it here, import it on the target's own console.")


@seed.command("export")
@click.argument("dataset")
@click.option(
    "--to", "place", type=click.Path(path_type=Path), required=True, metavar="DIR", help="New, or empty."
)
@click.option("--newest", is_flag=True, help="Only the newest snapshot, not all of them.")
@click.option(
    "--plaintext", is_flag=True, help="Though it is not encrypted, and the disk can be read by anybody."
)
def export(dataset: str, place: Path, newest: bool, plaintext: bool) -> None:
    """Write DATASET's snapshots into DIR as raw streams, with a signed index.

    The same command goes on where it was interrupted, and mends what is damaged.
    """
    args = {"dataset": dataset, "place": str(place.absolute()), "newest": newest, "plaintext": plaintext}
    done = watch("seed.export", args, f"{dataset} → {place}", silent=flags().quiet or flags().json)
    form = "raw" if done["raw"] else "in plaintext"
    kept = f", {done['kept']} of them there already" if done["kept"] else ""
    lines = [
        f"{done['place']}  {done['streams']} streams up to @{done['newest']}, "
        f"{output.size(done['bytes'])}, {form}{kept}",
        f"  next  on the target, as root: meshkeep replicate seed import {done['place']}",
    ]
    output.emit(done, lines, as_json=flags().json)


@seed.command("import")
@click.argument("place", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--dry-run", "-n", is_flag=True, help="Show what would be stored, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def import_(place: Path, dry_run: bool, yes: bool) -> None:
    """Store what lies in DIR as the replica of the node that signed it. The same command goes on where it stopped."""
    args: dict[str, Any] = {"place": str(place.absolute())}
    planned = client.call("seed.import", {**args, "plan": True})
    if dry_run:
        output.emit(planned, _lines(planned), as_json=flags().json)
        return
    agree(_lines(planned), yes=yes)
    done = watch("seed.import", args, str(place), silent=flags().quiet or flags().json)
    output.emit(done, _lines(done), as_json=flags().json)


def _lines(told: Mapping[str, Any]) -> list[str]:
    verb = "stored" if told["done"] else "would store"
    form = "raw" if told["raw"] else "in plaintext"
    label = f"{told['owner']}:{told['dataset']}"
    if not told["stored"]:
        return [f"{label}@{told['newest']} is stored already"]
    size = f"{told['stored']} of {told['streams']} snapshots, {output.size(told['bytes'])}, {form}"
    lines = [f"{verb} {label} up to @{told['newest']} ({size})"]
    if not told["whole"]:
        lines.append("  the export was not ended: there may be more of it to come")
    return [*lines, f"  next  {told['next']}"]
