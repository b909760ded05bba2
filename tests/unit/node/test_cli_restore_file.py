"""`meshkeep restore file`, typed: from the snapshots here, and out of a copy on another node."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from node import client, file_versions, mountinfo
from node.cli import main
from node.errors import Exit, MeshkeepError
from node.mountinfo import Mounted

CLOUD = {
    "node": "cloud",
    "encrypted": True,
    "snapshots": 43,
    "oldest": 1_700_000_000,
    "newest": 1_800_000_000,
}
ERROR = MeshkeepError("the agent is not running", code="agent_not_running", exit=Exit.NO_AGENT)


class World:
    """tank/home at a directory, with one snapshot of the file or none, and an agent that is a table of answers."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.file = root / "thesis.tex"
        self.file.write_text("as it is now")
        self.taken: dict[str, int] = {}
        self.answers: dict[str, Any] = {
            "restore.copies": {"copies": [CLOUD], "silent": [{"node": "nas", "why": "no route"}]},
            "restore.file": {
                "node": "cloud",
                "dataset": "tank/home",
                "from": "b",
                "kept": "/x/thesis.tex.before-T",
            },
        }
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def snapshot(self) -> None:
        self.taken["a"] = 1_750_000_000
        place = self.root / ".zfs/snapshot/a"
        place.mkdir(parents=True)
        (place / "thesis.tex").write_text("as it was")

    def call(self, verb: str, args: Any = None, on_progress: Any = None, timeout: Any = None) -> Any:
        self.asked.append((verb, args))
        answer = self.answers[verb]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    made = World(tmp_path)
    monkeypatch.setattr(client, "call", made.call)
    monkeypatch.setattr(mountinfo, "read", lambda _path: [Mounted(str(tmp_path), "zfs", "tank/home")])
    monkeypatch.setattr(file_versions, "creations", lambda _dataset: made.taken)
    return made


class TestHere:
    def test_a_version_comes_back_and_what_was_there_is_kept(
        self, world: World, capsys: pytest.CaptureFixture[str]
    ) -> None:
        world.snapshot()
        assert main(["restore", "file", str(world.file), "--version", "1", "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert world.file.read_text() == "as it was"
        assert Path(result["kept"]).read_text() == "as it is now"
        assert world.asked == []

    def test_the_list_says_who_else_has_some(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        world.snapshot()
        assert main(["restore", "file", str(world.file), "--list"]) == 0
        out = capsys.readouterr().out
        assert "@a" in out
        assert "cloud keeps 43 snapshots" in out
        assert "--via cloud --at TIME" in out
        assert "nas could not be asked (no route)" in out

    def test_the_list_needs_no_agent(self, world: World, capsys: pytest.CaptureFixture[str]) -> None:
        world.snapshot()
        world.answers["restore.copies"] = ERROR
        assert main(["restore", "file", str(world.file), "--list", "--json"]) == 0
        result = json.loads(capsys.readouterr().out)
        assert [one["snapshot"] for one in result["versions"]] == ["a"]
        assert (result["copies"], result["copies_unknown"]) == ([], "the agent is not running")

    def test_where_none_is_here_the_way_to_the_copy_is_shown(
        self, world: World, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["restore", "file", str(world.file), "--version", "1"]) == Exit.NOT_FOUND
        assert f"meshkeep restore file {world.file} --via cloud" in capsys.readouterr().err


class TestVia:
    def test_the_agent_is_told_which_file_of_which_dataset_goes_where(
        self, world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        key = tmp_path / "key"
        key.write_text("correct horse\n")
        words = ["--via", "cloud", "--key-file", str(key), "-q"]
        assert main(["restore", "file", str(world.file), *words]) == 0
        verb, args = world.asked[0]
        assert (verb, args["dataset"], args["path"], args["from"]) == (
            *("restore.file", "tank/home"),
            *("thesis.tex", "cloud"),
        )
        assert (args["to"], args["key"], args["before"]) == (str(world.file), "correct horse", None)
        line = capsys.readouterr().out.strip()
        assert line == f"{world.file} ← cloud:tank/home@b; what was there is kept as thesis.tex.before-T"

    def test_of_a_time_and_to_another_place(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(world.root)
        words = ["--via", "cloud", "--at", "2026-11-20 14:00", "--to", "old.tex", "-q"]
        assert main(["restore", "file", "thesis.tex", *words]) == 0
        args = world.asked[0][1]
        assert (args["to"], args["at"]) == (os.path.abspath("old.tex"), "2026-11-20 14:00")
        assert isinstance(args["before"], int)

    @pytest.mark.parametrize(
        "words", [["--via", "cloud", "--version", "1"], ["--key-file", "k"], ["--version", "1", "--at", "3d"]]
    )
    def test_what_does_not_go_together(self, world: World, words: list[str]) -> None:
        assert main(["restore", "file", str(world.file), *words]) == Exit.USAGE
        assert world.asked == []
