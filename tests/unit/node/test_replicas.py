"""The target's side asked for what it must not do: it says no by a stable code, and nothing has changed."""

import base64
import json
import socket
from pathlib import Path
from typing import Any

import pytest

from mesh.link_errors import Refusal
from node.replica_places import Terms
from tests.fakes.pair import HOME, NEIGHBOUR, OLD, ROOT, Pair, dump, served
from tests.fakes.zfs_streams import begin_record

KB = 1024
REPLICA = f"{ROOT}/{HOME}/tank/home"
OFFER: dict[str, Any] = {
    "dataset": "tank/home",
    "raw": True,
    "resuming": False,
}
STEP: dict[str, Any] = {"name": "next", "to_guid": 77, "from_guid": None, "size": 10}


def offered(**change: Any) -> dict[str, Any]:
    """An offer of one step, with *change* where it belongs."""
    of_step = {key: value for key, value in change.items() if key in STEP}
    of_all = {key: value for key, value in change.items() if key not in STEP}
    return {**OFFER, "steps": [{**STEP, **of_step}], **of_all}


class NoStream:
    """A connection that must never get as far as its stream."""

    async def accept(self, reply: dict[str, Any], *, sending: bool = False) -> socket.socket:
        raise AssertionError("the stream was accepted")


class OneStream:
    """A connection whose stream is *data*."""

    def __init__(self, data: bytes) -> None:
        self.near, self._far = socket.socketpair()
        self._far.sendall(data)
        self._far.shutdown(socket.SHUT_WR)

    async def accept(self, reply: dict[str, Any], *, sending: bool = False) -> socket.socket:
        return self.near

    def close(self) -> None:
        self.near.close()
        self._far.close()


@pytest.fixture
async def pair(tmp_path: Path) -> Pair:
    """@a and @b of home are stored, and @x of the neighbour and of the node that burned."""
    async with served(Pair(tmp_path)) as two:
        await two.encrypted()
        await two.snap("a", "b")
        await two.replicate()
        await two.encrypted("tank/other")
        await two.snap("x", dataset="tank/other")
        for owner in (NEIGHBOUR, OLD):
            two.owners = [owner]
            await two.replicate("tank/other")
        two.owners = [HOME]
    return two


def newest(pair: Pair) -> int:
    return pair.cloud.state.snap(f"{REPLICA}@b").guid


async def refusal(pair: Pair, args: dict[str, Any], verb: str = "receive") -> str:
    """The code of the refusal; the fake is as it was."""
    before = dump(pair.cloud)
    stream: Any = NoStream()
    asking = {
        "receive": lambda: pair.replicas.receive(pair.owners, args, stream),
        "send": lambda: pair.replicas.send(pair.owners, args, stream),
        "state": lambda: pair.replicas.state(pair.owners, args["dataset"]),
        "abort": lambda: pair.replicas.abort(pair.owners, args["dataset"]),
    }
    with pytest.raises(Refusal) as caught:
        await asking[verb]()
    assert dump(pair.cloud) == before
    assert caught.value.text
    return caught.value.code


