"""Taking times and setting them beside each other."""

import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

OURS = "meshkeep"


@dataclass(frozen=True, slots=True)
class Row:
    """One tool at one work. `ratio` is its median by ours: 2.0 takes twice as long (or as many bytes) as we do."""

    work: str
    tool: str
    runs: int
    median: float
    unit: str
    ratio: float


@dataclass(frozen=True, slots=True)
class Taken:
    """The values of one tool, one a run."""

    tool: str
    values: tuple[float, ...]


def rows(work: str, unit: str, taken: Sequence[Taken]) -> list[Row]:
    """The rows of one work; the first tool is ours, which the others are measured by."""
    ours = median(taken[0].values)
    return [
        Row(work, one.tool, len(one.values), median(one.values), unit, median(one.values) / ours)
        for one in taken
    ]


def cpu(work: Callable[[], object], runs: int) -> tuple[float, ...]:
    """CPU milliseconds, those of ended children included: what else the machine does weighs little on it."""
    return tuple(_cpu_once(work) for _ in range(runs))


def wall(work: Callable[[], object], runs: int) -> tuple[float, ...]:
    """Seconds that passed."""
    taken = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return tuple(taken)


# A process begins with the peak of the one that started it, so a small one must.
_LAUNCHER = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(code, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def peak(words: Sequence[str], environment: Mapping[str, str], cwd: Path) -> float:
    """The most memory in MiB that the process (or one it waited for) had resident at once. It must exit with 0."""
    launcher = [sys.executable, "-S", "-c", _LAUNCHER, *words]
    done = subprocess.run(launcher, env=environment, cwd=cwd, capture_output=True, text=True, check=True)
    code, kibibytes = done.stdout.split()
    if code != "0":
        raise RuntimeError(f"{words[0]} exited with {code}")
    return int(kibibytes) / 1024


def _cpu_once(work: Callable[[], object]) -> float:
    began = _spent()
    work()
    return (_spent() - began) * 1000


def _spent() -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum((used := resource.getrusage(kind)).ru_utime + used.ru_stime for kind in kinds)
