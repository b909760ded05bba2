"""`meshkeep key`, typed. The agent is a table of answers."""

import io
import time
from pathlib import Path
from typing import Any

import pytest

from node import client
from node.cli import main
from node.errors import Exit

NOW = 1_800_000_000
DAY = time.strftime("%Y-%m-%d", time.localtime(NOW))
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


class TestOwnKeys:
    def test_status_shows_a_line_for_each(self, agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
        one = {"dataset": "tank/home", "root": "tank/home", "loaded": True, "format": "passphrase"}
        one |= {"location": "prompt", "nodes": ["cloud"], "verified": NOW}
        other = one | {"dataset": "tank/vm", "loaded": False, "nodes": [], "verified": None}
        agent.answers["key.status"] = {"keys": [one, other]}
        assert main(["key", "status"]) == 0
        rows = [line.split("  ") for line in capsys.readouterr().out.splitlines()[1:]]
        cells = [[cell.strip() for cell in row if cell] for row in rows]
        assert cells == [
            ["tank/home", "tank/home", "passphrase, prompt", "loaded", DAY, "cloud"],
            ["tank/vm", "tank/home", "passphrase, prompt", "not loaded", "never", "-"],
        ]

    def test_verify_reads_the_first_line_of_a_file(
        self, agent: Agent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        agent.answers["key.verify"] = {"root": "tank", "verified": NOW}
        (tmp_path / "key").write_text("correct horse\nand more\n")
        assert main(["key", "verify", "tank/home", "--key-file", str(tmp_path / "key")]) == 0
        assert agent.asked == [("key.verify", {"dataset": "tank/home", "key": "correct horse"})]
        assert capsys.readouterr().out == f"tank  opens with it; verified {DAY}\n"

    def test_verify_reads_stdin(self, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        agent.answers["key.verify"] = {"root": "tank", "verified": NOW}
        monkeypatch.setattr("sys.stdin", io.StringIO("correct horse\n"))
        assert main(["key", "verify", "tank", "--key-file", "-"]) == 0
        assert agent.asked == [("key.verify", {"dataset": "tank", "key": "correct horse"})]

    def test_verify_asks_nobody_without_a_terminal(
        self, agent: Agent, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO("correct horse\n"))
        assert main(["key", "verify", "tank"]) == Exit.USAGE
        assert main(["key", "verify", "tank", "--key-file", "/nowhere"]) == Exit.NOT_FOUND
        assert agent.asked == []
