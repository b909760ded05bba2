"""Taking times and setting them beside each other."""

import resource
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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


def _cpu_once(work: Callable[[], object]) -> float:
    began = _spent()
    work()
    return (_spent() - began) * 1000


def _spent() -> float:
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum((used := resource.getrusage(kind)).ru_utime + used.ru_stime for kind in kinds)
