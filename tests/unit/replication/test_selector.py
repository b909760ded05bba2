"""Which snapshots a rule sends."""

import re

import pytest

from replication.selector import EVERY, Selector
from zfs.model import Snapshot

DAILY = "autosnap_2026-11-24_00:00:00_daily"
HOURLY = "autosnap_2026-11-24_00:00:00_hourly"


@pytest.mark.parametrize(
    ("selector", "wanted"),
    [
        (EVERY, {DAILY, HOURLY, "release-1", "my_daily"}),
        (Selector(("daily",)), {DAILY}),
        (Selector(("daily", "hourly")), {DAILY, HOURLY}),
        (Selector(names="release-.*"), {"release-1"}),
        (Selector(names="release"), set()),
        (Selector(("hourly",), "release-.*"), {HOURLY, "release-1"}),
    ],
)
def test_by_kind_by_name_or_both(selector: Selector, wanted: set[str]) -> None:
    names = [DAILY, HOURLY, "release-1", "my_daily"]
    assert {name for name in names if selector.wants(Snapshot("tank/a", name, 1, 1, 1))} == wanted


def test_it_says_what_it_selects() -> None:
    assert str(EVERY) == "all"
    assert str(Selector(("daily",), "v.*")) == "daily, /v.*/"


def test_equal_ones_are_equal() -> None:
    assert Selector(names="a") == Selector(names="a") != EVERY


def test_what_is_no_expression_is_told() -> None:
    with pytest.raises(re.error):
        Selector(names="(")
