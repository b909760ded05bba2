"""What a peer says it keeps of us is read strictly: it may be a vault that somebody else owns by now."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.link_errors import PeerBroke
from node.copies import Copies, newest_of, read
from node.replicator import Peer
from tests.fakes.pair import HOME, ROOT, Pair, served

VAULT, MEMBER = Peer("v" * 16, "cloud", "vault", "fd00::1"), Peer("m" * 16, "nas", "member", "fd00::2")


def snapshot(name: str, number: int, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "guid": number,
        "createtxg": number,
        "creation": 1000 + number,
        "received": 0,
        **more,
    }


def replica(**more: Any) -> dict[str, Any]:
    whole = {
        "owner": "o" * 16,
        "dataset": "tank/home",
        "encrypted": True,
        "used": 5,
        "snapshots": [snapshot("a", 1), snapshot("b", 2)],
    }
    return whole | more


def answer(*replicas: Any) -> dict[str, Any]:
    return {"replicas": list(replicas)}


def test_what_a_target_answers_is_read() -> None:
    (copy,) = read(VAULT, answer(replica()))
    assert (copy.peer, copy.owner, copy.dataset, copy.encrypted, copy.used) == (
        VAULT,
        "o" * 16,
        "tank/home",
        True,
        5,
    )
    assert [one.full_name for one in copy.snapshots] == ["tank/home@a", "tank/home@b"]
    assert copy.known == {1, 2}


def test_oldest_first_whatever_the_order() -> None:
    (copy,) = read(VAULT, answer(replica(snapshots=[snapshot("b", 2), snapshot("a", 1)])))
    assert [one.name for one in copy.snapshots] == ["a", "b"]
    assert copy.newest.name == "b"


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"replicas": None},
        {"replicas": {}},
        answer("x"),
        answer(replica(dataset="../etc")),
        answer(replica(dataset="tank/home@a")),
        answer(replica(dataset="-o/x")),
        answer(replica(dataset=None)),
        answer(replica(dataset="tank/ü")),
        answer(replica(owner=7)),
        answer(replica(owner="a\x1b[2J")),
        answer(replica(used=-1)),
        answer(replica(used=True)),
        answer(replica(used="5")),
        answer(replica(snapshots=[])),
        answer(replica(snapshots=["a"])),
        answer(replica(snapshots=[snapshot("a/b", 1)])),
        answer(replica(snapshots=[snapshot("a", 1 << 64)])),
        answer(replica(snapshots=[snapshot("a", 1, creation=1.5)])),
        answer(replica(snapshots=[snapshot("a", 1), snapshot("a", 2)])),
        answer(replica(snapshots=[snapshot("a", 1), snapshot("b", 2, guid=1)])),
        answer(replica(), replica()),
    ],
)
def test_what_is_not_of_the_form_is_no_answer(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"."):
        read(VAULT, bad)


def json_values() -> st.SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    )


@given(st.data())
def test_no_answer_raises_anything_but_value_errors(data: st.DataObject) -> None:
    broken = replica()
    broken[data.draw(st.sampled_from(sorted(broken)))] = data.draw(json_values())
    try:
        copies = read(VAULT, answer(broken))
    except ValueError:
        return
    assert all(one.snapshots for one in copies)


def one(peer: Peer, *numbers: int, encrypted: bool = True) -> Any:
    snapshots = [snapshot(f"s{number}", number) for number in numbers]
    return read(peer, answer(replica(snapshots=snapshots, encrypted=encrypted)))[0]


@pytest.mark.parametrize(
    ("copies", "chosen"),
    [
        (lambda: [one(VAULT, 1, 2), one(MEMBER, 1, 2, 3)], "nas"),
        (lambda: [one(VAULT, 1, 2, 3), one(MEMBER, 3)], "cloud"),
        (lambda: [one(VAULT, 1, 9, encrypted=False), one(MEMBER, 1)], "nas"),
        (lambda: [one(MEMBER, 1, 9, encrypted=False), one(VAULT, 1)], "nas"),
        (lambda: [one(VAULT, 1, encrypted=False)], None),
        (list, None),
    ],
)
def test_the_newest_that_can_be_genuine(copies: Callable[[], Any], chosen: str | None) -> None:
    """A vault never gets plaintext, so what it offers as such was never sent there."""
    found = newest_of(copies())
    assert (found.peer.name if found else None) == chosen


class Told:
    """One node that answers with these pages, again and again."""

    def __init__(self, *pages: dict[str, Any]) -> None:
        self._pages = pages
        self.asked: list[dict[str, Any]] = []
        directory: Any = self
        self.copies = Copies(directory, list)

    def link(self) -> Any:
        return self

    async def call(self, _address: str, verb: str, args: dict[str, Any], timeout: float) -> dict[str, Any]:
        assert verb == "replica.list"
        self.asked.append(args)
        return self._pages[(len(self.asked) - 1) % len(self._pages)]


async def test_a_list_of_many_pages_is_one() -> None:
    told = Told(
        answer(replica(), replica(dataset="tank/x", snapshots=[snapshot("c", 3)])) | {"more": True},
        answer(replica(dataset="tank/x", snapshots=[snapshot("d", 4)])) | {"more": False},
    )
    home, other = await told.copies.on(VAULT)
    assert ([one.name for one in home.snapshots], home.known) == (["a", "b"], {1, 2})
    assert ([one.name for one in other.snapshots], other.known) == (["c", "d"], {3, 4})
    assert told.asked == [{}, {"after": {"owner": "o" * 16, "dataset": "tank/x", "snapshot": [3, 3]}}]


@pytest.mark.parametrize("page", [answer(replica()), answer()])
async def test_a_list_that_never_ends_is_an_error(page: dict[str, Any]) -> None:
    told = Told(page | {"more": True})
    with pytest.raises(PeerBroke):
        await told.copies.on(VAULT)
    assert len(told.asked) <= 2


async def test_a_list_without_measure_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.copies.MOST", 10)
    told = Told(
        *[answer(replica(snapshots=[snapshot(f"s{n}", n)])) | {"more": True} for n in range(1, 100)], answer()
    )
    with pytest.raises(PeerBroke, match="no end"):
        await told.copies.on(VAULT)
    assert len(told.asked) == 11


async def test_more_than_fits_into_a_frame_is_listed_over_a_real_connection(tmp_path: Path) -> None:
    """As little as 500 copies with 100 snapshots each."""
    async with served(Pair(tmp_path)) as pair:
        for name in (ROOT, f"{ROOT}/{HOME}", f"{ROOT}/{HOME}/tank"):
            await pair.cloud.create(name, {})
        names = [f"{ROOT}/{HOME}/tank/dataset-{place:04}" for place in range(500)]
        for name in names:
            await pair.cloud.create(name, {})
        for number in range(100):
            await pair.cloud.snapshot([f"{name}@autosnap_2026-11-24_{number:06}_hourly" for name in names])
        found = await Copies(pair, list).on(pair.peer("cloud"))
        assert [len(one.snapshots) for one in found] == [100] * 500
        assert pair.asked.count("replica.list") > 2
