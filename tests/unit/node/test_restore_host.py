"""All that a host had comes back, of each dataset the newest copy, and nothing that exists is touched."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from node.errors import Exit, MeshkeepError
from node.restore_host import HostWanted, mapping_of, renamed
from replication.ledger import trimmed
from tests.fakes.keepers import Keepers, listening
from tests.fakes.pair import HOME, PASSPHRASE, dump

KB = 1024


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Keepers]:
    """home had tank/home with a child, on cloud and (one snapshot more) nas; and tank/far/photos, on cloud."""
    async with listening(Keepers(tmp_path, cloud="vault", nas="member")) as all_:
        await all_.encrypted("tank/home", "tank/home/mail")
        await all_.home.create("tank/far", {})
        await all_.encrypted("tank/far/photos")
        for dataset in ("tank/home", "tank/home/mail", "tank/far/photos"):
            await all_.snap(dataset, "a", "b", data=b"x" * 10 * KB)
            await all_.replicate(dataset, "cloud")
        await all_.snap("tank/home", "c", data=b"y" * KB)
        await all_.replicate("tank/home", "nas")
        all_.burn()
        yield all_


def states(done: dict[str, Any]) -> dict[str, str]:
    return {one["to"]: one["state"] for one in done["outcomes"]}


def of(done: dict[str, Any], to: str) -> dict[str, Any]:
    (found,) = [one for one in done["outcomes"] if one["to"] == to]
    return dict(found)


class TestAll:
    async def test_comes_back_parents_first_each_from_who_has_the_newest(self, mesh: Keepers) -> None:
        done = await mesh.restore_host()
        assert [one["to"] for one in done["outcomes"]] == ["tank/far/photos", "tank/home", "tank/home/mail"]
        assert set(states(done).values()) == {"restored"}
        assert (of(done, "tank/home")["node"], of(done, "tank/home/mail")["node"]) == ("nas", "cloud")
        assert mesh.snapshots("tank/home") == ["a", "b", "c"]
        assert mesh.snapshots("tank/home/mail") == ["a", "b"]
        assert done["partial"] is False
        assert mesh.local.restoring() == frozenset()
        await mesh.home.load_key("tank/home", PASSPHRASE)
        assert mesh.home.read("tank/home") == b"x" * 20 * KB + b"y" * KB
        assert of(done, "tank/home")["next"] == "zfs load-key tank/home && zfs mount tank/home"
        assert done["bytes"] > 61 * KB

    async def test_what_nobody_keeps_of_the_names_between_is_made_as_a_place(self, mesh: Keepers) -> None:
        done = await mesh.restore_host()
        assert done["made"] == ["tank/far"]
        assert (await mesh.home.get("tank/far", ["canmount"]))["canmount"].value == "off"

    async def test_it_is_told_how_far_it_is(self, mesh: Keepers) -> None:
        await mesh.restore_host()
        assert mesh.told[1] == "nas:tank/home → tank/home (2 of 3)"

    async def test_only_what_one_node_keeps(self, mesh: Keepers) -> None:
        done = await mesh.restore_host(peer=mesh.peer("cloud"), older=True)
        assert mesh.snapshots("tank/home") == ["a", "b"]
        assert done["partial"] is False

    async def test_only_what_was_one_owners(self, mesh: Keepers) -> None:
        done = await mesh.restore_host(owner=HOME)
        assert len(done["outcomes"]) == 3
        with pytest.raises(MeshkeepError) as caught:
            await mesh.restore_host(owner="another")
        assert (caught.value.code, caught.value.exit) == ("no_replica", Exit.NOT_FOUND)

    async def test_on_paper_nothing_is_changed(self, mesh: Keepers) -> None:
        before = dump(mesh.home)
        planned = await mesh.host.plan(HostWanted())
        assert set(states(planned).values()) == {"to restore"}
        assert planned["partial"] is False
        assert of(planned, "tank/home")["size"] > 20 * KB
        assert dump(mesh.home) == before

    async def test_elsewhere(self, mesh: Keepers) -> None:
        done = await mesh.restore_host(mapping=mapping_of(["tank=tank/old", "tank/far=tank/there"]))
        assert states(done) == {
            "tank/old/home": "restored",
            "tank/old/home/mail": "restored",
            "tank/there/photos": "restored",
        }
        assert done["made"] == ["tank/old", "tank/there"]


class TestAgain:
    async def test_everything_is_here_and_nothing_is_fetched(self, mesh: Keepers) -> None:
        await mesh.restore_host()
        received = len(mesh.workers.receives)
        done = await mesh.restore_host()
        assert set(states(done).values()) == {"present"}
        assert len(mesh.workers.receives) == received
        assert (done["partial"], done["bytes"]) == (False, 0)

    async def test_what_went_on_since_is_left_alone(self, mesh: Keepers) -> None:
        await mesh.restore_host()
        await mesh.home.load_key("tank/home", PASSPHRASE)
        await mesh.snap("tank/home", "mine")
        await mesh.home.destroy_snapshots(["tank/home@c"])
        done = await mesh.restore_host()
        assert of(done, "tank/home")["state"] == "present"
        assert "@mine" in of(done, "tank/home")["why"]

    async def test_it_goes_on_where_it_was_ended(self, mesh: Keepers) -> None:
        point = mesh.keepers["nas"].workers.pause(8 * KB)
        running = asyncio.ensure_future(mesh.restore_host())
        await point.wait()
        with pytest.raises(MeshkeepError) as caught:
            await mesh.restore_host()
        assert caught.value.code == "restore_running"
        running.cancel()
        point.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert states(await mesh.host.plan(HostWanted())) == {
            "tank/far/photos": "present",
            "tank/home": "to restore",
            "tank/home/mail": "to restore",
        }
        done = await mesh.restore_host()
        assert done["partial"] is False
        assert mesh.snapshots("tank/home") == ["a", "b", "c"]


class TestPartly:
    async def test_another_dataset_of_that_name_stays(self, mesh: Keepers) -> None:
        await mesh.encrypted("tank/home")
        await mesh.snap("tank/home", "mine")
        before = dump(mesh.home)["tank/home"]
        done = await mesh.restore_host()
        assert (of(done, "tank/home")["state"], of(done, "tank/home")["code"]) == (
            "kept",
            "destination_exists",
        )
        assert dump(mesh.home)["tank/home"] == before
        assert done["partial"] is True
        assert states(done)["tank/far/photos"] == "restored"

    async def test_an_older_state_that_may_be_in_use_stays(self, mesh: Keepers) -> None:
        await mesh.restore("tank/home", "tank/home", "cloud", older=True)
        done = await mesh.restore_host()
        assert of(done, "tank/home")["state"] == "behind"
        assert "@b" in of(done, "tank/home")["why"]
        assert mesh.snapshots("tank/home") == ["a", "b"]
        assert done["partial"] is True

    async def test_what_is_below_one_that_failed_is_not_put_into_an_empty_place(self, mesh: Keepers) -> None:
        for _ in range(5):
            mesh.keepers["nas"].workers.cut(100)
        done = await mesh.restore_host()
        assert states(done) == {
            "tank/far/photos": "restored",
            "tank/home": "failed",
            "tank/home/mail": "failed",
        }
        assert "tank/home above it" in of(done, "tank/home/mail")["why"]
        assert done["partial"] is True
        again = await mesh.restore_host()
        assert set(states(again).values()) == {"present", "restored"}
        assert again["partial"] is False

    async def test_a_node_that_does_not_answer_may_keep_more(self, mesh: Keepers) -> None:
        mesh.keepers["nas"].port = 1
        done = await mesh.restore_host()
        assert [one["node"] for one in done["silent"]] == ["nas"]
        assert "stale_replica" in {one["code"] for one in done["outcomes"]}
        done = await mesh.restore_host(older=True)
        assert set(states(done).values()) <= {"restored", "present"}
        assert done["partial"] is True

    async def test_one_that_answers_nonsense_neither_harms_the_rest(self, mesh: Keepers) -> None:
        mesh.keepers["nas"].lies = {"replicas": [{"dataset": "../../etc"}]}
        done = await mesh.restore_host(older=True)
        assert "makes no sense" in done["silent"][0]["why"]
        assert set(states(done).values()) == {"restored"}

    async def test_nobody_answers(self, mesh: Keepers) -> None:
        for keeper in mesh.keepers.values():
            keeper.port = 1
        with pytest.raises(MeshkeepError) as caught:
            await mesh.restore_host()
        assert caught.value.exit is Exit.NO_PEER

    async def test_a_pool_that_is_not_here_is_named(self, mesh: Keepers) -> None:
        done = await mesh.restore_host(mapping=mapping_of(["tank/home=pond/home"]))
        assert states(done) == {
            "pond/home": "failed",
            "pond/home/mail": "failed",
            "tank/far/photos": "restored",
        }
        assert "--map pond=POOL" in of(done, "pond/home")["why"]

    async def test_a_pool_itself_is_not_restored_over(self, mesh: Keepers) -> None:
        done = await mesh.restore_host(mapping=mapping_of(["tank/home=tank"]))
        assert of(done, "tank")["state"] == "kept"
        assert of(done, "tank/mail")["state"] == "restored"

    async def test_plaintext_of_a_vault_is_no_copy(self, mesh: Keepers) -> None:
        """The vault cannot put a dataset of its own making here."""
        listed = await mesh.keepers["cloud"].replicas.listing([HOME])
        forged = {**listed["replicas"][0], "dataset": "tank/etc", "encrypted": False}
        mesh.keepers["cloud"].lies = {"replicas": [*listed["replicas"], forged]}
        done = await mesh.restore_host()
        assert "tank/etc" not in states(done)
        assert "tank/etc" not in mesh.here()


class TestMoreThanTheListHolds:
    @pytest.fixture(autouse=True)
    async def short(self, mesh: Keepers) -> None:
        """The lists as a sealed manifest has them that has room for one entry of each."""
        mesh.sent._lists = {one.dataset: one for one in trimmed(list(mesh.sent.ledgers().values()), 1)}

    async def test_what_is_left_out_makes_it_partial_though_each_dataset_is_back(self, mesh: Keepers) -> None:
        planned = await mesh.host.plan(HostWanted())
        done = await mesh.restore_host()
        assert set(states(done).values()) == {"restored"}
        assert mesh.snapshots("tank/home/mail") == ["b"]
        assert of(done, "tank/home/mail")["vouched"]["left_out"] == ["a"]
        assert planned["partial"] is done["partial"] is True
        again = await mesh.restore_host()
        assert set(states(again).values()) == {"present"}
        assert again["partial"] is True

    async def test_who_accepts_it_has_all_of_it(self, mesh: Keepers) -> None:
        done = await mesh.restore_host(accept_unlisted=True)
        assert mesh.snapshots("tank/home/mail") == ["a", "b"]
        assert done["partial"] is False


class TestNames:
    @pytest.mark.parametrize(
        ("dataset", "new"),
        [
            ("tank", "pond"),
            ("tank/a", "pond/a"),
            ("tank/a/b", "lake/x/b"),
            ("tank/ab", "pond/ab"),
            ("tankard/a", "tankard/a"),
        ],
    )
    def test_the_longest_old_name_counts_and_whole_names_only(self, dataset: str, new: str) -> None:
        assert renamed(dataset, mapping_of(["tank=pond", "tank/a/b=lake/x/b"])) == new

    @pytest.mark.parametrize("bad", [["tank"], ["=x"], ["tank="], ["a=b", "a=c"], ["tank=x@y"], ["tank=-x"]])
    def test_a_mapping_that_is_none(self, bad: list[str]) -> None:
        with pytest.raises(MeshkeepError) as caught:
            mapping_of(bad)
        assert caught.value.exit is Exit.USAGE

    async def test_two_datasets_never_get_one_name(self, mesh: Keepers) -> None:
        with pytest.raises(MeshkeepError) as caught:
            await mesh.restore_host(mapping=mapping_of(["tank/far/photos=tank/x", "tank/home=tank/x"]))
        assert caught.value.exit is Exit.USAGE
        assert mesh.here() == []
