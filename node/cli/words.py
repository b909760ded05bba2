"""Asking for the mesh's recovery words: at the terminal, or from a file or descriptor. They never stand in argv."""

import sys
from pathlib import Path

import click

from node.errors import Exit, MeshkeepError

__all__ = ["read_words"]


def read_words(path: Path | None) -> list[str]:
    """The words in *path* (``-`` for stdin), on however many lines, or as typed unseen. Raises MeshkeepError."""
    if path is not None and str(path) != "-":
        try:
            return path.read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError) as error:
            raise MeshkeepError(
                f"the file {path} cannot be read: {error}", code="no_words_file", exit=Exit.NOT_FOUND
            ) from None
    if path is not None:
        return sys.stdin.read().split()
    if not sys.stdin.isatty():
        raise MeshkeepError(
            "there is no terminal to ask for the recovery words at",
            code="no_terminal",
            exit=Exit.USAGE,
            hint="give --words-file, - for stdin",
        )
    typed: str = click.prompt("the 24 recovery words", hide_input=True, err=True)
    return typed.split()