class TestAnOfferThatDoesNotFit:
    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"from_guid": 999}, "diverged"),
            ({"from_guid": None}, "diverged"),
            ({"dataset": "tank/new", "from_guid": 999}, "no_base"),
            ({"dataset": "tank/new", "resuming": True}, "no_partial"),
            ({"resuming": True, "from_guid": "newest"}, "partial_state"),
            ({"to_guid": "newest", "from_guid": "newest"}, "already_here"),
            ({"name": "a", "from_guid": "newest"}, "would_overwrite"),
            ({"name": "b", "from_guid": "newest"}, "would_overwrite"),
            ({"from_guid": "newest", "raw": False}, "plaintext_to_vault"),
            ({"dataset": "tank/new", "raw": False}, "plaintext_to_vault"),
            ({"from_guid": "newest", "size": 1 << 40}, "target_full"),
            ({"dataset": "x" * 255}, "bad_name"),
            ({"dataset": "t/" + "x" * 240}, "bad_name"),
            ({"dataset": "tank/" + "x" * 180, "name": "y" * 60}, "bad_name"),
            ({"dataset": f"../{NEIGHBOUR}/tank/other"}, "bad_name"),
            ({"dataset": f"tank/../../{NEIGHBOUR}/tank/other"}, "bad_name"),
            ({"dataset": "tank@a"}, "bad_name"),
            ({"dataset": "/"}, "bad_name"),
            ({"name": "a/b"}, "bad_name"),
            ({"name": "a@b"}, "bad_name"),
            ({"to_guid": 0}, "bad_request"),
            ({"to_guid": "7"}, "bad_request"),
            ({"to_guid": 1 << 64}, "bad_request"),
            ({"size": -1}, "bad_request"),
        ],
    )
    async def test_is_refused(self, pair: Pair, change: dict[str, Any], code: str) -> None:
        meant = {key: newest(pair) if value == "newest" else value for key, value in change.items()}
        assert await refusal(pair, offered(**meant)) == code

    @pytest.mark.parametrize("missing", ["dataset", "steps", "name", "to_guid"])
    async def test_what_is_left_out_is_missed(self, pair: Pair, missing: str) -> None:
        args = offered()
        for part in (args, args["steps"][0]):
            part.pop(missing, None)
        assert await refusal(pair, args) == "bad_request"

    @pytest.mark.parametrize(
        ("second", "code"),
        [
            ({"name": "a"}, "would_overwrite"),
            ({"to_guid": "a"}, "already_here"),
            ({"to_guid": 77}, "bad_request"),
            ({"name": "next"}, "bad_request"),
            ({"from_guid": None}, "bad_request"),
            ({"from_guid": "newest"}, "bad_request"),
            ({"size": 1 << 40}, "target_full"),
            ({"name": "a/b"}, "bad_name"),
            ({"name": "y" * 220}, "bad_name"),
        ],
    )
    async def test_a_later_step_is_judged_before_the_first_one_runs(
        self, pair: Pair, second: dict[str, Any], code: str
    ) -> None:
        older = pair.cloud.state.snap(f"{REPLICA}@a").guid
        named = {"a": older, "newest": newest(pair)}
        meant = {
            key: named[value] if key.endswith("guid") and value in named else value
            for key, value in second.items()
        }
        first = {**STEP, "from_guid": newest(pair)}
        steps = [first, {**STEP, "name": "later", "to_guid": 78, "from_guid": 77, **meant}]
        assert await refusal(pair, {**OFFER, "steps": steps}) == code

    async def test_a_member_does_not_mix_plain_onto_raw(self, pair: Pair) -> None:
        pair.role = "member"
        args = offered(from_guid=newest(pair), raw=False)
        assert await refusal(pair, args) == "mixed_modes"

    async def test_onto_an_older_snapshot_than_the_newest(self, pair: Pair) -> None:
        older = pair.cloud.state.snap(f"{REPLICA}@a").guid
        assert await refusal(pair, offered(from_guid=older)) == "diverged"

    async def test_without_a_pool(self, pair: Pair) -> None:
        pair.terms = None
        assert await refusal(pair, offered()) == "no_storage"

    async def test_a_quota_that_is_used_up(self, pair: Pair) -> None:
        await pair.cloud.set(f"{ROOT}/{HOME}", {"quota": "1"})
        assert await refusal(pair, offered(from_guid=newest(pair))) == "target_full"

    async def test_a_pool_that_is_gone_is_said_to_be(self, pair: Pair) -> None:
        pair.cloud.suspend("vault")
        for verb in ("receive", "state", "abort"):
            assert await refusal(pair, offered(), verb) == "pool_unavailable"


class TestAStreamThatIsNotWhatWasAnnounced:
    async def sent(self, pair: Pair, data: bytes, **offer: Any) -> str:
        stream: Any = OneStream(data)
        before = dump(pair.cloud)
        with pytest.raises(Refusal) as caught:
            await pair.replicas.receive(pair.owners, offered(**{"from_guid": newest(pair), **offer}), stream)
        stream.close()
        assert dump(pair.cloud) == before
        assert caught.value.exit == 1
        return caught.value.code

    async def test_of_another_snapshot(self, pair: Pair) -> None:
        node = pair.home.state.nodes["tank/home"]
        record = begin_record(node, node.snapshots["b"], node.snapshots["a"], raw=True)
        assert await self.sent(pair, record) == "stream_refused"

    async def test_not_raw(self, pair: Pair) -> None:
        await pair.snap("c")
        node = pair.home.state.nodes["tank/home"]
        record = begin_record(node, node.snapshots["c"], node.snapshots["b"], raw=False)
        assert await self.sent(pair, record, to_guid=node.snapshots["c"].guid) == "stream_refused"

    @pytest.mark.parametrize("data", [b"", b"x", b"#!/bin/sh\n" * 100, bytes(5000)])
    async def test_no_stream_at_all(self, pair: Pair, data: bytes) -> None:
        assert await self.sent(pair, data) in ("stream_refused", "interrupted")

    async def test_another_wrapped_key(self, pair: Pair) -> None:
        await pair.snap("c")
        pair.home.change_passphrase("tank/home", b"of the thief")
        node = pair.home.state.nodes["tank/home"]
        record = begin_record(node, node.snapshots["c"], node.snapshots["b"], raw=True)
        assert await self.sent(pair, record, to_guid=node.snapshots["c"].guid) == "key_changed"


