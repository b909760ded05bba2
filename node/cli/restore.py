"""restore: bring data back, a file from a snapshot here or a dataset from a replica."""

import os
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node.cli import output
from node.cli.base import flags, group
from node.cli.progress import watch
from node.cli.replicate import outcome
from node.cli.values import located
from node.errors import Exit, MeshkeepError

__all__ = ["restore"]

if TYPE_CHECKING:
    from node.file_versions import Version

restore = group("restore", "Bring data back: a file from a snapshot here, a dataset from a replica.")


@restore.command("file")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--list", "-n", "only_list", is_flag=True, help="Show the versions and change nothing.")
@click.option("--version", "number", type=int, metavar="N", help="The version with this number in the list.")
@click.option(
    "--at", metavar="TIME", help='The version of then: "2026-11-20 14:00" (local time), or "3d" ago.'
)
@click.option("--to", type=click.Path(path_type=Path), help="Put it there; default: where it was.")
def file_(path: Path, only_list: bool, number: int | None, at: str | None, to: Path | None) -> None:
    """Bring back an earlier version of a file or directory from the snapshots here. Needs no agent.

    What is there now is kept beside it as NAME.before-TIME.
    """
    from node import file_versions, mountinfo

    if number is not None and at is not None:
        raise click.UsageError("--version and --at: one of them", click.get_current_context())
    now = time.time()
    moment = None if at is None else _moment(at, now)
    place = file_versions.place_of(path, mountinfo.read(Path("/proc/self/mountinfo")))
    found = file_versions.versions(place, file_versions.creations(place.dataset))
    if not found:
        raise MeshkeepError(
            f"no snapshot of {place.dataset} has {path}",
            code="no_version",
            exit=Exit.NOT_FOUND,
            hint=f"meshkeep status shows which nodes have older ones; meshkeep restore dataset {place.dataset} …",
        )
    rows = [
        _row(index, version, file_versions.is_current(version, path))
        for index, version in enumerate(found, 1)
    ]
    lines = output.table(["#", "SNAPSHOT OF", "CHANGED", "SIZE", "SNAPSHOT", ""], rows)
    result: dict[str, Any] = {
        "schema": "meshkeep.restore-file/1",
        "path": str(path),
        "dataset": place.dataset,
        "versions": [
            {
                "number": index,
                "snapshot": version.snapshot,
                "taken": version.taken,
                "since": version.since,
                "modified": version.modified,
                "size": version.size,
                "kind": version.kind,
            }
            for index, version in enumerate(found, 1)
        ],
    }
    if only_list:
        output.emit(result, lines, as_json=flags().json)
        return
    if number is None and moment is None:
        number = _ask(lines, len(found))
    version = file_versions.choose(found, number=number, at=moment)
    target = to or path
    kept = file_versions.put_back(version, target, datetime.fromtimestamp(now).strftime("%Y-%m-%dT%H%M"))
    result |= {"restored": str(target), "from": version.snapshot, "kept": str(kept) if kept else None}
    line = f"{target} ← {place.dataset}@{version.snapshot}"
    output.emit(
        result, [line + (f"; what was there is kept as {kept.name}" if kept else "")], as_json=flags().json
    )


def _row(number: int, version: "Version", current: bool) -> list[str]:
    when, changed = (f"{datetime.fromtimestamp(t):%Y-%m-%d %H:%M}" for t in (version.taken, version.modified))
    size = output.size(version.size) if version.kind == "file" else version.kind
    return [str(number), when, changed, size, f"@{version.snapshot}", "as it is now" if current else ""]


def _ask(lines: list[str], count: int) -> int:
    if not (sys.stdin.isatty() and os.isatty(2)):
        raise click.UsageError(
            "which version? --version N or --at TIME (--list shows them)", click.get_current_context()
        )
    for line in lines:
        output.say(line)
    answer: int = click.prompt("restore which?", type=click.IntRange(1, count), err=True)
    return answer


def _moment(text: str, now: float) -> int:
    from node.quantities import parse_duration

    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        pass
    try:
        return int(now) - parse_duration(text)
    except ValueError:
        raise click.UsageError(
            f'{text!r} is no time; write it like "2026-11-20 14:00", "2026-11-20" or "3d"',
            click.get_current_context(),
        ) from None


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
