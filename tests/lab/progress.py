"""What a person sees while the lab works: one-line progress on stderr, failures with the end of their log."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


class LabError(Exception):
    """The lab itself could not do what was asked; says what, and where the log is."""


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def tail(log: Path, lines: int = 25) -> str:
    """The end of a log, or nothing if there is none yet."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""


def logged(command: Sequence[str], log: Path) -> None:
    """Run to the end with all output appended to the log; a failure shows the log's end."""
    with log.open("ab") as out:
        out.write(f"\n$ {' '.join(command)}\n".encode())
        out.flush()
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False)
    if done.returncode:
        raise LabError(f"{command[0]} failed with {done.returncode}; the end of {log}:\n{tail(log)}")