class TestSendingBack:
    def args(self, pair: Pair, **change: Any) -> dict[str, Any]:
        return {"owner": HOME, "dataset": "tank/home", "to_guid": newest(pair), "from_guid": None, **change}

    @pytest.mark.parametrize(
        ("change", "code"),
        [
            ({"owner": NEIGHBOUR, "dataset": "tank/other"}, "not_yours"),
            ({"owner": OLD, "dataset": "tank/other"}, "not_yours"),
            ({"owner": ""}, "bad_request"),
            ({"owner": ".."}, "not_yours"),
            ({"owner": f"{HOME}/tank"}, "not_yours"),
            ({"dataset": "tank/nothing"}, "no_replica"),
            ({"dataset": f"../{NEIGHBOUR}/tank/other"}, "bad_name"),
            ({"dataset": "tank/" + "x" * 230}, "bad_name"),
            ({"dataset": "tank"}, "no_snapshot"),
            ({"to_guid": 999}, "no_snapshot"),
            ({"from_guid": 999}, "no_snapshot"),
            ({"to_guid": 0}, "bad_request"),
            ({"to_guid": "b"}, "bad_request"),
            ({"resume": [-1, 0]}, "bad_request"),
            ({"resume": [1, -4096]}, "bad_request"),
            ({"resume": [1]}, "bad_request"),
            ({"resume": "token"}, "bad_request"),
        ],
    )
    async def test_what_is_not_the_callers_or_not_there_is_refused(
        self, pair: Pair, change: dict[str, Any], code: str
    ) -> None:
        assert await refusal(pair, self.args(pair, **change), "send") == code

    async def test_a_base_that_is_not_older_is_refused(self, pair: Pair) -> None:
        older = pair.cloud.state.snap(f"{REPLICA}@a").guid
        args = self.args(pair, to_guid=older, from_guid=newest(pair))
        assert await refusal(pair, args, "send") == "no_snapshot"
        args = self.args(pair, from_guid=newest(pair))
        assert await refusal(pair, args, "send") == "no_snapshot"


class TestAbort:
    async def test_without_a_partial_stream_nothing_happens(self, pair: Pair) -> None:
        before = dump(pair.cloud)
        assert await pair.replicas.abort([HOME], "tank/home") == {}
        assert await pair.replicas.abort([HOME], "tank/nothing") == {}
        assert dump(pair.cloud) == before

    async def test_only_the_callers_own_partial_goes_and_its_snapshots_stay(self, pair: Pair) -> None:
        await pair.snap("c", data=b"z" * 100 * KB)
        before = dump(pair.cloud)
        async with served(pair):
            pair.sending.cut(50 * KB)
            await pair.refused()
        assert dump(pair.cloud) != before
        await pair.replicas.abort([NEIGHBOUR], "tank/home")
        assert await pair.cloud.resume_state(REPLICA) is not None
        await pair.replicas.abort([HOME], "tank/home")
        assert dump(pair.cloud) == before

    async def test_names_that_are_none(self, pair: Pair) -> None:
        for name in ("..", "tank/../x", "x" * 255, "", "tank@a"):
            assert await refusal(pair, {"dataset": name}, "abort") == "bad_name"
            assert await refusal(pair, {"dataset": name}, "state") == "bad_name"


