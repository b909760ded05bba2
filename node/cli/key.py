"""key: what opens the datasets of this host, and the wrapped keys of what is stored here for others."""

import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from node import client
from node.cli import output
from node.cli.base import flags, group
from node.cli.passphrase import read_passphrase
from node.cli.words import read_words
from node.errors import Exit, MeshkeepError

__all__ = ["key"]

SHORT = 16
STDOUT = 1

key = group("key", "Keys of encrypted datasets, and changes of them that wait for your word.")


@key.command("status")
@click.argument("dataset", required=False)
def status(dataset: str | None) -> None:
    """What opens each encrypted dataset that is replicated, and whether that was ever tried here."""
    result = client.call("key.status", {"dataset": dataset} if dataset else {})
    rows = [
        [
            one["dataset"],
            one["root"],
            f"{one['format']}, {one['location']}",
            "loaded" if one["loaded"] else "not loaded",
            _day(one["verified"]),
            ", ".join(one["nodes"]) or "-",
        ]
        for one in result["keys"]
    ]
    header = ["DATASET", "KEY OF", "FORMAT", "HERE", "VERIFIED", "COPIES ON"]
    lines = output.table(header, rows) if rows else ["nothing that is replicated is encrypted"]
    output.emit(result, lines, as_json=flags().json)


def _day(at: int | None) -> str:
    return "never" if at is None else time.strftime("%Y-%m-%d", time.localtime(at))


@key.command("verify")
@click.argument("dataset")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file with the passphrase, - for stdin. Default: ask.",
)
def verify(dataset: str, key_file: Path | None) -> None:
    """Try DATASET's passphrase. Nothing changes; that it was right, and when, is noted."""
    typed = read_passphrase(key_file, f"the passphrase of {dataset}")
    result = client.call("key.verify", {"dataset": dataset, "key": typed})
    line = f"{result['root']}  opens with it; verified {_day(result['verified'])}"
    output.emit(result, [line], as_json=flags().json)


@key.command("export")
@click.argument("dataset")
@click.option(
    "--to",
    "place",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A new file, - for stdout, the default.",
)
def export(dataset: str, place: Path | None) -> None:
    """Print DATASET's key for paper, where it is a file of this host. A passphrase that is typed cannot be exported.

    Whoever has the page and a copy of the data can read the data. --json names the file and never the key.
    """
    from node import key_sheet

    (one,) = client.call("key.status", {"dataset": dataset})["keys"] or [None]
    if one is None:
        raise MeshkeepError(f"{dataset} is not encrypted", code="not_encrypted", exit=Exit.REFUSED)
    found = key_sheet.read(one["root"], one["format"], one["location"])
    result = {
        "schema": "meshkeep.key-export/1",
        "dataset": dataset,
        "root": found.root,
        "format": found.format,
        "file": str(found.path),
        "written": None,
    }
    page = key_sheet.sheet(found, socket.gethostname(), time.time())
    if place is not None and str(place) != "-":
        key_sheet.write(place, page)
        result["written"] = str(place)
        output.emit(
            result,
            [f"{place}  has the key of {found.root}; print it, and destroy the file"],
            as_json=flags().json,
        )
        return
    if not flags().json:
        key_sheet.check_output(STDOUT)
    output.emit(result, page, as_json=flags().json)


@key.command("pending")
@click.argument("which", metavar="[OWNER:DATASET]", required=False)
def pending(which: str | None) -> None:
    """Other keys that were offered for what this host stores. Until you decide, the replica stays as it is."""
    result = client.call("key.pending", {"which": which} if which else {})
    output.emit(result, _waiting(result["pending"], time.time()), as_json=flags().json)


