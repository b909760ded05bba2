"""Runs the tests named for each mutant against a copy of the tree that has the bug in it."""

import os
import queue
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from tests.mutants.mutant import Mutant

ROOT = Path(__file__).resolve().parents[2]
COPIED = ("node", "mesh", "policy", "replication", "zfs", "deploy", "docs", "tests", "pyproject.toml")
LEFT_OUT = shutil.ignore_patterns("__pycache__", "lab", "mutants", "bench")
TIMEOUT_S = 300
_FAILED = 1
"""What pytest exits with when tests ran and failed; all else (no tests, no import) proves nothing."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one mutant: `caught`, or `why` it was not."""

    mutant: Mutant
    caught: bool
    why: str = ""


def copy_tree(target: Path) -> None:
    """Everything that the unit tests need, as it is in the working tree now."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=LEFT_OUT)
        else:
            shutil.copy(source, target / name)


def run_tests(tree: Path, tests: Iterable[str], timeout: float = TIMEOUT_S) -> tuple[int | None, str]:
    """pytest's exit code (None if it did not end) and the end of what it said."""
    # No bytecode: a changed file of the same size and second would pass for the old one.
    environment = os.environ | {"PYTHONDONTWRITEBYTECODE": "1"}
    words = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--tb=line"]
    try:
        done = subprocess.run(
            [*words, "-m", "not lab and not soak", *tests],
            cwd=tree,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        return None, ""
    return done.returncode, (done.stdout + done.stderr)[-2000:]


def try_one(mutant: Mutant, tree: Path) -> Result:
    """Apply, run, and leave *tree* as it was."""
    path = tree / mutant.file
    text = path.read_text()
    path.write_text(mutant.applied(text))
    try:
        code, said = run_tests(tree, [mutant.tests])
    finally:
        path.write_text(text)
    if code == _FAILED:
        return Result(mutant, True)
    if code == 0:
        return Result(mutant, False, f"{mutant.tests} passes all the same")
    last = said.strip().rpartition("\n")[2]
    return Result(mutant, False, f"no verdict: {f'pytest exited {code}: {last}' if code else 'did not end'}")


def run(mutants: Sequence[Mutant], scratch: Path, jobs: int) -> Iterator[Result]:
    """The results as they come, from *jobs* copies of the tree below *scratch*."""
    trees: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for number in range(jobs):
        copy_tree(tree := scratch / str(number))
        trees.put(tree)

    def task(mutant: Mutant) -> Result:
        tree = trees.get()
        try:
            return try_one(mutant, tree)
        finally:
            trees.put(tree)

    with ThreadPoolExecutor(jobs) as pool:
        for future in as_completed([pool.submit(task, mutant) for mutant in mutants]):
            yield future.result()
