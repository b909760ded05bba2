"""Two histories and a partly received stream in; steps, a conflict, or nothing to do out.

Versions are the same when their guids are: a name says nothing. The only base that a stream can be received
on is the target's newest snapshot (ZFS refuses any other without force, and force does not exist here). What
the source has of that snapshot, itself or a bookmark, decides:

    target's newest is on the source       steps from it to the source's newest
    only an older one is                   diverged
    none is                                no common base
    target has no snapshot                 the oldest in full (or the newest only, if the rule
                                           says so), then every step up to the newest

Of the second and the third nothing is overwritten or rolled back: they are conflicts, or, if the rule says so, the
target keeps what it has aside under another name, and a new replica is begun. So is one of the other mode.

What the rule does not select is not sent. It may all the same be the base: of an earlier rule, or of a seed.
"""

from dataclasses import replace
from itertools import pairwise

from replication import conflicts
from replication.conflicts import Conflict
from replication.history import NOTHING_THERE, Base, Rule, SourceHistory, TargetSnapshot, TargetState
from replication.selector import EVERY
from replication.steps import Abort, Full, Incremental, Plan, Resume, Rotate, Step, UpToDate
from zfs.model import Bookmark, ResumeState, Snapshot


def plan(source: SourceHistory, target: TargetState | None, rule: Rule) -> Plan | Conflict | UpToDate:
    """Decide how the target gets to the source's newest snapshot. `target` is None where nothing is there."""
    there = target or NOTHING_THERE
    refusal = _refusal(source, there, rule)
    if refusal is not None:
        return _settled(source, there, refusal, rule)
    found = _base(source, there, rule)
    if isinstance(found, Conflict):
        return _settled(source, there, found, rule)
    return _steps(source, there, found, rule)


def _settled(source: SourceHistory, there: TargetState, conflict: Conflict, rule: Rule) -> Plan | Conflict:
    """A replica that has to make way is kept aside if the rule says so, and if there is something to take its place."""
    replacing = _to_send(source, None, rule)
    if conflict.kind not in conflicts.REPLACED or not replacing:
        return conflict
    newest = there.oldest_first()[-1]
    if rule.on_divergence != "rotate":
        return replace(conflict, newest=newest.guid)
    steps: list[Step] = []
    if there.resume is not None:
        steps.append(Abort(there.resume.to_guid, "the replica it would add to is kept aside"))
    steps.append(
        Rotate(newest.guid, f"the replica that ends with @{newest.name} is kept aside: {conflict.text}")
    )
    steps += _onwards(replacing, None, _Names(()))
    reasons = (
        conflict.text,
        "the rule says to keep the old replica aside under another name, and to begin a new one",
    )
    return Plan(tuple(steps), None, raw=source.encrypted, reasons=reasons)


def _refusal(source: SourceHistory, there: TargetState, rule: Rule) -> Conflict | None:
    if not source.encrypted and (rule.target_role == "vault" or not rule.allow_plaintext):
        return conflicts.plaintext(source, rule)
    if there.snapshots and rule.raw != source.encrypted:
        return conflicts.mode_changed(source, rule)
    if there.snapshots and source.encrypted and there.key_root not in (None, source.dataset):
        return conflicts.replica_root(source, rule, str(there.key_root))
    if there.exists and not there.snapshots and there.resume is None and _to_send(source, None, rule):
        return conflicts.occupied(source, rule)
    return None


def _base(source: SourceHistory, there: TargetState, rule: Rule) -> Base | Conflict | None:
    """What the source has of the target's newest snapshot; None where the target has no snapshot."""
    received = there.oldest_first()
    if not received:
        return None
    ours = source.by_guid()
    common = [(snapshot, found) for snapshot in received if (found := ours.get(snapshot.guid))]
    if not common:
        return conflicts.no_common_base(source, rule, received)
    newest, base = max(common, key=lambda pair: pair[1].createtxg)
    ahead = [snapshot for snapshot in received if snapshot.createtxg > newest.createtxg]
    if ahead:
        return conflicts.diverged(source, rule, f"@{newest.name}", ahead)
    return base


