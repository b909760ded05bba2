"""A seed is signed, checked, and stored as if its owner had sent it; what was altered on the way is refused."""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mesh.identity import Identity
from node.errors import Exit, MeshkeepError
from node.replica_places import KEY, RECEIVED
from node.seed import HOLD, SeedExport, SeedImport
from node.seed_index import INDEX, BadIndex, Index, Piece, dump, load
from replication.guard import FLOOR_HOLD
from tests.fakes.pair import ROOT, Pair, served
from tests.fakes.pair import dump as all_of

MESH = b"m" * 32
OWNER = Identity.from_seed(b"o" * 32)
PLACE = f"{ROOT}/{OWNER.id}/tank/home"


class Stage:
    """home exports its encrypted tank/home with the snapshots a and b; cloud is a vault in the same mesh."""

    def __init__(self, pair: Pair, disk: Path) -> None:
        self.pair = pair
        self.disk = disk
        self.mesh = MESH
        self.members = {OWNER.id: OWNER.public}

    async def export(self, dataset: str = "tank/home", **more: Any) -> dict[str, Any]:
        workers: Any = self.pair.sending
        maker = SeedExport(self.pair.home, workers, me=lambda: OWNER, mesh=lambda: MESH, now=self.pair.clock)
        return await maker.run(dataset, self.disk, _ignore, **more)

    @property
    def sowing(self) -> SeedImport:
        return SeedImport(
            self.pair.replicas,
            mesh=lambda: self.mesh,
            public=self.members.get,
            named=lambda node: "home" if node == OWNER.id else node,
        )

    async def sow(self) -> dict[str, Any]:
        return await self.sowing.run(self.disk, _ignore)

    async def refused(self) -> MeshkeepError:
        """And cloud has nothing more than before."""
        before = all_of(self.pair.cloud)
        with pytest.raises(MeshkeepError) as refusal:
            await self.sow()
        assert all_of(self.pair.cloud) == before
        return refusal.value

    def index(self) -> Index:
        return load((self.disk / INDEX).read_bytes(), MESH)

    def files(self) -> list[Path]:
        return sorted(self.disk.glob("*.zfs"))


async def _ignore(_: object) -> None:
    return None


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with served(Pair(tmp_path / "archive")) as pair:
        pair.archive.mkdir()
        stage = Stage(pair, tmp_path / "disk")
        pair.owners = [OWNER.id]
        await pair.encrypted()
        await pair.snap("a", "b", data=b"x" * 30_000)
        yield stage


async def test_it_is_stored_as_if_it_had_been_sent(stage: Stage) -> None:
    made = await stage.export()
    assert (made["streams"], made["newest"], made["raw"]) == (2, "b", True)
    done = await stage.sow()
    assert (done["owner"], done["stored"], done["done"]) == ("home", 2, True)
    node, wrap = stage.pair.cloud.state.nodes[PLACE], stage.pair.home.state.nodes["tank/home"].wrap
    assert wrap is not None
    assert node.properties[KEY] == wrap.fingerprint()
    for one in node.snapshots.values():
        assert (FLOOR_HOLD in one.holds, one.properties[RECEIVED]) == (True, str(int(stage.pair.clock())))
    assert {one: snap.guid for one, snap in node.snapshots.items()} == {
        one: snap.guid for one, snap in stage.pair.home.state.nodes["tank/home"].snapshots.items()
    }
    assert not any(HOLD in one.holds for one in stage.pair.home.state.nodes["tank/home"].snapshots.values())


async def test_its_owner_goes_on_incrementally(stage: Stage) -> None:
    await stage.export()
    await stage.sow()
    await stage.pair.snap("c")
    report = await stage.pair.replicate()
    assert stage.pair.stored(OWNER.id) == ["a", "b", "c"]
    assert 0 < report.bytes < 15_000


async def test_the_plan_changes_nothing(stage: Stage) -> None:
    await stage.export()
    before = all_of(stage.pair.cloud)
    planned = await stage.sowing.plan(stage.disk)
    assert (planned["stored"], planned["done"], planned["whole"]) == (2, False, True)
    assert all_of(stage.pair.cloud) == before


async def test_the_files_are_for_root_alone(stage: Stage) -> None:
    await stage.export()
    assert stage.disk.stat().st_mode & 0o077 == 0
    assert all(one.stat().st_mode & 0o077 == 0 for one in stage.disk.iterdir())


