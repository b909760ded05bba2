"""meshkeep simulate: contract 2 of the design, and what it says to people."""

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest

from node.cli import main

SMALL = ["simulate", "--nodes", "8", "--kill", "2", "--minutes", "1"]


def told(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(list(words)) == 0
    return capsys.readouterr().out


def test_the_same_seed_is_the_same_result_byte_for_byte(capsys: pytest.CaptureFixture[str]) -> None:
    first = told(capsys, *SMALL, "--json")
    assert told(capsys, *SMALL, "--json") == first
    assert told(capsys, *SMALL, "--seed", "2", "--json") != first


def test_its_fields(capsys: pytest.CaptureFixture[str]) -> None:
    result = json.loads(told(capsys, *SMALL, "--partition", "3:60", "--loss", "0.05", "--json"))
    assert result["schema"] == "meshkeep.simulate/1"
    assert result["period_s"] == 2.0
    assert result["kills"] == 2
    assert 0 < result["detect_first_s"]["mean"] < result["detect_all_s"]["mean"] < 60
    assert set(result["detect_all_s"]) == {"mean", "p50", "p99"}
    assert result["false_positives"] == 0
    assert 100 < result["bytes_per_node_s"] < 300
    assert result["healed_s"] is not None


def test_without_a_kill_or_a_cut_there_is_nothing_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    result = json.loads(told(capsys, "simulate", "--nodes", "4", "--minutes", "0", "--json"))
    assert result["detect_first_s"] == {"mean": None, "p50": None, "p99": None}
    assert result["healed_s"] is None
    assert result["kills"] == 0


def test_what_a_person_reads(capsys: pytest.CaptureFixture[str]) -> None:
    lines = told(capsys, *SMALL).splitlines()
    assert lines[0] == "nodes            8, seed 1, loss 0%"
    assert [line[:16].strip() for line in lines[1:]] == [
        "all met after",
        "first suspicion",
        "all know",
        "wrongly down",
        "traffic",
    ]


def test_the_picture_is_drawn(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture = tmp_path / "spread.svg"
    told(capsys, *SMALL, "--plot", str(picture))
    root = ElementTree.parse(picture).getroot()
    lines = root.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--nodes", "1"], "1 is not in the range"),
        (["--partition", "3"], "'3' is not N:SECONDS, like 3:60"),
        (["--nodes", "4", "--partition", "4:10"], "cannot cut 4 of 4 nodes off"),
        (["--nodes", "4", "--slow", "3"], "leave fewer than two others"),
        (["--plot", "x.svg"], "needs --kill"),
    ],
)
def test_what_makes_no_sense_is_refused(
    capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    assert main(["simulate", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_picture_that_cannot_be_written_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main([*SMALL, "--plot", str(tmp_path / "none" / "x.svg")]) == 1
    assert "cannot write" in capsys.readouterr().err
