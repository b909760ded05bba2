"""Many steps and many datasets: how often the disks and the peers are asked, and what a break in the middle leaves."""

import asyncio
import contextlib
import math
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node import looks
from node.chain import CHUNK
from node.errors import MeshkeepError
from node.replica_places import RECEIVED
from node.replicator import POLL, Replicator, RuleSpec, _until_all_look
from replication.guard import FLOOR_HOLD, cursor_name, hold_tag
from tests.fakes.pair import CLOUD, HOME, PASSPHRASE, ROOT, Pair, served
from tests.fakes.zfs import FakeZfs

KB = 1024
REPLICA = f"{ROOT}/{HOME}/tank/home"
LOOKING = {
    "looks",
    "look",
    "datasets",
    "dataset",
    "snapshots",
    "bookmarks",
    "holds",
    "get",
    "snapshot_property",
}


class Counted:
    """A door to *zfs* that counts its calls, and the datasets whose snapshots were listed."""

    def __init__(self, zfs: FakeZfs) -> None:
        self._zfs = zfs
        self.calls: Counter[str] = Counter()
        self.listed = 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._zfs, name)
        if not asyncio.iscoroutinefunction(found):
            return found

        async def call(*args: Any, **named: Any) -> Any:
            self.calls[name] += 1
            if name == "looks":
                self.listed += len(set(args[0]) - set(args[3]))
            return await found(*args, **named)

        return call

    def asked(self) -> Counter[str]:
        """What it was asked since the last time, but for what changes nothing and looks at nothing."""
        calls, self.calls, self.listed = self.calls, Counter(), 0
        return calls


