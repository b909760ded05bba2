"""Agents that die, workers, streams and connections that break, at every call of a run: a slice here, all in soak."""

import random

import pytest

from tests.faults.matrix import Case, Verdict, as_text, cases, double, judge_all, record, sample, table
from tests.faults.points import MEANING
from tests.faults.scenarios import SCENARIOS

SEED = 20
SLICE = 24
DOUBLE = 40


MISSED = 0.05
"""The share of strikes whose point may not come: how many receipts are given at once is a matter of timing."""


def all_is_well(part: str, verdicts: list[Verdict], *, missed: float = MISSED) -> None:
    rows = table(verdicts)
    record(part, rows)
    print("\n" + as_text(rows))
    broken = [f"{verdict.case}\n    {verdict.broken}" for verdict in verdicts if verdict.broken]
    assert not broken, "\n".join(broken[:10])
    unstruck = [str(verdict.case) for verdict in verdicts if not verdict.struck]
    assert len(unstruck) <= missed * len(verdicts), unstruck[:10]


def test_a_slice_of_all_scenarios_and_faults() -> None:
    chosen = sample(SEED, SLICE)
    assert {case.strikes[0].fault for case in chosen} >= set(MEANING) - {"half"}
    all_is_well("in process, a slice", judge_all(chosen))


@pytest.mark.soak
def test_every_fault_at_every_point() -> None:
    chosen: list[Case] = [case for scenario in SCENARIOS for case in cases(scenario)]
    all_is_well("in process", judge_all(chosen))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(5))
def test_a_second_fault_while_the_first_is_mended(seed: int) -> None:
    rng = random.Random(seed)
    chosen = [case for scenario in SCENARIOS for case in double(scenario, rng, DOUBLE)]
    all_is_well(f"in process, two faults, seed {seed}", judge_all(chosen))
