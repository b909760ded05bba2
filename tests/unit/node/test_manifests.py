"""A manifest goes to the targets sealed, comes back to its owner or heir, and nobody else reads or replaces it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mesh.codec import to_base64
from mesh.identity import Identity
from mesh.link_errors import PeerRefused
from mesh.sealed import readers_of, seal
from node.errors import MeshkeepError
from node.manifest_desk import PURPOSE
from node.manifest_store import DAY, MAX_SEALED, ManifestStore, kept
from node.manifests import recovery_key
from replication.manifest import encode
from tests.fakes.heirs import World
from tests.fakes.mesh import BEGAN


@pytest.fixture
async def world(tmp_path: Path) -> World:
    one = World(tmp_path)
    await one.begin()
    return one


class TestSending:
    async def test_each_target_gets_it_once(self, world: World) -> None:
        await world.manifests().tend()
        assert sorted(world.puts()) == ["cloud", "nas"]
        await world.manifests().tend()
        world.clock[0] += 3600
        await world.manifests().tend()
        assert len(world.puts()) == 2

    async def test_it_says_what_the_streams_do_not_carry(self, world: World) -> None:
        manifest = await world.manifests().make(["tank/home"])
        (facts,) = manifest.datasets
        assert dict(facts.properties) == {"compression": "zstd", "mountpoint": "/home", "com.example:a": "b"}
        assert (facts.encryption_root, facts.mountpoint) == ("tank/home", "/home")
        assert manifest.files == {"meshkeep.toml": "# policies\n"}
        assert (manifest.node, manifest.hostname) == ("home", "host.example")

    @pytest.mark.parametrize("change", ["property", "file", "admin"])
    async def test_again_after_each_change(self, world: World, change: str) -> None:
        await world.manifests().tend()
        if change == "property":
            await world.zfs.set("tank/home", {"atime": "off"})
        elif change == "file":
            (world.config / "conf.d" / "share.toml").write_text("# shares\n")
        else:
            await world.admit("home", "phoenix", role="admin", name="phoenix")
        await world.manifests().tend()
        assert len(world.puts()) == 4

    async def test_one_that_is_away_gets_it_when_it_is_back(self, world: World) -> None:
        world.away.add("cloud")
        manifests = world.manifests()
        await manifests.tend()
        assert world.puts() == ["nas"]
        assert manifests.problems() == []
        world.away.clear()
        await world.manifests().tend()
        assert world.puts() == ["nas", "cloud"]

    async def test_one_that_refuses_is_named_until_it_takes_it(self, world: World) -> None:
        manifests = world.manifests()
        (world.hosts["cloud"].path / "manifests").write_text("no directory")
        await manifests.tend()
        assert [one.code for one in manifests.problems()] == ["manifest_not_sent"]
        (world.hosts["cloud"].path / "manifests").unlink()
        await manifests.tend()
        assert manifests.problems() == []

    async def test_not_without_a_rule(self, world: World) -> None:
        world.rules = []
        await world.manifests().tend()
        assert world.puts() == []

    async def test_a_lost_or_broken_note_of_what_was_sent_sends_it_again(self, world: World) -> None:
        await world.manifests().tend()
        (world.path / "home" / "manifests-sent.json").write_text("[")
        await world.manifests().tend()
        assert len(world.puts()) == 4

    async def test_a_file_that_fits_no_manifest_is_said(self, world: World) -> None:
        (world.config / "conf.d" / "a b.toml").write_text("")
        with pytest.raises(MeshkeepError, match=r"a b\.toml"):
            await world.manifests().tend()


class TestReaders:
    async def test_are_the_owner_the_recovery_key_and_the_admins_never_a_vault(self, world: World) -> None:
        await world.manifests().tend()
        key = recovery_key(world.hosts["home"].mesh, world.words)
        assert key is not None
        publics = {world.hosts[name].mesh.identity.public for name in ("home", "laptop")}
        assert readers_of(world.stored("cloud")) == publics | {key.public}

    async def test_a_vault_has_nothing_of_it_in_the_clear(self, world: World) -> None:
        await world.manifests().tend()
        for data in world.hosts["cloud"].files().values():
            assert b"com.example" not in data
            assert b"host.example" not in data

    async def test_words_of_another_mesh_open_nothing(self, world: World) -> None:
        mesh = world.hosts["home"].mesh
        for words in (["abandon"] * 23 + ["art"], ["no"], "text", [1]):
            with pytest.raises(MeshkeepError):
                recovery_key(mesh, words)
        assert recovery_key(mesh, None) is None


class TestFetching:
    async def test_the_owner_has_its_own_back(self, world: World) -> None:
        await world.manifests().tend()
        gathered = await world.fetched("home")
        (found,) = gathered.found
        assert found.by == "the key of this node"
        assert gathered.facts("tank/home").properties["compression"] == "zstd"
        assert gathered.facts("tank/other") is None

    async def test_the_newest_of_what_the_targets_have(self, world: World) -> None:
        await world.manifests().tend()
        world.away.add("nas")
        world.clock[0] += 60
        await world.zfs.set("tank/home", {"atime": "off"})
        await world.manifests().tend()
        world.away.clear()
        (found,) = (await world.fetched("home")).found
        assert (found.node, found.manifest.made) == ("cloud", BEGAN + 60)

    async def test_the_heir_has_an_admin_open_it(self, world: World) -> None:
        await world.manifests().tend()
        await world.burn()
        (found,) = (await world.fetched("phoenix")).found
        assert (found.by, found.manifest.owner) == ("laptop", world.id_of("home"))

    async def test_or_the_recovery_words_when_no_admin_answers(self, world: World) -> None:
        await world.manifests().tend()
        await world.burn()
        world.away.add("laptop")
        gathered = await world.fetched("phoenix")
        assert gathered.found == []
        assert "nor did an admin" in gathered.problems[-1]
        key = recovery_key(world.hosts["phoenix"].mesh, world.words)
        (found,) = (await world.fetched("phoenix", recovery=key)).found
        assert found.by == "the recovery key"

    async def test_what_is_known_of_a_dataset_may_be_in_an_older_one(self, world: World) -> None:
        """The heir has begun to replicate one dataset only; of the others home's word is the last."""
        await world.zfs.create("tank/mail", {"recordsize": "1048576"})
        world.rules.append(("tank/mail", "cloud"))
        await world.manifests().tend()
        await world.burn()
        world.clock[0] += 60
        world.rules = [("tank/home", "cloud")]
        await world.zfs.set("tank/home", {"compression": "lz4"})
        await world.manifests("phoenix").tend()
        gathered = await world.fetched("phoenix")
        assert [one.manifest.owner for one in gathered.found] == [world.id_of("phoenix"), world.id_of("home")]
        assert gathered.facts("tank/home").properties["compression"] == "lz4"
        assert gathered.facts("tank/mail").properties["recordsize"] == "1048576"
        only = await world.fetched("phoenix", owner=world.id_of("home"))
        assert only.facts("tank/home").properties["compression"] == "zstd"

    async def test_an_older_one_can_be_asked_for(self, world: World) -> None:
        await world.manifests().tend()
        first = world.stored("cloud")
        world.clock[0] += 2 * DAY
        await world.zfs.set("tank/home", {"atime": "off"})
        await world.manifests().tend()
        answer = await world.ask("home", "cloud", "manifest.get", owner=world.id_of("home"), back=1)
        assert (answer["data"], answer["count"]) == (to_base64(first), 2)


