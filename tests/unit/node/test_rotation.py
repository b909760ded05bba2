"""An old replica kept aside: two hosts, by the rule, by a person's word, and by a thief who asks for more."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from mesh.link_errors import PeerRefused
from node.errors import MeshkeepError
from node.key_archive import KeyArchive
from node.replica_places import KEY
from node.restore import Wanted
from node.rotation_verbs import RotationVerbs
from replication.guard import FLOOR_HOLD
from replication.rotation import MOST, asides_of
from tests.fakes.pair import HOME, PASSPHRASE, ROOT, Pair, dump, served

PLACE = f"{ROOT}/{HOME}/tank/home"


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with served(Pair(tmp_path)) as found:
        yield found


class Asked:
    """A request of the local API."""

    def __init__(self, **args: Any) -> None:
        self.args = args

    async def progress(self, _: object) -> None:
        return None


def verbs(pair: Pair) -> RotationVerbs:
    return RotationVerbs(pair.replicator, pair.home)


def aside(pair: Pair, place: str = PLACE) -> list[str]:
    return asides_of(place, pair.cloud.state.nodes)


async def lose_all(pair: Pair, dataset: str = "tank/home") -> None:
    """The source's dataset is made anew: it has nothing that cloud has."""
    node = pair.home.state.nodes[dataset]
    for snapshot in node.snapshots.values():
        snapshot.holds.clear()
    node.bookmarks.clear()
    await pair.home.destroy_snapshots([f"{dataset}@{one}" for one in list(node.snapshots)])
    await pair.snap("new", dataset=dataset)


async def diverged(pair: Pair) -> dict[str, Any]:
    """Cloud has @a and @b, and home has neither any more. What cloud had."""
    await pair.encrypted()
    await pair.snap("a", "b")
    await pair.replicate()
    had = dump(pair.cloud)[PLACE]
    await lose_all(pair)
    return had


async def ask(pair: Pair, **more: Any) -> dict[str, Any]:
    newest = pair.cloud.state.nodes[PLACE].newest
    args = {"dataset": "tank/home", "newest": newest.guid if newest else 1, "history": [1], "raw": True}
    return await pair.link().call("::1", "replica.rotate", args | more)


class TestByTheRule:
    async def test_without_it_the_run_is_refused_and_nothing_is_touched(self, pair: Pair) -> None:
        had = await diverged(pair)
        error = await pair.refused()
        assert error.code == "no_common_base"
        assert error.hint == "meshkeep replicate rotate tank/home cloud"
        assert dump(pair.cloud)[PLACE] == had

    async def test_the_old_one_is_whole_beside_the_new_one(self, pair: Pair) -> None:
        had = await diverged(pair)
        await pair.replicate(on_divergence="rotate")
        assert pair.stored() == ["new"]
        (old,) = aside(pair)
        assert dump(pair.cloud)[old] == had
        assert FLOOR_HOLD in pair.cloud.state.nodes[old].snapshots["b"].holds
        assert pair.cloud.state.nodes[old].properties[KEY] == pair.cloud.state.nodes[PLACE].properties[KEY]

    async def test_it_is_listed_and_restored_by_its_name(self, pair: Pair) -> None:
        await diverged(pair)
        await pair.replicate(on_divergence="rotate")
        listed = await pair.link().call("::1", "replica.list", {})
        name = aside(pair)[0].removeprefix(f"{ROOT}/{HOME}/")
        assert {one["dataset"] for one in listed["replicas"]} == {"tank/home", name}

        async def ignore(_: object) -> None:
            return None

        report = await pair.restorer.restore(Wanted(name, "cloud", "tank/back", accept_unlisted=True), ignore)
        assert report["newest"] == "b"
        await pair.home.load_key("tank/back", PASSPHRASE)
        assert pair.home.read("tank/back@b") == b"moremore"

    async def test_the_next_run_goes_on_with_the_new_one(self, pair: Pair) -> None:
        await diverged(pair)
        await pair.replicate(on_divergence="rotate")
        await pair.snap("newer")
        await pair.replicate(on_divergence="rotate")
        assert pair.stored() == ["new", "newer"]
        assert len(aside(pair)) == 1
        assert not [
            one
            for one in pair.home.state.nodes["tank/home"].snapshots.values()
            if one.name != "newer" and one.holds
        ]


class TestByAPersonsWord:
    async def test_shows_first_and_then_does_it_to_what_was_shown(self, pair: Pair) -> None:
        await diverged(pair)
        await pair.refused()
        shown = await verbs(pair).rotate(Asked(dataset="tank/home", node="cloud"))  # type: ignore[arg-type]
        assert not shown["rotated"]
        assert any("@b" in line or line.startswith("b ") for line in shown["evidence"])
        assert not aside(pair)
        asked = Asked(dataset="tank/home", node="cloud", newest=shown["newest"])
        done = await verbs(pair).rotate(asked)  # type: ignore[arg-type]
        assert done["rotated"]
        assert (len(aside(pair)), pair.stored()) == (1, ["new"])
        await lose_all(pair)
        assert (await pair.refused()).code == "no_common_base"

    async def test_another_replica_than_the_one_shown_stays(self, pair: Pair) -> None:
        await diverged(pair)
        await pair.refused()
        with pytest.raises(MeshkeepError) as caught:
            await verbs(pair).rotate(Asked(dataset="tank/home", node="cloud", newest=7))  # type: ignore[arg-type]
        assert caught.value.code == "stale"
        assert not aside(pair)

    async def test_what_is_in_order_stays(self, pair: Pair) -> None:
        await pair.encrypted()
        await pair.snap("a")
        await pair.replicate()
        with pytest.raises(MeshkeepError) as caught:
            await verbs(pair).rotate(Asked(dataset="tank/home", node="cloud"))  # type: ignore[arg-type]
        assert caught.value.code == "not_diverged"


