"""A stored replica's key changes by the word of root at its own console: not by the stream that carries it, and not by
any peer's."""

import asyncio
import base64
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node import key_archive
from node.api import Api, Request
from node.errors import Exit, MeshkeepError
from node.key_archive import MAX_OFFERED, PENDING_OF_ONE_OWNER, SHORT, KeyArchive, Pending
from node.key_verbs import KeyApprovals
from node.peer_rules import VERBS, judge
from node.replica_places import KEY
from tests.fakes.pair import HOME, NEIGHBOUR, ROOT, Pair, dump, served
from tests.fakes.zfs_streams import begin_record
from zfs import errors
from zfs.stream import HEADER_SIZE

KB = 1024
REPLICA = f"{ROOT}/{HOME}/tank/home"
NEW = b"the new passphrase"
NAMES = {HOME: "home"}
PLACE = "home:tank/home"


class Console:
    """Root on cloud."""

    def __init__(self, pair: Pair) -> None:
        async def terms() -> Any:
            return pair.terms

        self.keys = KeyArchive(pair.archive)
        self.verbs = KeyApprovals(pair.cloud, self.keys, terms=terms, named=lambda one: NAMES.get(one, one))

    async def pending(self, **args: Any) -> list[dict[str, Any]]:
        found = (await self.verbs.pending(Request("key.pending", args, 0, 0)))["pending"]
        assert isinstance(found, list)
        return found

    async def approve(self, which: str | None = None, **args: Any) -> list[str]:
        """The datasets that were approved."""
        request = Request("key.approve", args | ({"which": which} if which else {}), 0, 0)
        return [one["dataset"] for one in (await self.verbs.approve(request))["approved"]]

    async def refuse(self, which: str = PLACE) -> None:
        await self.verbs.refuse(Request("key.refuse", {"which": which}, 0, 0))

    async def denied(self, which: str | None = None, **args: Any) -> MeshkeepError:
        with pytest.raises(MeshkeepError) as caught:
            await self.approve(which, **args)
        return caught.value


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """@a of home is stored on cloud, which listens; then home's passphrase changes, and there is @b."""
    two = Pair(tmp_path)
    two.named = NAMES
    two.serving()
    async with served(two):
        await two.encrypted()
        await two.snap("a", data=b"precious")
        await two.replicate()
        two.home.change_passphrase("tank/home", NEW)
        await two.snap("b", data=b"more")
        yield two


@pytest.fixture
def console(pair: Pair) -> Console:
    return Console(pair)


def pin(pair: Pair, dataset: str = REPLICA) -> str:
    return pair.cloud.state.nodes[dataset].properties[KEY]


def waiting(number: int, **change: Any) -> Pending:
    one = Pending(HOME, f"tank/d{number}", HOME, "a" * 64, "b" * 64, "", number)
    return replace(one, **change)


class TestOnTheSource:
    async def test_the_job_is_blocked_and_names_what_to_do_on_the_target(self, pair: Pair) -> None:
        old = pin(pair)
        error = await pair.refused()
        job = pair.replicator.job("tank/home", "cloud")
        assert (job.state, error.code, error.exit) == ("blocked", "key_changed", Exit.REFUSED)
        assert error.what.endswith("key changed")
        (offered,) = KeyArchive(pair.archive).pending()
        assert error.hint == f"on cloud, as root: meshkeep key approve {PLACE} {offered.fingerprint[:SHORT]}"
        assert old[:SHORT] in error.why
        assert "somebody else did" in error.why

    async def test_the_reason_is_told_although_it_could_not_be_noted(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: object) -> None:
            raise OSError("no space left on device")

        monkeypatch.setattr(key_archive, "write_durably", full)
        assert (await pair.refused()).code == "key_changed"


