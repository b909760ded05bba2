"""Archived wraps: once a day those go that nothing stored came under, and no other."""

from pathlib import Path

import pytest

from node.key_archive import KeyArchive
from node.replica_places import KEY, WRAP, Terms
from node.wrap_rounds import EVERY, WrapRounds
from tests.fakes.zfs import FakeZfs
from tests.fakes.zfs_state import Partial
from zfs.model import Dataset

OWNER = "home" * 4
ROOT = "vault/meshkeep"
REPLICA = f"{ROOT}/{OWNER}/tank/home"
OLD, NEW, THIRD = "1" * 64, "2" * 64, "3" * 64


class World:
    """A replica under NEW, with @b that came under it and @a that came under OLD."""

    def __init__(self, path: Path) -> None:
        self.zfs = FakeZfs(pools={"vault": 1 << 30})
        self.keys = KeyArchive(path)
        self.now = 0.0
        self.terms: Terms | None = Terms(ROOT)

        async def terms() -> Terms | None:
            return self.terms

        self.rounds = WrapRounds(self.zfs, self.keys, terms=terms, steady=lambda: self.now)

    async def begin(self) -> None:
        parts = REPLICA.split("/")
        for end in range(2, len(parts) + 1):
            await self.zfs.create("/".join(parts[:end]), {})
        await self.zfs.set(REPLICA, {KEY: NEW})
        for name, wrap in (("a", OLD), ("b", NEW)):
            await self.zfs.snapshot([f"{REPLICA}@{name}"])
            await self.zfs.set(f"{REPLICA}@{name}", {WRAP: wrap})
            self.keys.keep(OWNER, "tank/home", wrap, "AAAA")

    async def days(self, count: float = 1) -> list[str]:
        self.now += count * EVERY
        await self.rounds.tend()
        return self.keys.wraps(OWNER, "tank/home")

    async def let_go(self, name: str) -> None:
        assert await self.zfs.destroy_snapshots([f"{REPLICA}@{name}"]) == {}


@pytest.fixture
async def world(tmp_path: Path) -> World:
    found = World(tmp_path)
    await found.begin()
    return found


async def test_one_stays_while_a_snapshot_that_came_under_it_is_stored(world: World) -> None:
    assert await world.days() == [OLD, NEW]
    await world.let_go("a")
    assert await world.days() == [NEW]


async def test_a_round_comes_once_a_day(world: World) -> None:
    await world.let_go("a")
    assert await world.days(0.9) == [OLD, NEW]
    assert await world.days(0.1) == [NEW]


async def test_the_pinned_one_stays_though_nothing_came_under_it_yet(world: World) -> None:
    await world.let_go("b")
    assert await world.days() == [OLD, NEW]


async def test_all_stay_while_of_one_snapshot_it_is_not_known(world: World) -> None:
    await world.let_go("a")
    await world.zfs.snapshot([f"{REPLICA}@c"])
    assert await world.days() == [OLD, NEW]


async def test_all_stay_while_a_stream_is_half_here(world: World) -> None:
    await world.let_go("a")
    node = world.zfs.state.nodes[REPLICA]
    node.partial = Partial(7, 5, "c", total=9, appends=True, raw=True)
    assert await world.days() == [OLD, NEW]


async def test_all_stay_where_the_replica_cannot_be_found(world: World) -> None:
    """Its pool may be elsewhere today."""
    del world.zfs.state.nodes[REPLICA]
    assert await world.days() == [OLD, NEW]
    world.terms = None
    assert await world.days() == [OLD, NEW]


@pytest.mark.parametrize("moved", [REPLICA, f"{ROOT}/{OWNER}/tank"])
async def test_what_an_old_replica_came_under_stays_while_that_is_kept_aside(
    world: World, moved: str
) -> None:
    """Aside itself, or moved along with what lies above it. A new replica has begun under a third key."""
    aside = f"{moved}.rotated-20261124T000000Z"
    await world.zfs.rename(moved, aside)
    if moved != REPLICA:
        await world.zfs.create(moved, {})
    await world.zfs.create(REPLICA, {KEY: THIRD})
    await world.zfs.snapshot([f"{REPLICA}@c"])
    await world.zfs.set(f"{REPLICA}@c", {WRAP: THIRD})
    world.keys.keep(OWNER, "tank/home", THIRD, "AAAA")
    assert await world.days() == [OLD, NEW, THIRD]
    old = REPLICA.replace(moved, aside)
    assert await world.zfs.destroy_snapshots([f"{old}@a"]) == {}
    assert await world.days() == [NEW, THIRD]
    await world.zfs.snapshot([f"{old}@unknown"])
    await world.zfs.destroy_snapshots([f"{old}@b"])
    assert await world.days() == [NEW, THIRD]


async def test_all_stay_where_another_took_its_place_meanwhile(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rotated, and begun anew, between the listing and the look."""
    listed = world.zfs.datasets

    async def datasets(root: str | None = None) -> list[Dataset]:
        found = await listed(root)
        await world.zfs.rename(REPLICA, f"{REPLICA}.rotated-20261124T000000Z")
        await world.zfs.create(REPLICA, {KEY: NEW})
        await world.zfs.snapshot([f"{REPLICA}@c"])
        await world.zfs.set(f"{REPLICA}@c", {WRAP: NEW})
        return found

    monkeypatch.setattr(world.zfs, "datasets", datasets)
    assert await world.days() == [OLD, NEW]


async def test_a_pin_that_is_inherited_is_none(world: World) -> None:
    await world.let_go("a")
    await world.zfs.inherit(REPLICA, KEY)
    await world.zfs.set(f"{ROOT}/{OWNER}/tank", {KEY: NEW})
    assert await world.days() == [OLD, NEW]


async def test_what_waits_and_what_is_damaged_is_left(world: World) -> None:
    folder = world.keys.path(OWNER, "tank/home", OLD).parent
    (folder / "pending.json").write_text("{}")
    (folder / ("3" * 32 + ".json")).write_text("{")
    (folder / ("4" * 32 + ".json")).write_text('{"fingerprint": "' + "5" * 64 + '"}')
    await world.let_go("a")
    assert await world.days() == [NEW]
    assert len(list(folder.iterdir())) == 4
