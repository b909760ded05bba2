"""Snapshots by policy over the double of ZFS, under a clock that the test turns."""

import time
from collections import Counter
from collections.abc import Mapping

import pytest

from node.snapshotter import Snapshotter
from policy.naming import kind_of
from policy.rules import Assignment, Policy
from tests.fakes.zfs import FakeZfs
from zfs import errors
from zfs.model import Snapshot

MIDNIGHT = 1_699_920_000.0
MINUTE, HOUR, DAY = 60, 3600, 86400
NODE = "abcdefghijklmnop"
POLICY = Policy(name="p", frequently=4, hourly=24, daily=7, monthly=0)


class World:
    def __init__(self, *rules: Assignment) -> None:
        self.now = MIDNIGHT
        self.zfs = FakeZfs(clock=lambda: self.now, pools={"tank": 1 << 30, "pond": 1 << 30})
        self.needed: dict[int, str] = {}
        self.roots: tuple[str, ...] = ()
        self.taken: list[str] = []
        self.snapshotter = Snapshotter(
            self.zfs,
            now=lambda: self.now,
            needed=self._needed,
            replica_roots=lambda: self.roots,
            taken=self.taken.append,
        )
        self.snapshotter._assignments = rules

    def _needed(self, dataset: str) -> Mapping[int, str]:
        return self.needed

    async def tick(self, after: float = 0) -> None:
        self.now += after
        await self.snapshotter.tick()

    async def kinds(self, dataset: str) -> Counter[str | None]:
        return Counter(kind_of(one.name) for one in await self.zfs.snapshots(dataset))


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
    world.taken.clear()
    await world.tick(3 * DAY)
    assert Counter(world.taken) == {"tank/home": 3, "tank/home/photos": 3}


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


async def test_a_dataset_that_cannot_be_listed_does_not_keep_the_others_from_theirs(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    listing = world.zfs.snapshots

    async def failing(dataset: str, *, recursive: bool = False) -> list[Snapshot]:
        if dataset == "tank/home/photos":
            raise errors.NotFound(dataset)
        return await listing(dataset, recursive=recursive)

    monkeypatch.setattr(world.zfs, "snapshots", failing)
    await world.tick()
    assert set(world.taken) == {"tank/home"}


async def test_a_readonly_pool_is_said_and_the_other_goes_on(world: World) -> None:
    await world.zfs.create("pond/x", {})
    world.snapshotter._assignments = [
        Assignment("pond/x", POLICY), Assignment("tank/home", POLICY),
    ]  # fmt: skip
    world.zfs.make_readonly("pond")
    await world.tick()
    assert set(world.taken) == {"tank/home"}
    assert [notice.code for notice in world.snapshotter.notices] == ["pool_readonly"]


async def test_configured_and_started_it_ticks_at_once_and_stops(world: World) -> None:
    world.now = float(int(time.time()))  # the scheduler has a clock of its own
    world.snapshotter.configure([Assignment("tank/home", POLICY)], 60)
    world.snapshotter.start()
    job = world.snapshotter._scheduler.get_job("tick")
    assert job.next_run_time.timestamp() == world.now
    world.snapshotter.stop()
    world.snapshotter.stop()
