"""restore wrap: an older key of what was restored, from the archive of the node that has the copy."""

from pathlib import Path
from typing import Any

import click

from node import client
from node.cli import output
from node.cli.base import Command, flags
from node.cli.passphrase import optional_passphrase
from node.cli.values import located

__all__ = ["wrap"]

SHORT = 16


@click.command("wrap", cls=Command)
@click.argument("dataset")
@click.option("--from", "source", metavar="NODE", required=True, help="Who has the copy, and the archive.")
@click.option(
    "--of", "of", metavar="[NODE:]DATASET", help="What it was restored from. Default: the same name."
)
@click.option(
    "--put", metavar="FINGERPRINT", help="Put this one back; at least 16 letters. Default: show them."
)
@click.option(
    "--key-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The file with the passphrase to try, - for stdin. Default: ask; what does not open is not kept.",
)
@click.option("--no-key", is_flag=True, help="Do not try a passphrase.")
def wrap(
    dataset: str, source: str, of: str | None, put: str | None, key_file: Path | None, no_key: bool
) -> None:
    """DATASET was restored, and its passphrase does not open it, because the copy took another key in between.

    NODE archived the wrapped keys before that. One that is put back opens all snapshots of DATASET; the copy stays as
    it is. What an attacker changed under the newer key is in the newest snapshots all the same: look before you use it.
    """
    owner, name = located(of or dataset)
    args: dict[str, Any] = {"from": source, "owner": owner, "dataset": name}
    if put is None:
        result = client.call("restore.wraps", args)
        rows = [
            [
                one["fingerprint"][:SHORT],
                one["salt"] or "-",
                "the copy is under it" if one["current"] else "older",
            ]
            for one in result["wraps"]
        ]
        lines = output.table(["FINGERPRINT", "SALT", ""], rows) if rows else ["no key is archived of it"]
        output.emit(result, lines, as_json=flags().json)
        return
    typed = None if no_key else optional_passphrase(key_file)
    result = client.call("restore.wrap", args | {"to": dataset, "fingerprint": put, "key": typed})
    opens = ", and that passphrase opens it" if result["opens"] else ""
    lines = [f"{dataset}  has the wrap {result['wrap'][:SHORT]} again{opens}", f"  next  {result['next']}"]
    output.emit(result, lines, as_json=flags().json)
