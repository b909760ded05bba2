"""One tick of the scheduler: what is there and what the rules say in, what to take and destroy out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from policy.due import due_since, latest_slots
from policy.naming import kind_of, snapshot_name
from policy.retention import Verdict, doomed
from policy.rules import KINDS, Chosen, Kind, Policy, Resolution
from zfs.model import Pool, Snapshot
from zfs.names import pool_of

CLOCK_SLACK = 3600
"""Seconds that a newest snapshot may lie in the future before somebody should look at the clock."""

DEAD = ("SUSPENDED", "FAULTED", "UNAVAIL", "REMOVED", "OFFLINE")
"""The states of a pool that nothing can be done with."""


@dataclass(frozen=True, slots=True)
class Inventory:
    """What ZFS has: all snapshots of the datasets that have a policy (others are ignored), and the pools.

    `unchanged` are the datasets that nothing was written to since their newest snapshot.
    """

    snapshots: tuple[Snapshot, ...] = ()
    pools: tuple[Pool, ...] = ()
    unchanged: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Take:
    """One snapshot to take now: of `dataset` and, if `recursive`, in the same instant of `along`."""

    dataset: str
    kind: Kind
    reason: str
    recursive: bool = False
    along: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Snapshots of one pool and kind, to be taken in one transaction; `names` are full names."""

    pool: str
    kind: Kind
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should know; `code` is stable, `subject` a dataset or pool, `hint` a command to try."""

    code: str
    subject: str
    text: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """What to do now, in this order: take (longest period first), then destroy."""

    take: tuple[Take, ...] = ()
    destroy: tuple[Verdict, ...] = ()
    warnings: tuple[Notice, ...] = ()

    def groups(self, now: int) -> tuple[Group, ...]:
        """What is to be taken as one transaction for each pool and kind, longest period first."""
        return grouped(self.take, now)


def grouped(takes: Iterable[Take], now: int) -> tuple[Group, ...]:
    """One transaction for each pool and kind, longest period first; named after *now*."""
    found: dict[tuple[Kind, str], dict[str, None]] = {}
    for take in takes:
        names = found.setdefault((take.kind, pool_of(take.dataset)), {})
        for dataset in (take.dataset, *take.along):
            names[f"{dataset}@{snapshot_name(take.kind, now)}"] = None
    ordered = sorted(found, key=lambda key: (KINDS.index(key[0]), key[1]))
    return tuple(Group(pool, kind, tuple(found[kind, pool])) for kind, pool in ordered)


@dataclass(slots=True)
class _Draft:
    now: int
    unchanged: frozenset[str]
    take: list[Take] = field(default_factory=list)
    destroy: list[Verdict] = field(default_factory=list)
    warnings: list[Notice] = field(default_factory=list)


def plan_tick(
    inventory: Inventory, resolution: Resolution, now: int, needed: Mapping[int, str] | None = None
) -> Tick:
    """Decide for every dataset with a policy.

    Retention counts what is there before this tick's snapshots, as sanoid does. *needed* is for `doomed`.
    Deciding again after a tick, at the same *now*, takes nothing more.
    """
    history: dict[str, list[Snapshot]] = {dataset: [] for dataset in resolution.chosen}
    for snapshot in inventory.snapshots:
        if snapshot.dataset in history:
            history[snapshot.dataset].append(snapshot)
    draft = _Draft(now, inventory.unchanged)
    draft.warnings += [Notice("rule_note", "", text) for text in resolution.notes]
    draft.warnings += [_unmatched(dataset) for dataset in resolution.unmatched]
    unusable = dict(_unusable(inventory.pools))
    filled = {pool.name: pool.capacity for pool in inventory.pools}
    slots: dict[Policy, dict[Kind, int]] = {}
    for dataset, chosen in resolution.chosen.items():
        pool, policy = pool_of(dataset), chosen.policy
        if pool in unusable:
            continue
        if policy not in slots:
            slots[policy] = latest_slots(policy, now)
        _take(draft, dataset, chosen, history[dataset], slots[policy])
        if not deferred(policy, filled.get(pool)):
            draft.destroy.extend(doomed(policy, history[dataset], now, needed))
    used = {pool_of(dataset) for dataset in resolution.chosen}
    draft.warnings.extend(notice for pool, notice in unusable.items() if pool in used)
    return Tick(tuple(draft.take), tuple(draft.destroy), tuple(draft.warnings))


def deferred(policy: Policy, capacity: int | None) -> str:
    """Why nothing is pruned now, or nothing. *capacity* is the used share of the pool in percent, None if unknown."""
    if policy.prune_defer == 0 or (capacity is not None and capacity > policy.prune_defer):
        return ""
    return f"pruning is deferred until the pool is more than {policy.prune_defer} % full"


def newest_by_kind(policy: Policy, history: Iterable[Snapshot]) -> dict[Kind, int]:
    """The newest creation of each kind that is ours."""
    newest: dict[Kind, int] = {}
    for snapshot in history:
        kind = kind_of(snapshot.name, policy.loose_names)
        if kind is not None and snapshot.creation >= newest.get(kind, snapshot.creation):
            newest[kind] = snapshot.creation
    return newest


def _take(
    draft: _Draft, dataset: str, chosen: Chosen, history: list[Snapshot], slots: Mapping[Kind, int]
) -> None:
    newest = newest_by_kind(chosen.policy, history)
    ahead = max((newest[kind] for kind in slots if kind in newest), default=draft.now) - draft.now
    if ahead > CLOCK_SLACK:
        draft.warnings.append(_from_the_future(dataset, ahead))
    if chosen.policy.skip_unchanged and history and {dataset, *chosen.along} <= draft.unchanged:
        return
    for due in due_since(slots, newest):
        name = snapshot_name(due.kind, draft.now)
        if any(snapshot.name == name for snapshot in history):
            draft.warnings.append(Notice("name_taken", dataset, f"{dataset}@{name} exists already"))
        else:
            draft.take.append(Take(dataset, due.kind, due.reason, chosen.recursive, chosen.along))


def _unusable(pools: Iterable[Pool]) -> Iterable[tuple[str, Notice]]:
    for pool in pools:
        if pool.health in DEAD:
            yield pool.name, Notice("pool_unavailable", pool.name, f"pool {pool.name} is {pool.health}")
        elif pool.readonly:
            yield pool.name, Notice("pool_readonly", pool.name, f"pool {pool.name} is imported read-only")


def _unmatched(dataset: str) -> Notice:
    text = f"the policy rule for {dataset} matches nothing: there is no such dataset"
    return Notice("rule_unmatched", dataset, text)


def _from_the_future(dataset: str, ahead: int) -> Notice:
    text = (
        f"the newest snapshot of {dataset} is {ahead // 60} minutes in the future: "
        "no snapshot is due until then, or until the clock is right"
    )
    return Notice("snapshot_from_the_future", dataset, text)
