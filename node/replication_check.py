"""What ``meshkeep check replication`` says: whether every copy is as fresh as its rule wants. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from policy.checks import Figure, Level, Outcome, worst

CRITICAL_AFTER = 2
"""A copy is critical once it is so many times as late as its rule allows."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One rule for one target: `as_of` (epoch seconds) is what it is protected as of, None for nothing stored that is
    known of; `late_after` in seconds; `trouble` is why it cannot go on by itself, or nothing. `drill` is what is wrong
    with its drills, or nothing, and `wanting` whether one found the copy itself to be no good.
    """

    dataset: str
    node: str
    as_of: int | None
    late_after: int
    trouble: str = ""
    paused: bool = False
    drill: str = ""
    wanting: bool = False


def replication(copies: Sequence[Copy], now: int) -> Outcome:
    """Late is a warning, twice as late critical, whatever the jobs say of themselves."""
    judged = [(one, *_judge(one, now)) for one in copies]
    ages = [now - one.as_of for one in copies if one.as_of is not None]
    limit = min((one.late_after for one in copies), default=0)
    bad = [(level, text) for _, level, text in judged if level is not Level.OK]
    figures = (
        *((Figure("worst_age", max(ages), "s", limit, CRITICAL_AFTER * limit),) if ages else ()),
        Figure("ok", len(copies) - len(bad)),
        Figure("bad", len(bad)),
    )
    paused = _paused(one for one in copies if one.paused)
    if not copies:
        return Outcome(Level.OK, "OK - no rule replicates anything", ())
    if not bad:
        return Outcome(Level.OK, f"OK - {_number(len(copies))} as fresh as the rules want{paused}", figures)
    level = worst(found for found, _ in bad)
    texts = [text for found, text in sorted(bad, key=lambda one: -one[0])]
    return Outcome(level, f"{level.name} - {len(bad)} of {len(copies)}: {', '.join(texts)}{paused}", figures)


def _judge(one: Copy, now: int) -> tuple[Level, str]:
    """A copy that could not be opened or read is critical however fresh it is."""
    level, text = _freshness(one, now)
    if not one.drill:
        return level, text
    what = text or f"{one.dataset} on {one.node}"
    return max(level, Level.CRITICAL if one.wanting else Level.WARNING), f"{what} ({one.drill})"


def _freshness(one: Copy, now: int) -> tuple[Level, str]:
    what = f"{one.dataset} on {one.node}"
    why = f" ({one.trouble})" if one.trouble else ""
    if one.as_of is None:
        return (Level.OK if one.paused else Level.WARNING), f"{what} not known to be stored{why}"
    age = now - one.as_of
    if age > CRITICAL_AFTER * one.late_after:
        return Level.CRITICAL, f"{what} {_span(age)} (limit {_span(one.late_after)}){why}"
    if age > one.late_after:
        return Level.WARNING, f"{what} {_span(age)} (limit {_span(one.late_after)}){why}"
    if one.trouble:
        return Level.WARNING, f"{what}{why}"
    return Level.OK, ""


def _paused(copies: Iterable[Copy]) -> str:
    names = [f"{one.dataset} to {one.node}" for one in copies]
    return f"; paused: {', '.join(names)}" if names else ""


def _number(count: int) -> str:
    return "one copy" if count == 1 else f"{count} copies"


def _span(seconds: int) -> str:
    hours, minutes = seconds // 3600, seconds % 3600 // 60
    return f"{hours}h" if hours else f"{minutes}m"
