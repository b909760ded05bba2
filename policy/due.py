"""When a snapshot of a kind is due: when the newest of that kind is older than the policy's latest slot.

Sanoid's rule (2.3.0, `take_snapshots`), read in UTC. On purpose otherwise than sanoid: a yearly missed
before its date is caught up, a day of the month beyond the month's end means its last day, and the slot
before this month's is last month's, not 31 days ago.
"""

from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from policy.rules import KINDS, Kind, Policy


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
    moment = datetime.fromtimestamp(now, UTC)
    return {kind: int(_slot(policy, kind, moment).timestamp()) for kind in KINDS if policy.count(kind) > 0}


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


def _slot(policy: Policy, kind: Kind, now: datetime) -> datetime:
    match kind:
        case "frequently":
            minute = now.minute - now.minute % policy.frequent_period
            return now.replace(minute=minute, second=0)
        case "hourly":
            slot = now.replace(minute=policy.hourly_min, second=0)
            return slot if slot <= now else slot - timedelta(hours=1)
        case "daily":
            slot = now.replace(hour=policy.daily_hour, minute=policy.daily_min, second=0)
            return slot if slot <= now else slot - timedelta(days=1)
        case "weekly":
            slot = now.replace(hour=policy.weekly_hour, minute=policy.weekly_min, second=0)
            slot -= timedelta(days=(now.isoweekday() - policy.weekly_wday) % 7)
            return slot if slot <= now else slot - timedelta(days=7)
        case "monthly":
            slot = _monthly(policy, now.year, now.month)
            last = now.replace(day=1) - timedelta(days=1)
            return slot if slot <= now else _monthly(policy, last.year, last.month)
        case "yearly":
            slot = _yearly(policy, now.year)
            return slot if slot <= now else _yearly(policy, now.year - 1)


def _monthly(policy: Policy, year: int, month: int) -> datetime:
    day = min(policy.monthly_mday, monthrange(year, month)[1])
    return datetime(year, month, day, policy.monthly_hour, policy.monthly_min, tzinfo=UTC)


def _yearly(policy: Policy, year: int) -> datetime:
    day = min(policy.yearly_mday, monthrange(year, policy.yearly_mon)[1])
    return datetime(year, policy.yearly_mon, day, policy.yearly_hour, policy.yearly_min, tzinfo=UTC)


def _text(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%SZ}"
