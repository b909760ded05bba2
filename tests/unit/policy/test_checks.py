"""What `check` says: the levels, sanoid's words, and the bugs of sanoid that it does not have."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from policy.checks import (
    MANY,
    Figure,
    Level,
    Outcome,
    Seen,
    capacity,
    health,
    missing_pools,
    silent,
    snapshots,
    span,
    together,
    unknown,
    usable,
    worst,
)
from policy.naming import snapshot_name
from policy.rules import KINDS, Chosen, Kind, Limit, Monitor, Policy, PoolLimits, Resolution
from zfs.model import Pool, PoolStatus, Snapshot, Vdev

NOW = 1_800_000_000
HOUR, DAY = 3600, 86400
ONLY_HOURLY = Policy(name="p", hourly=24, daily=0, monthly=0)


def taken(dataset: str, kind: Kind, ago: int) -> Snapshot:
    creation = NOW - ago
    return Snapshot(dataset, snapshot_name(kind, creation), creation, creation, creation)


def of(policy: Policy, *datasets: str) -> Resolution:
    return Resolution({name: Chosen(policy, "because") for name in datasets})


def check(policy: Policy, ages: Mapping[Kind, int], unchanged: tuple[str, ...] = ()) -> Outcome:
    """One dataset whose newest snapshots are so many seconds old."""
    history = [taken("tank/a", kind, ago) for kind, ago in ages.items()]
    return snapshots(of(policy, "tank/a"), Seen({"tank/a": history}, unchanged=unchanged), NOW)


def watching(kind: Kind, warn: int, crit: int, **flags: bool) -> Policy:
    counts = {one: int(one == kind) for one in KINDS}
    limits = {kind: Limit(warn, crit)}
    return Policy(name="p", **counts, monitor=Monitor(**limits, **flags))  # type: ignore[arg-type]


class TestSanoidsWords:
    def test_all_is_well(self) -> None:
        resolution = of(ONLY_HOURLY, "tank/a", "tank/B")
        histories = {name: [taken(name, "hourly", 60)] for name in resolution.chosen}
        outcome = snapshots(resolution, Seen(histories), NOW)
        assert outcome.text == "OK: all monitored datasets (tank/a, tank/B) have fresh snapshots"
        assert outcome.level is Level.OK

    def test_late(self) -> None:
        outcome = check(Policy(name="p", hourly=0, daily=3, monthly=0), {"daily": 32 * HOUR + 1})
        assert outcome.level is Level.CRITICAL
        assert (
            outcome.text == "CRIT: tank/a newest daily snapshot is 1d 8h 0m 1s old (should be < 1d 8h 0m 0s)"
        )

    def test_none(self) -> None:
        outcome = check(ONLY_HOURLY, {})
        assert (outcome.level, outcome.text) == (
            Level.CRITICAL,
            "CRIT: tank/a has no hourly snapshots at all!",
        )

    def test_a_warning_names_the_limit_that_warns(self) -> None:
        outcome = check(ONLY_HOURLY, {"hourly": 2 * HOUR})
        assert outcome.level is Level.WARNING
        assert outcome.text == "WARN: tank/a newest hourly snapshot is 2h 0m 0s old (should be < 1h 30m 0s)"

    def test_several_are_one_line_sorted_without_regard_to_case_and_the_worst_counts(self) -> None:
        resolution = of(Policy(name="p", hourly=24, daily=3, monthly=0), "tank/B", "tank/a")
        histories = {
            "tank/a": [taken("tank/a", "hourly", 2 * HOUR), taken("tank/a", "daily", HOUR)],
            "tank/B": [taken("tank/B", "hourly", HOUR)],
        }
        outcome = snapshots(resolution, Seen(histories), NOW)
        assert outcome.level is Level.CRITICAL
        assert outcome.text == (
            "CRIT: tank/B has no daily snapshots at all!, "
            "WARN: tank/a newest hourly snapshot is 2h 0m 0s old (should be < 1h 30m 0s)"
        )

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(0, "0s"), (30, "30s"), (61, "1m 1s"), (3600, "1h 0m 0s"), (115_201, "1d 8h 0m 1s")],
    )
    def test_spans(self, seconds: int, text: str) -> None:
        assert span(seconds) == text


class TestLimits:
    @pytest.mark.parametrize(
        ("ago", "level"),
        [
            (90 * 60, Level.OK),
            (90 * 60 + 1, Level.WARNING),
            (6 * HOUR, Level.WARNING),
            (6 * HOUR + 1, Level.CRITICAL),
        ],
    )
    def test_exactly_at_a_limit_is_still_fine(self, ago: int, level: Level) -> None:
        assert check(ONLY_HOURLY, {"hourly": ago}).level is level

    def test_one_that_only_warns_does_warn(self) -> None:
        policy = watching("weekly", 8 * DAY, 0)
        outcome = check(policy, {"weekly": 9 * DAY})
        assert (outcome.level, outcome.text[:5]) == (Level.WARNING, "WARN:")
        assert check(policy, {"weekly": 8 * DAY}).level is Level.OK
        assert check(policy, {}).text == "WARN: tank/a has no weekly snapshots at all!"

    def test_one_that_is_only_critical_never_warns(self) -> None:
        policy = watching("weekly", 0, 8 * DAY)
        assert check(policy, {"weekly": 8 * DAY}).level is Level.OK
        assert check(policy, {"weekly": 8 * DAY + 1}).level is Level.CRITICAL

    def test_none_is_no_limit(self) -> None:
        assert check(watching("weekly", 0, 0), {}).level is Level.OK

    def test_a_kind_that_the_policy_does_not_keep_is_not_looked_at(self) -> None:
        policy = replace(watching("weekly", 1, 1), weekly=0)
        assert check(policy, {"weekly": DAY}).level is Level.OK

    def test_of_the_newest(self) -> None:
        history = [taken("tank/a", "hourly", ago) for ago in (9 * HOUR, HOUR, 8 * HOUR)]
        assert snapshots(of(ONLY_HOURLY, "tank/a"), Seen({"tank/a": history}), NOW).level is Level.OK

    def test_a_foreign_snapshot_is_no_snapshot_of_the_policy(self) -> None:
        history = [Snapshot("tank/a", "mine", 1, 1, NOW - 60)]
        outcome = snapshots(of(ONLY_HOURLY, "tank/a"), Seen({"tank/a": history}), NOW)
        assert "no hourly snapshots" in outcome.text

    def test_the_future(self) -> None:
        assert check(ONLY_HOURLY, {"hourly": -3600}).level is Level.OK
        outcome = check(ONLY_HOURLY, {"hourly": -7200})
        assert outcome.level is Level.WARNING
        assert outcome.text == "WARN: tank/a newest hourly snapshot is 2h 0m 0s in the future"


class TestMonitor:
    def test_what_is_not_monitored_is_not_named(self) -> None:
        policy = replace(ONLY_HOURLY, monitor=Monitor(monitor=False))
        outcome = check(policy, {})
        assert (outcome.level, outcome.text) == (Level.OK, "OK: no dataset is monitored")
        assert outcome.figures == ()

    @pytest.mark.parametrize(
        ("ago", "flag", "loud"),
        [(2 * HOUR, "monitor_dont_warn", Level.WARNING), (7 * HOUR, "monitor_dont_crit", Level.CRITICAL)],
    )
    def test_muted_the_words_stay_and_the_code_is_0(self, ago: int, flag: str, loud: Level) -> None:
        policy = replace(ONLY_HOURLY, monitor=Monitor(**{flag: True}))
        muted, other = check(policy, {"hourly": ago}), check(ONLY_HOURLY, {"hourly": ago})
        assert (muted.level, other.level) == (Level.OK, loud)
        assert muted.text == other.text

    def test_each_flag_mutes_only_its_own(self) -> None:
        dont_warn = replace(ONLY_HOURLY, monitor=Monitor(monitor_dont_warn=True))
        dont_crit = replace(ONLY_HOURLY, monitor=Monitor(monitor_dont_crit=True))
        assert check(dont_warn, {"hourly": 7 * HOUR}).level is Level.CRITICAL
        assert check(dont_crit, {"hourly": 2 * HOUR}).level is Level.WARNING


class TestUnchanged:
    SKIPS = replace(ONLY_HOURLY, skip_unchanged=True)

    def test_nothing_written_nothing_late(self) -> None:
        assert check(self.SKIPS, {"hourly": 30 * DAY}, ("tank/a",)).level is Level.OK
        assert check(self.SKIPS, {"hourly": 30 * DAY}).level is Level.CRITICAL

    def test_only_where_the_policy_skips(self) -> None:
        assert check(ONLY_HOURLY, {"hourly": 30 * DAY}, ("tank/a",)).level is Level.CRITICAL

    def test_one_without_any_snapshot_is_late(self) -> None:
        assert check(self.SKIPS, {}, ("tank/a",)).level is Level.CRITICAL

    def test_with_what_is_taken_along(self) -> None:
        resolution = Resolution({"tank": Chosen(self.SKIPS, "because", along=("tank/a",))})
        history = {"tank": [taken("tank", "hourly", DAY)]}
        assert snapshots(resolution, Seen(history, unchanged=("tank",)), NOW).level is Level.CRITICAL
        assert snapshots(resolution, Seen(history, unchanged=("tank", "tank/a")), NOW).level is Level.OK


class TestNotThere:
    def test_a_dataset_that_does_not_exist(self) -> None:
        outcome = snapshots(Resolution({}, unmatched=("tank/gone",)), Seen({}), NOW)
        assert (outcome.level, outcome.text) == (Level.CRITICAL, "CRIT: tank/gone does not exist")

    def test_one_that_cannot_be_read(self) -> None:
        seen = Seen({}, {"tank/a": "pool tank is SUSPENDED"})
        outcome = snapshots(of(ONLY_HOURLY, "tank/a"), seen, NOW)
        assert outcome.level is Level.CRITICAL
        assert outcome.text == "CRIT: tank/a cannot be read: pool tank is SUSPENDED"

    def test_unless_nobody_watches_it(self) -> None:
        policy = replace(ONLY_HOURLY, monitor=Monitor(monitor=False))
        seen = Seen({}, {"tank/a": "pool tank is SUSPENDED"})
        assert snapshots(of(policy, "tank/a"), seen, NOW).level is Level.OK


class TestPerformanceData:
    def test_behind_a_bar_with_the_limits(self) -> None:
        assert check(ONLY_HOURLY, {"hourly": 60}).line.endswith(
            "have fresh snapshots | 'tank/a hourly'=60s;5400;21600;0"
        )

    def test_a_limit_that_is_none_is_empty(self) -> None:
        assert str(Figure("x", 3)) == "'x'=3;;;0"
        assert str(Figure("x", 3, "%", 0, 95, 100)) == "'x'=3%;;95;0;100"

    def test_the_text_never_has_a_bar_or_a_second_line(self) -> None:
        assert Outcome(Level.OK, "a|b\nc", (Figure("x", 1),)).line == "a/b c | 'x'=1;;;0"

    def test_very_many_datasets_are_one_figure_for_each_kind(self) -> None:
        names = [f"tank/{number}" for number in range(MANY + 1)]
        ages = {name: 60 + number for number, name in enumerate(names)}
        seen = Seen({name: [taken(name, "hourly", ages[name])] for name in names})
        assert snapshots(of(ONLY_HOURLY, *names), seen, NOW).figures == (Figure("hourly", 60 + MANY, "s"),)
        few = snapshots(of(ONLY_HOURLY, *names[:MANY]), seen, NOW)
        assert len(few.figures) == MANY


def pool(name: str, percent: int, state: str = "ONLINE") -> Pool:
    return Pool(name, state, 1000, 1000 - 10 * percent, percent)


class TestCapacity:
    @pytest.mark.parametrize(
        ("percent", "level", "text"),
        [
            (79, Level.OK, "OK ZPOOL tank : 79%"),
            (80, Level.WARNING, "*** WARNING *** WARNING ZPOOL tank : 80%"),
            (94, Level.WARNING, "*** WARNING *** WARNING ZPOOL tank : 94%"),
            (95, Level.CRITICAL, "*** CRITICAL *** CRITICAL ZPOOL tank : 95%"),
        ],
    )
    def test_sanoids_words_and_limits(self, percent: int, level: Level, text: str) -> None:
        outcome = capacity([pool("tank", percent)], {})
        assert (outcome.level, outcome.text) == (level, text)
        assert str(outcome.figures[0]) == f"'tank'={percent}%;80;95;0;100"

    def test_limits_of_its_own(self) -> None:
        limits = {"tank": PoolLimits(50, 60), "pond": PoolLimits(0, 0)}
        outcome = capacity([pool("tank", 55), pool("pond", 100)], limits)
        assert outcome.text == "*** WARNING *** OK ZPOOL pond : 100%, WARNING ZPOOL tank : 55%"

    def test_one_that_is_not_imported(self) -> None:
        resolution = replace(of(ONLY_HOURLY, "tank/a"), unmatched=("lost/x",), pools={"away": PoolLimits()})
        missing = missing_pools(resolution, [pool("tank", 1)])
        assert missing == ["away", "lost"]
        outcome = capacity([pool("tank", 1)], {}, ["lost"])
        assert outcome.level is Level.CRITICAL
        assert outcome.text == "*** CRITICAL *** CRITICAL ZPOOL lost : not imported, OK ZPOOL tank : 1%"

    def test_no_pool_at_all(self) -> None:
        assert capacity([], {}).line == "OK: there is no pool"


def status(state: str = "ONLINE", *vdevs: Vdev, scrub_end: int | None = NOW - 12 * DAY) -> PoolStatus:
    top = Vdev("tank", state)
    return PoolStatus("tank", state, (top, *vdevs), scrub_end, 928 << 30, 324 << 30, 65)


class TestHealth:
    HEAD = "{Size:928G Free:324G Cap:65%}"
    SCRUB = "scrub 12d 0h 0m 0s ago"

    @pytest.mark.parametrize(
        ("state", "level"),
        [
            ("ONLINE", Level.OK),
            ("DEGRADED", Level.WARNING),
            *((bad, Level.CRITICAL) for bad in ("FAULTED", "SUSPENDED", "UNAVAIL", "OFFLINE", "WHATEVER")),
        ],
    )
    def test_the_state_of_a_pool(self, state: str, level: Level) -> None:
        outcome = health({"tank": status(state)}, NOW)
        assert outcome.level is level
        stars = "" if level is Level.OK else f"*** {level.name} *** "
        assert outcome.text == f"{stars}{level.name} ZPOOL tank : {state} {self.HEAD} {self.SCRUB}"

    def test_devices_in_sanoids_words(self) -> None:
        devices = (
            Vdev("mirror-0", "DEGRADED"),
            Vdev("sda", "ONLINE", 2, 3, 30),
            Vdev("sdb", "FAULTED", 1, 2, 30),
            Vdev("sdc", "ONLINE", checksum=1),
            Vdev("sdd", "ONLINE"),
        )
        outcome = health({"tank": status("ONLINE", *devices)}, NOW)
        assert outcome.level is Level.WARNING
        assert (
            f"ONLINE {self.HEAD} <mirror-0:DEGRADED> (sda:read, write, cksum errors) sdb:FAULTED "
            f"(sdc:cksum errors) {self.SCRUB}" in outcome.text
        )
        assert "sdd" not in outcome.text

    def test_a_spare_that_waits_is_no_remark(self) -> None:
        assert health({"tank": status("ONLINE", Vdev("sdx", "AVAIL"))}, NOW).level is Level.OK

    def test_errors_do_not_hide_a_dead_pool(self) -> None:
        assert health({"tank": status("FAULTED", Vdev("sda", "FAULTED", 1))}, NOW).level is Level.CRITICAL

    def test_the_age_of_the_scrub(self) -> None:
        known, none = health({"tank": status()}, NOW), health({"tank": status(scrub_end=None)}, NOW)
        assert [figure.label for figure in known.figures] == ["tank errors", "tank scrub"]
        assert known.figures[1].value == 12 * DAY
        assert none.text.endswith("no finished scrub")
        assert [figure.label for figure in none.figures] == ["tank errors"]

    def test_one_that_could_not_be_looked_at(self) -> None:
        outcome = health({"tank": "no answer within 10 s", "pond": status()}, NOW, ["lost"])
        assert outcome.level is Level.CRITICAL
        assert "CRITICAL ZPOOL tank : no answer within 10 s" in outcome.text
        assert "CRITICAL ZPOOL lost : not imported" in outcome.text


class TestTogether:
    def test_the_worst_counts_and_all_is_said(self) -> None:
        both = together({"capacity": capacity([pool("tank", 80)], {}), "health": unknown("why")})
        assert both.level is Level.WARNING
        assert both.line == (
            "WARNING - capacity: *** WARNING *** WARNING ZPOOL tank : 80%; health: UNKNOWN - why "
            "| 'tank'=80%;80;95;0;100"
        )

    @pytest.mark.parametrize(
        ("levels", "level"),
        [
            ((), Level.OK),
            ((Level.OK, Level.UNKNOWN), Level.UNKNOWN),
            ((Level.UNKNOWN, Level.WARNING), Level.WARNING),
            ((Level.UNKNOWN, Level.CRITICAL, Level.WARNING), Level.CRITICAL),
        ],
    )
    def test_unknown_is_worse_than_ok_only(self, levels: tuple[Level, ...], level: Level) -> None:
        assert worst(levels) is level

    def test_silence_is_critical_and_names_the_suspended(self) -> None:
        assert silent(10, {"tank"}).line == ("CRITICAL - ZFS did not answer within 10 s (suspended: tank)")
        assert silent(10).level is Level.CRITICAL

    def test_a_degraded_pool_can_be_asked_and_a_suspended_one_not(self) -> None:
        assert usable(pool("tank", 1, "DEGRADED"))
        assert not usable(pool("tank", 1, "SUSPENDED"))
