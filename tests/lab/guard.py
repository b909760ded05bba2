"""A lab's last will: a child that waits for the lab to end, however it ends, and then removes what it left.

Its standard input is a pipe whose other end only the lab holds, so even a SIGKILL of the lab is seen at once.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from .network import sweep

ROOT = Path(__file__).parents[2]


class Guard:
    """The lab's side: `release` tears everything down and returns when it is gone."""

    def __init__(self, lab: str, directory: Path) -> None:
        command = [sys.executable, "-m", "tests.lab", "guard", lab, str(directory)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, cwd=ROOT, start_new_session=True)

    def release(self) -> None:
        self._process.communicate()


def outlive(lab: str, directory: str) -> None:
    """The child's side: wait for the lab's end, then clean up after it."""
    sys.stdin.read()
    sweep(lab)
    shutil.rmtree(directory, ignore_errors=True)
