"""The space guard: which snapshots go when a pool fills up, beyond what retention lets go. Pure.

Oldest first; never the newest of a dataset, never a replica's base, never what is held, never what is not ours, and
nothing where autoprune is off.
What a snapshot's destruction frees is known only afterwards (snapshots share blocks, and ZFS frees in the
background), so each round takes a few and the next one looks again.
"""

from collections.abc import Mapping, Sequence
from fractions import Fraction

from policy.naming import kind_of
from policy.retention import Verdict, age_order
from policy.rules import Policy, PoolLimits, Resolution
from zfs.model import Pool, Snapshot
from zfs.names import pool_of

SHARE = Fraction(1, 20)
"""The largest share of the candidates that one round destroys."""


def is_draining(pool: Pool, limits: PoolLimits, was: bool) -> bool:
    """Whether the guard is at work on *pool*: from the high mark on until the low one. *was* is the last answer."""
    if not limits.space_high:
        return False
    return pool.capacity >= limits.space_high or (was and pool.capacity > limits.space_low)


def victims(
    pool: Pool,
    limits: PoolLimits,
    histories: Mapping[str, Sequence[Snapshot]],
    resolution: Resolution,
    needed: Mapping[int, str] | None = None,
) -> list[Verdict]:
    """What one round destroys on a pool that is draining, oldest first.

    *histories* has all snapshots of each dataset with a policy. It stops where the sum of `used`, which is the least
    that is freed, reaches the low mark.
    """
    candidates = sorted(
        (
            snapshot
            for dataset, history in histories.items()
            if dataset in resolution.chosen and pool_of(dataset) == pool.name
            for snapshot in _may_go(history, resolution.chosen[dataset].policy, needed or {})
        ),
        key=age_order,
    )
    wanted = pool.size * (pool.capacity - limits.space_low) // 100
    why = f"space guard: {pool.name} is {pool.capacity} % full, {limits.space_high} % is too much"
    chosen: list[Verdict] = []
    for snapshot in candidates[: max(1, int(len(candidates) * SHARE))]:
        if wanted <= 0:
            break
        chosen.append(Verdict(snapshot, False, (why,)))
        wanted -= snapshot.used
    return chosen


def _may_go(history: Sequence[Snapshot], policy: Policy, needed: Mapping[int, str]) -> list[Snapshot]:
    if not policy.autoprune:
        return []
    newest = max(history, key=lambda one: one.createtxg, default=None)
    return [
        one
        for one in history
        if one is not newest
        and not one.holds
        and one.guid not in needed
        and kind_of(one.name, policy.loose_names)
    ]
