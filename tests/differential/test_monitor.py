"""`check snapshots` says and exits with what ``sanoid --monitor-snapshots`` does.

Left out is what docs/monitoring.md lists.
"""

from random import Random

import pytest

from policy.checks import Outcome, Seen, snapshots
from policy.naming import snapshot_name
from policy.rules import KINDS
from tests.differential.oracle import Oracle
from tests.differential.world import World, resolution_of
from tests.differential.world import world as small_world
from zfs.model import Snapshot

pytestmark = pytest.mark.oracle

SLICE = 40
NOW = 1_700_000_000
LIMITS = {"1s": 1, "90s": 90, "5m": 300, "90m": 5400, "36h": 129_600, "2d": 172_800, "5w": 3_024_000}
"""As they are written, and in seconds."""

NOTHING = "OK: all monitored datasets () have fresh snapshots"

DATASETS = ("tank", "tank/a", "tank/B", "tank/c", "tank/home/x", "dozer", "dozer/VM", "dozer/deep/er")


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    return Oracle(tmp_path_factory.mktemp("sanoid"))


def made(seed: int) -> World:
    """A section for some datasets, and snapshots whose ages lie at and around the limits; every second one is mild."""
    random = Random(seed)
    lines: list[str] = []
    for name in random.sample(DATASETS, random.randint(1, 4)):
        lines += [f"[{name}]", *_section(random), ""]
    taken = []
    for dataset in DATASETS:
        for kind in KINDS:
            ages = sorted(LIMITS.values())[: 3 if seed % 2 else None]
            for age in random.sample(ages, random.randint(seed % 2, 2)):
                creation = NOW - age - random.choice((-1, 0, 0, 1, 61, 3600))
                taken.append((f"{dataset}@{snapshot_name(kind, creation)}", min(creation, NOW)))
    return small_world("\n".join(lines), NOW, *DATASETS, snapshots=taken)


def _section(random: Random) -> list[str]:
    """Each limit warns and is critical, or is left at sanoid's default: one that only warns never does there."""
    lines = [f"{kind} = {random.randint(0, 2)}" for kind in KINDS]
    for kind in KINDS:
        if random.randrange(4):
            warn, crit = sorted(random.sample(list(LIMITS), 2), key=LIMITS.__getitem__)
            lines += [f"{kind}_warn = {warn}", f"{kind}_crit = {crit}"]
    lines += [
        f"{key} = {random.choice(('yes', 'no'))}"
        for key in ("monitor", "monitor_dont_warn", "monitor_dont_crit")
        if random.randrange(2)
    ]
    return lines if random.randrange(3) else [*lines, "recursive = yes"]


def ours(world: World) -> Outcome:
    histories: dict[str, list[Snapshot]] = {name: [] for name in world.datasets}
    for number, (full, creation) in enumerate(world.snapshots, 1):
        dataset, _, name = full.rpartition("@")
        histories[dataset].append(Snapshot(dataset, name, number, number, creation))
    return snapshots(resolution_of(world), Seen(histories), world.now)


@pytest.mark.parametrize("seed", range(SLICE))
def test_both_say_the_same(oracle: Oracle, seed: int) -> None:
    world = made(seed)
    run, us = oracle.run(world, "--monitor-snapshots"), ours(world)
    text = "\n".join(line for line in run.stdout.splitlines() if not line.startswith("INFO: "))
    text = text.replace(NOTHING, "OK: no dataset is monitored")
    assert (text, run.code) == (us.text, int(us.level)), f"seed {seed}\n{world.conf}\n{run.stderr}"


def test_the_worlds_are_worth_a_comparison() -> None:
    """All codes come, and so do muted words."""
    outcomes = [ours(made(seed)) for seed in range(SLICE)]
    assert {int(outcome.level) for outcome in outcomes} == {0, 1, 2}
    assert any(outcome.level == 0 and not outcome.text.startswith("OK") for outcome in outcomes)
    assert any("at all!" in outcome.text for outcome in outcomes)
    assert any(outcome.text.startswith("OK: all monitored") for outcome in outcomes)
