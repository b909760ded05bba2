"""The keeper on a vault: what goes and what stays there, and what a crash, a jump of the clock or a race leaves."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mesh.invite import VaultTerms
from node.api import Request
from node.local_state import LocalState
from node.promises import Promises
from node.replica_keeper import MARKS, VOUCH, ReplicaKeeper, host_clock
from node.replica_places import RECEIVED, Terms
from node.storage import Storage
from replication.guard import FLOOR_HOLD
from replication.target_clock import Reading, load
from replication.target_retention import Keep
from tests.fakes.pair import CLOUD, HOME, NEIGHBOUR, ROOT, Pair, served
from tests.fakes.zfs import FakeZfs
from tests.fakes.zfs_state import Partial
from zfs import errors

DAY = 86400
HOUR = 3600
BEGAN = 1_790_000_000
REPLICA = f"{ROOT}/{HOME}/tank/home"
NOTHING = Keep(30 * DAY, 0, 0, 0, 0, 0)
ASKED = Request("storage.plan", {}, 0, 0)


class Crash(Exception):
    """The agent dies here."""


class Vault(FakeZfs):
    """A vault's ZFS that writes down what changes it, and can fail at a call of a given name."""

    def __init__(self, clock: Any) -> None:
        super().__init__(clock=clock, pools={"vault": 1 << 30})
        self.done: list[tuple[str, str, tuple[str, ...]]] = []
        self.fail_at: dict[str, Exception] = {}

    def _note(self, what: str, tag: str, names: Sequence[str]) -> None:
        if what in self.fail_at:
            raise self.fail_at.pop(what)
        self.done.append((what, tag, tuple(name.partition("@")[2] for name in names)))

    async def release(self, tag: str, snapshots: Sequence[str]) -> None:
        self._note("release", tag, snapshots)
        await super().release(tag, snapshots)

    async def hold(self, tag: str, snapshots: Sequence[str]) -> None:
        self._note("hold", tag, snapshots)
        await super().hold(tag, snapshots)

    async def destroy_snapshots(self, names: Sequence[str]) -> dict[str, Exception]:
        self._note("destroy", "", names)
        return await super().destroy_snapshots(names)


class World:
    """A vault with a keeper; `days` pass with rounds an hour apart."""

    def __init__(self) -> None:
        self.true, self.error, self.boot, self.booted = BEGAN, 0, 1, BEGAN - 100 * DAY
        self.zfs = Vault(lambda: self.wall)
        self.keep = NOTHING
        self.terms: Terms | None = Terms(ROOT)
        self.receiving: set[str] = set()
        self.keeper = self.another_keeper()

    @property
    def wall(self) -> int:
        return self.true + self.error

    def reading(self) -> Reading:
        return Reading(self.wall, f"boot-{self.boot}", self.true - self.booted)

    def another_keeper(self) -> ReplicaKeeper:
        async def terms() -> Terms | None:
            return self.terms

        return ReplicaKeeper(
            self.zfs,
            terms=terms,
            promises=Promises(self.zfs, keep=lambda _: self.keep),
            receiving=lambda: self.receiving,
            clock=self.reading,
        )

    async def replica(self, dataset: str = REPLICA) -> None:
        parts = dataset.split("/")
        for end in range(2, len(parts) + 1):
            name = "/".join(parts[:end])
            if name not in self.zfs.state.nodes:
                await self.zfs.create(name, {})

    async def store(self, *names: str, age: int = 0, dataset: str = REPLICA, note: str | None = None) -> None:
        """As if received *age* seconds ago."""
        for name in names:
            full = f"{dataset}@{name}"
            await self.zfs.snapshot([full])
            await self.zfs.set(full, {RECEIVED: str(self.wall - age) if note is None else note})
            await FakeZfs.hold(self.zfs, FLOOR_HOLD, [full])

    async def hours(self, count: int) -> None:
        """Time passes, and each hour the keeper looks."""
        for _ in range(count):
            self.true += HOUR
            await self.keeper.tend()

    def stored(self, dataset: str = REPLICA) -> list[str]:
        return list(self.zfs.state.nodes[dataset].snapshots)

    def held(self, dataset: str = REPLICA) -> list[str]:
        return [one.name for one in self.zfs.state.nodes[dataset].snapshots.values() if one.holds]

    def codes(self) -> list[str]:
        return [problem.code for problem in self.keeper.problems()]

    async def plan(self, dataset: str = "tank/home") -> dict[str, tuple[bool, tuple[str, ...]]]:
        found = await self.keeper.plan(ASKED)
        return {
            one["name"]: (one["goes"], tuple(one["reasons"]))
            for replica in found["replicas"]
            if replica["dataset"] == dataset
            for one in replica["snapshots"]
        }