def _waiting(waiting: Sequence[Mapping[str, Any]], now: float, node: str | None = None) -> list[str]:
    """*node* is where it waits, if that is not here."""
    if not waiting:
        return ["no key waits for your word"]
    rows = [
        [
            f"{one['node']}:{one['dataset']}",
            one["pinned"][:SHORT],
            one["offered"][:SHORT],
            f"{output.ago(one['since'], now)} ago",
            one["by"],
        ]
        for one in waiting
    ]
    first = waiting[0]
    short, place = first["offered"][:SHORT], f"{first['node']}:{first['dataset']}"
    lines = output.table(["REPLICA", "PINNED", "OFFERED", "SINCE", "BY"], rows)
    if node is not None:
        return [*lines, "", f"it was:  meshkeep key approve {node} {place} {short} --recovery"]
    lines += [
        "",
        "Ask the owner whether the key was changed, not over a host that may be in other hands.",
        f"it was:      meshkeep key approve {place} {short}",
        f"it was not:  meshkeep key refuse {place}",
    ]
    if first["kin"]:
        lines.append(
            f"with the {len(first['kin'])} under the same passphrase: "
            f"meshkeep key approve --all-of {first['node']} {short}"
        )
    return lines


@key.command("offered")
@click.argument("node")
def offered(node: str) -> None:
    """Other keys that were offered for what NODE stores of this host's; for an admin, of everyone's."""
    result = client.call("key.offered", {"node": node})
    output.emit(result, _waiting(result["pending"], time.time(), node), as_json=flags().json)


@key.command("approve")
@click.argument("words", metavar="[NODE] [OWNER:DATASET] FINGERPRINT", nargs=-1)
@click.option("--all-of", metavar="OWNER", help="All that wait under the same passphrase as that key.")
@click.option("--without-old", is_flag=True, help="Though the old key is not in the archive to be put back.")
@click.option("--recovery", is_flag=True, help="On NODE, with the 24 recovery words, which are asked for.")
@click.option(
    "--words-file", type=click.Path(path_type=Path), metavar="FILE", help="Where they are, - for stdin."
)
def approve(
    words: tuple[str, ...], all_of: str | None, without_old: bool, recovery: bool, words_file: Path | None
) -> None:
    """Take the key that was offered. What is stored opens with the new passphrase from the next stream on.

    At the console of the host that stores it; from anywhere else only with --recovery, and NODE.
    """
    if recovery or words_file is not None:
        if len(words) != 3 or all_of or without_old:
            raise click.UsageError("with --recovery give NODE OWNER:DATASET FINGERPRINT, and nothing else")
        _approve_afar(*words, read_words(words_file))
        return
    if len(words) != (1 if all_of else 2):
        raise click.UsageError("give OWNER:DATASET FINGERPRINT, or --all-of OWNER FINGERPRINT")
    args: dict[str, Any] = {"fingerprint": words[-1]}
    args |= {"all_of": all_of} if all_of else {"which": words[0]}
    result = client.call("key.approve", args | ({"without_old": True} if without_old else {}))
    lines = [
        f"{one['node']}:{one['dataset']}  pinned to {one['offered'][:SHORT]}; the next stream goes through"
        for one in result["approved"]
    ]
    output.emit(result, lines, as_json=flags().json)


def _approve_afar(node: str, which: str, fingerprint: str, words: list[str]) -> None:
    args = {"node": node, "which": which, "fingerprint": fingerprint, "words": words}
    result = client.call("key.approve_afar", args)
    lines = [
        f"{one['node']}:{one['dataset']}  {one['offered'][:SHORT]} is approved by the recovery key, "
        f"and pinned as soon as {node} hears of it"
        for one in result["approved"]
    ]
    output.emit(result, lines, as_json=flags().json)


@key.command("refuse")
@click.argument("which", metavar="OWNER:DATASET")
def refuse(which: str) -> None:
    """Forget the key that was offered. The replica stays under the one it has."""
    result = client.call("key.refuse", {"which": which})
    one = result["refused"]
    line = f"{one['node']}:{one['dataset']}  stays pinned to {one['pinned'][:SHORT]}"
    output.emit(result, [line], as_json=flags().json)
