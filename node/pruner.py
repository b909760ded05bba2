"""Destroying what a decision said goes: looked at again just before, hooks around it, one call for each pool.

The decision may rest on a list that is a minute old. Whatever has come between (a hold, another snapshot of the same
name) keeps the snapshot, and is said.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from node.hooks import HookResult, HookRunner
from node.taker import some_at_once
from policy.retention import Verdict
from policy.rules import Hooks, Policy
from replication.guard import cursor_name
from zfs import errors
from zfs.door import Zfs
from zfs.model import Snapshot
from zfs.names import pool_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pruned:
    """Full names of what is gone, and by full name why something is not."""

    destroyed: tuple[str, ...] = ()
    failed: dict[str, str] = field(default_factory=dict)


class Pruner:
    """`needed` gives the bases of a dataset's replicas (guid to the names of nodes), `node_id` a node's id by name.

    `pruned` and `unpruned` count by dataset what was destroyed and what could not be.
    """

    def __init__(
        self,
        zfs: Zfs,
        hooks: HookRunner,
        *,
        needed: Callable[[str], Mapping[int, str]],
        node_id: Callable[[str], str | None] = lambda name: None,
    ) -> None:
        self._zfs = zfs
        self._hooks = hooks
        self._needed = needed
        self._node_id = node_id
        self.pruned: Counter[str] = Counter()
        self.unpruned: Counter[str] = Counter()

    async def destroy(self, verdicts: Sequence[Verdict], policies: Mapping[str, Policy]) -> Pruned:
        """Destroy the snapshots of *verdicts* that still are what they were. Raises nothing of ZFS."""
        failed: dict[str, str] = {}
        doomed: dict[str, Verdict] = {}
        wanted = _by_dataset(verdicts)
        found = await self._zfs.histories(list(wanted)) if wanted else {}
        for dataset, history in found.items():
            if isinstance(history, errors.ZfsError):
                if not isinstance(history, errors.NotFound):
                    failed |= {verdict.snapshot.full_name: str(history) for verdict in wanted[dataset]}
                continue
            hooks = policies[dataset].hooks if dataset in policies else Hooks()
            for verdict in await self._ready(wanted[dataset], history, hooks, failed):
                doomed[verdict.snapshot.full_name] = verdict
        destroyed: list[str] = []
        for names in _by_pool(doomed):
            destroyed += await self._pool(names, doomed, failed)
        await self._after([doomed[name].snapshot for name in destroyed], policies)
        self.pruned.update(name.partition("@")[0] for name in destroyed)
        self.unpruned.update(name.partition("@")[0] for name in failed)
        return Pruned(tuple(destroyed), failed)

    async def _ready(
        self, verdicts: Sequence[Verdict], history: Sequence[Snapshot], hooks: Hooks, failed: dict[str, str]
    ) -> list[Verdict]:
        """Those that may go now: there, not held, let go by the hook, and with a bookmark if a replica needs them."""
        present = {one.name: one for one in history}
        candidates = []
        for verdict in verdicts:
            now = present.get(verdict.snapshot.name)
            if now is None:
                continue
            why = await self._why_not(verdict.snapshot, now)
            if why:
                failed[now.full_name] = why
            else:
                candidates.append(verdict)
        let_go = await self._let_go(candidates, hooks, failed)
        return [one for one in let_go if await self._marked(one.snapshot, failed)]

    async def _why_not(self, decided: Snapshot, now: Snapshot) -> str:
        if now.guid != decided.guid:
            return "it is another snapshot now, of the same name"
        if not now.holds:
            return ""
        try:
            tags = await self._zfs.holds(now.full_name)
        except errors.ZfsError as error:
            return str(error)
        return f"it is held ({', '.join(tags)})" if tags else ""

    async def _let_go(
        self, verdicts: Sequence[Verdict], hooks: Hooks, failed: dict[str, str]
    ) -> Sequence[Verdict]:
        """What `pre_pruning_script` lets go."""
        if not hooks.pre_pruning_script:
            return verdicts
        let_go = []
        for verdict in verdicts:  # one after another, as sanoid runs them: such scripts write to one log
            snapshot = verdict.snapshot
            result = await self._hook(hooks.pre_pruning_script, snapshot, hooks, {})
            if result.ok:
                let_go.append(verdict)
            else:
                failed[snapshot.full_name] = f"pre_pruning_script {result.words}"
        return let_go

    async def _marked(self, snapshot: Snapshot, failed: dict[str, str]) -> bool:
        """See that a base that a replica needs outlives its snapshot as a bookmark."""
        target = self._needed(snapshot.dataset).get(snapshot.guid)
        if target is None:
            return True
        node_id = self._node_id(target)
        name = cursor_name(node_id, snapshot.guid) if node_id else f"meshkeep-base_{snapshot.guid:016x}"
        try:
            if all(mark.guid != snapshot.guid for mark in await self._zfs.bookmarks(snapshot.dataset)):
                await self._zfs.bookmark(snapshot.full_name, f"{snapshot.dataset}#{name}")
        except errors.ZfsError as error:
            failed[snapshot.full_name] = f"{target} needs it, and it has no bookmark: {error}"
            return False
        return True

    async def _pool(
        self, names: Sequence[str], doomed: Mapping[str, Verdict], failed: dict[str, str]
    ) -> list[str]:
        for name in names:
            log.info("destroying %s: %s", name, ", ".join(doomed[name].reasons))
        try:
            kept = await self._zfs.destroy_snapshots(names)
        except errors.ZfsError as error:
            kept = dict.fromkeys(names, error)
        failed.update({name: _why(error) for name, error in kept.items()})
        return [name for name in names if name not in kept]

    async def _after(self, gone: Sequence[Snapshot], policies: Mapping[str, Policy]) -> None:
        async def run(snapshot: Snapshot) -> HookResult:
            hooks = policies[snapshot.dataset].hooks
            return await self._hook(hooks.pruning_script, snapshot, hooks, {"SANOID_SCRIPT": "prune"})

        told = [one for one in gone if one.dataset in policies and policies[one.dataset].hooks.pruning_script]
        for snapshot, result in zip(told, await some_at_once(told, run, limit=1), strict=True):
            if not result.ok:
                log.warning("pruning_script for %s %s", snapshot.full_name, result.words)

    async def _hook(
        self, command: str, snapshot: Snapshot, hooks: Hooks, more: Mapping[str, str]
    ) -> HookResult:
        environment = {"SANOID_TARGET": snapshot.dataset, "SANOID_SNAPNAME": snapshot.name, **more}
        return await self._hooks.run(command, environment, hooks.script_timeout)


def _by_dataset(verdicts: Iterable[Verdict]) -> dict[str, list[Verdict]]:
    found: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if not verdict.keep:
            found.setdefault(verdict.snapshot.dataset, []).append(verdict)
    return found


def _by_pool(names: Iterable[str]) -> Iterable[list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        found.setdefault(pool_of(name), []).append(name)
    return found.values()


def _why(error: Exception) -> str:
    match error:
        case errors.Held():
            return "it is held"
        case errors.Busy():
            return f"it is cloned or in use ({error.detail})" if error.detail else "it is cloned or in use"
        case _:
            return str(error)
