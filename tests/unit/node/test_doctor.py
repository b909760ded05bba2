"""`meshkeep doctor`: what it finds on a host that is told to it, what it mends, and how it ends."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from node import client
from node.cli import doctor as command
from node.cli import main
from node.cli.doctor import page
from node.commands import CommandMissing, Result
from node.doctor import AgentSays, Finding, HostDoctor, exit_level
from node.doctor_verbs import DoctorVerbs
from node.errors import Exit, MeshkeepError
from node.leftovers import Leftovers, Nodes
from node.replicator import RuleSpec
from node.status import Problem
from replication.guard import cursor_name, hold_tag
from tests.fakes.commands import Recording
from tests.fakes.mesh import request
from tests.fakes.pair import CLOUD, NEIGHBOUR, Pair

NOW = 1_800_000_000
UDP = "  sl  local_address\n   0: 00000000:{port:04X} 00000000:0000 07\n"
HOSTS = "127.0.0.1 localhost\n# BEGIN meshkeep\nfd00::1 cloud\n# END meshkeep\n10.0.0.1 router\n"
JOINED = AgentSays(running=True, joined=True)
ALONE = AgentSays(running=True, joined=False)


class Patient:
    """A host on which all is well, in a directory."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.commands = Recording()
        self.now: float = NOW
        self.state = root / "var/lib/meshkeep"
        for folder in ("sys/module/wireguard", "proc/net", "run/systemd/system", "etc/meshkeep"):
            (root / folder).mkdir(parents=True)
        self.state.mkdir(parents=True, mode=0o700)
        self.file("etc/hosts", "127.0.0.1 localhost\n")
        self.file("proc/net/udp6", UDP.format(port=51820))
        self.says("zfs version", "zfs-2.3.9-1\nzfs-kmod-2.3.9-1\n")
        self.says("zpool list", "tank\tONLINE\n")
        self.says("timedatectl", "yes\n")
        self.says("systemctl is-active meshkeep-agent", "active\n")
        self.says("systemctl is-enabled meshkeep-agent", "enabled\n")
        self.says("systemctl is-active sanoid", "inactive\n", 3)
        self.says("systemctl is-active nfs-server", "active\n")

    def file(self, name: str, text: str) -> Path:
        path = self.root / name
        path.write_text(text)
        return path

    def says(self, start: str, out: str = "", code: int = 0, err: str = "") -> None:
        self.commands.on(start, Result(code, out, err))

    def doctor(self) -> HostDoctor:
        return HostDoctor(
            self.commands, now=self.now, root=self.root, state=self.state, config=self.root / "etc/meshkeep"
        )

    async def look(self, agent: AgentSays = JOINED) -> list[Finding]:
        return await self.doctor().look(agent)

    async def bad(self, agent: AgentSays = JOINED) -> dict[str, Finding]:
        """What is not well, by check."""
        return {one.check: one for one in await self.look(agent) if one.level != "ok"}


@pytest.fixture
def patient(tmp_path: Path) -> Patient:
    return Patient(tmp_path)


