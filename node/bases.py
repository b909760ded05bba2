"""The source's holds and bookmarks on its disk: read, and changed as `replication.guard` says. Decides nothing."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from node.job import Job
from node.looks import Looks
from replication.guard import Guard, applied, hold_tag, let_go, reconcile
from replication.history import SourceHistory
from zfs.door import Zfs
from zfs.model import Look


@dataclass(frozen=True, slots=True)
class Kept:
    """A dataset's versions, and the hold tags on its snapshots, by guid."""

    source: SourceHistory
    held: Mapping[int, Collection[str]]


class Bases:
    """`looks` are told of each dataset on which something was changed."""

    def __init__(self, zfs: Zfs, looks: Looks) -> None:
        self._zfs = zfs
        self._looks = looks

    async def read(self, source: SourceHistory) -> Kept:
        """With the tags on each snapshot that has any."""
        held = [snapshot for snapshot in source.snapshots if snapshot.holds]
        tags = await asyncio.gather(*(self._zfs.holds(snapshot.full_name) for snapshot in held))
        return Kept(source, {snapshot.guid: names for snapshot, names in zip(held, tags, strict=True)})

    async def keep(self, kept: Kept, target_id: str, *, common: int | None, to: Collection[int] = ()) -> Kept:
        """Exactly what this target needs is kept from now on (`replication.guard.reconcile`)."""
        return await self.apply(kept, reconcile(kept.source, kept.held, target_id, common=common, to=to))

    async def apply(self, kept: Kept, change: Guard) -> Kept:
        """What is made is on disk before anything goes. Of each kind one call, and two that wait for the disk at once
        wait for the same write.
        """
        make = [(snapshot, mark) for snapshot, mark in change.create]
        if not (make or change.hold or change.release or change.destroy):
            return kept
        try:
            async with asyncio.TaskGroup() as group:
                if make:
                    group.create_task(self._zfs.bookmark_all({mark: snapshot for snapshot, mark in make}))
                if change.hold:
                    group.create_task(self._zfs.hold(change.tag, change.hold))
            async with asyncio.TaskGroup() as group:
                if change.release:
                    group.create_task(self._zfs.release(change.tag, change.release))
                if change.destroy:
                    group.create_task(self._zfs.destroy_bookmarks(change.destroy))
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from failed
        finally:
            self._looks.forget(kept.source.dataset)
        return Kept(*applied(kept.source, kept.held, change))

    def letting_go(self, kept: Kept, target_id: str) -> Guard:
        """For `apply`: each hold becomes a bookmark."""
        return let_go(kept.source, kept.held, target_id)

    async def forget(self, dataset: str, target_id: str) -> None:
        """Release all that was kept for this target."""
        self._looks.forget(dataset)
        kept = await self.read(history_of(await self._looks.at(dataset)))
        tag = hold_tag(target_id)
        held = [one.full_name for one in kept.source.snapshots if tag in kept.held.get(one.guid, ())]
        mine = f"meshkeep_{target_id}_"
        marks = [mark.full_name for mark in kept.source.bookmarks if mark.name.startswith(mine)]
        await self.apply(kept, Guard(tag, release=tuple(held), destroy=tuple(marks)))


def history_of(look: Look) -> SourceHistory:
    """As the planner wants it."""
    return SourceHistory(look.dataset.name, look.snapshots, look.bookmarks, look.dataset.encrypted)


def note_bases(job: Job, source: SourceHistory, guids: Sequence[int]) -> None:
    """From which versions the target's next stream may begin, and what is pinned by that."""
    job.bases = tuple(guids)
    found = source.by_guid()
    job.base_creation = max((found[guid].creation for guid in guids if guid in found), default=0)
    job.pinned = sum(one.used for one in source.snapshots if one.guid in guids)
