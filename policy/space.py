"""The space guard: which snapshots go when a pool fills up, beyond what retention lets go. Pure.

Oldest first; never the newest of a dataset, a replica's base, what is held, what `keep_last` and `keep_every` keep,
what is not ours; nothing where autoprune is off. And no further once it does not help: then something else fills it.
What a snapshot's destruction frees is known only afterwards (snapshots share blocks, and ZFS frees in the
background), so each round takes a few and the next one looks again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from policy.naming import kind_of
from policy.retention import Verdict, age_order, guards_of
from policy.rules import Policy, PoolLimits, Resolution
from zfs.model import Pool, Snapshot
from zfs.names import pool_of

SHARE = Fraction(1, 20)
"""The largest share of the candidates that one round destroys."""

PATIENCE = 5
"""So many rounds in a row that free next to nothing end it."""

_NEXT_TO_NOTHING = Fraction(1, 1000)


@dataclass(frozen=True, slots=True)
class Progress:
    """How a draining pool came along: the most that was ever `free` (bytes), and `idle` rounds since then."""

    free: int
    idle: int = 0

    def after(self, pool: Pool) -> "Progress":
        """What a round that destroyed something came to, seen at the next one."""
        if pool.free >= self.free + pool.size * _NEXT_TO_NOTHING:
            return Progress(pool.free)
        return Progress(self.free, self.idle + 1)

    @property
    def helps(self) -> bool:
        """Whether to go on."""
        return self.idle < PATIENCE


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
    guards = guards_of(policy, history, needed)
    return [
        one
        for one in history
        if one is not newest and one.name not in guards and kind_of(one.name, policy.loose_names)
    ]
