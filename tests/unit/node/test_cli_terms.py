"""`meshkeep vault terms|extend|shorten|cancel` and `key approve --recovery`, typed. The agent is a table of answers."""

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from node import client
from node.cli import main
from node.errors import Exit

DAY = 86400
WORDS = [f"word{number}" for number in range(24)]
SHEET: dict[str, Any] = {
    "schema": "meshkeep.vault-terms/1",
    "node": "cloud",
    "here": False,
    "root": {"value": "tank/meshkeep", "from": "invite", "since": 1_790_000_000},
    "floor": {"value": 90 * DAY, "from": "invite", "since": 1_790_000_000},
    "quota": {"value": 1 << 40, "from": "invite", "since": None},
    "keep": {"value": {"hourly": 0, "daily": 30, "yearly": 5}, "from": "configuration", "since": None},
    "owners": [
        {
            "owner": "h" * 16,
            "node": "home",
            "floor": {"value": 180 * DAY, "from": "owner", "since": 1_790_000_000},
            "quota": {"value": None, "from": "zfs", "since": None},
            "reservation": {"value": 1 << 30, "from": "zfs", "since": None},
            "waiting": {"floor": 7 * DAY, "since": 1, "left": 5 * DAY, "by": "recovery key"},
        }
    ],
}
FREED = {
    "schema": "meshkeep.vault-freed/1",
    "floor": 30 * DAY,
    "configured": 40 * DAY,
    "owners": [{"owner": "h" * 16, "node": "home", "snapshots": [f"tank@{n}" for n in range(25)]}],
}


