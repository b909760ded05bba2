"""Where a fault can strike, and what strikes there. Pure values: they name seams that do not move, not lines of code.

A point is the k-th call of one thing on one side: of a method of the door to ZFS, of a stream in a worker, of a request
that a target answers. One run without a fault counts them, and then there is a case for every one.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

Side = Literal["home", "cloud"]
Seam = Literal["door", "stream", "request"]
Fault = Literal[
    "before",
    "half",
    "after",
    "other",
    "error",
    "home",
    "cloud",
    "both",
    "cut",
    "corrupt",
    "deaf",
    "lost",
    "unsaid",
]

CHANGES = frozenset(
    {"hold", "release", "bookmark", "bookmark_all", "destroy_bookmarks", "set", "set_all", "inherit"}
    | {"create", "allow", "abort_receive", "destroy_dataset", "destroy_snapshots", "rename"}
)
"""Methods of the door that change something; the others only look."""

FAULTS: dict[str, tuple[Fault, ...]] = {
    "change": ("before", "after", "other", "error"),
    "batch": ("before", "half", "after", "other", "error"),
    "look": ("before", "error"),
    "stream": ("home", "cloud", "both", "cut", "corrupt"),
    "receive": ("deaf", "before", "after"),
    "request": ("lost", "unsaid"),
}
MEANING: dict[Fault, str] = {
    "before": "its agent is killed before the call",
    "half": "its agent is killed when half of the call is done",
    "after": "its agent is killed when the call is done and has not returned",
    "other": "the agent at the other end is killed meanwhile",
    "error": "ZFS fails the call",
    "home": "the source's power is cut in the middle",
    "cloud": "the target's power is cut in the middle",
    "both": "the power of both is cut in the middle",
    "cut": "the worker dies in the middle",
    "corrupt": "a byte of it is another one",
    "deaf": "the worker dies after ZFS took all of it",
    "lost": "the connection breaks before the request is heard",
    "unsaid": "the connection breaks before the answer is said",
}
BATCHES = frozenset({"set_all"})
"""Those of the changes that are not one transaction, and can be done in half."""

PLACES = (0.0, 0.01, 0.5, 0.99, 1.0)
"""How much of a stream has passed when it is struck."""


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """The `number`-th (from 0) call of `what` on `side`; for streams, `place` is the share of its bytes."""

    side: Side
    seam: Seam
    what: str
    number: int
    place: float = 0.0

    @property
    def kind(self) -> str:
        """Which faults can strike here: a key of FAULTS."""
        if self.seam == "door":
            if self.what in BATCHES:
                return "batch"
            return "change" if self.what in CHANGES else "look"
        if self.seam == "stream":
            return "stream" if self.what == "send" else "receive"
        return "request"

    def __str__(self) -> str:
        place = f" at {self.place:.0%}" if self.seam == "stream" and self.what == "send" else ""
        return f"{self.side}: {self.what} {self.number + 1}{place}"


@dataclass(frozen=True, slots=True, order=True)
class Strike:
    """One fault at one point. With `prune`, whatever nothing holds is destroyed at the source right after it."""

    point: Point
    fault: Fault
    prune: bool = False

    def __str__(self) -> str:
        return f"{self.point}, {MEANING[self.fault]}{', then all is pruned' if self.prune else ''}"


def points_of(calls: Sequence[tuple[Side, Seam, str]]) -> list[Point]:
    """Every point of a run that made these calls, in order."""
    seen: Counter[tuple[Side, Seam, str]] = Counter()
    found = []
    for call in calls:
        side, seam, what = call
        places = PLACES if (seam, what) == ("stream", "send") else (0.0,)
        found += [Point(side, seam, what, seen[call], place) for place in places]
        seen[call] += 1
    return found


def strikes_at(points: Sequence[Point]) -> Iterator[Strike]:
    """Every fault that can strike at *points*."""
    for point in points:
        for fault in FAULTS[point.kind]:
            yield Strike(point, fault)
            if fault in ("before", "half", "after", "home"):
                yield Strike(point, fault, prune=True)


class Script:
    """What is to strike, one after the other, and what has been called. Calls are counted from the last strike on."""

    def __init__(self, strikes: Sequence[Strike] = ()) -> None:
        self.left = list(strikes)
        self.calls: list[tuple[Side, Seam, str]] = []
        self._counted: Counter[tuple[Side, Seam, str]] = Counter()
        self._armed = False

    def arm(self, *strikes: Strike) -> None:
        """Count from now on, and strike."""
        self.left, self.calls, self._armed = list(strikes), [], True
        self._counted.clear()

    def disarm(self) -> None:
        """What comes now is not of the case."""
        self._armed = False

    def next(self, side: Side, seam: Seam, what: str) -> Strike | None:
        """Told at each call; the strike that is due at it."""
        if not self._armed:
            return None
        call = side, seam, what
        self.calls.append(call)
        number, self._counted[call] = self._counted[call], self._counted[call] + 1
        due = self.left[0] if self.left else None
        if due is None or due.point.number != number:
            return None
        if (due.point.side, due.point.seam, due.point.what) != call:
            return None
        self._counted.clear()
        return self.left.pop(0)
