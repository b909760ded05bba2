"""Snapshots by policy over the double of ZFS, under a clock that the test turns."""

import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from apscheduler.schedulers import base

from node.clock import ClockWatch, Every
from node.commands import CommandMissing, CommandNotStarted, CommandTimeout, Result
from node.hooks import HookResult, HookRunner
from node.pruner import Pruner
from node.rulebook import EVERY, Rules
from node.sanoid_timer import SanoidTimer
from node.snapshotter import STUCK, Snapshotter
from node.taker import Taker
from policy.naming import kind_of, snapshot_name
from policy.rules import Assignment, Hooks, Policy, PoolLimits
from tests.fakes.commands import Recording
from tests.fakes.zfs import FakeZfs
from zfs import errors
from zfs.errors import ZfsError
from zfs.model import Dataset, Snapshot

MIDNIGHT = 1_699_920_000.0
MINUTE, HOUR, DAY = 60, 3600, 86400
NODE = "abcdefghijklmnop"
POLICY = Policy(name="p", frequently=4, hourly=24, daily=7, monthly=0)
HOURLY = Policy(name="h", hourly=4, daily=0, monthly=0)


class CountingZfs(FakeZfs):
    """Keeps of which datasets the snapshots were listed, and what was taken and destroyed together."""

    def __init__(self, world: "World") -> None:
        super().__init__(clock=lambda: world.now, pools={"tank": 1 << 30, "pond": 1 << 30})
        self.listed: list[str] = []
        self.together: list[tuple[str, ...]] = []
        self.refused: dict[str, ZfsError] = {}
        self.full: dict[str, int] = {}

    async def histories(self, datasets: Sequence[str]) -> dict[str, list[Snapshot] | ZfsError]:
        self.listed += datasets
        found = await super().histories(datasets)
        return found | {name: self.refused[name] for name in datasets if name in self.refused}

    async def snapshot(self, names: Sequence[str], properties: Mapping[str, str] | None = None) -> None:
        for name in names:
            if name.partition("@")[0] in self.full:
                raise errors.NoSpace(name, "quota exceeded")
        await super().snapshot(names, properties)
        self.together.append(tuple(names))


class ScriptedHooks(HookRunner):
    """Answers as told, and keeps what was run with which environment. Real shells are in test_hooks."""

    def __init__(self) -> None:
        super().__init__()
        self.ran: list[tuple[str, dict[str, str]]] = []
        self.answers: dict[str, HookResult] = {}

    async def run(self, command: str, environment: Mapping[str, str], timeout: int) -> HookResult:
        self.ran.append((command, dict(environment)))
        return self.answers.get(command, HookResult(0))

    @property
    def commands(self) -> list[str]:
        return [command for command, _ in self.ran]


class World:
    def __init__(self, *rules: Assignment, root: Path | None = None) -> None:
        self.now = MIDNIGHT
        self.uptime = 0.0
        self.zfs = CountingZfs(self)
        self.hooks = ScriptedHooks()
        self.commands = Recording()
        self.needed: dict[int, str] = {}
        self.roots: tuple[str, ...] = ()
        self.taken: list[str] = []
        self.snapshotter = Snapshotter(
            self.zfs,
            taker=Taker(self.zfs, self.hooks),
            pruner=Pruner(self.zfs, self.hooks, needed=self._needed),
            sanoid=SanoidTimer(self.commands, root, lambda: self.uptime) if root else None,
            now=lambda: self.now,
            monotonic=lambda: self.uptime,
            needed=self._needed,
            replica_roots=lambda: self.roots,
            taken=self.taken.append,
        )
        self.rules = Rules(rules)

    @property
    def rules(self) -> Rules:
        return self._rules

    @rules.setter
    def rules(self, rules: Rules) -> None:
        self._rules = rules
        self.snapshotter.configure(rules, 60)

    def set(self, *assignments: Assignment) -> None:
        self.rules = replace(self.rules, assignments=assignments)

    def _needed(self, dataset: str) -> Mapping[int, str]:
        return self.needed

    async def tick(self, after: float = 0) -> None:
        self.now += after
        self.uptime += after
        await self.snapshotter.tick()

    async def kinds(self, dataset: str) -> Counter[str | None]:
        return Counter(kind_of(one.name) for one in await self.zfs.snapshots(dataset))

    async def names(self, dataset: str) -> list[str]:
        return [one.name for one in await self.zfs.snapshots(dataset)]

    async def history(self, dataset: str, hours: Iterable[int]) -> list[str]:
        """Hourly snapshots of so many hours ago, made then."""
        now, made = self.now, []
        for hour in sorted(hours, reverse=True):
            self.now = now - hour * HOUR
            made.append(snapshot_name("hourly", int(self.now)))
            await self.zfs.snapshot([f"{dataset}@{made[-1]}"])
        self.now = now
        self.zfs.together.clear()
        return made

    @property
    def codes(self) -> list[str]:
        return [notice.code for notice in self.snapshotter.notices]

    def said(self, code: str) -> str:
        (found,) = (one.text for one in self.snapshotter.notices if one.code == code)
        return found


@pytest.fixture
async def world() -> World:
    made = World(Assignment("tank/home", POLICY, recursion="each"))
    await made.zfs.create("tank/home", {})
    await made.zfs.create("tank/home/photos", {})
    await made.zfs.create("tank/other", {})
    return made