@pytest.fixture
async def world() -> World:
    """Four snapshots, stored for a floor and more, counted for as long."""
    made = World()
    await made.replica()
    await made.store("a", "b", "c", "d")
    await made.keeper.tend()
    made.true += 31 * DAY
    made.zfs.done.clear()
    return made


class TestARound:
    async def test_lets_the_earliest_go_the_hold_first(
        self, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        await world.keeper.tend()
        assert world.stored() == ["b", "c", "d"]
        assert world.zfs.done == [("release", FLOOR_HOLD, ("a",)), ("destroy", "", ("a",))]
        assert f"let go of {REPLICA}@a: past the floor, first of no period that is kept" in caplog.text

    async def test_tells_how_many_were_held_when_it_came(self, world: World) -> None:
        owner = REPLICA.removeprefix(f"{ROOT}/").partition("/")[0]
        await world.keeper.tend()
        assert world.keeper.held == {owner: 4}
        await world.hours(1)
        assert world.keeper.held == {owner: 3}

    async def test_comes_once_an_hour_whatever_is_asked(self, world: World) -> None:
        for _ in range(60):
            await world.keeper.tend()
            world.true += 59
        assert len(world.stored()) == 3
        world.true += 60
        await world.keeper.tend()
        assert len(world.stored()) == 2

    async def test_comes_once_an_hour_also_when_the_agent_starts_again_and_again(self, world: World) -> None:
        for _ in range(10):
            await world.another_keeper().tend()
        assert len(world.stored()) == 3

    async def test_comes_once_an_hour_also_when_it_crashes(self, world: World) -> None:
        world.zfs.fail_at["destroy"] = Crash()
        with pytest.raises(Crash):
            await world.keeper.tend()
        for _ in range(10):
            await world.another_keeper().tend()
        assert world.zfs.done == [("release", FLOOR_HOLD, ("a",))]

    async def test_the_newest_stays_for_ever(self, world: World) -> None:
        await world.hours(24 * 90)
        assert world.stored() == ["d"]
        assert world.held() == ["d"]

    async def test_a_policy_that_keeps_them_keeps_them(self, world: World) -> None:
        world.keep = Keep(daily=40, weekly=0, monthly=0, yearly=0)
        await world.hours(48)
        assert world.stored() == ["a", "d"]

    async def test_each_replica_by_itself(self, world: World) -> None:
        other = f"{ROOT}/{NEIGHBOUR}/tank/other"
        await world.replica(other)
        await world.store("x", "y", dataset=other)
        await world.hours(2)
        assert (world.stored(), world.stored(other)) == (["c", "d"], ["x", "y"])
        await world.hours(24 * 31)
        assert (world.stored(), world.stored(other)) == (["d"], ["y"])

    async def test_only_what_lies_below_a_node_is_a_replica(self, world: World) -> None:
        for dataset in (f"{ROOT}/mine", f"{ROOT}/{CLOUD}", "vault/data"):
            await world.replica(dataset)
            await world.store("a", "b", "c", age=400 * DAY, dataset=dataset)
        await world.hours(24)
        assert all(len(world.stored(one)) == 3 for one in (f"{ROOT}/mine", f"{ROOT}/{CLOUD}", "vault/data"))

    async def test_where_nothing_is_stored_does_nothing(self) -> None:
        world = World()
        await world.keeper.tend()
        world.terms = None
        await world.keeper.tend()
        assert (await world.keeper.plan(ASKED))["replicas"] == []
        assert (await world.keeper.vouch(ASKED))["vouched"] is False
        assert world.zfs.done == []

    async def test_one_that_cannot_be_looked_at_does_not_stop_the_others(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        broken = f"{ROOT}/{HOME}/broken"
        await world.replica(broken)
        await world.store("x", "y", age=0, dataset=broken)
        look = world.zfs.look

        async def failing(dataset: str, *more: Any) -> Any:
            if dataset == broken:
                raise errors.PoolUnavailable(dataset)
            return await look(dataset, *more)

        monkeypatch.setattr(world.zfs, "look", failing)
        await world.keeper.tend()
        assert world.stored() == ["b", "c", "d"]
        assert world.codes() == ["not_let_go"]
        monkeypatch.undo()
        await world.hours(1)
        assert world.codes() == []

    async def test_a_suspended_pool_is_said(self, world: World) -> None:
        world.zfs.suspend("vault")
        with pytest.raises(errors.PoolUnavailable):
            await world.keeper.tend()


class TestWhatNeverGoes:
    async def test_what_somebody_else_holds(self, world: World) -> None:
        await FakeZfs.hold(world.zfs, "lawyer", [f"{REPLICA}@a"])
        assert (await world.plan())["a"] == (False, ("held: lawyer",))
        await world.hours(24)
        assert world.stored() == ["a", "d"]
        assert world.held() == ["a", "d"]

    async def test_what_somebody_holds_between_look_and_release(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        release = world.zfs.release

        async def late(tag: str, snapshots: Sequence[str]) -> None:
            await FakeZfs.hold(world.zfs, "lawyer", snapshots)
            await release(tag, snapshots)

        monkeypatch.setattr(world.zfs, "release", late)
        await world.keeper.tend()
        assert world.stored() == ["a", "b", "c", "d"]
        assert await world.zfs.holds(f"{REPLICA}@a") == ["lawyer", FLOOR_HOLD]

    async def test_the_base_of_a_partial_stream(self, world: World) -> None:
        node = world.zfs.state.nodes[REPLICA]
        node.partial = Partial(5, node.snapshots["a"].guid, f"{REPLICA}@e", 100, appends=True, raw=True)
        assert (await world.plan())["a"] == (False, ("base of a partly received stream",))
        await world.hours(24)
        assert world.stored() == ["a", "d"]

    async def test_a_replica_that_is_being_received_waits(self, world: World) -> None:
        world.receiving = {REPLICA}
        await world.hours(5)
        assert len(world.stored()) == 4
        world.receiving = set()
        await world.hours(1)
        assert len(world.stored()) == 3


class TestReceipts:
    @pytest.mark.parametrize("note", ["", "yesterday", "-5", "1e3", "9" * 13])
    async def test_one_that_says_no_time_is_noted_as_now(self, world: World, note: str) -> None:
        await world.store("e", note=note)
        await world.keeper.tend()
        assert (await world.zfs.snapshot_property(REPLICA, RECEIVED))["e"] == str(world.wall)

    async def test_one_that_is_missing_counts_from_now(self, world: World) -> None:
        for name in "abcd":
            await world.zfs.inherit(f"{REPLICA}@{name}", RECEIVED)
        await world.hours(24 * 29)
        assert len(world.stored()) == 4
        await world.hours(24 * 3)
        assert world.stored() == ["d"]

    async def test_one_of_the_dataset_is_none_of_its_snapshots(self, world: World) -> None:
        await world.zfs.inherit(f"{REPLICA}@a", RECEIVED)
        await world.zfs.set(REPLICA, {RECEIVED: "5"})
        await world.hours(24)
        assert world.stored() == ["a", "b", "c", "d"]

    async def test_losing_what_was_remembered_starts_every_floor_anew(self, world: World) -> None:
        await world.zfs.inherit(ROOT, MARKS)
        await world.hours(24 * 29)
        assert len(world.stored()) == 4
        await world.hours(24 * 3)
        assert world.stored() == ["d"]

    @pytest.mark.parametrize("text", ["", "{}", "x", '{"v":99}'])
    async def test_so_does_what_cannot_be_read(self, world: World, text: str) -> None:
        await world.zfs.set(ROOT, {MARKS: text})
        await world.hours(24)
        assert len(world.stored()) == 4

    async def test_what_a_pool_says_is_not_remembered_here(self, world: World) -> None:
        marks = world.zfs.state.nodes[ROOT].properties.pop(MARKS)
        await world.zfs.set("vault", {MARKS: marks})
        await world.hours(24)
        assert len(world.stored()) == 4


class TestACrash:
    async def test_between_release_and_destroy_is_mended_by_the_next_round(self, world: World) -> None:
        world.zfs.fail_at["destroy"] = Crash()
        with pytest.raises(Crash):
            await world.keeper.tend()
        assert (world.stored(), world.held()) == (["a", "b", "c", "d"], ["b", "c", "d"])
        world.keeper = world.another_keeper()
        await world.hours(1)
        assert world.stored() == world.held() == ["b", "c", "d"]

    async def test_leaves_no_bare_snapshot_if_the_policy_keeps_it_by_then(self, world: World) -> None:
        world.zfs.fail_at["destroy"] = Crash()
        with pytest.raises(Crash):
            await world.keeper.tend()
        world.keep = replace(NOTHING, floor=90 * DAY)
        await world.hours(1)
        assert world.stored() == world.held() == ["a", "b", "c", "d"]

    async def test_nor_after_a_jump_of_the_clock(self, world: World) -> None:
        world.zfs.fail_at["destroy"] = Crash()
        with pytest.raises(Crash):
            await world.keeper.tend()
        world.error = 9 * DAY
        await world.hours(1)
        assert world.stored() == world.held() == ["a", "b", "c", "d"]

    async def test_before_anything_went_the_round_is_noted(self, world: World) -> None:
        world.zfs.fail_at["release"] = Crash()
        with pytest.raises(Crash):
            await world.keeper.tend()
        marks = load(world.zfs.state.nodes[ROOT].properties[MARKS])
        assert marks is not None
        assert marks.last == world.reading()

    async def test_a_source_that_comes_in_between_holds_it_again_and_nothing_breaks(
        self, tmp_path: Path
    ) -> None:
        async with served(Pair(tmp_path)) as pair:
            await pair.encrypted()
            await pair.snap("a", "b", "c")
            await pair.replicate()
            await pair.cloud.release(FLOOR_HOLD, [f"{REPLICA}@a"])
            await pair.snap("d")
            await pair.replicate()
            assert await pair.cloud.holds(f"{REPLICA}@a") == [FLOOR_HOLD]

    async def test_one_that_goes_while_a_source_holds_it_again_is_no_failure_of_the_source(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with served(Pair(tmp_path)) as pair:
            await pair.encrypted()
            await pair.snap("a", "b", "c")
            await pair.replicate()
            await pair.cloud.release(FLOOR_HOLD, [f"{REPLICA}@a", f"{REPLICA}@b"])
            hold = pair.cloud.hold

            async def late(tag: str, snapshots: Sequence[str]) -> None:
                await pair.cloud.destroy_snapshots([f"{REPLICA}@a"])
                await hold(tag, snapshots)

            monkeypatch.setattr(pair.cloud, "hold", late)
            await pair.snap("d")
            await pair.replicate()
            assert pair.stored() == ["b", "c", "d"]
            assert await pair.cloud.holds(f"{REPLICA}@b") == [FLOOR_HOLD]


class TestAJumpOfTheClock:
    @pytest.mark.parametrize("error", [3 * DAY, 400 * DAY, -2 * HOUR, -400 * DAY])
    async def test_stops_all_until_a_person_has_looked(self, world: World, error: int) -> None:
        world.error = error
        await world.hours(24)
        assert len(world.stored()) == 4
        (problem,) = world.keeper.problems()
        assert (problem.code, problem.try_) == ("clock_jumped", VOUCH)
        assert not any(goes for goes, _ in (await world.plan()).values())
        world.error = 0
        await world.hours(24)
        assert len(world.stored()) == 4, "a clock that is set right is not believed by itself"

    async def test_is_not_forgotten_by_another_agent(self, world: World) -> None:
        world.error = 3 * DAY
        await world.hours(1)
        world.error = 0
        world.keeper = world.another_keeper()
        await world.hours(24)
        assert len(world.stored()) == 4
        assert world.codes() == ["clock_jumped"]

    async def test_forward_vouched_for_costs_just_that_time(self) -> None:
        world = World()
        await world.replica()
        await world.store("a", "b")
        await world.keeper.tend()
        world.true += 20 * DAY
        world.error = 15 * DAY
        await world.hours(1)
        assert world.codes() == ["clock_jumped"]
        answer = await world.keeper.vouch(ASKED)
        assert (answer["vouched"], answer["counts_anew"]) == (True, False)
        assert world.codes() == []
        await world.hours(24 * 9)
        assert world.stored() == ["a", "b"]
        await world.hours(24)
        assert world.stored() == ["b"]

    async def test_back_vouched_for_starts_every_floor_anew(self, world: World) -> None:
        world.error = -3 * HOUR
        await world.hours(1)
        answer = await world.keeper.vouch(ASKED)
        assert (answer["vouched"], answer["counts_anew"]) == (True, True)
        await world.hours(24 * 29)
        assert len(world.stored()) == 4
        await world.hours(24 * 2)
        assert world.stored() == ["d"]

    async def test_receipts_of_a_clock_that_was_ahead_are_set_right(self, world: World) -> None:
        await world.store("e", age=-50 * DAY)
        await world.keeper.tend()
        assert world.codes() == ["clock_jumped"]
        await world.keeper.vouch(ASKED)
        assert (await world.zfs.snapshot_property(REPLICA, RECEIVED))["e"] == str(world.wall)
        await world.hours(24)
        assert world.codes() == []

    async def test_a_missing_receipt_is_not_noted_by_a_clock_in_doubt(self, world: World) -> None:
        await world.zfs.inherit(f"{REPLICA}@a", RECEIVED)
        world.error = -900 * DAY
        await world.hours(1)
        assert "a" not in await world.zfs.snapshot_property(REPLICA, RECEIVED)

    async def test_vouching_without_one_changes_nothing(self, world: World) -> None:
        before = dict(world.zfs.state.nodes[ROOT].properties)
        assert (await world.keeper.vouch(ASKED))["vouched"] is False
        assert world.zfs.state.nodes[ROOT].properties == before

    async def test_a_host_that_was_off_for_a_night_goes_on_by_itself(self, world: World) -> None:
        await world.hours(1)
        world.true += 10 * HOUR
        world.boot, world.booted = 2, world.true
        await world.hours(10)
        assert world.codes() == []
        assert world.stored() == ["d"]


class TestThePlan:
    async def test_says_why_and_changes_nothing(self, world: World) -> None:
        before = dict(world.zfs.state.nodes[ROOT].properties)
        await world.store("e", age=12 * DAY)
        assert await world.plan() == {
            "a": (True, ("past the floor, first of no period that is kept",)),
            "b": (False, ("past the floor, first of no period that is kept", "goes in a later run")),
            "c": (False, ("past the floor, first of no period that is kept", "goes in a later run")),
            "d": (False, ("newest past the floor",)),
            "e": (False, ("floor: 12 of 30 days since receipt",)),
        }
        assert world.zfs.done == []
        assert world.zfs.state.nodes[ROOT].properties == before


class TestThePromiseOfAnInvite:
    @pytest.mark.parametrize(
        ("promised", "configured", "holds"), [(90, 30, 90), (7, 30, 30), (None, 30, 30), (0, 1, 1)]
    )
    async def test_is_kept_whatever_the_configuration_says(
        self, tmp_path: Path, promised: int | None, configured: int, holds: int
    ) -> None:
        local = LocalState(tmp_path)
        local.save_terms(VaultTerms("vault", None, promised))
        storage = Storage(FakeZfs(), local, lambda: None)
        assert storage.keep(Keep(configured * DAY)).floor == holds * DAY

    async def test_without_one_the_configuration_holds(self, tmp_path: Path) -> None:
        keep = Keep(5 * DAY, 1, 2, 3, 4, 5)
        assert Storage(FakeZfs(), LocalState(tmp_path), lambda: None).keep(keep) == keep


def test_the_clocks_of_this_host_can_be_read() -> None:
    first, second = host_clock(), host_clock()
    assert first.boot == second.boot != ""
    assert second.wall >= first.wall > 1_600_000_000
    assert second.up >= first.up > 0
