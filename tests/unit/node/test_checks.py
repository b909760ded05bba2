"""The verb `check` over the double of ZFS: what it looks at, and that nothing that hangs makes it hang."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest

from node.checks import DEADLINE, Checks
from node.errors import MeshkeepError
from policy.naming import snapshot_name
from policy.rules import Assignment, Monitor, Policy, PoolLimits, Resolution, resolve
from tests.fakes.mesh import request
from tests.fakes.zfs import FakeZfs
from zfs import errors
from zfs.model import Snapshot

NOW = 1_700_000_000
HOUR, DAY = 3600, 86400
POLICY = Policy(name="p", hourly=24, daily=0, monthly=0)


class World:
    """A host with rules. `hangs` are the pools of which nothing is heard any more, `all` of them for "*"."""

    def __init__(self) -> None:
        self.now = NOW
        self.zfs = FakeZfs(clock=lambda: self.now, pools={"tank": 1 << 20, "pond": 1 << 20})
        self.rules: list[Assignment] = []
        self.pools: dict[str, PoolLimits] = {}
        self.hangs: set[str] = set()
        self.asked: list[tuple[str, ...]] = []
        self.doubts = ""
        self.checks = Checks(
            self.zfs,
            resolution=self.resolution,
            histories=self.histories,
            doubts=lambda: self.doubts,
            now=lambda: self.now,
            deadline=0.2,
        )

    async def resolution(self) -> Resolution:
        if "*" in self.hangs:
            await asyncio.Event().wait()
        names = [one.name for one in await self.zfs.datasets()]
        return resolve(self.rules, names, pools=self.pools)

    async def histories(self, datasets: Iterable[str]) -> Mapping[str, Sequence[Snapshot]]:
        named = tuple(datasets)
        self.asked.append(named)
        if any(name.partition("/")[0] in self.hangs for name in named):
            await asyncio.Event().wait()
        found = await self.zfs.histories(named)
        return {name: one for name, one in found.items() if not isinstance(one, errors.ZfsError)}

    async def dataset(self, name: str, policy: Policy = POLICY, *, age: int | None = 60) -> None:
        """With a rule, and a snapshot that old by the time it is looked at."""
        await self.zfs.create(name, {})
        self.rules.append(Assignment(name, policy))
        if age is not None:
            self.now = NOW - age
            await self.zfs.snapshot([f"{name}@{snapshot_name('hourly', self.now)}"])
            self.now = NOW

    async def check(self, what: str | None = None) -> dict[str, Any]:
        return await self.checks.check(request(what=what) if what else request())


@pytest.fixture
def world() -> World:
    return World()


class TestSnapshots:
    async def test_fresh(self, world: World) -> None:
        await world.dataset("tank/a")
        answer = await world.check("snapshots")
        assert (answer["code"], answer["state"]) == (0, "OK")
        assert answer["line"] == (
            "OK: all monitored datasets (tank/a) have fresh snapshots | 'tank/a hourly'=60s;5400;21600;0"
        )
        assert answer["checks"] == [
            {
                "name": "snapshots",
                "code": 0,
                "state": "OK",
                "text": "OK: all monitored datasets (tank/a) have fresh snapshots",
                "figures": [
                    {"label": "tank/a hourly", "value": 60, "unit": "s", "warn": 5400, "crit": 21600}
                ],
            }
        ]

    async def test_late_in_any_pool(self, world: World) -> None:
        await world.dataset("tank/a")
        await world.dataset("pond/b", age=2 * HOUR)
        answer = await world.check("snapshots")
        assert answer["code"] == 1
        assert answer["line"].startswith("WARN: pond/b newest hourly snapshot is 2h 0m 0s old")
        assert sorted(world.asked) == [("pond/b",), ("tank/a",)]

    async def test_nothing_written_and_the_policy_skips_that(self, world: World) -> None:
        await world.dataset("tank/a", replace(POLICY, skip_unchanged=True), age=DAY)
        assert (await world.check("snapshots"))["code"] == 0
        world.zfs.write("tank/a", b"x")
        assert (await world.check("snapshots"))["code"] == 2

    async def test_a_rule_for_what_does_not_exist(self, world: World) -> None:
        world.rules.append(Assignment("tank/gone", POLICY))
        answer = await world.check("snapshots")
        assert (answer["code"], answer["line"]) == (2, "CRIT: tank/gone does not exist")

    async def test_one_that_went_away_in_between(self, world: World) -> None:
        await world.dataset("tank/a")
        resolution = await world.resolution()
        await world.zfs.destroy_snapshots([(await world.zfs.snapshots("tank/a"))[0].full_name])
        await world.zfs.destroy_dataset("tank/a")

        async def before() -> Resolution:
            return resolution

        checks = Checks(world.zfs, resolution=before, histories=world.histories, now=lambda: NOW)
        answer = await checks.check(request(what="snapshots"))
        assert answer["line"] == "CRIT: tank/a cannot be read: it could not be listed"


class TestWhatHangs:
    async def test_a_pool_that_does_not_answer_is_critical_and_takes_no_other_along(
        self, world: World
    ) -> None:
        await world.dataset("tank/a")
        await world.dataset("pond/b")
        world.hangs.add("pond")
        answer = await world.check("snapshots")
        assert answer["code"] == 2
        assert answer["line"].startswith("CRIT: pond/b cannot be read: no answer within 0.2 s | 'tank/a")

    async def test_a_suspended_one_is_not_even_asked(self, world: World) -> None:
        await world.dataset("tank/a")
        await world.dataset("pond/b")
        resolution = await world.resolution()
        world.zfs.suspend("pond")

        async def before() -> Resolution:
            return resolution

        checks = Checks(world.zfs, resolution=before, histories=world.histories, now=lambda: NOW)
        answer = await checks.check(request(what="snapshots"))
        assert answer["code"] == 2
        assert "CRIT: pond/b cannot be read: pool pond is SUSPENDED" in answer["line"]
        assert world.asked == [("tank/a",)]

    async def test_what_it_hides_is_not_said_to_be_gone(self, world: World) -> None:
        world.rules = [Assignment("pond/b", POLICY)]
        world.zfs.suspend("pond")

        async def the_others() -> Resolution:
            return resolve(world.rules, [])

        checks = Checks(world.zfs, resolution=the_others, histories=world.histories, now=lambda: NOW)
        answer = await checks.check(request(what="snapshots"))
        assert answer["line"] == "CRIT: pond/b cannot be read: pool pond is SUSPENDED"

    async def test_where_it_keeps_everything_from_being_listed_it_is_named(self, world: World) -> None:
        await world.dataset("tank/a")
        world.hangs.add("*")
        assert (await world.check("snapshots"))["line"] == (
            "CRITICAL - ZFS did not answer within 0.2 s (perhaps a pool is suspended)"
        )
        world.zfs.suspend("pond")
        assert (await world.check("snapshots"))["line"] == (
            "CRITICAL - ZFS did not answer within 0.2 s (suspended: pond)"
        )

    async def test_the_pools_can_still_be_checked(self, world: World) -> None:
        world.hangs.add("*")
        answer = await world.check()
        assert [(one["name"], one["state"]) for one in answer["checks"]] == [
            ("snapshots", "CRITICAL"),
            ("capacity", "OK"),
            ("health", "OK"),
            ("replication", "OK"),
        ]

    async def test_no_answer_about_a_pool(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        ask = world.zfs.pool_status

        async def pool_status(name: str) -> Any:
            if name == "pond":
                await asyncio.Event().wait()
            return await ask(name)

        monkeypatch.setattr(world.zfs, "pool_status", pool_status)
        answer = await world.check("health")
        assert answer["code"] == 2
        assert (
            "CRITICAL ZPOOL pond : ONLINE, no answer within 0.2 s, OK ZPOOL tank : ONLINE" in answer["line"]
        )

    async def test_not_even_the_list_of_pools(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        async def pools() -> Any:
            await asyncio.Event().wait()

        monkeypatch.setattr(world.zfs, "pools", pools)
        answer = await world.check()
        assert answer["code"] == 2
        assert [one["state"] for one in answer["checks"]] == [*["CRITICAL"] * 3, "OK"]

    def test_the_deadline_is_shorter_than_any_monitorings(self) -> None:
        assert DEADLINE <= 10


class TestWhatFails:
    async def test_no_zfs_is_unknown(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        async def pools() -> Any:
            raise errors.Unsupported("zpool", "there is no such command: OpenZFS is not installed")

        monkeypatch.setattr(world.zfs, "pools", pools)
        answer = await world.check("capacity")
        assert answer["code"] == 3
        assert answer["line"].startswith("UNKNOWN - ZFS could not be asked: zpool: there is no such command")

    async def test_a_dead_pool_that_spoils_the_list_is_critical(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def datasets(root: str | None = None) -> Any:
            raise errors.PoolUnavailable("tank")

        monkeypatch.setattr(world.zfs, "datasets", datasets)
        assert (await world.check("snapshots"))["code"] == 3
        world.zfs.suspend("tank")
        answer = await world.check("snapshots")
        assert (answer["code"], answer["line"]) == (2, "CRITICAL - pool tank is SUSPENDED")

    async def test_a_check_that_there_is_not(self, world: World) -> None:
        with pytest.raises(MeshkeepError, match="no check 'weather'"):
            await world.check("weather")

    async def test_rules_that_are_not_known_are_not_ok(self, world: World) -> None:
        world.doubts = "the configuration has a mistake"
        answer = await world.check("snapshots")
        assert (answer["code"], answer["line"]) == (
            3,
            "UNKNOWN - the configuration has a mistake; OK: no dataset is monitored",
        )
        await world.dataset("tank/a", age=None)
        assert (await world.check("snapshots"))["code"] == 2


class TestPools:
    async def test_capacity_by_the_limits_of_the_rules(self, world: World) -> None:
        await world.dataset("tank/a")
        world.zfs.write("tank/a", bytes(600 << 10))
        assert (await world.check("capacity"))["code"] == 0
        world.pools = {"tank": PoolLimits(50, 90)}
        answer = await world.check("capacity")
        assert answer["code"] == 1
        assert answer["line"].startswith("*** WARNING *** OK ZPOOL pond : 0%, WARNING ZPOOL tank : 58% |")

    async def test_health_and_what_is_not_imported(self, world: World) -> None:
        assert (await world.check("health"))["code"] == 0
        world.rules.append(Assignment("lost/x", POLICY))
        for what in ("health", "capacity"):
            answer = await world.check(what)
            assert answer["code"] == 2
            assert "CRITICAL ZPOOL lost : not imported" in answer["line"]

    async def test_a_suspended_pool(self, world: World) -> None:
        world.zfs.suspend("pond")
        answer = await world.check("health")
        assert answer["code"] == 2
        assert "ZPOOL pond : SUSPENDED" in answer["line"]


async def test_all_at_once_with_the_worst_code(world: World) -> None:
    await world.dataset("tank/a", replace(POLICY, monitor=Monitor()), age=2 * HOUR)
    answer = await world.check()
    assert (answer["code"], answer["state"]) == (1, "WARNING")
    assert answer["line"].startswith("WARNING - snapshots: WARN: tank/a newest")
    assert "; capacity: OK ZPOOL pond : 0%, OK ZPOOL tank : 0%; health: OK ZPOOL pond" in answer["line"]
    assert [one["name"] for one in answer["checks"]] == ["snapshots", "capacity", "health", "replication"]
