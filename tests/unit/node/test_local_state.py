"""The facts of one host, on disk."""

from pathlib import Path

import pytest

from mesh.endpoints import Endpoint
from mesh.invite import VaultTerms
from node.local_state import HINTS_PER_NODE, LocalState
from node.storage import Storage, node_roots
from tests.fakes.zfs import FakeZfs

NODE = "abcdefghijklmnop"


def at(number: int) -> Endpoint:
    return Endpoint(f"192.0.2.{number}", 51820)


class TestHints:
    def test_newest_first_each_once_and_a_few_a_node(self, tmp_path: Path) -> None:
        state = LocalState(tmp_path)
        for number in (1, 2, 1, 3, 4, 3):
            state.add_hint(NODE, at(number))
        assert state.hints()[NODE] == (at(3), at(4), at(1))[:HINTS_PER_NODE]

    def test_are_there_after_a_restart(self, tmp_path: Path) -> None:
        LocalState(tmp_path).add_hint(NODE, at(1))
        LocalState(tmp_path).add_hint("other", at(2))
        assert LocalState(tmp_path).hints() == {NODE: (at(1),), "other": (at(2),)}

    def test_none_at_first(self, tmp_path: Path) -> None:
        assert LocalState(tmp_path).hints() == {}
        assert list(tmp_path.iterdir()) == []


class TestTerms:
    @pytest.mark.parametrize(
        "terms", [VaultTerms("", None, None), VaultTerms("tank/x", 5, None), VaultTerms("tank", 0, 30)]
    )
    def test_come_back_as_they_were(self, tmp_path: Path, terms: VaultTerms) -> None:
        LocalState(tmp_path).save_terms(terms)
        assert LocalState(tmp_path).terms() == terms

    def test_none_on_what_is_no_vault(self, tmp_path: Path) -> None:
        assert LocalState(tmp_path).terms() is None

    def test_are_for_this_user_only(self, tmp_path: Path) -> None:
        LocalState(tmp_path).save_terms(VaultTerms("tank", None, None))
        assert all(one.stat().st_mode & 0o077 == 0 for one in tmp_path.iterdir())


class TestStorage:
    def storage(self, path: Path, zfs: FakeZfs, under: str | None = None) -> Storage:
        return Storage(zfs, LocalState(path), lambda: under)

    async def test_the_pool_with_the_most_room(self, tmp_path: Path) -> None:
        zfs = FakeZfs(pools={"small": 1000, "large": 2000})
        terms = await self.storage(tmp_path, zfs).terms()
        assert terms is not None
        assert terms.root == "large/meshkeep"

    async def test_the_pool_where_it_began_even_when_another_has_more(self, tmp_path: Path) -> None:
        zfs = FakeZfs(pools={"small": 1000, "large": 2000})
        await zfs.create("small/meshkeep", {})
        terms = await self.storage(tmp_path, zfs).terms()
        assert terms is not None
        assert terms.root == "small/meshkeep"

    async def test_never_a_pool_that_is_read_only(self, tmp_path: Path) -> None:
        zfs = FakeZfs(pools={"only": 1000})
        zfs.make_readonly("only")
        assert await self.storage(tmp_path, zfs).terms() is None

    async def test_without_a_pool_none(self, tmp_path: Path) -> None:
        zfs = FakeZfs()
        zfs.state.sizes.clear()
        assert await self.storage(tmp_path, zfs).terms() is None

    async def test_what_the_settings_say(self, tmp_path: Path) -> None:
        storage = self.storage(tmp_path, FakeZfs(), "tank/backup")
        terms = await storage.terms()
        assert terms is not None
        assert storage.roots == (terms.root,) == ("tank/backup/meshkeep",)

    async def test_what_the_invite_fixed_before_all(self, tmp_path: Path) -> None:
        LocalState(tmp_path).save_terms(VaultTerms("tank/granted", 5, None))
        terms = await self.storage(tmp_path, FakeZfs(), "tank/backup").terms()
        assert terms is not None
        assert (terms.root, terms.quota) == ("tank/granted/meshkeep", 5)

    async def test_an_invite_without_a_place_leaves_it_to_the_host_but_not_the_quota(
        self, tmp_path: Path
    ) -> None:
        LocalState(tmp_path).save_terms(VaultTerms("", 5, None))
        terms = await self.storage(tmp_path, FakeZfs()).terms()
        assert terms is not None
        assert (terms.root, terms.quota) == ("tank/meshkeep", 5)


def test_the_roots_of_nodes_are_known_by_their_names() -> None:
    names = ["tank", "tank/meshkeep", f"tank/meshkeep/{NODE}", f"tank/meshkeep/{NODE}/home", f"tank/{NODE}"]
    names += ["tank/meshkeep/notes", f"pond/old/meshkeep/{NODE}"]
    assert node_roots(names) == {f"tank/meshkeep/{NODE}", f"pond/old/meshkeep/{NODE}"}
