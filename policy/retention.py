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


@dataclass(frozen=True, slots=True)
class _Ranked:
    """A snapshot of ours; `rank` counts its kind from the newest, which is 1."""

    snapshot: Snapshot
    kind: Kind
    rank: int


def verdicts(
    policy: Policy, snapshots: Sequence[Snapshot], now: int, needed: Mapping[int, str] | None = None
) -> list[Verdict]:
    """A verdict on each of *snapshots*, all of one dataset, in their order.

    *needed* maps the guid of a snapshot that is the base of a replica to the name of the node that has it.
    Pure and idempotent: what is kept would be kept again without what goes.
    """
    ranked = {ours.snapshot.name: ours for ours in _rank(snapshots)}
    guards = _guards(snapshots, needed or {})
    found = []
    for snapshot in snapshots:
        ours = ranked.get(snapshot.name)
        if ours is None:
            found.append(Verdict(snapshot, True, ("not ours", *guards.get(snapshot.name, ()))))
        else:
            found.append(_verdict(policy, ours, now, guards.get(snapshot.name, ())))
    return found


def doomed(
    policy: Policy, snapshots: Sequence[Snapshot], now: int, needed: Mapping[int, str] | None = None
) -> list[Verdict]:
    """Only the verdicts of `verdicts` that something goes, oldest first."""
    outdated = [ours for ours in _rank(snapshots) if _is_outdated(policy, ours, now)]
    if not outdated:
        return []
    guards = _guards(snapshots, needed or {})
    gone = [_verdict(policy, ours, now, ()) for ours in outdated if ours.snapshot.name not in guards]
    return sorted(gone, key=lambda verdict: age_order(verdict.snapshot))


def age_order(snapshot: Snapshot) -> tuple[int, int]:
    """Sorts the oldest first; equal creations by transaction."""
    return snapshot.creation, snapshot.createtxg


def _rank(snapshots: Sequence[Snapshot]) -> list[_Ranked]:
    counts: dict[Kind, int] = {}
    found = []
    for snapshot in sorted(snapshots, key=age_order, reverse=True):
        kind = kind_of(snapshot.name)
        if kind is not None:
            counts[kind] = counts.get(kind, 0) + 1
            found.append(_Ranked(snapshot, kind, counts[kind]))
    return found


def _is_outdated(policy: Policy, ours: _Ranked, now: int) -> bool:
    count = policy.count(ours.kind)
    young = ours.snapshot.creation >= now - count * policy.period(ours.kind)
    return policy.autoprune and ours.rank > count and not young


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


def _verdict(policy: Policy, ours: _Ranked, now: int, guards: tuple[str, ...]) -> Verdict:
    count = policy.count(ours.kind)
    place = f"{ours.kind} {ours.rank} of {count}"
    limit = f"{count} {_UNITS[ours.kind]}{'' if count == 1 else 's'}"
    if _is_outdated(policy, ours, now):
        why = f"{place}, older than {limit}" if count else f"{ours.kind} {ours.rank}, none is kept"
        return Verdict(ours.snapshot, bool(guards), (why, *guards))
    if ours.rank <= count:
        why = place
    elif not policy.autoprune:
        why = f"{place}, autoprune is off"
    else:
        why = f"{place}, not older than {limit}"
    return Verdict(ours.snapshot, True, (why, *guards))
