"""What targets say that they have, asked for many datasets at once: nothing is made of what does not fit."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from mesh.link_errors import PeerBroke, PeerRefused
from node.directory import Peer
from node.target_states import TargetStates, target_state

CLOUD = Peer("clou" * 4, "cloud", "vault", "::1")
NAS = Peer("nasn" * 4, "nas", "member", "::2")
Answer = Callable[[Mapping[str, str | None]], Any]


def state(*names: str, version: str = "v1") -> dict[str, Any]:
    snapshots = [
        {"name": name, "guid": place + 1, "createtxg": place, "creation": place, "received": place}
        for place, name in enumerate(names)
    ]
    return {"exists": True, "encrypted": True, "resume": None, "version": version, "snapshots": snapshots}


def unchanged(version: str = "v1") -> dict[str, Any]:
    return {key: value for key, value in state(version=version).items() if key != "snapshots"}


class Targets:
    """All targets in one: `answer` makes the states of what was asked."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.asked: list[tuple[str, dict[str, str | None]]] = []
        directory: Any = self
        self.states = TargetStates(directory)

    def link(self) -> Any:
        return self

    async def call(self, address: str, verb: str, args: dict[str, Any]) -> Any:
        assert verb == "replica.states"
        self.asked.append((address, args["datasets"]))
        return {"states": self.answer(args["datasets"])}

    async def of(self, *names: str) -> list[Any]:
        asked = (self.states.of(CLOUD, name) for name in names)
        return await asyncio.gather(*asked, return_exceptions=True)


def names(answer: Mapping[str, Any]) -> list[str]:
    return [one.name for one in target_state(answer).snapshots]


async def test_many_are_asked_for_in_one_request_to_each() -> None:
    targets = Targets(lambda asked: {name: state(name) for name in asked})
    one, two, other = await asyncio.gather(
        targets.states.of(CLOUD, "a"), targets.states.of(CLOUD, "b"), targets.states.of(NAS, "a")
    )
    assert (names(one), names(two), names(other)) == (["a"], ["b"], ["a"])
    assert sorted(targets.asked) == [("::1", {"a": None, "b": None}), ("::2", {"a": None})]


async def test_what_is_known_is_not_said_again() -> None:
    targets = Targets(
        lambda asked: {name: unchanged() if known == "v1" else state("s") for name, known in asked.items()}
    )
    first, *_ = await targets.of("a")
    again, *_ = await targets.of("a")
    assert names(first) == names(again) == ["s"]
    assert [asked["a"] for _, asked in targets.asked] == [None, "v1"]


async def test_another_version_takes_its_place() -> None:
    versions = iter(["v1", "v2", "v2"])

    def answer(asked: Mapping[str, str | None]) -> Any:
        now = next(versions)
        return {"a": unchanged(now) if asked["a"] == now else state(now, version=now)}

    targets = Targets(answer)
    assert [names((await targets.of("a"))[0]) for _ in range(3)] == [["v1"], ["v2"], ["v2"]]


async def test_a_target_that_leaves_out_what_is_not_known_makes_no_sense() -> None:
    """Neither without having said it, nor under another version than it said."""
    versions = iter([unchanged("v1"), state("s", version="v1"), unchanged("v2")])
    targets = Targets(lambda _: {"a": next(versions)})
    for told in (False, True, False):
        (answer,) = await targets.of("a")
        assert isinstance(answer, PeerBroke) is not told


async def test_what_one_answer_does_not_hold_is_asked_for_again() -> None:
    targets = Targets(lambda asked: {name: state(name) for name in list(asked)[:2]})
    found = await targets.of(*"abcde")
    assert [names(one) for one in found] == [[letter] for letter in "abcde"]
    assert [len(asked) for _, asked in targets.asked] == [5, 3, 1]


async def test_each_is_refused_by_itself() -> None:
    refused = {"error": {"code": "bad_name", "text": "too long", "try": "", "exit": 7}}
    targets = Targets(lambda asked: {name: refused if name == "b" else state(name) for name in asked})
    good, bad = await targets.of("a", "b")
    assert names(good) == ["a"]
    assert isinstance(bad, PeerRefused)
    assert (bad.code, bad.text, bad.exit) == ("bad_name", "too long", 7)


@pytest.mark.parametrize("said", [None, [], {}, "x", {"other": {}}, {"a": {}, "other": {}}])
async def test_an_answer_that_is_about_something_else_is_an_error_and_not_asked_for_ever(
    said: object,
) -> None:
    targets = Targets(lambda _: said)
    (found,) = await targets.of("a")
    assert isinstance(found, PeerBroke)
    assert len(targets.asked) == 1


@pytest.mark.parametrize("said", [None, [], 7, "x"])
async def test_a_state_that_is_none_is_an_error_of_that_one(said: object) -> None:
    targets = Targets(lambda asked: {name: said if name == "a" else state(name) for name in asked})
    bad, good = await targets.of("a", "b")
    assert isinstance(bad, PeerBroke)
    assert names(good) == ["b"]


async def test_what_is_remembered_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.target_states.REMEMBERED", 150)
    targets = Targets(
        lambda asked: {name: unchanged() if known else state(name) for name, known in asked.items()}
    )
    for _ in range(3):
        assert [names(one) for one in await targets.of(*"abc")] == [["a"], ["b"], ["c"]]
    assert [sum(known is not None for known in asked.values()) for _, asked in targets.asked] == [0, 2, 2]
