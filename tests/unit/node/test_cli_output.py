"""What people see: the status screen, progress, sizes and times."""

from datetime import datetime
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.cli import output, values
from node.cli.invite import split_address
from node.cli.progress import Progress
from node.cli.status import screen

NOW = 1_800_000_000.0
GIB = 1 << 30


def person(
    name: str, state: str, path: str | None, seen: float | None, role: str = "member"
) -> dict[str, Any]:
    return {"name": name, "id": "x", "role": role, "address": "fd5a::1", "state": state, "path": path} | {
        "seen": seen
    }


class TestStatus:
    def test_shows_nodes_datasets_and_problems(self) -> None:
        result = {
            "mesh": "home-mesh",
            "node": "laptop",
            "version": "1.2.0",
            "nodes": [
                person("laptop", "self", None, NOW, "admin"),
                person("vps1", "alive", "direct 203.0.113.7:51820", NOW - 3, "vault"),
                person("desk", "down", None, NOW - 2 * 86400),
                person("new", "suspect", "direct 192.0.2.1:51820", None),
            ],
            "datasets": [
                {
                    "name": "tank/home",
                    "node": "laptop",
                    "snapshots": 42,
                    "newest": NOW - 720,
                    "replicas": [
                        {"node": "nas", "as_of": NOW - 720, "state": "ok"},
                        {"node": "vps1", "as_of": NOW - 800, "state": "ok"},
                    ],
                },
                {
                    "name": "tank/vm",
                    "node": "desk",
                    "snapshots": 90,
                    "newest": None,
                    "replicas": [
                        {"node": "vps1", "as_of": NOW - 26 * 3600, "state": "late"},
                        {"node": "nas", "as_of": None, "state": "waiting"},
                    ],
                },
                {"name": "tank/tmp", "node": "laptop", "snapshots": 0, "newest": None, "replicas": []},
            ],
            "problems": [
                {"code": "x", "text": "tank/vm is behind", "try": "meshkeep status"},
                {"code": "y", "text": "no way to desk", "try": ""},
            ],
        }
        assert (
            "\n".join(screen(result, NOW))
            == """\
home-mesh · 4 nodes, 2 away · laptop (this node) · v1.2.0 · 2 problems

NODE    ADDRESS  PATH                            ROLE    SEEN
laptop  fd5a::1  this node                       admin   now
vps1    fd5a::1  direct 203.0.113.7:51820        vault   3s ago
desk    fd5a::1  down                            member  2d ago
new     fd5a::1  suspect direct 192.0.2.1:51820  member  never

DATASET       SNAPSHOTS     PROTECTED ON  AS OF              STATE
tank/home     42  last 12m  nas, vps1     nas 12m, vps1 13m  ok
desk:tank/vm  90            vps1          vps1 26h           vps1: late, nas: waiting
tank/tmp      0             nobody        -                  -

warning  tank/vm is behind
    try  meshkeep status

warning  no way to desk"""
        )

    def test_of_a_host_in_no_mesh_says_so(self) -> None:
        assert list(screen({"mesh": None, "version": "1"}, NOW)) == ["this host is in no mesh · v1"]


def event(done: int, total: int = 100 * GIB, **more: Any) -> dict[str, Any]:
    return {"bytes_done": done, "bytes_total": total, **more}


class TestProgressInAPipe:
    def test_is_a_line_per_tenth(self) -> None:
        progress = Progress("a → b", bar=False)
        said = [progress.feed(event(percent * GIB), percent * 0.01) for percent in range(101)]
        shown = [text for text in said if text]
        assert len(shown) == 11
        assert shown[0] == "a → b  0%  0B / 100G\n"
        assert shown[-1] == "a → b  100%  100G / 100G\n"

    def test_and_a_line_per_minute_when_it_is_slow(self) -> None:
        progress = Progress("a → b", bar=False)
        said = [progress.feed(event(GIB, rate=1 << 20), float(second)) for second in range(181)]
        assert [second for second, text in enumerate(said) if text] == [0, 60, 120, 180]
        assert said[0] == "a → b  1%  1G / 100G  1.0 MiB/s  ETA 28h\n"

    def test_says_the_step_and_the_snapshot(self) -> None:
        text = Progress("x", bar=False).feed(event(GIB, 2 * GIB, step=1, steps=3, snapshot="t/h@s"), 0)
        assert text == "x  step 1/3  50%  1G / 2G  @s\n"

    def test_says_a_note_once(self) -> None:
        progress = Progress("join", bar=False)
        said = [progress.feed({"state": text}, 0) for text in ("waiting", "waiting", "talking", "waiting")]
        assert said == ["join: waiting\n", None, "join: talking\n", "join: waiting\n"]
        assert progress.feed({"state": "dialling", "address": "a:1"}, 0) == "join: dialling a:1\n"


