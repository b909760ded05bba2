"""One tick of the scheduler: what is there and what the rules say in, what to take and destroy out."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from policy.due import due_since, latest_slots
from policy.naming import kind_of, snapshot_name
from policy.retention import Verdict, doomed
from policy.rules import KINDS, Assignment, Kind, Policy, Resolution
from zfs.model import Pool, Snapshot
from zfs.names import pool_of

CLOCK_SLACK = 3600
"""Seconds that a newest snapshot may lie in the future before somebody should look at the clock."""

_DEAD = ("SUSPENDED", "FAULTED", "UNAVAIL", "REMOVED", "OFFLINE")


@dataclass(frozen=True, slots=True)
class Inventory:
    """What ZFS has: all snapshots of the datasets that have a policy (others are ignored), and the pools."""

    snapshots: tuple[Snapshot, ...] = ()
    pools: tuple[Pool, ...] = ()


@dataclass(frozen=True, slots=True)
class Group:
    """Snapshots of one pool and kind, to be taken in one transaction; `names` are full names."""

    pool: str
    kind: Kind
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Notice:
    """Something a person should know; `code` is stable, `subject` a dataset or pool."""

    code: str
    subject: str
    text: str


@dataclass(frozen=True, slots=True)
class Tick:
    """What to do now, in this order: take (longest period first), then destroy."""

    take: tuple[Group, ...] = ()
    destroy: tuple[Verdict, ...] = ()
    warnings: tuple[Notice, ...] = ()


@dataclass(slots=True)
class _Draft:
    take: dict[tuple[Kind, str], list[str]] = field(default_factory=dict)
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
    draft = _Draft(warnings=[_unmatched(rule) for rule in resolution.unmatched])
    unusable = dict(_unusable(inventory.pools))
    slots: dict[Policy, dict[Kind, int]] = {}
    for dataset, chosen in resolution.chosen.items():
        if pool_of(dataset) in unusable:
            continue
        policy = chosen.policy
        if policy not in slots:
            slots[policy] = latest_slots(policy, now)
        _take(draft, dataset, history[dataset], slots[policy], now)
        draft.destroy.extend(doomed(policy, history[dataset], now, needed))
    used = {pool_of(dataset) for dataset in resolution.chosen}
    draft.warnings.extend(notice for pool, notice in unusable.items() if pool in used)
    return Tick(_grouped(draft.take), tuple(draft.destroy), tuple(draft.warnings))


def _take(draft: _Draft, dataset: str, history: list[Snapshot], slots: Mapping[Kind, int], now: int) -> None:
    newest: dict[Kind, int] = {}
    for snapshot in history:
        kind = kind_of(snapshot.name)
        if kind is not None and snapshot.creation >= newest.get(kind, snapshot.creation):
            newest[kind] = snapshot.creation
    ahead = max((newest[kind] for kind in slots if kind in newest), default=now) - now
    if ahead > CLOCK_SLACK:
        draft.warnings.append(_from_the_future(dataset, ahead))
    for due in due_since(slots, newest):
        name = snapshot_name(due.kind, now)
        if any(snapshot.name == name for snapshot in history):
            draft.warnings.append(Notice("name_taken", dataset, f"{dataset}@{name} exists already"))
        else:
            draft.take.setdefault((due.kind, pool_of(dataset)), []).append(f"{dataset}@{name}")


def _grouped(take: Mapping[tuple[Kind, str], list[str]]) -> tuple[Group, ...]:
    ordered = sorted(take, key=lambda key: (KINDS.index(key[0]), key[1]))
    return tuple(Group(pool, kind, tuple(take[kind, pool])) for kind, pool in ordered)


def _unusable(pools: Iterable[Pool]) -> Iterable[tuple[str, Notice]]:
    for pool in pools:
        if pool.health in _DEAD:
            yield pool.name, Notice("pool_unavailable", pool.name, f"pool {pool.name} is {pool.health}")
        elif pool.readonly:
            yield pool.name, Notice("pool_readonly", pool.name, f"pool {pool.name} is imported read-only")


def _unmatched(rule: Assignment) -> Notice:
    text = f"the policy rule for {rule.dataset} matches nothing: there is no such dataset"
    return Notice("rule_unmatched", rule.dataset, text)


def _from_the_future(dataset: str, ahead: int) -> Notice:
    text = (
        f"the newest snapshot of {dataset} is {ahead // 60} minutes in the future: "
        "no snapshot is due until then, or until the clock is right"
    )
    return Notice("snapshot_from_the_future", dataset, text)
