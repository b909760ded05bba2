"""The line and the level of ``check replication``."""

from dataclasses import replace

import pytest

from node.replication_check import Copy, replication
from policy.checks import Level

NOW = 1_800_000_000
HOUR = 3600
DAY = 24 * HOUR


def copy(
    age: int | None, dataset: str = "tank/vm", late_after: int = DAY, trouble: str = "", paused: bool = False
) -> Copy:
    return Copy(dataset, "cloud", None if age is None else NOW - age, late_after, trouble, paused)


@pytest.mark.parametrize(
    ("age", "level"),
    [
        (0, Level.OK),
        (DAY, Level.OK),
        (DAY + 1, Level.WARNING),
        (2 * DAY, Level.WARNING),
        (2 * DAY + 1, Level.CRITICAL),
    ],
)
def test_late_warns_and_twice_as_late_is_critical(age: int, level: Level) -> None:
    assert replication([copy(age)], NOW).level is level


def test_one_late_of_many_is_named_with_its_limit() -> None:
    found = replication([copy(0, "tank/a"), copy(26 * HOUR), copy(HOUR, "tank/b", late_after=2 * HOUR)], NOW)
    assert found.line == (
        "WARNING - 1 of 3: tank/vm on cloud 26h (limit 24h) | "
        "'worst_age'=93600s;7200;14400;0 'ok'=2;;;0 'bad'=1;;;0"
    )


def test_the_worst_comes_first_and_sets_the_level() -> None:
    found = replication([copy(25 * HOUR, "tank/a"), copy(99 * HOUR, "tank/b")], NOW)
    assert found.level is Level.CRITICAL
    assert found.text == "CRITICAL - 2 of 2: tank/b on cloud 99h (limit 24h), tank/a on cloud 25h (limit 24h)"


def test_a_rule_that_cannot_go_on_warns_while_the_copy_is_still_fresh() -> None:
    found = replication([copy(HOUR, trouble="key changed")], NOW)
    assert (found.level, found.text) == (
        Level.WARNING,
        "WARNING - 1 of 1: tank/vm on cloud (key changed)",
    )


def test_what_was_never_stored_is_not_fine() -> None:
    assert replication([copy(None)], NOW).text == "WARNING - 1 of 1: tank/vm on cloud not known to be stored"


def test_a_paused_rule_is_said_and_its_age_still_counts() -> None:
    fresh = replication([copy(HOUR, paused=True)], NOW)
    assert (fresh.level, fresh.text) == (
        Level.OK,
        "OK - one copy as fresh as the rules want; paused: tank/vm to cloud",
    )
    assert replication([copy(99 * HOUR, paused=True)], NOW).level is Level.CRITICAL


def test_without_rules_there_is_nothing_to_complain_of() -> None:
    assert replication([], NOW).line == "OK - no rule replicates anything"


class TestDrills:
    """What drills found, beside how fresh the copy is."""

    def test_one_that_found_the_copy_wanting_is_critical_however_fresh_that_is(self) -> None:
        found = replication([replace(copy(0), drill="drill failed: it does not open", wanting=True)], NOW)
        assert found.level is Level.CRITICAL
        assert found.line.startswith("CRITICAL - 1 of 1: tank/vm on cloud (drill failed: it does not open)")

    def test_one_that_could_not_be_run_or_is_overdue_warns(self) -> None:
        found = replication([replace(copy(0), drill="was last proven 40d ago"), copy(0, "tank/a")], NOW)
        assert found.level is Level.WARNING
        assert "1 of 2: tank/vm on cloud (was last proven 40d ago)" in found.line

    def test_it_hides_no_lateness(self) -> None:
        found = replication([replace(copy(3 * DAY), drill="was never proven")], NOW)
        assert found.level is Level.CRITICAL
        assert "72h" in found.line
        assert "was never proven" in found.line