class TestHostile:
    """The keeper of it, a member, and the heir of another may say and ask what they like."""

    @pytest.mark.parametrize(
        "twist",
        [
            lambda answer: {**answer, "data": answer["data"][:-8] + "AAAAAAA="},
            lambda answer: {**answer, "data": "AAAA"},
            lambda answer: {**answer, "data": "%%"},
            lambda answer: {**answer, "data": 7},
            lambda answer: {**answer, "received": "x"},
            lambda answer: {"data": answer["data"]},
        ],
    )
    async def test_what_was_altered_is_told_and_not_used(self, world: World, twist: Any) -> None:
        await world.manifests().tend()
        world.twisted = twist
        gathered = await world.fetched("home")
        assert gathered.found == []
        assert len(gathered.problems) == 2

    async def test_one_that_another_signed_is_not_used(self, world: World) -> None:
        """A reader of it, even an admin, cannot put words into home's mouth."""
        await world.manifests().tend()
        mesh, forger = world.hosts["home"].mesh, world.hosts["laptop"].mesh.identity
        body = encode(await world.manifests().make(["tank/home"]))
        forged = seal(forger, mesh.view().mesh_id, PURPOSE, body, world.manifests().readers())
        world.twisted = lambda answer: {**answer, "data": to_base64(forged)}
        gathered = await world.fetched("home")
        assert gathered.found == []
        assert "another node signed it" in gathered.problems[0]

    async def test_one_of_another_mesh_is_not_used(self, world: World) -> None:
        await world.manifests().tend()
        body = encode(await world.manifests().make(["tank/home"]))
        foreign = seal(
            world.hosts["home"].mesh.identity, b"x" * 32, PURPOSE, body, world.manifests().readers()
        )
        world.twisted = lambda answer: {**answer, "data": to_base64(foreign)}
        assert (await world.fetched("home")).found == []

    @pytest.mark.parametrize("name", ["nas", "laptop", "cloud"])
    async def test_nobody_gets_what_is_not_his(self, world: World, name: str) -> None:
        await world.manifests().tend()
        for target in {"nas", "laptop", "home"} - {name}:
            with pytest.raises(PeerRefused):
                await world.ask(name, target, "manifest.get", owner=world.id_of("home"))
            data = to_base64(world.stored("cloud"))
            with pytest.raises(PeerRefused):
                await world.ask(name, target, "manifest.open", owner=world.id_of("home"), data=data)

    async def test_an_admin_opens_nothing_but_what_is_inherited(self, world: World) -> None:
        """phoenix inherits home's, and may not have laptop open that of nas as if it were home's."""
        world.rules = [("tank/home", "cloud")]
        await world.manifests("nas").tend()
        await world.burn()
        data = to_base64(world.stored("cloud", "nas"))
        for owner in ("home", "nas"):
            with pytest.raises(PeerRefused) as caught:
                await world.ask("phoenix", "laptop", "manifest.open", owner=world.id_of(owner), data=data)
            assert caught.value.code == "not_yours"
        with pytest.raises(PeerRefused):
            await world.ask("phoenix", "nas", "manifest.open", owner=world.id_of("home"), data=data)

    async def test_a_put_is_for_the_caller_only_and_has_bounds(self, world: World) -> None:
        await world.manifests().tend()
        before = world.stored("cloud")
        mesh = world.hosts["nas"].mesh
        small = seal(mesh.identity, mesh.view().mesh_id, PURPOSE, b"rubbish", [mesh.identity.public])
        await world.ask("nas", "cloud", "manifest.put", data=to_base64(small), owner=world.id_of("home"))
        assert world.stored("cloud") == before
        assert world.stored("cloud", "nas") == small
        large = seal(mesh.identity, mesh.view().mesh_id, PURPOSE, bytes(MAX_SEALED), [mesh.identity.public])
        for bad in (to_base64(large), to_base64(b"no seal"), "%", None, 5, "A" * (1 << 20)):
            with pytest.raises(PeerRefused) as caught:
                await world.ask("nas", "cloud", "manifest.put", data=bad)
            assert caught.value.code == "bad_manifest"
        assert world.stored("cloud", "nas") == small

    async def test_a_back_that_is_none(self, world: World) -> None:
        await world.manifests().tend()
        for back in (-1, 99, True, "0", None, 1.0):
            args = {"owner": world.id_of("home"), "back": back}
            if type(back) is int:
                assert (await world.ask("home", "cloud", "manifest.get", **args))["data"] is None
            else:
                with pytest.raises(PeerRefused):
                    await world.ask("home", "cloud", "manifest.get", **args)


