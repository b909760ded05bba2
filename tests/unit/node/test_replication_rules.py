"""Rules as people need them: trees, windows, pauses, limits, cancelled jobs, targets that stay away."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from node.errors import Exit, MeshkeepError
from node.job import Job, Slots, short_ids
from node.jobs_verbs import JobVerbs, run_rule
from node.replicator import RuleSpec
from replication.guard import Patience, cursor_name, hold_tag
from replication.selector import Selector
from replication.window import Window
from tests.fakes.mesh import request
from tests.fakes.pair import BEGAN, CLOUD, HOME, PASSPHRASE, ROOT, Pair, served
from tests.fakes.workers import Point

KB = 1024
DAY = 86400


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with served(Pair(tmp_path)) as two:
        await two.encrypted()
        yield two


async def tree(pair: Pair, *names: str) -> None:
    for name in names:
        await pair.home.create(name, {})
        await pair.snap("a", dataset=name)


def datasets(pair: Pair) -> list[str]:
    return [job.dataset for job in pair.replicator.jobs]


async def run(pair: Pair, dataset: str = "tank/home") -> dict[str, Any]:
    return await run_rule(pair.replicator, request(), dataset, "cloud")


def job(pair: Pair, dataset: str = "tank/home") -> Job:
    return pair.replicator.job(dataset, "cloud")


@contextlib.asynccontextmanager
async def running(pair: Pair) -> AsyncIterator[None]:
    task = asyncio.ensure_future(pair.replicator.run())
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def until(what: Any) -> None:
    async with asyncio.timeout(20):
        while not what():
            await asyncio.sleep(0.01)


async def under_way(pair: Pair, point: Point) -> None:
    """The stream stands at *point*, and the target has read of it, so that there is something to resume."""
    await point.wait()
    await until(lambda: pair.storing.receiving is not None and pair.storing.receiving.bytes > 0)


async def told(pair: Pair) -> None:
    """Until a cancellation has come down to the worker."""
    assert pair.sending.sending is not None
    async with asyncio.timeout(20):
        await pair.sending.sending.cancelled.wait()


class TestTrees:
    async def test_all_below_goes_along_and_parents_go_first(self, pair: Pair) -> None:
        await pair.snap("a")
        await tree(pair, "tank/home/b", "tank/home/b/c", "tank/home/x")
        pair.replicator.configure([RuleSpec("tank/home", "cloud", recursive=True, exclude=("tank/home/x",))])
        await pair.replicator.refresh()
        assert datasets(pair) == ["tank/home", "tank/home/b", "tank/home/b/c"]
        answer = await run(pair)
        assert (answer["state"], len(answer["datasets"]), answer["steps"]) == ("ok", 3, 3)
        assert [one.snapshot.partition("@")[0] for one in pair.sending.sent] == datasets(pair)

    async def test_a_child_whose_parent_is_not_stored_yet_waits_and_leaves_no_placeholder(
        self, pair: Pair
    ) -> None:
        await pair.snap("a")
        await tree(pair, "tank/home/b")
        pair.replicator.configure([RuleSpec("tank/home", "cloud", recursive=True)])
        await pair.replicator.refresh()
        report = await pair.replicator.run_once(job(pair, "tank/home/b"))
        assert report.waiting == "waiting for tank/home"
        assert f"{ROOT}/{HOME}/tank/home" not in pair.cloud.state.nodes
        await pair.replicator.run_once(job(pair))
        assert job(pair, "tank/home/b").wake.is_set()
        await pair.replicator.run_once(job(pair, "tank/home/b"))
        assert pair.stored(dataset="tank/home/b") == ["a"]

    async def test_a_parent_that_has_nothing_to_send_is_said(self, pair: Pair) -> None:
        await tree(pair, "tank/home/b")
        pair.replicator.configure([RuleSpec("tank/home", "cloud", recursive=True)])
        await pair.replicator.refresh()
        with pytest.raises(MeshkeepError) as caught:
            await run(pair)
        assert caught.value.exit is Exit.PARTIAL
        error = job(pair, "tank/home/b").error
        assert error is not None
        assert (error.code, error.hint) == ("parent_first", "meshkeep snapshot take tank/home")

    async def test_a_lone_child_goes_and_its_parent_is_told_how_to_follow(self, pair: Pair) -> None:
        await pair.snap("a")
        await tree(pair, "tank/home/b")
        await pair.replicate("tank/home/b")
        pair.replicator.configure([RuleSpec("tank/home", "cloud"), RuleSpec("tank/home/b", "cloud")])
        with pytest.raises(MeshkeepError) as caught:
            await pair.replicator.run_once(job(pair))
        assert caught.value.code == "target_occupied"
        assert "tank/home/b" in caught.value.what
        assert "zfs rename" in caught.value.what
        await pair.cloud.rename(f"{ROOT}/{HOME}/tank/home", f"{ROOT}/{HOME}/tank/aside")
        await pair.replicator.run_once(job(pair))
        await pair.cloud.rename(f"{ROOT}/{HOME}/tank/aside/b", f"{ROOT}/{HOME}/tank/home/b")
        await pair.snap("b", dataset="tank/home/b")
        await pair.replicator.run_once(job(pair, "tank/home/b"))
        assert pair.stored(dataset="tank/home/b") == ["a", "b"]

    async def test_new_ones_are_taken_along_by_themselves(self, pair: Pair) -> None:
        await pair.snap("a")
        pair.replicator.configure([RuleSpec("tank/home", "cloud", recursive=True)])
        async with running(pair):
            await until(lambda: job(pair).state == "ok")
            await tree(pair, "tank/home/new")
            pair.replicator.wake(dataset="tank/home/new")
            await until(lambda: pair.stored(dataset="tank/home/new") == ["a"])

    async def test_vanished_ones_are_told_and_come_back(self, pair: Pair) -> None:
        await pair.snap("a")
        await tree(pair, "tank/home/b")
        rule = RuleSpec("tank/home", "cloud", recursive=True)
        pair.replicator.configure([rule])
        await pair.replicator.refresh()
        await pair.home.rename("tank/home/b", "tank/b")
        await pair.replicator.refresh()
        gone = job(pair, "tank/home/b")
        assert (gone.state, gone.error and gone.error.code) == ("vanished", "dataset_vanished")
        pair.replicator.configure([rule])
        assert job(pair, "tank/home/b") is gone
        await pair.home.rename("tank/b", "tank/home/b")
        await pair.replicator.refresh()
        assert (gone.state, gone.error) == ("waiting", None)
        pair.replicator.configure([])
        assert datasets(pair) == []


class TestPaused:
    async def test_it_sends_nothing_and_keeps_its_base(self, pair: Pair) -> None:
        await pair.snap("a")
        await pair.replicate()
        needed = pair.replicator.needed("tank/home")
        pair.rule(paused=True)
        await pair.snap("b")
        with pytest.raises(MeshkeepError) as caught:
            await pair.replicator.run_once(job(pair))
        assert (caught.value.code, caught.value.exit) == ("paused", Exit.REFUSED)
        assert (job(pair).state, pair.stored()) == ("paused", ["a"])
        assert pair.replicator.needed("tank/home") == needed != {}

    async def test_pausing_ends_what_runs_and_resuming_goes_on_with_it(self, pair: Pair) -> None:
        await pair.snap("a", data=b"z" * 1000 * KB)
        point = pair.sending.pause(600 * KB)
        pair.rule()
        async with running(pair):
            await under_way(pair, point)
            pair.rule(paused=True)
            await told(pair)
            point.go_on.set()
            await until(lambda: not job(pair).running)
            assert (job(pair).state, pair.stored()) == ("paused", [])
            pair.rule()
            await until(lambda: pair.stored() == ["a"])
        assert job(pair).resumed == 1

    async def test_after_a_restart_it_still_knows_its_base(self, pair: Pair) -> None:
        await pair.snap("a")
        await pair.replicate()
        needed = pair.replicator.needed("tank/home")
        pair.replicator = pair.another_replicator()
        pair.rule(paused=True)
        assert pair.replicator.needed("tank/home") == {}
        async with running(pair):
            await until(lambda: pair.replicator.needed("tank/home") == needed)


class TestWindow:
    NIGHT = Window.parse("01:00-06:00")

    async def test_a_first_copy_waits_for_it_and_later_ones_do_not(self, pair: Pair) -> None:
        await pair.snap("a")
        pair.clock.now = BEGAN - BEGAN % DAY + 12 * 3600
        report = await pair.replicate(window=self.NIGHT)
        assert report.waiting == "waiting for window 01:00-06:00"
        assert (job(pair).state, job(pair).error, pair.stored()) == (report.waiting, None, [])
        pair.clock.now += 14 * 3600
        await pair.replicate(window=self.NIGHT)
        pair.clock.now += 12 * 3600
        await pair.snap("b")
        await pair.replicate(window=self.NIGHT)
        assert pair.stored() == ["a", "b"]

    async def test_when_it_closes_the_stream_ends_and_the_next_night_goes_on(self, pair: Pair) -> None:
        await pair.snap("a", data=b"z" * 1000 * KB)
        pair.clock.now = BEGAN - BEGAN % DAY + 6 * 3600 - 1
        point = pair.sending.pause(600 * KB)
        run = asyncio.ensure_future(pair.replicate(window=self.NIGHT))
        await under_way(pair, point)
        await told(pair)
        point.go_on.set()
        assert (await run).waiting == "waiting for window 01:00-06:00"
        pair.clock.now += 1
        assert (await pair.replicate(window=self.NIGHT)).waiting
        pair.clock.now += 20 * 3600
        assert (await pair.replicate(window=self.NIGHT)).resumed == 1
        assert pair.stored() == ["a"]


class TestOptions:
    async def test_only_what_is_selected_goes_and_counts(self, pair: Pair) -> None:
        await pair.snap("a", "b", "c")
        await pair.replicate(selector=Selector(names="[ab]"))
        assert pair.stored() == ["a", "b"]
        await pair.replicate(selector=Selector(names="[ab]"))
        assert (job(pair).behind, job(pair).state) == (0, "ok")

    async def test_a_first_copy_of_the_newest_only(self, pair: Pair) -> None:
        await pair.snap("a", "b")
        await pair.replicate(initial="newest")
        await pair.snap("c")
        await pair.replicate(initial="newest")
        assert pair.stored() == ["b", "c"]


class TestAwayForLong:
    async def interrupted(self, pair: Pair, **more: Any) -> None:
        await pair.snap("a")
        await pair.replicate(**more)
        await pair.snap("b", data=b"y" * 100 * KB)
        pair.sending.cut(50 * KB)
        await pair.refused(**more)
        pair.port = 1  # from now on nobody is there

    async def held(self, pair: Pair) -> list[str]:
        tag = hold_tag(CLOUD)
        snapshots = await pair.home.snapshots("tank/home")
        return [one.name for one in snapshots if tag in await pair.home.holds(one.full_name)]

    async def test_for_a_while_the_ends_of_the_step_are_held(self, pair: Pair) -> None:
        await self.interrupted(pair)
        pair.clock.now += 14 * DAY
        await pair.refused()
        assert await self.held(pair) == ["a", "b"]
        assert len(pair.replicator.needed("tank/home")) == 1

    async def test_then_bookmarks_must_do_and_they_do(self, pair: Pair) -> None:
        port = pair.port
        await self.interrupted(pair)
        pair.clock.now += 14 * DAY + 3601
        await pair.refused()
        assert await self.held(pair) == []
        assert pair.replicator.needed("tank/home") == {}
        guids = [one.guid for one in await pair.home.snapshots("tank/home")]
        marks = {mark.name for mark in await pair.home.bookmarks("tank/home")}
        assert marks == {cursor_name(CLOUD, guid) for guid in guids}
        assert not await pair.home.destroy_snapshots(["tank/home@a", "tank/home@b"])
        pair.port = port
        await pair.snap("c")
        await pair.replicate()
        assert pair.stored() == ["a", "c"]

    async def test_one_that_pins_more_than_its_rule_allows_is_only_bookmarked(self, pair: Pair) -> None:
        await self.interrupted(pair, patience=Patience(size=0))
        before = await self.held(pair)
        await pair.refused(patience=Patience(size=0))
        pinned = [one.used for one in await pair.home.snapshots("tank/home")]
        assert before == ["a", "b"]
        assert await self.held(pair) == ([] if sum(pinned) else ["a", "b"])


class TestJobs:
    async def test_a_cancelled_run_is_resumed_by_hand_and_not_by_a_peer_that_comes_back(
        self, pair: Pair
    ) -> None:
        await pair.snap("a", data=b"z" * 1000 * KB)
        point = pair.sending.pause(600 * KB)
        pair.rule()
        verbs = JobVerbs(pair.replicator)
        async with running(pair):
            await under_way(pair, point)
            waits = asyncio.ensure_future(verbs.watch(request(job=job(pair).id[:4])))
            await asyncio.sleep(0)
            await verbs.cancel(request(job="tank/home", node="cloud"))
            await told(pair)
            point.go_on.set()
            with pytest.raises(MeshkeepError) as caught:
                await waits
            assert caught.value.code == "cancelled"
            await until(lambda: not job(pair).running)
            assert (job(pair).state, job(pair).error) == ("cancelled", None)
            pair.replicator.wake(target="cloud")
            assert not job(pair).wake.is_set()
            pair.replicator.wake(dataset="tank/home")
            await until(lambda: pair.stored() == ["a"])
        assert job(pair).resumed == 1

    async def test_what_does_not_run_cannot_be_cancelled(self, pair: Pair) -> None:
        pair.rule()
        with pytest.raises(MeshkeepError) as caught:
            await JobVerbs(pair.replicator).cancel(request(job=job(pair).id))
        assert caught.value.code == "not_running"

    async def test_an_unknown_and_an_ambiguous_id(self, pair: Pair) -> None:
        pair.replicator.configure([RuleSpec("tank/home", "cloud"), RuleSpec("tank/two", "cloud")])
        verbs = JobVerbs(pair.replicator)
        for text in ("zz", ""):
            with pytest.raises(MeshkeepError) as caught:
                await verbs.show(request(job=text))
            assert caught.value.code == "no_job"

    async def test_the_list_and_the_details(self, pair: Pair) -> None:
        await pair.snap("a")
        await pair.replicate(window=Window.parse("00:00-23:59"))
        verbs = JobVerbs(pair.replicator)
        (one,) = (await verbs.listing(request()))["jobs"]
        assert (one["state"], one["next"], len(one["job"])) == ("ok", "after the next snapshot", 4)
        shown = await verbs.show(request(job=one["job"]))
        assert shown["options"]["window"] == "00:00-23:59"
        assert (shown["target_seen"], shown["outcome"]) == (int(pair.clock.now), "ok")

    def test_short_ids_are_as_long_as_they_must_be(self) -> None:
        jobs = [Job(f"tank/{number}", "cloud") for number in range(2000)]
        shown = short_ids(jobs)
        assert len(set(shown.values())) == len(jobs)
        assert min(map(len, shown.values())) == 4
        for one, short in shown.items():
            assert sum(job.id.startswith(short) for job in jobs) == 1, one


class TestParallel:
    async def test_so_many_streams_run_to_one_target_and_no_more(self, pair: Pair) -> None:
        names = [f"tank/d{number}" for number in range(4)]
        for name in names:
            await pair.home.create(name, {}, passphrase=PASSPHRASE)
            await pair.snap("a", dataset=name, data=b"z" * 10 * KB)
        points = [pair.sending.pause(5 * KB) for _ in names]
        pair.replicator.configure([RuleSpec(name, "cloud") for name in names], parallel=2)
        async with running(pair):
            await asyncio.gather(points[0].wait(), points[1].wait())
            await until(lambda: [one.state for one in pair.replicator.jobs].count("queued") == 2)
            assert len(pair.sending.sends) == 2
            for point in points:
                point.go_on.set()
            await until(lambda: all(pair.stored(dataset=name) for name in names))

    async def test_who_waits_can_leave_the_line(self) -> None:
        slots = Slots(1)
        assert not await slots.take()
        waiting = [asyncio.ensure_future(slots.take()) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        await asyncio.sleep(0)
        slots.give_back()
        assert await waiting[1]

    async def test_who_leaves_in_the_moment_of_being_let_in_gives_it_back(self) -> None:
        slots = Slots(1)
        await slots.take()
        waiting = asyncio.ensure_future(slots.take())
        await asyncio.sleep(0)
        slots.give_back()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not await slots.take()

    async def test_more_room_lets_in_who_waits(self) -> None:
        slots = Slots(1)
        await slots.take()
        waiting = asyncio.ensure_future(slots.take())
        await asyncio.sleep(0)
        slots.resize(2)
        assert await waiting