def _steps(source: SourceHistory, there: TargetState, base: Base | None, rule: Rule) -> Plan | UpToDate:
    reasons = [_why_base(base, rule)]
    steps: list[Step] = []
    start = base
    if there.resume is not None:
        first = _resume(source, there, base, there.resume)
        steps.append(first)
        reasons.append(_why_resume(first))
        start = first.to if isinstance(first, Resume) else base
    names = _Names(there.snapshots)
    steps += _onwards(_to_send(source, start, rule), start, names)
    if rule.selector != EVERY:
        reasons.append(f"only some snapshots are sent: {rule.selector}")
    if not steps:
        nothing = (
            f"{source.dataset} has no snapshot newer than that" if base else "there is no snapshot to send"
        )
        return UpToDate(base, (*reasons, nothing))
    if source.encrypted:
        reasons.append("encrypted data is always sent raw")
    return Plan(tuple(steps), base, raw=source.encrypted, reasons=tuple(reasons))


def _to_send(source: SourceHistory, start: Base | None, rule: Rule) -> list[Snapshot]:
    """The selected snapshots behind *start*, oldest first; for None all of them, or the newest only."""
    wanted = [one for one in source.oldest_first() if rule.selector.wants(one)]
    if start is None:
        return wanted[-1:] if rule.initial == "newest" else wanted
    return [one for one in wanted if one.createtxg > start.createtxg]


def _onwards(newer: list[Snapshot], start: Base | None, names: "_Names") -> list[Step]:
    """One stream for each of *newer*; the first is a full one where there is no *start*."""
    if not newer:
        return []
    first = (
        Full(newer[0], names.of(newer[0]))
        if start is None
        else Incremental(start, newer[0], names.of(newer[0]))
    )
    return [first, *(Incremental(base, to, names.of(to)) for base, to in pairwise(newer))]


def _resume(
    source: SourceHistory, there: TargetState, base: Base | None, state: ResumeState
) -> Resume | Abort:
    """Go on with what was cut short, if the source can still make that very stream."""
    to = source.find_snapshot(state.to_guid)
    if to is None:
        return Abort(state.to_guid, f"@{state.to_name} is no longer on the source")
    if state.raw != source.encrypted:
        began = "raw" if state.raw else "unencrypted"
        return Abort(state.to_guid, f"the stream of @{to.name} was begun {began}, which no longer fits")
    if state.from_guid != (base.guid if base else None):
        return Abort(state.to_guid, f"the stream of @{to.name} does not begin at the newest common snapshot")
    if base is not None and to.createtxg <= base.createtxg:
        return Abort(state.to_guid, f"@{to.name} is not newer than what the target has")
    return Resume(base, to, _Names(there.snapshots).of(to), state.object, state.offset)


class _Names:
    """Names on the target: the source's own, unless another snapshot has it there (reused names happen)."""

    def __init__(self, taken: tuple[TargetSnapshot, ...]) -> None:
        self._taken = {snapshot.name for snapshot in taken}

    def of(self, snapshot: Snapshot) -> str:
        return f"{snapshot.name}_{snapshot.guid:016x}" if snapshot.name in self._taken else snapshot.name


def _why_base(base: Base | None, rule: Rule) -> str:
    if base is None and rule.initial == "newest":
        return "the target has no snapshot: the newest goes in full, and later ones after it"
    if base is None:
        return "the target has no snapshot: the oldest goes in full, then every later one"
    if isinstance(base, Bookmark):
        return (
            f"the target's newest snapshot is gone from the source, but bookmark #{base.name} is left of it"
        )
    return f"@{base.name} is the newest snapshot both sides have (guid {base.guid}), and the target's newest"


def _why_resume(step: Resume | Abort) -> str:
    if isinstance(step, Resume):
        return f"the stream of @{step.to.name} was cut short and goes on where it stopped"
    return f"what was partly received is dropped: {step.reason}"
