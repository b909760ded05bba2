"""The verbs of the local API that say what the rules come to: policy list, show, explain, plan and test."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

from node import paper
from node.api import Request
from node.errors import Exit, MeshkeepError
from node.paper import Form
from node.policy_places import Places, alike
from node.settings import Settings
from node.storage import node_roots
from policy.brake import held_back
from policy.explain import explain, keep_line, plan_body, policy_body, waits
from policy.rules import Policy, Resolution
from policy.sanoid_ini import Section
from policy.tick import Inventory, Tick, plan_tick
from zfs import errors as zfs_errors
from zfs.door import Zfs
from zfs.model import Snapshot
from zfs.names import InvalidName, check_dataset, pool_of


class Rules(Protocol):
    """The rules in force and what is there, as `node.snapshotter` knows them."""

    @property
    def waiting(self) -> Mapping[str, int]:
        """By dataset, how many snapshots the brake keeps from being pruned."""
        ...

    @property
    def sanoid_sections(self) -> Mapping[str, Section]:
        """Those of the sanoid.conf in force, by name."""
        ...

    async def resolution(self) -> Resolution: ...

    async def histories(self, datasets: Iterable[str]) -> dict[str, tuple[Snapshot, ...]]: ...


class PolicyVerbs:
    """Handlers. `needed` gives the bases of replicas by dataset; `replica_roots` is where replicas of others lie."""

    def __init__(
        self,
        zfs: Zfs,
        rules: Rules,
        *,
        settings: Callable[[], Settings],
        needed: Callable[[str], Mapping[int, str]],
        replica_roots: Callable[[], Collection[str]],
        now: Callable[[], float] = time.time,
    ) -> None:
        self._zfs = zfs
        self._rules = rules
        self._settings = settings
        self._needed = needed
        self._replica_roots = replica_roots
        self._now = now
        self._reading = asyncio.Lock()

    async def listing(self, _: Request) -> dict[str, Any]:
        """Every policy, of which file, and how many datasets have it."""
        resolution = await self._rules.resolution()
        places = self._places()
        return {
            "schema": "meshkeep.policy-list/1",
            "policies": [
                {
                    "name": policy.name,
                    "at": places.of_policy(policy),
                    "keep": keep_line(policy),
                    "autosnap": policy.autosnap,
                    "autoprune": policy.autoprune,
                    "datasets": datasets,
                }
                for policy, datasets in self._policies(resolution).items()
            ],
            "unmatched": [*resolution.unmatched],
        }

    async def show(self, request: Request) -> dict[str, Any]:
        """All values of the policies of one name: one, unless sanoid.conf and our own files both have it."""
        name = str(request.args.get("policy"))
        known = self._policies(await self._rules.resolution())
        found = [policy for policy in known if policy.name == name]
        if not found:
            raise MeshkeepError(
                f'there is no policy "{name}"',
                code="no_policy",
                exit=Exit.NOT_FOUND,
                hint="meshkeep policy list",
            )
        places = self._places()
        return {
            "schema": "meshkeep.policy-show/1",
            "policy": name,
            "policies": [
                {
                    "at": places.of_policy(policy),
                    "datasets": known[policy],
                    "values": {
                        key: {"value": value, "at": places.of_value(policy, key)}
                        for key, value in policy_body(policy).items()
                    },
                }
                for policy in found
            ],
        }

    async def explain(self, request: Request) -> dict[str, Any]:
        """One dataset: which policy and why, what it comes to now and what comes next."""
        dataset = dataset_of(request.args)
        await must_exist(self._zfs, dataset)
        resolution = await self._rules.resolution()
        head: dict[str, Any] = {"schema": "meshkeep.policy-explain/1", "dataset": dataset, "policy": None}
        chosen = resolution.chosen.get(dataset)
        if chosen is None:
            return {**head, "reason": resolution.excluded.get(dataset, "no rule is for it")}
        history = await self._zfs.snapshots(dataset)
        pools = {pool.name: pool.capacity for pool in await self._zfs.pools()}
        told = explain(
            chosen, history, int(self._now()), self._needed(dataset), pools.get(pool_of(dataset))
        ).as_json()
        held = {one.full_name for one in history if one.holds}
        for pinned in told["pinned"]:
            name = pinned["snapshot"]
            pinned["tags"] = await self._zfs.holds(name) if name in held else []
        places = self._places()
        rule, at = places.of_rule(dataset, chosen.policy)
        return {
            **head,
            "policy": chosen.policy.name,
            "reason": chosen.reason,
            "rule": rule,
            "rule_at": at,
            "policy_at": places.of_policy(chosen.policy),
            "keep": keep_line(chosen.policy),
            "autosnap": chosen.policy.autosnap,
            "autoprune": chosen.policy.autoprune,
            "along": [*chosen.along],
            **told,
            "waiting": self._rules.waiting.get(dataset, 0),
        }

    async def plan(self, _: Request) -> dict[str, Any]:
        """What the next tick would do by the rules in force."""
        resolution = await self._rules.resolution()
        seen = await self._see(resolution.chosen)
        decided = seen.tick(resolution)
        warned = replace(decided, warnings=(*decided.warnings, *waits(decided, seen.counts, resolution)))
        return {"schema": "meshkeep.policy-plan/1", **plan_body(warned)}

    async def test(self, request: Request) -> dict[str, Any]:
        """What other rules would do with what is there now, and how that differs from those in force."""
        form, texts = _candidate(request.args)
        datasets = [dataset.name for dataset in await self._zfs.datasets()]
        roots = {*self._replica_roots(), *node_roots(datasets)}
        zone = self._settings().timezone
        # Many rules for many datasets take their time, and anybody of the group may ask: not in the agent's own thread.
        async with self._reading:
            then = await asyncio.to_thread(paper.resolve_texts, form, texts, datasets, roots, zone)
        now = await self._rules.resolution()
        seen = await self._see({**now.chosen, **then.chosen})
        new, old = seen.tick(then), seen.tick(now)
        return {
            "schema": "meshkeep.policy-test/1",
            **plan_body(new),
            "changed": [
                {"dataset": dataset, "was": _name(now, dataset), "becomes": _name(then, dataset)}
                for dataset in datasets
                if _policy(now, dataset) != _policy(then, dataset)
            ],
            "difference": {
                "take_more": _takes(new, old),
                "take_less": _takes(old, new),
                "prune_more": _prunes(new, old),
                "prune_less": _prunes(old, new),
            },
            "waiting": held_back(new.destroy, seen.counts, then),
        }

    async def _see(self, datasets: Iterable[str]) -> "_Seen":
        histories = await self._rules.histories(datasets)
        needed: dict[int, str] = {}
        for dataset in histories:
            needed |= self._needed(dataset)
        inventory = Inventory(
            tuple(one for history in histories.values() for one in history),
            tuple(await self._zfs.pools()),
            frozenset(one.name for one in await self._zfs.datasets() if one.written == 0),
        )
        return _Seen(histories, inventory, needed, int(self._now()))

    def _places(self) -> Places:
        return Places(self._settings(), self._rules.sanoid_sections)

    def _policies(self, resolution: Resolution) -> dict[Policy, int]:
        """Each policy, with the number of its datasets."""
        counts = dict.fromkeys(self._settings().policies.values(), 0)
        for chosen in resolution.chosen.values():
            policy = chosen.policy
            known = next((one for one in counts if one.name == policy.name and alike(one, policy)), policy)
            counts[known] = counts.get(known, 0) + 1
        return counts


@dataclass(frozen=True, slots=True)
class _Seen:
    """What is there, for deciding by several rules."""

    histories: Mapping[str, tuple[Snapshot, ...]]
    inventory: Inventory
    needed: Mapping[int, str]
    now: int

    @property
    def counts(self) -> dict[str, int]:
        return {dataset: len(history) for dataset, history in self.histories.items()}

    def tick(self, resolution: Resolution) -> Tick:
        return plan_tick(self.inventory, resolution, self.now, self.needed)


def dataset_of(args: Mapping[str, Any]) -> str:
    """The argument "dataset". Raises MeshkeepError (usage)."""
    try:
        return check_dataset(str(args.get("dataset") or ""))
    except InvalidName as error:
        raise MeshkeepError(str(error), code="bad_name", exit=Exit.USAGE) from None


async def must_exist(zfs: Zfs, dataset: str) -> None:
    """Raises MeshkeepError (not found)."""
    try:
        await zfs.dataset(dataset)
    except zfs_errors.NotFound:
        raise MeshkeepError(
            f"there is no dataset {dataset} here", code="no_dataset", exit=Exit.NOT_FOUND, hint="zfs list"
        ) from None


def _candidate(args: Mapping[str, Any]) -> tuple[Form, list[tuple[str, str]]]:
    form, texts = args.get("form"), args.get("texts")
    if form not in ("toml", "sanoid") or not isinstance(texts, list):
        raise MeshkeepError("policy.test needs form and texts", code="bad_request", exit=Exit.USAGE)
    try:
        return cast(Form, form), [(str(file), str(text)) for file, text in texts]
    except (TypeError, ValueError):
        raise MeshkeepError(
            "policy.test: texts are pairs of a file's name and its text", code="bad_request", exit=Exit.USAGE
        ) from None


def _name(resolution: Resolution, dataset: str) -> str | None:
    policy = _policy(resolution, dataset)
    return policy.name if policy else None


def _policy(resolution: Resolution, dataset: str) -> Policy | None:
    chosen = resolution.chosen.get(dataset)
    return chosen.policy if chosen else None


def _takes(one: Tick, other: Tick) -> list[dict[str, Any]]:
    known = {(take.dataset, take.kind) for take in other.take}
    return [
        {"dataset": take.dataset, "type": take.kind}
        for take in one.take
        if (take.dataset, take.kind) not in known
    ]


def _prunes(one: Tick, other: Tick) -> list[str]:
    known = {verdict.snapshot.full_name for verdict in other.destroy}
    return [verdict.snapshot.full_name for verdict in one.destroy if verdict.snapshot.full_name not in known]
