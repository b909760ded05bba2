"""What each command asks of the agent, prints and exits with. The agent is a table of answers."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from node import client
from node.cli import main
from node.cli.root import COMMANDS
from node.errors import Exit, MeshkeepError

NOW = 1_800_000_000
WORDS = [f"word{number}" for number in range(1, 25)]
INIT = {
    "schema": "meshkeep.init/1",
    "mesh": "m",
    "mesh_id": "ab" * 32,
    "node": "home",
    "id": "abcdefghijklmnop",
    "address": "fd5a::1",
    "recovery_words": WORDS,
}
INVITE = {
    "schema": "meshkeep.invite/1",
    "id": "i7",
    "invite": "mk1-secret",
    "expires": NOW + 3600,
    "role": "vault",
}
JOINED = {
    "schema": "meshkeep.join/1",
    "mesh": "m",
    "node": "cloud",
    "id": "qrstuvwxyzabcdef",
    "address": "fd5a::2",
    "role": "vault",
}
VOUCHED = {
    "list": "listed",
    "list_from": "this host",
    "left_out": [],
    "age": "witnessed",
    "seen": NOW - 7200,
    "by": [{"node": "laptop", "at": NOW - 3600}],
    "why": "",
}
RESTORE_PLAN = {
    "schema": "meshkeep.restore-plan/1",
    "dataset": "tank/home",
    "to": "tank/back",
    "node": "cloud",
    "owner": "abcdefghijklmnop",
    "snapshot": "s",
    "as_of": NOW - 7200,
    "snapshots": 3,
    "steps": 3,
    "bytes_at_most": 5 << 30,
    "resumes": False,
    "encrypted": True,
    "key": {"needed": True, "kin": None, "loaded": None},
    "reasons": [],
    "vouched": VOUCHED,
}
RESTORED_HOST = {
    "schema": "meshkeep.restore-host/1",
    "plan": False,
    "outcomes": [
        {
            "dataset": "tank/home",
            "to": "tank/home",
            "node": "cloud",
            "owner": "abcdefghijklmnop",
            "newest": "s",
            "as_of": NOW - 7200,
            "size": 5 << 30,
            "encrypted": True,
            "state": "restored",
            "why": "",
            "code": "",
            "bytes": 5 << 30,
            "next": "zfs load-key tank/home && zfs mount tank/home",
            "vouched": VOUCHED,
        }
    ],
    "silent": [],
    "suspect": [],
    "made": [],
    "bytes": 5 << 30,
    "partial": False,
    "manifest": {"found": [], "problems": ["cloud: away"]},
    "missing": [],
    "properties": [],
    "files": [],
}
STATUS = {
    "schema": "meshkeep.status/1",
    "mesh": "m",
    "node": "home",
    "version": "1.2.0",
    "nodes": [
        {
            "name": "home",
            "id": "a",
            "role": "admin",
            "address": "fd5a::1",
            "state": "self",
            "path": None,
            "seen": NOW,
        },
        {
            "name": "cloud",
            "id": "b",
            "role": "vault",
            "address": "fd5a::2",
            "state": "alive",
            "path": "direct 203.0.113.7:51820",
            "seen": NOW - 3,
        },
        {
            "name": "desk",
            "id": "c",
            "role": "member",
            "address": "fd5a::3",
            "state": "down",
            "path": None,
            "seen": NOW - 200_000,
        },
    ],
    "datasets": [
        {
            "name": "tank/home",
            "node": "home",
            "snapshots": 42,
            "newest": NOW - 720,
            "replicas": [{"node": "cloud", "as_of": NOW - 780, "state": "ok"}],
        },
        {
            "name": "tank/vm",
            "node": "home",
            "snapshots": 0,
            "newest": None,
            "replicas": [
                {"node": "cloud", "as_of": NOW - 93600, "state": "late"},
                {"node": "desk", "as_of": None, "state": "waiting"},
            ],
        },
    ],
    "problems": [
        {"code": "late", "text": "tank/vm is behind on cloud", "try": "meshkeep replicate plan tank/vm cloud"}
    ],
}
DONE = {
    "dataset": "tank/home",
    "node": "cloud",
    "state": "ok",
    "as_of": NOW - 60,
    "bytes": 3 << 30,
    "steps": 2,
    "resumed": True,
}

LEFTOVER = {
    "dataset": "tank/home",
    "target": "abcdefgh23456789",
    "why": "nas is out of the mesh",
    "holds": ["tank/home@a"],
    "bookmarks": [],
    "certain": True,
}
RUNNING = {
    "job": "7f3a",
    "id": "7f3a0123456789ab",
    "dataset": "tank/vm",
    "node": "cloud",
    "state": "running",
    "step": 9,
    "steps": 26,
    "bytes_done": 1 << 30,
    "bytes_total": 4 << 30,
    "rate": 24 << 20,
    "eta_seconds": 128,
    "as_of": None,
    "behind": 26,
    "late_after": 86400,
    "began": NOW - 60,
    "ended": None,
    "outcome": "",
    "next": "",
    "rule": "tank",
    "target_seen": NOW,
    "base_pins": 0,
    "options": {"recursive": True, "window": "01:00-06:00"},
    "error": None,
}

Answer = Mapping[str, Any] | MeshkeepError


class FakeAgent:
    """Answers from a table and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.events: list[dict[str, Any]] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []

    def call(
        self,
        verb: str,
        args: Mapping[str, Any] | None = None,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
        timeout: float | None = None,
    ) -> dict[str, Any]:
        self.asked.append((verb, dict(args or {})))
        if on_progress is not None:
            for event in self.events:
                on_progress(dict(event))
        answer = self.answers.get(verb, {})
        if isinstance(answer, MeshkeepError):
            raise answer
        return dict(answer)


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch) -> FakeAgent:
    fake = FakeAgent()
    monkeypatch.setattr(client, "call", fake.call)
    monkeypatch.setattr("time.time", lambda: float(NOW))
    return fake


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def _run(*words: str) -> tuple[int, str, str]:
        code = main(words)
        out, err = capsys.readouterr()
        return code, out, err

    return _run


