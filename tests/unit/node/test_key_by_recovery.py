"""The recovery key approves a changed key from afar: that key, in the place of that one, there, once."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mesh.decrees import ApproveKey
from mesh.identity import Identity, genesis_from_words, new_recovery_words
from mesh.objects import BadObject, sign
from node.errors import Exit, MeshkeepError
from node.key_archive import SHORT, Pending
from node.replica_places import KEY
from tests.fakes.mesh import request
from tests.fakes.vault import BEGAN, ROOT, World

OLD, NEW, THIRD = (digit * 64 for digit in "123")
PLACE = "home:tank"


@pytest.fixture
async def world(tmp_path: Path) -> World:
    """What home stores on cloud lies under OLD, and NEW was offered for it."""
    found = World(tmp_path)
    await found.begin()
    await found.zfs.set(replica(found), {KEY: OLD})
    found.keys.keep(found.id("home"), "tank", OLD, "AAAA")
    offer(found)
    return found


def replica(world: World, owner: str = "home") -> str:
    return f"{ROOT}/{world.id(owner)}/tank"


def offer(world: World, fingerprint: str = NEW, pinned: str = OLD, owner: str = "home") -> None:
    node = world.id(owner)
    world.keys.offer(Pending(node, "tank", node, pinned, fingerprint, "BBBB", BEGAN))


def pin(world: World, owner: str = "home") -> str:
    return world.zfs.state.nodes[replica(world, owner)].properties.get(KEY, "")


async def approve(world: World, at: str = "nas", **more: Any) -> None:
    args = {"node": "cloud", "which": PLACE, "fingerprint": NEW[:SHORT], "words": world.words} | more
    await world.verbs[at].approve_afar(request(**args))
    await world.approvals.follow()


async def denied(world: World, **more: Any) -> MeshkeepError:
    with pytest.raises(MeshkeepError) as caught:
        await approve(world, **more)
    assert pin(world) == OLD
    return caught.value


async def deliver(world: World, value: ApproveKey, by: Identity) -> None:
    """Straight to the vault, by whatever way."""
    world.hosts["cloud"].mesh.add([sign(by, world.hosts["cloud"].mesh.view().mesh_id, value).data])
    await world.approvals.follow()


def word(world: World, **change: Any) -> ApproveKey:
    genesis = genesis_from_words(world.words)
    old, new = bytes.fromhex(OLD), bytes.fromhex(NEW)
    home, cloud = world.public("home"), world.public("cloud")
    return replace(ApproveKey(genesis.public, cloud, home, BEGAN, BEGAN, "tank", old, new), **change)


class TestApproving:
    @pytest.mark.parametrize("at", ["home", "nas"])
    async def test_from_any_admin_is_followed_as_soon_as_it_is_heard(self, world: World, at: str) -> None:
        await approve(world, at)
        assert pin(world) == NEW
        assert world.keys.pending() == []
        assert {OLD, NEW} == set(world.keys.wraps(world.id("home"), "tank"))

    async def test_is_shown_on_every_node(self, world: World) -> None:
        await approve(world)
        assert {name: world.codes(name) for name in world.hosts} == {
            name: ["key_by_recovery"] for name in world.hosts
        }

    async def test_needs_the_words(self, world: World) -> None:
        assert (await denied(world, words=None)).exit == Exit.USAGE
        assert (await denied(world, words=new_recovery_words())).exit == Exit.REFUSED

    async def test_is_of_the_key_that_was_named(self, world: World) -> None:
        assert (await denied(world, fingerprint=THIRD)).code == "another_key"
        assert (await denied(world, fingerprint="2" * (SHORT - 1))).code == "bad_fingerprint"
        assert (await denied(world, which="pad:tank")).code == "nothing_pending"

    async def test_a_member_hears_of_its_own_and_an_admin_of_all(self, world: World) -> None:
        offer(world, owner="pad")
        seen = {
            at: sorted(
                one["node"] for one in (await world.verbs[at].offered(request(node="cloud")))["pending"]
            )
            for at in ("nas", "pad")
        }
        assert seen == {"nas": ["home", "pad"], "pad": ["pad"]}

    async def test_is_not_followed_where_the_old_key_could_not_be_put_back(self, world: World) -> None:
        world.keys.drop(world.id("home"), "tank", OLD)
        await approve(world)
        assert pin(world) == OLD

    async def test_that_comes_before_the_key_is_followed_when_that_comes(self, world: World) -> None:
        world.keys.forget(world.id("home"), "tank")
        await deliver(world, word(world), genesis_from_words(world.words))
        assert pin(world) == OLD
        offer(world)
        await world.approvals.follow()
        assert pin(world) == NEW


class TestAThief:
    async def test_cannot_sign_it_with_the_key_of_a_node(self, world: World) -> None:
        for name in ("home", "nas", "pad"):
            by = world.hosts[name].mesh.identity
            with pytest.raises(BadObject):
                await deliver(world, word(world, genesis_public=by.public), by)
        assert pin(world) == OLD

    @pytest.mark.parametrize("field", ["target_public", "owner_public", "dataset", "pinned", "offered"])
    async def test_cannot_use_one_that_says_anything_else(self, world: World, field: str) -> None:
        other = {"dataset": "tank2", "pinned": bytes.fromhex(THIRD), "offered": bytes.fromhex(THIRD)}
        changed = word(world, **{field: other.get(field, world.public("pad"))})
        await deliver(world, changed, genesis_from_words(world.words))
        assert pin(world) == OLD

    async def test_cannot_use_one_again(self, world: World) -> None:
        """Root went back to the old key; whoever holds the source offers the other again."""
        await approve(world)
        offer(world, OLD, NEW)
        await world.approvals.approve(request(which=PLACE, fingerprint=OLD))
        assert pin(world) == OLD
        offer(world)
        await world.approvals.follow()
        assert pin(world) == OLD

    async def test_cannot_use_one_that_the_console_refused(self, world: World) -> None:
        """It was known here, and root looked, and said no."""
        world.hosts["cloud"].mesh.add(
            [
                sign(
                    genesis_from_words(world.words), world.hosts["cloud"].mesh.view().mesh_id, word(world)
                ).data
            ]
        )
        await world.approvals.refuse(request(which=PLACE))
        offer(world)
        await world.approvals.follow()
        assert pin(world) == OLD

    async def test_cannot_play_an_older_one_after_a_newer(self, world: World) -> None:
        genesis = genesis_from_words(world.words)
        await deliver(world, word(world, version=BEGAN + 1, offered=bytes.fromhex(THIRD)), genesis)
        await deliver(world, word(world), genesis)
        assert pin(world) == OLD

    async def test_gains_nothing_by_what_a_dataset_inherits(self, world: World) -> None:
        """The replica above says how far words are spent and what is pinned; the one below has its own."""
        below = f"{replica(world)}/docs"
        await world.zfs.create(below, {})
        await world.zfs.snapshot([f"{below}@a"])
        node = world.id("home")
        world.keys.keep(node, "tank/docs", OLD, "AAAA")
        world.keys.offer(Pending(node, "tank/docs", node, OLD, NEW, "BBBB", BEGAN))
        await deliver(world, word(world, dataset="tank/docs"), genesis_from_words(world.words))
        assert world.zfs.state.nodes[below].properties.get(KEY) is None