class TestListing:
    async def test_shows_the_callers_own_and_nothing_else(self, pair: Pair) -> None:
        found = (await pair.replicas.listing([HOME]))["replicas"]
        assert [(one["owner"], one["dataset"]) for one in found] == [(HOME, "tank/home")]
        assert [one["name"] for one in found[0]["snapshots"]] == ["a", "b"]

    async def test_an_heir_sees_what_it_inherited(self, pair: Pair) -> None:
        found = (await pair.replicas.listing([HOME, OLD]))["replicas"]
        assert [(one["owner"], one["dataset"]) for one in found] == [
            (HOME, "tank/home"), (OLD, "tank/other"),
        ]  # fmt: skip

    async def test_a_stranger_sees_nothing(self, pair: Pair) -> None:
        assert (await pair.replicas.listing(["z" * 16]))["replicas"] == []

    async def test_every_snapshot_has_its_receipt(self, pair: Pair) -> None:
        (replica,) = (await pair.replicas.listing([HOME]))["replicas"]
        assert all(one["received"] >= one["creation"] for one in replica["snapshots"])

    async def test_what_does_not_fit_into_one_answer_is_told_in_the_next(
        self, pair: Pair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Also in the middle of a replica, where its snapshots alone are too many."""
        whole = (await pair.replicas.listing([HOME, OLD]))["replicas"]
        snapshots = [
            (one["owner"], one["dataset"], *some.items()) for one in whole for some in one["snapshots"]
        ]
        for room in (*range(0, 2 * len(json.dumps(whole)), 50), 1 << 20):
            monkeypatch.setattr("node.replicas.ANSWER", room)
            told, args, more = list[Any](), dict[str, Any](), True
            while more:
                page = await pair.replicas.listing([HOME, OLD], args)
                more = page["more"]
                assert page["replicas"] or not more
                assert len(json.dumps(page["replicas"])) <= max(room, 400) + 2 * len(page["replicas"])
                for one in page["replicas"]:
                    told += [(one["owner"], one["dataset"], *some.items()) for some in one["snapshots"]]
                    last = one["snapshots"][-1]
                    place = [last["createtxg"], last["guid"]]
                    args = {"after": {"owner": one["owner"], "dataset": one["dataset"], "snapshot": place}}
            assert told == snapshots

    async def test_a_place_in_the_list_that_is_none_is_refused(self, pair: Pair) -> None:
        good = {"owner": HOME, "dataset": "tank/home", "snapshot": [1, 2]}
        for bad in ("x", good | {"owner": 1}, good | {"dataset": "../x"}, good | {"snapshot": [1]}):
            with pytest.raises(Refusal):
                await pair.replicas.listing([HOME], {"after": bad})

    async def test_a_place_at_somebody_elses_shows_nothing(self, pair: Pair) -> None:
        place = {"owner": NEIGHBOUR, "dataset": "tank/home", "snapshot": [0, 0]}
        assert (await pair.replicas.listing([HOME], {"after": place}))["replicas"] == []

    async def test_a_resume_is_told_by_guid_and_place_and_never_by_its_token(self, pair: Pair) -> None:
        await pair.snap("c", data=b"z" * 100 * KB)
        async with served(pair):
            pair.sending.cut(50 * KB)
            await pair.refused()
        resume = (await pair.replicas.state([HOME], "tank/home"))["resume"]
        assert resume["to_name"] == "c"
        assert set(resume) == {"to_guid", "from_guid", "to_name", "object", "offset", "bytes", "raw"}


class TestPlaces:
    async def test_what_is_between_the_root_and_the_replica_is_no_place_to_write(self, pair: Pair) -> None:
        properties = await pair.cloud.get(f"{ROOT}/{HOME}/tank", ["canmount", "mountpoint"])
        assert (properties["canmount"].value, properties["mountpoint"].value) == ("off", "none")

    async def test_a_node_root_that_is_there_keeps_what_the_console_set(self, pair: Pair) -> None:
        await pair.cloud.set(f"{ROOT}/{HOME}", {"quota": "123456789"})
        pair.terms = Terms(ROOT, 1 << 20)
        await pair.snap("c")
        async with served(pair):
            await pair.replicate()
        assert (await pair.cloud.get(f"{ROOT}/{HOME}", ["quota"]))["quota"].value == "123456789"

    async def test_below_an_encrypted_replica_without_its_parent(self, pair: Pair) -> None:
        """tank/home is stored, tank/home/a is not, tank/home/a/b is sent."""
        await pair.home.create("tank/home/a", {})
        await pair.encrypted("tank/home/a/b")
        await pair.snap("s", dataset="tank/home/a/b")
        async with served(pair):
            error = await pair.refused("tank/home/a/b")
        assert error.code == "key_unavailable"

    async def test_the_archive_keeps_what_a_stream_began_with(self, pair: Pair, tmp_path: Path) -> None:
        files = [one for one in tmp_path.rglob("*.json") if HOME in str(one)]
        assert len(files) == 1
        kept = json.loads(files[0].read_text())
        assert base64.b64decode(kept["begin_payload"])