Run = Callable[..., tuple[int, str, str]]

# One line a command: what is typed, the verb, its arguments, and an answer that it can show.
ASKS: list[tuple[str, str, dict[str, Any], Answer]] = [
    ("init --mesh m", "init", {"mesh": "m", "name": None}, INIT),
    ("init --mesh m --name home", "init", {"mesh": "m", "name": "home"}, INIT),
    (
        "invite",
        "invite.create",
        {
            "role": "member",
            "name": None,
            "ttl": 3600,
            "succeeds": None,
            "under": None,
            "quota": None,
            "floor_days": None,
        },
        INVITE,
    ),
    (
        "invite --role vault --name c --ttl 90m --succeeds old --under tank/b --quota 1.5T --floor 30d",
        "invite.create",
        {
            "role": "vault",
            "name": "c",
            "ttl": 5400,
            "succeeds": "old",
            "under": "tank/b",
            "quota": 3 << 39,
            "floor_days": 30,
        },
        INVITE,
    ),
    ("invite list", "invite.list", {}, {"invites": []}),
    ("invite revoke i7", "invite.revoke", {"id": "i7"}, {}),
    (
        "invite dial i7 192.0.2.1",
        "invite.dial",
        {"id": "i7", "address": "192.0.2.1", "port": None, "timeout": 120},
        {"id": "i7", "node": "q", "name": "cloud", "role": "vault", "address": "fd5a::2"},
    ),
    (
        "invite dial i7 [2001:db8::1]:51821 --timeout 900",
        "invite.dial",
        {"id": "i7", "address": "2001:db8::1", "port": 51821, "timeout": 900},
        {"id": "i7", "node": "q", "name": "cloud", "role": "vault", "address": "fd5a::2"},
    ),
    (
        "join mk1-x --name cloud --timeout 60",
        "join",
        {"invite": "mk1-x", "wait": False, "name": "cloud", "timeout": 60},
        JOINED,
    ),
    ("status", "status", {}, STATUS),
    ("evict desk --yes", "evict", {"node": "desk"}, {}),
    (
        "snapshot take tank/home",
        "snapshot.take",
        {"node": None, "dataset": "tank/home", "name": None, "recursive": False},
        {"snapshots": ["tank/home@x"]},
    ),
    (
        "snapshot take cloud:tank/home --name s",
        "snapshot.take",
        {"node": "cloud", "dataset": "tank/home", "name": "s", "recursive": False},
        {"snapshots": ["tank/home@s"]},
    ),
    (
        "snapshot list tank/home",
        "snapshot.list",
        {"node": None, "dataset": "tank/home"},
        {"snapshots": [{"name": "tank/home@s", "creation": NOW - 60, "used": 65536, "holds": 1}]},
    ),
    (
        "snapshot destroy cloud:tank/home@s --yes",
        "snapshot.destroy",
        {"node": "cloud", "snapshots": ["tank/home@s"], "dry_run": False},
        {"snapshots": ["tank/home@s"], "bookmarks": [], "failed": []},
    ),
    (
        "replicate add tank/home cloud",
        "replicate.add",
        {"dataset": "tank/home", "node": "cloud", "wait": True},
        DONE,
    ),
    (
        "replicate add tank/home cloud --no-wait",
        "replicate.add",
        {"dataset": "tank/home", "node": "cloud", "wait": False},
        {"dataset": "tank/home", "node": "cloud"},
    ),
    (
        "replicate run tank/home cloud --wait",
        "replicate.run",
        {"dataset": "tank/home", "node": "cloud", "wait": True},
        DONE,
    ),
    ("replicate list", "replicate.list", {}, {"rules": [DONE]}),
    (
        "replicate add tank/home cloud -r --exclude tank/home/tmp --exclude tank/home/vm",
        "replicate.add",
        {
            "dataset": "tank/home",
            "node": "cloud",
            "wait": True,
            "recursive": True,
            "exclude": ["tank/home/tmp", "tank/home/vm"],
        },
        {**DONE, "datasets": [DONE, DONE]},
    ),
    ("replicate pause tank/home cloud", "replicate.pause", {"dataset": "tank/home", "node": "cloud"}, {}),
    ("replicate resume tank/home cloud", "replicate.resume", {"dataset": "tank/home", "node": "cloud"}, {}),
    ("replicate leftovers", "replicate.leftovers", {"release": False}, {"leftovers": []}),
    (
        "replicate leftovers --release",
        "replicate.leftovers",
        {"release": True},
        {"leftovers": [LEFTOVER]},
    ),
    ("jobs list", "jobs.list", {}, {"jobs": [RUNNING, {**RUNNING, "state": "ok"}]}),
    ("jobs list --all", "jobs.list", {}, {"jobs": [RUNNING]}),
    ("jobs show 7f3a", "jobs.show", {"job": "7f3a"}, RUNNING),
    ("jobs show tank/vm cloud", "jobs.show", {"job": "tank/vm", "node": "cloud"}, RUNNING),
    ("jobs cancel 7f3a", "jobs.cancel", {"job": "7f3a"}, RUNNING),
    ("replicate remove tank/home cloud", "replicate.remove", {"dataset": "tank/home", "node": "cloud"}, {}),
    (
        "replicate plan tank/home cloud",
        "replicate.plan",
        {"dataset": "tank/home", "node": "cloud"},
        {"steps": [{"text": "send all of @a"}, "send @a..@b"]},
    ),
    (
        "restore dataset tank/home --from cloud --to tank/back --wait",
        "restore.dataset",
        {
            "dataset": "tank/home",
            "owner": None,
            "from": "cloud",
            "at": None,
            "to": "tank/back",
            "wait": True,
        },
        DONE,
    ),
    (
        "restore dataset old:tank/home --from cloud --at s --to tank/back",
        "restore.dataset",
        {
            "dataset": "tank/home",
            "owner": "old",
            "from": "cloud",
            "at": "s",
            "to": "tank/back",
            "wait": False,
        },
        {},
    ),
    (
        "restore dataset tank/home --to tank/back --at s -n",
        "restore.plan",
        {"dataset": "tank/home", "owner": None, "from": None, "at": "s", "to": "tank/back"},
        RESTORE_PLAN,
    ),
    (
        "restore host",
        "restore.host",
        {"from": None, "owner": None, "map": [], "plan": False},
        RESTORED_HOST,
    ),
    (
        "restore host --from cloud --owner old --map tank=pond --map a=b -n",
        "restore.host",
        {"from": "cloud", "owner": "old", "map": ["tank=pond", "a=b"], "plan": True},
        RESTORED_HOST,
    ),
    (
        "share add tank/home --to laptop",
        "share.add",
        {"dataset": "tank/home", "to": "laptop", "rw": False, "squash": "all"},
        {},
    ),
    (
        "share add tank/home --to laptop --rw --squash root",
        "share.add",
        {"dataset": "tank/home", "to": "laptop", "rw": True, "squash": "root"},
        {},
    ),
    ("share list", "share.list", {}, {"shares": [{"dataset": "tank/home", "to": "laptop", "rw": True}]}),
    ("share remove tank/home", "share.remove", {"dataset": "tank/home", "to": None}, {}),
    (
        "mount home:tank/home /mnt/home",
        "mount",
        {"node": "home", "dataset": "tank/home", "dir": "/mnt/home"},
        {},
    ),
    ("mount home:/home /mnt/../mnt/h", "mount", {"node": "home", "path": "/home", "dir": "/mnt/h"}, {}),
    ("umount /mnt/home/", "umount", {"dir": "/mnt/home"}, {}),
    ("config reload", "config.reload", {}, {}),
]


