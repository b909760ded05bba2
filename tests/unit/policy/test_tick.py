"""Ticks: what one decides, and a year of them."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

import pytest

from policy.naming import kind_of, snapshot_name
from policy.rules import KINDS, Assignment, Kind, Policy, Recursion, Resolution, resolve
from policy.tick import Inventory, Take, deferred, grouped, plan_tick
from zfs.model import Pool, Snapshot

NOW = int(datetime.fromisoformat("2026-11-03T10:00:07Z").timestamp())
POLICY = Policy(name="p", hourly=24, daily=7, monthly=0)


def rules(*datasets: str, policy: Policy = POLICY) -> Resolution:
    return resolve([Assignment(dataset, policy) for dataset in datasets], datasets)


class World:
    """ZFS, as far as a tick is concerned."""

    def __init__(self, resolution: Resolution) -> None:
        self.resolution = resolution
        self.snapshots: list[Snapshot] = []
        self.txg = 0

    def tick(self, now: int) -> tuple[list[str], list[str]]:
        plan = plan_tick(Inventory(tuple(self.snapshots)), self.resolution, now)
        taken = [name for group in plan.groups(now) for name in group.names]
        for name in taken:
            self.txg += 1
            dataset, _, short = name.partition("@")
            self.snapshots.append(Snapshot(dataset, short, self.txg, self.txg, now))
        gone = [verdict.snapshot.full_name for verdict in plan.destroy]
        if gone:
            self.snapshots = [one for one in self.snapshots if one.full_name not in gone]
        return taken, gone

    def count(self, kind: Kind) -> int:
        return sum(kind_of(snapshot.name) == kind for snapshot in self.snapshots)


def test_one_group_for_each_pool_and_kind_longest_period_first() -> None:
    plan = plan_tick(Inventory(), rules("tank/a", "pond/x", "tank/b"), NOW)
    assert [(group.kind, group.pool, len(group.names)) for group in plan.groups(NOW)] == [
        ("daily", "pond", 1),
        ("daily", "tank", 2),
        ("hourly", "pond", 1),
        ("hourly", "tank", 2),
    ]
    assert plan.groups(NOW)[3].names == (
        "tank/a@autosnap_2026-11-03_10:00:07_hourly",
        "tank/b@autosnap_2026-11-03_10:00:07_hourly",
    )


def test_a_second_tick_at_the_same_moment_takes_nothing() -> None:
    world = World(rules("tank/a", "tank/b"))
    assert len(world.tick(NOW)[0]) == 4
    assert world.tick(NOW) == ([], [])


def test_snapshots_of_datasets_without_a_policy_are_left_alone() -> None:
    stranger = Snapshot("tank/other", snapshot_name("hourly", 0), 1, 1, 0)
    assert plan_tick(Inventory((stranger,)), rules("tank/a"), NOW).destroy == ()


def test_a_clock_that_went_back_is_told_and_takes_nothing_until_it_catches_up() -> None:
    ahead = [
        Snapshot("tank/a", snapshot_name(kind, NOW + 7200), n, n, NOW + 7200)
        for n, kind in enumerate(("daily", "hourly"))
    ]
    plan = plan_tick(Inventory(tuple(ahead)), rules("tank/a"), NOW)
    assert plan.take == ()
    assert [notice.code for notice in plan.warnings] == ["snapshot_from_the_future"]
    assert "120 minutes" in plan.warnings[0].text
    assert plan_tick(Inventory(tuple(ahead)), rules("tank/a"), NOW + 3600).warnings == ()


def test_a_name_that_is_taken_is_told_and_not_asked_for() -> None:
    squatter = Snapshot("tank/a", snapshot_name("hourly", NOW), 1, 1, NOW - 86400)
    plan = plan_tick(Inventory((squatter,)), rules("tank/a"), NOW)
    assert [take.kind for take in plan.take] == ["daily"]
    assert [notice.code for notice in plan.warnings] == ["name_taken"]


def test_a_rule_that_matches_nothing_is_told() -> None:
    plan = plan_tick(Inventory(), resolve([Assignment("tank/gone", POLICY)], ["tank"]), NOW)
    assert [(notice.code, notice.subject) for notice in plan.warnings] == [("rule_unmatched", "tank/gone")]


def test_pools_that_cannot_be_written_are_left_alone_and_told() -> None:
    pools = (
        Pool("tank", "SUSPENDED", 1, 1, 1),
        Pool("pond", "ONLINE", 1, 1, 1, readonly=True),
        Pool("lake", "DEGRADED", 1, 1, 1),
        Pool("sea", "FAULTED", 1, 1, 1),
    )
    plan = plan_tick(Inventory(pools=pools), rules("tank/a", "tank/b", "pond/a", "lake/a"), NOW)
    assert {group.pool for group in plan.groups(NOW)} == {"lake"}
    assert [(notice.code, notice.subject) for notice in plan.warnings] == [
        ("pool_unavailable", "tank"),
        ("pool_readonly", "pond"),
    ]


def test_the_base_of_a_replica_is_not_destroyed() -> None:
    old = [Snapshot("tank/a", snapshot_name("hourly", n), n, n, n * 3600) for n in range(1, 30)]
    plan = plan_tick(Inventory(tuple(old)), rules("tank/a"), NOW, {1: "cloud"})
    assert [verdict.snapshot.guid for verdict in plan.destroy] == [2, 3, 4, 5]


def snap(dataset: str, kind: Kind, age: int, number: int = 1) -> Snapshot:
    return Snapshot(dataset, snapshot_name(kind, NOW - age), number, number, NOW - age)


def pool(name: str, capacity: int) -> Pool:
    return Pool(name, "ONLINE", 1000, 1000 - 10 * capacity, capacity)


class TestZfsRecursion:
    POLICY = Policy(name="p", hourly=0, daily=7, monthly=0)
    DATASETS = ("tank/a", "tank/a/x", "tank/a/y", "tank/b")

    def resolution(self, *more: Assignment) -> Resolution:
        return resolve([Assignment("tank/a", self.POLICY, "zfs"), *more], self.DATASETS)

    def test_those_below_are_in_the_group_of_the_top_each_once(self) -> None:
        more = Assignment("tank/a/x", self.POLICY), Assignment("tank/b", self.POLICY)
        plan = plan_tick(Inventory(), self.resolution(*more), NOW)
        assert [(take.dataset, take.along) for take in plan.take] == [
            ("tank/a", ("tank/a/x", "tank/a/y")),
            ("tank/b", ()),
        ]
        (group,) = plan.groups(NOW)
        name = snapshot_name("daily", NOW)
        assert group.names == tuple(f"{dataset}@{name}" for dataset in self.DATASETS)

    def test_no_name_is_asked_for_twice_even_if_two_takes_have_it(self) -> None:
        takes = [Take("tank/a", "daily", "", True, ("tank/a/x",)), Take("tank/a/x", "daily", "")]
        (group,) = grouped(takes, NOW)
        assert len(group.names) == len(set(group.names)) == 2

    def test_the_top_alone_says_what_is_due(self) -> None:
        below = snap("tank/a/x", "daily", 60)
        top = snap("tank/a", "daily", 60)
        assert len(plan_tick(Inventory((below,)), self.resolution(), NOW).take) == 1
        assert plan_tick(Inventory((top,)), self.resolution(), NOW).take == ()

    def test_each_below_is_pruned_by_itself(self) -> None:
        old = [
            snap(name, "daily", day * 86400, day) for name in ("tank/a/x", "tank/b") for day in range(1, 11)
        ]
        gone = plan_tick(Inventory(tuple(old)), self.resolution(), NOW).destroy
        assert {verdict.snapshot.dataset for verdict in gone} == {"tank/a/x"}
        assert [verdict.snapshot.guid for verdict in gone] == [10, 9, 8]


class TestSkipUnchanged:
    POLICY = Policy(name="p", hourly=0, daily=7, monthly=0, skip_unchanged=True)
    OLD = (snap("tank/a", "daily", 9 * 86400), snap("tank/a/x", "daily", 9 * 86400, 2))

    def kinds(
        self, unchanged: set[str], snapshots: Sequence[Snapshot] = OLD, recursion: Recursion = "no"
    ) -> list[str]:
        resolution = resolve([Assignment("tank/a", self.POLICY, recursion)], ["tank/a", "tank/a/x"])
        plan = plan_tick(Inventory(tuple(snapshots), (), frozenset(unchanged)), resolution, NOW)
        return [take.kind for take in plan.take]

    def test_nothing_written_since_the_newest_takes_nothing(self) -> None:
        assert self.kinds({"tank/a"}) == []

    def test_what_was_written_to_takes_what_is_due(self) -> None:
        assert self.kinds({"tank/a/x"}) == ["daily"]

    def test_the_first_is_taken_even_of_what_nobody_wrote_to(self) -> None:
        assert self.kinds({"tank/a"}, self.OLD[1:]) == ["daily"]

    def test_one_written_to_below_takes_the_whole_recursion(self) -> None:
        assert self.kinds({"tank/a"}, recursion="zfs") == ["daily"]
        assert self.kinds({"tank/a/x"}, recursion="zfs") == ["daily"]
        assert self.kinds({"tank/a", "tank/a/x"}, recursion="zfs") == []

    def test_without_the_option_it_does_not_matter(self) -> None:
        plain = resolve([Assignment("tank/a", replace(self.POLICY, skip_unchanged=False))], ["tank/a"])
        inventory = Inventory(self.OLD, (), frozenset({"tank/a"}))
        assert len(plan_tick(inventory, plain, NOW).take) == 1


class TestPruneDefer:
    OLD = tuple(snap("tank/a", "hourly", hour * 3600, hour) for hour in range(25, 50))

    def pruned(self, defer: int, *pools: Pool) -> int:
        policy = replace(POLICY, prune_defer=defer)
        return len(plan_tick(Inventory(self.OLD, pools), rules("tank/a", policy=policy), NOW).destroy)

    @pytest.mark.parametrize(("capacity", "gone"), [(0, 0), (49, 0), (50, 0), (51, 1), (100, 1)])
    def test_nothing_goes_until_the_pool_is_more_than_so_full(self, capacity: int, gone: int) -> None:
        assert self.pruned(50, pool("tank", capacity)) == gone

    def test_of_a_pool_whose_filling_is_not_known_nothing_goes(self) -> None:
        assert self.pruned(50) == 0
        assert self.pruned(50, pool("pond", 99)) == 0

    def test_without_it_the_filling_does_not_matter(self) -> None:
        assert self.pruned(0) == 1
        assert self.pruned(0, pool("tank", 0)) == 1

    def test_it_says_why(self) -> None:
        policy = replace(POLICY, prune_defer=50)
        assert deferred(policy, 50) == "pruning is deferred until the pool is more than 50 % full"
        assert deferred(policy, 51) == ""

    def test_it_stops_no_snapshot(self) -> None:
        policy = replace(POLICY, prune_defer=100)
        assert len(plan_tick(Inventory(self.OLD), rules("tank/a", policy=policy), NOW).take) == 2


def test_what_is_on_an_unusable_pool_is_not_pruned_either() -> None:
    old = tuple(
        snap(f"{name}/a", "hourly", hour * 3600, hour) for name in ("tank", "pond") for hour in range(25, 50)
    )
    pools = (Pool("tank", "FAULTED", 1, 1, 1), pool("pond", 1))
    gone = plan_tick(Inventory(old, pools), rules("tank/a", "pond/a"), NOW).destroy
    assert {verdict.snapshot.dataset for verdict in gone} == {"pond/a"}


def test_loose_names_count_for_what_is_due_where_the_policy_says_so() -> None:
    newest = tuple(
        Snapshot("tank/a", f"autosnap_x_{kind}", n, n, NOW - 1) for n, kind in enumerate(("daily", "hourly"))
    )
    assert len(plan_tick(Inventory(newest), rules("tank/a"), NOW).take) == 2
    loose = rules("tank/a", policy=replace(POLICY, loose_names=True))
    assert plan_tick(Inventory(newest), loose, NOW).take == ()


def test_notes_on_the_rules_are_told() -> None:
    noted = replace(rules("tank/a"), notes=("the rule is odd",))
    (notice,) = plan_tick(Inventory(), noted, NOW).warnings
    assert (notice.code, notice.text) == ("rule_note", "the rule is odd")


@pytest.mark.parametrize(
    ("days", "every", "mondays", "months"),
    [
        pytest.param(365, 3600, 52, 12, id="a year of hours"),
        pytest.param(31, 900, 4, 1, id="a month of quarter-hours"),
        pytest.param(365, 900, 52, 12, id="a year of quarter-hours", marks=pytest.mark.soak),
    ],
)
def test_every_slot_gets_its_snapshot_once(days: int, every: int, mondays: int, months: int) -> None:
    everything = Policy(name="p", frequently=4, hourly=24, daily=30, weekly=4, monthly=6, yearly=2)
    world = World(rules("tank/a", policy=everything))
    start = int(datetime.fromisoformat("2026-01-01T00:00:00Z").timestamp())
    taken: dict[str, int] = dict.fromkeys(KINDS, 0)
    for now in range(start, start + days * 86400, every):
        for name in world.tick(now)[0]:
            taken[str(kind_of(name.partition("@")[2]))] += 1
    # At the very first tick one of each kind is caught up at once; those with a slot later count it too.
    assert taken == {
        "frequently": days * 86400 // every,
        "hourly": days * 24,
        "daily": 1 + days - 1,
        "weekly": 1 + mondays,
        "monthly": months,
        "yearly": 1,
    }
    # What is old enough is counted without this tick's snapshots, so one more than asked for may remain.
    for kind in KINDS:
        assert world.count(kind) in (everything.count(kind), everything.count(kind) + 1, taken[kind])


def test_a_host_that_is_off_every_night_loses_nothing_and_repeats_nothing() -> None:
    world = World(rules("tank/a", policy=Policy(name="p", hourly=0, daily=7, monthly=0)))
    start = int(datetime.fromisoformat("2026-03-01T08:00:00Z").timestamp())
    days: list[Sequence[str]] = []
    for day in range(30):
        morning = start + day * 86400
        days.append([name for now in range(morning, morning + 36000, 900) for name in world.tick(now)[0]])
    assert all(len(names) == 1 for names in days)
