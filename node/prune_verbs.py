"""The verbs prune.plan and prune.run: what was shown is what runs, or nothing."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from node.api import Request
from node.errors import Exit, MeshkeepError
from node.policy_verbs import Rules, dataset_of, must_exist
from node.prune_plans import VALID, Part, PrunePlans, Seen, check_unchanged, look, part_of
from policy.explain import reason_of
from policy.retention import Verdict
from policy.rules import Policy, Resolution
from policy.tick import deferred
from zfs.door import Zfs
from zfs.errors import ZfsError
from zfs.model import Snapshot
from zfs.names import is_below, pool_of


class Outcome(Protocol):
    """What became of a prune; `failed` has the reasons by full name."""

    @property
    def destroyed(self) -> tuple[str, ...]: ...

    @property
    def failed(self) -> Mapping[str, str]: ...


class Destroyer(Protocol):
    """`node.pruner.Pruner`."""

    async def destroy(self, verdicts: Sequence[Verdict], policies: Mapping[str, Policy]) -> Outcome: ...


class PruneVerbs:
    """Handlers. `needed` gives the bases of replicas by dataset."""

    def __init__(
        self,
        zfs: Zfs,
        rules: Rules,
        pruner: Destroyer,
        *,
        needed: Callable[[str], Mapping[int, str]],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._zfs = zfs
        self._rules = rules
        self._pruner = pruner
        self._needed = needed
        self._now = now
        self._plans = PrunePlans()

    async def plan(self, request: Request) -> dict[str, Any]:
        """What pruning by hand would destroy, under an id by which exactly that can be run. Changes nothing.

        Retention is applied also where autoprune is off, and whatever the brake holds back; a deferral holds unless
        forced.
        """
        resolution = await self._rules.resolution()
        wanted = await self._wanted(request, resolution)
        capacities = {pool.name: pool.capacity for pool in await self._zfs.pools()}
        waits = {} if request.args.get("force") else _waiting(wanted, capacities)
        histories, troubles = await self._histories([name for name in wanted if name not in waits])
        now = int(self._now())
        parts = [
            part_of(name, wanted[name], history, now, self._needed(name))
            for name, history in histories.items()
        ]
        plan = self._plans.add(parts, now) if any(part.going for part in parts) else None
        return {
            "schema": "meshkeep.prune-plan/1",
            "plan": plan.id if plan else None,
            "valid_until": now + VALID if plan else None,
            "datasets": [self._told(part, resolution.chosen[part.dataset].policy) for part in parts],
            "deferred": [{"dataset": name, "reason": why} for name, why in waits.items()],
            "failed": [{"dataset": name, "reason": why} for name, why in troubles.items()],
        }

    async def run(self, request: Request) -> dict[str, Any]:
        """Run a plan that was shown. Raises MeshkeepError (refused) when it is unknown, old or does not fit."""
        plan = self._plans.get(str(request.args.get("plan")), int(self._now()))
        histories, _ = await self._histories([part.dataset for part in plan.parts])
        present: dict[str, Seen] = {
            name: look(history, self._needed(name)) for name, history in histories.items()
        }
        check_unchanged(plan, present)
        self._plans.forget(plan.id)
        done = await self._pruner.destroy(plan.verdicts, plan.policies)
        return {
            "schema": "meshkeep.prune/1",
            "plan": plan.id,
            "destroyed": [*done.destroyed],
            "failed": [{"snapshot": name, "reason": why} for name, why in done.failed.items()],
        }

    async def _wanted(self, request: Request, resolution: Resolution) -> dict[str, Policy]:
        """The datasets that are meant, with their policies. Raises MeshkeepError where there is nothing to go by."""
        policies = {name: chosen.policy for name, chosen in resolution.chosen.items()}
        if request.args.get("dataset") is None:
            return policies
        dataset = dataset_of(request.args)
        await must_exist(self._zfs, dataset)
        below = request.args.get("recursive")
        found = {
            name: policy
            for name, policy in policies.items()
            if name == dataset or (below and is_below(name, dataset))
        }
        if not found:
            raise MeshkeepError(
                f"{dataset} has no policy to prune by",
                code="no_policy",
                exit=Exit.REFUSED,
                why=resolution.excluded.get(dataset, "no rule is for it"),
                hint=f"meshkeep policy explain {dataset}",
            )
        return found

    async def _histories(self, datasets: Sequence[str]) -> tuple[dict[str, list[Snapshot]], dict[str, str]]:
        """Fresh from ZFS, holds and all; and those that cannot be listed, with why."""
        found, troubles = {}, {}
        for name, listed in (await self._zfs.histories(datasets)).items():
            if isinstance(listed, ZfsError):
                troubles[name] = str(listed)
            else:
                found[name] = listed
        return found, troubles

    def _told(self, part: Part, policy: Policy) -> dict[str, Any]:
        return {
            "dataset": part.dataset,
            "destroy": [_line(verdict) for verdict in part.going],
            "frees_at_least": part.frees,
            "keep": part.keep,
            "spared": [_line(verdict) for verdict in part.spared],
            "autoprune": policy.autoprune,
            "waiting": self._rules.waiting.get(part.dataset, 0),
        }


def _waiting(policies: Mapping[str, Policy], capacities: Mapping[str, int]) -> dict[str, str]:
    reasons = ((name, deferred(policy, capacities.get(pool_of(name)))) for name, policy in policies.items())
    return {name: reason for name, reason in reasons if reason}


def _line(verdict: Verdict) -> dict[str, Any]:
    snapshot = verdict.snapshot
    return {"snapshot": snapshot.full_name, "used": snapshot.used, "reason": reason_of(verdict)}
