"""Holds and bookmarks that earlier rules left on this host: found at start and after each change of the rules.

A hold pins space for ever, so what no rule asks for is released; but only by a configuration without mistakes, in a
mesh that is known, and never on a dataset that is being sent.
"""

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from node.api import Request
from node.job import Job, RuleSpec
from replication.guard import Known, Leftover, hold_tag, orphans
from replication.history import SourceHistory
from zfs import errors
from zfs.door import Zfs
from zfs.names import is_below

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Nodes:
    """The nodes of the mesh by id: those that are in it, and those that are out for good, with their names."""

    active: Mapping[str, str]
    gone: Mapping[str, str]


class Rules(Protocol):
    """The replicator, as far as it matters here."""

    @property
    def rules(self) -> Collection[RuleSpec]: ...

    @property
    def jobs(self) -> Collection[Job]: ...


class Leftovers:
    """`nodes` is None while the mesh is not known, `sound` false while the configuration has mistakes.

    `passed_over` are the trees of others' replicas, where no mark is a source's.
    """

    def __init__(
        self,
        zfs: Zfs,
        rules: Rules,
        *,
        nodes: Callable[[], Nodes | None],
        sound: Callable[[], bool],
        passed_over: Callable[[], Collection[str]],
        now: Callable[[], float],
    ) -> None:
        self._zfs = zfs
        self._rules = rules
        self._nodes = nodes
        self._sound = sound
        self._passed_over = passed_over
        self._now = now
        self.found: tuple[Leftover, ...] = ()

    async def find(self) -> tuple[Leftover, ...]:
        """Look at every dataset. Empty while it cannot be known. Raises ZfsError."""
        nodes = self._nodes()
        if nodes is None or not self._sound():
            return ()
        found: list[Leftover] = []
        passed_over = self._passed_over()
        for dataset in await self._zfs.datasets():
            name = dataset.name
            if any(name == root or is_below(name, root) for root in passed_over):
                continue
            try:
                source, held = await self._look(name)
            except errors.NotFound:
                continue
            found += orphans(source, held, self._known(name, nodes), now=int(self._now()))
        return tuple(found)

    def _known(self, dataset: str, nodes: Nodes) -> Known:
        """A rule names a target by its name: of the node that has it now. One whose name nobody has is out."""
        names = {rule.target for rule in self._rules.rules if rule.branch.covers(dataset)}
        named = {node for node, name in nodes.active.items() if name in names or node in names}
        return Known(named, nodes.active, nodes.gone)

    async def _look(self, dataset: str) -> tuple[SourceHistory, dict[int, list[str]]]:
        look = await self._zfs.look(dataset)
        held = {one.guid: await self._zfs.holds(one.full_name) for one in look.snapshots if one.holds}
        return SourceHistory(dataset, look.snapshots, look.bookmarks, look.dataset.encrypted), held

    async def reconcile(self, *, everything: bool = False) -> tuple[Leftover, ...]:
        """Find, say, and release what is surely nobody's; with *everything* what is in doubt too. Raises ZfsError."""
        found = await self.find()
        for one in found:
            if one not in self.found:
                log.info("%s: left for %s by an earlier rule: %s", one.dataset, one.target_id, one.why)
            if one.certain or everything:
                await self._release(one, everything)
        self.found = found
        return found

    async def _release(self, one: Leftover, everything: bool) -> None:
        """Decided on what was there a moment ago, so what began meanwhile is looked for once more."""
        nodes = self._nodes()
        busy = any(job.running for job in self._rules.jobs if job.dataset == one.dataset)
        if nodes is None or busy or not self._sound():
            return
        if one.target_id in self._known(one.dataset, nodes).named:
            return
        if one.release:
            log.info("releasing %s, held for %s", ", ".join(one.release), one.target_id)
            await self._zfs.release(hold_tag(one.target_id), one.release)
        doomed = (*one.destroy, *(one.kept if everything else ()))
        if doomed:
            log.info("destroying %s", ", ".join(doomed))
            await self._zfs.destroy_bookmarks(doomed)

    async def verb(self, request: Request) -> dict[str, Any]:
        """``replicate.leftovers``: what there is; with ``release`` all of it goes."""
        release = bool(request.args.get("release"))
        found = await self.reconcile(everything=True) if release else await self.find()
        return {
            "schema": "meshkeep.replicate-leftovers/1",
            "released": release,
            "leftovers": [
                {
                    "dataset": one.dataset,
                    "target": one.target_id,
                    "why": one.why,
                    "holds": list(one.release),
                    "bookmarks": [*one.destroy, *one.kept],
                    "certain": one.certain,
                }
                for one in found
            ],
        }
