"""init, join, evict: who is in the mesh."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from node import client
from node.cli import output, values
from node.cli.base import Command, flags
from node.cli.confirm import confirm
from node.cli.progress import watch
from node.errors import Exit, MeshkeepError

__all__ = ["evict", "init", "join"]


@click.command(cls=Command)
@click.option("--mesh", type=values.name, required=True, help="The name of the new mesh.")
@click.option("--name", type=values.name, help="The name of this node; default: the host's name.")
def init(mesh: str, name: str | None) -> None:
    """Make a mesh; this host becomes its founder. Prints the recovery words, once and never again."""
    result = client.call("init", {"mesh": mesh, "name": name})
    output.emit(result, _sheet(result), as_json=flags().json)


def _sheet(result: dict[str, Any]) -> Iterator[str]:
    words = [str(word) for word in result["recovery_words"]]
    yield f'created mesh {result["mesh"]}, this node is "{result["node"]}" ({result["address"]})'
    yield ""
    yield "RECOVERY SHEET: write it on paper now. It is shown this once and stored nowhere."
    yield "Whoever has these words owns the mesh. The command that recovers it with them comes with a later version."
    yield ""
    for start in range(0, len(words), 6):
        row = enumerate(words[start : start + 6], start + 1)
        yield "  " + "  ".join(f"{number:2} {word:9}" for number, word in row).rstrip()
    yield ""
    yield f"  mesh     {result['mesh']}"
    yield f"  mesh id  {result['mesh_id']}"
    yield ""
    yield "next  sudo meshkeep invite --role vault --cloud-init > user-data    a cheap VM as backup target"
    yield "      sudo meshkeep invite --name laptop                            another machine of yours"


@click.command(cls=Command)
@click.argument("invite", required=False)
@click.option("--invite-file", type=click.Path(), help="Read the invite from this file; - is stdin.")
@click.option("--wait", is_flag=True, help="Wait to be dialled (meshkeep invite dial) instead of dialling.")
@click.option("--name", type=values.name, help="The name of this node, if the invite sets none.")
@click.option("--timeout", type=values.duration, help="Give up after this long.")
@click.option("--if-needed", is_flag=True, help="Do nothing on a host that is in a mesh already.")
@click.option("--shred", is_flag=True, help="Destroy the invite file once this host is in the mesh.")
def join(
    invite: str | None,
    invite_file: str | None,
    wait: bool,
    name: str | None,
    timeout: int | None,
    if_needed: bool,
    shred: bool,
) -> None:
    """Join a mesh by an invite. With --invite-file the secret shows in no process list and no history."""
    result = _membership() if if_needed else None
    if result is None:
        args = {"invite": _secret(invite, invite_file), "wait": wait, "name": name, "timeout": timeout}
        result = watch("join", args, "join", silent=flags().quiet or flags().json)
        text = f'joined {result["mesh"]} as "{result["node"]}" ({result["address"]}), role {result["role"]}'
    else:
        text = f'this host is already in {result["mesh"]} as "{result["node"]}"'
    if shred and invite_file and invite_file != "-":
        _shred(Path(invite_file))
    output.emit(result, [text], as_json=flags().json)


def _secret(invite: str | None, invite_file: str | None) -> str:
    if (invite is None) == (invite_file is None):
        raise click.UsageError("give an INVITE or --invite-file, one of the two", click.get_current_context())
    if invite_file is None:
        return str(invite).strip()
    try:
        text = sys.stdin.read() if invite_file == "-" else Path(invite_file).read_text("ascii")
    except (OSError, UnicodeError) as error:
        raise MeshkeepError(
            f"cannot read the invite from {invite_file}",
            code="invite_unreadable",
            exit=Exit.NOT_FOUND if isinstance(error, FileNotFoundError) else Exit.FAILED,
            why=str(error),
        ) from None
    return text.strip()


def _membership() -> dict[str, Any] | None:
    """This node's place in a mesh, in the form of an answer to `join`; None if it has none."""
    try:
        status = client.call("status")
    except MeshkeepError as error:
        if error.exit in (Exit.NO_AGENT, Exit.NOT_PERMITTED):
            raise
        return None
    if not status.get("mesh"):
        return None
    own: dict[str, Any] = next(
        (node for node in status.get("nodes", []) if node.get("name") == status.get("node")), {}
    )
    fields = {key: own.get(key) for key in ("id", "address", "role")}
    return {"schema": "meshkeep.join/1", "mesh": status["mesh"], "node": status.get("node"), **fields}


def _shred(path: Path) -> None:
    """Overwrite and remove. On a copy-on-write or flash disk only the removal counts; the invite is spent."""
    try:
        with path.open("r+b") as file:
            file.write(os.urandom(path.stat().st_size))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
    except FileNotFoundError:
        return


@click.command(cls=Command)
@click.argument("node")
@click.option("--yes", is_flag=True, help="Do not ask.")
def evict(node: str, yes: bool) -> None:
    """Shut NODE out of the mesh, at once and for good. What it holds stays on its disks, encrypted."""
    confirm(f"evict {node}", node, yes=yes)
    result = client.call("evict", {"node": node})
    output.emit(result, [f"evicted {node}"], as_json=flags().json)
