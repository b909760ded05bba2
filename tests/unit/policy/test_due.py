"""When a snapshot is due. Times are written as ISO text in UTC."""

from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy.due import due, latest_slots
from policy.rules import KINDS, Kind, Policy

NONE = Policy(name="p", hourly=0, daily=0, monthly=0)
ALL = Policy(name="p", frequently=1, hourly=1, daily=1, weekly=1, monthly=1, yearly=1)
DAY = 86400


def at(text: str) -> int:
    return int(datetime.fromisoformat(f"{text}Z").timestamp())


def policy(kind: Kind, **settings: int) -> Policy:
    return replace(NONE, **{kind: 1, **settings})


def slot(kind: Kind, now: str, **settings: int) -> int:
    return latest_slots(policy(kind, **settings), at(now))[kind]


@pytest.mark.parametrize(
    ("kind", "settings", "now", "expected"),
    [
        ("frequently", {}, "2026-11-03T10:44:59", "2026-11-03T10:30"),
        ("frequently", {}, "2026-11-03T10:45:00", "2026-11-03T10:45"),
        ("frequently", {"frequent_period": 7}, "2026-11-03T10:59:59", "2026-11-03T10:56"),
        ("frequently", {"frequent_period": 7}, "2026-11-03T11:00:00", "2026-11-03T11:00"),
        ("hourly", {}, "2026-11-03T10:59:59", "2026-11-03T10:00"),
        ("hourly", {"hourly_min": 30}, "2026-11-03T10:29:59", "2026-11-03T09:30"),
        ("hourly", {"hourly_min": 30}, "2026-11-03T00:00:00", "2026-11-02T23:30"),
        ("daily", {}, "2026-11-03T23:58:59", "2026-11-02T23:59"),
        ("daily", {}, "2026-11-03T23:59:00", "2026-11-03T23:59"),
        ("daily", {"daily_hour": 0, "daily_min": 0}, "2026-11-03T00:00:00", "2026-11-03T00:00"),
        # 2026-11-02 is a Monday.
        ("weekly", {}, "2026-11-02T23:29:59", "2026-10-26T23:30"),
        ("weekly", {}, "2026-11-02T23:30:00", "2026-11-02T23:30"),
        ("weekly", {}, "2026-11-08T12:00:00", "2026-11-02T23:30"),
        ("weekly", {"weekly_wday": 0}, "2026-11-08T23:30:00", "2026-11-08T23:30"),
        ("weekly", {"weekly_wday": 0}, "2026-11-08T23:29:00", "2026-11-01T23:30"),
        ("monthly", {}, "2026-11-01T00:00:00", "2026-11-01T00:00"),
        ("monthly", {"monthly_mday": 15}, "2026-03-10T00:00:00", "2026-02-12T00:00"),
        ("monthly", {"monthly_mday": 31}, "2026-11-30T00:00:00", "2026-11-30T00:00"),
        ("monthly", {"monthly_mday": 31}, "2026-11-29T23:59:59", "2026-10-30T00:00"),
        ("monthly", {"monthly_mday": 31}, "2028-03-01T00:00:00", "2028-02-29T00:00"),
        ("monthly", {"monthly_mday": 31}, "2026-01-05T00:00:00", "2025-12-31T00:00"),
        ("yearly", {}, "2026-12-31T23:59:59", "2026-01-01T00:00"),
        ("yearly", {"yearly_mon": 7, "yearly_mday": 4}, "2026-07-03T23:59:59", "2025-07-04T00:00"),
        ("yearly", {"yearly_mon": 2, "yearly_mday": 31}, "2028-02-29T00:00:00", "2028-02-29T00:00"),
        ("yearly", {"yearly_mon": 2, "yearly_mday": 31}, "2027-01-01T00:00:00", "2026-02-28T00:00"),
    ],
)
def test_the_latest_slot(kind: Kind, settings: dict[str, int], now: str, expected: str) -> None:
    assert slot(kind, now, **settings) == at(expected)


@given(st.integers(0, 2**32), st.sampled_from(KINDS))
def test_a_slot_is_never_in_the_future_and_at_most_a_period_back(now: int, kind: Kind) -> None:
    back = now - latest_slots(ALL, now)[kind]
    assert 0 <= back < {"yearly": 366 * DAY}.get(kind, ALL.period(kind))


@pytest.mark.parametrize("mday", range(1, 32))
def test_before_its_day_a_monthly_is_due_since_31_days_before_that_as_with_sanoid(mday: int) -> None:
    """So the slot goes back when the month begins, by three days at most and never far enough to be due again."""
    monthly = policy("monthly", monthly_mday=mday)
    highest = 0
    for now in range(at("2026-01-01T00:00:00"), at("2029-01-01T00:00:00"), DAY):
        found = latest_slots(monthly, now)["monthly"]
        assert highest - 3 * DAY <= found
        highest = max(highest, found)


def test_the_first_of_each_kind_is_due_at_once_longest_period_first() -> None:
    assert [one.kind for one in due(ALL, {}, at("2026-11-03T10:00:00"))] == list(KINDS)


def test_one_made_exactly_at_its_slot_is_enough() -> None:
    now = at("2026-11-03T10:10:00")
    assert due(policy("hourly"), {"hourly": at("2026-11-03T10:00:00")}, now) == []
    (late,) = due(policy("hourly"), {"hourly": at("2026-11-03T09:59:59")}, now)
    assert late.reason == "newest hourly is of 2026-11-03 09:59:59Z, due since 2026-11-03 10:00:00Z"


def test_a_laptop_that_slept_for_three_days_takes_one_of_each_on_waking() -> None:
    now = at("2026-11-05T08:13:00")
    newest: dict[Kind, int] = {"hourly": at("2026-11-02T20:00:00"), "daily": at("2026-11-01T23:59:00")}
    sleeper = replace(NONE, hourly=24, daily=7)
    assert [one.kind for one in due(sleeper, newest, now)] == ["daily", "hourly"]
    assert due(sleeper, {"hourly": now, "daily": now}, now) == []


def test_a_yearly_missed_before_this_years_date_is_caught_up() -> None:
    newest: dict[Kind, int] = {"yearly": at("2024-07-04T00:00:00")}
    late = policy("yearly", yearly_mon=7, yearly_mday=4)
    assert len(due(late, newest, at("2026-02-01T00:00:00"))) == 1


def test_one_from_the_future_makes_nothing_due() -> None:
    now = at("2026-11-03T10:00:00")
    assert due(policy("hourly"), {"hourly": now + 7200}, now) == []


def test_without_autosnap_nothing_is_due() -> None:
    assert due(replace(ALL, autosnap=False), {}, 0) == []