class TestProgressAtATerminal:
    def test_redraws_one_line(self) -> None:
        text = Progress("a → b", bar=True).feed(event(38 * GIB, rate=24 << 20, step=9, steps=26), 0)
        assert text == (
            "\r\x1b[Ka → b  step 9/26  [==============>-----------------------]  38%  38G / 100G  "
            "24.0 MiB/s  ETA 44m"
        )

    @given(st.integers(0, 1 << 50), st.integers(0, 1 << 50), st.integers(0, 1 << 40))
    def test_never_grows_beyond_the_bar(self, done: int, total: int, rate: int) -> None:
        text = Progress("x", bar=True).feed(event(done, total, rate=rate), 0)
        assert text is not None
        assert len(text.partition("[")[2].partition("[")[2].partition("]")[0]) == 38


class TestQuantities:
    @pytest.mark.parametrize(
        ("count", "text"),
        [
            (0, "0B"),
            (999, "999B"),
            (1024, "1K"),
            (65536, "64K"),
            (1_330_000_000_000, "1.21T"),
            (310 * GIB, "310G"),
            (int(2.1 * GIB), "2.10G"),
            (1023, "1023B"),
            (1023 * 1024 + 1, "1023K"),
            (1 << 70, "1048576P"),
        ],
    )
    def test_sizes_look_as_in_zfs_list(self, count: int, text: str) -> None:
        assert output.size(count) == text

    @pytest.mark.parametrize(
        ("seconds", "text"),
        [(-5, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (26 * 3600, "26h"), (48 * 3600, "2d")],
    )
    def test_spans_are_rounded_down(self, seconds: float, text: str) -> None:
        assert output.span(seconds) == text

    @pytest.mark.parametrize(
        ("text", "seconds"), [("90", 90), ("1h", 3600), ("1h30m", 5400), ("30d", 2592000)]
    )
    def test_durations(self, text: str, seconds: int) -> None:
        assert values.duration(text) == seconds

    @pytest.mark.parametrize("text", ["", "0", "-1", "h", "1y", "١h", "1 h x"])
    def test_no_durations(self, text: str) -> None:
        with pytest.raises(click.BadParameter):
            values.duration(text)

    @given(st.text())
    def test_anything_is_a_value_or_a_bad_parameter(self, text: str) -> None:
        for read in (values.duration, values.size, values.name):
            try:
                assert read(text)
            except click.BadParameter:
                continue


@pytest.mark.parametrize("seconds", [253_402_400_000, -(10**12), 2**63, 10**30])
def test_a_time_beyond_the_calendar_is_told_in_seconds(seconds: int) -> None:
    assert output.clock(seconds) == f"@{seconds:.0f}"


def test_a_time_is_told_to_the_minute() -> None:
    assert output.clock(datetime(2026, 11, 3, 10, 0, 7).timestamp()) == "2026-11-03 10:00"


class TestPlaces:
    @pytest.mark.parametrize(
        ("text", "node", "dataset"),
        [
            ("tank/home", None, "tank/home"),
            ("cloud:tank/home", "cloud", "tank/home"),
            ("tank/a:b", None, "tank/a:b"),
            ("cloud:tank/a:b", "cloud", "tank/a:b"),
            ("cloud:tank/home@auto_10:00:00_hourly", "cloud", "tank/home@auto_10:00:00_hourly"),
            ("tank/home@auto_10:00:00_hourly", None, "tank/home@auto_10:00:00_hourly"),
            ("cloud:", None, "cloud:"),
            ("Cloud:tank", None, "Cloud:tank"),
        ],
    )  # fmt: skip
    def test_a_node_is_what_stands_before_the_first_colon(
        self, text: str, node: str | None, dataset: str
    ) -> None:
        assert values.located(text) == (node, dataset)

    @pytest.mark.parametrize(
        ("text", "host", "port"),
        [
            ("192.0.2.1", "192.0.2.1", None),
            ("192.0.2.1:51821", "192.0.2.1", 51821),
            ("vm.example:1", "vm.example", 1),
            ("2001:db8::1", "2001:db8::1", None),
            ("[2001:db8::1]", "2001:db8::1", None),
            ("[2001:db8::1]:65535", "2001:db8::1", 65535),
        ],
    )
    def test_addresses(self, text: str, host: str, port: int | None) -> None:
        assert split_address(text) == (host, port)

    @pytest.mark.parametrize(
        "text", ["", ":1", "a:", "a:x", "a:0", "a:65536", "[::1", "[::1]x", "[]:1", "a:١"]
    )
    def test_no_addresses(self, text: str) -> None:
        with pytest.raises(ValueError, match="no "):
            split_address(text)
