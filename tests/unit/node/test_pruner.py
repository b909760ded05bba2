"""Destroying over the double of ZFS: what came between the decision and the act, hooks, bookmarks, batches."""

from collections.abc import Iterable, Mapping, Sequence

import pytest

from node.hooks import HookResult, HookRunner
from node.pruner import Pruned, Pruner
from policy.retention import Verdict
from policy.rules import Hooks, Policy
from replication.guard import cursor_name
from tests.fakes.zfs import FakeZfs
from zfs import errors

ID = "abcdefghijklmnop"
PLAIN = Policy(name="p")


class World(HookRunner):
    """Two pools with snapshots a to d of one dataset each; the hooks answer as told."""

    def __init__(self) -> None:
        super().__init__()
        self.zfs = FakeZfs(pools={"tank": 1 << 30, "pond": 1 << 30})
        self.needed: dict[int, str] = {}
        self.ids = {"cloud": ID}
        self.ran: list[tuple[str, dict[str, str]]] = []
        self.failing: dict[tuple[str, str], HookResult] = {}
        self.calls: list[list[str]] = []
        self.pruner = Pruner(self.zfs, self, needed=lambda dataset: self.needed, node_id=self.ids.get)
        self._destroy = self.zfs.destroy_snapshots

    async def run(self, command: str, environment: Mapping[str, str], timeout: int) -> HookResult:
        self.ran.append((command, dict(environment)))
        return self.failing.get((command, environment["SANOID_SNAPNAME"]), HookResult(0))

    async def destroy_snapshots(self, names: Sequence[str]) -> dict[str, Exception]:
        self.calls.append(list(names))
        return await self._destroy(names)

    async def decided(self, *datasets: str, only: str = "abcd") -> list[Verdict]:
        """That these go, as of now."""
        return [
            Verdict(snapshot, False, ("hourly 5 of 4, older than 4 hours",))
            for dataset in datasets
            for snapshot in await self.zfs.snapshots(dataset)
            if snapshot.name in only
        ]

    async def destroy(self, verdicts: Sequence[Verdict], policy: Policy = PLAIN) -> Pruned:
        datasets = {verdict.snapshot.dataset for verdict in verdicts}
        return await self.pruner.destroy(verdicts, dict.fromkeys(datasets, policy))

    async def left(self, dataset: str = "tank/x") -> str:
        return "".join(one.name for one in await self.zfs.snapshots(dataset))


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> World:
    made = World()
    for dataset in ("tank/x", "tank/y", "pond/z"):
        await made.zfs.create(dataset, {})
        for name in "abcd":
            await made.zfs.snapshot([f"{dataset}@{name}"])
    monkeypatch.setattr(made.zfs, "destroy_snapshots", made.destroy_snapshots)
    return made


