"""When a snapshot is due, in every time zone and across every change of its clocks from 2000 to 2035.

A slice of it by default; all with MESHKEEP_SOAK=1. Zones whose clocks were always alike are one case.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from itertools import pairwise
from random import Random
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.due import due_since, latest_slots
from policy.naming import snapshot_name
from policy.rules import KINDS, Kind, Policy

QUARTER, HOUR, DAY = 900, 3600, 86400
FIRST, START, END, LAST = (
    int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (1997, 2000, 2036, 2039)
)
SOAK = os.environ.get("MESHKEEP_SOAK") == "1"
ALL = Policy(name="p", frequently=1, hourly=1, daily=1, weekly=1, monthly=1, yearly=1)
ODD = (
    "Africa/Casablanca",  # summer time but for Ramadan
    "America/Caracas",  # half an hour, twice
    "America/Havana",  # at midnight
    "America/Nuuk",  # the last hour of a day is left out
    "Antarctica/Troll",  # two hours
    "Asia/Pyongyang",  # half an hour
    "Australia/Lord_Howe",  # half an hour of summer time
    "Europe/Dublin",  # winter time is the exception
    "Pacific/Apia",  # 30 December 2011 is left out
)


@dataclass(frozen=True, slots=True)
class Change:
    """From `at` on the clocks of a zone show another offset. All in seconds."""

    at: int
    before: int
    after: int


def offset(zone: str, at: int) -> int:
    local = datetime.fromtimestamp(at, ZoneInfo(zone))
    return int((local.utcoffset() or timedelta()).total_seconds())


@cache
def history(zone: str) -> tuple[Change, ...]:
    """All changes from FIRST to LAST: some years more than are tried, for the years around those."""
    found = []
    for low in range(FIRST, LAST, DAY):
        early, late = low, low + DAY
        if offset(zone, early) == offset(zone, late):
            continue
        while late - early > 1:
            middle = (early + late) // 2
            if offset(zone, middle) == offset(zone, low):
                early = middle
            else:
                late = middle
        found.append(Change(late, offset(zone, early), offset(zone, late)))
    return tuple(found)


def changes(zone: str) -> list[Change]:
    """Those to be tried."""
    return [change for change in history(zone) if START <= change.at < END]


def cases() -> list[str]:
    """One zone of each kind of clocks that were changed at all; a slice of them unless it is to take long."""
    names = sorted(available_timezones())
    if not SOAK:
        names = [*ODD, *Random("zones").sample(names, 24)]
    alike = {history(name): name for name in reversed(names)}
    return sorted(name for name in alike.values() if changes(name))


def local(zone: str, at: int) -> datetime:
    """What its clock shows."""
    return datetime.fromtimestamp(at, ZoneInfo(zone)).replace(tzinfo=None)


def naive(at: int) -> datetime:
    return datetime.fromtimestamp(at, UTC).replace(tzinfo=None)


def around(change: Change, zone: str) -> Policy:
    """A policy whose moments are where it hurts: on the day of the change, near what is left out or comes twice.

    All are quarters of an hour: so are the offsets of all zones in these years.
    """
    random = Random(f"{zone} {change.at}")
    shown = naive(change.at + change.before) + timedelta(
        minutes=random.choice((-60, -30, -15, 0, 15, 45, 60))
    )
    moment = {}
    for kind in ("daily", "weekly", "monthly", "yearly"):
        end_of_day = random.random() < 0.2
        moment |= {f"{kind}_hour": 23 if end_of_day else shown.hour}
        moment |= {f"{kind}_min": 45 if end_of_day else shown.minute // 15 * 15}
    return replace(
        ALL,
        **moment,
        timezone=zone,
        frequent_period=random.choice((15, 30, 60)),
        hourly_min=random.choice((0, 15, 30, 45)),
        weekly_wday=shown.isoweekday() % 7,
        monthly_mday=shown.day,
        yearly_mon=shown.month,
        yearly_mday=shown.day,
    )


def walk(policy: Policy, ticks: Iterable[int]) -> dict[Kind, list[int]]:
    """The slots that a host took a snapshot for at these ticks, having all of them at the first."""
    taken: dict[Kind, list[int]] = {kind: [] for kind in KINDS}
    newest: dict[Kind, int] = {}
    for now in ticks:
        slots = latest_slots(policy, now)
        if not newest:
            newest = dict.fromkeys(KINDS, now)
        for one in due_since(slots, newest):
            taken[one.kind].append(slots[one.kind])
            newest[one.kind] = now
    return taken


def label(zone: str, slot: int, fits: Callable[[datetime], bool]) -> date:
    """The date whose moment it is: as the clock shows it, or would show had it not just been put forward."""
    shown = local(zone, slot)
    if fits(shown):
        return shown.date()
    for change in history(zone):
        if change.at <= slot < change.at + change.after - change.before:
            would = naive(slot + change.before)
            if fits(would):
                return would.date()
    raise AssertionError(f"{zone}: {slot} ({shown}) is no moment of the policy")


def is_quiet(labels: Sequence[date], first: date, last: date, slack: int) -> bool:
    """Whether nothing is missing at either end."""
    return labels[0] - first <= timedelta(slack) and last - labels[-1] <= timedelta(slack)


@pytest.mark.parametrize("zone", cases())
def test_one_for_each_day_week_month_and_year_and_evenly_within_the_day(zone: str) -> None:
    found = changes(zone)
    for change in found if SOAK else Random(zone).sample(found, min(3, len(found))):
        check(zone, change)


@pytest.mark.parametrize("zone", ["America/Caracas", "America/Nuuk", "Asia/Pyongyang", "Pacific/Apia"])
def test_at_every_change_of_the_oddest(zone: str) -> None:
    for change in changes(zone)[-4:]:
        check(zone, change)


def check(zone: str, change: Change) -> None:
    policy = around(change, zone)
    middle = change.at - change.at % QUARTER
    fine = range(middle - 2 * DAY, middle + 2 * DAY, QUARTER)
    days = range(middle - 30 * DAY, middle + 30 * DAY, 6 * HOUR)
    years = range(middle - 800 * DAY, middle + 800 * DAY, 6 * DAY)
    taken = walk(policy, sorted({*fine, *days, *years, *month_ends(zone, years)}))

    def labels(kind: Kind, fits: Callable[[datetime], bool]) -> list[date]:
        hour, minute = getattr(policy, f"{kind}_hour"), getattr(policy, f"{kind}_min")
        return [
            label(zone, slot, lambda shown: (shown.hour, shown.minute) == (hour, minute) and fits(shown))
            for slot in taken[kind]
            if kind not in ("daily", "weekly") or days[0] < slot < days[-1]
        ]

    def last_day(shown: datetime) -> int:
        return ((shown.replace(day=1) + timedelta(31)).replace(day=1) - timedelta(1)).day

    says = f"{zone}, change at {change.at}, {policy}"
    first, last = local(zone, days[0]).date(), local(zone, days[-1]).date()
    exist = sorted({local(zone, at).date() for at in range(days[0], days[-1], HOUR)})
    daily = labels("daily", lambda shown: True)
    assert daily == [day for day in exist if daily[0] <= day <= daily[-1]], says
    assert is_quiet(daily, first, last, 1), says

    weekly = labels("weekly", lambda shown: shown.isoweekday() % 7 == policy.weekly_wday)
    assert {later - day for day, later in pairwise(weekly)} == {timedelta(7)}, says
    assert is_quiet(weekly, first, last, 7), says

    first, last = local(zone, years[0]).date(), local(zone, years[-1]).date()
    monthly = labels("monthly", lambda shown: shown.day == min(policy.monthly_mday, last_day(shown)))
    months = [12 * day.year + day.month for day in monthly]
    assert months == list(range(months[0], months[-1] + 1)), says
    assert is_quiet(monthly, first, last, 31), says

    yearly = labels(
        "yearly",
        lambda shown: (
            (shown.month, shown.day) == (policy.yearly_mon, min(policy.yearly_mday, last_day(shown)))
        ),
    )
    assert [day.year for day in yearly] == list(range(yearly[0].year, yearly[-1].year + 1)), says
    assert is_quiet(yearly, first, last, 366), says

    if standard(zone, change.at - 1) == standard(zone, change.at):
        periods: dict[Kind, int] = {"hourly": HOUR, "frequently": policy.frequent_period * 60}
        for kind, period in periods.items():
            within = [slot for slot in taken[kind] if fine[0] < slot <= fine[-1]]
            assert {later - slot for slot, later in pairwise(within)} == {period}, says
            assert (within[0] - fine[0] <= period, fine[-1] - within[-1] < period) == (True, True), says


def month_ends(zone: str, within: range) -> list[int]:
    """The last quarter of an hour of each month: when the slot of its last evening is still that of this month."""
    info = ZoneInfo(zone)
    starts = [
        int(datetime(year, month, 1, tzinfo=info).timestamp())
        for year in range(1998, 2039)
        for month in range(1, 13)
    ]
    return [at - QUARTER for at in starts if within[0] < at - QUARTER < within[-1]]


def standard(zone: str, at: int) -> int:
    shown = datetime.fromtimestamp(at, ZoneInfo(zone))
    return int(((shown.utcoffset() or timedelta()) - (shown.dst() or timedelta())).total_seconds()) % HOUR


@pytest.mark.parametrize("zone", ODD)
def test_minute_by_minute_no_slot_lies_ahead_or_goes_back_and_none_is_far(zone: str) -> None:
    for change in changes(zone) if SOAK else changes(zone)[:1] + changes(zone)[-1:]:
        policy = replace(around(change, zone), monthly=0)
        before = latest_slots(policy, change.at - 3 * HOUR - 1)
        for now in range(change.at - 3 * HOUR, change.at + 3 * HOUR, 60):
            slots = latest_slots(policy, now)
            assert all(before[kind] <= slots[kind] <= now for kind in slots), f"{zone} {now} {policy}"
            assert now - slots["hourly"] < 2 * HOUR
            before = slots


ZONES = st.sampled_from(sorted(available_timezones()))
MOMENTS = st.integers(START, END)


@given(ZONES, MOMENTS, st.integers(0, 800 * DAY))
def test_no_slot_lies_ahead_or_goes_back(zone: str, now: int, later: int) -> None:
    policy = replace(ALL, timezone=zone)
    slots, then = latest_slots(policy, now), latest_slots(policy, now + later)
    for kind in KINDS:
        assert slots[kind] <= now
        assert then[kind] >= slots[kind]


@given(ZONES, MOMENTS, st.integers(60, 400 * DAY))
def test_a_laptop_takes_on_waking_one_of_each_kind_that_it_slept_through(
    zone: str, asleep: int, slept: int
) -> None:
    policy, awake = replace(ALL, timezone=zone), asleep + slept
    taken = due_since(latest_slots(policy, awake), dict.fromkeys(KINDS, asleep))
    missed = {kind for kind, slot in latest_slots(policy, awake).items() if asleep < slot}
    assert [one.kind for one in taken] == [kind for kind in KINDS if kind in missed]
    newest = {kind: awake if kind in missed else asleep for kind in KINDS}
    assert due_since(latest_slots(policy, awake), newest) == []


@given(ZONES, MOMENTS, st.lists(st.integers(1, 3 * DAY), min_size=20, max_size=60))
def test_whatever_ticks_are_lost_the_newest_is_never_older_than_the_slot_and_no_slot_has_two(
    zone: str, start: int, steps: list[int]
) -> None:
    policy = replace(ALL, timezone=zone)
    newest: dict[Kind, int] = {}
    covered: dict[Kind, int] = {}
    now = start
    for step in steps:
        now += step
        slots = latest_slots(policy, now)
        for one in due_since(slots, newest):
            assert slots[one.kind] > covered.get(one.kind, 0)
            covered[one.kind], newest[one.kind] = slots[one.kind], now
        assert all(newest[kind] >= slots[kind] for kind in KINDS)


@given(ZONES, MOMENTS, st.integers(1, HOUR))
def test_a_clock_that_goes_back_up_to_an_hour_takes_nothing_twice(zone: str, now: int, back: int) -> None:
    policy = replace(ALL, timezone=zone)
    newest = dict.fromkeys(KINDS, now)
    for again in range(now - back, now + 1, 60):
        assert due_since(latest_slots(policy, again), newest) == []


@given(MOMENTS, MOMENTS, st.sampled_from(KINDS))
def test_names_are_in_the_order_of_time_and_never_clash(one: int, other: int, kind: Kind) -> None:
    names = snapshot_name(kind, one), snapshot_name(kind, other)
    assert (names[0] < names[1]) == (one < other)
    assert (names[0] == names[1]) == (one == other)
