"""What the rules come to, said so that a person can check it: the same values for CLI, page and JSON. Pure."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from policy.brake import held_back
from policy.due import END, latest_slots
from policy.naming import kind_of
from policy.retention import Verdict, guards_of, verdicts
from policy.rules import KINDS, Chosen, Kind, Policy, Resolution
from policy.tick import Notice, Tick, deferred, newest_by_kind
from zfs.model import Snapshot

NAMES_OTHERS = 5
"""So many patterns of names that are not ours are told apart."""


def reason_of(verdict: Verdict) -> str:
    """The reasons of a verdict in one line, as the log has them too."""
    return ", ".join(verdict.reasons)


def plan_body(decided: Tick) -> dict[str, Any]:
    """What a tick decided, as the fields of ``meshkeep.policy-plan/1``."""
    return {
        "take": [
            {
                "dataset": take.dataset,
                "type": take.kind,
                "recursive": take.recursive,
                "reason": take.reason,
            }
            for take in decided.take
        ],
        "prune": [
            {"snapshot": verdict.snapshot.full_name, "reason": reason_of(verdict)}
            for verdict in decided.destroy
        ],
        "warnings": [notice_body(notice) for notice in decided.warnings],
    }


def notice_body(notice: Notice) -> dict[str, str]:
    """One warning."""
    return {"code": notice.code, "subject": notice.subject, "text": notice.text, "try": notice.hint}


def waits(decided: Tick, snapshots: Mapping[str, int], resolution: Resolution) -> tuple[Notice, ...]:
    """A warning for each dataset where the brake holds back what *decided* destroys. *snapshots* counts all."""
    return tuple(
        Notice(
            "prune_waits",
            dataset,
            f"{count} of the {snapshots[dataset]} snapshots of {dataset} would go at once, they wait for a person",
            f"meshkeep prune -n {dataset}",
        )
        for dataset, count in held_back(decided.destroy, snapshots, resolution).items()
    )


def policy_body(policy: Policy) -> dict[str, Any]:
    """All values of a policy, flat, by their names in the configuration. Ages in seconds."""
    found: dict[str, Any] = {}
    for name in Policy.__dataclass_fields__:
        if name not in ("name", "hooks", "monitor", "keep_every"):
            found[name] = getattr(policy, name)
    found["keep_every"] = {str(rule).removeprefix("one per "): rule.count for rule in policy.keep_every}
    for name in type(policy.hooks).__dataclass_fields__:
        found[name] = getattr(policy.hooks, name)
    for name in ("monitor", "monitor_dont_warn", "monitor_dont_crit"):
        found[name] = getattr(policy.monitor, name)
    for kind in reversed(KINDS):
        limit = policy.monitor.limit(kind)
        found[f"{kind}_warn"], found[f"{kind}_crit"] = limit.warn, limit.crit
    return found


def keep_line(policy: Policy) -> str:
    """``hourly 36 · daily 30``: what is kept, shortest period first."""
    parts = [f"{kind} {policy.count(kind)}" for kind in reversed(KINDS) if policy.count(kind)]
    if policy.keep_last:
        parts.append(f"last {policy.keep_last}")
    parts += [f"{rule}, {rule.count} of them" for rule in policy.keep_every]
    return " · ".join(parts) or "nothing"


@dataclass(frozen=True, slots=True)
class KindLine:
    """One kind: how many the policy keeps, how many there are, how many go; when the next is due (None: never)."""

    kind: Kind
    keep: int
    present: int
    going: int
    next_due: int | None


@dataclass(frozen=True, slots=True)
class Explanation:
    """All about one dataset under its policy.

    `pinned` are those that a hold or a replica keeps, whatever the counts say; `others` counts what is not ours by
    a pattern of its names; `deferred` says why nothing is pruned now, or nothing.
    """

    kinds: tuple[KindLine, ...]
    kept: int
    going: tuple[Verdict, ...]
    pinned: tuple[Verdict, ...]
    others: tuple[tuple[str, int], ...]
    deferred: str

    def as_json(self) -> dict[str, Any]:
        """As fields of ``meshkeep.policy-explain/1``."""
        return {
            "kinds": [
                {
                    "type": line.kind,
                    "keep": line.keep,
                    "present": line.present,
                    "going": line.going,
                    "next_due": line.next_due,
                }
                for line in self.kinds
            ],
            "kept": self.kept,
            "going": [{"snapshot": one.snapshot.full_name, "reason": reason_of(one)} for one in self.going],
            "pinned": [{"snapshot": one.snapshot.full_name, "reason": reason_of(one)} for one in self.pinned],
            "others": [{"pattern": pattern, "count": count} for pattern, count in self.others],
            "deferred": self.deferred,
        }


def explain(
    chosen: Chosen,
    history: Sequence[Snapshot],
    now: int,
    needed: Mapping[int, str],
    capacity: int | None = None,
) -> Explanation:
    """What *chosen* comes to for a dataset with *history*, all its snapshots. *capacity* is for `deferred`."""
    policy = chosen.policy
    judged = verdicts(policy, history, now, needed)
    kinds = {verdict.snapshot.name: kind_of(verdict.snapshot.name, policy.loose_names) for verdict in judged}
    present = Counter(kinds.values())
    going = tuple(verdict for verdict in judged if not verdict.keep)
    leaving = Counter(kinds[verdict.snapshot.name] for verdict in going)
    due = next_due(policy, newest_by_kind(policy, history), now)
    guards = guards_of(replace(policy, keep_last=0, keep_every=()), history, needed)
    return Explanation(
        tuple(
            KindLine(kind, policy.count(kind), present[kind], leaving[kind], due.get(kind))
            for kind in reversed(KINDS)
            if policy.count(kind) or present[kind]
        ),
        len(judged) - len(going),
        going,
        tuple(
            replace(verdict, reasons=guards[verdict.snapshot.name])
            for verdict in judged
            if verdict.snapshot.name in guards
        ),
        others([name for name, kind in kinds.items() if kind is None]),
        deferred(policy, capacity),
    )


def next_due(policy: Policy, newest: Mapping[Kind, int], now: int) -> dict[Kind, int]:
    """When the next snapshot of each kind that *policy* takes is due: *now* if it is due already.

    One whose newest snapshot claims to be of a time beyond the calendar is never due, and not there.
    """
    found = {kind: _next(policy, kind, newest.get(kind), now) for kind in latest_slots(policy, now)}
    return {kind: at for kind, at in found.items() if at is not None}


def _next(policy: Policy, kind: Kind, last: int | None, now: int) -> int | None:
    """The first moment from *now* on whose latest slot lies behind *last*, if there is one."""
    counts: dict[str, Any] = {other: policy.count(other) if other == kind else 0 for other in KINDS}
    only = replace(policy, **counts)
    if last is None or latest_slots(only, now)[kind] > last:
        return now
    before = max(now, last)
    after = before + policy.period(kind)
    while after < END and latest_slots(only, after)[kind] <= last:
        before, after = after, after + policy.period(kind)
    if after >= END:
        return None
    while after - before > 1:
        middle = (before + after) // 2
        if latest_slots(only, middle)[kind] > last:
            after = middle
        else:
            before = middle
    return after


def others(names: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """How many names there are of each pattern, the most frequent first; the rare ones as "other names"."""
    counted = Counter(_pattern(name) for name in names).most_common()
    if len(counted) > NAMES_OTHERS:
        rest = sum(count for _, count in counted[NAMES_OTHERS - 1 :])
        counted = [*counted[: NAMES_OTHERS - 1], ("other names", rest)]
    return tuple(counted)


def _pattern(name: str) -> str:
    """``zfs-auto-snap_daily-*``: a name up to its first digit."""
    found = re.match(r"[^0-9]+(?=[0-9])", name)
    return f"{found[0]}*" if found else name