class TestTheHost:
    async def test_where_all_is_well_nothing_is_said_against_it(self, patient: Patient) -> None:
        found = await patient.look()
        assert [one for one in found if one.level != "ok"] == []
        assert {
            "zfs",
            "pools",
            "wireguard",
            "ports",
            "nft",
            "clock",
            "systemd",
            "room",
            "modes",
            "config",
        } <= {one.check for one in found}

    async def test_looking_changes_nothing(self, patient: Patient) -> None:
        before = {path: path.lstat().st_mtime_ns for path in patient.root.rglob("*")}
        await patient.look()
        assert before == {path: path.lstat().st_mtime_ns for path in patient.root.rglob("*")}
        verbs = {" ".join(line.split()[:2]) for line in patient.commands.ran}
        assert verbs == {
            *("zfs version", "zpool list", "nft list", "timedatectl show"),
            *("systemctl is-active", "systemctl is-enabled"),
        }

    @pytest.mark.parametrize(
        ("start", "out", "code", "check", "level", "word"),
        [
            ("zfs version", "zfs-2.3.9-1\nzfs-kmod-2.2.7-1\n", 0, "zfs", "warn", "2.2.7-1"),
            ("zfs version", "zfs-2.3.9-1\n", 1, "zfs", "fail", "not loaded"),
            ("zpool list", "tank\tSUSPENDED\nok\tONLINE\n", 0, "pools", "fail", "tank is SUSPENDED"),
            ("zpool list", "tank\tDEGRADED\n", 0, "pools", "warn", "tank is DEGRADED"),
            ("timedatectl", "no\n", 0, "clock", "warn", "no time server"),
            ("systemctl is-active meshkeep-agent", "failed\n", 3, "systemd", "fail", "is failed"),
            ("systemctl is-enabled meshkeep-agent", "disabled\n", 1, "systemd", "warn", "at boot"),
            ("nft list", "", 1, "nft", "fail", "is gone"),
        ],
    )
    async def test_what_programs_say(
        self, patient: Patient, start: str, out: str, code: int, check: str, level: str, word: str
    ) -> None:
        patient.says(start, out, code)
        bad = await patient.bad()
        assert list(bad) == [check]
        assert bad[check].level == level
        assert word in bad[check].text
        assert bad[check].hint or bad[check].fix

    async def test_a_program_that_is_missing_stops_no_other_check(self, patient: Patient) -> None:
        patient.commands.on("zfs version", CommandMissing("zfs"))
        patient.commands.on("timedatectl", CommandMissing("timedatectl"))
        bad = await patient.bad()
        assert {check: one.level for check, one in bad.items()} == {"zfs": "fail", "clock": "unknown"}

    async def test_two_schedulers(self, patient: Patient) -> None:
        policy = '[policy.p]\nhourly = 1\n[dataset."tank/a"]\npolicy = "p"\n'
        patient.file("etc/meshkeep/meshkeep.toml", policy)
        patient.says("systemctl is-active sanoid", "active\n")
        bad = await patient.bad()
        assert bad["schedulers"].level == "warn"
        assert "import-sanoid" in bad["schedulers"].hint

    async def test_a_configuration_with_mistakes(self, patient: Patient) -> None:
        patient.file("etc/meshkeep/meshkeep.toml", "[policy.p]\nhurly = 1\n")
        bad = await patient.bad()
        assert bad["config"].level == "fail"
        assert "hurly" in bad["config"].why

    async def test_shares_without_a_server(self, patient: Patient) -> None:
        patient.file("etc/meshkeep/meshkeep.toml", '[[share]]\ndataset = "tank/a"\nto = ["desk"]\n')
        patient.says("systemctl is-active nfs-server", "inactive\n", 3)
        assert (await patient.bad())["nfs"].level == "fail"

    async def test_no_wireguard_and_no_socket(self, patient: Patient) -> None:
        (patient.root / "sys/module/wireguard").rmdir()
        patient.file("proc/net/udp6", UDP.format(port=53))
        bad = await patient.bad()
        assert {check: one.level for check, one in bad.items()} == {"wireguard": "fail", "ports": "fail"}

    async def test_a_clock_from_before_us(self, patient: Patient) -> None:
        patient.now = 1000
        assert (await patient.bad())["clock"].level == "fail"

    @pytest.mark.parametrize(
        ("said", "level"),
        [
            ("Local+Descendent permissions:\n\tuser meshkeep create,mount,receive:append\n", "ok"),
            ("Local+Descendent permissions:\n\tuser meshkeep create,mount,receive\n", "ok"),
            ("Local+Descendent permissions:\n\tuser meshkeep create,mount\n", "fail"),
            ("Local+Descendent permissions:\n\tuser backup create,mount,receive:append\n", "fail"),
            ("", "fail"),
        ],
    )
    async def test_what_is_delegated(self, patient: Patient, said: str, level: str) -> None:
        patient.says("zfs allow tank/meshkeep/x", said)
        found = await patient.look(AgentSays(True, True, ("tank/meshkeep/x",)))
        assert [one.level for one in found if one.check == "delegation"] == [level]

    async def test_without_an_agent_what_depends_on_it_is_not_guessed(self, patient: Patient) -> None:
        patient.says("nft list", "", 1)
        patient.file("etc/hosts", HOSTS)
        patient.file("proc/net/udp6", UDP.format(port=53))
        patient.says("systemctl is-active meshkeep-agent", "inactive\n", 3)
        bad = await patient.bad(AgentSays())
        assert {check: one.level for check, one in bad.items()} == {"nft": "unknown", "systemd": "fail"}
        assert not [one for one in bad.values() if one.fix]


