"""A world to decide about: what both are shown, and what either of them decides."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count

from policy.naming import kind_of
from policy.rules import Resolution
from policy.sanoid_conf import read
from policy.tick import Inventory, Tick, plan_tick
from zfs.model import Pool, Snapshot
from zfs.names import pool_of

CONF = "sanoid.conf"


@dataclass(frozen=True, slots=True)
class World:
    """Datasets, their snapshots (full name and creation), the pools with their capacity in percent, the rules, now."""

    conf: str
    now: int
    datasets: tuple[str, ...]
    snapshots: tuple[tuple[str, int], ...] = ()
    pools: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What somebody decided: (dataset, kind, by zfs recursion), and full names of snapshots."""

    take: frozenset[tuple[str, str, bool]] = frozenset()
    prune: frozenset[str] = frozenset()


def resolution_of(world: World, replica_roots: Iterable[str] = (), timezone: str = "UTC") -> Resolution:
    """What every dataset gets from the world's sanoid.conf."""
    return read([(CONF, world.conf)]).resolve(world.datasets, tuple(replica_roots), timezone)


def planned(world: World, resolution: Resolution, holds: Iterable[str] = ()) -> Tick:
    """Our plan; *holds* are full names of snapshots that are held."""
    numbers = count(1)
    held = frozenset(holds)
    snapshots = []
    for name, creation in sorted(world.snapshots, key=lambda one: one[1]):
        dataset, _, short = name.rpartition("@")
        number = next(numbers)
        snapshots.append(Snapshot(dataset, short, number, number, creation, holds=int(name in held)))
    pools = tuple(Pool(name, "ONLINE", 1 << 40, 1 << 39, capacity) for name, capacity in world.pools.items())
    return plan_tick(Inventory(tuple(snapshots), pools), resolution, world.now)


def ours(world: World) -> Outcome:
    """What we decide in UTC, in the oracle's terms."""
    return outcome_of(planned(world, resolution_of(world)))


def outcome_of(tick: Tick) -> Outcome:
    """A plan in the oracle's terms."""
    return Outcome(
        frozenset((take.dataset, take.kind, take.recursive) for take in tick.take),
        frozenset(verdict.snapshot.full_name for verdict in tick.destroy),
    )


def by_age(world: World, names: Iterable[str]) -> Counter[tuple[str, str | None, int]]:
    """(dataset, kind, creation) of each of *names*: sanoid's choice among those of one second is arbitrary."""
    creation = dict(world.snapshots)
    found: Counter[tuple[str, str | None, int]] = Counter()
    for name in names:
        dataset, _, short = name.rpartition("@")
        found[dataset, kind_of(short, loose=True), creation.get(name, -1)] += 1
    return found


def world(conf: str, now: int, *datasets: str, snapshots: Iterable[tuple[str, int]] = ()) -> World:
    """A small world, for tests: every pool is half full."""
    pools = {pool_of(dataset): 50 for dataset in datasets}
    return World(conf, now, datasets, tuple(snapshots), pools)


def with_capacity(base: World, **pools: int) -> World:
    """*base* with other capacities."""
    return replace(base, pools={**base.pools, **pools})