@pytest.mark.parametrize(("line", "verb", "args", "answer"), ASKS, ids=[ask[0] for ask in ASKS])
class TestEveryCommand:
    def test_asks_the_agent_exactly_this(
        self, agent: FakeAgent, run: Run, line: str, verb: str, args: dict[str, Any], answer: Answer
    ) -> None:
        agent.answers[verb] = answer
        code, out, err = run(*line.split())
        assert (code, err) == (0, "")
        assert agent.asked == [(verb, args)]
        assert out

    def test_gives_the_answer_as_one_json_object(
        self, agent: FakeAgent, run: Run, line: str, verb: str, args: dict[str, Any], answer: Answer
    ) -> None:
        agent.answers[verb] = answer
        agent.events = [{"bytes_done": 1, "bytes_total": 2}]
        code, out, err = run(*line.split(), "--json")
        assert (code, err) == (0, "")
        assert json.loads(out) == answer

    def test_takes_json_in_front_too(
        self, agent: FakeAgent, run: Run, line: str, verb: str, args: dict[str, Any], answer: Answer
    ) -> None:
        agent.answers[verb] = answer
        assert json.loads(run("--json", *line.split())[1]) == answer

    def test_exits_with_the_code_of_the_error_and_prints_nothing_on_stdout(
        self, agent: FakeAgent, run: Run, line: str, verb: str, args: dict[str, Any], answer: Answer
    ) -> None:
        agent.answers[verb] = MeshkeepError(
            "no", code="no", exit=Exit.REFUSED, why="because\nof it", hint="x"
        )
        assert run(*line.split()) == (
            7,
            "",
            "error: no\n  why:  because\n        of it\n  try:  x\n",
        )

    def test_gives_the_error_as_json_on_stderr(
        self, agent: FakeAgent, run: Run, line: str, verb: str, args: dict[str, Any], answer: Answer
    ) -> None:
        agent.answers[verb] = MeshkeepError("no", code="not_now", exit=Exit.NO_PEER, why="w", hint="h")
        code, out, err = run(*line.split(), "--json")
        assert (code, out) == (6, "")
        assert json.loads(err) == {
            "type": "error",
            "code": "not_now",
            "exit": 6,
            "message": "no",
            "why": "w",
            "try": "h",
        }