class TestMending:
    async def test_modes_of_our_files_and_of_no_others(self, patient: Patient) -> None:
        key = patient.file("var/lib/meshkeep/key", "secret")
        other = patient.file("etc/other", "public")
        key.chmod(0o644)
        other.chmod(0o644)
        (patient.state / "link").symlink_to(other)
        (patient.state / "deep").mkdir(mode=0o755)
        finding = (await patient.bad())["modes"]
        assert (finding.level, finding.fix) == ("fail", "modes")
        assert "link" not in finding.text
        (done,) = await patient.doctor().fix(["modes"])
        assert done == f"closed to others: {patient.state / 'deep'}, {key}"
        assert (key.stat().st_mode & 0o777, other.stat().st_mode & 0o777) == (0o600, 0o644)
        assert await patient.bad() == {}

    async def test_what_a_mesh_that_was_left_has_left(self, patient: Patient) -> None:
        patient.file("etc/hosts", HOSTS)
        patient.file("proc/net/udp6", UDP.format(port=53))
        bad = await patient.bad(ALONE)
        assert {check: (one.level, one.fix) for check, one in bad.items()} == {
            "nft": ("warn", "nft"),
            "hosts": ("warn", "hosts"),
        }
        done = await patient.doctor().fix(["nft", "hosts"])
        assert len(done) == 2
        assert patient.commands.ran[-1] == "nft delete table inet meshkeep"
        text = (patient.root / "etc/hosts").read_text()
        assert text == "127.0.0.1 localhost\n10.0.0.1 router\n"

    async def test_in_a_mesh_neither_is_touched(self, patient: Patient) -> None:
        patient.file("etc/hosts", HOSTS)
        assert await patient.bad(JOINED) == {}

    async def test_what_has_no_name_is_not_mended(self, patient: Patient) -> None:
        assert await patient.doctor().fix(["everything", "agent:nft"]) == []
        assert patient.commands.ran == []


class Agent:
    """home with cloud as a target by a rule, and a hold and a bookmark for the neighbour by none."""

    def __init__(self, path: Path) -> None:
        self.pair = Pair(path)
        self.problems: list[Problem] = []
        self.joined = True
        self.reconciled = 0
        self.local = self.pair.local
        self.leftovers = Leftovers(
            self.pair.home,
            self.pair.replicator,
            nodes=lambda: Nodes({CLOUD: "cloud", NEIGHBOUR: "nas"}, {}),
            sound=lambda: True,
            passed_over=list,
            now=self.pair.clock,
        )

        async def roots() -> list[str]:
            return ["tank/meshkeep/x"]

        self.verbs = DoctorVerbs(
            self,
            self.leftovers,
            problems=lambda: self.problems,
            jobs=lambda: self.pair.replicator.jobs,
            roots=roots,
        )

    async def reconcile(self) -> None:
        self.reconciled += 1

    async def begin(self) -> None:
        await self.pair.encrypted()
        await self.pair.snap("a")
        guid = self.pair.home.state.snap("tank/home@a").guid
        await self.pair.home.bookmark("tank/home@a", f"tank/home#{cursor_name(CLOUD, guid)}")
        self.pair.replicator.configure([RuleSpec("tank/home", "cloud")])

    async def plant(self, node: str) -> None:
        await self.pair.home.hold(hold_tag(node), ["tank/home@a"])

    async def bad(self) -> list[tuple[str, str, str]]:
        found = (await self.verbs.look(request()))["findings"]
        return [(one["check"], one["level"], one["fix"]) for one in found if one["level"] != "ok"]


@pytest.fixture
async def agent(tmp_path: Path) -> Agent:
    made = Agent(tmp_path)
    await made.begin()
    return made


