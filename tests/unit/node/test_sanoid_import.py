"""Moving over from sanoid: the file means the same as the sanoid.conf, and is only written if nothing is in the way."""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from node import client
from node import settings as configuration
from node.cli import config as commands
from node.cli import main
from node.errors import Exit, MeshkeepError
from node.sanoid_import_text import as_toml
from node.sanoid_timer import UNKNOWN
from policy.import_sanoid import import_sanoid
from policy.rules import Policy, Resolution, resolve
from policy.sanoid_conf import read
from zfs.names import is_below

NAMES = ("a", "b", "x")
UNIVERSE = [
    "/".join(("tank", *rest))
    for rest in (
        (),
        *((p,) for p in NAMES),
        *((p, q) for p in NAMES for q in NAMES),
        ("a", "b", "a"),
        ("a", "b", "x"),
    )
]
TEMPLATES = ("one", "two", "default")
VALUES = {
    "hourly": ("0", "24", "48", "200000"),
    "daily": ("7", "30"),
    "frequent_period": ("5", "90"),
    "frequently": ("0", "4"),
    "monthly_mday": ("31",),
    "autosnap": ("yes", "no", "nO"),
    "autoprune": ("yes", "0"),
    "prune_defer": ("50",),
    "daily_warn": ("36", "2d", "0"),
    "monitor": ("no",),
    "pre_snapshot_script": ('/bin/echo "it\'s"', ""),
    "script_timeout": ("-1", "0", "90", "100000"),
    "capacity_warn": ("70", "99"),
    "recursive": ("yes", "zfs", "no", "true"),
    "process_children_only": ("yes", "no"),
    "skip_children": ("yes",),
}


@st.composite
def confs(draw: st.DrawFn) -> str:
    """Sections in any order, most of them short."""
    names = draw(st.lists(st.sampled_from([*UNIVERSE, "by path"]), min_size=1, max_size=6, unique=True))
    templates = draw(st.lists(st.sampled_from(TEMPLATES), max_size=3, unique=True))
    blocks = []
    for name in draw(st.permutations([*names, *(f"template_{one}" for one in templates)])):
        keys: dict[str, str] = {}
        for key in draw(st.lists(st.sampled_from([*VALUES]), max_size=4, unique=True)):
            keys[key] = draw(st.sampled_from(VALUES[key]))
        if not name.startswith("template_"):
            if draw(st.booleans()):
                keys["recursive"] = draw(st.sampled_from(("yes", "yes", "zfs")))
            if draw(st.booleans()):
                keys["use_template"] = draw(st.sampled_from(("one", "two", "one,two", "nowhere")))
            if name == "by path" or draw(st.integers(0, 9)) == 9:
                # What is inside of its own path would write over itself.
                paths = [one for one in UNIVERSE if not is_below(name, one)]
                keys["path"] = draw(st.sampled_from(paths))
        blocks.append("\n".join((f"[{name}]", *(f"  {key} = {value}" for key, value in keys.items()))))
    return "\n".join(blocks)


@st.composite
def trees(draw: st.DrawFn) -> list[str]:
    """Datasets, with all that is above each."""
    found = {"tank"}
    for name in draw(st.lists(st.sampled_from([*UNIVERSE, "tank/x/x/x/x", "tank/a/a/b/b"]), max_size=12)):
        parts = name.split("/")
        found |= {"/".join(parts[:end]) for end in range(1, len(parts) + 1)}
    return sorted(found)


def meaning(resolution: Resolution, dataset: str) -> Any:
    """What matters of what *dataset* gets: waiting for ever has two spellings, names are names, and
    a policy that does nothing is none.
    """
    tops = {
        top for top, chosen in resolution.chosen.items() if chosen.policy.autosnap and dataset in chosen.along
    }
    chosen = resolution.chosen.get(dataset)
    if chosen is None or not (
        chosen.policy.autosnap or chosen.policy.autoprune or chosen.policy.monitor.monitor
    ):
        return None, tops
    hooks = replace(chosen.policy.hooks, script_timeout=max(0, chosen.policy.hooks.script_timeout))
    return replace(chosen.policy, name="", loose_names=False, hooks=hooks), tops


def beyond_bounds(policy: Policy) -> bool:
    """What the file has no room for; the notes say so."""
    return policy.frequent_period > 60 or policy.hourly > 100_000


