"""Asking for a passphrase that must not stand in an argument, where every user of the host could read it."""

import sys
from pathlib import Path

import click

from node import client
from node.errors import Exit, MeshkeepError

__all__ = ["optional_passphrase", "read_passphrase"]


def read_passphrase(path: Path | None, question: str) -> str:
    """The first line of *path* (stdin for ``-``), or what is typed at the terminal. Raises MeshkeepError."""
    if path is not None and str(path) != "-":
        try:
            return path.read_text(encoding="utf-8").partition("\n")[0]
        except (OSError, UnicodeDecodeError) as error:
            raise MeshkeepError(
                f"the key file {path} cannot be read: {error}", code="no_key_file", exit=Exit.NOT_FOUND
            ) from None
    if path is not None:
        return sys.stdin.readline().rstrip("\n")
    if not sys.stdin.isatty():
        raise MeshkeepError(
            "there is no terminal to ask at", code="no_terminal", exit=Exit.USAGE, hint="give --key-file"
        )
    typed: str = click.prompt(question, hide_input=True, err=True)
    return typed


def optional_passphrase(path: Path | None) -> str | None:
    """The first line of *path*; asked for at a terminal, and none where there is neither. Raises MeshkeepError."""
    if path is not None:
        return read_passphrase(path, "its passphrase")
    if not sys.stdin.isatty():
        return None
    typed: str = click.prompt(
        "its passphrase (empty: do not open it)", hide_input=True, err=True, default="", show_default=False
    )
    return typed or None


def try_key_first(dataset: str) -> None:
    """At a terminal, have the passphrase typed that a copy will need, if it was never tried. Empty: later."""
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    try:
        keys = client.call("key.status", {"dataset": dataset})["keys"]
    except MeshkeepError:
        return  # what is wrong with it is said by the command itself
    for one in keys:
        if one["verified"] is None and one["format"] == "passphrase" and one["location"] == "prompt":
            typed: str = click.prompt(
                f"a copy opens only with the passphrase of {one['root']}, which was never tried here.\n"
                "type it to try it now (empty: later)",
                hide_input=True,
                err=True,
                default="",
                show_default=False,
            )
            if typed:
                client.call("key.verify", {"dataset": dataset, "key": typed})