class TestJoin:
    def test_reads_the_invite_from_a_file(self, agent: FakeAgent, run: Run, tmp_path: Path) -> None:
        agent.answers["join"] = JOINED
        file = tmp_path / "invite"
        file.write_text("mk1-secret\n")
        code, out, _ = run("join", "--invite-file", str(file), "--wait")
        assert (code, out) == (0, 'joined m as "cloud" (fd5a::2), role vault\n')
        args = {"invite": "mk1-secret", "wait": True, "name": None, "timeout": None}
        assert agent.asked == [("join", args)]
        assert file.exists()

    def test_reads_the_invite_from_stdin(
        self, agent: FakeAgent, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        agent.answers["join"] = JOINED
        (tmp_path / "in").write_text("mk1-typed\n")
        with (tmp_path / "in").open() as typed:
            monkeypatch.setattr(sys, "stdin", typed)
            assert run("join", "--invite-file", "-")[0] == 0
        assert agent.asked[0][1]["invite"] == "mk1-typed"

    def test_destroys_the_file_after_success_only(self, agent: FakeAgent, run: Run, tmp_path: Path) -> None:
        file = tmp_path / "invite"
        file.write_text("mk1-secret\n")
        agent.answers["join"] = MeshkeepError("expired", code="invite_expired", exit=Exit.REFUSED)
        assert run("join", "--invite-file", str(file), "--shred")[0] == 7
        assert file.read_text() == "mk1-secret\n"
        agent.answers["join"] = JOINED
        assert run("join", "--invite-file", str(file), "--shred")[0] == 0
        assert not file.exists()

    def test_if_needed_does_nothing_on_a_member(self, agent: FakeAgent, run: Run, tmp_path: Path) -> None:
        agent.answers["status"] = STATUS
        file = tmp_path / "invite"
        file.write_text("mk1-secret\n")
        code, out, _ = run("join", "--invite-file", str(file), "--if-needed", "--shred", "--json")
        assert code == 0
        assert json.loads(out) == {
            "schema": "meshkeep.join/1",
            "mesh": "m",
            "node": "home",
            "id": "a",
            "address": "fd5a::1",
            "role": "admin",
        }
        assert [verb for verb, _ in agent.asked] == ["status"]
        assert not file.exists()

    @pytest.mark.parametrize(
        "alone", [{"mesh": None, "nodes": []}, MeshkeepError("no mesh", code="no_mesh", exit=Exit.REFUSED)]
    )
    def test_if_needed_joins_where_there_is_no_mesh(self, agent: FakeAgent, run: Run, alone: Answer) -> None:
        agent.answers = {"status": alone, "join": JOINED}
        assert run("join", "mk1-x", "--if-needed")[0] == 0
        assert [verb for verb, _ in agent.asked] == ["status", "join"]

    def test_if_needed_does_not_hide_that_the_agent_is_not_there(self, agent: FakeAgent, run: Run) -> None:
        agent.answers["status"] = MeshkeepError("gone", code="x", exit=Exit.NO_AGENT)
        assert run("join", "mk1-x", "--if-needed")[0] == 5

    @pytest.mark.parametrize("words", [[], ["mk1-x", "--invite-file", "f"]])
    def test_wants_exactly_one_invite(self, agent: FakeAgent, run: Run, words: list[str]) -> None:
        code, _, err = run("join", *words)
        assert (code, agent.asked) == (2, [])
        assert "one of the two" in err

    def test_says_which_file_it_cannot_read(self, agent: FakeAgent, run: Run, tmp_path: Path) -> None:
        code, _, err = run("join", "--invite-file", str(tmp_path / "none"))
        assert code == Exit.NOT_FOUND
        assert str(tmp_path / "none") in err


class TestCloudInit:
    WORDS = (
        *("invite", "--role", "vault", "--cloud-init", "--disk", "/dev/vdb"),
        *("--package", "http://192.0.2.9/m.deb", "--sha256", "ab" * 32),
    )

    def test_prints_user_data_on_stdout_and_what_to_do_next_on_stderr(
        self, agent: FakeAgent, run: Run
    ) -> None:
        agent.answers["invite.create"] = INVITE
        code, out, err = run(*self.WORDS)
        assert code == 0
        assert out.startswith("#cloud-config\n")
        assert "meshkeep invite dial i7 ADDRESS" in err
        assert "mk1-secret" not in err

    def test_has_user_data_beside_the_invite_in_json(self, agent: FakeAgent, run: Run) -> None:
        agent.answers["invite.create"] = INVITE
        answer = json.loads(run(*self.WORDS, "--json")[1])
        assert answer.keys() == {"id", "invite", "expires", "user_data"}
        assert "mk1-secret" in answer["user_data"]

    def test_a_vault_stores_in_the_pool_it_was_given_unless_told_where(
        self, agent: FakeAgent, run: Run
    ) -> None:
        agent.answers["invite.create"] = INVITE
        run(*self.WORDS, "--pool", "big")
        run(*self.WORDS, "--under", "tank/elsewhere")
        assert [args["under"] for _, args in agent.asked] == ["big", "tank/elsewhere"]

    @pytest.mark.parametrize(
        "words",
        [
            "--cloud-init --package http://x/m.deb",
            "--cloud-init --disk vdb",
            "--cloud-init --pool ;reboot",
            "--disk /dev/vdb",
        ],
    )
    def test_makes_no_invite_for_what_cannot_be(self, agent: FakeAgent, run: Run, words: str) -> None:
        assert run("invite", *words.split())[0] == 2
        assert agent.asked == []


class TestConfirmation:
    @pytest.mark.parametrize("line", ["evict desk", "snapshot destroy tank/home@s"])
    def test_without_a_terminal_nothing_is_done_without_yes(
        self, agent: FakeAgent, run: Run, line: str
    ) -> None:
        code, _, err = run(*line.split())
        assert (code, agent.asked) == (7, [])
        assert "--yes" in err

    @pytest.mark.parametrize(("typed", "code"), [("desk\n", 0), ("dusk\n", 7), ("", 7)])
    def test_at_a_terminal_the_name_is_typed(
        self, agent: FakeAgent, run: Run, monkeypatch: pytest.MonkeyPatch, typed: str, code: int
    ) -> None:
        class Terminal:
            def isatty(self) -> bool:
                return True

            def readline(self) -> str:
                return typed

        monkeypatch.setattr("sys.stdin", Terminal())
        monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
        assert run("evict", "desk")[0] == code
        assert len(agent.asked) == (code == 0)


class TestUsage:
    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("teleport", "'teleport' is not in this version"),
            ("stauts", 'did you mean "status"?'),
            ("snapshot mend tank/home@s", "'mend' is not in this version"),
            ("invite --qr", "option --qr is not in this version"),
            ("init --mesh BIG", "'BIG' is no name"),
            ("init", "Missing option '--mesh'"),
            ("invite --ttl soon", "'soon' is not a duration"),
            ("invite --quota 0", "'0' is nothing at all"),
            ("invite --role king", "'king' is not one of"),
            ("invite dial i7 host:0", "'0' is no port"),
            ("mount tank/home /mnt", "names no node"),
            ("snapshot destroy tank/home --yes", "no DATASET@SNAPSHOT"),
        ],
    )
    def test_is_exit_2_and_says_what_is_wrong(self, agent: FakeAgent, run: Run, line: str, said: str) -> None:
        code, out, err = run(*line.split())
        assert (code, out, agent.asked) == (2, "", [])
        assert said in err
        json_code, _, json_err = run(*line.split(), "--json")
        assert json_code == 2
        assert said in json.loads(json_err)["message"]

    @pytest.mark.parametrize("line", ["", "snapshot", "replicate", "vault"])
    def test_a_group_alone_shows_its_help(self, run: Run, line: str) -> None:
        code, out, err = run(*line.split())
        assert (code, out) == (2, "")
        assert "Usage: meshkeep" in err

    def test_every_command_has_help_and_the_common_options(self, run: Run) -> None:
        for name in COMMANDS:
            code, out, _ = run(name, "--help")
            assert code == 0
            assert "--json" in out

    def test_an_interrupt_is_130_and_says_that_the_agent_goes_on(
        self, agent: FakeAgent, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_args: object, **_options: object) -> dict[str, Any]:
            raise KeyboardInterrupt

        monkeypatch.setattr(client, "call", interrupted)
        code, _, err = run("replicate", "run", "tank/home", "cloud", "--wait")
        assert code == 130
        assert "goes on" in err


