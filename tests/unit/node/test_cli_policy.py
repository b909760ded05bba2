"""policy, prune and snapshot as they are typed: against a real socket over the double of ZFS, and on paper."""

import json
import time
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from node.cli import main
from policy.naming import snapshot_name
from policy.rules import Kind
from tests.fakes.rules import HOUR, NOW, RuledHost, typed

RULES = """
[policy.home]
hourly = 3
daily = 2
monthly = 0

[dataset."tank/home"]
policy = "home"
"""
SANOID = """
[tank/home]
use_template = production

[tank/vm]
use_template = production
recursive = zfs

[template_production]
hourly = 2
daily = 0
monthly = 0
"""


@pytest.fixture
async def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RuledHost]:
    made = RuledHost(tmp_path)
    monkeypatch.setenv("MESHKEEP_SOCKET", str(tmp_path / "agent.sock"))
    monkeypatch.setattr("time.time", lambda: float(NOW))
    await made.zfs.create("tank/home", {})
    made.rules(RULES)
    api = made.serve(tmp_path / "agent.sock")
    await api.start()
    yield made
    await api.stop()


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> "Said":
    return Said(capsys)


class Said:
    """What the commands since the last look have printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.err = ""

    def out(self) -> str:
        found = self._capsys.readouterr()
        self.err = found.err
        return found.out

    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out())
        return found


async def full(home: RuledHost) -> list[str]:
    """Three hourly ones too many; those, oldest first."""
    await home.has("tank/home", "daily", [HOUR])
    return (await home.has("tank/home", "hourly", [hours * HOUR + 60 for hours in range(6)]))[:3]


class TestPolicy:
    async def test_list_is_a_table(self, home: RuledHost, said: Said) -> None:
        assert await typed("policy", "list") == 0
        header, row = said.out().splitlines()
        assert header.split() == ["POLICY", "DATASETS", "KEEP", "FROM"]
        assert row == f"home    1         hourly 3 · daily 2    {home.path / 'meshkeep.toml'}:2"

    async def test_show_says_where_each_value_is_set(self, home: RuledHost, said: Said) -> None:
        assert await typed("policy", "show", "home") == 0
        lines = {line.split()[0]: line.split()[1:] for line in said.out().splitlines()}
        assert lines["hourly"] == ["3", f"{home.path / 'meshkeep.toml'}:3"]
        assert lines["weekly"] == ["0", "default"]

    async def test_explain_says_all_of_one_dataset(self, home: RuledHost, said: Said) -> None:
        held, *_ = await full(home)
        await home.zfs.hold("mine", [held])
        await home.zfs.snapshot(["tank/home@zfs-auto-snap_x-2026"])
        assert await typed("policy", "explain", "tank/home") == 0
        lines = said.out().splitlines()
        file = home.path / "meshkeep.toml"
        assert lines[0] == f"policy   home     policy home, set on tank/home, {file}:8"
        assert lines[1] == f"keep     hourly 3 · daily 2     set at {file}:2"
        assert lines[2] == "now      6 hourly, 1 daily → 6 kept, 2 due to go"
        assert lines[3].startswith("next     hourly ")
        assert [line.split()[0] for line in lines[4:6]] == [
            "going",
            f"@{snapshot_name('hourly', NOW - 3 * HOUR - 60)}",
        ]
        assert lines[6] == f"pinned   @{held.partition('@')[2]} (held by mine)"
        assert lines[7] == "not ours 1 named zfs-auto-snap_x-*: left alone"

    async def test_explain_of_one_without_a_policy_says_why(self, home: RuledHost, said: Said) -> None:
        assert await typed("policy", "explain", "tank") == 0
        assert said.out() == "policy   none     no rule is for it\n"

    async def test_json_is_one_object_with_its_schema_before_and_behind(
        self, home: RuledHost, said: Said
    ) -> None:
        for words, schema in (
            (["policy", "list"], "policy-list"),
            (["policy", "show", "home"], "policy-show"),
            (["policy", "explain", "tank/home"], "policy-explain"),
            (["policy", "plan"], "policy-plan"),
            (["policy", "test", str(home.path / "meshkeep.toml")], "policy-test"),
            (["prune", "-n"], "prune-plan"),
            (["snapshot", "list", "tank/home"], "snapshot-list"),
        ):
            assert await typed(*words, "--json") == 0
            assert said.json()["schema"] == f"meshkeep.{schema}/1"
            assert await typed("--json", *words) == 0
            assert said.json()["schema"] == f"meshkeep.{schema}/1"

    async def test_test_says_the_difference(self, home: RuledHost, said: Said, tmp_path: Path) -> None:
        await full(home)
        other = tmp_path / "other.toml"
        other.write_text(
            RULES.replace("hourly = 3", "hourly = 1")
            .replace("policy.home", "policy.new")
            .replace('policy = "home"', 'policy = "new"')
        )
        assert await typed("policy", "test", str(other)) == 0
        text = said.out()
        assert "0 to take, 5 to destroy" in text
        assert "tank/home  home        new" in text
        assert "2 would be destroyed, and would stay by the rules in force" in text

    async def test_test_of_the_same_rules_says_so(self, home: RuledHost, said: Said) -> None:
        assert await typed("policy", "test", str(home.path)) == 0
        assert "the rules in force would do the same" in said.out()

    async def test_test_takes_a_sanoid_conf_and_tells_all_its_mistakes(
        self, home: RuledHost, said: Said, tmp_path: Path
    ) -> None:
        conf = tmp_path / "x.conf"
        conf.write_text(SANOID)
        assert await typed("policy", "test", str(conf)) == 0
        assert "tank/home" in said.out()
        conf.write_text("[tank]\nhurly = 1\nfoo = 2\n")
        assert await typed("policy", "test", str(conf)) == 4
        assert said.out() == ""
        assert f"{conf}:2" in said.err
        assert f"{conf}:3" in said.err

    async def test_test_takes_a_comment_that_is_not_utf8_and_says_so_of_a_value(
        self, home: RuledHost, said: Said, tmp_path: Path
    ) -> None:
        conf = tmp_path / "x.conf"
        conf.write_bytes(b"# caf\xe9\n" + SANOID.encode())
        assert await typed("policy", "test", str(conf)) == 0
        assert "tank/home" in said.out()
        conf.write_bytes(b"[tank]\npre_snapshot_script = caf\xe9\n")
        assert await typed("policy", "test", str(conf)) == 4
        said.out()
        assert f"{conf}:2: is not UTF-8 text" in said.err.replace("[tank] ", "")

    async def test_test_of_toml_that_is_not_utf8_is_exit_4(
        self, home: RuledHost, said: Said, tmp_path: Path
    ) -> None:
        (tmp_path / "x.toml").write_bytes(b"# caf\xe9\n")
        assert await typed("policy", "test", str(tmp_path / "x.toml")) == 4
        said.out()
        assert "is not UTF-8 text" in said.err

    async def test_plan_asks_the_agent_what_it_would_do_now(self, home: RuledHost, said: Said) -> None:
        going = await full(home)
        assert await typed("policy", "plan") == 0
        text = said.out()
        assert all(name in text for name in going)
        assert text.splitlines()[-1] == "0 to take, 3 to destroy"


class TestPrune:
    async def test_what_was_shown_is_what_runs(self, home: RuledHost, said: Said) -> None:
        going = await full(home)
        assert await typed("prune", "-n", "-v") == 0
        lines = said.out().splitlines()
        assert lines[1].split() == ["tank/home", "3", "at", "least", "0B", "4"]
        assert lines[2] == f"  {going[0]}  goes: hourly 6 of 3, older than 3 hours"
        plan = lines[-1].split()[1]
        assert lines[-1] == (
            f"plan {plan} · run it: sudo meshkeep prune --plan {plan}      (valid 15m, refused if snapshots change)"
        )
        assert set(going) <= set(home.there("tank/home"))
        assert await typed("prune", "--plan", plan) == 0
        assert said.out() == "3 snapshots destroyed\n"
        assert not set(going) & set(home.there("tank/home"))
        assert await typed("prune", "--plan", plan) == 7

    async def test_a_plan_that_does_not_fit_any_more_is_exit_7_and_says_what_changed(
        self, home: RuledHost, said: Said
    ) -> None:
        await full(home)
        await typed("prune", "-n", "--json")
        plan = said.json()["plan"]
        await home.zfs.snapshot(["tank/home@new"])
        assert await typed("prune", "--plan", plan) == 7
        said.out()
        assert "tank/home@new came" in said.err

    async def test_without_yes_or_a_terminal_nothing_goes(self, home: RuledHost, said: Said) -> None:
        going = await full(home)
        assert await typed("prune") == 7
        assert said.out() == ""
        assert "--yes" in said.err
        assert set(going) <= set(home.there("tank/home"))

    async def test_with_yes_it_goes_at_once(self, home: RuledHost, said: Said) -> None:
        going = await full(home)
        assert await typed("prune", "tank/home", "--yes", "--json") == 0
        done = said.json()
        assert (done["schema"], done["destroyed"]) == ("meshkeep.prune/1", going)

    async def test_nothing_to_do_needs_no_confirmation(self, home: RuledHost, said: Said) -> None:
        assert await typed("prune") == 0
        assert said.out() == "nothing is due to go\n"

    async def test_one_that_could_not_be_destroyed_is_exit_3(self, home: RuledHost, said: Said) -> None:
        going = await full(home)
        home.zfs.state.snap(going[0]).sending = 1
        assert await typed("prune", "--yes") == 3
        out = said.out()
        assert "2 snapshots destroyed" in out
        assert f"{going[0]}  stays: it is cloned or in use" in out

    async def test_says_what_only_a_replica_keeps(self, home: RuledHost, said: Said) -> None:
        going = await full(home)
        home.needed[home.guid(going[1])] = "cloud"
        assert await typed("prune", "-n") == 0
        assert "1 more is kept only because: needed by cloud" in said.out()

    async def test_says_that_pruning_is_deferred(self, home: RuledHost, said: Said) -> None:
        home.rules(RULES.replace("monthly = 0", "monthly = 0\nprune_defer = 80"))
        await full(home)
        assert await typed("prune", "-n") == 0
        assert "more than 80 % full (--force)" in said.out()
        assert await typed("prune", "-n", "--force") == 0
        assert "plan " in said.out()

    @pytest.mark.parametrize(
        "words", [["--plan", "x", "tank"], ["--plan", "x", "-n"], ["-r"], ["--plan", "x", "--force"]]
    )
    async def test_what_makes_no_sense_is_exit_2(self, home: RuledHost, words: list[str]) -> None:
        assert await typed("prune", *words) == 2


class TestSnapshot:
    async def test_list_says_why_each_is_kept(self, home: RuledHost, said: Said) -> None:
        going = await full(home)
        home.needed[home.guid(going[2])] = "cloud"
        assert await typed("snapshot", "list", "tank/home") == 0
        text = said.out()
        assert "hourly  goes: hourly 6 of 3, older than 3 hours" in text
        assert "hourly  hourly 1 of 3" in text
        assert "needed by cloud" in text

    async def test_hold_and_release(self, home: RuledHost, said: Said) -> None:
        for name in ("tank/home@a", "tank/home@b"):
            await home.zfs.snapshot([name])
        assert await typed("snapshot", "hold", "tank/home@a", "tank/home@b") == 0
        assert said.out() == "tank/home@a  held by keep\ntank/home@b  held by keep\n"
        await typed("snapshot", "hold", "tank/home@a", "--tag", "other")
        assert await typed("snapshot", "release", "tank/home@a") == 0
        assert said.out().splitlines()[-1] == "tank/home@a  released, still held by other"
        assert await typed("snapshot", "release", "tank/home@a", "--tag", "meshkeep:x") == 7
        assert await typed("snapshot", "release", "tank/home@a") == 9

    async def test_take_of_all_below(self, home: RuledHost, said: Said) -> None:
        await home.zfs.create("tank/home/x", {})
        assert await typed("snapshot", "take", "tank/home", "-r", "--name", "n") == 0
        assert said.out() == "tank/home@n  taken\ntank/home/x@n  taken\n"

    async def test_destroy_several_or_show_it_only(self, home: RuledHost, said: Said) -> None:
        await home.zfs.snapshot(["tank/home@a"])
        await home.zfs.snapshot(["tank/home@b"])
        words = ["snapshot", "destroy", "tank/home@a", "tank/home@b"]
        assert await typed(*words, "-n") == 0
        assert said.out() == "tank/home@a  would be destroyed\ntank/home@b  would be destroyed\n"
        assert await typed(*words) == 7
        assert len(home.there("tank/home")) == 2
        assert await typed(*words, "--yes") == 0
        assert home.there("tank/home") == []

    async def test_destroy_of_one_that_is_held_says_what_to_do(self, home: RuledHost, said: Said) -> None:
        await home.zfs.snapshot(["tank/home@a"])
        await home.zfs.hold("mine", ["tank/home@a"])
        assert await typed("snapshot", "destroy", "tank/home@a", "--yes") == 7
        said.out()
        assert "meshkeep snapshot release tank/home@a --tag 'mine'" in said.err

    @pytest.mark.parametrize("words", [["tank/home"], ["a:tank/x@a", "b:tank/x@b"], []])
    async def test_destroy_of_no_snapshot_or_on_two_nodes_is_exit_2(
        self, home: RuledHost, words: list[str]
    ) -> None:
        assert await typed("snapshot", "destroy", *words, "--yes") == 2


# -- on paper ----------------------------------------------------------------------------------------------------


def snap(dataset: str, kind: Kind, hours: int, number: int) -> dict[str, Any]:
    at = NOW - hours * HOUR
    return {
        "name": f"{dataset}@{snapshot_name(kind, at)}", "creation": at, "createtxg": number, "guid": number,
    }  # fmt: skip


class Paper:
    """Files of one plan on paper. There is no agent."""

    def __init__(self, path: Path, said: Said) -> None:
        self.path, self.said = path, said
        self.inventory: Any = {
            "datasets": [
                {"name": name, "type": "filesystem"} for name in ("tank", "tank/home", "tank/vm", "tank/vm/a")
            ],
            "snapshots": [
                *(snap("tank/home", "hourly", hours, 10 + hours) for hours in range(5)),
                snap("tank/vm/a", "hourly", 9, 5),
            ],
            "pools": [{"name": "tank", "capacity": 50}],
        }

    def plan(self, option: str, text: str, *words: str) -> int:
        self.write(text)
        return self.run(option, *words)

    def write(self, text: str) -> None:
        inventory = self.inventory if isinstance(self.inventory, str) else json.dumps(self.inventory)
        (self.path / "conf").write_text(text)
        (self.path / "inventory.json").write_text(inventory)

    def run(self, option: str, *words: str) -> int:
        conf, inventory = str(self.path / "conf"), str(self.path / "inventory.json")
        return main(
            ["policy", "plan", f"--{option}", conf, "--inventory", inventory, "--at", str(NOW), *words]
        )


@pytest.fixture
def paper(tmp_path: Path, said: Said, monkeypatch: pytest.MonkeyPatch) -> Paper:
    monkeypatch.setenv("MESHKEEP_SOCKET", str(tmp_path / "nobody.sock"))
    return Paper(tmp_path, said)


class TestOnPaper:
    def test_a_sanoid_conf_is_decided_by_contract(self, paper: Paper) -> None:
        assert paper.plan("sanoid-conf", SANOID, "--json") == 0
        plan = paper.said.json()
        assert plan["schema"] == "meshkeep.policy-plan/1"
        assert plan["take"] == [
            {"dataset": "tank/vm", "type": "hourly", "recursive": True, "reason": "no hourly snapshot yet"}
        ]
        names = [snap("tank/home", "hourly", hours, 0)["name"] for hours in (4, 3)]
        assert plan["prune"] == [
            {"snapshot": names[0], "reason": "hourly 5 of 2, older than 2 hours"},
            {"snapshot": names[1], "reason": "hourly 4 of 2, older than 2 hours"},
        ]
        assert plan["warnings"] == []

    def test_toml_is_decided_alike(self, paper: Paper) -> None:
        toml = (
            '[policy.p]\nhourly = 2\ndaily = 0\nmonthly = 0\n[dataset."tank/home"]\npolicy = "p"\n'
            '[dataset."tank/vm"]\npolicy = "p"\nrecursive = "zfs"\n'
        )
        assert paper.plan("config", toml, "--json") == 0
        ours = paper.said.json()
        paper.plan("sanoid-conf", SANOID, "--json")
        assert ours == paper.said.json()

    @pytest.mark.parametrize("option", ["sanoid-conf", "config"])
    def test_what_the_brake_would_hold_back_is_a_warning(self, paper: Paper, option: str) -> None:
        paper.inventory["snapshots"] = [
            snap("tank/home", "hourly", hours, 100 + hours) for hours in range(40)
        ]
        texts = {
            "sanoid-conf": "[tank/home]\nhourly = 2\ndaily = 0\nmonthly = 0\n",
            "config": '[policy.p]\nhourly = 2\ndaily = 0\nmonthly = 0\n[dataset."tank/home"]\npolicy = "p"\n',
        }
        assert paper.plan(option, texts[option], "--json") == 0
        plan = paper.said.json()
        assert len(plan["prune"]) == 37
        (warning,) = plan["warnings"]
        assert (warning["code"], warning["subject"]) == ("prune_waits", "tank/home")
        assert warning["text"].startswith("37 of the 40 snapshots of tank/home would go at once")

    def test_times_of_day_are_utc_or_those_of_the_zone_that_is_named(self, paper: Paper) -> None:
        local = datetime.fromtimestamp(NOW, ZoneInfo("Asia/Kolkata"))
        at = f"{local.hour:02}:{local.minute:02}"
        paper.inventory["snapshots"] = [snap("tank/home", "daily", 1, 1)]
        text = (
            f"[tank/home]\nhourly = 0\ndaily = 1\nmonthly = 0\ndaily_hour = {at[:2]}\ndaily_min = {at[3:]}\n"
        )
        assert paper.plan("sanoid-conf", text, "--json") == 0
        assert paper.said.json()["take"] == []
        assert paper.plan("sanoid-conf", text, "--json", "--timezone", "Asia/Kolkata") == 0
        assert [one["type"] for one in paper.said.json()["take"]] == ["daily"]

    @pytest.mark.parametrize("zone", ["Europe/Berlim", "", "../etc/passwd", "Europe"])
    def test_a_zone_that_is_none_is_exit_2(self, paper: Paper, zone: str) -> None:
        assert paper.plan("sanoid-conf", SANOID, "--timezone", zone) == 2
        assert paper.said.out() == ""
        assert "time zone" in paper.said.err

    def test_a_zone_beside_toml_is_exit_2(self, paper: Paper) -> None:
        assert paper.plan("config", "", "--timezone", "UTC") == 2

    def test_a_table_without_json(self, paper: Paper) -> None:
        assert paper.plan("sanoid-conf", SANOID) == 0
        lines = paper.said.out().splitlines()
        assert lines[0].split() == ["WOULD", "WHAT", "TYPE", "WHY"]
        assert lines[1].startswith("take     tank/vm and all below  ")
        assert lines[1].endswith("  hourly  no hourly snapshot yet")
        assert lines[-1] == "1 to take, 2 to destroy"

    def test_a_bad_file_is_exit_4_with_all_mistakes(self, paper: Paper) -> None:
        assert paper.plan("sanoid-conf", "[tank]\nhurly = 1\nfoo = 2\n", "--json") == 4
        assert paper.said.out() == ""
        error = json.loads(paper.said.err)
        conf = paper.path / "conf"
        assert [line.split()[0] for line in error["why"].splitlines()] == [f"{conf}:2:", f"{conf}:3:"]
        assert paper.plan("config", '[policy.p]\nhurly = 1\ndaily = "x"\n') == 4
        paper.said.out()
        assert f"{conf}:2" in paper.said.err
        assert f"{conf}:3" in paper.said.err

    def test_a_file_that_is_not_there_is_exit_4(self, paper: Paper, tmp_path: Path) -> None:
        paper.plan("sanoid-conf", SANOID)
        inventory = str(tmp_path / "inventory.json")
        missing = ["--sanoid-conf", str(tmp_path / "none"), "--inventory", inventory]
        assert main(["policy", "plan", *missing]) == 4

    @pytest.mark.parametrize(
        ("inventory", "told"),
        [
            ("{", "it is not JSON"),
            ("[]", "must be an object"),
            ({"datasets": [{"name": "a//b"}], "snapshots": [7]}, "snapshots[0]"),
            ("[" * 100_000, "it is not JSON"),
            ({"datasets": [{"name": "\ud800"}], "snapshots": []}, "datasets[0].name"),
        ],
        ids=["broken", "list", "mistakes", "deep", "surrogate"],
    )
    def test_a_bad_inventory_is_exit_2(self, paper: Paper, inventory: Any, told: str) -> None:
        paper.inventory = inventory
        assert paper.plan("sanoid-conf", SANOID) == 2
        assert paper.said.out() == ""
        assert told in paper.said.err

    @pytest.mark.parametrize("at", [0, 32_503_680_000])
    def test_at_may_be_long_ago_and_far_away(self, paper: Paper, at: int) -> None:
        assert paper.plan("sanoid-conf", SANOID, "--at", str(at)) == 0

    @pytest.mark.parametrize(
        "at", [-1, -62135596800, 32_503_680_001, 253402300799, 99999999999999, 10**30, "soon"]
    )
    def test_at_outside_of_the_calendar_is_exit_2(self, paper: Paper, at: object) -> None:
        assert paper.plan("sanoid-conf", SANOID, f"--at={at}") == 2
        assert paper.said.out() == ""
        assert "--at" in paper.said.err
        assert "Traceback" not in paper.said.err

    @pytest.mark.parametrize(
        "words",
        [
            ["--sanoid-conf", "x"],
            ["--at", "5"],
            ["--timezone", "UTC"],
            ["--inventory", "INVENTORY"],
            ["--inventory", "INVENTORY", "--sanoid-conf", "x", "--config", "y"],
            ["--inventory", "/nowhere"],
        ],
    )
    def test_half_a_question_is_exit_2(self, paper: Paper, words: list[str], tmp_path: Path) -> None:
        (tmp_path / "i.json").write_text("{}")
        given = [str(tmp_path / "i.json") if word == "INVENTORY" else word for word in words]
        assert main(["policy", "plan", *given]) == 2

    def test_replicas_of_others_get_no_policy(self, paper: Paper) -> None:
        paper.inventory["datasets"].append({"name": "tank/meshkeep/abcdefghijklmnop", "type": "filesystem"})
        assert paper.plan("sanoid-conf", "[tank]\nrecursive = yes\n", "--json") == 0
        taken = {one["dataset"] for one in paper.said.json()["take"]}
        assert taken == {"tank", "tank/home", "tank/vm", "tank/vm/a"}

    def test_a_thousand_datasets_and_a_hundred_thousand_snapshots_take_no_time(self, paper: Paper) -> None:
        names = [f"tank/d{number}" for number in range(1000)]
        paper.inventory = {
            "datasets": [{"name": name, "type": "filesystem"} for name in names],
            "snapshots": [
                snap(name, "hourly", hours, 100 * number + hours)
                for number, name in enumerate(names)
                for hours in range(100)
            ],
            "pools": [],
        }
        text = "".join(f"[{name}]\nuse_template = t\n" for name in names) + "[template_t]\nhourly = 36\n"
        paper.write(text)
        began = time.process_time()
        assert paper.run("sanoid-conf", "--json") == 0
        assert time.process_time() - began < 5, "it is about one"
        assert len(paper.said.json()["prune"]) == 63_000