class TestExport:
    async def test_it_goes_on_and_keeps_what_is_sound(self, stage: Stage) -> None:
        stage.pair.sending.pause(0).go_on.set()
        stage.pair.sending.cut(5000)
        with pytest.raises(MeshkeepError) as stopped:
            await stage.export()
        assert stopped.value.code == "interrupted"
        assert [one.name for one in stage.index().pieces] == ["a"]
        assert not stage.index().whole
        made = await stage.export()
        assert (made["kept"], made["streams"]) == (1, 2)
        await stage.sow()
        assert stage.pair.stored(OWNER.id) == ["a", "b"]

    async def test_what_is_damaged_is_written_again(self, stage: Stage) -> None:
        await stage.export()
        whole = stage.files()[1].read_bytes()
        stage.files()[1].write_bytes(whole[:-1])
        assert (await stage.export())["kept"] == 1
        assert len(stage.files()[1].read_bytes()) == len(whole)

    async def test_later_snapshots_are_added(self, stage: Stage) -> None:
        await stage.export()
        await stage.pair.snap("c")
        assert (await stage.export())["kept"] == 2
        assert (await stage.sow())["stored"] == 3

    async def test_only_the_newest(self, stage: Stage) -> None:
        assert (await stage.export(newest_only=True))["streams"] == 1
        await stage.sow()
        assert stage.pair.stored(OWNER.id) == ["b"]

    async def test_plaintext_only_if_told(self, stage: Stage) -> None:
        await stage.pair.home.create("tank/plain", {})
        await stage.pair.snap("p", dataset="tank/plain")
        with pytest.raises(MeshkeepError) as refused:
            await stage.export("tank/plain")
        assert (refused.value.code, "meshkeep encrypt" in refused.value.hint) == ("plaintext_seed", True)
        assert not stage.disk.exists()
        await stage.export("tank/plain", plaintext=True)
        assert (await stage.refused()).code == "plaintext_to_vault"
        stage.pair.role = "member"
        await stage.sow()
        assert stage.pair.stored(OWNER.id, "tank/plain") == ["p"]

    async def test_nothing_of_others_is_written_over(self, stage: Stage) -> None:
        stage.disk.mkdir()
        (stage.disk / "photo.jpg").write_bytes(b"photo")
        with pytest.raises(MeshkeepError) as refused:
            await stage.export()
        assert refused.value.code == "place_taken"
        assert [one.name for one in stage.disk.iterdir()] == ["photo.jpg"]

    async def test_nor_the_seed_of_another_dataset(self, stage: Stage) -> None:
        await stage.export()
        await stage.pair.encrypted("tank/other")
        await stage.pair.snap("o", dataset="tank/other")
        with pytest.raises(MeshkeepError) as refused:
            await stage.export("tank/other")
        assert refused.value.code == "place_taken"

    async def test_what_is_not_there_or_has_nothing(self, stage: Stage) -> None:
        with pytest.raises(MeshkeepError) as refused:
            await stage.export("tank/none")
        assert refused.value.exit is Exit.NOT_FOUND
        await stage.pair.encrypted("tank/bare")
        with pytest.raises(MeshkeepError) as refused:
            await stage.export("tank/bare")
        assert refused.value.code == "nothing_to_send"