class TestConfigCheck:
    def test_shows_all_mistakes_at_once_and_exits_4(self, run: Run, tmp_path: Path) -> None:
        (tmp_path / "meshkeep.toml").write_text('[policy.p]\nhurly = 3\ndaily = "x"\n[nonsense]\n')
        code, _, err = run("config", "check", "--dir", str(tmp_path))
        assert code == 4
        assert all(word in err for word in ("hurly", "daily", "nonsense"))

    def test_says_that_there_is_none(self, run: Run, tmp_path: Path) -> None:
        assert run("config", "check", "--dir", str(tmp_path))[0] == 0
        (tmp_path / "meshkeep.toml").write_text("")
        code, out, _ = run("config", "check", "--dir", str(tmp_path))
        assert (code, "no mistakes" in out) == (0, True)


def test_nothing_heavy_is_imported_for_an_ordinary_command() -> None:
    script = (
        "import sys; from node.cli import main; main(['status']);"
        "print(sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"MESHKEEP_SOCKET": "/nowhere", "PATH": "/usr/bin"},
    )
    loaded = set(json.loads(done.stdout.splitlines()[-1].replace("'", '"')))
    assert not loaded & {"aiohttp", "asyncio", "http", "pydantic", "rich", "ssl", "subprocess", "tomllib"}