class TestWhatWasOffered:
    async def test_waits_and_the_replica_is_as_it_was(self, pair: Pair, console: Console) -> None:
        before = dump(pair.cloud)
        began = pair.clock.now
        await pair.refused()
        assert dump(pair.cloud) == before
        (one,) = await console.pending()
        assert (one["node"], one["by"], one["dataset"]) == ("home", "home", "tank/home")
        assert (one["pinned"], one["since"], one["kin"]) == (pin(pair), int(began), [])
        assert one["offered"] != one["pinned"]

    async def test_since_when_is_since_the_first_time(self, pair: Pair, console: Console) -> None:
        await pair.refused()
        first = await console.pending()
        pair.clock.now += 3600
        await pair.refused()
        assert await console.pending() == first

    async def test_of_several_the_newest_waits(self, pair: Pair, console: Console) -> None:
        await pair.refused()
        (first,) = await console.pending()
        pair.home.change_passphrase("tank/home", b"yet another one")
        pair.clock.now += 3600
        await pair.refused()
        (second,) = await console.pending()
        assert second["offered"] != first["offered"]
        assert second["since"] > first["since"]

    async def test_outlives_a_restart_with_the_payload_it_came_in(self, pair: Pair) -> None:
        await pair.refused()
        node = pair.home.state.nodes["tank/home"]
        record = begin_record(node, node.snapshots["b"], node.snapshots["a"], raw=True)
        (one,) = KeyArchive(pair.archive).pending()
        assert base64.b64decode(one.payload) == record[HEADER_SIZE:]

    async def test_nothing_waits_before_anything_was_offered(self, console: Console) -> None:
        assert await console.pending() == []
        assert console.verbs.problems() == []

    async def test_status_says_it_in_one_line(self, pair: Pair, console: Console) -> None:
        await pair.refused()
        console.keys.offer(waiting(1))
        (problem,) = console.verbs.problems()
        assert (problem.code, problem.try_) == ("key_pending", "meshkeep key pending")
        assert "home:tank/d1 and 1 more" in problem.text

    async def test_one_can_be_looked_at(self, pair: Pair, console: Console) -> None:
        await pair.refused()
        console.keys.offer(waiting(1))
        assert [one["dataset"] for one in await console.pending(which="home:tank/d1")] == ["tank/d1"]


class TestRoom:
    def test_a_node_has_so_many_and_takes_nobody_elses(self, tmp_path: Path) -> None:
        keys = KeyArchive(tmp_path)
        keys.offer(waiting(0, owner=NEIGHBOUR))
        for number in range(1, PENDING_OF_ONE_OWNER + 3):
            keys.offer(waiting(number))
        found = keys.pending()
        assert [one.since for one in found if one.owner == NEIGHBOUR] == [0]
        own = sorted(one.since for one in found if one.owner == HOME)
        assert own == list(range(3, PENDING_OF_ONE_OWNER + 3))

    def test_another_of_the_same_dataset_needs_no_room(self, tmp_path: Path) -> None:
        keys = KeyArchive(tmp_path)
        for number in range(PENDING_OF_ONE_OWNER):
            keys.offer(waiting(number))
        keys.offer(waiting(5, fingerprint="c" * 64))
        assert len(keys.pending()) == PENDING_OF_ONE_OWNER

    def test_what_is_no_key_by_its_size_is_not_kept(self, tmp_path: Path) -> None:
        keys = KeyArchive(tmp_path)
        keys.offer(waiting(1, payload="A" * (MAX_OFFERED + 1)))
        assert keys.pending() == []

    def test_a_damaged_note_hides_no_other(self, tmp_path: Path) -> None:
        keys = KeyArchive(tmp_path)
        keys.offer(waiting(1))
        keys.offer(waiting(2))
        next(tmp_path.rglob("tank%d1/pending.json")).write_text("{")
        assert [one.dataset for one in keys.pending()] == ["tank/d2"]

    def test_a_payload_that_is_none_is_nobodys_kin(self) -> None:
        for payload in ("", "%", "AAAA", base64.b64encode(b"\0" * 100).decode()):
            assert waiting(1, payload=payload).passphrase is None


