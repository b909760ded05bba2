"""Which snapshots of a dataset are kept, which go, and why.

Sanoid's rule: of each kind, one goes when it is older than N periods *and* more than N newer ones of its kind
exist. Beyond sanoid: what is held, what a replica needs as its base, and the newest snapshot of a dataset
stay, whatever the numbers say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from policy.naming import kind_of
from policy.rules import Kind, Policy
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
    guards = _guards(snapshots, needed or {})
    ours = {
        snapshot.name: _verdict(policy, _Place(kind, rank, now), snapshot, guards.get(snapshot.name, ()))
        for kind, newest_first in _by_kind(snapshots).items()
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
        for kind, newest_first in _by_kind(snapshots).items()
        for rank, snapshot in enumerate(newest_first[policy.count(kind) :], policy.count(kind) + 1)
        if _is_outdated(policy, kind, snapshot, now)
    ]
    if not outdated:
        return []
    guards = _guards(snapshots, needed or {})
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


def _by_kind(snapshots: Sequence[Snapshot]) -> dict[Kind, list[Snapshot]]:
    found: dict[Kind, list[Snapshot]] = {}
    for snapshot in snapshots:
        kind = kind_of(snapshot.name)
        if kind is not None:
            found.setdefault(kind, []).append(snapshot)
    for of_kind in found.values():
        of_kind.sort(key=age_order, reverse=True)
    return found


def _is_outdated(policy: Policy, kind: Kind, snapshot: Snapshot, now: int) -> bool:
    """Whether one beyond the count is also too old."""
    return policy.autoprune and snapshot.creation < now - policy.count(kind) * policy.period(kind)


def _guards(snapshots: Sequence[Snapshot], needed: Mapping[int, str]) -> dict[str, tuple[str, ...]]:
    guards: dict[str, tuple[str, ...]] = {}
    newest = max(snapshots, key=lambda snapshot: snapshot.createtxg, default=None)
    for snapshot in snapshots:
        reasons = []
        if snapshot.holds:
            reasons.append("held")
        if snapshot.guid in needed:
            reasons.append(f"needed by {needed[snapshot.guid]}")
        if snapshot is newest:
            reasons.append("newest of its dataset")
        if reasons:
            guards[snapshot.name] = tuple(reasons)
    return guards


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
