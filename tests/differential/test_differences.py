"""Where we differ from sanoid on purpose: what it does, and what we do. Each has its paragraph in docs/sanoid.md."""

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from policy.sanoid_conf import SanoidConfError, read
from tests.differential.oracle import Oracle
from tests.differential.world import (
    CONF,
    Outcome,
    World,
    ours,
    outcome_of,
    planned,
    resolution_of,
    with_capacity,
    world,
)

pytestmark = pytest.mark.oracle

HOUR, DAY = 3600, 86400
DOCS = Path(__file__).parents[2] / "docs" / "sanoid.md"


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    return Oracle(tmp_path_factory.mktemp("sanoid"))


def at(text: str) -> int:
    """Seconds of a moment in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def only(**counts: int) -> str:
    """The six counts, 0 but for these."""
    kinds = ("yearly", "monthly", "weekly", "daily", "hourly", "frequently")
    return "".join(f"{kind} = {counts.get(kind, 0)}\n" for kind in kinds)


def snaps(dataset: str, kind: str, *creations: int) -> list[tuple[str, int]]:
    return [
        (f"{dataset}@{datetime.fromtimestamp(one, UTC):autosnap_%Y-%m-%d_%H:%M:%S}_{kind}", one)
        for one in creations
    ]


def mistakes(conf: str) -> list[str]:
    with pytest.raises(SanoidConfError) as caught:
        read([(CONF, conf)])
    return [str(problem) for problem in caught.value.problems]


def takes(outcome: Outcome) -> set[tuple[str, str]]:
    return {(dataset, kind) for dataset, kind, _ in outcome.take}


# 1


def test_a_missed_yearly_before_its_date(oracle: Oracle) -> None:
    conf = f"[tank]\n{only(yearly=3)}yearly_mon = 12\nyearly_mday = 24\n"
    its = world(conf, at("2026-03-01"), "tank", snapshots=snaps("tank", "yearly", at("2024-12-24 00:01")))
    assert not oracle.plan(its).take
    assert takes(ours(its)) == {("tank", "yearly")}


# 2


@pytest.mark.parametrize(
    ("keys", "now"),
    [
        (f"{only(monthly=3)}monthly_mday = 31\n", "2026-04-30 12:00"),
        (f"{only(monthly=3)}monthly_mday = 30\n", "2026-02-28 12:00"),
        (f"{only(monthly=3)}monthly_mday = 29\n", "2026-02-28 12:00"),
        (f"{only(yearly=3)}yearly_mon = 2\nyearly_mday = 29\n", "2026-02-28 12:00"),
    ],
)
def test_a_day_that_this_month_does_not_have(oracle: Oracle, keys: str, now: str) -> None:
    kind = "monthly" if "monthly = 3" in keys else "yearly"
    conf = f"[tank]\n{keys}[tank/a]\n{only(hourly=1)}"
    its = world(conf, at(now), "tank", "tank/a", snapshots=snaps("tank", kind, at(now) - 400 * DAY))
    run = oracle.run(its, "--cron")
    assert run.code != 0
    assert "out of range" in run.stderr
    assert run.calls == ()
    assert takes(ours(its)) == {("tank", kind), ("tank/a", "hourly")}


# 3


def test_a_year_of_an_age(oracle: Oracle) -> None:
    conf = f"[tank]\n{only(yearly=3)}yearly_warn = 1y\nyearly_crit = 2y\n"
    now = at("2026-03-01")
    its = world(conf, now, "tank", snapshots=snaps("tank", "yearly", now - 5 * 365 * DAY))
    run = oracle.run(its, "--monitor-snapshots")
    assert (run.code, run.stdout.splitlines()[-1]) == (
        0,
        "OK: all monitored datasets (tank) have fresh snapshots",
    )
    limit = resolution_of(its).chosen["tank"].policy.monitor.yearly
    assert (limit.warn, limit.crit) == (365 * DAY, 2 * 365 * DAY)


# 4


def test_a_count_that_is_no_number(oracle: Oracle) -> None:
    now = at("2026-03-01")
    conf = "[tank]\nhourly = two\n"
    its = world(conf, now, "tank", snapshots=snaps("tank", "hourly", now - 60, now - 30))
    assert len(oracle.plan(its).prune) == 2
    assert mistakes(conf) == ['sanoid.conf:2: [tank] hourly: "two" is not a whole number, 0 or more']


def test_a_negative_count(oracle: Oracle) -> None:
    now = at("2026-03-01")
    conf = "[tank]\nhourly = -1\n"
    its = world(conf, now, "tank", snapshots=snaps("tank", "hourly", now))
    assert len(oracle.plan(its).prune) == 1
    assert mistakes(conf) == ["sanoid.conf:2: [tank] hourly: -1 is out of range: 0 or more"]


@pytest.mark.parametrize("value", ["150", "50 # percent", "half"])
def test_a_prune_defer_that_is_no_percentage(oracle: Oracle, value: str) -> None:
    conf = f"[tank]\nprune_defer = {value}\n"
    run = oracle.run(world(conf, at("2026-03-01"), "tank"), "--cron")
    assert run.code != 0
    assert len(run.calls) == 3, "sanoid has taken its snapshots by then"
    (mistake,) = mistakes(conf)
    assert "[tank] prune_defer" in mistake


@pytest.mark.parametrize(
    "setting",
    ["hourly_min = 75", "daily_hour = 24", "monthly_mday = 99", "yearly_mon = 13", "frequent_period = 0"],
)
def test_times_that_do_not_exist(oracle: Oracle, setting: str) -> None:
    conf = f"[tank]\n{only(frequently=1, hourly=1, daily=1, monthly=1, yearly=1)}{setting}\n"
    run = oracle.run(world(conf, at("2026-03-01"), "tank"), "--cron")
    assert run.code != 0
    assert run.calls == ()
    (mistake,) = mistakes(conf)
    assert f"[tank] {setting.partition(' ')[0]}: " in mistake


def test_sunday_as_the_seventh_day(oracle: Oracle) -> None:
    sunday = at("2026-03-01 10:00")
    conf = f"[tank]\n{only(weekly=3)}weekly_wday = 7\n"
    its = world(conf, sunday, "tank", snapshots=snaps("tank", "weekly", sunday - 60))
    assert takes(oracle.plan(its)) == {("tank", "weekly")}, "and so with every run until 23:30"
    assert mistakes(conf) == [
        "sanoid.conf:8: [tank] weekly_wday: 7 is out of range: from 0 (Sunday) to 6. Did you mean 0?"
    ]


def test_an_age_that_is_none(oracle: Oracle) -> None:
    conf = f"[tank]\n{only(hourly=3)}hourly_crit = 6 hours\n"
    now = at("2026-03-01")
    its = world(conf, now, "tank", snapshots=snaps("tank", "hourly", now - 60))
    assert oracle.run(its, "--monitor-snapshots").code == 2
    assert mistakes(conf) == [
        'sanoid.conf:8: [tank] hourly_crit: "6 hours" is not an age like 90m, 36h or 32d. Did you mean 6h?'
    ]


# 5


def test_two_sections_for_one_dataset(oracle: Oracle) -> None:
    now = at("2026-03-01 12:30")
    conf = f"[tank]\nrecursive = yes\n{only(hourly=1)}[tank/by another name]\npath = tank/a\n{only(hourly=5, daily=1)}"
    old = snaps("tank/a", "hourly", *(now - hours * HOUR for hours in (9, 8, 7, 0)))
    its = world(conf, now, "tank", "tank/a", snapshots=old)
    sanoid, us = oracle.plan(its), ours(its)
    assert {name for name, _ in old[:3]} == sanoid.prune, "one hourly is kept, as [tank] wants it"
    assert us.prune == frozenset()
    assert takes(sanoid) == takes(us) == {("tank", "hourly"), ("tank/a", "daily")}
    assert (
        "[tank/a] is for tank/a, as [tank/by another name] is; only [tank/by another name] counts"
        in resolution_of(its).notes
    )


# 6


def test_prune_defer_of_a_section_with_a_path(oracle: Oracle) -> None:
    now = at("2026-03-01 12:30")
    conf = f"[tank/x]\npath = dozer/y\nprune_defer = 60\nautosnap = no\n{only(hourly=1)}"
    its = world(
        conf,
        *(now, "dozer", "dozer/y", "tank"),
        snapshots=snaps("dozer/y", "hourly", now - 9 * HOUR, now - 8 * HOUR),
    )
    full = with_capacity(its, tank=50, dozer=90)
    assert oracle.plan(full).prune == frozenset()
    assert len(ours(full).prune) == 1
    empty = with_capacity(its, tank=90, dozer=50)
    assert len(oracle.plan(empty).prune) == 1
    assert ours(empty).prune == frozenset()


def test_hooks_of_a_section_with_a_path(oracle: Oracle, tmp_path: Path) -> None:
    conf = f"[tank/x]\npath = tank/y\npre_snapshot_script = touch {tmp_path}/ran\n{only(hourly=1)}"
    its = world(conf, at("2026-03-01 12:30"), "tank", "tank/y")
    assert len(oracle.run(its, "--cron").calls) == 1
    assert not (tmp_path / "ran").exists()
    assert resolution_of(its).chosen["tank/y"].policy.hooks.pre_snapshot_script == f"touch {tmp_path}/ran"


# 7


def test_what_is_below_a_name_with_a_blank(oracle: Oracle) -> None:
    conf = f"[tank/my docs]\nrecursive = yes\n{only(hourly=1)}"
    its = world(conf, at("2026-03-01 12:30"), "tank", "tank/my docs", "tank/my docs/a")
    assert takes(oracle.plan(its)) == {("tank/my docs", "hourly")}
    assert takes(ours(its)) == {("tank/my docs", "hourly"), ("tank/my docs/a", "hourly")}


# 8


def test_a_pool_whose_name_begins_with_template(oracle: Oracle) -> None:
    conf = f"[templates]\nrecursive = yes\n{only(hourly=1)}"
    its = world(conf, at("2026-03-01 12:30"), "templates", "templates/a")
    assert oracle.plan(its) == Outcome()
    assert takes(ours(its)) == {("templates", "hourly"), ("templates/a", "hourly")}


# 9


def test_a_name_with_creation_in_it(oracle: Oracle) -> None:
    now = at("2026-03-01 12:30")
    conf = f"[tank]\nautosnap = no\n{only(hourly=1)}"
    names = [("tank@autosnap_x_hourlycreation5", now - HOUR), *snaps("tank", "hourly", now - 2 * HOUR)]
    its = world(conf, now, "tank", snapshots=names)
    assert oracle.plan(its).prune == {"tank@autosnap_x_hourly"}, "which may be another, or none"
    assert ours(its).prune == frozenset()


# 10


def test_a_blank_behind_a_value_of_a_template_further_down(oracle: Oracle) -> None:
    conf = f"[tank]\nuse_template = quiet\n{only(hourly=1)}[template_quiet]\nautosnap = no  \n"
    its = world(conf, at("2026-03-01 12:30"), "tank")
    assert takes(oracle.plan(its)) == {("tank", "hourly")}
    assert ours(its).take == frozenset()


def test_a_duplicate_in_the_default_template_further_down(oracle: Oracle) -> None:
    now = at("2026-03-01 12:30")
    conf = "[tank]\nautosnap = no\n[template_default]\nhourly = 1\nhourly = 2\n"
    its = world(conf, now, "tank", snapshots=snaps("tank", "hourly", now - 9 * HOUR, now - 8 * HOUR))
    assert oracle.plan(its).prune == frozenset(), "the count is the address of a list in Perl's memory"
    assert len(ours(its).prune) == 1
    assert resolution_of(its).notes == (
        "sanoid.conf:5: [template_default] hourly: is set already at sanoid.conf:4; the first one counts",
    )


def test_older_sanoids_and_duplicates(oracle: Oracle) -> None:
    if oracle.version >= (2, 2):
        pytest.skip(f"sanoid {oracle.version} takes the first of two values, as we do")
    now = at("2026-03-01 12:30")
    conf = f"[tank]\nautosnap = no\n{only(hourly=1)}hourly = 1\n"
    its = world(conf, now, "tank", snapshots=snaps("tank", "hourly", now - 9 * HOUR, now - 8 * HOUR))
    assert oracle.plan(its).prune == frozenset()
    assert len(ours(its).prune) == 1


# 11


def test_recursive_as_a_pattern(oracle: Oracle) -> None:
    conf = f"[tank]\nrecursive = y.s\n{only(hourly=1)}"
    its = world(conf, at("2026-03-01 12:30"), "tank", "tank/a")
    assert takes(oracle.plan(its)) == {("tank", "hourly"), ("tank/a", "hourly")}
    assert takes(ours(its)) == {("tank", "hourly")}
    assert resolution_of(its).notes == (
        'sanoid.conf:2: [tank] recursive: "y.s" is neither yes, no nor zfs: it counts as no',
    )


# 12


def test_a_monthly_when_the_clocks_went_back(oracle: Oracle) -> None:
    """On the 5th of November it is 31 days and an hour since the 15th of October, 0:00 by the clock."""
    conf = f"[tank]\n{only(monthly=6)}monthly_mday = 15\n"
    now = at("2026-11-05 12:00")
    its = world(conf, now, "tank", snapshots=snaps("tank", "monthly", at("2026-10-15 04:00:01")))
    run = oracle.run(its, "--cron", "--readonly", timezone="America/New_York")
    assert takes(run.said()) == {("tank", "monthly")}
    assert not zoned(its, "America/New_York").take


def test_a_daily_in_the_hour_that_comes_twice(oracle: Oracle) -> None:
    conf = f"[tank]\n{only(daily=6)}daily_hour = 0\ndaily_min = 30\n"
    twice = at("2026-11-01 06:45")  # 1:45 for the second time
    its = world(conf, twice, "tank", snapshots=snaps("tank", "daily", at("2026-11-01 04:30:01")))
    run = oracle.run(its, "--cron", "--readonly", timezone="America/New_York")
    assert takes(run.said()) == {("tank", "daily")}
    assert not zoned(its, "America/New_York").take


def test_no_frequently_in_the_hour_that_comes_twice(oracle: Oracle) -> None:
    conf = f"[tank]\n{only(frequently=6)}"
    twice = at("2026-11-01 06:31")
    its = world(conf, twice, "tank", snapshots=snaps("tank", "frequently", at("2026-11-01 05:45:01")))
    run = oracle.run(its, "--cron", "--readonly", timezone="America/New_York")
    assert not run.said().take
    assert takes(zoned(its, "America/New_York")) == {("tank", "frequently")}


def test_names_are_in_utc(oracle: Oracle) -> None:
    its = world(f"[tank]\n{only(hourly=6)}", at("2026-11-01 06:00"), "tank")
    run = oracle.run(its, "--cron", timezone="America/New_York")
    assert run.calls == ("snapshot tank@autosnap_2026-11-01_01:00:00_hourly",), "as it did an hour ago"
    tick = planned(its, resolution_of(its, timezone="America/New_York"))
    assert [group.names for group in tick.groups(its.now)] == [("tank@autosnap_2026-11-01_06:00:00_hourly",)]


def zoned(its: World, timezone: str) -> Outcome:
    return outcome_of(planned(its, resolution_of(its, timezone=timezone)))


# 13


def test_what_is_held(oracle: Oracle) -> None:
    now = at("2026-03-01 12:30")
    conf = f"[tank]\nautosnap = no\n{only(hourly=1)}"
    old, _ = names = snaps("tank", "hourly", now - 9 * HOUR, now - 8 * HOUR)
    its = world(conf, now, "tank", snapshots=names)
    assert oracle.plan(its).prune == {old[0]}
    assert not planned(its, resolution_of(its), holds=[old[0]]).destroy


# 14


def test_replicas_of_others(oracle: Oracle) -> None:
    now = at("2026-03-01 12:30")
    conf = f"[tank]\nrecursive = zfs\n{only(hourly=1)}"
    names = snaps("tank/meshkeep/home", "hourly", now - 9 * HOUR, now - 8 * HOUR)
    its = world(conf, now, "tank", "tank/a", "tank/meshkeep", "tank/meshkeep/home", snapshots=names)
    sanoid = oracle.plan(its)
    assert sanoid.take == {("tank", "hourly", True)}, "of the replicas too"
    assert sanoid.prune == {names[0][0]}
    tick = planned(its, resolution_of(its, ["tank/meshkeep"]))
    assert [take.along for take in tick.take] == [("tank/a",)]
    assert not tick.destroy


# 15


def test_a_pool_that_is_gone(oracle: Oracle) -> None:
    """With prune_defer sanoid asks zpool, and dies before it has come to the others."""
    now = at("2026-03-01 12:30")
    conf = f"[gone]\nprune_defer = 50\n{only(hourly=1)}[tank]\nautosnap = no\n{only(hourly=1)}"
    its = world(conf, now, "tank", snapshots=snaps("tank", "hourly", now - 9 * HOUR, now - 8 * HOUR))
    run = oracle.run(its, "--cron")
    assert run.code != 0
    assert "invalid capacity value" in run.stderr
    assert len(ours(its).prune) == 1
    assert resolution_of(its).unmatched == ("gone",)


# 16


def test_a_name_that_is_taken(oracle: Oracle) -> None:
    """The clock went back, and the same second comes again."""
    now = at("2026-03-01 12:30")
    names = [("tank@autosnap_2026-03-01_12:30:00_hourly", now - 2 * HOUR)]
    its = world(f"[tank]\n{only(hourly=1)}", now, "tank", snapshots=names)
    assert takes(oracle.plan(its)) == {("tank", "hourly")}, "and zfs refuses"
    tick = planned(its, resolution_of(its))
    assert not tick.take
    assert [notice.code for notice in tick.warnings] == ["name_taken"]


def test_every_difference_has_its_paragraph() -> None:
    numbers = re.findall(r"^(\d+)\. ", DOCS.read_text(), re.MULTILINE)
    here = re.findall(r"^# (\d+)$", Path(__file__).read_text(), re.MULTILINE)
    assert numbers == here == [str(number) for number in range(1, len(here) + 1)]
