"""A vault whose root feeds something else back: what of it reaches ZFS, and what is said of the rest."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from node.errors import Exit, MeshkeepError
from node.restore import Wanted
from node.restore_host import HostWanted
from replication.ledger import begin, trimmed
from replication.returning import Account, Witness
from tests.fakes.keepers import Keepers, listening
from tests.fakes.pair import HOME, PASSPHRASE, ROOT, OwnLists, Pair, served
from tests.fakes.zfs_state import Node, wrapped

KB = 1024
REPLICA = f"{ROOT}/{HOME}/tank/home"


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """@a, @b and @c are stored and listed, and home has burned."""
    async with served(Pair(tmp_path)) as two:
        await two.encrypted()
        await two.snap("a", "b", "c", data=b"z" * KB)
        await two.replicate()
        del two.home.state.nodes["tank/home"]
        yield two


def replica(pair: Pair) -> Node:
    """What the vault's root can do anything to."""
    return pair.cloud.state.nodes[REPLICA]


def shorten(pair: Pair, keep: int) -> None:
    """The list as a manifest without room for all of it has it: its newest *keep* entries."""
    (pair.sent._lists["tank/home"],) = trimmed(list(pair.sent.ledgers().values()), keep)


async def refused(pair: Pair, **more: Any) -> MeshkeepError:
    """A restore that fails before ZFS has made anything."""
    with pytest.raises(MeshkeepError) as caught:
        await pair.restore(**more)
    assert "tank/back" not in pair.home.state.nodes
    return caught.value


class TestBeforeAStreamIsAskedFor:
    async def test_what_was_sent_is_listed_and_witnessed_by_this_host(self, pair: Pair) -> None:
        report = await pair.restore()
        told = report["vouched"]
        assert (told["list"], told["list_from"], told["age"], told["left_out"]) == (
            "listed",
            "this host",
            "witnessed",
            [],
        )
        assert [one["node"] for one in told["by"]] == ["this host"]
        assert report["state"] == "restored, unproven"

    async def test_a_plan_says_the_same_and_asks_for_no_stream(self, pair: Pair) -> None:
        plan = await pair.restorer.plan(Wanted("tank/home", "cloud", "tank/back"))
        assert (plan["vouched"]["list"], plan["vouched"]["age"]) == ("listed", "witnessed")
        assert "replica.send" not in pair.asked

    async def test_an_older_snapshot_under_the_name_of_a_newer_one(self, pair: Pair) -> None:
        snapshots = replica(pair).snapshots
        snapshots["c"] = replace(snapshots["a"], name="c", createtxg=snapshots["c"].createtxg)
        del snapshots["a"]
        error = await refused(pair)
        assert (error.code, error.exit) == ("not_as_listed", Exit.REFUSED)
        assert "what it calls @c was sent as @a" in error.why
        assert "replica.send" not in pair.asked

    async def test_not_even_with_accept_unlisted(self, pair: Pair) -> None:
        snapshots = replica(pair).snapshots
        snapshots["a"].creation += 1
        assert (await refused(pair, accept_unlisted=True)).code == "not_as_listed"

    async def test_a_snapshot_that_was_never_sent_is_left_out_and_named(self, pair: Pair) -> None:
        await pair.cloud.snapshot([f"{REPLICA}@mine"])
        report = await pair.restore()
        assert [one.name for one in await pair.home.snapshots("tank/back")] == ["a", "b", "c"]
        assert report["vouched"]["left_out"] == ["mine"]

    async def test_asked_for_by_its_name_it_is_refused(self, pair: Pair) -> None:
        await pair.cloud.snapshot([f"{REPLICA}@mine"])
        error = await refused(pair, at="mine")
        assert (error.code, error.exit) == ("no_snapshot", Exit.REFUSED)
        assert "cloud has @mine" in error.what
        assert "not on the list" in error.what
        assert "--accept-unlisted" in error.hint

    async def test_what_the_list_is_too_short_for_is_not_said_to_be_missing(self, pair: Pair) -> None:
        shorten(pair, 1)
        error = await refused(pair, at="a")
        assert "cloud has @a" in error.what
        assert "listed are c" in error.why
        error = await refused(pair, at="1y", before=0)
        assert "oldest is c; 2 more left out" in error.why
        assert "--accept-unlisted" in error.hint
        report = await pair.restore(at="a", accept_unlisted=True)
        assert report["newest"] == "a"

    async def test_another_dataset_under_this_name(self, pair: Pair) -> None:
        await pair.encrypted("tank/other")
        await pair.snap("a", "b", dataset="tank/other")
        await pair.replicate("tank/other")
        other = pair.cloud.state.nodes[f"{ROOT}/{HOME}/tank/other"]
        replica(pair).snapshots = other.snapshots
        error = await refused(pair)
        assert (error.code, error.exit) == ("unlisted", Exit.REFUSED)
        assert "--accept-unlisted" in error.hint
        assert "replica.send" not in pair.asked

    async def test_newer_ones_were_sent_and_are_held_back(self, pair: Pair) -> None:
        held_back = replica(pair).snapshots.pop("c")
        error = await refused(pair)
        assert (error.code, error.exit) == ("stale_replica", Exit.REFUSED)
        assert "cloud offers nothing of tank/home newer than" in error.what
        assert "--older" in error.hint
        report = await pair.restore(older=True)
        assert (report["newest"], report["vouched"]["age"]) == ("b", "stale")
        assert report["vouched"]["seen"] == held_back.creation

    async def test_who_asks_for_an_older_one_gets_it_though_newer_are_held_back(self, pair: Pair) -> None:
        replica(pair).snapshots.pop("c")
        assert (await pair.restore(at="b"))["vouched"]["age"] == "stale"


