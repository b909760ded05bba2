"""encrypt: make a plaintext dataset an encrypted one."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from node import client
from node.cli import output
from node.cli.agree import agree
from node.cli.base import Command, flags
from node.cli.passphrase import read_passphrase
from node.cli.progress import watch
from node.errors import Exit, MeshkeepError

__all__ = ["encrypt"]


@click.command("encrypt", cls=Command)
@click.argument("dataset")
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file with the passphrase, - for stdin. Default: ask twice.",
)
@click.option(
    "--files", type=click.IntRange(min=0), metavar="N", help="Compare N random files; default: all of them."
)
@click.option(
    "--though-shared", is_flag=True, help="Though other nodes mount it: they have to mount it anew."
)
@click.option("--dry-run", "-n", is_flag=True, help="Show what would be done, and change nothing.")
@click.option(
    "--abort", is_flag=True, help="Give up one that is under way: the copy goes, the dataset stays."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
def encrypt(
    dataset: str,
    key_file: Path | None,
    files: int | None,
    though_shared: bool,
    dry_run: bool,
    abort: bool,
    yes: bool,
) -> None:
    """Encrypt DATASET with a passphrase: copy it, with all its snapshots, into an encrypted one, compare them, and let
    that take its place. The plaintext one is kept as DATASET-plain-DATE until you destroy it.

    Nobody can write to it while the last of it is copied and compared. The same command goes on after an interruption.
    """
    args: dict[str, Any] = {"dataset": dataset, "files": files, "though_shared": though_shared}
    if abort:
        done = client.call("encrypt.abort", {"dataset": dataset})
        output.emit(done, [f"{dataset}  is as it was; the copy is gone"], as_json=flags().json)
        return
    planned = client.call("encrypt.plan", args)
    if dry_run:
        output.emit(planned, _plan_lines(planned), as_json=flags().json)
        return
    agree(_plan_lines(planned), yes=yes)
    args["key"] = _passphrase(key_file, dataset, again=not planned["under_way"])
    done = watch("encrypt.run", args, f"encrypt {dataset}", silent=flags().quiet or flags().json)
    output.emit(done, _lines(done), as_json=flags().json)


def _passphrase(key_file: Path | None, dataset: str, *, again: bool) -> str:
    typed = read_passphrase(key_file, f"the passphrase of {dataset}")
    if not 8 <= len(typed.encode()) <= 512:
        raise MeshkeepError("a passphrase has 8 to 512 letters", code="bad_passphrase", exit=Exit.USAGE)
    if key_file is None and again and sys.stdin.isatty():
        second: str = click.prompt("once more", hide_input=True, err=True)
        if second != typed:
            raise MeshkeepError("the two are not the same", code="bad_passphrase", exit=Exit.USAGE)
    return typed


def _plan_lines(told: Mapping[str, Any]) -> list[str]:
    verb = "would go on to encrypt" if told["under_way"] else "would encrypt"
    lines = [
        f"{verb} {told['dataset']} ({told['snapshots']} snapshots, {output.size(told['bytes'])})",
        f"  copied   into {told['new']}, and compared with it",
        f"  then     {told['dataset']} becomes {told['old']}, and the encrypted one takes its name",
        "  kept     the plaintext one; nothing is destroyed, and the disk has it until you do it",
        "  key      a passphrase; whoever loses it loses the data, and after a reboot somebody has to type it",
    ]
    if told["mounted"]:
        lines.append(
            "  offline  while the last of it is copied and compared it is not mounted; who uses it must stop"
        )
    if told["shared"]:
        lines.append(f"  shared   {', '.join(told['shared'])} must mount it anew")
    if told["rules"]:
        lines.append(
            f"  copies   those on {', '.join(told['rules'])} go on in plaintext (docs/first-days.md)"
        )
    return lines


def _lines(done: Mapping[str, Any]) -> list[str]:
    lines = [f"{done['dataset']}  is encrypted; the plaintext one is {done['old']}"]
    lines += [f"  compared  {one}" for one in done["checked"]]
    lines += [f"  not set   {one}" for one in done["not_carried"]]
    lines += [
        f"  next      meshkeep key verify {done['dataset']}",
        f"  when you are certain: zfs destroy -r {done['old']}",
        "  undo",
        *(f"    {line}" for line in done["undo"]),
    ]
    return lines