async def test_a_day_of_ticks_keeps_what_the_policy_says(world: World) -> None:
    for _ in range(DAY // (5 * MINUTE)):
        await world.tick(5 * MINUTE)
    for dataset in ("tank/home", "tank/home/photos"):
        kinds = await world.kinds(dataset)
        assert kinds["hourly"] in (24, 25)
        assert kinds["frequently"] in (4, 5)
        assert kinds["daily"] == 2
    assert await world.kinds("tank/other") == {}
    assert world.snapshotter.notices == ()


async def test_twice_at_one_moment_takes_nothing_more(world: World) -> None:
    await world.tick()
    first = await world.kinds("tank/home")
    await world.tick()
    assert await world.kinds("tank/home") == first


async def test_an_agent_that_was_off_for_days_takes_one_of_each_and_not_all_it_missed(world: World) -> None:
    await world.tick()
    world.zfs.together.clear()
    await world.tick(3 * DAY)
    assert [len(names) for names in world.zfs.together] == [2, 2, 2]
    assert [kind_of(names[0].partition("@")[2]) for names in world.zfs.together] == [
        *("daily", "hourly", "frequently")
    ]


async def test_all_datasets_of_a_pool_are_taken_at_one_moment(world: World) -> None:
    await world.tick()
    one, other = [await world.zfs.snapshots(name) for name in ("tank/home", "tank/home/photos")]
    assert [s.createtxg for s in one] == [s.createtxg for s in other]


async def test_the_replicator_hears_of_every_dataset_that_got_one(world: World) -> None:
    await world.tick()
    assert set(world.taken) == {"tank/home", "tank/home/photos"}


async def test_what_a_replica_needs_as_its_base_stays(world: World) -> None:
    await world.tick()
    oldest = (await world.zfs.snapshots("tank/home"))[0]
    world.needed = {oldest.guid: "cloud"}
    for _ in range(30):
        await world.tick(DAY)
    assert oldest.guid in {one.guid for one in await world.zfs.snapshots("tank/home")}
    world.needed = {}
    await world.tick(DAY)
    assert oldest.guid not in {one.guid for one in await world.zfs.snapshots("tank/home")}


async def test_what_somebody_holds_stays(world: World) -> None:
    await world.tick()
    oldest = (await world.zfs.snapshots("tank/home"))[0]
    await world.zfs.hold("mine", [oldest.full_name])
    for _ in range(30):
        await world.tick(DAY)
    assert oldest.full_name in {one.full_name for one in await world.zfs.snapshots("tank/home")}


async def test_what_meshkeep_did_not_make_is_never_destroyed(world: World) -> None:
    await world.zfs.snapshot(["tank/home@mine"])
    for _ in range(100):
        await world.tick(DAY)
    assert "mine" in {one.name for one in await world.zfs.snapshots("tank/home")}


@pytest.mark.parametrize("root", ["tank/meshkeep", "tank/backup/meshkeep"])
async def test_replicas_get_none_even_before_anyone_said_where_they_lie(root: str) -> None:
    world = World(Assignment("tank", POLICY, recursion="each"))
    parts = f"{root}/{NODE}/tank/home".split("/")
    for end in range(2, len(parts) + 1):
        await world.zfs.create("/".join(parts[:end]), {})
    old = "autosnap_2020-01-01_00:00:00_hourly"
    await world.zfs.snapshot([f"{root}/{NODE}/tank/home@{old}"])
    await world.tick(40 * DAY)
    assert [one.name for one in await world.zfs.snapshots(f"{root}/{NODE}/tank/home")] == [old]
    assert await world.zfs.snapshots(f"{root}/{NODE}") == []
    assert await world.zfs.snapshots("tank")


async def test_no_rule_does_nothing() -> None:
    world = World()
    await world.tick(DAY)
    assert world.taken == []
    assert world.snapshotter.chosen == ()


async def test_a_rule_for_nothing_is_said() -> None:
    world = World(Assignment("tank/gone", POLICY))
    await world.tick()
    assert [notice.code for notice in world.snapshotter.notices] == ["rule_unmatched"]


async def test_a_dataset_that_cannot_be_listed_does_not_keep_the_others_from_theirs(world: World) -> None:
    world.zfs.refused["tank/home/photos"] = errors.Unexpected("tank/home/photos", "I/O error")
    await world.tick()
    assert set(world.taken) == {"tank/home"}
    assert "I/O error" in world.said("not_listed")


async def test_a_readonly_pool_is_said_and_the_other_goes_on(world: World) -> None:
    await world.zfs.create("pond/x", {})
    world.set(Assignment("pond/x", POLICY), Assignment("tank/home", POLICY))
    world.zfs.make_readonly("pond")
    await world.tick()
    assert set(world.taken) == {"tank/home"}
    assert [notice.code for notice in world.snapshotter.notices] == ["pool_readonly"]


async def test_nothing_is_taken_where_nothing_was_written_if_the_policy_says_so(world: World) -> None:
    world.set(Assignment("tank/home", replace(HOURLY, skip_unchanged=True), recursion="each"))
    await world.tick()
    world.taken.clear()
    world.zfs.write("tank/home/photos", b"one")
    await world.tick(HOUR)
    assert world.taken == ["tank/home/photos"]


# -- what is listed ----------------------------------------------------------------------------------------------


async def test_a_tick_on_an_unchanged_pool_lists_no_snapshots(world: World) -> None:
    world.set(Assignment("tank/home", HOURLY, recursion="each"))
    await world.tick(1)
    await world.tick(10)
    world.zfs.listed.clear()
    for _ in range(50):
        await world.tick(MINUTE)
    assert world.zfs.listed == []


async def test_only_what_changed_is_listed_again(world: World) -> None:
    world.set(Assignment("tank/home", replace(HOURLY, hourly=0), recursion="each"))
    await world.zfs.snapshot(["tank/home@a", "tank/home/photos@a"])
    await world.tick(10)
    world.zfs.listed.clear()
    await world.zfs.snapshot(["tank/home/photos@b"])
    await world.tick(10)
    assert world.zfs.listed == ["tank/home/photos"]


@pytest.mark.parametrize("after", [0, 1])
async def test_a_list_made_in_the_second_of_a_change_is_not_trusted(world: World, after: int) -> None:
    """A second change may follow in the same second, and the property would not move."""
    world.set(Assignment("tank/home", replace(HOURLY, hourly=0)))
    await world.zfs.snapshot(["tank/home@a"])
    await world.tick(after)
    world.now -= after
    await world.zfs.snapshot(["tank/home@b"])
    found = await world.snapshotter.histories(["tank/home"])
    assert [one.name for one in found["tank/home"]] == ["a", "b"]


async def test_a_dataset_that_never_had_a_snapshot_is_always_listed(world: World) -> None:
    """So it looks on OpenZFS before 2.2, too."""
    world.set(Assignment("tank/home", replace(HOURLY, hourly=0)))
    for _ in range(3):
        await world.tick(MINUTE)
    assert world.zfs.listed == ["tank/home"] * 3


async def test_one_that_was_renamed_has_its_snapshots_under_the_new_name(world: World) -> None:
    world.set(Assignment("tank/moved", HOURLY), Assignment("tank/home", HOURLY))
    await world.tick()
    await world.tick(10)
    await world.zfs.rename("tank/home", "tank/moved")
    world.taken.clear()
    await world.tick(10)
    assert world.taken == []
    assert {one.dataset for one in (await world.snapshotter.histories(["tank/moved"]))["tank/moved"]} == {
        "tank/moved"
    }


async def test_after_an_hour_it_is_listed_again_for_holds_and_sizes(world: World) -> None:
    world.set(Assignment("tank/home", replace(HOURLY, hourly=0)))
    await world.zfs.snapshot(["tank/home@a"])
    await world.tick(10)
    await world.zfs.hold("mine", ["tank/home@a"])
    await world.tick(HOUR - 1)
    assert world.zfs.listed == ["tank/home"]
    await world.tick(1)
    (found,) = (await world.snapshotter.histories(["tank/home", "tank/gone"]))["tank/home"]
    assert found.holds == 1


async def test_what_the_api_asks_for_is_what_the_tick_goes_by(world: World) -> None:
    await world.tick()
    resolution = await world.snapshotter.resolution()
    assert tuple(resolution.chosen) == world.snapshotter.chosen == ("tank/home", "tank/home/photos")
    found = await world.snapshotter.histories(resolution.chosen)
    assert {name: len(history) for name, history in found.items()} == {"tank/home": 3, "tank/home/photos": 3}


# -- pools -------------------------------------------------------------------------------------------------------


async def test_a_suspended_pool_is_said_and_the_other_goes_on(world: World) -> None:
    await world.zfs.create("pond/x", {})
    world.set(Assignment("pond/x", POLICY), Assignment("tank/home", POLICY))
    world.zfs.suspend("pond")
    await world.tick()
    assert set(world.taken) == {"tank/home"}
    assert world.codes == ["pool_unavailable"]
    world.zfs.resume("pond")
    await world.tick()
    assert set(world.taken) == {"tank/home", "pond/x"}
    assert world.codes == []


async def test_a_suspended_pool_whose_datasets_zfs_does_not_list_is_said_as_such(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As `zfs list` does: it leaves the pool out and says nothing."""
    listing = world.zfs.datasets

    async def without(root: str | None = None) -> list[Dataset]:
        return [one for one in await listing(root) if not one.name.startswith("pond")]

    monkeypatch.setattr(world.zfs, "datasets", without)
    world.set(Assignment("pond/x", POLICY), Assignment("tank/home", POLICY))
    world.zfs.suspend("pond")
    await world.tick()
    assert world.codes == ["pool_unavailable"]
    assert set(world.taken) == {"tank/home"}


async def test_a_listing_that_fails_as_a_whole_is_done_pool_by_pool(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = world.zfs.datasets

    async def failing(root: str | None = None) -> list[Dataset]:
        if root in (None, "pond"):
            raise errors.PoolUnavailable("pond")
        return await listing(root)

    monkeypatch.setattr(world.zfs, "datasets", failing)
    await world.tick()
    assert set(world.taken) == {"tank/home", "tank/home/photos"}


async def test_an_exported_pool_crashes_nothing_and_comes_back(world: World) -> None:
    size = world.zfs.state.sizes.pop("tank")
    await world.tick()
    assert world.codes == ["rule_unmatched"]
    world.zfs.state.sizes["tank"] = size
    await world.tick()
    assert set(world.taken) == {"tank/home", "tank/home/photos"}


async def test_zfs_that_does_not_answer_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing() -> None:
        raise errors.Unsupported("zpool", "there is no such command")

    monkeypatch.setattr(world.zfs, "pools", failing)
    await world.tick()
    assert world.codes == ["zfs_failed"]


async def test_a_fault_of_our_own_is_said_and_the_next_round_goes_on(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing() -> None:
        raise KeyError("tank")

    with monkeypatch.context() as patched:
        patched.setattr(world.zfs, "pools", failing)
        await world.tick()
    assert world.codes == ["tick_failed"]
    await world.tick()
    assert world.codes == []
    assert set(world.taken) == {"tank/home", "tank/home/photos"}


# -- taking ------------------------------------------------------------------------------------------------------


async def test_one_dataset_that_can_not_be_snapped_does_not_starve_the_others(world: World) -> None:
    for name in ("a", "b", "c"):
        await world.zfs.create(f"tank/home/{name}", {})
    world.zfs.full["tank/home/b"] = 1
    world.set(Assignment("tank/home", HOURLY, recursion="each"))
    await world.tick()
    assert [len(names) for names in world.zfs.together] == [4], "the others still together"
    assert set(world.taken) == {"tank/home", "tank/home/a", "tank/home/c", "tank/home/photos"}
    assert world.said("snapshot_failed") == (
        "could not take the hourly snapshot of tank/home/b: quota exceeded"
    )


async def test_many_that_can_not_be_snapped_are_said_once(world: World) -> None:
    for number in range(20):
        await world.zfs.create(f"tank/home/{number:02}", {})
        if number >= 2:
            world.zfs.full[f"tank/home/{number:02}"] = 1
    world.set(Assignment("tank/home", HOURLY, recursion="each"))
    await world.tick()
    assert set(world.taken) == {"tank/home", "tank/home/00", "tank/home/01", "tank/home/photos"}
    assert "tank/home/02, tank/home/03, tank/home/04 and 15 more" in world.said("snapshot_failed")


async def test_an_error_that_names_the_wrong_one_costs_nobody_a_snapshot(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    taking = world.zfs.snapshot

    async def blames_the_first(names: Sequence[str], properties: Mapping[str, str] | None = None) -> None:
        if any(name.startswith("tank/home/photos@") for name in names):
            raise errors.Unexpected(names[0], "EIO")
        await taking(names, properties)

    monkeypatch.setattr(world.zfs, "snapshot", blames_the_first)
    world.set(Assignment("tank/home", HOURLY, recursion="each"))
    await world.tick()
    assert world.taken == ["tank/home"]
    assert "tank/home/photos: EIO" in world.said("snapshot_failed")


async def test_a_name_that_leaves_no_room_for_a_snapshots_is_said_and_starves_nobody(world: World) -> None:
    odd, long = "tank/home/a name: of.all_sorts", "tank/home/" + 245 * "x"
    for name in (odd, long):
        await world.zfs.create(name, {})
    world.set(Assignment("tank/home", HOURLY, recursion="each"))
    await world.tick()
    assert set(world.taken) == {"tank/home", "tank/home/photos", odd}
    assert f"of {long}: the snapshot's name would be longer than 255 characters" in world.said(
        "snapshot_failed"
    )


async def test_what_is_wrong_with_the_pool_is_said_of_the_pool(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    async def suspended(names: Sequence[str], properties: Mapping[str, str] | None = None) -> None:
        calls.append(names)
        raise errors.PoolUnavailable(names[0])

    monkeypatch.setattr(world.zfs, "snapshot", suspended)
    world.set(Assignment("tank/home", HOURLY, recursion="each"))
    await world.tick()
    assert len(calls) == 1
    assert "hourly snapshot of tank: " in world.said("snapshot_failed")


async def test_a_zfs_recursion_is_taken_at_one_moment(world: World) -> None:
    world.set(Assignment("tank/home", HOURLY, recursion="zfs"))
    await world.tick()
    ((one, other),) = world.zfs.together
    assert {one.partition("@")[0], other.partition("@")[0]} == {"tank/home", "tank/home/photos"}


# -- hooks -------------------------------------------------------------------------------------------------------

FAILED = HookResult(1, False, "database is locked\n")


def hooked(**more: object) -> Policy:
    return replace(POLICY, hooks=Hooks(pre_snapshot_script="pre", post_snapshot_script="post", **more))  # type: ignore[arg-type]


async def test_hooks_run_once_for_a_dataset_with_sanoids_words(world: World) -> None:
    world.set(Assignment("tank/home", hooked()))
    await world.tick()
    names = [snapshot_name(kind, int(MIDNIGHT)) for kind in ("daily", "hourly", "frequently")]
    common = {
        "SANOID_TARGET": "tank/home",
        "SANOID_TARGETS": "tank/home",
        "SANOID_SNAPNAME": names[0],
        "SANOID_SNAPNAMES": ",".join(names),
        "SANOID_TYPES": "daily,hourly,frequently",
    }
    assert world.hooks.ran == [
        ("pre", {**common, "SANOID_SCRIPT": "pre"}),
        ("post", {**common, "SANOID_SCRIPT": "post", "SANOID_PRE_FAILURE": "0"}),
    ]
    assert await world.names("tank/home") == names


async def test_no_hook_runs_where_nothing_is_due(world: World) -> None:
    world.set(Assignment("tank/home", hooked()))
    await world.tick()
    world.hooks.ran.clear()
    await world.tick(MINUTE)
    assert world.hooks.ran == []


@pytest.mark.parametrize(
    ("options", "taken", "ran"),
    [
        ({}, 3, ["pre"]),
        ({"force_post_snapshot_script": True}, 3, ["pre", "post"]),
        ({"no_inconsistent_snapshot": True}, 0, ["pre"]),
        ({"no_inconsistent_snapshot": True, "force_post_snapshot_script": True}, 0, ["pre"]),
    ],
)
async def test_a_hook_that_fails(world: World, options: dict[str, bool], taken: int, ran: list[str]) -> None:
    world.hooks.answers["pre"] = FAILED
    world.set(Assignment("tank/home", hooked(**options)), Assignment("tank/other", POLICY))
    await world.tick()
    assert len(await world.names("tank/home")) == taken
    assert len(await world.names("tank/other")) == 3
    assert world.hooks.commands == ran
    if "post" in ran:
        assert world.hooks.ran[1][1]["SANOID_PRE_FAILURE"] == "1"
    assert "pre_snapshot_script of tank/home failed with exit code 1: database is locked" in world.said(
        "hook_failed"
    )


async def test_the_hooks_of_all_datasets_come_before_the_first_snapshot(world: World) -> None:
    world.set(Assignment("tank/home", hooked(), recursion="each"))
    await world.tick()
    assert world.hooks.commands == ["pre", "pre", "post", "post"]
    assert all(len(names) == 2 for names in world.zfs.together)


# -- pruning -----------------------------------------------------------------------------------------------------


async def test_many_at_once_wait_for_a_person(world: World) -> None:
    await world.history("tank/home", range(1, 61))
    await world.history("tank/other", range(1, 15))
    world.set(Assignment("tank/home", HOURLY), Assignment("tank/other", HOURLY))
    await world.tick()
    assert world.snapshotter.waiting == {"tank/home": 56}
    assert len(await world.names("tank/home")) == 61
    assert len(await world.names("tank/other")) == 5
    assert "56 snapshots of tank/home would be destroyed at once" in world.said("prune_waits")
    (notice,) = (one for one in world.snapshotter.notices if one.code == "prune_waits")
    assert notice.hint == "meshkeep prune -n"


async def test_a_hold_that_came_after_the_list_keeps_its_snapshot_and_is_said(world: World) -> None:
    names = await world.history("tank/home", range(1, 9))
    world.set(Assignment("tank/home", replace(HOURLY, hourly=20)))
    await world.tick(10)
    await world.tick(10)  # from now on the list is known
    await world.zfs.hold("keep", [f"tank/home@{names[0]}"])
    world.set(Assignment("tank/home", HOURLY))
    await world.tick(10)
    assert names[0] in await world.names("tank/home")
    assert names[1] not in await world.names("tank/home")
    assert world.said("prune_failed") == f"could not destroy tank/home@{names[0]}: it is held (keep)"


async def test_one_in_use_is_said_and_not_tried_again_each_minute(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = await world.history("tank/home", range(1, 9))
    world.zfs.state.nodes["tank/home"].snapshots[names[0]].sending = 1
    tried = []
    destroying = world.zfs.destroy_snapshots

    async def destroy(doomed: Sequence[str]) -> dict[str, Exception]:
        tried.extend(doomed)
        return await destroying(doomed)

    monkeypatch.setattr(world.zfs, "destroy_snapshots", destroy)
    world.set(Assignment("tank/home", HOURLY))
    await world.tick()
    tried.clear()
    for _ in range(9):
        await world.tick(MINUTE)
        assert "cloned or in use" in world.said("prune_failed")
    assert f"tank/home@{names[0]}" not in tried
    world.zfs.state.nodes["tank/home"].snapshots[names[0]].sending = 0
    await world.tick(2 * MINUTE)
    assert names[0] not in await world.names("tank/home")
    assert world.codes == []


# -- the space guard ---------------------------------------------------------------------------------------------


async def filled(world: World, percent: int) -> list[str]:
    """A pool so full, and a history that retention lets be."""
    names = await world.history("tank/home", range(1, 41))
    used = world.zfs.state.used("tank")
    world.zfs.state.sizes["tank"] = 100 * 1024
    world.zfs.write("tank/other", b"x" * (percent * 1024 + 512 - used))
    keep = replace(HOURLY, hourly=100)
    limits = {"tank": PoolLimits(space_high=90, space_low=80)}
    world.rules = Rules((Assignment("tank/home", keep),), limits)
    return names


async def test_a_pool_too_full_loses_a_few_of_its_oldest_at_a_time(world: World) -> None:
    names = await filled(world, 92)
    await world.tick()
    left = await world.names("tank/home")
    gone = [name for name in names if name not in left]
    assert gone == names[: len(gone)]
    assert 1 <= len(gone) <= 3
    assert "92 % full: the space guard destroys the oldest" in world.said("space_guard")
    await world.tick(MINUTE)
    assert len(await world.names("tank/home")) < len(left)


async def test_it_goes_on_down_to_the_low_mark_and_not_before_the_high_one(world: World) -> None:
    await filled(world, 85)
    await world.tick()
    assert world.codes == []
    world.zfs.write("tank/other", b"x" * 6 * 1024)
    await world.tick(MINUTE)
    assert world.codes == ["space_guard"]
    node = world.zfs.state.nodes["tank/other"]
    node.data = node.data[: 85 * 1024]
    before = len(await world.names("tank/home"))
    await world.tick(MINUTE)
    assert len(await world.names("tank/home")) < before
    node.data = node.data[: 79 * 1024]
    await world.tick(MINUTE)
    assert world.codes == []


async def test_while_zfs_still_frees_it_waits(world: World) -> None:
    names = await filled(world, 95)
    world.zfs.state.freeing["tank"] = 1 << 20
    await world.tick()
    assert set(names) <= set(await world.names("tank/home"))
    assert world.codes == ["space_guard"]


async def test_what_retention_lets_go_comes_first(world: World) -> None:
    names = await filled(world, 95)
    world.set(Assignment("tank/home", replace(HOURLY, hourly=30)))
    await world.tick()
    assert [name for name in names if name not in await world.names("tank/home")] == names[:10]


async def test_a_full_pool_with_nothing_to_destroy_says_so(world: World) -> None:
    await filled(world, 95)
    world.set(Assignment("tank/home", replace(HOURLY, hourly=100, autoprune=False)))
    await world.tick()
    assert world.codes == ["space_exhausted"]


# -- a sanoid.conf -----------------------------------------------------------------------------------------------

CONF = "[tank/home]\nuse_template = t\nrecursive = yes\n[template_t]\nhourly = 4\ndaily = 0\nmonthly = 0\n"


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    (tmp_path / "etc/sanoid").mkdir(parents=True)
    (tmp_path / "run/systemd/system").mkdir(parents=True)
    (tmp_path / "etc/sanoid/sanoid.conf").write_text(CONF)
    return tmp_path / "etc/sanoid"


async def test_a_sanoid_conf_is_followed(world: World, etc: Path) -> None:
    world.rules = Rules(sanoid=str(etc))
    await world.tick()
    assert set(world.taken) == {"tank/home", "tank/home/photos"}
    assert await world.kinds("tank/home") == {"hourly": 1}


async def test_where_both_have_a_rule_ours_counts_and_that_is_said(world: World, etc: Path) -> None:
    world.rules = Rules((Assignment("tank/home/photos", POLICY),), sanoid=str(etc))
    await world.tick()
    assert await world.kinds("tank/home") == {"hourly": 1}
    assert await world.kinds("tank/home/photos") == {"daily": 1, "hourly": 1, "frequently": 1}
    assert "tank/home/photos: the rules in meshkeep.toml count" in world.said("rule_twice")


async def test_a_zfs_recursion_of_sanoid_does_not_take_along_what_is_ours(world: World, etc: Path) -> None:
    (etc / "sanoid.conf").write_text(CONF.replace("recursive = yes", "recursive = zfs"))
    world.rules = Rules((Assignment("tank/home/photos", replace(HOURLY, autosnap=False)),), sanoid=str(etc))
    await world.tick()
    assert world.taken == ["tank/home"]


async def reloaded(world: World, after: float = 0) -> None:
    """As `meshkeep config reload` does it."""
    world.rules = world.rules
    await world.tick(after)


async def test_one_that_is_bad_at_a_reload_leaves_what_was_in_force(world: World, etc: Path) -> None:
    world.rules = Rules(sanoid=str(etc))
    await world.tick()
    (etc / "sanoid.conf").write_text(CONF + "hurly = 3\n")
    world.taken.clear()
    await reloaded(world, HOUR)
    assert set(world.taken) == {"tank/home", "tank/home/photos"}
    said = world.said("sanoid_conf_invalid")
    assert "what it said before still holds" in said
    assert "hurly" in said
    (etc / "sanoid.conf").unlink()
    world.taken.clear()
    await reloaded(world, HOUR)
    assert world.codes == ["sanoid_conf_invalid"]
    assert set(world.taken) == {"tank/home", "tank/home/photos"}
    (etc / "sanoid.conf").write_text(CONF)
    await reloaded(world, HOUR)
    assert world.codes == []


@pytest.mark.parametrize("text", ["[tank/home]\nhourly = 2", "", None], ids=["half saved", "empty", "gone"])
async def test_one_that_changes_on_disk_changes_nothing_before_a_reload(
    world: World, etc: Path, text: str | None
) -> None:
    await world.history("tank/home", range(1, 40))
    (etc / "sanoid.conf").write_text(CONF.replace("hourly = 4", "hourly = 40"))
    world.rules = Rules(sanoid=str(etc))
    await world.tick()
    there = await world.names("tank/home")
    if text is None:
        (etc / "sanoid.conf").unlink()
    else:
        (etc / "sanoid.conf").write_text(text)
    await world.tick(EVERY)
    assert await world.names("tank/home") == there
    assert (await world.snapshotter.resolution()).chosen["tank/home"].policy.hourly == 40
    assert world.codes == ["sanoid_conf_changed"]
    assert "meshkeep config reload puts it to use" in world.said("sanoid_conf_changed")
    assert world.snapshotter.notices[0].hint == f"meshkeep policy test {etc}"


async def test_a_fragment_that_comes_is_a_change_and_put_to_use_by_a_reload(world: World, etc: Path) -> None:
    world.rules = Rules(sanoid=str(etc))
    await world.tick()
    (etc / "sanoid.d").mkdir()
    (etc / "sanoid.d/other.conf").write_text("[tank/other]\nuse_template = t\n")
    await world.tick(EVERY)
    assert world.codes == ["sanoid_conf_changed"]
    assert "tank/other" not in world.snapshotter.chosen
    await reloaded(world)
    assert world.codes == []
    assert "tank/other" in world.snapshotter.chosen


async def test_one_that_is_written_anew_with_the_same_text_has_not_changed(world: World, etc: Path) -> None:
    world.rules = Rules(sanoid=str(etc))
    await world.tick()
    (etc / "new").write_text(CONF)
    (etc / "new").rename(etc / "sanoid.conf")
    await world.tick(EVERY)
    assert world.codes == []


async def test_a_change_of_the_same_size_and_time_is_seen_and_one_taken_back_is_gone(
    world: World, etc: Path
) -> None:
    world.rules = Rules(sanoid=str(etc))
    await world.tick()
    before = (etc / "sanoid.conf").stat()
    (etc / "new").write_text(CONF.replace("hourly = 4", "hourly = 5"))
    os.utime(etc / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    (etc / "new").rename(etc / "sanoid.conf")
    await world.tick(EVERY)
    assert world.codes == ["sanoid_conf_changed"]
    (etc / "sanoid.conf").write_text(CONF)
    await world.tick(EVERY)
    assert world.codes == []


async def test_the_disk_is_looked_at_once_a_minute(world: World, etc: Path) -> None:
    world.rules = Rules(sanoid=str(etc))
    await world.tick()
    (etc / "sanoid.conf").unlink()
    await world.tick(EVERY - 1)
    assert world.codes == []
    await world.tick(1)
    assert world.codes == ["sanoid_conf_changed"]
    (etc / "sanoid.conf").write_text(CONF)
    await world.tick(EVERY - 1)
    assert world.codes == ["sanoid_conf_changed"]
    await world.tick(1)
    assert world.codes == []


async def test_a_bad_one_that_was_mended_waits_for_a_reload_too(world: World, etc: Path) -> None:
    (etc / "sanoid.conf").write_text("[tank/home]\nhurly = 3\n")
    world.rules = Rules(sanoid=str(etc))
    await world.tick()
    assert world.codes == ["sanoid_conf_invalid"]
    (etc / "sanoid.conf").write_text(CONF)
    await world.tick(EVERY)
    assert world.codes == ["sanoid_conf_invalid", "sanoid_conf_changed"]
    assert world.taken == []
    await reloaded(world)
    assert world.codes == []
    assert set(world.taken) == {"tank/home", "tank/home/photos"}


async def test_one_that_was_never_readable_leaves_our_rules_alone(world: World, tmp_path: Path) -> None:
    world.rules = Rules((Assignment("tank/other", POLICY),), sanoid=str(tmp_path))
    await world.tick()
    assert world.taken == ["tank/other"]
    assert "none of it holds" in world.said("sanoid_conf_invalid")


# -- never two schedulers ----------------------------------------------------------------------------------------


async def beside_sanoid(etc: Path, *rules: Assignment) -> World:
    world = World(*rules, root=etc.parent.parent)
    for name in ("tank/home", "tank/home/photos", "tank/other"):
        await world.zfs.create(name, {})
    return world


async def test_what_an_active_sanoid_manages_is_left_to_it(etc: Path) -> None:
    world = await beside_sanoid(etc, Assignment("tank", HOURLY, recursion="each"))
    world.commands.on("systemctl is-active", Result(0, "active\n"))
    await world.tick()
    assert set(world.taken) == {"tank", "tank/other"}
    said = world.said("two_schedulers")
    assert "sanoid.timer is active and manages tank/home, tank/home/photos too" in said
    (notice,) = world.snapshotter.notices
    assert "meshkeep config import-sanoid" in notice.hint
    assert "systemctl disable --now sanoid.timer" in notice.hint
    assert "sanoid" in (await world.snapshotter.resolution()).excluded["tank/home"]


async def test_it_is_asked_once_a_minute_and_seen_to_be_gone(etc: Path) -> None:
    world = await beside_sanoid(etc, Assignment("tank/home", HOURLY))
    world.commands.on("systemctl is-active", Result(0, "active\n"))
    for _ in range(3):
        await world.tick(20)
    assert len(world.commands.ran) == 1
    world.commands.on("systemctl is-active", Result(3, "inactive\n"))
    await world.tick(MINUTE)
    assert world.taken == ["tank/home"]
    assert world.codes == []


async def test_an_inactive_timer_and_an_idle_file_of_cron_do_not_matter(etc: Path) -> None:
    world = await beside_sanoid(etc, Assignment("tank/home", HOURLY))
    (etc.parent / "cron.d").mkdir()
    (etc.parent / "cron.d/sanoid").write_text("* * * * * root sanoid --cron\n")
    world.commands.on("systemctl is-active", Result(3, "inactive\n"))
    await world.tick()
    assert world.taken == ["tank/home"]


async def test_where_there_is_no_systemd_it_is_crons_file_that_counts(etc: Path) -> None:
    (etc.parent.parent / "run/systemd/system").rmdir()
    world = await beside_sanoid(etc, Assignment("tank/home", HOURLY))
    (etc.parent / "cron.d").mkdir()
    (etc.parent / "cron.d/sanoid").write_text("* * * * * root sanoid --cron\n")
    await world.tick()
    assert world.taken == []
    assert "etc/cron.d/sanoid is there" in world.said("two_schedulers")
    (notice,) = world.snapshotter.notices
    assert notice.hint == "meshkeep config import-sanoid; mv /etc/cron.d/sanoid /root/sanoid.cron"
    assert world.commands.ran == []


@pytest.mark.parametrize(
    "line", [b"daily_warn = 6 hours", b"daily = two", b"hurly = 3", b"pre_snapshot_script = /bin/caf\xe9"]
)
async def test_beside_an_active_sanoid_with_a_conf_that_makes_no_sense_everything_is_left_to_it(
    etc: Path, line: bytes
) -> None:
    (etc / "sanoid.conf").write_bytes(b"[tank/home]\nhourly = 5\n" + line + b"\n")
    world = await beside_sanoid(etc, Assignment("tank", replace(HOURLY, hourly=1), recursion="each"))
    made = await world.history("tank/home", range(1, 9))
    world.commands.on("systemctl is-active", Result(0, "active\n"))
    await world.tick()
    assert world.taken == [], "sanoid runs with most of what is a mistake here"
    assert await world.names("tank/home") == made
    (notice,) = world.snapshotter.notices
    assert notice.code == "sanoid_unknown"
    assert line.split()[0].decode() in notice.text or "not UTF-8" in notice.text
    assert "every dataset is left to it, nothing is taken or pruned, until that is mended" in notice.text
    assert notice.hint == "meshkeep policy test /etc/sanoid; systemctl disable --now sanoid.timer"
    assert "left to sanoid" in (await world.snapshotter.resolution()).excluded["tank/other"]
    (etc / "sanoid.conf").write_text("[tank/home]\nhourly = 5\n")
    await world.tick()
    assert set(world.taken) == {"tank", "tank/home/photos", "tank/other"}


async def test_an_active_sanoid_without_a_conf_manages_nothing(etc: Path) -> None:
    (etc / "sanoid.conf").unlink()
    world = await beside_sanoid(etc, Assignment("tank/home", HOURLY))
    world.commands.on("systemctl is-active", Result(0, "active\n"))
    await world.tick()
    assert (world.taken, world.codes) == (["tank/home"], [])


@pytest.mark.parametrize(
    "answer",
    [
        CommandMissing("systemctl"),
        CommandTimeout(["systemctl"], 30),
        CommandNotStarted("systemctl", OSError(12, "Cannot allocate memory")),
        Result(1, "", "Failed to connect to bus: Connection refused"),
    ],
    ids=["missing", "timeout", "not started", "no bus"],
)
async def test_while_systemctl_has_not_answered_yet_what_sanoid_would_manage_is_left_alone(
    etc: Path, answer: Exception | Result
) -> None:
    world = await beside_sanoid(etc, Assignment("tank", HOURLY, recursion="each"))
    world.commands.on("systemctl is-active", answer)
    await world.tick()
    assert set(world.taken) == {"tank", "tank/other"}
    assert "whether sanoid.timer is active cannot be told" in world.said("sanoid_unknown")
    assert world.snapshotter.notices[0].hint == "systemctl is-active sanoid.timer"
    world.commands.on("systemctl is-active", Result(3, "inactive\n"))
    await world.tick(1)
    assert set(world.taken) >= {"tank/home", "tank/home/photos"}, "it is asked again at the next tick"
    assert world.codes == []


@pytest.mark.parametrize(("known", "taken"), [("active", []), ("inactive", ["tank/home"])])
async def test_a_systemctl_that_fails_later_leaves_what_is_known(
    etc: Path, known: str, taken: list[str]
) -> None:
    world = await beside_sanoid(etc, Assignment("tank/home", HOURLY))
    world.commands.on("systemctl is-active", Result(0, f"{known}\n"))
    await world.tick()
    assert world.taken == taken
    world.commands.on("systemctl is-active", CommandTimeout(["systemctl"], 30))
    for passed in (HOUR, 1):
        asked = len(world.commands.ran)
        await world.tick(passed)
        assert len(world.commands.ran) == asked + 1
    assert world.taken == taken * 2


# -- the clock ---------------------------------------------------------------------------------------------------


def test_the_next_tick_is_from_now_whatever_was_missed() -> None:
    every = Every(60)
    long_ago, now = datetime.fromtimestamp(0, UTC), datetime.fromtimestamp(MIDNIGHT + 61.5, UTC)
    assert every.get_next_fire_time(long_ago, now).timestamp() == MIDNIGHT + 120
    on_time = datetime.fromtimestamp(MIDNIGHT, UTC)
    assert every.get_next_fire_time(on_time, on_time).timestamp() == MIDNIGHT + 60


class TurnedClock(datetime):
    """The clock that APScheduler reads."""

    at = MIDNIGHT

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return datetime.fromtimestamp(cls.at, UTC)


@pytest.mark.parametrize("jump", [-HOUR, 5 * 365 * DAY])
async def test_after_a_jump_it_ticks_at_once_and_then_as_ever(
    world: World, monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    monkeypatch.setattr(base, "datetime", TurnedClock)
    TurnedClock.at = world.now
    ticks: list[float] = []
    world.snapshotter.start()
    scheduler = world.snapshotter._scheduler
    job = scheduler.get_job("tick")

    async def tick() -> None:
        ticks.append(world.now)

    job.modify(func=tick)
    scheduler._process_jobs()
    TurnedClock.at = world.now = world.now + jump
    world.snapshotter.clock_jumped(jump)
    asked = []
    for now in (world.now, world.now + 59, world.now + 61):
        TurnedClock.at = now
        asked.append(scheduler._process_jobs())
    assert scheduler.get_job("tick").next_run_time.timestamp() == (world.now + 61) // 60 * 60 + 60
    assert all(0 < wait <= 60 for wait in asked)
    world.snapshotter.stop()


async def test_a_jump_is_seen_against_the_monotonic_clock() -> None:
    wall, uptime = MIDNIGHT, 0.0
    steps = [(5.0, 5.0), (5.2, 5.0), (5.0 - HOUR, 5.0), (5.0, 5.0), (8 * HOUR, 5.0)]
    seen: list[float] = []

    class Over(Exception):
        pass

    async def pause(_: float) -> None:
        nonlocal wall, uptime
        if not steps:
            raise Over
        by, passed = steps.pop(0)
        wall, uptime = wall + by, uptime + passed

    watch = ClockWatch(lambda: wall, lambda: uptime, pause)
    with pytest.raises(Over):
        await watch.run(seen.append)
    assert [round(by) for by in seen] == [-HOUR, 8 * HOUR - 5]


async def test_after_a_jump_nothing_cached_is_trusted(world: World) -> None:
    world.set(Assignment("tank/home", replace(HOURLY, hourly=0)))
    await world.zfs.snapshot(["tank/home@a"])
    await world.tick(10)
    world.snapshotter.clock_jumped(-HOUR)
    world.now -= 10
    await world.zfs.snapshot(["tank/home@b"])
    world.now += 10
    found = await world.snapshotter.histories(["tank/home"])
    assert len(found["tank/home"]) == 2


async def test_configured_and_started_it_ticks_at_once_and_stops(world: World) -> None:
    world.now = float(int(time.time()))  # the scheduler has a clock of its own
    world.snapshotter.configure(world.rules, 60)
    world.snapshotter.start()
    job = world.snapshotter._scheduler.get_job("tick")
    assert job.next_run_time.timestamp() == world.now
    world.snapshotter.stop()
    world.snapshotter.stop()


async def test_a_tick_that_hangs_is_said(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    async def hanging(*_: object) -> None:
        for passed in (STUCK - 1, 1):
            world.uptime += passed
            seen.append(world.codes)
        raise errors.PoolUnavailable("tank")

    monkeypatch.setattr(world.zfs, "pools", hanging)
    await world.snapshotter.tick()
    assert seen == [[], ["tick_hangs"]]
    assert world.codes == ["zfs_failed"]
