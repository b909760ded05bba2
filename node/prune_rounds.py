"""Which of the doomed snapshots a tick destroys: the brake, the space guard, and what could not go a moment ago."""

import shlex
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from node.pruner import Pruned, Pruner
from node.rulebook import some
from policy.brake import held_back, one_round
from policy.retention import Verdict
from policy.rules import PoolLimits, Resolution
from policy.space import Progress, is_draining, victims
from policy.tick import DEAD, Notice
from zfs.model import Pool, Snapshot
from zfs.names import pool_of

RETRY = 600
"""Seconds before a snapshot that could not be destroyed is tried again; until then `status` says why it stays."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a tick found: the present pools, rules, histories by dataset, and bases of replicas by guid."""

    pools: Sequence[Pool]
    resolution: Resolution
    histories: Mapping[str, Sequence[Snapshot]]
    needed: Mapping[int, str]


@dataclass(frozen=True, slots=True)
class _Kept:
    """Why a snapshot stays, and until when (epoch seconds) that is believed."""

    why: str
    until: float


class PruneRounds:
    """`waiting` has the datasets that the brake holds back, with how many snapshots; `draining` pools are too full."""

    def __init__(self, pruner: Pruner, now: Callable[[], float]) -> None:
        self._pruner = pruner
        self._now = now
        self._kept: dict[str, _Kept] = {}
        self.waiting: Mapping[str, int] = {}
        self.draining: frozenset[str] = frozenset()
        self._progress: dict[str, Progress] = {}

    def see(self, pools: Iterable[Pool], resolution: Resolution) -> None:
        """Take note of how full the pools are. Once a tick, before its histories are listed."""
        self.draining = frozenset(
            pool.name
            for pool in pools
            if is_draining(pool, _limits(resolution, pool.name), pool.name in self.draining)
        )

    async def run(self, doomed: Sequence[Verdict], facts: Facts) -> tuple[Pruned, list[Notice]]:
        """One round: at most what retention lets go, and of each draining pool one step of the space guard."""
        self._forget_old(facts)
        fresh = [verdict for verdict in doomed if verdict.snapshot.full_name not in self._kept]
        counts = {name: len(history) for name, history in facts.histories.items()}
        self.waiting = held_back(fresh, counts, facts.resolution)
        going = one_round(
            [one for one in fresh if one.snapshot.dataset not in self.waiting], facts.resolution
        )
        busy = {pool_of(verdict.snapshot.dataset) for verdict in going}
        guarded, notices = self._guard(facts, busy)
        policies = {name: chosen.policy for name, chosen in facts.resolution.chosen.items()}
        pruned = await self._pruner.destroy([*going, *guarded], policies)
        until = self._now() + RETRY
        self._kept |= {name: _Kept(why, until) for name, why in pruned.failed.items()}
        return pruned, [*notices, *self._waits(), *self._stays()]

    def _guard(self, facts: Facts, busy: Collection[str]) -> tuple[list[Verdict], list[Notice]]:
        """What the space guard destroys. Not where something goes anyway (*busy*), or is still being freed."""
        chosen: list[Verdict] = []
        notices = []
        for pool in facts.pools:
            if pool.name not in self.draining or pool.readonly or pool.health in DEAD:
                self._progress.pop(pool.name, None)
                continue
            limits = _limits(facts.resolution, pool.name)
            found = [
                one
                for one in victims(pool, limits, facts.histories, facts.resolution, facts.needed)
                if one.snapshot.full_name not in self._kept
            ]
            waits = pool.name in busy or pool.freeing > 0
            if waits or self._still_helps(pool, found):
                notices.append(_draining(pool, limits, bool(found) or waits))
                chosen += [] if waits else found
            else:
                notices.append(_in_vain(pool))
        return chosen, notices

    def _still_helps(self, pool: Pool, found: Collection[Verdict]) -> bool:
        """Whether the rounds before this one, which would destroy *found*, have freed anything worth it."""
        if not found:
            return True
        before = self._progress.get(pool.name)
        if before is None:
            self._progress[pool.name] = Progress(pool.free)
        elif before.helps:
            self._progress[pool.name] = before.after(pool)
        return self._progress[pool.name].helps

    def _forget_old(self, facts: Facts) -> None:
        now = self._now()
        present = {snapshot.full_name for history in facts.histories.values() for snapshot in history}
        self._kept = {
            name: kept
            for name, kept in self._kept.items()
            if name in present and now < kept.until <= now + RETRY
        }

    def _waits(self) -> Iterable[Notice]:
        if self.waiting:
            count = sum(self.waiting.values())
            text = (
                f"{count} snapshots of {some(self.waiting)} would be destroyed at once, more than half of what is "
                "there: nothing of these datasets is pruned until a person has looked"
            )
            yield Notice("prune_waits", min(self.waiting), text, "meshkeep prune -n")

    def _stays(self) -> Iterable[Notice]:
        by_reason: dict[str, list[str]] = {}
        for name, kept in self._kept.items():
            by_reason.setdefault(kept.why, []).append(name)
        for why, names in by_reason.items():
            command = "zfs holds" if "held" in why else "zfs get clones"
            text = f"could not destroy {some(names)}: {why}"
            yield Notice("prune_failed", names[0], text, f"{command} {shlex.quote(names[0])}")


def _limits(resolution: Resolution, pool: str) -> PoolLimits:
    return resolution.pools.get(pool, PoolLimits())


def _in_vain(pool: Pool) -> Notice:
    text = (
        f"{pool.name} is {pool.capacity} % full, and destroying snapshots has freed next to nothing: "
        "the space guard stops, something else fills it"
    )
    return Notice("space_exhausted", pool.name, text, f"zfs list -o space -r {shlex.quote(pool.name)}")


def _draining(pool: Pool, limits: PoolLimits, more: bool) -> Notice:
    full = f"{pool.name} is {pool.capacity} % full"
    if more:
        text = f"{full}: the space guard destroys the oldest snapshots down to {limits.space_low} %"
        return Notice("space_guard", pool.name, text, f"zfs list -o space -r {shlex.quote(pool.name)}")
    text = f"{full}, and there is no snapshot that the space guard may destroy"
    return Notice("space_exhausted", pool.name, text, f"zfs list -o space -r {shlex.quote(pool.name)}")