class TestApproving:
    async def test_lets_the_next_try_through(self, pair: Pair, console: Console) -> None:
        await pair.refused()
        (one,) = await console.pending()
        assert await console.approve(PLACE, fingerprint=one["offered"][:SHORT]) == ["tank/home"]
        assert pin(pair) == one["offered"]
        assert await console.pending() == []
        await pair.replicate()
        assert pair.stored() == ["a", "b"]
        assert pin(pair) == one["offered"]
        await pair.cloud.load_key(REPLICA, NEW)
        assert pair.cloud.read(f"{REPLICA}@a") == b"precious"

    async def test_the_old_key_stays_in_the_archive(self, pair: Pair, console: Console) -> None:
        old = pin(pair)
        kept = console.keys.path(HOME, "tank/home", old).read_bytes()
        await pair.refused()
        (one,) = await console.pending()
        await console.approve(PLACE, fingerprint=one["offered"])
        await pair.replicate()
        assert console.keys.path(HOME, "tank/home", old).read_bytes() == kept
        new = json.loads(console.keys.path(HOME, "tank/home", one["offered"]).read_text())
        assert new["fingerprint"] == one["offered"]

    async def test_the_new_key_is_archived_before_it_is_pinned(
        self, pair: Pair, console: Console, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await pair.refused()
        (one,) = await console.pending()

        async def crash(*_: object) -> None:
            assert console.keys.has(HOME, "tank/home", one["offered"])
            raise errors.PoolUnavailable(REPLICA)

        with monkeypatch.context() as patch:
            patch.setattr(pair.cloud, "set", crash)
            with pytest.raises(errors.PoolUnavailable):
                await console.approve(PLACE, fingerprint=one["offered"])
        assert await console.pending() == [one]
        await console.approve(PLACE, fingerprint=one["offered"])
        assert pin(pair) == one["offered"]

    async def test_is_of_that_key_and_no_later_one(self, pair: Pair, console: Console) -> None:
        """The owner changes its key; before root says yes, a thief offers his own."""
        old = pin(pair)
        await pair.refused()
        (one,) = await console.pending()
        pair.home.change_passphrase("tank/home", b"of the thief")
        await pair.refused()
        error = await console.denied(PLACE, fingerprint=one["offered"])
        assert (error.code, error.exit) == ("another_key", Exit.REFUSED)
        assert pin(pair) == old

    async def test_does_not_open_the_door_for_a_third_key(self, pair: Pair, console: Console) -> None:
        await pair.refused()
        (one,) = await console.pending()
        await console.approve(PLACE, fingerprint=one["offered"])
        pair.home.change_passphrase("tank/home", b"of the thief")
        assert (await pair.refused()).code == "key_changed"
        assert pair.stored() == ["a"]

    @pytest.mark.parametrize("text", ["", "abc", "z" * SHORT, "a" * (SHORT - 1), "a" * 65, "." * SHORT, None])
    async def test_needs_enough_of_the_fingerprint(self, pair: Pair, console: Console, text: Any) -> None:
        await pair.refused()
        assert (await console.denied(PLACE, fingerprint=text)).exit is Exit.USAGE

    @pytest.mark.parametrize(
        "which", ["", "home", "home:", ":tank/home", "cloud:tank/home", "home:tank/other"]
    )
    async def test_of_what_does_not_wait_is_refused(self, pair: Pair, console: Console, which: str) -> None:
        await pair.refused()
        (one,) = await console.pending()
        assert (await console.denied(which, fingerprint=one["offered"])).exit is Exit.NOT_FOUND

    async def test_names_the_owner_by_id_where_two_have_the_name(self, pair: Pair, console: Console) -> None:
        await pair.refused()
        (one,) = await console.pending()
        console.keys.offer(waiting(1, owner=NEIGHBOUR, dataset="tank/home"))
        console.verbs = KeyApprovals(
            pair.cloud, console.keys, terms=console.verbs._terms, named=lambda _: "home"
        )
        error = await console.denied(PLACE, fingerprint=one["offered"])
        assert (error.code, f"{HOME}:tank/home" in error.why) == ("ambiguous", True)
        assert await console.approve(f"{HOME}:tank/home", fingerprint=one["offered"]) == ["tank/home"]

    async def test_of_a_replica_that_is_gone_forgets_it(self, pair: Pair, console: Console) -> None:
        await pair.refused()
        (one,) = await console.pending()
        del pair.cloud.state.nodes[REPLICA]
        error = await console.denied(PLACE, fingerprint=one["offered"])
        assert (error.code, error.exit) == ("no_replica", Exit.NOT_FOUND)
        assert await console.pending() == []

    async def test_is_not_done_where_the_old_key_could_not_be_put_back(
        self, pair: Pair, console: Console
    ) -> None:
        old = pin(pair)
        await pair.refused()
        (one,) = await console.pending()
        console.keys.path(HOME, "tank/home", old).unlink()
        assert (await console.denied(PLACE, fingerprint=one["offered"])).code == "old_key_lost"
        assert pin(pair) == old
        await console.approve(PLACE, fingerprint=one["offered"], without_old=True)
        assert pin(pair) == one["offered"]

    async def test_holds_against_a_stream_under_the_old_key_that_was_under_way(
        self, pair: Pair, console: Console, tmp_path: Path
    ) -> None:
        """It is stored, for it was right when it began; the word of the console stands."""
        await pair.refused()
        (one,) = await console.pending()
        node = pair.home.state.nodes["tank/home"]
        new, node.wrap = node.wrap, pair.cloud.state.nodes[REPLICA].wrap
        point = pair.sending.pause(500)
        async with running(pair) as run:
            await point.wait()
            await console.approve(PLACE, fingerprint=one["offered"])
            point.go_on.set()
            await run
        assert pair.stored() == ["a", "b"]
        assert pin(pair) == one["offered"]
        node.wrap = new


@contextlib.asynccontextmanager
async def running(pair: Pair) -> AsyncIterator[Any]:
    task = asyncio.ensure_future(pair.replicate())
    try:
        yield task
    finally:
        await asyncio.gather(task, return_exceptions=True)


class TestRefusing:
    async def test_forgets_what_waits_and_keeps_the_pin(self, pair: Pair, console: Console) -> None:
        old = pin(pair)
        await pair.refused()
        await console.refuse()
        assert await console.pending() == []
        assert pin(pair) == old
        with pytest.raises(MeshkeepError) as caught:
            await console.refuse()
        assert caught.value.exit is Exit.NOT_FOUND

    async def test_what_comes_again_waits_again(self, pair: Pair, console: Console) -> None:
        await pair.refused()
        await console.refuse()
        assert (await pair.refused()).code == "key_changed"
        assert len(await console.pending()) == 1


class TestAnEncryptionRootAndWhatInheritsItsKey:
    @pytest.fixture
    async def tree(self, pair: Pair) -> Pair:
        """tank/home/docs inherits the key of tank/home, tank/own has one of its own; all three changed."""
        await pair.home.create("tank/home/docs", {})
        await pair.encrypted("tank/own")
        for dataset in ("tank/home/docs", "tank/own"):
            await pair.snap("a", dataset=dataset)
        await pair.refused()
        (one,) = await Console(pair).pending()
        await Console(pair).approve(PLACE, fingerprint=one["offered"])
        for dataset in ("tank/home", "tank/home/docs", "tank/own"):
            await pair.replicate(dataset)
        for dataset in ("tank/home", "tank/own"):
            pair.home.change_passphrase(dataset, b"changed once more")
        for dataset in ("tank/home", "tank/home/docs", "tank/own"):
            await pair.snap("c", dataset=dataset)
            assert (await pair.refused(dataset)).code == "key_changed"
        return pair

    async def test_each_has_a_wrap_of_its_own_and_they_are_known_as_kin(
        self, tree: Pair, console: Console
    ) -> None:
        found = {one["dataset"]: one for one in await console.pending()}
        assert len({one["offered"] for one in found.values()}) == 3
        assert found["tank/home"]["kin"] == ["tank/home/docs"]
        assert found["tank/home/docs"]["kin"] == ["tank/home"]
        assert found["tank/own"]["kin"] == []

    async def test_are_approved_as_one(self, tree: Pair, console: Console) -> None:
        offered = {one["dataset"]: one["offered"] for one in await console.pending()}
        approved = await console.approve(all_of="home", fingerprint=offered["tank/home/docs"][:SHORT])
        assert approved == ["tank/home", "tank/home/docs"]
        assert [one["dataset"] for one in await console.pending()] == ["tank/own"]
        for dataset in approved:
            await tree.replicate(dataset)
            assert tree.stored(dataset=dataset)[-1] == "c"
            await tree.cloud.load_key(f"{ROOT}/{HOME}/{dataset}", b"changed once more")
        assert (await tree.refused("tank/own")).code == "key_changed"

    async def test_one_by_one_approves_one(self, tree: Pair, console: Console) -> None:
        offered = {one["dataset"]: one["offered"] for one in await console.pending()}
        assert await console.approve(PLACE, fingerprint=offered["tank/home"]) == ["tank/home"]
        assert [one["dataset"] for one in await console.pending()] == ["tank/home/docs", "tank/own"]

    async def test_another_nodes_are_no_kin(self, tree: Pair, console: Console) -> None:
        (root,) = [one for one in console.keys.pending() if one.dataset == "tank/home"]
        console.keys.offer(replace(root, owner=NEIGHBOUR))
        error = await console.denied(all_of="nobody", fingerprint=root.fingerprint)
        assert error.exit is Exit.NOT_FOUND
        assert await console.approve(all_of=HOME, fingerprint=root.fingerprint) == [
            "tank/home", "tank/home/docs",
        ]  # fmt: skip
        assert [one["owner"] for one in await console.pending()] == [HOME, NEIGHBOUR]

    async def test_nor_are_those_of_another_node_of_the_same_name(self, tree: Pair, console: Console) -> None:
        """One that was succeeded has the name of its heir."""
        (root,) = [one for one in console.keys.pending() if one.dataset == "tank/home"]
        console.keys.offer(replace(root, owner=NEIGHBOUR, fingerprint="c" * 64))
        terms = console.verbs._terms
        console.verbs = KeyApprovals(tree.cloud, console.keys, terms=terms, named=lambda _: "home")
        assert await console.approve(all_of="home", fingerprint=root.fingerprint) == [
            "tank/home", "tank/home/docs",
        ]  # fmt: skip
        assert NEIGHBOUR in {one["owner"] for one in await console.pending()}

    async def test_a_child_is_not_bound_to_the_key_of_its_parent(self, tree: Pair) -> None:
        """A crash came before its own key was noted: the property that ZFS shows is inherited from tank/home."""
        docs = f"{ROOT}/{HOME}/tank/home/docs"
        tree.home.state.nodes["tank/home/docs"].wrap = tree.cloud.state.nodes[docs].wrap
        del tree.cloud.state.nodes[docs].properties[KEY]
        tree.serving()
        await tree.replicate("tank/home/docs")
        assert tree.stored(dataset="tank/home/docs") == ["a", "c"]
        assert pin(tree, docs) != pin(tree)


class TestWhoMaySay:
    def test_no_peer_has_a_verb_for_it(self) -> None:
        about = [verb for verb in VERBS if "key" in verb or "approve" in verb or "pin" in verb]
        assert about == ["key.offered"]  # which only tells what waits
        for verb in ("key.approve", "key.refuse", "key.pending", "replica.approve", "storage.approve"):
            for caller in ("admin", "member", "vault", "client"):
                for me in ("admin", "member", "vault", "client"):
                    assert judge(verb, caller, me) is not None  # type: ignore[arg-type]

    def test_on_this_host_root_alone(self, console: Console, tmp_path: Path) -> None:
        api = Api(tmp_path / "agent.sock")
        console.verbs.register(api)
        assert api.verbs == {"key.pending": "group", "key.approve": "root", "key.refuse": "root"}

    def test_another_user_is_told_so(self, console: Console, tmp_path: Path) -> None:
        api = Api(tmp_path / "agent.sock")
        console.verbs.register(api)
        with pytest.raises(MeshkeepError) as caught:
            api._permitted("key.approve", 1000)
        assert caught.value.exit is Exit.NOT_PERMITTED