class TestImport:
    async def test_it_goes_on_after_an_interruption(self, stage: Stage) -> None:
        await stage.export()
        before = stage.files()[1].read_bytes()
        stage.files()[1].unlink()
        with pytest.raises(MeshkeepError) as stopped:
            await stage.sow()
        assert stopped.value.code == "damaged_seed"
        assert stage.pair.stored(OWNER.id) == ["a"]
        stage.files()[0].with_name(stage.index().pieces[1].file).write_bytes(before)
        assert (await stage.sow())["stored"] == 1
        assert stage.pair.stored(OWNER.id) == ["a", "b"]
        assert (await stage.sow())["stored"] == 0

    async def test_what_was_partly_stored_begins_anew(self, stage: Stage) -> None:
        await stage.export()
        stage.pair.sending.cut(9000)
        assert (await stage.pair.refused()).code == "interrupted"
        assert stage.pair.cloud.state.nodes[PLACE].partial is not None
        await stage.sow()
        assert stage.pair.stored(OWNER.id) == ["a", "b"]

    async def test_not_a_byte_of_an_altered_stream_reaches_zfs(self, stage: Stage) -> None:
        await stage.export()
        path = stage.files()[0]
        data = bytearray(path.read_bytes())
        data[-1000] ^= 1
        path.write_bytes(data)
        assert (await stage.refused()).code == "damaged_seed"
        assert stage.pair.storing.receives == []

    async def test_a_link_in_the_place_of_a_stream(self, stage: Stage, tmp_path: Path) -> None:
        await stage.export()
        path = stage.files()[0]
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
        assert (await stage.refused()).code == "disk_failed"

    async def test_another_key_than_the_pinned_one(self, stage: Stage) -> None:
        await stage.export()
        await stage.sow()
        stage.pair.home.change_passphrase("tank/home", b"the thief's own")
        await stage.pair.snap("c")
        await stage.export()
        assert (await stage.refused()).code == "key_changed"

    async def test_a_node_that_is_not_in_the_mesh(self, stage: Stage) -> None:
        await stage.export()
        stage.members = {}
        assert (await stage.refused()).code == "unknown_owner"
        stage.members = {OWNER.id: Identity.from_seed(b"p" * 32).public}
        assert (await stage.refused()).code == "unknown_owner"

    async def test_a_seed_of_another_mesh_or_none(self, stage: Stage) -> None:
        with pytest.raises(MeshkeepError) as refused:
            await stage.sow()
        assert refused.value.code == "no_seed"
        await stage.export()
        stage.mesh = b"n" * 32
        assert (await stage.refused()).code == "bad_seed"

    async def test_a_seed_that_does_not_follow_on_what_is_here(self, stage: Stage) -> None:
        await stage.export(newest_only=True)
        await stage.pair.replicate()
        await stage.pair.snap("c", "d")
        index = stage.index()
        later = replace(index.pieces[0], to_guid=7, from_guid=6, name="z")
        (stage.disk / INDEX).write_bytes(dump(replace(index, pieces=(later,)), OWNER, MESH))
        assert (await stage.refused()).code == "no_base"


class TestIndex:
    PIECE = Piece(f"000000-{5:016x}.zfs", "a", 5, None, 1, 9, "0" * 64, "")
    GOOD = Index(OWNER.public, "tank/home", True, 1, True, (PIECE,))

    def test_it_comes_back_as_it_was(self) -> None:
        assert load(dump(self.GOOD, OWNER, MESH), MESH) == self.GOOD

    @pytest.mark.parametrize("at", range(0, 500, 7))
    def test_no_bit_can_be_altered(self, at: int) -> None:
        data = bytearray(dump(self.GOOD, OWNER, MESH))
        data[at % len(data)] ^= 1
        with pytest.raises(BadIndex):
            load(bytes(data), MESH)

    def test_nobody_signs_for_another(self) -> None:
        with pytest.raises(BadIndex):
            load(dump(self.GOOD, Identity.from_seed(b"x" * 32), MESH), MESH)

    @pytest.mark.parametrize(
        "changed",
        [
            {"dataset": "tank/../etc"},
            {"dataset": ""},
            {"raw": 1},
            {"made": -1},
            {"pieces": {}},
            {"public": "00"},
            {"format": "meshkeep-seed/2"},
            *({"pieces": [one]} for one in (None, {}, [])),
        ],
    )
    def test_its_form_is_strict(self, changed: dict[str, Any]) -> None:
        assert _signed(changed) is False

    @pytest.mark.parametrize(
        "changed",
        [
            {"file": "../../etc/passwd"},
            {"file": "/etc/passwd"},
            {"name": "a@b"},
            {"to_guid": True},
            {"to_guid": 1 << 64},
            {"sha256": "0"},
            {"size": "9"},
            {"key": 5},
            {"from_guid": "x"},
        ],
    )
    def test_that_of_a_stream_too(self, changed: dict[str, Any]) -> None:
        piece = json.loads(dump(self.GOOD, OWNER, MESH).split(b"\n")[0])["pieces"][0]
        assert _signed({"pieces": [piece]}) is True
        assert _signed({"pieces": [{**piece, **changed}]}) is False

    def test_streams_follow_each_other(self) -> None:
        second = replace(self.PIECE, file=f"000001-{6:016x}.zfs", name="b", to_guid=6, from_guid=4)
        for pieces in (
            (self.PIECE, second),
            (self.PIECE, replace(second, from_guid=5, file=self.PIECE.file)),
        ):
            with pytest.raises(BadIndex):
                load(dump(replace(self.GOOD, pieces=pieces), OWNER, MESH), MESH)


def _signed(changed: dict[str, Any]) -> bool:
    """Whether an index with these values is taken, with a good signature."""
    values = json.loads(dump(TestIndex.GOOD, OWNER, MESH).split(b"\n")[0]) | changed
    body = json.dumps(values).encode()
    signature = base64.b64encode(OWNER.sign(b"meshkeep-seed1\0" + MESH + body))
    try:
        load(body + b"\n" + signature + b"\n", MESH)
    except BadIndex:
        return False
    return True
