"""What many want to see in the same moment is looked at once, after all of them asked."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from node.looks import MAX_AGE, Batches, Looks
from tests.fakes.pair import Clock
from tests.fakes.zfs import FakeZfs
from zfs import errors
from zfs.model import Look


class Fetch:
    """Answers with a number that grows; `let` lets an answer go."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.let = asyncio.Event()
        self.let.set()

    async def __call__(self, names: Sequence[str]) -> Mapping[str, int | Exception]:
        self.asked.append(list(names))
        number = len(self.asked)
        await self.let.wait()
        return {name: KeyError(name) if name == "bad" else number for name in names if name != "unsaid"}


class TestBatches:
    async def test_what_is_asked_at_once_is_fetched_once(self) -> None:
        fetch = Fetch()
        batches = Batches(fetch)
        assert await asyncio.gather(*(batches.of(name) for name in "abca")) == [1, 1, 1, 1]
        assert fetch.asked == [["a", "b", "c"]]

    async def test_who_asks_while_an_answer_is_on_its_way_gets_a_later_one(self) -> None:
        fetch = Fetch()
        batches = Batches(fetch)
        fetch.let.clear()
        first = asyncio.ensure_future(batches.of("a"))
        async with asyncio.timeout(20):
            while not fetch.asked:
                await asyncio.sleep(0)
        later = [asyncio.ensure_future(batches.of(name)) for name in ("a", "b")]
        await asyncio.sleep(0)
        fetch.let.set()
        assert (await first, *await asyncio.gather(*later)) == (1, 2, 2)

    async def test_each_gets_its_own_error(self) -> None:
        batches = Batches(Fetch())
        found = await asyncio.gather(
            *(batches.of(name) for name in ("a", "bad", "unsaid")), return_exceptions=True
        )
        assert found[0] == 1
        assert isinstance(found[1], KeyError)
        assert isinstance(found[2], LookupError)

    async def test_a_fetch_that_fails_fails_for_all_who_asked_and_for_nobody_later(self) -> None:
        calls = 0

        async def fetch(names: Sequence[str]) -> Mapping[str, int | Exception]:
            nonlocal calls
            calls += 1
            if calls == 1:
                raise errors.PoolUnavailable("tank")
            return dict.fromkeys(names, calls)

        batches = Batches(fetch)
        found = await asyncio.gather(batches.of("a"), batches.of("b"), return_exceptions=True)
        assert [type(one) for one in found] == [errors.PoolUnavailable] * 2
        assert await batches.of("a") == 2

    async def test_who_does_not_wait_any_more_takes_nothing_from_the_others(self) -> None:
        batches = Batches(Fetch())
        gone, stays = (asyncio.ensure_future(batches.of("a")) for _ in range(2))
        await asyncio.sleep(0)
        gone.cancel()
        assert await stays == 1
        assert gone.cancelled()


class Listed:
    """The door to *zfs*, and in `listed` the datasets of each listing whose snapshots were listed too."""

    def __init__(self, zfs: FakeZfs) -> None:
        self._zfs = zfs
        self.listed: list[list[str]] = []
        self.slowly: tuple[asyncio.Event, asyncio.Event] | None = None

    async def looks(self, names: Sequence[str], *wanted: Any) -> dict[str, Look | errors.ZfsError]:
        self.listed.append([name for name in names if name not in wanted[-1]])
        found = await self._zfs.looks(names, *wanted)
        if self.slowly is not None:
            listed, go_on = self.slowly
            listed.set()
            await go_on.wait()
        return found