def by_file(text: str, datasets: list[str], loose_names: bool = False) -> tuple[Resolution, Resolution, Any]:
    """What sanoid.conf says, what the file made of it says, and the import."""
    conf = read([("sanoid.conf", text)])
    imported = import_sanoid(conf, loose_names=loose_names)
    made = configuration.parse([("made.toml", as_toml(imported, "sanoid.conf"))])
    assert made.policies == {one.policy.name: one.policy for one in imported.policies}
    assert made.assignments == imported.rules
    assert made.pools == imported.pools
    return conf.resolve(datasets), resolve(made.assignments, datasets, (), made.pools), imported


class TestTheFileMeansTheSame:
    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(confs(), trees())
    def test_every_dataset_gets_the_same_whatever_datasets_there_are(
        self, text: str, tree: list[str]
    ) -> None:
        theirs, ours, imported = by_file(text, tree)
        for dataset in tree:
            if imported.differs(dataset):
                continue
            chosen = theirs.chosen.get(dataset)
            if chosen is not None and beyond_bounds(chosen.policy):
                assert any(f"[{chosen.policy.name}]" in note for note in imported.notes)
                continue
            assert meaning(ours, dataset) == meaning(theirs, dataset), dataset

    @settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(confs())
    def test_without_zfs_recursion_and_path_nothing_is_left_unsaid(self, text: str) -> None:
        plain = "\n".join(
            line.replace("= zfs", "= yes") for line in text.splitlines() if not line.startswith("  path")
        )
        assert import_sanoid(read([("sanoid.conf", plain)])).differences == ()

    @pytest.mark.parametrize("loose", [True, False])
    def test_loose_names_are_written_if_wanted(self, loose: bool) -> None:
        _, ours, _ = by_file("[tank]", ["tank"], loose_names=loose)
        assert ours.chosen["tank"].policy.loose_names is loose


CONF = """\
[tank/home]
  use_template = prod
  recursive = yes
  daily_warn = 36h

[tank/home/scratch]
  use_template = prod
  hourly = 2
  pre_snapshot_script = say "hi"

[tank]
  capacity_warn = 70
  use_template = nowhere

[template_prod]
  hourly = 36
  daily = 14
"""
GOLDEN = """\
# Written by `meshkeep config import-sanoid` from /etc/sanoid; edit it as you like.
# What is not said here is as sanoid has it. Times of day are in UTC, as with sanoid's own units.

[policy.default]

[policy.prod]
hourly = 36  # sanoid.conf:16
daily = 14  # sanoid.conf:17

[policy.tank-home]
extends = "prod"
daily_warn = "36h"  # sanoid.conf:4

[policy.tank-home-scratch]
extends = "tank-home"
hourly = 2  # sanoid.conf:8
pre_snapshot_script = "say \\"hi\\""  # sanoid.conf:9

[pool.tank]
capacity_warn = 70  # sanoid.conf:12

[dataset.tank]  # sanoid.conf:11
policy = "default"

[dataset."tank/home"]  # sanoid.conf:1
policy = "tank-home"
recursive = true

[dataset."tank/home/scratch"]  # sanoid.conf:6
policy = "tank-home-scratch"
"""


class TestText:
    def test_reads_as_a_person_would_write_it(self) -> None:
        assert as_toml(import_sanoid(read([("sanoid.conf", CONF)])), "/etc/sanoid") == GOLDEN

    def test_the_time_zone_is_said_where_another_one_is_usual(self) -> None:
        text = as_toml(import_sanoid(read([("sanoid.conf", "[tank]")])), "x", "Europe/Berlin")
        made = configuration.parse([("main", '[snapshots]\ntimezone = "Europe/Berlin"'), ("import", text)])
        assert made.policies["default"].timezone == "UTC"

    def test_what_is_not_the_same_is_said_in_it(self) -> None:
        text = "[tank/a]\nrecursive = zfs\n[tank]\nrecursive = yes"
        assert "# NOT THE SAME: what is below tank/a" in as_toml(import_sanoid(read([("c", text)])), "x")


PLAN: dict[str, Any] = {
    "schema": "meshkeep.policy-test/1",
    "take": [],
    "prune": [{"snapshot": "tank/home@autosnap_2020-01-01_00:00:00_hourly", "reason": "hourly 49 of 48"}],
    "warnings": [],
    "changed": [],
    "difference": {"take_more": [], "take_less": [], "prune_more": ["x"], "prune_less": []},
    "waiting": {},
}
LOOSE = "tank/home@autosnap_mine_hourly"

Run = Callable[..., tuple[int, str, str]]


