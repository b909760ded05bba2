"""restore file: an earlier version of a file, from the snapshots here or out of a copy on another node."""

import os
import sys
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from node import client
from node.cli import output
from node.cli.base import Command, flags
from node.cli.passphrase import optional_passphrase
from node.cli.progress import watch
from node.cli.values import maybe_moment
from node.errors import Exit, MeshkeepError

if TYPE_CHECKING:
    from node.file_versions import Place, Version

__all__ = ["file_"]

ASK_S = 30.0


@click.command("file", cls=Command)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--list", "-n", "only_list", is_flag=True, help="Show the versions and change nothing.")
@click.option("--version", "number", type=int, metavar="N", help="The version with this number in the list.")
@click.option(
    "--at", metavar="TIME", help='The version of then: "2026-11-20 14:00" (local time), or "3d" ago.'
)
@click.option("--to", type=click.Path(path_type=Path), help="Put it there; default: where it was.")
@click.option("--via", metavar="NODE", help="Out of the copy on that node: it is received aside and opened.")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    help="With --via: the file with the passphrase, - for stdin. Default: ask.",
)
def file_(
    path: Path,
    only_list: bool,
    number: int | None,
    at: str | None,
    to: Path | None,
    via: str | None,
    key_file: Path | None,
) -> None:
    """Bring back an earlier version of a file or directory, from the snapshots here (needs no agent) or --via a node.

    What is there now is kept beside it as NAME.before-TIME.
    """
    from node import file_versions, mountinfo

    if number is not None and (at is not None or via is not None):
        what = "--at" if at is not None else "--via"
        raise click.UsageError(f"--version and {what}: one of them", click.get_current_context())
    if via is None and key_file is not None:
        raise click.UsageError("--key-file goes with --via", click.get_current_context())
    now = time.time()
    moment = maybe_moment(at, now, always=via is None)
    place = file_versions.place_of(path, mountinfo.read(Path("/proc/self/mountinfo")))
    if via is not None and not only_list:
        _fetch(path, place, via, {"at": at, "before": moment}, to, key_file)
        return
    found = file_versions.versions(place, file_versions.creations(place.dataset))
    copies = _copies(place.dataset, via) if only_list or not found else {}
    if not found and not only_list:
        raise _none_here(path, place, copies)
    rows = [
        _row(index, version, file_versions.is_current(version, path))
        for index, version in enumerate(found, 1)
    ]
    lines = output.table(["#", "SNAPSHOT OF", "CHANGED", "SIZE", "SNAPSHOT", ""], rows) if rows else []
    result: dict[str, Any] = {
        "schema": "meshkeep.restore-file/1",
        "path": str(path),
        "dataset": place.dataset,
        "versions": [_as_json(index, version) for index, version in enumerate(found, 1)],
    }
    if only_list:
        none = [] if rows else [f"no snapshot of {place.dataset} here has it"]
        output.emit({**result, **copies}, [*lines, *none, *_elsewhere(path, copies)], as_json=flags().json)
        return
    if number is None and moment is None:
        number = _ask(lines, len(found))
    version = file_versions.choose(found, number=number, at=moment)
    target = to or path
    kept = file_versions.put_back(version, target, datetime.fromtimestamp(now).strftime("%Y-%m-%dT%H%M"))
    result |= {"restored": str(target), "from": version.snapshot, "kept": str(kept) if kept else None}
    _tell(result, f"{target} ← {place.dataset}@{version.snapshot}")


def _fetch(
    path: Path, place: "Place", via: str, when: Mapping[str, Any], to: Path | None, key_file: Path | None
) -> None:
    """The agent does it, as root. The key goes to it over its socket, and nowhere else."""
    target = Path(os.path.abspath(to or place.mountpoint / place.relative))
    args = {"dataset": place.dataset, "path": str(place.relative), "from": via, "to": str(target), **when}
    args["key"] = optional_passphrase(key_file)
    found = watch("restore.file", args, f"restore {via}", silent=flags().quiet or flags().json)
    _tell(found, f"{target} ← {found['node']}:{found['dataset']}@{found['from']}")


def _tell(result: Mapping[str, Any], line: str) -> None:
    kept = Path(result["kept"]).name if result["kept"] else ""
    output.emit(
        result, [line + (f"; what was there is kept as {kept}" if kept else "")], as_json=flags().json
    )


def _copies(dataset: str, via: str | None) -> dict[str, Any]:
    """Who else has versions. Without an agent that is not known, and the snapshots here are enough to go on."""
    try:
        found = client.call("restore.copies", {"dataset": dataset}, timeout=ASK_S)
    except MeshkeepError as error:
        return {"copies": [], "silent": [], "copies_unknown": error.what}
    copies = [one for one in found["copies"] if via in (None, one["node"])]
    return {"copies": copies, "silent": found["silent"], "copies_unknown": ""}


def _elsewhere(path: Path, copies: Mapping[str, Any]) -> list[str]:
    if copies["copies_unknown"]:
        return [f"whether other nodes have more is not known: {copies['copies_unknown']}"]
    lines = [
        f"{one['node']} keeps {one['snapshots']} snapshots from {output.clock(one['oldest'])} "
        f"to {output.clock(one['newest'])}: meshkeep restore file {path} --via {one['node']} --at TIME"
        for one in copies["copies"]
    ]
    return lines + [f"{one['node']} could not be asked ({one['why']})" for one in copies["silent"]]


def _none_here(path: Path, place: "Place", copies: Mapping[str, Any]) -> MeshkeepError:
    keepers = [one["node"] for one in copies["copies"]]
    hint = f"meshkeep restore file {path} --via {keepers[0]}" if keepers else "meshkeep status"
    return MeshkeepError(
        f"no snapshot of {place.dataset} here has {path}",
        code="no_version",
        exit=Exit.NOT_FOUND,
        why="; ".join(_elsewhere(path, copies)),
        hint=hint,
    )


def _as_json(number: int, version: "Version") -> dict[str, Any]:
    return {
        "number": number,
        "snapshot": version.snapshot,
        "taken": version.taken,
        "since": version.since,
        "modified": version.modified,
        "size": version.size,
        "kind": version.kind,
    }


def _row(number: int, version: "Version", current: bool) -> list[str]:
    when, changed = (output.clock(t) for t in (version.taken, version.modified))
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
