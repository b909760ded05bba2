"""Whether the clock of a target can be believed, and from when on a stored snapshot's age counts. Pure.

The floor is a promise in time, so it is worth no more than the clock. Between two looks the wall clock may move on
by what the uptime explains; what goes beyond is time that nobody saw pass, and does not count towards any floor. A
jump stops all forgetting until a person has looked. What is remembered between looks is `Marks`: without them
everything counts as received at the next look, so that losing them costs room and nothing else.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

Jump = Literal["", "ahead", "behind"]

DAY = 86400
AHEAD = 2 * DAY
"""So much more than the uptime explains may have passed at one look of one boot."""

BEHIND = 3600
"""So far may the wall clock fall behind the uptime, or lie before a receipt."""

SLACK = 10
"""Unexplained seconds that are no more than the clock being steered."""

MOST_GAPS = 64
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Reading:
    """The clocks at one look: seconds since the epoch, which boot this is, and seconds since it, asleep or awake."""

    wall: int
    boot: str
    up: int


@dataclass(frozen=True, slots=True)
class Gap:
    """Up to `until` on the wall clock, receipts are `seconds` older on paper than can be vouched for."""

    until: int
    seconds: int


@dataclass(frozen=True, slots=True)
class Marks:
    """What a look leaves for the next one.

    `last` is the last reading that was believed, `since` when counting began: nothing counts as received before it.
    `jump` is how the clock was seen to jump since, "" for not at all.
    """

    last: Reading
    since: int
    gaps: tuple[Gap, ...] = ()
    jump: Jump = ""

    def counted(self, received: int) -> int:
        """From when on the age of a snapshot with this receipt counts; never earlier than the receipt."""
        begun = max(self.since, received)
        return begun + sum(gap.seconds for gap in self.gaps if begun <= gap.until)


def begin(now: Reading) -> Marks:
    """The first look, or what was remembered is lost: every floor counts from now."""
    return Marks(now, now.wall)


def look(marks: Marks, now: Reading, newest_receipt: int, floor: int) -> Marks:
    """The marks after a look. A jump stays until `vouched`; `last` stays with it, as all that is known for sure."""
    jump = _jump(marks, now, newest_receipt)
    if marks.jump or jump:
        return replace(marks, jump="behind" if "behind" in (marks.jump, jump) else "ahead")
    gap = unexplained(marks.last, now)
    gaps = _still_felt(marks.gaps, now.wall - floor)
    return replace(marks, last=now, gaps=_with(gaps, Gap(now.wall, gap)) if gap > SLACK else gaps)


def vouched(marks: Marks, now: Reading, floor: int) -> Marks:
    """A person says that the wall clock is right now.

    If it only went ahead, by less than a floor, just that time does not count (the host was off, or the clock had
    been slow). Else nothing says how old the receipts are, and every floor counts from now.
    """
    gap = unexplained(marks.last, now)
    if marks.jump == "behind" or not 0 <= gap < floor:
        return begin(now)
    return replace(
        marks, last=now, jump="", gaps=_with(marks.gaps, Gap(now.wall, gap)) if gap else marks.gaps
    )


def unexplained(before: Reading, now: Reading) -> int:
    """By how many seconds the wall clock moved on more than this host was seen to be up; negative if by less."""
    up = now.up - before.up if now.boot == before.boot else now.up
    return now.wall - before.wall - up


def elapsed(before: Reading, now: Reading) -> int:
    """Seconds between two readings, by what is known best."""
    return max(0, now.up - before.up if now.boot == before.boot else now.wall - before.wall)


def why(marks: Marks, now: Reading) -> str:
    """What a person is told of the jump; "" without one."""
    moved = now.wall - marks.last.wall
    match marks.jump:
        case "ahead":
            known = moved - unexplained(marks.last, now)
            return (
                f"the clock moved on by {_span(moved)}, this host was seen to be up for {_span(known)} of it"
            )
        case "behind":
            return "the clock fell behind the uptime, or lies before a time at which something was stored"
    return ""


def dump(marks: Marks) -> str:
    """As text for a user property."""
    found: dict[str, Any] = {
        "v": _VERSION,
        "last": [marks.last.wall, marks.last.boot, marks.last.up],
        "since": marks.since,
        "gaps": [[gap.until, gap.seconds] for gap in marks.gaps],
        "jump": marks.jump,
    }
    return json.dumps(found, separators=(",", ":"))


def load(text: str) -> Marks | None:
    """What `dump` wrote; None for anything else."""
    try:
        return _read(json.loads(text))
    except (ValueError, TypeError, KeyError):
        return None


def _read(raw: Mapping[str, Any]) -> Marks:
    if raw["v"] != _VERSION or raw["jump"] not in ("", "ahead", "behind"):
        raise ValueError("of another version")
    wall, boot, up = raw["last"]
    gaps = tuple(Gap(int(until), int(seconds)) for until, seconds in raw["gaps"])
    if any(gap.seconds < 0 for gap in gaps):
        raise ValueError("a gap below zero would make receipts older")
    return Marks(Reading(int(wall), str(boot), int(up)), int(raw["since"]), gaps, raw["jump"])


def _jump(marks: Marks, now: Reading, newest_receipt: int) -> Jump:
    gap = unexplained(marks.last, now)
    if gap < -BEHIND or now.wall < max(marks.since, newest_receipt) - BEHIND:
        return "behind"
    # A host that was off for long says so by its new boot; that time counts for nothing, which is all it takes.
    return "ahead" if gap > AHEAD and now.boot == marks.last.boot else ""


def _still_felt(gaps: tuple[Gap, ...], edge: int) -> tuple[Gap, ...]:
    """Without those that only make older what counts from before *edge* either way."""
    late, felt = 0, []
    for gap in reversed(gaps):
        late += gap.seconds
        if gap.until + late > edge:
            felt.append(gap)
    return tuple(reversed(felt))


def _with(gaps: tuple[Gap, ...], new: Gap) -> tuple[Gap, ...]:
    """One more; when there are many, the two oldest become one that takes from no receipt less than both did."""
    if len(gaps) < MOST_GAPS:
        return (*gaps, new)
    first, second, *rest = gaps
    return (Gap(max(first.until, second.until), first.seconds + second.seconds), *rest, new)


def _span(seconds: int) -> str:
    days, rest = divmod(max(0, seconds), DAY)
    return f"{days} days" if days >= 2 else f"{days * 24 + rest // 3600} hours"