class Host:
    """A sanoid.conf and a configuration in a directory, and an agent that answers policy.test."""

    def __init__(self, root: Path, run: Run) -> None:
        self.sanoid, self.etc = root / "sanoid", root / "meshkeep"
        self.sanoid.mkdir()
        (self.etc / "conf.d").mkdir(parents=True)
        (self.sanoid / "sanoid.conf").write_text(CONF)
        self.file = self.etc / "conf.d" / "sanoid-import.toml"
        self.asked: list[Mapping[str, Any]] = []
        self.agent: MeshkeepError | None = None
        self.run = run

    def call(self, verb: str, args: Mapping[str, Any]) -> dict[str, Any]:
        if self.agent is not None:
            raise self.agent
        assert verb == "policy.test"
        self.asked.append(args)
        loosely = any("loose_names = true" in text for _, text in args["texts"])
        more = [{"snapshot": LOOSE, "reason": "hourly 50 of 48"}] if loosely else []
        return {**PLAN, "prune": [*PLAN["prune"], *more]}

    def imports(self, *words: str) -> tuple[int, str, str]:
        return self.run("config", "import-sanoid", str(self.sanoid), "--dir", str(self.etc), *words)

    def main(self, text: str) -> None:
        (self.etc / "meshkeep.toml").write_text(text)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Host:
    def run(*words: str) -> tuple[int, str, str]:
        code = main(words)
        out, err = capsys.readouterr()
        return code, out, err

    host = Host(tmp_path, run)
    monkeypatch.setattr(client, "call", host.call)
    monkeypatch.setattr(commands, "_sanoid_at_work", lambda: "")
    return host


NO_AGENT = MeshkeepError("the agent is not running", code="agent_not_running", exit=Exit.NO_AGENT)


