"""Which snapshots of a replica the target lets go, and why: by its own policy, whatever the source says. Pure.

Whoever holds the keys of a source can send anything: creations in the future or in 1970, a thousand snapshots in an
hour, none at all. So the age since receipt, by the target's clock, decides what may go, and what arrived within the
floor changes nothing for what was here before, whichever way: it keeps nothing, displaces nothing and moves no
window. Periods are counted back from the newest snapshot that has been here for a floor (a source that falls silent
makes nothing go by time alone), and in each period the one that arrived first stays.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from zfs.model import Snapshot

DAY = 86400
SHARE = 20
"""At most one of so many snapshots of a replica goes in one run, or one if there are fewer."""


@dataclass(frozen=True, slots=True)
class Keep:
    """The target's policy: `floor` in seconds, and of how many periods back the first arrival stays."""

    floor: int = 30 * DAY
    hourly: int = 0
    daily: int = 30
    weekly: int = 8
    monthly: int = 12
    yearly: int = 5


@dataclass(frozen=True, slots=True)
class Stored:
    """One stored snapshot and from when on its age counts (`counted`): its receipt, or later if that is in doubt."""

    snapshot: Snapshot
    counted: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one stored snapshot. Reasons that it stays, or that nothing keeps it."""

    snapshot: Snapshot
    goes: bool
    reasons: tuple[str, ...]


def verdicts(
    keep: Keep,
    stored: Iterable[Stored],
    now: int,
    *,
    base: int | None = None,
    held: Mapping[str, Collection[str]] | None = None,
) -> list[Verdict]:
    """A verdict on each of the snapshots of one replica, in the order of their arrival.

    *base* is the guid from which a partly received stream goes on, *held* has by the part behind the @ the tags of
    others that hold a snapshot. What stays would stay again without what goes.
    """
    arrived = _in_order(stored, now)
    kept: dict[str, list[str]] = {
        one.snapshot.name: _guards(one.snapshot, base, held or {}) for one in arrived
    }
    settled: list[_Arrival] = []
    for one in arrived:
        if now - one.counted < keep.floor:
            kept[one.snapshot.name].append(_floor(keep.floor, now - one.counted))
        else:
            settled.append(one)
    if settled:
        kept[settled[-1].snapshot.name].append(
            "newest" if settled[-1] is arrived[-1] else "newest past the floor"
        )
        for period in _PERIODS:
            for name, place in _firsts(period, keep, settled):
                kept[name].append(place)
    return [_verdict(one.snapshot, kept[one.snapshot.name]) for one in arrived]


def this_run(found: Sequence[Verdict]) -> list[Verdict]:
    """*found* of one replica, with no more that goes than one run may let go: the earliest arrivals first."""
    room = max(1, len(found) // SHARE)
    limited = []
    for verdict in found:
        if verdict.goes and room == 0:
            verdict = Verdict(verdict.snapshot, False, (*verdict.reasons, "goes in a later run"))
        room -= verdict.goes
        limited.append(verdict)
    return limited


@dataclass(frozen=True, slots=True)
class _Arrival:
    """One stored snapshot with its age's beginning, and the time that its source claims, as far as that can be true."""

    snapshot: Snapshot
    counted: int
    claimed: int


def _in_order(stored: Iterable[Stored], now: int) -> list[_Arrival]:
    """As they arrived, which ZFS itself counts (createtxg is the target's); none counts from before an earlier one."""
    arrived: list[_Arrival] = []
    counted = 0
    for one in sorted(stored, key=lambda one: (one.snapshot.createtxg, one.snapshot.name)):
        received = min(one.counted, now)
        counted = max(counted, received)
        arrived.append(_Arrival(one.snapshot, counted, max(0, min(one.snapshot.creation, received))))
    return arrived


def _guards(snapshot: Snapshot, base: int | None, held: Mapping[str, Collection[str]]) -> list[str]:
    guards = [f"held: {tag}" for tag in sorted(held.get(snapshot.name, ()))]
    return [*guards, "base of a partly received stream"] if snapshot.guid == base else guards


def _floor(floor: int, age: int) -> str:
    if floor < 2 * DAY:
        return f"floor: {age // 3600} of {-(-floor // 3600)} hours since receipt"
    return f"floor: {age // DAY} of {-(-floor // DAY)} days since receipt"


def _verdict(snapshot: Snapshot, kept: Sequence[str]) -> Verdict:
    return Verdict(snapshot, not kept, tuple(kept) or ("past the floor, first of no period that is kept",))


@dataclass(frozen=True, slots=True)
class _Period:
    """A kind of period: its number for a time, and how many of them a policy keeps."""

    name: str
    number: Callable[[int], int]
    count: Callable[[Keep], int]


def _date(when: int) -> datetime:
    return datetime.fromtimestamp(when, UTC)


_PERIODS = (
    _Period("hourly", lambda when: when // 3600, lambda keep: keep.hourly),
    _Period("daily", lambda when: when // DAY, lambda keep: keep.daily),
    _Period("weekly", lambda when: (when // DAY + 3) // 7, lambda keep: keep.weekly),  # from Monday on
    _Period("monthly", lambda when: 12 * _date(when).year + _date(when).month, lambda keep: keep.monthly),
    _Period("yearly", lambda when: _date(when).year, lambda keep: keep.yearly),
)


def _firsts(period: _Period, keep: Keep, settled: Sequence[_Arrival]) -> Iterable[tuple[str, str]]:
    """The first arrival of each period that is kept, with its place, counted back from the last of *settled*."""
    count = period.count(keep)
    last = period.number(settled[-1].counted)
    seen: set[int] = set()
    for one in settled:
        number = period.number(one.claimed)
        if number not in seen and last - number < count:
            yield one.snapshot.name, f"{period.name} {last - number + 1} of {count}"
        seen.add(number)
