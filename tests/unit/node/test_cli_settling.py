"""What a person settles on the command line: rotation, an encryption root, an archived wrap."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from node import client
from node.cli import main

SHOWN = {"newest": 5, "text": "cloud went on without tank/home", "evidence": ["x (guid 5) on cloud only"]}
ASKED = {"dataset": "tank/home", "node": "cloud"}
FINGERPRINT = "ab" * 32
Run = Callable[..., tuple[int, str, str]]


class Agent:
    """Answers by verb, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, dict[str, Any]] = {
            "replicate.rotate": {"schema": "meshkeep.replicate-rotate/1", **ASKED, **SHOWN, "rotated": False},
            "replicate.accept-root": {
                "schema": "meshkeep.replicate-accept-root/1",
                "dataset": "tank/home",
                "root": "tank",
            },
            "replicate.add": {"schema": "meshkeep.replicate-run/1", "state": "ok"},
            "restore.wraps": {
                "schema": "meshkeep.restore-wraps/1",
                "wraps": [{"fingerprint": FINGERPRINT, "current": False, "salt": None}],
            },
            "restore.wrap": {
                "schema": "meshkeep.restore-wrap/1",
                "dataset": "tank/back",
                "wrap": FINGERPRINT,
                "opens": True,
                "next": "zfs load-key tank/back",
            },
        }

    def call(self, verb: str, args: dict[str, Any] | None = None, **_: Any) -> dict[str, Any]:
        self.asked.append((verb, dict(args or {})))
        return self.answers[verb]


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Agent:
    found = Agent()
    monkeypatch.setattr(client, "call", found.call)
    return found


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def invoke(*words: str) -> tuple[int, str, str]:
        code = main(list(words))
        said = capsys.readouterr()
        return code, said.out, said.err

    return invoke


class TestRotate:
    def test_shows_the_evidence_and_does_nothing_without_a_word(self, agent: Agent, run: Run) -> None:
        code, _, err = run("replicate", "rotate", "tank/home", "cloud")
        assert code == 7
        assert SHOWN["text"] in err
        assert "x (guid 5) on cloud only" in err
        assert agent.asked == [("replicate.rotate", ASKED)]

    def test_with_it_what_was_shown_is_named(self, agent: Agent, run: Run) -> None:
        code, out, _ = run("replicate", "rotate", "tank/home", "cloud", "--yes", "--json")
        assert code == 0
        assert json.loads(out)["schema"] == "meshkeep.replicate-rotate/1"
        verb, args = agent.asked[1]
        assert (verb, args["newest"]) == ("replicate.rotate", 5)

    @pytest.mark.parametrize("choice", ["rotate", "conflict"])
    def test_a_rule_may_say_it(self, agent: Agent, run: Run, choice: str) -> None:
        assert run("replicate", "add", "tank/home", "cloud", "--on-divergence", choice)[0] == 0
        assert agent.asked[0][1]["on_divergence"] == choice

    def test_or_not(self, agent: Agent, run: Run) -> None:
        assert run("replicate", "add", "tank/home", "cloud")[0] == 0
        assert "on_divergence" not in agent.asked[0][1]
        assert run("replicate", "add", "tank/home", "cloud", "--on-divergence", "overwrite")[0] == 2


def test_a_root_is_accepted_by_name(agent: Agent, run: Run) -> None:
    code, out, _ = run("replicate", "accept-root", "tank/home")
    assert (code, "has the key of tank" in out) == (0, True)
    assert json.loads(run("replicate", "accept-root", "tank/home", "--json")[1])["root"] == "tank"


class TestWrap:
    FROM = ("restore", "wrap", "tank/back", "--from", "cloud")

    def test_lists_without_asking_for_a_passphrase(self, agent: Agent, run: Run) -> None:
        code, out, _ = run(*self.FROM, "--of", "old:tank/home")
        assert code == 0
        assert FINGERPRINT[:16] in out
        assert agent.asked == [("restore.wraps", {"from": "cloud", "owner": "old", "dataset": "tank/home"})]
        assert json.loads(run(*self.FROM, "--json")[1])["wraps"]

    def test_puts_back_with_the_passphrase_of_a_file(self, agent: Agent, run: Run, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("correct horse\n")
        code, out, _ = run(*self.FROM, "--put", FINGERPRINT, "--key-file", str(tmp_path / "key"))
        assert (code, "that passphrase opens it" in out) == (0, True)
        verb, args = agent.asked[0]
        assert (verb, args["key"], args["to"]) == ("restore.wrap", "correct horse", "tank/back")

    def test_or_untried(self, agent: Agent, run: Run) -> None:
        assert run(*self.FROM, "--put", FINGERPRINT, "--no-key", "--json")[0] == 0
        assert agent.asked[0][1]["key"] is None