class TestPrinting:
    def test_the_file_is_on_stdout_and_the_rest_on_stderr(self, host: Host) -> None:
        code, out, err = host.imports()
        assert code == 0
        assert configuration.parse([("made", out)]).assignments
        assert 'there is no template "nowhere"' in err
        assert not host.file.exists()

    def test_what_would_be_destroyed_is_shown(self, host: Host) -> None:
        _, _, err = host.imports()
        assert "autosnap_2020-01-01_00:00:00_hourly" in err
        assert f"1 that sanoid would destroy stay, for their names: {LOOSE}" in err

    def test_the_agent_is_asked_about_the_whole_configuration(self, host: Host) -> None:
        host.main("[snapshots]\n")
        host.imports()
        files = [file for file, _ in host.asked[0]["texts"]]
        assert files == [str(host.etc / "meshkeep.toml"), str(host.file)]

    def test_with_loose_names_sanoids_idea_of_names_holds(self, host: Host) -> None:
        _, out, err = host.imports("--loose-names")
        assert "loose_names = true" in out
        assert "for their names" not in err

    def test_without_an_agent_it_says_how_to_ask(self, host: Host) -> None:
        host.agent = NO_AGENT
        code, out, err = host.imports()
        assert (code, "[policy.prod]" in out) == (0, True)
        assert "meshkeep policy test FILE" in err

    def test_sanoid_at_work_is_a_warning(self, host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(commands, "_sanoid_at_work", lambda: "sanoid.timer is active")
        code, _, err = host.imports()
        assert (code, "sanoid still runs here" in err) == (0, True)

    def test_json_has_it_all(self, host: Host) -> None:
        code, out, err = host.imports("--json")
        result = json.loads(out)
        assert (code, err) == (0, "")
        assert result["schema"] == "meshkeep.config-import-sanoid/1"
        assert result["toml"].startswith("# Written by")
        assert result["test"]["prune"] == PLAN["prune"]
        assert result["loosely_named"] == [LOOSE]
        assert (result["differences"], result["obstacles"], result["file"]) == ([], [], None)
        assert any("nowhere" in note for note in result["notes"])

    def test_a_new_file_is_written_and_an_old_one_is_not_written_over(
        self, host: Host, tmp_path: Path
    ) -> None:
        out = tmp_path / "new.toml"
        assert host.imports("--out", str(out))[0] == 0
        assert "[policy.prod]" in out.read_text()
        out.write_text("mine")
        assert host.imports("--out", str(out))[0] == Exit.REFUSED
        assert out.read_text() == "mine"

    def test_a_sanoid_conf_with_mistakes_shows_them_all(self, host: Host) -> None:
        (host.sanoid / "sanoid.conf").write_text("[tank]\nhurly = 3\ndayly = 4\n")
        code, out, err = host.imports()
        assert (code, out) == (Exit.CONFIG, "")
        assert all(word in err for word in ("sanoid.conf:2", "hurly", "sanoid.conf:3", "dayly"))

    def test_none_at_all_is_not_found(self, host: Host) -> None:
        (host.sanoid / "sanoid.conf").unlink()
        assert host.imports()[0] == Exit.NOT_FOUND


class TestApplying:
    def test_writes_the_file_and_says_what_comes_next(self, host: Host) -> None:
        code, out, err = host.imports("--apply")
        assert code == 0
        assert "meshkeep config reload" in out
        assert "autosnap_2020-01-01_00:00:00_hourly" in err
        made = configuration.load(configuration.config_files(host.etc))
        assert [rule.dataset for rule in made.assignments] == ["tank", "tank/home", "tank/home/scratch"]

    @pytest.mark.parametrize(
        ("at_work", "stop"),
        [
            ("sanoid.timer is active", "systemctl disable --now sanoid.timer"),
            ("/etc/cron.d/sanoid is there", "mv /etc/cron.d/sanoid"),
            (UNKNOWN, "systemctl disable --now sanoid.timer"),
        ],
    )
    def test_refuses_beside_a_sanoid_that_runs(
        self, host: Host, monkeypatch: pytest.MonkeyPatch, at_work: str, stop: str
    ) -> None:
        monkeypatch.setattr(commands, "_sanoid_at_work", lambda: at_work)
        code, _, err = host.imports("--apply")
        assert code == Exit.REFUSED
        assert f"sudo {stop}" in err
        assert "&& sudo meshkeep config import-sanoid --apply" in err
        assert not host.file.exists()

    def test_refuses_to_write_over_an_earlier_one(self, host: Host) -> None:
        host.file.write_text("# mine\n")
        assert host.imports("--apply")[0] == Exit.REFUSED
        assert host.file.read_text() == "# mine\n"

    def test_refuses_where_sanoids_own_file_is_in_use(self, host: Host) -> None:
        host.main('[snapshots]\nsanoid = "/etc/sanoid"\n')
        code, _, err = host.imports("--apply")
        assert (code, "is in use as it is" in err, host.file.exists()) == (Exit.REFUSED, True, False)

    @pytest.mark.parametrize(
        "text",
        [
            '[policy.p]\n[dataset.tank]\npolicy = "p"\n',
            "[policy.p]\nhurly = 3\n",
            "[policy",
            "[pool.tank]\ncapacity_warn = 75",
        ],
        ids=["the same dataset", "a mistake of its own", "no TOML", "the same pool"],
    )
    def test_changes_nothing_if_the_whole_would_have_mistakes(self, host: Host, text: str) -> None:
        host.main(text)
        code, _, err = host.imports("--apply")
        assert (code, host.file.exists()) == (Exit.CONFIG, False)
        assert "meshkeep.toml" in err

    def test_leaves_the_policies_alone_that_are_there(self, host: Host) -> None:
        host.main("[policy.prod]\nhourly = 1\n")
        assert host.imports("--apply")[0] == 0
        made = configuration.load(configuration.config_files(host.etc)).policies
        assert (made["prod"].hourly, made["prod"].daily, made["prod-2"].hourly) == (1, 90, 36)

    def test_takes_either_apply_or_out(self, host: Host) -> None:
        assert host.imports("--apply", "--out", "x")[0] == Exit.USAGE


class TestShow:
    def test_every_value_with_the_line_that_set_it(self, host: Host) -> None:
        host.main("[policy.home]\nhourly = 24\n")
        code, out, _ = host.run("config", "show", "--origin", "--dir", str(host.etc))
        lines = out.splitlines()
        assert code == 0
        assert any(line.startswith("hourly = 24") and line.endswith("meshkeep.toml:2") for line in lines)
        assert any(line.startswith("daily = 90") and line.endswith("# default") for line in lines)

    def test_json(self, host: Host) -> None:
        host.main("[policy.home]\nhourly = 24\n")
        result = json.loads(host.run("config", "show", "--json", "--dir", str(host.etc))[1])
        assert result["schema"] == "meshkeep.config-show/1"
        values = {one["key"]: one for one in result["values"]}
        origin = {"file": str(host.etc / "meshkeep.toml"), "line": 2}
        assert values["policy.home.hourly"] == {"key": "policy.home.hourly", "value": 24, "origin": origin}
        assert values["policy.home.daily"]["origin"] is None

    def test_a_configuration_with_mistakes_shows_those(self, host: Host) -> None:
        host.main("[policy.home]\nhurly = 24\n")
        assert host.run("config", "show", "--dir", str(host.etc))[0] == Exit.CONFIG

    def test_the_schema_is_one_json_object(self, host: Host) -> None:
        code, out, _ = host.run("config", "schema")
        assert (code, json.loads(out)["title"]) == (0, "Document")
        assert json.loads(host.run("config", "schema", "--json")[1])["schema"] == "meshkeep.config-schema/1"
