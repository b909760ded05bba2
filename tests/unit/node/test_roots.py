"""Encryption roots on two hosts: noted, drifted, accepted; and a restored tree that has one key again."""

from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from node.errors import Exit, MeshkeepError
from node.reroot import inherit_again
from node.roots import ROOT
from node.rotation_verbs import RotationVerbs
from tests.contracts.zfs_env import Env, move
from tests.fakes.pair import HOME, PASSPHRASE, Pair, dump, served
from tests.fakes.pair import ROOT as STORAGE
from tests.fakes.zfs import FakeZfs
from tests.fakes.zfs_streams import FakeStreams
from zfs import errors


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with served(Pair(tmp_path)) as found:
        yield found


async def inherits_no_more(pair: Pair) -> None:
    """tank/home had its key from tank/keys, and now has one of its own."""
    await pair.home.create("tank/keys", {}, passphrase=PASSPHRASE)
    await pair.home.create("tank/keys/home", {})
    await pair.snap("a", dataset="tank/keys/home")
    await pair.replicate("tank/keys/home")
    await pair.home.change_key("tank/keys/home", b"another passphrase")
    await pair.snap("b", dataset="tank/keys/home")


class TestTheSource:
    async def test_notes_the_root_before_anything_is_sent(self, pair: Pair) -> None:
        await pair.encrypted()
        await pair.snap("a")
        await pair.replicate()
        node = pair.home.state.nodes["tank/home"]
        assert node.properties[ROOT] == f"{node.guid}:{node.guid}"

    async def test_sends_nothing_under_another_root_until_it_is_accepted(self, pair: Pair) -> None:
        await inherits_no_more(pair)
        before = dump(pair.cloud)
        error = await pair.refused("tank/keys/home")
        assert (error.code, error.exit) == ("encryption_root_changed", Exit.REFUSED)
        assert error.hint == "meshkeep replicate accept-root tank/keys/home"
        assert dump(pair.cloud) == before

        asked: Any = SimpleNamespace(args={"dataset": "tank/keys/home"})
        accepted = await RotationVerbs(pair.replicator, pair.home).accept_root(asked)
        assert accepted["root"] == "tank/keys/home"
        assert (await pair.refused("tank/keys/home")).code == "key_changed", (
            "the target still asks at its console"
        )

    async def test_a_rename_of_the_root_is_no_drift(self, pair: Pair) -> None:
        await pair.home.create("tank/keys", {}, passphrase=PASSPHRASE)
        await pair.home.create("tank/keys/home", {})
        await pair.snap("a", dataset="tank/keys/home")
        await pair.replicate("tank/keys/home")
        await pair.home.rename("tank/keys", "tank/moved")
        node = pair.home.state.nodes["tank/moved/home"]
        root = pair.home.state.nodes["tank/moved"]
        assert node.properties[ROOT] == f"{node.guid}:{root.guid}"

    async def test_what_is_not_encrypted_has_no_root_to_accept(self, pair: Pair) -> None:
        await pair.home.create("tank/plain", {})

        asked: Any = SimpleNamespace(args={"dataset": "tank/plain"})
        with pytest.raises(MeshkeepError) as caught:
            await RotationVerbs(pair.replicator, pair.home).accept_root(asked)
        assert caught.value.code == "not_encrypted"


class TestTheTarget:
    async def test_a_replica_that_inherits_its_key_there_takes_no_stream(self, pair: Pair) -> None:
        await pair.encrypted()
        await pair.snap("a")
        await pair.replicate()
        await pair.snap("b")
        cloud = pair.cloud.state.nodes
        await pair.cloud.create("vault/other", {}, passphrase=PASSPHRASE)
        cloud[f"{STORAGE}/{HOME}/tank/home"].key_root = cloud["vault/other"]
        error = await pair.refused()
        assert error.code == "replica_root_changed"
        assert pair.stored() == ["a"]
        await pair.replicate(on_divergence="rotate")
        assert pair.stored() == ["a", "b"]


async def restored_tree() -> FakeZfs:
    """tank/t and tank/t/a, which has its key, received one by one as tank/r and tank/r/a."""
    zfs = FakeZfs()

    async def write(_: str, __: int) -> None:
        raise AssertionError

    env = Env(zfs, FakeStreams(zfs), "tank", write)
    await zfs.create("tank/t", {}, passphrase=PASSPHRASE)
    await zfs.create("tank/t/a", {})
    await zfs.snapshot(["tank/t@s", "tank/t/a@s"])
    await move(env, ("tank/t@s", None), "tank/r@s")
    await move(env, ("tank/t/a@s", None), "tank/r/a@s")
    return zfs


PLACED = {"tank/t": "tank/r", "tank/t/a": "tank/r/a"}
ROOTS = {"tank/t": "tank/t", "tank/t/a": "tank/t"}


class TestAfterARestore:
    async def test_one_key_opens_the_tree(self) -> None:
        zfs = await restored_tree()
        (done,) = await inherit_again(zfs, PLACED, ROOTS)
        assert done["inherits"]
        await zfs.load_key("tank/r", PASSPHRASE)
        assert (await zfs.dataset("tank/r/a")).keystatus == "available"

    async def test_another_wrap_stays_as_it_is(self) -> None:
        zfs = await restored_tree()
        await zfs.load_key("tank/r/a", PASSPHRASE)
        zfs.change_passphrase("tank/r/a", b"something else")
        zfs.unload_key("tank/r/a")
        (done,) = await inherit_again(zfs, PLACED, ROOTS)
        assert not done["inherits"]
        assert "salts differ" in done["why"]
        await zfs.check_key("tank/r/a", b"something else")

    @pytest.mark.parametrize("roots", [{}, {"tank/t/a": None}, {"tank/t": "tank/t", "tank/t/a": "tank/t/a"}])
    async def test_what_home_did_not_say_is_not_done(self, roots: dict[str, str | None]) -> None:
        zfs = await restored_tree()
        assert await inherit_again(zfs, PLACED, roots) == []
        assert (await zfs.dataset("tank/r/a")).encryption_root == "tank/r/a"

    async def test_what_zfs_refuses_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        zfs = await restored_tree()

        async def refuses(name: str) -> None:
            raise errors.ReadOnly(name)

        monkeypatch.setattr(zfs, "inherit_key", refuses)
        (done,) = await inherit_again(zfs, PLACED, ROOTS)
        assert (done["inherits"], "read-only" in done["why"]) == (False, True)
