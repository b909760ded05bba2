"""A restore drill: the newest snapshot of a copy is received aside, opened, mounted and read.

Where the original still has the same snapshot and is mounted, what is read is compared with it byte for byte.
"""

import asyncio
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

from node import mountinfo
from node.copies import Copy
from node.drill_reading import Seen, read_some
from node.errors import MeshkeepError
from node.local_state import LocalState
from node.restore import Restorer, Tell, Wanted
from node.scratch import Scratches
from zfs import errors as zfs_errors
from zfs.door import Zfs

FILES = 40
PROVEN = "proven"
UNPROVEN = "received, unproven"
FOUND_WANTING = frozenset({"key_does_not_open", "unreadable", "copy_differs"})
"""What a drill says of the copy itself; every other error only kept it from being looked at."""

Read = Callable[[Path, int | None, int, Path | None], Seen]


class Drill:
    """Runs drills, and notes how each went. `mounted` says where a dataset is mounted here, if it is."""

    def __init__(
        self,
        zfs: Zfs,
        restorer: Restorer,
        local: LocalState,
        scratches: Scratches,
        *,
        now: Callable[[], float],
        read: Read = read_some,
        mounted: Callable[[str], Path | None] | None = None,
    ) -> None:
        self._zfs = zfs
        self._restorer = restorer
        self._local = local
        self._scratches = scratches
        self._now = now
        self._read = read
        self._mounted = mounted or mounted_at

    @property
    def running(self) -> bool:
        """Whether one is under way."""
        return self._scratches.busy

    async def run(
        self,
        dataset: str,
        node: str | None,
        key: bytes | None,
        limit: int | None,
        progress: Tell,
        *,
        rate_limit: int | None = None,
    ) -> dict[str, Any]:
        """Prove the copy of *dataset* on *node*: *limit* random files of it, or all for None. Raises MeshkeepError.

        *rate_limit* in bytes a second.
        """
        async with self._scratches.alone():
            copy = await self._restorer.choose(Wanted(dataset, node, dataset, older=True))
            try:
                report = await self._prove(copy, key, limit, progress, rate_limit)
            except MeshkeepError as error:
                self.failed(dataset, copy.peer.name, error)
                raise
        facts = {name: report[name] for name in ("at", "snapshot", "as_of", "files", "bytes_read")}
        facts |= {name: report[name] for name in ("seed", "compared")}
        if report["state"] == PROVEN:
            self._local.save_proven(dataset, copy.peer.name, facts)
        self._local.save_drilled(
            dataset, copy.peer.name, {**facts, "state": report["state"], "why": report["why"]}
        )
        return report

    def failed(self, dataset: str, node: str, error: MeshkeepError) -> None:
        """Note what `status` and `check replication` say until a drill goes well."""
        why = f": {error.why}" if error.why else ""
        told = {"at": int(self._now()), "state": "failed", "code": error.code, "why": f"{error.what}{why}"}
        self._local.save_drilled(dataset, node, told)

    async def _prove(
        self, copy: Copy, key: bytes | None, limit: int | None, progress: Tell, rate_limit: int | None
    ) -> dict[str, Any]:
        report: dict[str, Any] = {
            "dataset": copy.dataset,
            "node": copy.peer.name,
            "snapshot": copy.newest.name,
            "as_of": copy.newest.creation,
            "at": int(self._now()),
            "state": UNPROVEN,
            "why": "",
            "files": 0,
            "of": 0,
            "bytes_read": 0,
            "compared": 0,
            "seed": secrets.randbits(32),
        }
        async with self._scratches.received(copy, progress, rate_limit) as received:
            report["bytes"], here = received.bytes, received.dataset
            if here.kind != "filesystem":
                return report | {
                    "why": "it is a volume: it came whole, and nothing here can read files in it"
                }
            if here.encrypted:
                if key is None:
                    return report | {"why": "without its key nobody can say what is in it"}
                await self._scratches.open(here.name, copy, key)
            await progress({"text": "reading"})
            seen = await self._look_into(here.name, copy, limit, report["seed"])
            _judge(seen, copy)
        return report | {
            "state": PROVEN,
            "files": seen.files,
            "of": seen.of,
            "bytes_read": seen.bytes,
            "compared": seen.compared,
        }

    async def _look_into(self, scratch: str, copy: Copy, limit: int | None, seed: int) -> Seen:
        original = await self._original(copy)
        async with self._scratches.mounted(scratch) as place:
            seen = await asyncio.to_thread(self._read, place, limit, seed, original)
            if original is not None and await self._original(copy) is None:
                # The original was pruned or unmounted meanwhile: what was missing there says nothing of the copy.
                seen = await asyncio.to_thread(self._read, place, limit, seed, None)
        return seen

    async def _original(self, copy: Copy) -> Path | None:
        """Where the very snapshot (by guid) can be read at its origin, if that is here, mounted and still has it."""
        try:
            snapshots = await self._zfs.snapshots(copy.dataset)
        except zfs_errors.ZfsError:
            return None
        here = next((one for one in snapshots if one.guid == copy.newest.guid), None)
        top = self._mounted(copy.dataset) if here is not None else None
        if here is None or top is None:
            return None
        place = top / ".zfs" / "snapshot" / here.name
        return place if await asyncio.to_thread(place.is_dir) else None


def _judge(seen: Seen, copy: Copy) -> None:
    """Raises MeshkeepError where the copy is not what it should be."""
    what = f"of {copy.dataset} on {copy.peer.name}"
    if seen.bad:
        raise MeshkeepError(
            f"{_files(seen.bad)} {what} cannot be read",
            code="unreadable",
            why="; ".join(seen.bad[:5]),
            hint=f"zpool scrub, on {copy.peer.name}",
        )
    if seen.different:
        raise MeshkeepError(
            f"{_files(seen.different)} {what} are not what @{copy.newest.name} has here",
            code="copy_differs",
            why="; ".join(seen.different[:5]),
            hint=f"keep that copy as it is, and begin another: meshkeep replicate add {copy.dataset} NODE",
        )


def _files(found: tuple[str, ...]) -> str:
    return "1 file" if len(found) == 1 else f"{len(found)} files"


def mounted_at(dataset: str) -> Path | None:
    """Where *dataset* is mounted on this host, if it is."""
    points = [one.point for one in mountinfo.read() if one.fstype == "zfs" and one.source == dataset]
    return Path(points[-1]) if points else None
