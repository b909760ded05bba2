"""A host that burned has its properties and its configuration back from its manifest, and loses nothing by that."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from node.drill import Drill
from node.errors import Exit, MeshkeepError
from node.file_fetch import FileFetcher
from node.manifest_apply import ASKED_FOR, Giver
from node.restore_verbs import RestoreVerbs
from node.scratch import Scratches
from node.settings import load
from tests.fakes.heirs import World
from tests.fakes.keepers import Keepers, listening
from tests.fakes.mesh import request
from tests.fakes.pair import dump

RULES = '[policy.home]\nhourly = 24\n\n[dataset."tank/home"]\npolicy = "home"\n'


class Burned:
    """phoenix, which has succeeded home: its pool is empty, cloud keeps the replicas and the manifest."""

    def __init__(self, path: Path) -> None:
        self.world = World(path / "mesh")
        self.data = Keepers(path / "data", cloud="vault")
        self.world.zfs = self.data.home
        self.data.keepers["cloud"].owners = [self.world.id_of("home")]
        self.config = path / "new"

    async def begin(self) -> None:
        (self.world.config / "meshkeep.toml").write_text(RULES)
        await self.world.begin()
        await self.data.encrypted("tank/home/mail")
        await self.data.home.set("tank/home/mail", {"readonly": "off", "sharenfs": "on"})
        self.world.rules = [("tank/home", "cloud"), ("tank/home/mail", "cloud")]
        for dataset in ("tank/home", "tank/home/mail"):
            await self.data.snap(dataset, "a")
            await self.data.replicate(dataset, "cloud")
        await self.world.manifests().tend()
        self.data.burn()
        await self.world.burn()

    def verbs(self) -> RestoreVerbs:
        manifests = self.world.manifests("phoenix")
        giver = Giver(self.data.home, manifests, self.config, load)
        mounts, clock = self.config.parent / "mounts", self.data.clock
        scratches = Scratches(self.data.home, self.data.restorer, self.data.local, mounts)
        drill = Drill(self.data.home, self.data.restorer, self.data.local, scratches, now=clock)
        files = FileFetcher(self.data.restorer, scratches)
        mesh = self.world.hosts["phoenix"].mesh
        return RestoreVerbs(mesh, self.data.restorer, self.data.host, giver, drill, files)

    async def host(self, **args: Any) -> dict[str, Any]:
        return await self.verbs().host(request(**args))

    async def dataset(self, **args: Any) -> dict[str, Any]:
        return await self.verbs().dataset(request(dataset="tank/home", to="tank/home", **args))

    async def own(self, dataset: str) -> dict[str, str]:
        return (await self.data.home.own_properties([dataset]))[dataset]

    def written(self) -> dict[str, str]:
        return {
            one.relative_to(self.config).as_posix(): one.read_text()
            for one in self.config.rglob("*")
            if one.is_file()
        }


@pytest.fixture
async def burned(tmp_path: Path) -> AsyncIterator[Burned]:
    (tmp_path / "mesh").mkdir()
    (tmp_path / "data").mkdir()
    one = Burned(tmp_path)
    async with listening(one.data):
        await one.begin()
        yield one


class TestDataset:
    async def test_without_a_word_its_properties_are_left_alone(self, burned: Burned) -> None:
        report = await burned.dataset()
        assert "properties" not in report
        assert await burned.own("tank/home") == {}

    async def test_the_properties_that_are_asked_for(self, burned: Burned) -> None:
        report = await burned.dataset(properties=True)
        assert report["state"] == "restored, unproven"
        assert report["properties"]["set"] == {"com.example:a": "b", "compression": "zstd"}
        assert report["properties"]["left"] == {"mountpoint": "/home"}
        assert await burned.own("tank/home") == {"com.example:a": "b", "compression": "zstd"}

    async def test_where_it_is_mounted_only_by_that_very_name(self, burned: Burned) -> None:
        report = await burned.dataset(property=["mountpoint"])
        assert report["properties"]["set"] == {"mountpoint": "/home"}
        assert await burned.own("tank/home") == {"mountpoint": "/home"}

    async def test_what_is_set_here_to_something_else_stays_unless_named(self, burned: Burned) -> None:
        await burned.dataset()
        await burned.data.home.set("tank/home", {"compression": "lz4"})
        report = await burned.dataset(properties=True)
        assert report["properties"]["left"] == {"compression": "zstd", "mountpoint": "/home"}
        assert (await burned.own("tank/home"))["compression"] == "lz4"
        await burned.dataset(property=["compression"])
        assert (await burned.own("tank/home"))["compression"] == "zstd"

    async def test_again_sets_nothing(self, burned: Burned) -> None:
        await burned.dataset(properties=True)
        assert (await burned.dataset(properties=True))["properties"]["set"] == {}

    async def test_without_a_manifest_the_data_is_back_all_the_same(self, burned: Burned) -> None:
        burned.world.away |= {"laptop"}
        report = await burned.dataset(properties=True)
        assert report["state"] == "restored, unproven"
        assert "nor did an admin" in report["properties"]["error"]
        report = await burned.dataset(properties=True, words=burned.world.words)
        assert report["properties"]["error"] is None

    async def test_wrong_words_are_said_before_anything_is_done(self, burned: Burned) -> None:
        before = dump(burned.data.home)
        with pytest.raises(MeshkeepError) as caught:
            await burned.dataset(properties=True, words=["wrong"])
        assert caught.value.exit is Exit.USAGE
        assert dump(burned.data.home) == before


class TestHost:
    async def test_on_paper_nothing_is_changed(self, burned: Burned) -> None:
        before = dump(burned.data.home)
        found = await burned.host(plan=True, apply_manifest=True)
        assert [one["state"] for one in found["outcomes"]] == ["to restore", "to restore"]
        assert found["manifest"]["found"][0]["opened_by"] == "laptop"
        assert (found["properties"], found["files"], burned.written()) == ([], [], {})
        assert dump(burned.data.home) == before

    async def test_everything_is_shown_and_nothing_applied_unasked(self, burned: Burned) -> None:
        done = await burned.host()
        assert [one["state"] for one in done["outcomes"]] == ["restored", "restored"]
        assert [sorted(one["left"]) for one in done["properties"]] == [
            ["com.example:a", "compression", "mountpoint"],
            ["readonly", "sharenfs"],
        ]
        assert await burned.own("tank/home") == {}
        assert (done["files"], burned.written(), done["partial"]) == ([], {}, False)

    async def test_the_manifest_applied(self, burned: Burned) -> None:
        done = await burned.host(apply_manifest=True)
        assert await burned.own("tank/home") == {"com.example:a": "b", "compression": "zstd"}
        assert await burned.own("tank/home/mail") == {"readonly": "off"}
        assert burned.written() == {"meshkeep.toml": RULES}
        assert done["files"] == [
            {"file": "meshkeep.toml", "written": str(burned.config / "meshkeep.toml"), "why": ""}
        ]
        assert done["partial"] is False
        again = await burned.host(apply_manifest=True)
        assert again["files"][0]["why"] == "it is here as it was"
        assert [one["set"] for one in again["properties"]] == [{}, {}]

    async def test_a_file_that_is_here_is_not_replaced(self, burned: Burned) -> None:
        burned.config.mkdir()
        (burned.config / "meshkeep.toml").write_text("# mine\n")
        await burned.host(apply_manifest=True)
        assert burned.written() == {"meshkeep.toml": "# mine\n", "meshkeep.toml.restored": RULES}

    async def test_files_that_do_not_fit_what_is_here_go_beside(self, burned: Burned) -> None:
        """The same policy twice: the agent would not take that configuration."""
        (burned.config / "conf.d").mkdir(parents=True)
        (burned.config / "conf.d" / "mine.toml").write_text(RULES)
        done = await burned.host(apply_manifest=True)
        assert burned.written() == {"conf.d/mine.toml": RULES, "meshkeep.toml.restored": RULES}
        assert "does not fit what is here" in done["files"][0]["why"]
        assert not (burned.config / ".restored-trial").exists()

    async def test_files_that_name_old_names_go_beside(self, burned: Burned) -> None:
        done = await burned.host(apply_manifest=True, map=["tank=tank/old"])
        assert list(burned.written()) == ["meshkeep.toml.restored"]
        assert (await burned.own("tank/old/home"))["compression"] == "zstd"
        assert done["partial"] is False

    async def test_what_the_manifest_tells_of_and_nobody_keeps_is_missing(self, burned: Burned) -> None:
        listed = await burned.data.keepers["cloud"].replicas.listing(burned.data.keepers["cloud"].owners)
        one = [replica for replica in listed["replicas"] if replica["dataset"] == "tank/home"]
        burned.data.keepers["cloud"].lies = {"replicas": one}
        done = await burned.host()
        assert done["missing"] == ["tank/home/mail"]
        assert done["partial"] is True

    async def test_a_manifest_that_was_to_be_applied_and_cannot_be_had(self, burned: Burned) -> None:
        burned.world.away |= {"laptop"}
        done = await burned.host(apply_manifest=True)
        assert [one["state"] for one in done["outcomes"]] == ["restored", "restored"]
        assert done["partial"] is True
        assert (await burned.host())["partial"] is False

    async def test_a_property_that_zfs_refuses_does_not_stop_the_rest(
        self, burned: Burned, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await burned.host()
        burned.data.home.make_readonly("tank")
        done = await burned.host(apply_manifest=True)
        assert set(done["properties"][0]["failed"]) == {"com.example:a", "compression"}
        assert done["partial"] is True

    @pytest.mark.parametrize(
        "bad", [{"map": "tank=x"}, {"map": [1]}, {"property": "x"}, {"from": "nobody"}, {"map": ["x"]}]
    )
    async def test_what_is_no_request(self, burned: Burned, bad: dict[str, Any]) -> None:
        with pytest.raises(MeshkeepError):
            await burned.host(**bad)
        assert burned.data.here() == []


async def test_a_drill_without_a_key_says_what_is_not_proven(burned: Burned) -> None:
    report = await burned.verbs().drill(request(dataset="tank/home"))
    assert (report["schema"], report["state"]) == ("meshkeep.restore-drill/1", "received, unproven")
    assert burned.data.here() == []


def test_the_command_names_what_it_only_shows() -> None:
    from node.cli.restore import _SHOWN

    assert set(_SHOWN.split(", ")) == ASKED_FOR