def names(dataset: str, of: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{dataset}@{name}" for name in of)


async def test_what_was_decided_goes_in_one_call_for_each_pool(world: World) -> None:
    done = await world.destroy(await world.decided("tank/x", "pond/z", "tank/y", only="ab"))
    assert sorted(len(call) for call in world.calls) == [2, 4]
    assert set(done.destroyed) == {*names("tank/x", "ab"), *names("tank/y", "ab"), *names("pond/z", "ab")}
    assert done.failed == {}
    assert await world.left() == "cd"


async def test_nothing_decided_asks_zfs_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(world.zfs, "histories", None)
    kept = [Verdict(one.snapshot, True, one.reasons) for one in await world.decided("tank/x")]
    assert await world.pruner.destroy(kept, {}) == Pruned()
    assert world.calls == []


async def test_why_each_goes_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        await world.destroy(await world.decided("tank/x", only="a"))
    assert "destroying tank/x@a: hourly 5 of 4, older than 4 hours" in caplog.text


# -- looked at again ---------------------------------------------------------------------------------------------


async def test_one_that_has_been_held_since_is_left_and_said(world: World) -> None:
    decided = await world.decided("tank/x", only="ab")
    await world.zfs.hold("mine", ["tank/x@a"])
    done = await world.destroy(decided)
    assert done == Pruned(names("tank/x", "b"), {"tank/x@a": "it is held (mine)"})
    assert (world.pruner.pruned, world.pruner.unpruned) == ({"tank/x": 1}, {"tank/x": 1})
    assert world.calls == [["tank/x@b"]]


async def test_another_of_the_same_name_is_left_and_said(world: World) -> None:
    decided = await world.decided("tank/x", only="ab")
    await world.zfs.destroy_snapshots(["tank/x@a"])
    await world.zfs.snapshot(["tank/x@a"])
    done = await world.destroy(decided)
    assert done.destroyed == names("tank/x", "b")
    assert "another snapshot now" in done.failed["tank/x@a"]
    assert "a" in await world.left()


async def test_what_is_gone_already_is_neither_done_nor_failed(world: World) -> None:
    decided = await world.decided("tank/x", "tank/y", only="ab")
    await world.zfs.destroy_snapshots(["tank/x@a"])
    await world.zfs.destroy_snapshots(list(names("tank/y", "abcd")))
    await world.zfs.destroy_dataset("tank/y")
    assert await world.destroy(decided) == Pruned(names("tank/x", "b"))


async def test_one_that_is_held_in_the_last_moment_or_in_use_does_not_keep_the_others(world: World) -> None:
    decided = await world.decided("tank/x")
    world.zfs.state.nodes["tank/x"].snapshots["a"].sending = 1

    async def hold(*_: object) -> HookResult:
        await world.zfs.hold("late", ["tank/x@b"])
        return HookResult(0)

    world.run = hold  # type: ignore[method-assign]
    done = await world.destroy(decided, Policy(name="p", hooks=Hooks(pre_pruning_script="pre")))
    assert done.failed == {"tank/x@a": "it is cloned or in use", "tank/x@b": "it is held"}
    assert await world.left() == "ab"


async def test_a_pool_that_fails_is_said_of_each_and_the_other_goes_on(world: World) -> None:
    decided = await world.decided("tank/x", "pond/z", only="ab")
    world.zfs.make_readonly("pond")
    done = await world.destroy(decided)
    assert done.destroyed == names("tank/x", "ab")
    assert set(done.failed) == set(names("pond/z", "ab"))
    world.zfs.suspend("pond")
    assert set((await world.destroy(decided)).failed) == set(names("pond/z", "ab"))


# -- hooks -------------------------------------------------------------------------------------------------------

HOOKED = Policy(name="p", hooks=Hooks(pre_pruning_script="pre", pruning_script="post"))


async def test_hooks_have_sanoids_words(world: World) -> None:
    await world.destroy(await world.decided("tank/x", only="a"), HOOKED)
    common = {"SANOID_TARGET": "tank/x", "SANOID_SNAPNAME": "a"}
    assert world.ran == [("pre", common), ("post", {**common, "SANOID_SCRIPT": "prune"})]


async def test_one_that_the_hook_does_not_let_go_stays(world: World) -> None:
    world.failing["pre", "a"] = HookResult(1, False, "tape is busy")
    done = await world.destroy(await world.decided("tank/x", only="ab"), HOOKED)
    assert done.destroyed == ("tank/x@b",)
    assert done.failed == {"tank/x@a": "pre_pruning_script failed with exit code 1: tape is busy"}
    assert [(command, env["SANOID_SNAPNAME"]) for command, env in world.ran] == [
        ("pre", "a"),
        ("pre", "b"),
        ("post", "b"),
    ]


async def test_the_hook_after_is_only_for_what_is_gone(world: World) -> None:
    world.zfs.state.nodes["tank/x"].snapshots["a"].sending = 1
    world.failing["post", "b"] = HookResult(None, True)
    done = await world.destroy(await world.decided("tank/x", only="ab"), HOOKED)
    assert done.destroyed == ("tank/x@b",)
    assert [env["SANOID_SNAPNAME"] for command, env in world.ran if command == "post"] == ["b"]


# -- bases -------------------------------------------------------------------------------------------------------


async def test_a_base_that_a_replica_needs_leaves_a_bookmark(world: World) -> None:
    decided = await world.decided("tank/x", only="ab")
    guid = decided[0].snapshot.guid
    world.needed = {guid: "cloud"}
    assert (await world.destroy(decided)).failed == {}
    assert [(one.name, one.guid) for one in await world.zfs.bookmarks("tank/x")] == [
        (cursor_name(ID, guid), guid)
    ]


async def test_one_bookmark_is_enough(world: World) -> None:
    decided = await world.decided("tank/x", only="a")
    world.needed = {decided[0].snapshot.guid: "cloud"}
    await world.zfs.bookmark("tank/x@a", "tank/x#mine")
    await world.destroy(decided)
    assert [one.name for one in await world.zfs.bookmarks("tank/x")] == ["mine"]


async def test_the_bookmark_of_a_node_that_is_not_known_is_nobodys_cursor(world: World) -> None:
    decided = await world.decided("tank/x", only="a")
    world.needed = {decided[0].snapshot.guid: "gone"}
    await world.destroy(decided)
    (mark,) = await world.zfs.bookmarks("tank/x")
    assert mark.name == f"meshkeep-base_{mark.guid:016x}"


async def test_without_a_bookmark_the_base_stays(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(snapshot: str, bookmark: str) -> None:
        raise errors.Unsupported(bookmark, "the pool has no bookmarks")

    monkeypatch.setattr(world.zfs, "bookmark", failing)
    decided = await world.decided("tank/x", only="ab")
    world.needed = {decided[0].snapshot.guid: "cloud"}
    done = await world.destroy(decided)
    assert done.destroyed == ("tank/x@b",)
    assert "cloud needs it, and it has no bookmark" in done.failed["tank/x@a"]
    assert "a" in await world.left()
