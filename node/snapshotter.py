"""Snapshots by policy: APScheduler is the tick, `policy.tick` decides, this takes and destroys what it said.

What is due is derived from the newest snapshots, so a tick that was lost loses nothing.
"""

import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from node.storage import node_roots
from policy.rules import Assignment, resolve
from policy.tick import Inventory, Notice, Tick, plan_tick
from zfs import errors
from zfs.door import Zfs
from zfs.model import Snapshot

log = logging.getLogger(__name__)


class Snapshotter:
    """Owns the scheduler. `taken` is called with each dataset that got a snapshot."""

    def __init__(
        self,
        zfs: Zfs,
        *,
        now: Callable[[], float] = time.time,
        needed: Callable[[str], Mapping[int, str]],
        replica_roots: Callable[[], Collection[str]],
        taken: Callable[[str], None],
    ) -> None:
        self._zfs = zfs
        self._now = now
        self._needed = needed
        self._replica_roots = replica_roots
        self._taken = taken
        self._assignments: Sequence[Assignment] = ()
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self.notices: tuple[Notice, ...] = ()
        self.chosen: tuple[str, ...] = ()

    def configure(self, assignments: Sequence[Assignment], tick_seconds: int) -> None:
        """Take the rules of a new configuration; the next tick is at once."""
        self._assignments = assignments
        self._scheduler.add_job(
            self.tick,
            IntervalTrigger(seconds=tick_seconds, timezone=UTC),
            id="tick",
            replace_existing=True,
            coalesce=True,
            misfire_grace_time=None,
            max_instances=1,
        )
        if self._scheduler.running:
            self._scheduler.modify_job("tick", next_run_time=_utc(self._now()))

    def start(self) -> None:
        """Begin to tick, at once."""
        self._scheduler.start()
        if self._scheduler.get_job("tick"):
            self._scheduler.modify_job("tick", next_run_time=_utc(self._now()))

    def stop(self) -> None:
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    async def tick(self) -> Tick:
        """One round: list, decide, take, destroy."""
        if not self._assignments:
            self.notices = self.chosen = ()
            return Tick()
        datasets = [dataset.name for dataset in await self._zfs.datasets()]
        # By name too: where replicas lie now is known only after the first look, and they may have moved.
        roots = {*self._replica_roots(), *node_roots(datasets)}
        resolution = resolve(self._assignments, datasets, roots)
        self.chosen = tuple(resolution.chosen)
        snapshots: list[Snapshot] = []
        needed: dict[int, str] = {}
        for dataset in self.chosen:
            try:
                snapshots += await self._zfs.snapshots(dataset)
            except errors.ZfsError as error:  # one that cannot be listed must not keep the others from theirs
                log.warning("no snapshot of %s this time: %s", dataset, error)
                del resolution.chosen[dataset]
                continue
            needed |= self._needed(dataset)
        inventory = Inventory(tuple(snapshots), tuple(await self._zfs.pools()))
        decided = plan_tick(inventory, resolution, int(self._now()), needed)
        self.notices = (*decided.warnings, *(await self._carry_out(decided)))
        return decided

    async def _carry_out(self, decided: Tick) -> list[Notice]:
        trouble = []
        for group in decided.groups(int(self._now())):
            try:
                await self._zfs.snapshot(group.names)
            except errors.ZfsError as error:
                trouble.append(
                    Notice("snapshot_failed", group.pool, f"could not take {group.kind} snapshots: {error}")
                )
                log.warning("could not take %s snapshots of %s: %s", group.kind, group.pool, error)
                continue
            log.info("took %s", ", ".join(group.names))
            for name in group.names:
                self._taken(name.partition("@")[0])
        doomed = [verdict.snapshot.full_name for verdict in decided.destroy]
        if doomed:
            for verdict in decided.destroy:
                log.info("destroying %s: %s", verdict.snapshot.full_name, ", ".join(verdict.reasons))
            for name, reason in (await self._zfs.destroy_snapshots(doomed)).items():
                trouble.append(Notice("prune_failed", name, f"could not destroy {name}: {reason}"))
        return trouble


def _utc(epoch: float) -> datetime:
    return datetime.fromtimestamp(epoch, UTC)
