"""The configuration in effect: every value, and the line that set it."""

import tomllib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node import settings
from node.quantities import parse_duration
from node.settings_show import as_toml, effective, json_schema
from node.settings_text import dotted_key, duration, literal

MAIN = """\
[snapshots]
timezone = "Europe/Berlin"

[policy.base]
hourly = 36
daily_warn = "36h"
keep_every = { "1w" = 4 }

[policy.home]
extends = "base"
daily = 14
pre_snapshot_script = "say \\"hello\\""

[dataset."tank/my home"]
policy = "home"
recursive = "zfs"

[pool.tank]
capacity_warn = 70

[[replicate]]
from = "tank/my home"
to = "cloud"
"""
MORE = """\
[[replicate]]
from = "tank"
to = ["cloud", "nas"]
rate_limit = "8MiB/s"

[[share]]
dataset = "tank/my home"
to = "laptop"
"""
TEXTS = [("/etc/m.toml", MAIN), ("/etc/more.toml", MORE)]


def place(key: tuple[str | int, ...]) -> str:
    found = next(value for value in effective(TEXTS) if value.path == key)
    return f"{found.origin.file}:{found.origin.line}" if found.origin else "default"


class TestEffective:
    @pytest.mark.parametrize(
        ("key", "where"),
        [
            (("policy", "home", "daily"), "/etc/m.toml:11"),
            (("policy", "home", "hourly"), "/etc/m.toml:5"),
            (("policy", "home", "timezone"), "/etc/m.toml:2"),
            (("policy", "home", "weekly"), "default"),
            (("dataset", "tank/my home", "exclude"), "default"),
            (("replicate", 1, "rate_limit"), "/etc/more.toml:4"),
            (("mesh", "listen_port"), "default"),
            (("pool", "tank", "capacity_crit"), "default"),
        ],
    )
    def test_says_where_each_value_was_set(self, key: tuple[str | int, ...], where: str) -> None:
        assert place(key) == where

    def test_as_a_file_it_means_the_same(self) -> None:
        shown = "\n".join(as_toml(effective(TEXTS), origins=True))
        was, now = settings.parse(TEXTS), settings.parse([("shown", shown)])
        assert now.policies == was.policies
        assert now.assignments == was.assignments
        assert now.pools == was.pools
        assert (now.mesh, now.tick, now.sanoid, now.metrics) == (was.mesh, was.tick, was.sanoid, was.metrics)
        assert [replace(rule, origin=None) for rule in now.replicate] == [  # type: ignore[arg-type]
            replace(rule, origin=None)  # type: ignore[arg-type]
            for rule in was.replicate
        ]
        assert len(now.shares) == 1

    def test_nothing_at_all_shows_the_defaults(self) -> None:
        lines = as_toml(effective([]), origins=True)
        assert any(line.startswith('tick = "1m"') and line.endswith("# default") for line in lines)
        assert any(line.startswith("# listen") and line.endswith("# not set") for line in lines)

    def test_has_every_key_that_there_is(self) -> None:
        shown = {value.path[-1] for value in effective(TEXTS) if value.path[:2] == ("policy", "home")}
        assert shown == set(settings.PolicySection.model_fields) - {"extends"}


class TestSchema:
    """What an editor is told of a file is what the file may say."""

    @pytest.mark.parametrize(
        ("model", "key", "type_", "default"),
        [
            ("PolicySection", "daily", "integer", 90),
            ("PolicySection", "autosnap", "boolean", True),
            ("SnapshotsSection", "tick", "string", "1m"),
            ("PoolSection", "capacity_warn", None, 80),
        ],
    )
    def test_types_and_defaults_are_those_of_the_file(
        self, model: str, key: str, type_: str | None, default: object
    ) -> None:
        found = json_schema()["$defs"][model]["properties"][key]
        assert (found.get("type"), found["default"]) == (type_, default)

    def test_a_duration_is_text_and_a_list_of_one_may_be_text(self) -> None:
        sections = json_schema()["$defs"]
        ages, nodes = (
            sections[a]["properties"][b] for a, b in (("PolicySection", "daily_warn"), ("ShareSection", "to"))
        )
        assert {"string", "integer"} == {one["type"] for one in ages["anyOf"]}
        assert {"string", "array"} == {one["type"] for one in nodes["anyOf"]}

    def test_unknown_keys_are_mistakes(self) -> None:
        assert all(one["additionalProperties"] is False for one in json_schema()["$defs"].values())


class TestText:
    @given(st.text(st.characters(codec="utf-8")))
    def test_any_text_is_read_back(self, text: str) -> None:
        read = tomllib.loads(f"{dotted_key('a', text)} = {literal(text)}")
        assert read == {"a": {text: text}}

    @given(st.integers(0, 10**9))
    def test_a_duration_is_read_back(self, seconds: int) -> None:
        assert parse_duration(duration(seconds)) == seconds

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(0, "0s"), (1, "1s"), (5400, "90m"), (28 * 3600, "28h"), (32 * 86400, "32d"), (86400, "24h")],
    )
    def test_durations_as_people_write_them(self, seconds: int, text: str) -> None:
        assert duration(seconds) == text

    def test_what_is_no_setting_is_refused(self) -> None:
        with pytest.raises(TypeError):
            literal(1.5)
