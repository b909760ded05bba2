"""Which snapshots of a dataset are kept, which go, and why.

Sanoid's rule: of each kind, one goes when it is older than N periods *and* N newer ones of its kind exist. Beyond
sanoid: what is held and what a replica needs as its base stay, whatever the numbers say; and so do those that
`keep_last` and `keep_every` choose among all that are ours.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from policy.naming import kind_of
from policy.rules import KeepEvery, Kind, Policy
from zfs.model import Snapshot

_UNITS: dict[Kind, str] = {
    "yearly": "year",
    "monthly": "month",
    "weekly": "week",
    "daily": "day",
    "hourly": "hour",
    "frequently": "period",
}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one snapshot. A reason that it goes comes before the reasons that keep it after all."""

    snapshot: Snapshot
    keep: bool
    reasons: tuple[str, ...]


def verdicts(
    policy: Policy, snapshots: Sequence[Snapshot], now: int, needed: Mapping[int, str] | None = None
) -> list[Verdict]:
    """A verdict on each of *snapshots*, all of one dataset, in their order.

    *needed* maps the guid of a snapshot that is the base of a replica to the name of the node that has it.
    Pure and idempotent: what is kept would be kept again without what goes.
    """
    guards = guards_of(policy, snapshots, needed or {})
    ours = {
        snapshot.name: _verdict(policy, _Place(kind, rank, now), snapshot, guards.get(snapshot.name, ()))
        for kind, newest_first in _by_kind(policy, snapshots).items()
        for rank, snapshot in enumerate(newest_first, 1)
    }
    others = ("not ours",)
    return [
        ours.get(snapshot.name) or Verdict(snapshot, True, others + guards.get(snapshot.name, ()))
        for snapshot in snapshots
    ]


def doomed(
    policy: Policy, snapshots: Sequence[Snapshot], now: int, needed: Mapping[int, str] | None = None
) -> list[Verdict]:
    """Only the verdicts of `verdicts` that something goes, oldest first."""
    outdated = [
        (_Place(kind, rank, now), snapshot)
        for kind, newest_first in _by_kind(policy, snapshots).items()
        for rank, snapshot in enumerate(newest_first[policy.count(kind) :], policy.count(kind) + 1)
        if _is_outdated(policy, kind, snapshot, now)
    ]
    if not outdated:
        return []
    guards = guards_of(policy, snapshots, needed or {})
    gone = [
        _verdict(policy, place, snapshot, ()) for place, snapshot in outdated if snapshot.name not in guards
    ]
    return sorted(gone, key=lambda verdict: age_order(verdict.snapshot))


def age_order(snapshot: Snapshot) -> tuple[int, int]:
    """Sorts the oldest first; equal creations by transaction."""
    return snapshot.creation, snapshot.createtxg


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a snapshot stands: the `rank`-th newest of its kind, 1 being the newest, looked at `now`."""

    kind: Kind
    rank: int
    now: int


def _by_kind(policy: Policy, snapshots: Sequence[Snapshot]) -> dict[Kind, list[Snapshot]]:
    """Those that are ours, each kind newest first."""
    found: dict[Kind, list[Snapshot]] = {}
    for snapshot in snapshots:
        kind = kind_of(snapshot.name, policy.loose_names)
        if kind is not None:
            found.setdefault(kind, []).append(snapshot)
    for of_kind in found.values():
        of_kind.sort(key=age_order, reverse=True)
    return found


def _is_outdated(policy: Policy, kind: Kind, snapshot: Snapshot, now: int) -> bool:
    """Whether one beyond the count is also too old."""
    return policy.autoprune and snapshot.creation < now - policy.count(kind) * policy.period(kind)


def guards_of(
    policy: Policy, snapshots: Sequence[Snapshot], needed: Mapping[int, str]
) -> dict[str, tuple[str, ...]]:
    """By the part behind the @: why a snapshot stays whatever the counts say."""
    guards: dict[str, list[str]] = {}
    for snapshot in snapshots:
        if snapshot.holds:
            guards.setdefault(snapshot.name, []).append("held")
        if snapshot.guid in needed:
            guards.setdefault(snapshot.name, []).append(f"needed by {needed[snapshot.guid]}")
    if policy.keep_last or policy.keep_every:
        newest_first = sorted(
            (one for one in snapshots if kind_of(one.name, policy.loose_names)), key=age_order, reverse=True
        )
        for rank, snapshot in enumerate(newest_first[: policy.keep_last], 1):
            guards.setdefault(snapshot.name, []).append(f"last {rank} of {policy.keep_last}")
        for rule in policy.keep_every:
            for rank, snapshot in enumerate(_firsts(rule, newest_first), 1):
                guards.setdefault(snapshot.name, []).append(f"{rule}, {rank} of {rule.count}")
    return {name: tuple(reasons) for name, reasons in guards.items()}


def _firsts(rule: KeepEvery, newest_first: Iterable[Snapshot]) -> list[Snapshot]:
    """The oldest of each of the newest periods that have one. It stays that, whichever younger ones come and go."""
    firsts: dict[int, Snapshot] = {}
    for snapshot in newest_first:
        period = snapshot.creation // rule.seconds
        if period not in firsts and len(firsts) == rule.count:
            break
        firsts[period] = snapshot
    return list(firsts.values())


def _verdict(policy: Policy, at: _Place, snapshot: Snapshot, guards: tuple[str, ...]) -> Verdict:
    count = policy.count(at.kind)
    place = f"{at.kind} {at.rank} of {count}"
    limit = f"{count} {_UNITS[at.kind]}{'' if count == 1 else 's'}"
    if at.rank <= count:
        return Verdict(snapshot, True, (place, *guards))
    if not policy.autoprune:
        return Verdict(snapshot, True, (f"{place}, autoprune is off", *guards))
    if not _is_outdated(policy, at.kind, snapshot, at.now):
        return Verdict(snapshot, True, (f"{place}, not older than {limit}", *guards))
    why = f"{place}, older than {limit}" if count else f"{at.kind} {at.rank}, none is kept"
    return Verdict(snapshot, bool(guards), (why, *guards))
