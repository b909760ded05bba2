"""`replicate adopt`, `replicate seed` and `encrypt`, typed. The agent is a table of answers."""

import io
import json
from pathlib import Path
from typing import Any

import pytest

from node import client
from node.cli import main
from node.errors import Exit, MeshkeepError

PART = {
    "from": "tank/copy",
    "to": "tank/meshkeep/id/tank/home",
    "source": "tank/home",
    "snapshots": 3,
    "common": "c",
    "raw": True,
    "mounted": True,
    "clears": {"mountpoint": "/srv\x1b"},
    "foreign": False,
}
ADOPTED = {
    "schema": "meshkeep.replicate-adopt/1",
    "dataset": "tank/copy",
    "owner": "home",
    "source": "tank/home",
    "to": PART["to"],
    "checked": "on paper",
    "done": False,
    "datasets": [PART],
    "undo": ["zfs rename A B"],
    "next": "on home: meshkeep replicate add tank/home NODE",
}
SOWN = {
    "schema": "meshkeep.seed-import/1",
    "place": "/mnt/seed",
    "owner": "home",
    "dataset": "tank/home",
    "raw": True,
    "whole": False,
    "streams": 3,
    "stored": 2,
    "bytes": 2048,
    "newest": "c",
    "done": False,
    "next": "on home: meshkeep replicate add tank/home NODE",
}
PLANNED = {
    "schema": "meshkeep.encrypt-plan/1",
    "dataset": "tank/x",
    "new": "tank/x-encrypted/new",
    "old": "tank/x-plain-2026-01-01",
    "under_way": False,
    "snapshots": 2,
    "bytes": 2048,
    "mounted": True,
    "shared": ["laptop"],
    "rules": ["nas"],
}
ENCRYPTED = {
    "schema": "meshkeep.encrypt/1",
    "dataset": "tank/x",
    "old": "tank/x-plain-2026-01-01",
    "checked": ["@b: 2 snapshots by guid; all 5 files read and compared"],
    "not_carried": ["odd=1"],
    "undo": ["zfs unmount tank/x"],
    "rules": [],
}


