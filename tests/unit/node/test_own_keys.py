"""What opens what is replicated: shown, tried, and reminded of, without changing anything."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from node.api import Api, Request
from node.errors import Exit, MeshkeepError
from node.job import Job
from node.local_state import LocalState
from node.own_keys import OwnKeys
from tests.fakes.zfs import FakeZfs
from zfs.model import Property

NOW = 1_800_000_000
PASSPHRASE = "correct horse"


class Host(FakeZfs):
    """A host whose datasets may have another format of key than the double knows, and which counts questions."""

    def __init__(self) -> None:
        super().__init__(clock=lambda: NOW, pools={"tank": 1 << 30})
        self.formats: dict[str, tuple[str, str]] = {}
        self.asked: list[str] = []

    async def get(self, name: str, properties: Any) -> dict[str, Property]:
        self.asked.append(name)
        found = await super().get(name, properties)
        if name in self.formats:
            names = ("keyformat", "keylocation")
            found |= {
                one: Property(value, "local") for one, value in zip(names, self.formats[name], strict=True)
            }
        return found


@dataclass
class Owner:
    """home: cloud is a vault, attic a member."""

    path: Path
    zfs: Host = field(default_factory=Host)
    jobs: list[Job] = field(default_factory=list)
    roles: Mapping[str, str] = field(default_factory=lambda: {"cloud": "vault", "attic": "member"})

    def __post_init__(self) -> None:
        self.keys = OwnKeys(
            self.zfs,
            LocalState(self.path),
            jobs=lambda: self.jobs,
            role=lambda name: self.roles.get(name, ""),
            now=lambda: NOW,
        )

    async def encrypted(self, dataset: str, *targets: str) -> None:
        await self.zfs.create(dataset, {}, passphrase=PASSPHRASE.encode())
        self.goes(dataset, *targets)

    def goes(self, dataset: str, *targets: str) -> None:
        self.jobs += [Job(dataset, target) for target in targets]

    async def status(self, dataset: str | None = None) -> list[dict[str, Any]]:
        args = {"dataset": dataset} if dataset else {}
        found = (await self.keys.status(Request("key.status", args, 0, 0)))["keys"]
        assert isinstance(found, list)
        return found

    async def verify(self, dataset: str, key: str = PASSPHRASE) -> dict[str, Any]:
        return await self.keys.verify(Request("key.verify", {"dataset": dataset, "key": key}, 0, 0))

    async def problems(self) -> list[str]:
        await self.keys.look()
        return [one.text for one in self.keys.problems()]


@pytest.fixture
def home(tmp_path: Path) -> Owner:
    return Owner(tmp_path)


class TestStatus:
    async def test_shows_what_opens_it_and_who_keeps_copies(self, home: Owner) -> None:
        await home.encrypted("tank/home", "cloud", "attic")
        await home.zfs.create("tank/home/docs", {})
        home.goes("tank/home/docs", "cloud")
        home.zfs.unload_key("tank/home")
        common = {"root": "tank/home", "loaded": False, "format": "passphrase", "location": "prompt"}
        assert await home.status() == [
            {"dataset": "tank/home", "nodes": ["attic", "cloud"], "verified": None, **common},
            {"dataset": "tank/home/docs", "nodes": ["cloud"], "verified": None, **common},
        ]

    async def test_leaves_out_what_is_not_encrypted_or_gone(self, home: Owner) -> None:
        await home.zfs.create("tank/plain", {})
        home.goes("tank/plain", "attic")
        home.goes("tank/gone", "attic")
        assert await home.status() == []

    async def test_of_one_dataset_also_where_it_goes_nowhere(self, home: Owner) -> None:
        await home.encrypted("tank/home")
        assert [one["nodes"] for one in await home.status("tank/home")] == [[]]
        with pytest.raises(MeshkeepError) as caught:
            await home.status("tank/gone")
        assert caught.value.exit is Exit.NOT_FOUND


class TestVerifying:
    async def test_notes_when_for_all_that_the_key_opens(self, home: Owner) -> None:
        await home.encrypted("tank/home", "cloud")
        await home.zfs.create("tank/home/docs", {})
        home.goes("tank/home/docs", "cloud")
        assert await home.verify("tank/home/docs") == {
            "schema": "meshkeep.key-verify/1",
            "dataset": "tank/home/docs",
            "root": "tank/home",
            "verified": NOW,
        }
        assert [one["verified"] for one in await home.status()] == [NOW, NOW]
        assert [one["verified"] for one in await Owner(home.path, zfs=home.zfs, jobs=home.jobs).status()] == [
            NOW, NOW,
        ]  # fmt: skip

    async def test_changes_nothing(self, home: Owner) -> None:
        await home.encrypted("tank/home")
        home.zfs.unload_key("tank/home")
        await home.verify("tank/home")
        assert (await home.zfs.dataset("tank/home")).keystatus == "unavailable"

    @pytest.mark.parametrize("key", ["", "something else"])
    async def test_a_wrong_one_is_told_and_not_noted(self, home: Owner, key: str) -> None:
        await home.encrypted("tank/home")
        with pytest.raises(MeshkeepError) as caught:
            await home.verify("tank/home", key)
        assert (caught.value.code, caught.value.exit) == ("wrong_key", Exit.REFUSED)
        assert (await home.status("tank/home"))[0]["verified"] is None

    async def test_is_for_what_has_a_passphrase(self, home: Owner) -> None:
        await home.zfs.create("tank/plain", {})
        await home.encrypted("tank/raw")
        home.zfs.formats["tank/raw"] = ("raw", "file:///root/key")
        for dataset, code in (
            ("tank/plain", "not_encrypted"),
            ("tank/raw", "key_in_file"),
            ("tank/x", "no_dataset"),
        ):
            with pytest.raises(MeshkeepError) as caught:
                await home.verify(dataset)
            assert caught.value.code == code

    def test_is_for_root(self, home: Owner, tmp_path: Path) -> None:
        api = Api(tmp_path / "agent.sock")
        home.keys.register(api)
        assert api.verbs == {"key.status": "group", "key.verify": "root"}


class TestReminding:
    async def test_of_a_key_that_was_never_tried_while_a_vault_has_copies(self, home: Owner) -> None:
        await home.encrypted("tank/home", "cloud", "attic")
        (text,) = await home.problems()
        assert text.startswith("the copies of tank/home on cloud open only with its passphrase")
        (problem,) = home.keys.problems()
        assert (problem.code, problem.try_) == ("key_unverified", "meshkeep key verify tank/home")
        await home.verify("tank/home")
        assert await home.problems() == []

    async def test_in_one_line_for_all_and_once_a_key(self, home: Owner) -> None:
        for dataset in ("tank/a", "tank/b", "tank/c"):
            await home.encrypted(dataset, "cloud")
        await home.zfs.create("tank/a/below", {})
        home.goes("tank/a/below", "cloud")
        (text,) = await home.problems()
        assert "tank/a on cloud" in text
        assert text.endswith("so it is with 2 more")
        await home.verify("tank/a")
        (text,) = await home.problems()
        assert "tank/b" in text
        assert text.endswith("1 more")

    async def test_not_for_members_files_plain_or_vanished_ones(self, home: Owner) -> None:
        await home.encrypted("tank/member", "attic")
        await home.encrypted("tank/raw", "cloud")
        home.zfs.formats["tank/raw"] = ("raw", "file:///root/key")
        await home.zfs.create("tank/plain", {})
        home.goes("tank/plain", "cloud")
        home.goes("tank/gone", "cloud")
        await home.encrypted("tank/old", "cloud")
        home.jobs[-1].vanished = True
        assert await home.problems() == []

    async def test_asks_each_dataset_once(self, home: Owner) -> None:
        await home.encrypted("tank/home", "cloud")
        for _ in range(3):
            await home.problems()
        assert home.zfs.asked == ["tank/home"]


class TestReminder:
    async def test_says_what_opens_a_copy_until_that_was_tried(self, home: Owner) -> None:
        await home.encrypted("tank/home", "cloud")
        assert "meshkeep key verify tank/home" in await home.keys.reminder("tank/home")
        home.zfs.formats["tank/home"] = ("raw", "file:///root/key")
        assert "meshkeep key export tank/home" in await home.keys.reminder("tank/home")
        home.zfs.formats.clear()
        await home.keys.verify(Request("", {"dataset": "tank/home", "key": PASSPHRASE}, 0, 0))
        assert await home.keys.reminder("tank/home") == ""

    async def test_says_nothing_where_there_is_nothing_to_open(self, home: Owner) -> None:
        await home.zfs.create("tank/plain", {})
        assert await home.keys.reminder("tank/plain") == ""
        assert await home.keys.reminder("tank/none") == ""
