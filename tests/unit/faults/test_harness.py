"""The harness itself: it counts calls, strikes where it was told, and its judge sees what is wrong."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from node.replicator import RuleSpec
from replication.guard import FLOOR_HOLD, hold_tag
from tests.fakes.pair import CLOUD
from tests.faults.judge import Broken, Judge
from tests.faults.matrix import Case, Verdict, as_text, record, table
from tests.faults.points import PLACES, Point, Script, Strike, points_of, strikes_at
from tests.faults.scenarios import REPLICA, SCENARIOS
from tests.faults.world import World, world_of

LOOK, HOLD = Point("home", "door", "look", 0), Point("cloud", "door", "hold", 1)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with world_of(tmp_path) as one:
        yield one


@pytest.fixture
async def judge(world: World) -> Judge:
    """@a and @b are on cloud, and all is well."""
    judge = Judge(world)
    world.obey(RuleSpec("tank/home", "cloud"))
    await world.encrypted()
    await judge.snap("a", "b")
    await world.run()
    judge.look()
    judge.at_rest()
    return judge


class TestPoints:
    def test_each_call_is_one_and_each_stream_several(self) -> None:
        found = points_of([("home", "door", "look"), ("home", "stream", "send"), ("home", "door", "look")])
        assert [point.number for point in found if point.what == "look"] == [0, 1]
        assert [point.place for point in found if point.what == "send"] == list(PLACES)

    def test_what_changes_can_be_cut_off_before_and_after(self) -> None:
        assert {strike.fault for strike in strikes_at([HOLD])} == {"before", "after", "other", "error"}
        assert {strike.fault for strike in strikes_at([LOOK])} == {"before", "error"}
        half = strikes_at([Point("cloud", "door", "set_all", 0)])
        assert "half" in {strike.fault for strike in half}

    def test_a_script_strikes_once_and_counts_anew_from_there(self) -> None:
        first, second = Strike(HOLD, "before"), Strike(LOOK, "error")
        script = Script()
        assert script.next("cloud", "door", "hold") is None, "it is not armed"
        script.arm(first, second)
        assert script.next("cloud", "door", "hold") is None
        assert script.next("home", "door", "look") is None, "the first comes first"
        assert script.next("cloud", "door", "hold") is first
        assert script.next("home", "door", "look") is second
        assert script.left == []


class TestDying:
    async def test_a_dead_agent_changes_nothing_more(self, world: World) -> None:
        world.obey(RuleSpec("tank/home", "cloud"))
        await world.encrypted()
        await world.snap("a")
        world.script.arm(Strike(Point("home", "door", "hold", 0), "before"))
        assert await world.run() == {}
        assert world.dead == {"home"}
        assert await world.home.holds("tank/home@a") == []
        assert world.stored() == []

    async def test_after_a_call_its_change_is_there(self, world: World) -> None:
        world.obey(RuleSpec("tank/home", "cloud"))
        await world.encrypted()
        await world.snap("a")
        world.script.arm(Strike(Point("home", "door", "hold", 0), "after"))
        await world.run()
        assert await world.home.holds("tank/home@a") == [hold_tag(CLOUD)]
        assert await world.revive() == ["home"]
        assert all(job.state == "waiting" for job in world.replicator.jobs), "it is another agent"

    async def test_a_target_that_died_answers_again_after_its_start(self, world: World) -> None:
        world.obey(RuleSpec("tank/home", "cloud"))
        await world.encrypted()
        await world.snap("a")
        world.script.arm(Strike(Point("cloud", "stream", "receive", 0), "after"))
        await world.run()
        assert world.stored() == ["a"], "ZFS had taken it"
        assert world.replicator.job("tank/home", "cloud").state == "waiting"
        assert await world.revive() == ["cloud"]
        await world.run()
        assert world.replicator.job("tank/home", "cloud").state == "ok"


class TestTheJudge:
    async def test_home_lost_one(self, world: World, judge: Judge) -> None:
        await world.home.destroy_snapshots(["tank/home@a"])
        with pytest.raises(Broken, match="home lost a snapshot"):
            judge.look()

    async def test_what_was_destroyed_on_purpose_is_not_lost(self, judge: Judge) -> None:
        assert await judge.destroy("tank/home", "a") == ["a"]
        judge.look()

    async def test_the_target_lost_one(self, world: World, judge: Judge) -> None:
        await world.cloud.release(FLOOR_HOLD, [f"{REPLICA}@a"])
        await world.cloud.destroy_snapshots([f"{REPLICA}@a"])
        with pytest.raises(Broken, match="cloud lost a snapshot"):
            judge.look()

    async def test_the_target_has_something_else(self, world: World, judge: Judge) -> None:
        world.cloud.state.nodes[REPLICA].snapshots["b"].data += b"!"
        with pytest.raises(Broken, match=r"lost|another"):
            judge.look()

    async def test_the_base_is_not_kept(self, world: World, judge: Judge) -> None:
        await world.home.destroy_bookmarks([one.full_name for one in await world.home.bookmarks("tank/home")])
        with pytest.raises(Broken, match="nothing at home keeps @b"):
            judge.look()

    async def test_protected_as_of_a_time_that_it_is_not(self, world: World, judge: Judge) -> None:
        await judge.snap("c")
        judge.look()
        world.replicator.job("tank/home", "cloud").as_of = int(world.clock.now)
        with pytest.raises(Broken, match="called protected"):
            judge.look()

    async def test_ok_and_not_up_to_date(self, world: World, judge: Judge) -> None:
        await judge.snap("c")
        with pytest.raises(Broken, match="not up to date"):
            judge.after(world.replicator.job("tank/home", "cloud"), failed=False)
        with pytest.raises(Broken, match="the run failed"):
            judge.after(world.replicator.job("tank/home", "cloud"), failed=True)

    @pytest.mark.parametrize("leak", ["hold", "bookmark", "bare", "late"])
    async def test_what_is_left_over(self, world: World, judge: Judge, leak: str) -> None:
        match leak:
            case "hold":
                await world.home.hold(hold_tag(CLOUD), ["tank/home@a"])
            case "bookmark":
                await world.home.bookmark("tank/home@a", f"tank/home#meshkeep_{CLOUD}_1")
            case "bare":
                await world.cloud.release(FLOOR_HOLD, [f"{REPLICA}@b"])
            case "late":
                await judge.snap("c")
        with pytest.raises(Broken):
            judge.at_rest()


def test_the_table_has_a_row_for_each_scenario_and_fault(tmp_path: Path) -> None:
    case = Case(SCENARIOS[0], (Strike(HOLD, "before"),))
    rows = table([Verdict(case, 1), Verdict(case, 1, "lost"), Verdict(Case(SCENARIOS[1], case.strikes), 0)])
    assert [(row["points"], row["runs"], row["missed"]) for row in rows] == [(1, 2, 0), (1, 1, 1)]
    assert "lost" in as_text(rows)
    record("one", rows, tmp_path / "faults.json")
    record("two", [], tmp_path / "faults.json")
    assert '"one"' in (tmp_path / "faults.json").read_text()
