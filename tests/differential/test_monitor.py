"""`check snapshots` says and exits with what `sanoid --monitor-snapshots` does, on random worlds."""

import re
from random import Random

import pytest

from policy.checks import Outcome, Seen, snapshots
from policy.rules import KINDS
from tests.differential import generate
from tests.differential.oracle import Oracle
from tests.differential.world import World, resolution_of
from zfs.model import Snapshot

pytestmark = pytest.mark.oracle

SLICE = 40
AGES = ("1s", "90s", "5m", "90m", "36h", "2d", "5w", "0")


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Oracle:
    return Oracle(tmp_path_factory.mktemp("sanoid"))


def watched(seed: int, version: tuple[int, ...]) -> World:
    """A world whose sections have limits too, and a few snapshots that are fresh. Those that both warn and are
    critical, or neither: sanoid's limits that only warn never do.
    """
    world, random = generate.world(seed, version), Random(seed)
    limits = []
    for kind in KINDS:
        warn, crit = sorted(random.sample(range(len(AGES) - 1), 2))
        if random.randrange(3):
            limits += [f"{kind}_warn = {AGES[warn]}", f"{kind}_crit = {AGES[crit]}"]
    for key in ("monitor", "monitor_dont_warn", "monitor_dont_crit"):
        if not random.randrange(3):
            limits.append(f"{key} = {random.choice(('yes', 'no'))}")
    sections = [
        name for name in world.datasets if re.search(rf"^\s*\[\s*{re.escape(name)}\s*\]", world.conf, re.M)
    ]
    conf = world.conf.replace("\r\n", "\n") + "".join(
        "\n".join([f"[{name}]", *limits, ""]) for name in sections if random.randrange(3)
    )
    fresh = tuple(
        (
            f"{name}@autosnap_2000-01-01_00:00:00_{kind}",
            world.now - random.choice((0, 1, 59, 89, 299, 5399, 86400)),
        )
        for name in world.datasets
        for kind in KINDS
        if random.randrange(2)
    )
    return World(conf, world.now, world.datasets, world.snapshots + fresh, world.pools)


def ours(world: World) -> Outcome:
    histories: dict[str, list[Snapshot]] = {name: [] for name in world.datasets}
    for number, (full, creation) in enumerate(world.snapshots, 1):
        dataset, _, name = full.rpartition("@")
        if dataset in histories:
            histories[dataset].append(Snapshot(dataset, name, number, number, creation))
    return snapshots(resolution_of(world), Seen(histories), world.now)


@pytest.mark.parametrize("seed", range(SLICE))
def test_both_say_the_same(oracle: Oracle, seed: int) -> None:
    world = watched(seed, oracle.version)
    run, us = oracle.run(world, "--monitor-snapshots"), ours(world)
    assert (run.stdout.strip(), run.code) == (us.text, int(us.level)), (
        f"seed {seed}\n{world.conf}\n{run.stderr}"
    )