class Host:
    """A host with dataset tank/a, and looks at it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.zfs = FakeZfs(clock=self.clock)
        self.door = Listed(self.zfs)
        door: Any = self.door
        self.shared = Looks(door, self.clock, note="test:note")
        self.look = self.shared.at

    @property
    def listed(self) -> list[list[str]]:
        return self.door.listed

    async def snap(self, name: str, note: str | None = "1") -> None:
        await self.zfs.snapshot([name], {"test:note": note} if note else {})
        self.clock.now += 10


@pytest.fixture
async def host() -> Host:
    host = Host()
    await host.zfs.create("tank/a", {})
    await host.snap("tank/a@one")
    return host


def names(look: Look) -> list[str]:
    return [one.name for one in look.snapshots]


class TestLooks:
    async def test_snapshots_that_did_not_change_are_not_listed_again(self, host: Host) -> None:
        first = await host.look("tank/a")
        host.zfs.write("tank/a", b"more")
        again = await host.look("tank/a")
        assert host.listed == [["tank/a"], []]
        assert again.snapshots is first.snapshots
        assert (first.dataset.written, again.dataset.written) == (0, 4)

    async def test_those_that_did_are(self, host: Host) -> None:
        await host.look("tank/a")
        await host.snap("tank/a@two")
        assert names(await host.look("tank/a")) == ["one", "two"]
        await host.zfs.destroy_snapshots(["tank/a@one"])
        assert names(await host.look("tank/a")) == ["two"]

    async def test_another_change_in_the_second_of_the_look_is_seen(self, host: Host) -> None:
        await host.zfs.snapshot(["tank/a@two"], {"test:note": "1"})
        await host.look("tank/a")
        await host.zfs.snapshot(["tank/a@three"], {"test:note": "1"})
        assert names(await host.look("tank/a")) == ["one", "two", "three"]

    async def test_what_we_changed_ourselves_is_listed_again(self, host: Host) -> None:
        await host.look("tank/a")
        await host.zfs.bookmark("tank/a@one", "tank/a#mark")
        host.shared.forget("tank/a")
        assert [mark.name for mark in (await host.look("tank/a")).bookmarks] == ["mark"]

    async def test_a_listing_from_before_our_change_is_not_remembered(self, host: Host) -> None:
        listed, go_on = host.door.slowly = asyncio.Event(), asyncio.Event()
        early = asyncio.ensure_future(host.look("tank/a"))
        await listed.wait()
        await host.zfs.bookmark("tank/a@one", "tank/a#mark")
        host.shared.forget("tank/a")
        go_on.set()
        assert (await early).bookmarks == ()
        assert [mark.name for mark in (await host.look("tank/a")).bookmarks] == ["mark"]

    async def test_after_a_while_they_are_listed_all_the_same(self, host: Host) -> None:
        await host.look("tank/a")
        host.clock.now += MAX_AGE
        await host.look("tank/a")
        assert host.listed == [["tank/a"], ["tank/a"]]

    async def test_a_clock_that_went_back_proves_nothing(self, host: Host) -> None:
        await host.look("tank/a")
        host.clock.now -= 100
        await host.look("tank/a")
        assert host.listed == [["tank/a"], ["tank/a"]]

    async def test_a_snapshot_whose_note_is_missing_is_looked_for_again(self, host: Host) -> None:
        await host.snap("tank/a@two", note=None)
        await host.look("tank/a")
        await host.zfs.set("tank/a@two", {"test:note": "2"})
        assert dict((await host.look("tank/a")).notes) == {"one": "1", "two": "2"}

    async def test_another_dataset_of_the_same_name_is_another(self, host: Host) -> None:
        await host.look("tank/a")
        changed = host.zfs.state.nodes["tank/a"].snapshots_changed
        await host.zfs.rename("tank/a", "tank/b")
        await host.zfs.create("tank/a", {})
        host.zfs.state.nodes["tank/a"].snapshots_changed = changed
        assert names(await host.look("tank/a")) == []

    async def test_pools_do_not_wait_for_each_other_and_one_that_is_gone_is_said(self, host: Host) -> None:
        found = await host.shared.at_all(["tank/a", "tank/gone", "other/x"])
        assert names(found["tank/a"]) == ["one"]
        assert isinstance(found["tank/gone"], errors.NotFound)
        assert isinstance(found["other/x"], errors.NotFound)
        assert sorted(host.listed) == [["other/x"], ["tank/a", "tank/gone"]]
