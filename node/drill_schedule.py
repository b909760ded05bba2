"""When a drill is due, and what is to be said of those that went wrong or did not happen. Pure.

What is due is derived from the last time that a copy was proven, so a round that was lost loses nothing.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from replication.window import Window

DAY = 86400
RETRY = DAY
"""Seconds from a drill that failed to the next try."""

PATIENCE = 2 * DAY
"""Seconds that a drill waits for the night and for a node that has nothing else to do; then any time will do."""

AHEAD = 3600
"""Seconds by which a time that was noted may lie in the future; one further on is a clock's mistake, and no time."""

State = Literal["", "proven", "received, unproven", "failed"]


@dataclass(frozen=True, slots=True)
class Case:
    """A copy that is to be drilled every `every` seconds, in the hours `quiet`. Times in epoch seconds.

    `since` is when that was first wanted, `proven` when it was last proven, `tried` and `state` how the last drill
    went; `fault` says why one failed, and `wanting` whether that speaks against the copy itself.
    """

    dataset: str
    node: str
    every: int
    quiet: Window
    since: int
    proven: int | None = None
    tried: int | None = None
    state: State = ""
    fault: str = ""
    wanting: bool = False


def due(case: Case, now: int) -> int:
    """From when on the next drill is wanted."""
    proven, tried = _past(case.proven, now), _past(case.tried, now)
    if case.state == "failed" and tried is not None:
        return tried + RETRY
    # One that could not be opened is not tried again every night: it would only move bytes.
    last = max((at for at in (proven, tried if case.state else None) if at is not None), default=None)
    return min(case.since, now) if last is None else last + case.every


def ready(case: Case, now: int, *, busy: bool) -> bool:
    """Whether it begins now: when it is due, at night, and while nothing else goes to the node."""
    late = now - due(case, now)
    if late < 0:
        return False
    return late >= PATIENCE or (case.quiet.is_open(now) and not busy)


def next_of(cases: Iterable[Case], now: int, busy: Iterable[str] = ()) -> Case | None:
    """The one that has waited longest of those that may begin; *busy* are nodes to which something goes."""
    occupied = frozenset(busy)
    can = [case for case in cases if ready(case, now, busy=case.node in occupied)]
    return min(can, key=lambda case: (due(case, now), case.dataset, case.node), default=None)


def late_after(every: int) -> int:
    """The age of a proof from which the next is overdue: a quarter more than it should be, two days at least."""
    return every + max(2 * DAY, every // 4)


def overdue(case: Case, now: int) -> bool:
    """Whether it was not proven for longer than it should take."""
    proven = _past(case.proven, now)
    if proven is None:
        return now - min(case.since, now) > late_after(case.every) - case.every
    return now - proven > late_after(case.every)


def _past(at: int | None, now: int) -> int | None:
    return None if at is None or at > now + AHEAD else min(at, now)