class TestATree:
    """The replicas below move along, and none of them is sent anew."""

    async def test_what_lies_below_comes_back_to_its_place(self, pair: Pair) -> None:
        await pair.encrypted()
        await pair.encrypted("tank/home/docs")
        await pair.snap("a")
        await pair.snap("d", dataset="tank/home/docs", data=b"many documents")
        pair.rule(recursive=True)
        await pair.replicator.refresh()
        await pair.replicator.run_tree(pair.replicator.of_rule("tank/home", "cloud"))
        assert pair.stored(dataset="tank/home/docs") == ["d"]
        docs = pair.cloud.state.nodes[f"{PLACE}/docs"].guid
        await lose_all(pair)
        pair.rule(recursive=True, on_divergence="rotate")
        for _ in range(2):
            outcomes = await pair.replicator.run_tree(pair.replicator.of_rule("tank/home", "cloud"))
        assert not [one for one in outcomes.values() if isinstance(one, MeshkeepError)], outcomes
        assert pair.stored() == ["new"]
        assert pair.stored(dataset="tank/home/docs") == ["d"]
        assert pair.cloud.state.nodes[f"{PLACE}/docs"].guid == docs, "it was sent anew"
        assert [one.name for one in pair.cloud.state.below(aside(pair)[0])] == aside(pair)


class TestAThief:
    async def test_what_leads_on_stays_where_it_is(self, pair: Pair) -> None:
        await pair.encrypted()
        await pair.snap("a")
        await pair.replicate()
        newest = pair.cloud.state.nodes[PLACE].newest
        assert newest is not None
        with pytest.raises(PeerRefused) as caught:
            await ask(pair, history=[newest.guid])
        assert caught.value.code == "not_diverged"

    async def test_who_asks_and_asks_loses_nothing_but_room_of_his_own(self, pair: Pair) -> None:
        had = await diverged(pair)
        for _ in range(MOST):
            await pair.replicate(on_divergence="rotate")
            await lose_all(pair)
        before = dump(pair.cloud)
        error = await pair.refused(on_divergence="rotate")
        assert error.code == "too_many_aside"
        assert dump(pair.cloud) == before
        assert before[aside(pair)[0]] == had

    @pytest.mark.parametrize("verb", ["replica.receive", "replica.abort", "replica.rotate"])
    async def test_nothing_is_done_to_what_is_aside(self, pair: Pair, verb: str) -> None:
        await diverged(pair)
        await pair.replicate(on_divergence="rotate")
        (old,) = aside(pair)
        before = dump(pair.cloud)
        node = pair.cloud.state.nodes[old]
        assert node.newest is not None
        name, newest = old.removeprefix(f"{ROOT}/{HOME}/"), node.newest.guid
        step = {"name": "z", "to_guid": 9, "from_guid": newest, "size": 0}
        args = {
            "dataset": name,
            "steps": [step],
            "raw": True,
            "resuming": False,
            "newest": newest,
            "history": [1],
        }
        with pytest.raises(PeerRefused) as caught:
            await pair.link().call("::1", verb, args)
        assert caught.value.code == "kept_aside"
        assert dump(pair.cloud) == before

    @pytest.mark.parametrize(
        "wrong", [{"history": "all"}, {"history": [0]}, {"history": [True]}, {"newest": None}, {"raw": 1}]
    )
    async def test_what_is_not_well_formed_is_refused(self, pair: Pair, wrong: dict[str, Any]) -> None:
        await diverged(pair)
        with pytest.raises(PeerRefused) as caught:
            await ask(pair, **wrong)
        assert caught.value.code == "bad_request"

    async def test_what_was_stored_since_it_was_seen_stays(self, pair: Pair) -> None:
        await diverged(pair)
        with pytest.raises(PeerRefused) as caught:
            await ask(pair, newest=12)
        assert caught.value.code == "stale"
        assert not aside(pair)


async def test_the_archive_has_the_wrap_of_both(pair: Pair, tmp_path: Path) -> None:
    await diverged(pair)
    pair.home.change_passphrase("tank/home", b"another one of hers")
    await pair.replicate(on_divergence="rotate")
    (old,) = aside(pair)
    keys = KeyArchive(tmp_path)
    for place in (old, PLACE):
        assert keys.has(HOME, "tank/home", pair.cloud.state.nodes[place].properties[KEY])
