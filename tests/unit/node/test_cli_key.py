"""`meshkeep key`, typed. The agent is a table of answers."""

from typing import Any

import pytest

from node import client
from node.cli import main
from node.errors import Exit

NOW = 1_800_000_000
ONE = {
    "owner": "abcdefghijklmnop",
    "node": "home",
    "by": "home",
    "dataset": "tank/home",
    "pinned": "1" * 64,
    "offered": "2" * 64,
    "since": NOW - 7200,
    "kin": [],
}


class Agent:
    """Answers by verb, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            "key.pending": {"pending": [ONE]},
            "key.approve": {"approved": [ONE]},
            "key.refuse": {"refused": ONE},
        }
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def call(self, verb: str, args: dict[str, Any] | None = None) -> Any:
        self.asked.append((verb, args or {}))
        return self.answers[verb]


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Agent:
    fake = Agent()
    monkeypatch.setattr(client, "call", fake.call)
    monkeypatch.setattr("time.time", lambda: NOW)
    return fake


class TestPending:
    def test_shows_both_keys_and_both_answers(self, agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["key", "pending"]) == 0
        assert agent.asked == [("key.pending", {})]
        lines = capsys.readouterr().out.splitlines()
        assert lines[:2] == [
            "REPLICA         PINNED            OFFERED           SINCE   BY",
            "home:tank/home  1111111111111111  2222222222222222  2h ago  home",
        ]
        assert "it was:      meshkeep key approve home:tank/home 2222222222222222" in lines
        assert "it was not:  meshkeep key refuse home:tank/home" in lines
        assert not [line for line in lines if "--all-of" in line]

    def test_offers_to_approve_what_belongs_together(
        self, agent: Agent, capsys: pytest.CaptureFixture[str]
    ) -> None:
        agent.answers["key.pending"] = {"pending": [{**ONE, "kin": ["tank/home/docs"]}]}
        assert main(["key", "pending", "home:tank/home"]) == 0
        assert agent.asked == [("key.pending", {"which": "home:tank/home"})]
        assert "meshkeep key approve --all-of home 2222222222222222" in capsys.readouterr().out

    def test_says_so_when_nothing_waits(self, agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
        agent.answers["key.pending"] = {"pending": []}
        assert main(["key", "pending"]) == 0
        assert capsys.readouterr().out == "no key waits for your word\n"


class TestDeciding:
    @pytest.mark.parametrize(
        ("words", "args"),
        [
            (["home:tank/home", "2222"], {"which": "home:tank/home", "fingerprint": "2222"}),
            (["--all-of", "home", "2222"], {"all_of": "home", "fingerprint": "2222"}),
            (
                ["home:tank/home", "2222", "--without-old"],
                {"which": "home:tank/home", "fingerprint": "2222", "without_old": True},
            ),
        ],
    )
    def test_approves_what_was_named(
        self, agent: Agent, words: list[str], args: dict[str, Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["key", "approve", *words]) == 0
        assert agent.asked == [("key.approve", args)]
        assert "home:tank/home  pinned to 2222222222222222" in capsys.readouterr().out

    @pytest.mark.parametrize("words", [[], ["2222"], ["home:tank/home", "2222", "--all-of", "home"]])
    def test_approves_nothing_that_was_not_named(self, agent: Agent, words: list[str]) -> None:
        assert main(["key", "approve", *words]) == Exit.USAGE
        assert agent.asked == []

    def test_refuses(self, agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["key", "refuse", "home:tank/home"]) == 0
        assert agent.asked == [("key.refuse", {"which": "home:tank/home"})]
        assert capsys.readouterr().out == "home:tank/home  stays pinned to 1111111111111111\n"
