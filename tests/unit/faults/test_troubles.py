"""Trouble in the middle of a stream, agents of other versions, and two sources that race for one target."""

import asyncio
import copy
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from node.errors import MeshkeepError
from node.replicator import Replicator, RuleSpec
from tests.fakes.workers import FakeWorkers
from tests.fakes.zfs import FakeZfs
from tests.faults.judge import Judge
from tests.faults.scenarios import chain, resume_in_a_chain
from tests.faults.troubles import TROUBLES, Trouble, fields_of, live_through, with_more, without
from tests.faults.world import World, world_of

RULE = RuleSpec("tank/home", "cloud")


@pytest.fixture
async def judge(tmp_path: Path) -> AsyncIterator[Judge]:
    async with world_of(tmp_path) as world:
        world.obey(RULE)
        yield Judge(world)


@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.name)
async def test_in_the_middle_of_a_stream(judge: Judge, trouble: Trouble) -> None:
    await live_through(trouble, judge)


# -- agents of two versions ----------------------------------------------------------------------------------------


async def done(judge: Judge) -> None:
    """The next run finishes, and nothing is left over."""
    judge.look()
    judge.world.clock.now += 300
    await judge.world.run()
    await judge.world.run()
    assert [job.state for job in judge.world.replicator.jobs] == ["ok"], [
        job.error for job in judge.world.replicator.jobs
    ]
    judge.look()
    judge.at_rest()


@pytest.mark.parametrize("prepare", [chain, resume_in_a_chain])
async def test_a_peer_that_says_more_than_is_known_here(
    judge: Judge, prepare: Callable[[Judge], Awaitable[None]]
) -> None:
    await prepare(judge)
    judge.world.answer = lambda _, said: with_more(said)
    judge.world.hear = lambda _, args: with_more(args)
    outcomes = await judge.world.run()
    assert [job.state for job in judge.world.replicator.jobs] == ["ok"], outcomes
    await done(judge)


async def spoken(where: Path) -> list[tuple[str, str, tuple[str, ...]]]:
    """(asked or answered, verb, field) of all that is said in a run."""
    found: dict[tuple[str, str, tuple[str, ...]], None] = {}

    def listen(kind: str, verb: str, said: dict[str, Any]) -> dict[str, Any]:
        found.update(dict.fromkeys((kind, verb, path) for path in sorted(fields_of(said))))
        return said

    async with world_of(where) as world:
        world.obey(RULE)
        world.answer = lambda verb, said: listen("answered", verb, said)
        world.hear = lambda verb, args: listen("asked", verb, args)
        await resume_in_a_chain(Judge(world))
        await world.run()
    return list(found)


async def test_a_peer_that_does_not_say_something_yet(tmp_path: Path) -> None:
    everything = await spoken(tmp_path / "all")
    assert len(everything) > 10
    for number, (kind, verb, path) in enumerate(everything):
        async with world_of(tmp_path / str(number)) as world:
            await one_field_less(Judge(world), kind, verb, path)


async def one_field_less(judge: Judge, kind: str, verb: str, path: tuple[str, ...]) -> None:
    """It works all the same, or is refused in words; never an error that nobody thought of."""

    def drop(said_verb: str, said: dict[str, Any]) -> dict[str, Any]:
        return dict(without(said, path)) if said_verb == verb else said

    world = judge.world
    world.obey(RULE)
    await resume_in_a_chain(judge)
    hear, answer = world.hear, world.answer
    if kind == "asked":
        world.hear = drop
    else:
        world.answer = drop
    outcomes = await world.run()
    for job in world.replicator.jobs:
        outcome = outcomes[job.dataset, job.target]
        where = f"without {'.'.join(path)} {kind} in {verb}"
        if isinstance(outcome, MeshkeepError):
            assert outcome.code not in ("zfs_failed", "failed"), f"{where}: {outcome}"
        judge.after(job, failed=isinstance(outcome, MeshkeepError))
    world.hear, world.answer = hear, answer
    try:
        await done(judge)
    except AssertionError as error:
        raise AssertionError(f"{where}, {outcomes}: {error}") from error


# -- two sources ---------------------------------------------------------------------------------------------------


def twin_of(world: World) -> tuple[FakeZfs, Replicator]:
    """A second home with all that the first has, as from a copy of its disks."""
    twin = FakeZfs(clock=world.clock, seed=9, pools={"tank": 1 << 30})
    twin.state.nodes = copy.deepcopy(world.home.state.nodes)
    twin.state._txg = world.home.state._txg
    home, sending, sent = world.home, world.sending, world.sent
    world.home, world.sending = twin, FakeWorkers(twin)
    world.sent = type(sent)(twin, world.archive / "twin", world.clock)
    try:
        replicator = world.another_replicator()
    finally:
        world.home, world.sending, world.sent = home, sending, sent
    replicator.configure([RULE])
    return twin, replicator


async def test_two_sources_race_for_one_target(judge: Judge) -> None:
    world = judge.world
    await chain(judge)
    await world.run()
    twin, other = twin_of(world)
    twin.write("tank/home", b"elsewhere")
    await twin.snapshot(["tank/home@x"])
    await judge.snap("g")
    (stranger,) = [one.guid for one in await twin.snapshots("tank/home") if one.name == "x"]
    judge.strangers.add(stranger)
    outcomes = await asyncio.gather(
        world.replicator.run_tree(world.replicator.jobs), other.run_tree(other.jobs)
    )
    codes = [getattr(outcome, "code", "") for one in outcomes for outcome in one.values()]
    judge.look()
    for _ in range(2):
        for replicator in (world.replicator, other):
            await replicator.run_tree(replicator.jobs)
    states = sorted(job.state for replicator in (world.replicator, other) for job in replicator.jobs)
    assert states == ["blocked", "ok"], codes
    (loser,) = [job for one in (world.replicator, other) for job in one.jobs if job.state == "blocked"]
    assert loser.error is not None
    assert loser.error.code == "diverged"
    assert len(set(world.stored()) & {"g", "x"}) == 1
    judge.look()