class TestWithoutAList:
    @pytest.fixture
    async def bare(self, pair: Pair) -> Pair:
        """A replica from before there was a list."""
        pair.sent._folder = pair.archive / "none"
        pair.sent._lists.clear()
        return pair

    async def test_nothing_is_taken_unless_it_is_said(self, bare: Pair) -> None:
        error = await refused(bare)
        assert (error.code, error.exit) == ("unlisted", Exit.REFUSED)
        assert "no list" in error.why
        report = await bare.restore(accept_unlisted=True)
        assert report["snapshots"] == 3
        assert (report["vouched"]["list"], report["vouched"]["age"]) == ("unlisted", "unwitnessed")

    async def test_the_keeper_alone_can_tell_the_age(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ledger = pair.sent.ledger("tank/home")
        assert ledger is not None

        async def of(self: object, owner: str, dataset: str) -> tuple[Account, ...]:
            return (Account(ledger, "cloud", (Witness("cloud", "vault", ledger.head),)),)

        monkeypatch.setattr(OwnLists, "of", of)
        report = await pair.restore()
        assert (report["vouched"]["list"], report["vouched"]["age"]) == ("listed", "unwitnessed")

    async def test_another_list_was_seen_elsewhere(self, pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
        ledger = pair.sent.ledger("tank/home")
        assert ledger is not None
        other = begin("tank/home").added(reversed(ledger.entries))

        async def of(self: object, owner: str, dataset: str) -> tuple[Account, ...]:
            return (Account(ledger, "cloud", (Witness("laptop", "admin", other.head),)),)

        monkeypatch.setattr(OwnLists, "of", of)
        error = await refused(pair)
        assert (error.code, error.exit) == ("list_forked", Exit.REFUSED)


class TestBeforeZfsSeesAByte:
    """The listing is genuine, and what comes is not."""

    async def test_other_ciphertext_under_the_guid_of_a_snapshot(self, pair: Pair) -> None:
        replica(pair).snapshots["a"].ivset += 1
        error = await refused(pair)
        assert error.code == "not_as_listed"
        assert "IV set" in error.why

    async def test_in_the_middle_of_a_chain_what_came_before_stays_and_no_more_comes(
        self, pair: Pair
    ) -> None:
        replica(pair).snapshots["b"].ivset += 1
        with pytest.raises(MeshkeepError) as caught:
            await pair.restore()
        assert caught.value.code == "not_as_listed"
        assert [one.name for one in await pair.home.snapshots("tank/back")] == ["a"]

    async def test_another_wrapped_key(self, pair: Pair) -> None:
        stored = replica(pair).wrap
        assert stored is not None
        replica(pair).wrap = wrapped(b"the thief's own", pair.cloud.state.rng, guid=stored.guid)
        error = await refused(pair)
        assert error.code == "not_as_listed"
        assert "key material" in error.why

    async def test_a_key_that_no_list_knows_comes_only_where_it_is_said(self, pair: Pair) -> None:
        """It may be genuine: the agent died before it could list it."""
        ledger = pair.sent.ledger("tank/home")
        assert ledger is not None
        entries = [replace(one, key="ab" * 32) for one in ledger.entries]
        pair.sent._lists["tank/home"] = begin("tank/home").added(entries)
        error = await refused(pair)
        assert error.code == "not_as_listed"
        assert "--accept-unlisted" in error.why
        assert (await pair.restore(accept_unlisted=True))["vouched"]["any_key"] is True
        await pair.home.load_key("tank/back", PASSPHRASE)

    async def test_encrypted_since_it_was_listed_it_comes_only_where_it_is_said(self, pair: Pair) -> None:
        ledger = pair.sent.ledger("tank/home")
        assert ledger is not None
        entries = [replace(one, ivset=None, key=None) for one in ledger.entries]
        pair.sent._lists["tank/home"] = begin("tank/home").added(entries)
        assert (await refused(pair)).code == "unlisted"
        assert (await pair.restore(accept_unlisted=True))["vouched"]["list"] == "unlisted"

    async def test_an_earlier_key_that_was_sent_opens_to_who_had_it_then(self, pair: Pair) -> None:
        """A key that was changed at home, and approved: older snapshots come back under either."""
        ledger = pair.sent.ledger("tank/home")
        assert ledger is not None
        assert ledger.keys == {replica(pair).wrap.fingerprint()}  # type: ignore[union-attr]
        pair.sent._lists["tank/home"] = ledger.added(
            [replace(ledger.entries[-1], name="later", key="ab" * 32)]
        )
        await pair.restore()
        await pair.home.load_key("tank/back", PASSPHRASE)


class TestOfSeveral:
    async def test_a_liar_does_not_keep_an_honest_copy_from_being_taken(self, tmp_path: Path) -> None:
        async with listening(Keepers(tmp_path, evil="vault", nas="member")) as mesh:
            await mesh.encrypted("tank/home")
            await mesh.snap("tank/home", "a", "b")
            for node in ("evil", "nas"):
                await mesh.replicate("tank/home", node)
            lies = await mesh.keepers["evil"].replicas.listing([HOME])
            lies["replicas"][0]["snapshots"][-1]["creation"] += 10_000
            mesh.keepers["evil"].lies = lies
            report = await mesh.restore("tank/home", "tank/back")
            assert (report["node"], report["newest"]) == ("nas", "b")
            mesh.burn()
            done = await mesh.restore_host()
            assert [(one["node"], one["state"]) for one in done["outcomes"]] == [("nas", "restored")]
            assert [(one["node"], one["code"]) for one in done["suspect"]] == [("evil", "not_as_listed")]
            assert done["outcomes"][0]["vouched"]["list"] == "listed"

    async def test_where_there_is_only_the_liar_the_host_says_so_and_makes_nothing(
        self, tmp_path: Path
    ) -> None:
        async with listening(Keepers(tmp_path, evil="vault")) as mesh:
            await mesh.encrypted("tank/home")
            await mesh.snap("tank/home", "a")
            await mesh.replicate("tank/home", "evil")
            lies = await mesh.keepers["evil"].replicas.listing([HOME])
            lies["replicas"][0]["snapshots"][0]["creation"] += 10_000
            mesh.keepers["evil"].lies = lies
            mesh.burn()
            for done in (await mesh.host.plan(HostWanted()), await mesh.restore_host()):
                assert [(one["state"], one["code"]) for one in done["outcomes"]] == [
                    ("failed", "not_as_listed")
                ]
                assert done["partial"] is True
            assert mesh.here() == []