class Agent:
    """Answers by verb, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Any] = {
            "encrypt.plan": PLANNED,
            "encrypt.run": ENCRYPTED,
            "encrypt.abort": {"dataset": "tank/x", "aborted": True},
            "seed.export": {**SOWN, "kept": 1, "place": "/mnt/seed"},
        }

    def call(self, verb: str, args: dict[str, Any] | None = None, on_progress: object = None) -> Any:
        args = dict(args or {})
        self.asked.append((verb, args))
        if verb in ("replicate.adopt", "seed.import"):
            return {**(ADOPTED if verb == "replicate.adopt" else SOWN), "done": not args.get("plan")}
        return self.answers[verb]

    def verbs(self) -> list[str]:
        return [verb + (" plan" if args.get("plan") else "") for verb, args in self.asked]


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> Agent:
    fake = Agent()
    monkeypatch.setattr(client, "call", fake.call)
    return fake


class TestAdopt:
    WORDS = ("replicate", "adopt", "tank/copy", "--of", "home:tank/home")

    def test_shows_what_would_be_done(self, agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([*self.WORDS, "-n"]) == 0
        out = capsys.readouterr().out
        assert agent.verbs() == ["replicate.adopt plan"]
        assert "would adopt tank/copy as home:tank/home, checked on paper" in out
        assert "3 snapshots, raw, in common up to @c" in out
        assert "mountpoint='/srv\\x1b' is cleared" in out
        assert "the floor begins with the adoption" in out
        assert "undo" not in out

    def test_does_it_when_it_is_told(
        self, agent: Agent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "guids").write_text("12\n13\n")
        words = [
            *self.WORDS,
            "-r",
            "--unmount",
            "--with",
            "tank/x",
            "--guids",
            str(tmp_path / "guids"),
            "--yes",
        ]
        assert main(words) == 0
        assert agent.verbs() == ["replicate.adopt plan", "replicate.adopt"]
        assert agent.asked[1][1] == {
            "dataset": "tank/copy",
            "owner": "home",
            "source": "tank/home",
            "recursive": True,
            "unmount": True,
            "with": ["tank/x"],
            "guids": [12, 13],
            "plan": False,
        }
        assert "zfs rename A B" in capsys.readouterr().out

    def test_asks_for_a_word_where_nobody_can_give_one(self, agent: Agent) -> None:
        assert main([*self.WORDS]) == Exit.REFUSED
        assert agent.verbs() == ["replicate.adopt plan"]

    @pytest.mark.parametrize("text", ["", "x", "12 -3", "٣", "1" * 21])
    def test_takes_no_other_list(self, agent: Agent, tmp_path: Path, text: str) -> None:
        (tmp_path / "guids").write_text(text)
        assert main([*self.WORDS, "--guids", str(tmp_path / "guids"), "--yes"]) == Exit.USAGE
        assert main([*self.WORDS, "--guids", "/nowhere", "--yes"]) == Exit.NOT_FOUND
        assert agent.asked == []

    def test_needs_an_owner(self, agent: Agent) -> None:
        assert main(["replicate", "adopt", "tank/copy", "--of", "tank/home"]) == Exit.USAGE

    def test_as_json(self, agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
        assert main([*self.WORDS, "-n", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["schema"] == "meshkeep.replicate-adopt/1"


class TestSeed:
    def test_export_says_what_comes_next(
        self,
        agent: Agent,
        monkeypatch: pytest.MonkeyPatch,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(["replicate", "seed", "export", "tank/home", "--to", "seed"]) == 0
        assert agent.asked[0][1]["place"] == str(tmp_path / "seed")
        out = capsys.readouterr().out
        assert "3 streams up to @c" in out
        assert "meshkeep replicate seed import /mnt/seed" in out

    def test_import_shows_then_does(self, agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["replicate", "seed", "import", "/mnt/seed", "-n"]) == 0
        assert "would store home:tank/home up to @c (2 of 3 snapshots" in capsys.readouterr().out
        assert main(["replicate", "seed", "import", "/mnt/seed"]) == Exit.REFUSED
        assert main(["replicate", "seed", "import", "/mnt/seed", "--yes"]) == 0
        assert agent.verbs() == ["seed.import plan"] * 3 + ["seed.import"]
        assert "the export was not ended" in capsys.readouterr().out


class TestEncrypt:
    def test_shows_what_it_means(self, agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["encrypt", "tank/x", "-n"]) == 0
        out = capsys.readouterr().out
        assert "tank/x becomes tank/x-plain-2026-01-01" in out
        assert "laptop must mount it anew" in out
        assert "those on nas go on in plaintext" in out
        assert agent.verbs() == ["encrypt.plan"]

    def test_takes_the_passphrase_from_a_file(
        self, agent: Agent, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "key").write_text("correct horse\n")
        assert main(["encrypt", "tank/x", "--key-file", str(tmp_path / "key"), "--files", "9", "--yes"]) == 0
        assert agent.asked[1] == (
            "encrypt.run",
            {"dataset": "tank/x", "files": 9, "though_shared": False, "key": "correct horse"},
        )
        out = capsys.readouterr().out
        assert "all 5 files read and compared" in out
        assert "not set   odd=1" in out
        assert "correct horse" not in out

    @pytest.mark.parametrize("key", ["short", "x" * 513])
    def test_takes_no_passphrase_that_zfs_would_not(
        self, agent: Agent, monkeypatch: pytest.MonkeyPatch, key: str
    ) -> None:
        monkeypatch.setattr("sys.stdin", io.StringIO(key + "\n"))
        assert main(["encrypt", "tank/x", "--key-file", "-", "--yes"]) == Exit.USAGE
        assert agent.verbs() == ["encrypt.plan"]

    def test_has_it_typed_twice(self, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        answers = iter(["correct horse", "correct house", "correct horse", "correct horse"])
        monkeypatch.setattr("sys.stdin", _Terminal())
        monkeypatch.setattr("click.prompt", lambda *_args, **_more: next(answers))
        assert main(["encrypt", "tank/x", "--yes"]) == Exit.USAGE
        assert agent.verbs() == ["encrypt.plan"]
        assert main(["encrypt", "tank/x", "--yes"]) == 0

    def test_does_nothing_unasked(self, agent: Agent) -> None:
        assert main(["encrypt", "tank/x", "--key-file", "-"]) == Exit.REFUSED
        assert agent.verbs() == ["encrypt.plan"]

    def test_is_aborted(self, agent: Agent, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["encrypt", "tank/x", "--abort"]) == 0
        assert agent.verbs() == ["encrypt.abort"]
        assert "is as it was" in capsys.readouterr().out

    def test_tells_the_agents_refusal(self, agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise MeshkeepError("in use", code="in_use", exit=Exit.REFUSED)

        monkeypatch.setattr(client, "call", refuse)
        assert main(["encrypt", "tank/x", "--yes"]) == Exit.REFUSED


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True