class Agent:
    """Answers by verb, and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {
            "terms.show": SHEET,
            "terms.extend": SHEET,
            "terms.shorten": SHEET,
            "terms.freed": FREED,
            "terms.ask": {
                "schema": "meshkeep.vault-shorten/1",
                "node": "cloud",
                "owner": "home",
                "floor": 30 * DAY,
                "version": 1,
                "notice": 7 * DAY,
            },
            "terms.cancel": {
                "schema": "meshkeep.vault-cancel/1",
                "node": "cloud",
                "owner": "home",
                "here": False,
            },
            "key.offered": {"schema": "meshkeep.key-pending/1", "pending": []},
            "key.approve_afar": {
                "schema": "meshkeep.key-approve/1",
                "approved": [{"node": "home", "dataset": "tank/home", "offered": "2" * 64}],
            },
        }
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def call(self, verb: str, args: dict[str, Any] | None = None) -> Any:
        self.asked.append((verb, args or {}))
        return self.answers[verb]


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Agent:
    fake = Agent()
    monkeypatch.setattr(client, "call", fake.call)
    monkeypatch.setenv("TZ", "UTC")
    return fake


class TestTerms:
    def test_are_shown_with_whose_each_is_and_what_waits(
        self, agent: Agent, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["vault", "terms", "cloud"]) == 0
        assert agent.asked == [("terms.show", {"node": "cloud"})]
        lines = capsys.readouterr().out.splitlines()
        assert [line.split() for line in lines[:5]] == [
            ["FOR", "TERM", "VALUE", "FROM", "SINCE"],
            ["all", "stored", "below", "tank/meshkeep", "invite", "2026-09-21"],
            ["all", "floor", "90d", "invite", "2026-09-21"],
            ["all", "quota", "1T", "invite", "-"],
            ["all", "kept", "30", "daily,", "5", "yearly", "configuration", "-"],
        ]
        assert [line.split() for line in lines[5:8]] == [
            ["home", "floor", "180d", "owner", "2026-09-21"],
            ["home", "quota", "none", "-", "-"],
            ["home", "reservation", "1G", "zfs", "-"],
        ]
        assert lines[-2:] == [
            "home: 7d only, in 5d, by the recovery key",
            "  to cancel  meshkeep vault cancel cloud --owner home",
        ]

    def test_as_json(self, agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["vault", "terms", "--json"]) == 0
        assert agent.asked == [("terms.show", {})]
        assert json.loads(capsys.readouterr().out) == SHEET

    def test_of_a_clock_that_is_not_believed_say_so(
        self, agent: Agent, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (owner,) = SHEET["owners"]
        jumped = {**owner, "waiting": {**owner["waiting"], "left": None}}
        agent.answers["terms.show"] = {**SHEET, "here": True, "owners": [jumped]}
        assert main(["vault", "terms"]) == 0
        assert capsys.readouterr().out.splitlines()[-2:] == [
            "home: 7d only, once its clock is believed, by the recovery key",
            "  to cancel  meshkeep vault cancel --owner home",
        ]

    @pytest.mark.parametrize(
        "words",
        [
            ["--floor", "30d"],
            ["--owner", "home"],
            ["--yes"],
            ["-n"],
            ["--shorten"],
            ["cloud", "--shorten", "--floor", "30d"],
        ],
    )
    def test_are_not_changed_by_half_a_command_nor_of_another_node(
        self, agent: Agent, words: list[str]
    ) -> None:
        assert main(["vault", "terms", *words]) == Exit.USAGE
        assert agent.asked == []


class TestShorteningHere:
    def test_shows_first_what_could_go_and_asks(
        self, agent: Agent, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """There is no terminal here."""
        assert main(["vault", "terms", "--shorten", "--floor", "30d", "--owner", "home"]) == Exit.REFUSED
        assert [verb for verb, _ in agent.asked] == ["terms.freed"]
        said = capsys.readouterr().err
        assert "says 40d, and that stays the least" in said
        assert "25 snapshots could go" in said
        assert "home:tank@19" in said
        assert "and 5 more" in said
        assert "home:tank@20" not in said

    def test_is_done_with_a_yes(self, agent: Agent) -> None:
        assert main(["vault", "terms", "--shorten", "--floor", "30d", "--yes"]) == 0
        assert agent.asked[-1] == ("terms.shorten", {"floor": 30 * DAY})

    def test_may_only_be_looked_at(self, agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["vault", "terms", "--shorten", "--floor", "30d", "-n", "--json"]) == 0
        assert agent.asked == [("terms.freed", {"floor": 30 * DAY})]
        assert json.loads(capsys.readouterr().out) == FREED


class TestFromAfar:
    def test_extend(self, agent: Agent) -> None:
        assert main(["vault", "extend", "cloud", "--floor", "180d"]) == 0
        assert agent.asked == [("terms.extend", {"node": "cloud", "floor": 180 * DAY})]

    def test_shorten_without_the_recovery_key_asks_for_no_words(self, agent: Agent) -> None:
        """The agent says no, and names both ways."""
        assert main(["vault", "shorten", "cloud", "--floor", "30d"]) == 0
        assert agent.asked == [("terms.ask", {"node": "cloud", "floor": 30 * DAY})]

    def test_shorten_reads_the_words_from_a_file(
        self, agent: Agent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "words").write_text("\n".join(" ".join(WORDS[at : at + 4]) for at in range(0, 24, 4)))
        words = ["vault", "shorten", "cloud", "--floor", "30d", "--owner", "home", "--recovery"]
        assert main([*words, "--words-file", str(tmp_path / "words")]) == 0
        args = {"node": "cloud", "floor": 30 * DAY, "owner": "home", "words": WORDS}
        assert agent.asked == [("terms.ask", args)]
        out = capsys.readouterr().out
        assert "30d only, 7d after it hears of this" in out
        assert "meshkeep vault cancel cloud --owner home" in out
        assert "word1" not in out

    def test_shorten_reads_the_words_from_stdin(self, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(" ".join(WORDS)))
        assert main(["vault", "shorten", "cloud", "--floor", "30d", "--words-file", "-"]) == 0
        assert agent.asked[0][1]["words"] == WORDS

    def test_shorten_without_a_terminal_says_how(self, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(""))
        assert main(["vault", "shorten", "cloud", "--floor", "30d", "--recovery"]) == Exit.USAGE
        assert (
            main(["vault", "shorten", "cloud", "--floor", "30d", "--words-file", "/none"]) == Exit.NOT_FOUND
        )
        assert agent.asked == []

    @pytest.mark.parametrize(
        ("words", "args"),
        [
            (["cloud", "--owner", "home"], {"node": "cloud", "owner": "home"}),
            (["--owner", "home"], {"owner": "home"}),
            (["cloud"], {"node": "cloud"}),
        ],
    )
    def test_cancel(
        self, agent: Agent, words: list[str], args: dict[str, str], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["vault", "cancel", *words]) == 0
        assert agent.asked == [("terms.cancel", args)]
        assert "as soon as cloud hears of it" in capsys.readouterr().out


class TestKeys:
    def test_approve_by_recovery(
        self, agent: Agent, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(" ".join(WORDS)))
        words = ["key", "approve", "cloud", "home:tank/home", "2" * 16, "--recovery", "--words-file", "-"]
        assert main(words) == 0
        args = {"node": "cloud", "which": "home:tank/home", "fingerprint": "2" * 16, "words": WORDS}
        assert agent.asked == [("key.approve_afar", args)]
        assert "approved by the recovery key" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "words",
        [["home:tank/home", "2" * 16], ["a", "b", "c", "--all-of", "home"], ["a", "b", "c", "--without-old"]],
    )
    def test_approve_by_recovery_is_of_one_key_on_one_node(self, agent: Agent, words: list[str]) -> None:
        assert main(["key", "approve", *words, "--recovery"]) == Exit.USAGE
        assert agent.asked == []

    def test_offered(self, agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["key", "offered", "cloud"]) == 0
        assert capsys.readouterr().out == "no key waits for your word\n"
        one = {
            "owner": "h" * 16,
            "node": "home",
            "by": "home",
            "dataset": "tank/home",
            "pinned": "1" * 64,
            "offered": "2" * 64,
            "since": 0,
            "kin": [],
        }
        agent.answers["key.offered"]["pending"] = [one]
        assert main(["key", "offered", "cloud"]) == 0
        last = capsys.readouterr().out.splitlines()[-1]
        assert last == f"it was:  meshkeep key approve cloud home:tank/home {'2' * 16} --recovery"