PROPERTIES = {
    "dataset": "tank/back",
    "set": {"compression": "zstd"},
    "failed": {},
    "left": {"mountpoint": "/home\x1b[2J"},
    "encryption_root": "tank",
    "was": "tank/home",
    "error": None,
}


DRILLED = {
    "schema": "meshkeep.restore-drill/1",
    "dataset": "tank/home",
    "node": "cloud",
    "snapshot": "s",
    "as_of": NOW,
    "bytes": 5,
    "at": NOW,
    "state": "proven",
    "why": "",
    "files": 40,
    "of": 99,
    "bytes_read": 1 << 30,
}


class TestRestore:
    def test_shows_what_would_be_fetched(self, agent: FakeAgent, run: Run) -> None:
        agent.answers["restore.plan"] = RESTORE_PLAN
        code, out, _ = run("restore", "dataset", "tank/home", "--to", "tank/back", "-n")
        assert code == 0
        assert "cloud:tank/home@s (3 snapshots, at most 5G, raw)" in out
        assert "nothing here tells whether you still have it" in out

    @pytest.mark.parametrize(
        ("told", "line"),
        [
            ({}, "witnessed: nothing newer was seen by laptop"),
            (
                {"age": "unwitnessed", "by": [], "why": "nobody but cloud can tell"},
                "unwitnessed: nobody but cloud",
            ),
            ({"age": "stale"}, "not the newest"),
            ({"left_out": ["odd"]}, "left out, for it is not on the list: @odd"),
            ({"list": "unlisted"}, "not all of it is on a list"),
        ],
    )
    def test_says_what_vouches_for_it(
        self, agent: FakeAgent, run: Run, told: dict[str, Any], line: str
    ) -> None:
        agent.answers["restore.plan"] = RESTORE_PLAN | {"vouched": VOUCHED | told}
        out = run("restore", "dataset", "tank/home", "--to", "tank/back", "-n")[1]
        assert line in out
        assert ("  vouched  witnessed" in out) == (told.get("age", "witnessed") == "witnessed")

    @pytest.mark.parametrize("command", ["dataset", "host"])
    def test_what_nothing_vouches_for_is_taken_only_by_name(
        self, agent: FakeAgent, run: Run, command: str
    ) -> None:
        agent.answers |= {"restore.dataset": DONE, "restore.host": RESTORED_HOST}
        words = ("dataset", "tank/home", "--to", "tank/back") if command == "dataset" else ("host",)
        run("restore", *words)
        run("restore", *words, "--older", "--accept-unlisted")
        (_, first), (_, second) = agent.asked
        assert not first.keys() & {"older", "accept_unlisted"}
        assert second["older"] is second["accept_unlisted"] is True

    def test_says_whose_copy_is_not_believed(self, agent: FakeAgent, run: Run) -> None:
        suspect = {"node": "evil", "dataset": "tank/home", "code": "not_as_listed", "why": "never sent"}
        agent.answers["restore.host"] = RESTORED_HOST | {"suspect": [suspect]}
        assert "evil is not believed: never sent" in run("restore", "host")[1]

    @pytest.mark.parametrize(
        ("state", "more"), [("to restore", ""), ("restored", " --map tank/home=tank/home-unlisted")]
    )
    def test_says_what_the_list_left_out_and_how_to_have_it(
        self, agent: FakeAgent, run: Run, state: str, more: str
    ) -> None:
        (one,) = RESTORED_HOST["outcomes"]
        short = one | {"state": state, "vouched": VOUCHED | {"left_out": ["old", "older"]}}
        agent.answers["restore.host"] = RESTORED_HOST | {"outcomes": [short], "partial": True}
        code, out = run("restore", "host")[:2]
        assert code == 3
        assert "left out, for it is not on the list: @old, @older" in out
        assert f"meshkeep restore host --accept-unlisted{more}\n" in out

    def test_says_whose_key_opens_it(self, agent: FakeAgent, run: Run) -> None:
        agent.answers["restore.plan"] = RESTORE_PLAN | {
            "key": {"needed": True, "kin": "tank/home", "loaded": True}
        }
        assert "that of tank/home" in run("restore", "dataset", "tank/home", "--to", "tank/back", "-n")[1]

    def test_a_time_goes_along_beside_what_was_written(self, agent: FakeAgent, run: Run) -> None:
        agent.answers["restore.dataset"] = DONE
        assert run("restore", "dataset", "tank/home", "--to", "tank/back", "--at", "2026-11-20")[0] == 0
        ((_, args),) = agent.asked
        assert args["at"] == "2026-11-20"
        assert isinstance(args["before"], int)

    @pytest.mark.parametrize("words", [[], ["-n"]])
    def test_a_host_that_is_not_all_back_is_exit_3(
        self, agent: FakeAgent, run: Run, words: list[str]
    ) -> None:
        agent.answers["restore.host"] = RESTORED_HOST | {
            "partial": True,
            "silent": [{"node": "nas", "why": "no route"}],
        }
        code, out, _ = run("restore", "host", *words)
        assert code == Exit.PARTIAL
        assert "nas did not answer" in out
        assert "next  zfs load-key tank/home" in out

    def test_shows_what_was_set_and_what_only_on_request(self, agent: FakeAgent, run: Run) -> None:
        agent.answers["restore.dataset"] = DONE | {"properties": PROPERTIES}
        words = ("restore", "dataset", "tank/home", "--to", "tank/back", "--properties", "--property", "x:y")
        code, out, _ = run(*words)
        assert code == 0
        ((_, args),) = agent.asked
        assert (args["properties"], args["property"]) == (True, ["x:y"])
        assert "compression=zstd set" in out
        assert "(--property mountpoint)" in out
        assert "zfs change-key -i tank/back" in out
        assert "\x1b" not in out

    @pytest.mark.parametrize("bad", [{"error": "no manifest"}, {"failed": {"quota": "no room"}}])
    def test_a_property_that_is_not_set_is_exit_3(
        self, agent: FakeAgent, run: Run, bad: dict[str, Any]
    ) -> None:
        agent.answers["restore.dataset"] = DONE | {"properties": PROPERTIES | bad}
        code, out, _ = run("restore", "dataset", "tank/home", "--to", "tank/back", "--properties")
        assert code == Exit.PARTIAL
        assert "no manifest" in out or "no room" in out

    def test_shows_the_manifest_and_its_files(self, agent: FakeAgent, run: Run) -> None:
        agent.answers["restore.host"] = RESTORED_HOST | {
            "manifest": {
                "found": [
                    {
                        "owner": "a",
                        "name": "home",
                        "hostname": "h.example",
                        "made": NOW,
                        "node": "cloud",
                        "opened_by": "laptop",
                        "datasets": 1,
                        "files": ["meshkeep.toml"],
                    }
                ],
                "problems": [],
            },
            "files": [{"file": "meshkeep.toml", "written": "/etc/meshkeep/meshkeep.toml", "why": ""}],
            "missing": ["tank/lost"],
            "properties": [PROPERTIES],
        }
        out = run("restore", "host", "--apply-manifest")[1]
        assert "manifest of home (h.example)" in out
        assert "opened by laptop" in out
        assert "tank/lost  no node that answered keeps a copy of it" in out
        assert "meshkeep config check" in out

    def test_recovery_words_come_from_stdin_and_never_from_the_command_line(
        self, agent: FakeAgent, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        agent.answers["restore.host"] = RESTORED_HOST
        (tmp_path / "in").write_text("one two  three\n")
        with (tmp_path / "in").open() as typed:
            monkeypatch.setattr(sys, "stdin", typed)
            assert run("restore", "host", "--recovery-words")[0] == 0
        assert agent.asked[0][1]["words"] == ["one", "two", "three"]

    def test_a_drill_says_what_it_read(self, agent: FakeAgent, run: Run, tmp_path: Path) -> None:
        agent.answers["restore.drill"] = DRILLED
        (tmp_path / "key").write_text("correct horse\n")
        code, out, _ = run("restore", "drill", "tank/home", "--key-file", str(tmp_path / "key"), "--all")
        assert code == 0
        assert out == "cloud:tank/home@s  proven · 40 of 99 files, 1G, read to the end\n"
        args = {"dataset": "tank/home", "from": None, "all": True, "key": "correct horse"}
        assert agent.asked == [("restore.drill", args)]

    def test_a_drill_that_opened_nothing_is_exit_3(self, agent: FakeAgent, run: Run) -> None:
        agent.answers["restore.drill"] = DRILLED | {"state": "received, unproven", "why": "no key"}
        code, out, _ = run("restore", "drill", "tank/home", "--from", "cloud", "--no-key")
        assert code == Exit.PARTIAL
        assert "received, unproven: no key" in out
        assert "key" not in agent.asked[0][1]

    def test_a_key_file_that_is_not_there(self, agent: FakeAgent, run: Run, tmp_path: Path) -> None:
        code, _, err = run("restore", "drill", "tank/home", "--key-file", str(tmp_path / "none"))
        assert code == Exit.NOT_FOUND
        assert str(tmp_path / "none") in err
        assert agent.asked == []
