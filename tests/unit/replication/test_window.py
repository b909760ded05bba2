"""The hours of a first full send, on wall clocks that jump."""

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from replication.window import Window

NIGHT = Window.parse("01:00-06:00")
OVER_MIDNIGHT = Window.parse("22:30-05:00", "Europe/Berlin")


def at(text: str, zone: str = "UTC", fold: int = 0) -> int:
    moment = datetime.strptime(f"2026-{text}", "%Y-%m-%d %H:%M").replace(tzinfo=ZoneInfo(zone), fold=fold)
    return int(moment.timestamp())


@pytest.mark.parametrize(
    ("hour", "is_open"),
    [("00:59", False), ("01:00", True), ("05:59", True), ("06:00", False), ("13:00", False)],
)
def test_it_begins_at_its_first_minute_and_ends_before_its_last(hour: str, is_open: bool) -> None:
    assert NIGHT.is_open(at(f"11-24 {hour}")) is is_open


@pytest.mark.parametrize(
    ("hour", "is_open"),
    [("22:29", False), ("22:30", True), ("00:00", True), ("04:59", True), ("05:00", False)],
)
def test_over_midnight_by_the_clocks_of_its_zone(hour: str, is_open: bool) -> None:
    assert OVER_MIDNIGHT.is_open(at(f"11-24 {hour}", "Europe/Berlin")) is is_open


def test_how_long_until_it_changes() -> None:
    assert NIGHT.changes(at("11-24 00:00")) == 3600
    assert NIGHT.changes(at("11-24 01:00")) == 5 * 3600
    assert NIGHT.changes(at("11-24 00:59") + 59) == 1


def test_in_the_night_that_is_an_hour_longer_it_is_open_for_an_hour_longer() -> None:
    zone = "Europe/Berlin"
    night = Window.parse("01:00-06:00", zone)
    assert night.changes(at("10-25 01:00", zone)) == 6 * 3600
    assert night.is_open(at("10-25 02:30", zone, fold=1))


def test_hours_that_a_day_does_not_have_never_open() -> None:
    gone = Window.parse("02:00-03:00", "Europe/Berlin")
    before = at("03-29 01:59", "Europe/Berlin")
    assert not any(gone.is_open(before + minute * 60) for minute in range(120))
    assert gone.changes(before) > 20 * 3600


@pytest.mark.parametrize("text", ["", "1-6", "01:00", "24:00-01:00", "01:60-02:00", "03:00-03:00"])
def test_what_is_no_window_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"write it like|begins when it ends"):
        Window.parse(text)


def test_it_is_shown_as_it_was_written() -> None:
    assert str(OVER_MIDNIGHT) == "22:30-05:00"
