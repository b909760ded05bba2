"""Plans to prune: what a person was shown is what then runs, or nothing. Kept in memory; decides nothing by itself."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from node.errors import Exit, MeshkeepError
from policy.retention import Verdict, doomed, verdicts
from policy.rules import Policy
from zfs.model import Snapshot

VALID = 900
"""Seconds that a plan can be run after it was made."""

MANY = 64
"""So many plans are remembered; then the oldest is forgotten."""

SHOWN = 10


@dataclass(frozen=True, slots=True)
class Part:
    """One dataset of a plan: what goes, what only `spared` reasons keep from going, and how many stay."""

    dataset: str
    policy: Policy
    going: tuple[Verdict, ...]
    spared: tuple[Verdict, ...]
    keep: int
    seen: "Seen"

    @property
    def frees(self) -> int:
        """Bytes: at least so many, since what only these snapshots share is counted for none of them."""
        return sum(verdict.snapshot.used for verdict in self.going)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a plan rests on: the guids of all snapshots by their full names, and why each is kept at all costs."""

    guids: Mapping[str, int]
    guards: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class PrunePlan:
    """`made` is when, in seconds since the epoch."""

    id: str
    made: int
    parts: tuple[Part, ...]

    @property
    def verdicts(self) -> tuple[Verdict, ...]:
        """Everything that goes."""
        return tuple(verdict for part in self.parts for verdict in part.going)

    @property
    def policies(self) -> dict[str, Policy]:
        """The policy of each dataset."""
        return {part.dataset: part.policy for part in self.parts}


def part_of(
    dataset: str, policy: Policy, history: Sequence[Snapshot], now: int, needed: Mapping[int, str]
) -> Part:
    """What pruning *dataset* by hand comes to: as its policy says, also if that does not prune by itself."""
    policy = replace(policy, autoprune=True)
    going = tuple(doomed(policy, history, now, needed))
    bare = replace(policy, keep_last=0, keep_every=())
    outdated = {one.snapshot.name for one in doomed(bare, [replace(one, holds=0) for one in history], now)}
    spared = tuple(
        verdict
        for verdict in verdicts(policy, history, now, needed)
        if verdict.keep and verdict.snapshot.name in outdated
    )
    return Part(dataset, policy, going, spared, len(history) - len(going), look(history, needed))


def look(history: Sequence[Snapshot], needed: Mapping[int, str]) -> Seen:
    """What a plan would rest on now."""
    guards: dict[str, str] = {}
    for one in history:
        if one.guid in needed:
            guards[one.full_name] = f"needed by {needed[one.guid]}"
        elif one.holds:
            guards[one.full_name] = "held"
    return Seen({one.full_name: one.guid for one in history}, guards)


class PrunePlans:
    """The plans that were shown and can still be run."""

    def __init__(self) -> None:
        self._plans: dict[str, PrunePlan] = {}

    def add(self, parts: Sequence[Part], now: int) -> PrunePlan:
        """Remember a plan. The same snapshots make the same id; the later plan takes the earlier one's place."""
        plan = PrunePlan(_id(parts), now, tuple(part for part in parts if part.going))
        self._plans.pop(plan.id, None)
        self._plans[plan.id] = plan
        for other in list(self._plans.values()):
            if len(self._plans) > MANY or now - other.made > 2 * VALID:
                del self._plans[other.id]
        return plan

    def get(self, id: str, now: int) -> PrunePlan:
        """Raises MeshkeepError (refused) for a plan that is not known or too old."""
        plan = self._plans.get(id)
        if plan is None:
            raise MeshkeepError(
                f"there is no plan {id}",
                code="no_plan",
                exit=Exit.REFUSED,
                why="plans are forgotten when they have run, after half an hour, and when the agent restarts",
                hint="meshkeep prune -n",
            )
        age = now - plan.made
        if not 0 <= age <= VALID:
            raise MeshkeepError(
                f"the plan {id} is too old to be run",
                code="plan_expired",
                exit=Exit.REFUSED,
                why=f"it was made {age // 60} minutes ago; {VALID // 60} is the most",
                hint="meshkeep prune -n",
            )
        return plan

    def forget(self, id: str) -> None:
        """It has run."""
        self._plans.pop(id, None)


def check_unchanged(plan: PrunePlan, present: Mapping[str, Seen]) -> None:
    """*present* is how the datasets of the plan look now. Raises MeshkeepError (refused) that says what changed."""
    changes = [change for part in plan.parts for change in _changes(part, present.get(part.dataset))]
    if changes:
        more = len(changes) - SHOWN
        raise MeshkeepError(
            f"the plan {plan.id} does not fit any more: nothing was destroyed",
            code="plan_changed",
            exit=Exit.REFUSED,
            why="\n".join([*changes[:SHOWN], *([f"and {more} more changes"] if more > 0 else [])]),
            hint="meshkeep prune -n",
        )


def _changes(part: Part, now: Seen | None) -> list[str]:
    if now is None:
        return [f"{part.dataset} cannot be seen any more"]
    then = part.seen
    found = [f"{name} came" for name in now.guids if name not in then.guids]
    found += [f"{name} went" for name in then.guids if name not in now.guids]
    found += [
        f"{name} is another snapshot now"
        for name, guid in then.guids.items()
        if now.guids.get(name, guid) != guid
    ]
    going = [verdict.snapshot.full_name for verdict in part.going]
    found += [f"{name} is {now.guards[name]} now" for name in going if name in now.guards]
    return found


def _id(parts: Sequence[Part]) -> str:
    doomed = sorted(
        f"{verdict.snapshot.full_name} {verdict.snapshot.guid}" for part in parts for verdict in part.going
    )
    return hashlib.blake2b("\n".join(doomed).encode(), digest_size=4).hexdigest()
