"""Every fault at every point of every scenario, one world each; and the table of what came of it."""

import asyncio
import json
import logging
import random
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from node.errors import MeshkeepError
from tests.faults.judge import Broken, Judge
from tests.faults.points import Point, Strike, points_of, strikes_at
from tests.faults.scenarios import SCENARIOS, Scenario
from tests.faults.world import Outcomes, world_of

RUNS = 6
"""After a fault, the work must be done within so many runs."""

RESULTS = Path(__file__).parents[2] / "build" / "faults.json"
TRY_AGAIN = 300
"""Seconds from a run that failed to the next."""


@dataclass(frozen=True, slots=True)
class Case:
    """One world. More than one strike: the second strikes while the first is being mended."""

    scenario: Scenario
    strikes: tuple[Strike, ...]

    def __str__(self) -> str:
        return f"{self.scenario.name}: {'; then '.join(map(str, self.strikes))}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What came of a case; `broken` is empty if all is well. `struck` counts the strikes that came to their point."""

    case: Case
    struck: int
    broken: str = ""


def count(scenario: Scenario, times: int = 2) -> list[Point]:
    """The points of a run of *scenario* in which nothing goes wrong; of *times* runs those that all have, for receipts
    are given for as many snapshots at once as have come in.
    """

    async def once() -> list[Point]:
        with tempfile.TemporaryDirectory() as scratch:
            async with world_of(Path(scratch)) as world:
                judge = Judge(world)
                world.obey(*scenario.rules)
                await scenario.prepare(judge)
                world.script.arm()
                await world.run()
                return points_of(world.script.calls)

    runs = [asyncio.run(once()) for _ in range(times)]
    always = set.intersection(*map(set, runs))
    return [point for point in runs[0] if point in always]


def cases(scenario: Scenario) -> list[Case]:
    """One for every fault at every point."""
    return [Case(scenario, (strike,)) for strike in strikes_at(count(scenario))]


def double(scenario: Scenario, rng: random.Random, number: int) -> Iterator[Case]:
    """Two strikes each, at random."""
    strikes = list(strikes_at(count(scenario)))
    for _ in range(number):
        yield Case(scenario, (rng.choice(strikes), rng.choice(strikes)))


def sample(seed: int, number: int) -> list[Case]:
    """*number* cases, some of every scenario, and every fault at least once."""
    rng = random.Random(seed)
    every = [cases(scenario) for scenario in SCENARIOS]
    for one in every:
        rng.shuffle(one)
    share = max(1, number // len(every))
    chosen = [case for one in every for case in one[:share]]
    seen = {case.strikes[0].fault for case in chosen}
    for case in [case for one in every for case in one[share:]]:
        if case.strikes[0].fault not in seen:
            seen.add(case.strikes[0].fault)
            chosen.append(case)
    return chosen


def judge_all(chosen: Sequence[Case]) -> list[Verdict]:
    """In order."""
    logging.disable(logging.CRITICAL)  # what the agents say of hundreds of faults is no news
    try:
        return [asyncio.run(_verdict(case)) for case in chosen]
    finally:
        logging.disable(logging.NOTSET)


async def _verdict(case: Case) -> Verdict:
    with tempfile.TemporaryDirectory() as scratch:
        async with world_of(Path(scratch)) as world:
            judge = Judge(world)
            try:
                await _live_through(case, judge)
            except AssertionError as broken:
                return Verdict(case, len(case.strikes) - len(world.script.left), str(broken))
            return Verdict(case, len(case.strikes) - len(world.script.left))


async def _live_through(case: Case, judge: Judge) -> None:
    world, scenario = judge.world, case.scenario
    world.obey(*scenario.rules)
    await scenario.prepare(judge)
    judge.look()
    world.script.arm(*case.strikes)
    for number in range(RUNS):
        before = len(world.script.left)
        outcomes = await world.run()
        _look(judge, outcomes)
        struck = case.strikes[len(case.strikes) - before : len(case.strikes) - len(world.script.left)]
        if any(strike.prune for strike in struck):
            await judge.prune()
        await world.revive()
        judge.look()
        if outcomes and all(job.state == "ok" for job in world.replicator.jobs):
            break
        if scenario.mend is not None and number == 0:
            await scenario.mend(judge)
        world.clock.now += TRY_AGAIN
    else:
        told = [(job.state, job.error.what if job.error else "") for job in world.replicator.jobs]
        raise Broken(f"not done after {RUNS} runs: {told}")
    world.script.disarm()
    await world.run()
    judge.look()
    judge.at_rest()


def _look(judge: Judge, outcomes: Outcomes) -> None:
    judge.look()
    for job in judge.world.replicator.jobs:
        outcome = outcomes.get((job.dataset, job.target))
        if outcome is not None:
            judge.after(job, failed=isinstance(outcome, MeshkeepError))


# -- the table ----------------------------------------------------------------------------------------------------


def table(verdicts: Sequence[Verdict]) -> list[dict[str, object]]:
    """One row for a scenario and a fault."""
    groups: dict[tuple[str, str], list[Verdict]] = {}
    for verdict in verdicts:
        key = verdict.case.scenario.name, verdict.case.strikes[0].fault
        groups.setdefault(key, []).append(verdict)
    return [
        {
            "scenario": scenario,
            "fault": fault,
            "points": len({one.case.strikes[0].point for one in group}),
            "runs": len(group),
            "missed": sum(one.struck == 0 for one in group),
            "failures": [f"{one.case}: {one.broken}" for one in group if one.broken],
        }
        for (scenario, fault), group in groups.items()
    ]


def record(part: str, rows: Sequence[dict[str, object]], where: Path = RESULTS) -> None:
    """Into *where*, beside what other parts of the tests found."""
    known = json.loads(where.read_text()) if where.exists() else {}
    where.parent.mkdir(parents=True, exist_ok=True)
    where.write_text(json.dumps(known | {part: list(rows)}, indent=1) + "\n")


def as_text(rows: Sequence[dict[str, object]]) -> str:
    """The table for people, with the first failures of each row."""
    lines = [f"{'scenario':24} {'fault':10} {'points':>6} {'runs':>6} {'failures':>8}"]
    for row in rows:
        failures = row["failures"]
        assert isinstance(failures, list)
        head = f"{row['scenario']!s:24} {row['fault']!s:10} {row['points']!s:>6} {row['runs']!s:>6}"
        lines += [f"{head} {len(failures):>8}", *(f"    {failure}" for failure in failures[:3])]
    return "\n".join(lines)