class World:
    """A pair whose doors count. `put` makes a replica that is there already."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        here: Any = Counted(pair.home)
        there: Any = Counted(pair.cloud)
        self.here, self.there = here, there
        workers: Any = pair.sending
        pair.replicator = Replicator(here, workers, pair, pair.clock)
        cloud, pair.cloud = pair.cloud, there
        pair.serving()
        pair.cloud = cloud

    async def put(self, *names: str) -> None:
        """Datasets with a snapshot @a each, of which cloud has everything."""
        home, cloud = self.pair.home, self.pair.cloud
        for name in names:
            await home.create(name, {}, passphrase=PASSPHRASE)
        await home.snapshot([f"{name}@a" for name in names])
        for above in (ROOT, f"{ROOT}/{HOME}", f"{ROOT}/{HOME}/tank"):
            await cloud.create(above, {})
        for name in names:
            await cloud.create(f"{ROOT}/{HOME}/{name}", {"canmount": "noauto"})
            replica, node = cloud.state.nodes[f"{ROOT}/{HOME}/{name}"], home.state.nodes[name]
            receipt = {RECEIVED: str(cloud.state.now())}
            snapshot = replace(node.snapshots["a"], holds={FLOOR_HOLD}, properties=receipt)
            replica.snapshots = {"a": snapshot}
            replica.snapshots_changed = cloud.state.now()
            replica.wrap, replica.key_root = node.wrap, replica
        self.pair.clock.now += 3600

    def replicate(self, *names: str, parallel: int = 4) -> None:
        self.pair.replicator.configure([RuleSpec(name, "cloud") for name in names], parallel=parallel)

    async def run(self) -> None:
        outcomes = await self.pair.replicator.run_tree(self.pair.replicator.jobs)
        failed = [one for one in outcomes.values() if isinstance(one, Exception)]
        assert not failed, failed[0]

    def forget(self) -> None:
        """Count from now on."""
        self.here.asked()
        self.there.asked()
        self.pair.asked.clear()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with served(Pair(tmp_path)) as pair:
        yield World(pair)


def datasets(count: int) -> list[str]:
    return [f"tank/d{number:03}" for number in range(count)]


class TestHowOftenIsAsked:
    async def test_300_datasets_with_nothing_to_do_are_one_look_here_and_one_request(
        self, world: World
    ) -> None:
        names = datasets(300)
        await world.put(*names)
        world.replicate(*names)
        await world.run()
        world.pair.clock.now += 3600
        await world.run()
        world.forget()
        await world.run()
        assert world.pair.asked == ["replica.states"]
        assert (world.here.listed, world.there.listed) == (0, 0)
        assert world.here.asked() == {"looks": 1}
        assert world.there.asked() == {"looks": 1}
        assert {job.state for job in world.pair.replicator.jobs} == {"ok"}

    async def test_100_datasets_with_a_small_increment_each(self, world: World) -> None:
        names = datasets(100)
        await world.put(*names)
        world.replicate(*names)
        for snapshot in "bc":  # the first time there are things to be noted
            for name in names:
                world.pair.home.write(name, b"more")
            await world.pair.home.snapshot([f"{name}@{snapshot}" for name in names])
            world.pair.clock.now += 3600
            world.forget()
            await world.run()
        assert all(world.pair.stored(dataset=name) == ["a", "b", "c"] for name in names)
        asked, here, there = Counter(world.pair.asked), world.here.asked(), world.there.asked()
        assert asked["replica.receive"] == 100
        assert asked["replica.states"] + here["looks"] < 130
        changes = {name: count for name, count in here.items() if name not in LOOKING}
        assert changes == dict.fromkeys(
            ("bookmark_all", "hold", "send_size", "release", "destroy_bookmarks"), 100
        )
        assert here["holds"] == 200
        changes = {name: count for name, count in there.items() if name not in LOOKING}
        assert changes == {"hold": 100, "set_all": 100}
        assert there["looks"] <= 100 + 100 + asked["replica.states"]
        assert there.total() == there["looks"] + 200

    async def test_500_steps_of_one_dataset_are_few_connections_and_few_changes(self, world: World) -> None:
        await world.put("tank/home")
        world.replicate("tank/home")
        await world.run()
        for number in range(500):
            world.pair.home.write("tank/home", b"more")
            await world.pair.home.snapshot([f"tank/home@s{number:03}"])
        world.pair.clock.now += 3600
        world.forget()
        await world.run()
        chunks = math.ceil(500 / CHUNK)
        assert len(world.pair.stored()) == 501
        assert Counter(world.pair.asked) == {"replica.states": 2, "replica.receive": chunks}
        here, there = world.here.asked(), world.there.asked()
        assert here["looks"] == 2
        assert here["bookmark_all"] == here["hold"] == chunks
        assert here["release"] == here["destroy_bookmarks"] == chunks
        assert here["send_size"] == 500 + chunks - 1
        assert there["hold"] == there["set_all"] < 250
        assert there["looks"] <= there["hold"] + chunks + 2

    async def test_a_peer_is_asked_for_no_more_than_fits_into_an_answer(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        names = datasets(30)
        await world.put(*names)
        world.replicate(*names)
        await world.run()
        monkeypatch.setattr("node.replicas.ANSWER", 1500)
        world.pair.replicator = Replicator(world.pair.home, world.pair.sending, world.pair, world.pair.clock)  # type: ignore[arg-type]
        world.replicate(*names)
        world.forget()
        await world.run()
        assert set(world.pair.asked) == {"replica.states"}
        assert 3 < len(world.pair.asked) < 15
        assert {job.state for job in world.pair.replicator.jobs} == {"ok"}

    async def test_a_replica_that_no_answer_could_hold_is_said_and_the_others_go_on(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await world.put("tank/many", "tank/few")
        one = world.pair.cloud.state.nodes[f"{ROOT}/{HOME}/tank/many"]
        first = one.snapshots["a"]
        one.snapshots |= {f"s{n}": replace(first, name=f"s{n}", guid=n, createtxg=n) for n in range(1, 50)}
        monkeypatch.setattr("node.replicas.ANSWER", 2000)
        world.replicate("tank/many", "tank/few")
        outcomes = await world.pair.replicator.run_tree(world.pair.replicator.jobs)
        refused = outcomes["tank/many", "cloud"]
        assert isinstance(refused, MeshkeepError)
        assert refused.code == "too_many_snapshots"
        assert not isinstance(outcomes["tank/few", "cloud"], MeshkeepError)

    async def test_all_jobs_of_all_targets_look_in_the_same_moment(self) -> None:
        now = asyncio.get_running_loop().time()
        moments = {round(now + _until_all_look(POLL), 1) for _ in range(3)}
        assert len(moments) == 1
        assert 0 < moments.pop() - now <= POLL + 0.1
        assert 40 <= _until_all_look(40.0) <= 45.1
        assert looks.MOMENT < 0.1


class Crash(Exception):
    """The host went down here."""


class Mortal:
    """A door to *zfs*: before the change number `left` the host goes down."""

    CHANGES = ("hold", "release", "bookmark_all", "destroy_bookmarks", "set", "set_all")

    def __init__(self, zfs: FakeZfs, left: int) -> None:
        self._zfs, self.left = zfs, left

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._zfs, name)
        if name not in self.CHANGES:
            return found

        async def change(*args: Any, **named: Any) -> Any:
            if self.left <= 0:
                raise Crash
            self.left -= 1
            return await found(*args, **named)

        return change


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """@a is on both sides, @b to @f of 20 KB each only at home."""
    async with served(Pair(tmp_path)) as two:
        await two.encrypted()
        await two.snap("a", data=b"x" * 20 * KB)
        await two.replicate()
        await two.snap(*"bcdef", data=b"y" * 20 * KB)
        yield two


async def kept(pair: Pair) -> set[str]:
    """The names of the snapshots that are bookmarked for cloud at home, or held."""
    marks = {mark.guid for mark in await pair.home.bookmarks("tank/home") if CLOUD in mark.name}
    tag = hold_tag(CLOUD)
    return {
        one.name
        for one in await pair.home.snapshots("tank/home")
        if one.guid in marks or tag in await pair.home.holds(one.full_name)
    }


async def everything_is_in_order(pair: Pair) -> None:
    """Both sides have it all, one cursor is left here, and over there each is held and has its receipt."""
    assert pair.stored() == list("abcdef")
    newest = pair.home.state.snap("tank/home@f")
    assert [mark.name for mark in await pair.home.bookmarks("tank/home")] == [cursor_name(CLOUD, newest.guid)]
    assert not any(one.holds for one in await pair.home.snapshots("tank/home"))
    for name in "abcdef":
        assert await pair.cloud.holds(f"{REPLICA}@{name}") == [FLOOR_HOLD]
        assert pair.cloud.state.snap(f"{REPLICA}@{name}").data == pair.home.read(f"tank/home@{name}")
    assert set(await pair.cloud.snapshot_property(REPLICA, RECEIVED)) == set("abcdef")


class TestBrokenInTheMiddle:
    @pytest.mark.parametrize("through", range(5))
    @pytest.mark.parametrize("after", [0, 10 * KB])
    async def test_what_arrived_stays_and_the_rest_follows(
        self, pair: Pair, through: int, after: int
    ) -> None:
        for _ in range(through):
            pair.sending.pause(0).go_on.set()
        pair.sending.cut(after)
        await pair.refused()
        assert pair.stored() == list("abcdef")[: through + 1]
        assert set(pair.stored()[-1:]) <= await kept(pair)
        for name in pair.stored():
            assert await pair.cloud.holds(f"{REPLICA}@{name}") == [FLOOR_HOLD]
        assert len(await pair.cloud.snapshot_property(REPLICA, RECEIVED)) == through + 1
        report = await pair.replicate()
        assert (report.steps, report.resumed) == (5 - through, 1 if after else 0)
        await everything_is_in_order(pair)

    @pytest.mark.parametrize("through", [0, 2, 5])
    @pytest.mark.parametrize("left", range(6))
    async def test_the_source_goes_down_at_any_change(self, pair: Pair, through: int, left: int) -> None:
        if through < 5:
            for _ in range(through):
                pair.sending.pause(0).go_on.set()
            pair.sending.cut(10 * KB)
        mortal: Any = Mortal(pair.home, left)
        home, pair.home = pair.home, mortal
        pair.replicator, pair.home = pair.another_replicator(), home
        for _ in range(2):  # the second run would tidy up, if it came so far
            with contextlib.suppress(Crash, MeshkeepError):
                await pair.replicate()
        assert pair.stored()[-1] in await kept(pair)
        pair.replicator = pair.another_replicator()
        pair.sending.streams.points.clear()
        await pair.replicate()
        await everything_is_in_order(pair)

    @pytest.mark.parametrize("left", range(8))
    async def test_the_target_goes_down_at_any_change(self, pair: Pair, left: int) -> None:
        mortal: Any = Mortal(pair.cloud, left)
        cloud, pair.cloud = pair.cloud, mortal
        pair.serving()
        with contextlib.suppress(MeshkeepError):
            await pair.replicate()
        pair.cloud = cloud
        pair.serving()
        assert pair.stored()[-1] in await kept(pair)
        await pair.replicate()
        await pair.snap("g")
        await pair.replicate()
        assert pair.stored() == list("abcdefg")
        for name in "abcdefg":
            assert await pair.cloud.holds(f"{REPLICA}@{name}") == [FLOOR_HOLD]

    async def test_a_key_that_changes_in_between_is_refused_from_there_on(self, pair: Pair) -> None:
        pair.sending.pause(0).go_on.set()
        point = pair.sending.pause(0)
        running = asyncio.ensure_future(pair.refused())
        await point.wait()
        pair.home.change_passphrase("tank/home", b"of the thief")
        pair.sending.pause(0).go_on.set()
        point.go_on.set()
        error = await running
        assert error.code == "key_changed"
        assert set(pair.stored()) < set("abcdef")
        await pair.cloud.load_key(REPLICA, PASSPHRASE)
        for name in pair.stored():
            assert pair.cloud.read(f"{REPLICA}@{name}") == pair.home.read(f"tank/home@{name}")

    async def test_a_snapshot_that_is_pruned_before_its_turn_makes_another_plan(self, pair: Pair) -> None:
        bookmark_all = pair.home.bookmark_all
        pruned = []

        async def too_late(pairs: Mapping[str, str]) -> None:
            if not pruned:
                pruned.append(await pair.home.destroy_snapshots(["tank/home@d"]))
            await bookmark_all(pairs)

        pair.home.bookmark_all = too_late  # type: ignore[method-assign]
        await pair.replicate()
        assert pruned == [{}]
        assert pair.stored() == list("abcef")

    async def test_the_whole_chain_is_what_progress_counts(self, pair: Pair) -> None:
        pair.sending.pause(0).go_on.set()
        pair.sending.pause(0).go_on.set()
        point = pair.sending.pause(10 * KB)
        running = asyncio.ensure_future(pair.replicate())
        await point.wait()
        job = pair.replicator.job("tank/home", "cloud")
        shown = job.progress()
        assert shown["steps"] == 5
        assert shown["bytes_total"] == pytest.approx(100 * KB, rel=0.05)
        point.go_on.set()
        await running
        assert (job.step, job.steps, job.snapshot) == (5, 5, "f")
        assert job.bytes_done == pytest.approx(100 * KB, rel=0.15)  # frames and all

    async def test_an_answer_that_lists_less_than_was_sent_is_not_believed_to_be_all(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        receive = pair.replicas.receive

        async def fewer(owners: Sequence[str], args: dict[str, Any], stream: Any) -> dict[str, Any]:
            answer = await receive(owners, args, stream)
            return {**answer, "received": answer["received"][:2]}

        monkeypatch.setattr(pair.replicas, "receive", fewer)
        await pair.replicate()
        await everything_is_in_order(pair)
        assert pair.asked.count("replica.receive") == 2

    async def test_what_was_not_found_is_looked_for_before_anything_goes_on_from_it(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("node.chain.CHUNK", 2)
        receive, answers = pair.replicas.receive, iter([1])

        async def fewer(owners: Sequence[str], args: dict[str, Any], stream: Any) -> dict[str, Any]:
            answer = await receive(owners, args, stream)
            return {**answer, "received": answer["received"][: next(answers, None)]}

        monkeypatch.setattr(pair.replicas, "receive", fewer)
        pair.asked.clear()
        await pair.replicate()
        await everything_is_in_order(pair)
        send, look = "replica.receive", "replica.states"
        assert pair.asked == [look, send, look, send, send, look]

    async def test_what_a_worker_could_not_say_is_found_all_the_same(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        receive = pair.storing.receive

        async def silent(sock: Any, **job: Any) -> Any:
            return await receive(sock, **{**job, "on_step": None})

        monkeypatch.setattr(pair.storing, "receive", silent)
        report = await pair.replicate()
        assert report.steps == 5
        assert pair.asked.count("replica.receive") == 2, "@a, and the others at once"
        await everything_is_in_order(pair)

    @pytest.mark.parametrize("said", [None, [{}], [{"guid": "x"}], "all"])
    async def test_an_answer_that_makes_no_sense_is_said(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch, said: object
    ) -> None:
        receive = pair.replicas.receive

        async def odd(owners: Sequence[str], args: dict[str, Any], stream: Any) -> dict[str, Any]:
            await receive(owners, args, stream)
            return {"received": said}

        monkeypatch.setattr(pair.replicas, "receive", odd)
        error = await pair.refused()
        assert "makes no sense" in f"{error.what} {error.why}"
