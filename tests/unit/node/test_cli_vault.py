"""`vault prepare` looks before it makes a pool."""

import itertools
import json
import os
from pathlib import Path
from typing import Any

import pytest

from node import client, vault_setup
from node.cli import main
from node.errors import Exit, MeshkeepError
from node.vault_setup import Found, decide

TOOLS = ("zpool", "wipefs", "lsblk")


class TestDeciding:
    def test_of_all_that_can_be_found_only_an_empty_disk_gets_a_pool(self) -> None:
        for exists, block, signature, child, if_needed in itertools.product((False, True), repeat=5):
            found = Found(exists, block, ("ext4",) * signature, ("/dev/vdb1",) * child)
            try:
                made = decide("tank", "/dev/vdb", found, if_needed=if_needed)
            except MeshkeepError as error:
                outcome: object = error.exit
            else:
                outcome = made
            if exists:
                assert outcome == (False if if_needed else Exit.REFUSED)
            elif not block:
                assert outcome == Exit.NOT_FOUND
            else:
                assert outcome == (Exit.REFUSED if signature or child else True)

    def test_says_what_is_on_the_disk(self) -> None:
        found = Found(False, True, ("gpt", "zfs_member"), ("/dev/vdb1",))
        with pytest.raises(MeshkeepError) as caught:
            decide("tank", "/dev/vdb", found, if_needed=True)
        assert caught.value.why == "it has: gpt, zfs_member, /dev/vdb1"

    @pytest.mark.parametrize("pool", ["", "1st", "-f", "mirror", "raidz1", "a b", "a/b", "log"])
    def test_refuses_names_that_are_none(self, pool: str) -> None:
        with pytest.raises(MeshkeepError) as caught:
            decide(pool, "/dev/vdb", Found(False, True, (), ()), if_needed=True)
        assert caught.value.exit == Exit.USAGE

    @pytest.mark.parametrize("disk", ["vdb", "-f", "/dev/vd b", "/etc/passwd"])
    def test_refuses_disks_that_are_none(self, disk: str) -> None:
        with pytest.raises(MeshkeepError) as caught:
            decide("tank", disk, Found(False, True, (), ()), if_needed=True)
        assert caught.value.exit == Exit.NOT_FOUND


@pytest.mark.skipif(os.geteuid() != 0, reason="the command is for root")
class TestTheCommand:
    @pytest.fixture(autouse=True)
    def tools(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """A PATH with tools that write down how they were called and print what a file tells them to."""
        for tool in TOOLS:
            script = tmp_path / tool
            script.write_text(
                f'#!/bin/sh\necho "{tool} $*" >> {tmp_path}/called\n'
                f"cat {tmp_path}/{tool}.out 2>/dev/null; exit 0\n"
            )
            script.chmod(0o755)
        (tmp_path / "lsblk.out").write_text("/dev/vdb\n")
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
        monkeypatch.setattr(vault_setup, "_is_block_device", lambda _path: True)
        return tmp_path

    @staticmethod
    def prepare(*more: str) -> int:
        return main(["vault", "prepare", "--disk", "/dev/vdb", "--pool", "tank", *more])

    def test_makes_the_pool_on_an_empty_disk(self, tools: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert self.prepare("--json") == 0
        assert json.loads(capsys.readouterr().out)["made"] is True
        called = (tools / "called").read_text().splitlines()
        assert called[-1].startswith("zpool create -m none ")
        assert called[-1].endswith(" tank /dev/vdb")

    def test_does_nothing_when_the_pool_is_there(
        self, tools: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tools / "zpool.out").write_text("tank\n")
        assert self.prepare("--if-needed") == 0
        assert "there already" in capsys.readouterr().out
        assert "create" not in (tools / "called").read_text()

    @pytest.mark.parametrize(("tool", "says"), [("wipefs", "ext4\n"), ("lsblk", "/dev/vdb\n/dev/vdb1\n")])
    def test_refuses_a_disk_with_anything_on_it(self, tools: Path, tool: str, says: str) -> None:
        (tools / f"{tool}.out").write_text(says)
        assert self.prepare("--if-needed") == Exit.REFUSED
        assert "create" not in (tools / "called").read_text()

    def test_says_what_zpool_said(self, tools: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tools / "zpool").write_text("#!/bin/sh\necho the module is not loaded >&2; exit 1\n")
        assert self.prepare() == Exit.FAILED
        assert "the module is not loaded" in capsys.readouterr().err


class TestKeeping:
    PLAN: dict[str, Any] = {  # noqa: RUF012
        "schema": "meshkeep.storage-plan/1",
        "clock": "",
        "replicas": [
            {
                "owner": "abcdefghijklmnop",
                "node": "home",
                "dataset": "tank/home",
                "snapshots": [
                    {"name": "a", "creation": 5, "received": 10, "goes": True, "reasons": ["first of none"]},
                    {
                        "name": "b",
                        "creation": 5,
                        "received": None,
                        "goes": False,
                        "reasons": ["newest", "daily 1 of 30"],
                    },
                ],
            }
        ],
    }

    @pytest.fixture(autouse=True)
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """The agent is a table of answers."""
        asked: list[str] = []
        self.answers: dict[str, Any] = {"storage.plan": self.PLAN}

        def call(verb: str, args: dict[str, Any]) -> Any:
            asked.append(verb)
            return self.answers[verb]

        monkeypatch.setattr(client, "call", call)
        monkeypatch.setattr("time.time", lambda: 10 + 86400 * 9)
        return asked

    @pytest.mark.parametrize("option", [(), ("-n",), ("--plan",)])
    def test_shows_every_snapshot_with_its_reasons(
        self, asked: list[str], option: tuple[str, ...], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["vault", "keep", *option]) == 0
        assert asked == ["storage.plan"]
        assert capsys.readouterr().out.splitlines() == [
            "SNAPSHOT          RECEIVED  NEXT   WHY",
            "home:tank/home@a  9d        goes   first of none",
            "home:tank/home@b  -         stays  newest, daily 1 of 30",
        ]

    def test_says_that_nothing_goes_after_a_jump(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.answers["storage.plan"] = {**self.PLAN, "replicas": [], "clock": "the clock fell behind"}
        assert main(["vault", "keep"]) == 0
        assert capsys.readouterr().out.splitlines() == [
            "nothing is stored",
            "nothing goes: the clock fell behind",
            "is the clock right? meshkeep vault keep --clock-is-right",
        ]

    @pytest.mark.parametrize(
        ("vouched", "anew", "says"),
        [
            (False, False, "not seen to jump"),
            (True, True, "their floor counts from now"),
            (True, False, "does not count"),
        ],
    )
    def test_vouches_for_the_clock(
        self, asked: list[str], vouched: bool, anew: bool, says: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.answers["storage.vouch"] = {"vouched": vouched, "counts_anew": anew}
        assert main(["vault", "keep", "--clock-is-right"]) == 0
        assert asked == ["storage.vouch"]
        assert says in capsys.readouterr().out

    def test_shows_or_vouches_but_not_both(self, asked: list[str]) -> None:
        assert main(["vault", "keep", "-n", "--clock-is-right"]) == Exit.USAGE
        assert asked == []


def test_it_is_for_root(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main(["vault", "prepare", "--disk", "/dev/vdb", "--pool", "tank"]) == Exit.NOT_PERMITTED
    assert "you are uid 1000" in capsys.readouterr().err
