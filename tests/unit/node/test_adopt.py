"""A copy that another program made becomes a replica by its guids, is made safe, and goes on incrementally."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mesh.link_errors import PeerUnreachable
from node.adopt import Adopter, Wanted
from node.adopt_rules import NOTE
from node.directory import Peer
from node.errors import Exit, MeshkeepError
from node.key_archive import KeyArchive
from node.recognise import recognised
from node.replica_places import KEY, RECEIVED, Terms
from replication.guard import FLOOR_HOLD
from tests.fakes.pair import HOME, ROOT, Pair, dump, served
from zfs import errors

COPY = "vault/backup/home"
PLACE = f"{ROOT}/{HOME}/tank/home"


class Stage:
    """cloud has a copy of home's tank/home with the snapshots a and b that syncoid might have made; home has c too."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.owner_role = "admin"
        self.silent = False
        self.asked = 0
        workers: Any = pair.storing
        directory: Any = self

        async def terms() -> Terms | None:
            return pair.terms

        self.adopter = Adopter(
            pair.cloud,
            workers,
            KeyArchive(pair.archive / "adopted"),
            directory,
            terms=terms,
            only_raw=lambda: pair.role == "vault",
            now=pair.clock,
        )

    def peer(self, name: str) -> Peer:
        if name != "home":
            raise MeshkeepError(f"no {name}", code="no_node", exit=Exit.NOT_FOUND)
        return Peer(HOME, "home", self.owner_role, "::1")

    def link(self) -> Any:
        return self

    async def call(self, address: str, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """What home answers."""
        assert (address, verb) == ("::1", "replica.recognise")
        self.asked += 1
        if self.silent:
            raise PeerUnreachable(address, "no route")
        return dict(json.loads(json.dumps(await recognised(self.pair.home, json.loads(json.dumps(args))))))

    async def copied(self, dataset: str = "tank/home", to: str = COPY) -> None:
        """As zfs send and receive leave it: no holds, no receipts, none of our properties."""
        cloud = self.pair.cloud
        await self.pair.replicate(dataset, allow_plaintext=True)
        place = f"{ROOT}/{HOME}/{dataset}"
        parent = to.rpartition("/")[0]
        if parent not in cloud.state.nodes:
            await cloud.create(parent, {})
        await cloud.rename(place, to)
        node = cloud.state.nodes[to]
        node.properties.clear()
        for snap in node.snapshots.values():
            snap.holds.clear()
            snap.properties.clear()
        for name in sorted((one for one in cloud.state.nodes if one.startswith(ROOT)), reverse=True):
            await cloud.destroy_dataset(name)

    def guids(self, dataset: str = "tank/home") -> frozenset[int]:
        return frozenset(one.guid for one in self.pair.home.state.nodes[dataset].snapshots.values())

    def wanted(self, **more: Any) -> Wanted:
        return Wanted(**{"dataset": COPY, "owner": "home", "source": "tank/home", **more})

    async def refused(self, **more: Any) -> MeshkeepError:
        """Both the plan and the deed say the same, and nothing has changed."""
        before = dump(self.pair.cloud)
        with pytest.raises(MeshkeepError) as planned:
            await self.adopter.plan(self.wanted(**more))
        with pytest.raises(MeshkeepError) as done:
            await self.adopter.adopt(self.wanted(**more))
        assert planned.value.code == done.value.code
        assert dump(self.pair.cloud) == before
        return done.value


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with served(Pair(tmp_path)) as pair:
        stage = Stage(pair)
        await pair.encrypted()
        await pair.snap("a", "b", data=b"x" * 50_000)
        await stage.copied()
        pair.role = "member"
        yield stage


async def test_the_next_run_goes_on_from_the_common_guid(stage: Stage) -> None:
    await stage.pair.snap("c")
    before = len(stage.pair.sending.sends)
    done = await stage.adopter.adopt(stage.wanted())
    assert (done["to"], done["done"], done["checked"]) == (PLACE, True, "with the owner")
    assert COPY not in stage.pair.cloud.state.nodes
    report = await stage.pair.replicate()
    assert stage.pair.stored() == ["a", "b", "c"]
    assert 0 < report.bytes < 25_000
    steps = [step for job in stage.pair.sending.sends[before:] for step in job.steps]
    assert [step.base is None for step in steps] == [False]


async def test_it_is_held_received_now_and_pinned_to_the_key_it_has(stage: Stage) -> None:
    cloud, wrap = stage.pair.cloud, stage.pair.home.state.nodes["tank/home"].wrap
    cloud.state.nodes[COPY].snapshots["a"].properties[RECEIVED] = "1"
    await stage.adopter.adopt(stage.wanted())
    node = cloud.state.nodes[PLACE]
    now = str(int(stage.pair.clock()))
    assert {name: one.properties[RECEIVED] for name, one in node.snapshots.items()} == {"a": now, "b": now}
    assert all(one.holds == {FLOOR_HOLD} for one in node.snapshots.values())
    assert wrap is not None
    assert node.properties[KEY] == wrap.fingerprint()
    assert KeyArchive(stage.pair.archive / "adopted").has(HOME, "tank/home", wrap.fingerprint())


async def test_another_key_is_refused_afterwards(stage: Stage) -> None:
    await stage.adopter.adopt(stage.wanted())
    stage.pair.home.change_passphrase("tank/home", b"the thief's own")
    await stage.pair.snap("c")
    assert (await stage.pair.refused()).code == "key_changed"
    assert stage.pair.stored() == ["a", "b"]


async def test_what_was_set_is_noted_and_gone(stage: Stage) -> None:
    cloud = stage.pair.cloud
    was = {
        "mountpoint": "/srv",
        "sharenfs": "on",
        "readonly": "off",
        "canmount": "on",
        "quota": "7",
        "syncoid:x": "y",
    }
    await cloud.set(COPY, {**was, "compression": "lz4"})
    planned = await stage.adopter.plan(stage.wanted())
    assert planned["datasets"][0]["clears"] == was
    assert cloud.state.nodes[COPY].properties["sharenfs"] == "on"
    done = await stage.adopter.adopt(stage.wanted())
    properties = cloud.state.nodes[PLACE].properties
    noted = json.loads(properties[NOTE])
    assert (noted["from"], noted["set"]) == (COPY, was)
    assert {name: properties.get(name) for name in was} == {
        **dict.fromkeys(was),
        "canmount": "noauto",
        "quota": "0",
    }
    assert properties["compression"] == "lz4"
    told = await cloud.get(PLACE, ["readonly", "mountpoint", "exec"])
    assert {name: one.value for name, one in told.items()} == {
        "readonly": "on",
        "mountpoint": "none",
        "exec": "off",
    }
    assert done["undo"][0] == f"zfs rename {PLACE} {COPY}"
    assert "sharenfs=on" in done["undo"][1]


async def test_an_interrupted_adoption_goes_on_and_still_knows_how_it_was(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloud = stage.pair.cloud
    await cloud.set(COPY, {"mountpoint": "/srv"})
    rename = cloud.rename

    async def busy(name: str, new_name: str) -> None:
        raise errors.Busy(name)

    monkeypatch.setattr(cloud, "rename", busy)
    with pytest.raises(MeshkeepError) as stopped:
        await stage.adopter.adopt(stage.wanted())
    assert stopped.value.code == "not_adopted"
    monkeypatch.setattr(cloud, "rename", rename)
    await stage.adopter.adopt(stage.wanted())
    assert json.loads(cloud.state.nodes[PLACE].properties[NOTE])["set"] == {"mountpoint": "/srv"}


class TestOnPaper:
    async def test_a_vault_asks_nobody(self, stage: Stage) -> None:
        stage.pair.role = "vault"
        refusal = await stage.refused()
        assert (refusal.code, stage.asked) == ("guids_needed", 0)
        assert "zfs list -Hp" in refusal.hint

    async def test_a_vault_takes_a_list(self, stage: Stage) -> None:
        stage.pair.role = "vault"
        done = await stage.adopter.adopt(stage.wanted(guids=stage.guids()))
        assert (done["checked"], stage.asked) == ("on paper", 0)
        assert stage.pair.stored() == ["a", "b"]

    async def test_a_list_of_something_else_is_no_proof(self, stage: Stage) -> None:
        assert (await stage.refused(guids=frozenset({1, 2}))).code == "no_common_guid"

    async def test_the_owner_that_is_away_is_told_of(self, stage: Stage) -> None:
        stage.silent = True
        refusal = await stage.refused()
        assert (refusal.code, refusal.exit) == ("owner_silent", Exit.NO_PEER)


class TestRefused:
    async def test_without_a_common_guid(self, stage: Stage) -> None:
        await stage.pair.encrypted("tank/other")
        await stage.pair.snap("a", "b", dataset="tank/other")
        assert (await stage.refused(source="tank/other")).code == "no_common_guid"
        assert (await stage.refused(source="tank/none")).code == "no_common_guid"

    async def test_for_an_unknown_owner_or_one_that_owns_nothing(self, stage: Stage) -> None:
        assert (await stage.refused(owner="nobody")).code == "no_node"
        stage.owner_role = "vault"
        assert (await stage.refused()).code == "role_owns_nothing"

    async def test_where_the_place_is_taken(self, stage: Stage) -> None:
        for name in (ROOT, f"{ROOT}/{HOME}", f"{ROOT}/{HOME}/tank", PLACE):
            await stage.pair.cloud.create(name, {})
        assert (await stage.refused()).code == "place_taken"

    @pytest.mark.parametrize(
        ("dataset", "code"),
        [
            ("vault", "place_of_replicas"),
            (f"{ROOT}/x", "place_of_replicas"),
            ("other/x", "another_pool"),
            ("other", "a_pool"),
        ],
    )
    async def test_where_it_cannot_be_renamed(self, stage: Stage, dataset: str, code: str) -> None:
        assert (await stage.refused(dataset=dataset)).code == code

    async def test_what_is_not_there(self, stage: Stage) -> None:
        assert (await stage.refused(dataset="vault/none")).code == "no_dataset"

    async def test_while_it_is_mounted(self, stage: Stage) -> None:
        stage.pair.cloud.state.nodes[COPY].mounted = True
        assert (await stage.refused()).code == "mounted"
        await stage.adopter.adopt(stage.wanted(unmount=True))
        assert not stage.pair.cloud.state.nodes[PLACE].mounted

    async def test_with_clones_unless_they_are_named(self, stage: Stage) -> None:
        stage.pair.cloud.cloned[f"{COPY}@a"] = ["vault/clone"]
        assert (await stage.refused()).code == "has_clones"
        await stage.adopter.adopt(stage.wanted(named=frozenset({"vault/clone"})))

    async def test_with_snapshots_of_its_own(self, stage: Stage) -> None:
        await stage.pair.cloud.snapshot([f"{COPY}@local"])
        refusal = await stage.refused()
        assert refusal.code == "diverged"
        assert f"zfs destroy {COPY}@local%local" in refusal.hint

    async def test_changed_since_its_newest_snapshot(self, stage: Stage) -> None:
        stage.pair.cloud.state.nodes[COPY].data += b"atime"
        refusal = await stage.refused()
        assert (refusal.code, f"zfs rollback {COPY}@b" in refusal.hint) == ("changed_here", True)

    async def test_plaintext_on_a_vault(self, stage: Stage) -> None:
        await stage.pair.home.create("tank/plain", {})
        await stage.pair.snap("p", dataset="tank/plain")
        await stage.copied("tank/plain", "vault/backup/plain")
        wanted: dict[str, Any] = {"dataset": "vault/backup/plain", "source": "tank/plain"}
        stage.pair.role = "vault"
        guids = stage.guids("tank/plain")
        assert (await stage.refused(**wanted, guids=guids)).code == "plaintext_to_vault"
        stage.pair.role = "member"
        done = await stage.adopter.adopt(stage.wanted(**wanted))
        assert not done["datasets"][0]["raw"]

    async def test_what_was_encrypted_here(self, stage: Stage) -> None:
        """zfs receive below an encrypted parent: it can leave neither the parent nor ever take a raw stream."""
        cloud = stage.pair.cloud
        await cloud.create("vault/secret", {}, passphrase=b"correct horse")
        node = cloud.state.nodes[COPY]
        node.key_root = cloud.state.nodes["vault/secret"]
        assert (await stage.refused()).code == "key_of_another"


class TestBelow:
    async def below(self, stage: Stage) -> None:
        await stage.pair.encrypted("tank/home/docs")
        await stage.pair.snap("d", dataset="tank/home/docs")
        cloud = stage.pair.cloud
        await stage.pair.replicate("tank/home/docs")
        await cloud.rename(f"{PLACE}/docs", f"{COPY}/docs")
        for name in sorted((one for one in cloud.state.nodes if one.startswith(ROOT)), reverse=True):
            await cloud.destroy_dataset(name)

    async def test_children_come_along_only_if_asked_for(self, stage: Stage) -> None:
        await self.below(stage)
        assert (await stage.refused()).code == "has_children"
        done = await stage.adopter.adopt(stage.wanted(recursive=True))
        assert [one["to"] for one in done["datasets"]] == [PLACE, f"{PLACE}/docs"]
        assert stage.pair.stored(dataset="tank/home/docs") == ["d"]
        assert RECEIVED in stage.pair.cloud.state.nodes[f"{PLACE}/docs"].snapshots["d"].properties

    async def test_a_foreign_child_must_be_named(self, stage: Stage) -> None:
        await stage.pair.cloud.create("vault/mine", {})
        await stage.pair.cloud.rename("vault/mine", f"{COPY}/mine")
        await stage.pair.cloud.snapshot([f"{COPY}/mine@x"])
        assert (await stage.refused(recursive=True)).code == "foreign_child"
        done = await stage.adopter.adopt(stage.wanted(recursive=True, named=frozenset({f"{COPY}/mine"})))
        assert [one["foreign"] for one in done["datasets"]] == [False, True]
        assert stage.pair.cloud.state.nodes[f"{PLACE}/mine"].snapshots["x"].holds == set()


class TestRecognising:
    async def test_only_what_was_named_is_told(self, stage: Stage) -> None:
        known = sorted(stage.guids())
        told = await recognised(stage.pair.home, {"dataset": "tank/home", "guids": [known[0], 5]})
        assert told == {"known": [known[0]], "encrypted": True}
        nothing = {"known": [], "encrypted": False}
        assert await recognised(stage.pair.home, {"dataset": "tank/home", "guids": [5]}) == nothing
        assert await recognised(stage.pair.home, {"dataset": "tank/none", "guids": [known[0]]}) == nothing

    async def test_a_bookmark_is_enough(self, stage: Stage) -> None:
        guid = stage.pair.home.state.nodes["tank/home"].snapshots["a"].guid
        home = stage.pair.home
        for one in ("a", "b"):
            home.state.snap(f"tank/home@{one}").holds.clear()
        await home.bookmark("tank/home@a", "tank/home#kept")
        await home.destroy_snapshots(["tank/home@a"])
        assert (await recognised(home, {"dataset": "tank/home", "guids": [guid]}))["known"] == [guid]

    @pytest.mark.parametrize("guids", [None, "1", [True], [0], [1 << 64], ["1"], [1] * 5000])
    async def test_nonsense_is_refused(self, stage: Stage, guids: object) -> None:
        from mesh.link_errors import Refusal

        with pytest.raises(Refusal):
            await recognised(stage.pair.home, {"dataset": "tank/home", "guids": guids})