def sequence(store: ManifestStore, owner: str, times: Sequence[int]) -> list[int]:
    for number, time in enumerate(times):
        store.put(owner, str(number).encode(), time)
    found = []
    while (one := store.get(owner, len(found))) is not None:
        found.append(int(one.data))
    return found


class TestStore:
    OWNER = Identity.from_seed(b"s" * 32).id

    def test_the_newest_first_and_of_five_days_before_the_last(self, tmp_path: Path) -> None:
        times = [day * DAY + hour for day in range(8) for hour in (1, 2)]
        assert sequence(ManifestStore(tmp_path), self.OWNER, times) == [15, 13, 11, 9, 7, 5]

    def test_a_flood_of_rubbish_costs_a_day_and_not_what_is_good(self, tmp_path: Path) -> None:
        found = sequence(ManifestStore(tmp_path), self.OWNER, [DAY, *range(9 * DAY, 9 * DAY + 100)])
        assert found == [100, 0]

    def test_a_flood_within_a_second_does_not_count_on_into_the_next_days(self, tmp_path: Path) -> None:
        last = 10 * DAY - 1
        found = sequence(ManifestStore(tmp_path), self.OWNER, [5 * DAY, *[last] * 50, last - DAY])
        assert found == [51, 0]
        assert ManifestStore(tmp_path).get(self.OWNER).received == last

    def test_a_clock_that_went_back_makes_nothing_older(self, tmp_path: Path) -> None:
        assert sequence(ManifestStore(tmp_path), self.OWNER, [5 * DAY, 3])[0] == 1

    def test_what_is_none_of_them_is_left_alone(self, tmp_path: Path) -> None:
        store = ManifestStore(tmp_path)
        store.put(self.OWNER, b"x", 5)
        (tmp_path / self.OWNER / ".5.sealed.draft").write_bytes(b"half")
        store.put(self.OWNER, b"y", 6)
        assert (tmp_path / self.OWNER / ".5.sealed.draft").exists()
        assert all(
            one.stat().st_mode & 0o077 == 0 for one in (tmp_path / self.OWNER).iterdir() if one.name[0] != "."
        )

    @pytest.mark.parametrize("owner", ["", "..", "../x", "a/b", "A" * 16])
    def test_only_a_node_has_a_place(self, tmp_path: Path, owner: str) -> None:
        with pytest.raises(ValueError, match="node id"):
            ManifestStore(tmp_path).put(owner, b"x", 1)
        assert list(tmp_path.iterdir()) == []

    def test_it_is_bounded(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="bytes"):
            ManifestStore(tmp_path).put(self.OWNER, bytes(MAX_SEALED + 1), 1)

    def test_of_nothing_nothing_is_kept(self) -> None:
        assert kept([]) == set()