class TestTheAgent:
    async def test_a_hold_of_no_rule_is_found_and_released_and_the_snapshot_stays(self, agent: Agent) -> None:
        await agent.plant(NEIGHBOUR)
        await agent.pair.home.hold("mine", ["tank/home@a"])
        assert await agent.bad() == [("leftovers", "fail", "agent:leftovers")]
        done = await agent.verbs.fix(request(what=["agent:leftovers"]))
        assert done["fixed"] == ["released tank/home@a"]
        assert await agent.pair.home.holds("tank/home@a") == ["mine"]
        assert await agent.bad() == []

    async def test_a_hold_that_a_rule_needs_is_none(self, agent: Agent) -> None:
        await agent.plant(CLOUD)
        assert await agent.bad() == []
        await agent.verbs.fix(request(what=["agent:leftovers"]))
        assert hold_tag(CLOUD) in await agent.pair.home.holds("tank/home@a")

    async def test_of_a_node_that_nobody_knows_it_is_shown_and_left(self, agent: Agent) -> None:
        await agent.plant("q" * 16)
        assert await agent.bad() == [("leftovers", "warn", "")]
        assert (await agent.verbs.fix(request(what=["agent:leftovers"])))["fixed"] == []
        assert await agent.pair.home.holds("tank/home@a") == [hold_tag("q" * 16)]

    async def test_status_is_part_of_the_page(self, agent: Agent) -> None:
        agent.problems = [Problem("key_unverified", "never tried", "try"), Problem("mesh_down", "down")]
        assert await agent.bad() == [("status", "warn", ""), ("status", "fail", "")]

    async def test_copies_that_were_never_proven_are_named(self, agent: Agent) -> None:
        agent.pair.replicator.job("tank/home", "cloud").as_of = 5
        assert await agent.bad() == [("proof", "warn", "")]
        agent.local.save_proven("tank/home", "cloud", {"at": 5})
        assert await agent.bad() == []

    async def test_only_what_is_named_is_mended(self, agent: Agent) -> None:
        await agent.plant(NEIGHBOUR)
        assert (await agent.verbs.fix(request(what=["agent:nft"])))["fixed"]
        assert agent.reconciled == 1
        assert await agent.bad() == [("leftovers", "fail", "agent:leftovers")]


class TestTheCommand:
    """How it ends. The host and the agent are lists."""

    HOLD = Finding("leftovers", "fail", "a hold", "why", fix="agent:leftovers")
    POOL = Finding("pools", "fail", "pool tank is SUSPENDED", hint="zpool status tank")
    WARN = Finding("clock", "warn", "no time server")

    @pytest.fixture
    def host(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Finding]]:
        found: list[Finding] = []
        monkeypatch.setattr(command, "_host", lambda _agent: list(found))
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        return iter([found])

    @pytest.fixture
    def agent(self, monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
        found: list[Finding] = []

        def call(verb: str, args: Any = None, timeout: float | None = None) -> dict[str, Any]:
            if verb == "doctor.fix":
                gone = [one for one in found if one.fix in args["what"]]
                found[:] = [one for one in found if one not in gone]
                return {"fixed": [f"mended {one.text}" for one in gone]}
            return {"joined": True, "roots": [], "findings": [one.as_json() for one in found]}

        monkeypatch.setattr(client, "call", call)
        return found

    @pytest.mark.parametrize(
        ("there", "words", "code"),
        [
            ([], [], 0),
            ([WARN], [], 0),
            ([HOLD], [], 1),
            ([HOLD], ["--fix"], 0),
            ([HOLD, POOL], ["--fix"], 3),
            ([POOL], ["--fix"], 1),
        ],
    )
    def test_exit_codes(
        self, host: Any, agent: list[Finding], there: list[Finding], words: list[str], code: int
    ) -> None:
        agent += there
        assert main(["doctor", *words]) == code

    def test_what_was_mended_is_listed_before_and_after(
        self, host: Any, agent: list[Finding], capsys: pytest.CaptureFixture[str]
    ) -> None:
        import json

        agent += [self.HOLD, self.POOL]
        assert main(["doctor", "--fix", "--json"]) == 3
        result = json.loads(capsys.readouterr().out)
        assert result["schema"] == "meshkeep.doctor/1"
        assert [one["text"] for one in result["before"]] == ["a hold"]
        assert [one["text"] for one in result["findings"]] == ["pool tank is SUSPENDED"]
        assert (result["fixed"], result["problems"]) == (["mended a hold"], 1)

    def test_without_an_agent_it_says_so_and_looks_at_the_rest(
        self, host: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def gone(*_: Any, **__: Any) -> Any:
            raise MeshkeepError("the agent is not running", code="agent_not_running", exit=Exit.NO_AGENT)

        next(host).append(self.WARN)
        monkeypatch.setattr(client, "call", gone)
        assert main(["doctor"]) == 1
        out = capsys.readouterr().out
        assert "the agent is not running" in out
        assert "what only the agent knows was not looked at" in out
        assert "no time server" in out

    def test_mending_is_for_root(self, host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        assert main(["doctor", "--fix"]) == Exit.NOT_PERMITTED

    def test_what_is_broken_comes_first_with_why_and_what_to_try(self) -> None:
        lines = list(page([Finding("zfs", "ok", "fine"), self.WARN, self.HOLD]))
        assert lines == [
            "FAIL  leftovers   a hold",
            "              why  why",
            "              try  sudo meshkeep doctor --fix",
            "warn  clock       no time server",
            "ok    zfs         fine",
        ]
        assert exit_level([self.WARN, self.HOLD]) == 1
