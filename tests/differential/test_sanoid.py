"""We decide what the real sanoid decides, on random worlds, but for what docs/sanoid.md lists."""

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest

from policy.rules import Policy
from tests.differential import generate
from tests.differential.oracle import Oracle
from tests.differential.world import Outcome, World, by_age, ours, resolution_of

pytestmark = pytest.mark.oracle

SLICE = 60
LONG = 3000
BATCH = 250


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    return Oracle(tmp_path_factory.mktemp("sanoid"))


@pytest.mark.parametrize("seed", range(SLICE))
def test_both_decide_the_same(oracle: Oracle, seed: int) -> None:
    assert_same(oracle, seed)


@pytest.mark.soak
@pytest.mark.parametrize("start", range(SLICE, SLICE + LONG, BATCH))
def test_both_decide_the_same_thousands_of_times(oracle: Oracle, start: int) -> None:
    for seed in range(start, start + BATCH):
        assert_same(oracle, seed)


@pytest.mark.parametrize("seed", range(10_000, 10_005))
def test_sanoid_does_what_it_says(oracle: Oracle, seed: int) -> None:
    """The others look at what sanoid says it would do, which is many times faster than what it calls zfs for."""
    world = generate.world(seed, oracle.version)
    said, run = oracle.plan(world), oracle.run(world, "--cron")
    assert run.code == 0
    assert run.did() == said


def test_the_worlds_are_worth_a_comparison(oracle: Oracle) -> None:
    """Every kind is taken and pruned, by zfs recursion too, and not always."""
    worlds = [generate.world(seed, (2, 3, 0)) for seed in range(SLICE)]
    outcomes = [ours(world) for world in worlds]
    taken = {(kind, recursive) for outcome in outcomes for _, kind, recursive in outcome.take}
    assert taken == {(kind, recursive) for kind in generate.KINDS for recursive in (False, True)}
    pruned = {
        kind
        for world, outcome in zip(worlds, outcomes, strict=True)
        for _, kind, _ in by_age(world, outcome.prune)
    }
    assert pruned == set(generate.KINDS)
    assert (
        1000
        < sum(len(outcome.prune) for outcome in outcomes)
        < sum(len(world.snapshots) for world in worlds) / 2
    )


def assert_same(oracle: Oracle, seed: int) -> None:
    world = generate.world(seed, oracle.version)
    sanoid, us = oracle.plan(world), ours(world)
    caught_up = yearlies_only_we_catch_up(world)
    assert us.take - caught_up == sanoid.take, told(seed, world, sanoid, us)
    assert by_age(world, us.prune) == by_age(world, sanoid.prune), told(seed, world, sanoid, us)


def yearlies_only_we_catch_up(world: World) -> frozenset[tuple[str, str, bool]]:
    """Before the year's date sanoid asks for a yearly of the last 31 years: the one difference that is everywhere."""
    resolution = resolution_of(world)
    newest = newest_yearlies(world)
    found = set()
    for dataset, chosen in resolution.chosen.items():
        this_year = yearly_date(chosen.policy, world.now)
        age = this_year - newest.get(dataset, 0)
        if this_year > world.now and age <= 31 * 365.25 * 86400:
            found.add((dataset, "yearly", chosen.recursive))
    return frozenset(found)


def yearly_date(policy: Policy, now: int) -> int:
    at = datetime(
        datetime.fromtimestamp(now, UTC).year,
        *(policy.yearly_mon, policy.yearly_mday, policy.yearly_hour, policy.yearly_min),
        tzinfo=UTC,
    )
    return int(at.timestamp())


def newest_yearlies(world: World) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for dataset, kind, creation in by_age(world, (name for name, _ in world.snapshots)):
        if kind == "yearly":
            found[dataset] = max(creation, found.get(dataset, 0))
    return found


def told(seed: int, world: World, sanoid: Outcome, us: Outcome) -> str:
    """All that is needed to see why."""
    return "\n".join(
        (
            f"seed {seed}, now {world.now} ({datetime.fromtimestamp(world.now, UTC)}), pools {world.pools}",
            *(f"only sanoid takes {one}" for one in sorted(sanoid.take - us.take)),
            *(f"only we take {one}" for one in sorted(us.take - sanoid.take)),
            *(f"only sanoid destroys {one}" for one in sorted(sanoid.prune - us.prune)),
            *(f"only we destroy {one}" for one in sorted(us.prune - sanoid.prune)),
            world.conf,
        )
    )
