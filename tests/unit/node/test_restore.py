"""A dataset comes back from the node that keeps it, over a real connection, and nothing here is overwritten."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from node.errors import Exit, MeshkeepError
from node.restore import Wanted
from tests.fakes.keepers import Keepers, listening
from tests.fakes.pair import BEGAN, HOME, OLD, PASSPHRASE, ROOT, Pair, dump, served

KB = 1024


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """@a, @b and @c are stored, and home has burned."""
    async with served(Pair(tmp_path)) as two:
        await two.encrypted()
        await two.snap("a", "b", "c", data=b"z" * 50 * KB)
        await two.replicate()
        await burn(two)
        yield two


async def burn(pair: Pair) -> None:
    del pair.home.state.nodes["tank/home"]


async def error_of(pair: Pair, to: str = "tank/back", **more: Any) -> MeshkeepError:
    with pytest.raises(MeshkeepError) as caught:
        await pair.restore(to, **more)
    return caught.value


async def unchanged(pair: Pair, to: str = "tank/back", **more: Any) -> MeshkeepError:
    """The error of a restore that touches neither side."""
    before = dump(pair.home), dump(pair.cloud)
    error = await error_of(pair, to, **more)
    assert (dump(pair.home), dump(pair.cloud)) == before
    return error


class TestRestoring:
    async def test_brings_every_snapshot_back_and_the_passphrase_opens_it(self, pair: Pair) -> None:
        report = await pair.restore()
        assert [one.name for one in await pair.home.snapshots("tank/back")] == ["a", "b", "c"]
        assert (await pair.home.dataset("tank/back")).keystatus == "unavailable"
        await pair.home.load_key("tank/back", PASSPHRASE)
        assert pair.home.read("tank/back") == b"z" * 150 * KB
        assert (report["state"], report["newest"], report["snapshots"]) == ("restored, unproven", "c", 3)
        assert report["bytes"] > 150 * KB
        assert report["encrypted"] is True
        assert report["owner"] == HOME

    async def test_under_the_old_name_too(self, pair: Pair) -> None:
        await pair.restore("tank/home")
        assert len(await pair.home.snapshots("tank/home")) == 3

    async def test_the_guids_are_the_same_so_replication_goes_on_from_there(self, pair: Pair) -> None:
        await pair.restore("tank/home")
        await pair.home.load_key("tank/home", PASSPHRASE)
        await pair.snap("d")
        report = await pair.replicate()
        assert report.steps == 1
        assert pair.stored() == ["a", "b", "c", "d"]

    async def test_the_replica_is_as_it_was(self, pair: Pair) -> None:
        before = dump(pair.cloud)
        await pair.restore()
        assert dump(pair.cloud) == before

    @pytest.mark.parametrize(("at", "names"), [("a", ["a"]), ("b", ["a", "b"]), ("c", ["a", "b", "c"])])
    async def test_up_to_the_snapshot_that_is_wanted(self, pair: Pair, at: str, names: list[str]) -> None:
        report = await pair.restore(at=at)
        assert [one.name for one in await pair.home.snapshots("tank/back")] == names
        assert report["newest"] == at

    async def test_a_dataset_that_is_back_gets_nothing_more_by_a_restore(self, pair: Pair) -> None:
        """It is in use now: what a vault claims came later must not be put into it."""
        await pair.restore(at="a")
        error = await error_of(pair)
        assert (error.code, error.exit) == ("destination_exists", Exit.REFUSED)
        assert [one.name for one in await pair.home.snapshots("tank/back")] == ["a"]
        assert pair.local.restoring() == frozenset()

    async def test_further_where_an_earlier_restore_was_ended(self, pair: Pair) -> None:
        await pair.restore(at="a")
        pair.local.begin_restore(
            "tank/back"
        )  # as a restore that was ended after its first snapshot leaves it
        received = len(pair.sending.receives)
        await pair.restore()
        assert len(pair.sending.receives) == received + 2
        assert [one.name for one in await pair.home.snapshots("tank/back")] == ["a", "b", "c"]

    async def test_again_when_it_is_there_sends_nothing(self, pair: Pair) -> None:
        await pair.restore()
        report = await pair.restore()
        assert report["bytes"] == 0

    async def test_by_the_heir_of_the_node_that_burned(self, pair: Pair) -> None:
        nodes = pair.cloud.state.nodes
        for name in [name for name in nodes if name.startswith(f"{ROOT}/{HOME}")]:
            node = nodes.pop(name)
            node.name = name.replace(HOME, OLD)
            nodes[node.name] = node
        pair.owners = [HOME, OLD]
        report = await pair.restore()
        assert report["owner"] == OLD
        assert report["snapshots"] == 3

    async def test_the_newest_replica_of_two_owners_unless_one_is_named(self, pair: Pair) -> None:
        await pair.restore("tank/home")
        await pair.home.load_key("tank/home", PASSPHRASE)
        await pair.snap("d")
        pair.owners = [OLD]
        await pair.replicate()
        pair.owners = [HOME, OLD]
        assert (await pair.restore("tank/newest"))["owner"] == OLD
        assert (await pair.restore("tank/named", owner=HOME, older=True))["newest"] == "c"


class TestInterrupted:
    @pytest.mark.parametrize("after", [0, 100, 3 * KB, 30 * KB])
    async def test_it_is_tried_again_and_goes_on_where_it_stopped(self, pair: Pair, after: int) -> None:
        pair.storing.cut(after)
        report = await pair.restore()
        assert report["snapshots"] == 3
        assert report["bytes"] < 160 * KB

    async def test_five_times_without_a_snapshot_it_gives_up_and_the_next_command_goes_on(
        self, pair: Pair
    ) -> None:
        for _ in range(5):
            pair.storing.cut(8 * KB)
        error = await error_of(pair)
        assert error.exit is Exit.FAILED
        assert "goes on" in error.hint
        state = await pair.home.resume_state("tank/back")
        assert state is not None
        assert state.bytes > 10 * KB
        report = await pair.restore()
        assert report["snapshots"] == 3
        assert report["bytes"] < 160 * KB - state.bytes

    async def test_a_full_pool_here_is_no_reason_to_start_over(self, pair: Pair) -> None:
        pair.home.state.sizes["tank"] = 80 * KB
        error = await error_of(pair)
        assert (error.code, error.exit) == ("target_full", Exit.FAILED)
        assert [one.name for one in await pair.home.snapshots("tank/back")] == ["a"]
        pair.home.state.sizes["tank"] = 1 << 30
        assert (await pair.restore())["snapshots"] == 3

    async def test_cancelled_it_leaves_what_arrived(self, pair: Pair) -> None:
        point = pair.storing.pause(30 * KB)
        running = asyncio.ensure_future(pair.restore())
        await point.wait()
        running.cancel()
        point.go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert (await pair.restore())["snapshots"] == 3


class TestRefused:
    async def test_a_dataset_that_exists_is_not_touched(self, pair: Pair) -> None:
        await pair.home.create("tank/back", {})
        error = await unchanged(pair)
        assert (error.code, error.exit) == ("destination_exists", Exit.REFUSED)
        assert "--to" in error.hint

    async def test_one_with_snapshots_of_its_own_neither(self, pair: Pair) -> None:
        await pair.encrypted("tank/back")
        await pair.snap("a", dataset="tank/back")
        error = await unchanged(pair)
        assert (error.code, error.exit) == ("destination_exists", Exit.REFUSED)

    async def test_one_that_went_on_since_it_was_restored_neither(self, pair: Pair) -> None:
        await pair.restore()
        await pair.home.load_key("tank/back", PASSPHRASE)
        await pair.snap("mine", dataset="tank/back")
        error = await unchanged(pair)
        assert (error.code, error.exit) == ("destination_exists", Exit.REFUSED)

    async def test_the_partial_stream_of_something_else_is_not_dropped(self, pair: Pair) -> None:
        for _ in range(5):
            pair.storing.cut(8 * KB)
        await error_of(pair, at="a")
        node = pair.home.state.nodes["tank/back"]
        assert node.partial is not None
        node.partial.to_guid = 4711
        error = await unchanged(pair)
        assert (error.code, error.exit) == ("destination_exists", Exit.REFUSED)

    @pytest.mark.parametrize(
        ("to", "code", "exit"),
        [
            ("tank", "destination_exists", Exit.REFUSED),
            ("nowhere/back", "no_parent", Exit.NOT_FOUND),
            ("tank/missing/back", "no_parent", Exit.NOT_FOUND),
            ("nowhere", "no_parent", Exit.NOT_FOUND),
            ("tank//back", "bad_name", Exit.USAGE),
            ("tank/back@a", "bad_name", Exit.USAGE),
            ("tank/" + "x" * 260, "bad_name", Exit.USAGE),
        ],
    )
    async def test_a_place_that_is_none(self, pair: Pair, to: str, code: str, exit: Exit) -> None:
        error = await unchanged(pair, to)
        assert (error.code, error.exit) == (code, exit)
        assert pair.asked[-1:] != ["replica.list"]

    async def test_a_replica_that_is_not_there(self, pair: Pair) -> None:
        pair.owners = ["z" * 16]
        error = await unchanged(pair)
        assert (error.code, error.exit) == ("no_replica", Exit.NOT_FOUND)

    async def test_a_replica_of_another_owner(self, pair: Pair) -> None:
        error = await unchanged(pair, owner=OLD)
        assert (error.code, error.exit) == ("no_replica", Exit.NOT_FOUND)

    async def test_a_partial_stream_of_our_own_that_is_not_wanted_any_more_is_dropped(
        self, pair: Pair
    ) -> None:
        await pair.restore(at="a")
        pair.local.begin_restore("tank/back")
        for _ in range(5):
            pair.storing.cut(8 * KB)
        await error_of(pair)
        assert pair.home.state.nodes["tank/back"].partial is not None
        report = await pair.restore(at="a")
        assert report["snapshots"] == 1
        assert pair.home.state.nodes["tank/back"].partial is None

    async def test_a_snapshot_that_is_not_there(self, pair: Pair) -> None:
        error = await unchanged(pair, at="z")
        assert (error.code, error.exit) == ("no_snapshot", Exit.NOT_FOUND)
        assert "c" in error.why

    async def test_a_node_that_does_not_answer(self, pair: Pair) -> None:
        pair.port = 1
        error = await unchanged(pair)
        assert error.exit is Exit.NO_PEER

    async def test_a_pool_that_is_gone_over_there(self, pair: Pair) -> None:
        pair.cloud.suspend("vault")
        error = await error_of(pair)
        assert (error.code, error.exit) == ("pool_unavailable", Exit.FAILED)


class TestFromWhoeverHasIt:
    async def test_the_newest_of_all_that_answer(self, tmp_path: Path) -> None:
        async with listening(Keepers(tmp_path, cloud="vault", nas="member")) as mesh:
            await mesh.encrypted("tank/home")
            await mesh.snap("tank/home", "a")
            await mesh.replicate("tank/home", "cloud")
            await mesh.snap("tank/home", "b")
            await mesh.replicate("tank/home", "nas")
            report = await mesh.restore("tank/home", "tank/back")
            assert (report["node"], report["newest"]) == ("nas", "b")
            mesh.keepers["nas"].port = 1
            with pytest.raises(MeshkeepError) as caught:
                await mesh.restore("tank/home", "tank/older")
            assert (caught.value.code, caught.value.exit) == ("stale_replica", Exit.REFUSED)
            report = await mesh.restore("tank/home", "tank/older", older=True)
            assert (report["node"], report["newest"]) == ("cloud", "a")
            with pytest.raises(MeshkeepError) as caught:
                await mesh.restore("tank/other", "tank/x")
            assert (caught.value.code, caught.value.exit) == ("no_replica", Exit.NOT_FOUND)
            assert "nas did not answer" in caught.value.why
            mesh.keepers["cloud"].port = 1
            with pytest.raises(MeshkeepError) as caught:
                await mesh.restore("tank/home", "tank/x")
            assert caught.value.exit is Exit.NO_PEER

    async def test_plaintext_of_a_vault_is_refused(self, tmp_path: Path) -> None:
        async with listening(Keepers(tmp_path, cloud="vault")) as mesh:
            await mesh.encrypted("tank/home")
            await mesh.snap("tank/home", "a")
            await mesh.replicate("tank/home", "cloud")
            listed = await mesh.keepers["cloud"].replicas.listing([HOME])
            listed["replicas"][0]["encrypted"] = False
            mesh.keepers["cloud"].lies = listed
            for node in ("cloud", None):
                with pytest.raises(MeshkeepError) as caught:
                    await mesh.restore("tank/home", "tank/back", node)
                assert (caught.value.code, caught.value.exit) == ("plaintext_from_vault", Exit.REFUSED)
            assert "tank/back" not in mesh.here()


class TestByTime:
    @pytest.mark.parametrize(
        ("before", "newest"), [(BEGAN, "a"), (BEGAN + 3599, "a"), (BEGAN + 3600, "b"), (BEGAN + 99999, "c")]
    )
    async def test_the_newest_taken_by_then(self, pair: Pair, before: float, newest: str) -> None:
        report = await pair.restore(at="then", before=int(before))
        assert report["newest"] == newest

    async def test_a_snapshot_of_that_very_name_comes_first(self, pair: Pair) -> None:
        assert (await pair.restore(at="b", before=int(BEGAN)))["newest"] == "b"

    async def test_before_the_first_there_was_nothing(self, pair: Pair) -> None:
        error = await unchanged(pair, at="9d", before=int(BEGAN) - 1)
        assert (error.code, error.exit) == ("no_snapshot", Exit.NOT_FOUND)
        assert "oldest is a" in error.why


class TestOnPaper:
    async def planned(self, pair: Pair, to: str = "tank/back", **more: Any) -> dict[str, Any]:
        before = dump(pair.home), dump(pair.cloud), pair.local.restoring()
        found = await pair.restorer.plan(Wanted("tank/home", "cloud", to, **more))
        assert (dump(pair.home), dump(pair.cloud), pair.local.restoring()) == before
        return found

    async def test_what_would_be_fetched_and_from_whom(self, pair: Pair) -> None:
        found = await self.planned(pair, at="b")
        assert (found["node"], found["owner"], found["snapshot"]) == ("cloud", HOME, "b")
        assert (found["snapshots"], found["steps"], found["resumes"]) == (2, 2, False)
        assert found["bytes_at_most"] >= 100 * KB
        assert found["key"] == {"needed": True, "kin": None, "loaded": None}

    async def test_the_dataset_whose_key_opens_it_if_it_is_here(self, pair: Pair) -> None:
        await pair.restore("tank/home")
        assert (await self.planned(pair))["key"] == {"needed": True, "kin": "tank/home", "loaded": False}
        await pair.home.load_key("tank/home", PASSPHRASE)
        assert (await self.planned(pair))["key"] == {"needed": True, "kin": "tank/home", "loaded": True}

    async def test_another_dataset_of_the_name_says_nothing_of_the_key(self, pair: Pair) -> None:
        await pair.encrypted("tank/home")
        await pair.snap("a", dataset="tank/home")
        assert (await self.planned(pair))["key"]["kin"] is None

    async def test_what_is_left_of_an_interrupted_one(self, pair: Pair) -> None:
        for _ in range(5):
            pair.storing.cut(8 * KB)
        await error_of(pair)
        found = await self.planned(pair)
        assert (found["resumes"], found["steps"]) == (True, 3)

    async def test_nothing_where_it_is_here(self, pair: Pair) -> None:
        await pair.restore()
        found = await self.planned(pair)
        assert (found["steps"], found["bytes_at_most"]) == (0, 0)

    async def test_what_would_be_refused_is_refused(self, pair: Pair) -> None:
        await pair.home.create("tank/back", {})
        with pytest.raises(MeshkeepError) as caught:
            await self.planned(pair)
        assert caught.value.code == "destination_exists"
