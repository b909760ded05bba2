"""When a snapshot of a kind is due: when the newest of that kind is older than the policy's latest slot.

Sanoid's rule (2.3.0, `take_snapshots`). On purpose otherwise than sanoid: a yearly missed before its date is
caught up, and a day of the month beyond the month's end means its last day.

Slots of a day and longer are moments of the policy's time zone: each exists once, whatever the clocks do. One
that falls into an hour that comes twice means the first; one in an hour that is left out moves behind it
(PEP 495, fold 0). Hourly and shorter ones go on evenly through a change of the clocks.
"""

from calendar import monthrange
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from policy.rules import KINDS, Kind, Policy

_HOUR = 3600

END = 253_370_764_800
"""The beginning of the year 9999, where the calendar of this program ends: no slot is looked for from here on."""


@dataclass(frozen=True, slots=True)
class Due:
    """A snapshot to take now."""

    kind: Kind
    reason: str


def due(policy: Policy, newest: Mapping[Kind, int], now: int) -> list[Due]:
    """The kinds due at *now*, longest period first. *newest* has the newest creation of each kind.

    A missed slot is caught up once, however many were missed. A newest snapshot from the future (the clock
    went back) makes nothing due.
    """
    return due_since(latest_slots(policy, now), newest)


def latest_slots(policy: Policy, now: int) -> dict[Kind, int]:
    """For each kind that *policy* takes, the latest moment at or before *now* at which it was to be taken."""
    if not policy.autosnap:
        return {}
    zone = UTC if policy.timezone == "UTC" else ZoneInfo(policy.timezone)
    return {kind: _latest(policy, kind, now, zone) for kind in KINDS if policy.count(kind) > 0}


def due_since(slots: Mapping[Kind, int], newest: Mapping[Kind, int]) -> list[Due]:
    """What is due, for slots worked out once for many datasets."""
    found = []
    for kind, slot in slots.items():
        last = newest.get(kind)
        if last is None:
            found.append(Due(kind, f"no {kind} snapshot yet"))
        elif last < slot:
            found.append(Due(kind, f"newest {kind} is of {_text(last)}, due since {_text(slot)}"))
    return found


def _latest(policy: Policy, kind: Kind, now: int, zone: tzinfo) -> int:
    if kind == "frequently":
        # Sanoid counts within the hour: with a period of 25 minutes, at :00, :25 and :50.
        return now - (now - _hourly(now, 0, zone)) % (policy.frequent_period * 60)
    if kind == "hourly":
        return _hourly(now, policy.hourly_min * 60, zone)
    today = datetime.fromtimestamp(now, zone).date()
    if kind == "monthly":
        return _monthly(policy, now, today, zone)
    return max(slot for slot in _around(policy, kind, today, zone) if slot <= now)


def _hourly(now: int, past: int, zone: tzinfo) -> int:
    """The latest moment at or before *now* that was *past* seconds past the hour in the standard time of then."""
    offset, before = _standard(now, zone), _standard(now - _HOUR, zone)
    slot = now - (now + offset - past) % _HOUR
    if offset == before:
        return slot
    # The standard time itself changed within this hour, maybe by half an hour: no slot of the new one is older.
    old = now - (now + before - past) % _HOUR
    slots = [(slot, offset), (old, before), (old - _HOUR, before)]
    return max(at for at, then in slots if _standard(at, zone) == then)


def _standard(at: int, zone: tzinfo) -> int:
    """The offset of standard time, in seconds within the hour: that of every clock but Lord Howe's is always this."""
    local = datetime.fromtimestamp(at, zone)
    offset = (local.utcoffset() or timedelta()) - (local.dst() or timedelta())
    return int(offset.total_seconds()) % _HOUR


def _around(policy: Policy, kind: Kind, today: date, zone: tzinfo) -> Iterator[int]:
    """The slots around *today*, by the calendar: more than enough for one of them to be the latest."""
    match kind:
        case "daily":
            for back in range(-1, 4):
                yield _moment(today - timedelta(days=back), policy.daily_hour, policy.daily_min, zone)
        case "weekly":
            last = today - timedelta(days=(today.isoweekday() - policy.weekly_wday) % 7)
            for weeks in range(-1, 3):
                day = last - timedelta(weeks=weeks)
                yield _moment(day, policy.weekly_hour, policy.weekly_min, zone)
        case "yearly":
            for year in range(today.year - 2, today.year + 2):
                mday = min(policy.yearly_mday, monthrange(year, policy.yearly_mon)[1])
                day = date(year, policy.yearly_mon, mday)
                yield _moment(day, policy.yearly_hour, policy.yearly_min, zone)


def _monthly(policy: Policy, now: int, today: date, zone: tzinfo) -> int:
    """Before its day sanoid asks for one of the last 31 days; but never again for one that last month's day has."""
    slots = []
    for year, month in ((today.year, today.month), _month_before(today)):
        day = date(year, month, min(policy.monthly_mday, monthrange(year, month)[1]))
        slots.append(_moment(day, policy.monthly_hour, policy.monthly_min, zone))
    this, last = slots
    return this if this <= now else min(last, this - 31 * 86400)


def _month_before(day: date) -> tuple[int, int]:
    before = day.replace(day=1) - timedelta(days=1)
    return before.year, before.month


def _moment(day: date, hour: int, minute: int, zone: tzinfo) -> int:
    return int(datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone).timestamp())


def _text(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%SZ}"
