"""A restore drill: the newest snapshot of a copy is received into a scratch dataset, opened, mounted and read.

What it makes lies below POOL/meshkeep-drill, is noted before it is made, and is destroyed at the end; what one that was
ended in the middle left, the next one destroys. Nothing else is ever destroyed here.
"""

import asyncio
import contextlib
import logging
import os
import random
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from node.copies import Copy
from node.errors import Exit, MeshkeepError
from node.local_state import LocalState
from node.restore import Restorer, Tell, Wanted
from zfs import errors as zfs_errors
from zfs.door import Zfs
from zfs.names import parent_of, pool_of

log = logging.getLogger(__name__)

FOLDER = "meshkeep-drill"
MARK = "meshkeep:drill"
FILES = 40
CHUNK = 1 << 20
ROOT_PROPERTIES = {"canmount": "off", "mountpoint": "none", MARK: "yes"}
SAFE = {"readonly": "on", "setuid": "off", "exec": "off", "devices": "off", "canmount": "noauto"}


@dataclass(frozen=True, slots=True)
class Seen:
    """What was read completely. `bad` are files that could not be, with the reason; `of` is how many there are."""

    files: int
    bytes: int
    of: int
    bad: tuple[str, ...] = ()


Read = Callable[[Path, int | None], Seen]


class Drill:
    """Runs drills, one at a time. `mounts` is a directory that only root enters."""

    def __init__(
        self,
        zfs: Zfs,
        restorer: Restorer,
        local: LocalState,
        mounts: Path,
        *,
        now: Callable[[], float],
        read: Read | None = None,
    ) -> None:
        self._zfs = zfs
        self._restorer = restorer
        self._local = local
        self._mounts = mounts
        self._now = now
        self._read = read or read_some
        self._running = False

    async def run(
        self, dataset: str, node: str | None, passphrase: bytes | None, limit: int | None, progress: Tell
    ) -> dict[str, Any]:
        """Prove the copy of *dataset* on *node*: *limit* random files of it, or all for None. Raises MeshkeepError."""
        if self._running:
            raise MeshkeepError("a drill is under way", code="drill_running", exit=Exit.REFUSED)
        self._running = True
        try:
            copy = await self._restorer.choose(Wanted(dataset, node, dataset))
            await self._clean()
            parent = await self._parent(dataset)
            scratch = f"{parent}/{secrets.token_hex(4)}"
            self._local.begin_drill(scratch)
            self._local.begin_restore(parent)  # no policy and no rule goes into it meanwhile
            try:
                await self._make(parent)
                report = await self._prove(copy, scratch, passphrase, limit, progress)
            finally:
                await self._destroy(scratch)
        finally:
            self._running = False
        if report["state"] == "proven":
            facts = {key: report[key] for key in ("at", "snapshot", "as_of", "files", "bytes_read")}
            self._local.save_proven(dataset, copy.peer.name, facts)
        return report

    async def _prove(
        self, copy: Copy, scratch: str, passphrase: bytes | None, limit: int | None, progress: Tell
    ) -> dict[str, Any]:
        newest = replace(copy, snapshots=(copy.newest,))
        wanted = Wanted(copy.dataset, copy.peer.name, scratch, owner=copy.owner)
        received = await self._restorer.fetch(wanted, newest, progress)
        report = {
            "dataset": copy.dataset,
            "node": copy.peer.name,
            "snapshot": copy.newest.name,
            "as_of": copy.newest.creation,
            "bytes": received["bytes"],
            "at": int(self._now()),
            "state": "received, unproven",
            "why": "",
            "files": 0,
            "of": 0,
            "bytes_read": 0,
        }
        here = await self._zfs.dataset(scratch)
        if here.kind != "filesystem":
            return report | {"why": "it is a volume: it came whole, and nothing here can read files in it"}
        if here.encrypted:
            if passphrase is None:
                return report | {"why": "without its key nobody can say what is in it"}
            await self._open(copy, scratch, passphrase)
        await progress({"text": "reading"})
        seen = await self._look_into(scratch, limit)
        if seen.bad:
            raise MeshkeepError(
                f"{len(seen.bad)} files of {copy.dataset} on {copy.peer.name} cannot be read",
                code="unreadable",
                why="; ".join(seen.bad[:5]),
                hint=f"zpool scrub, on {copy.peer.name}",
            )
        return report | {
            "state": "proven",
            "files": seen.files,
            "of": seen.of,
            "bytes_read": seen.bytes,
        }

    async def _open(self, copy: Copy, scratch: str, passphrase: bytes) -> None:
        try:
            await self._zfs.load_key(scratch, passphrase)
        except zfs_errors.WrongKey as error:
            raise MeshkeepError(
                f"this key does not open the copy of {copy.dataset} on {copy.peer.name}",
                code="key_does_not_open",
                why="the copy needs the key that the dataset had when it was sent",
                hint="try the passphrase of then; if nobody knows it, begin a new copy while the original is here",
            ) from error

    async def _look_into(self, scratch: str, limit: int | None) -> Seen:
        self._mounts.mkdir(parents=True, exist_ok=True, mode=0o700)
        place = Path(tempfile.mkdtemp(prefix="drill-", dir=self._mounts))  # mode 0700
        try:
            await self._zfs.set(scratch, {**SAFE, "mountpoint": str(place)})
            await self._zfs.mount(scratch)
            return await asyncio.to_thread(self._read, place, limit)
        finally:
            await self._zfs.unmount(scratch)
            place.rmdir()  # it is empty, or it is still mounted: then nothing goes

    async def _parent(self, dataset: str) -> str:
        """Below which the scratch goes: in the pool of *dataset* if that is here, else where most is free."""
        pools = {pool.name: pool.free for pool in await self._zfs.pools() if not pool.readonly}
        if not pools:
            raise MeshkeepError("there is no pool here for a drill", code="no_storage", exit=Exit.REFUSED)
        pool = pool_of(dataset) if pool_of(dataset) in pools else max(pools, key=lambda name: pools[name])
        return f"{pool}/{FOLDER}"

    async def _make(self, parent: str) -> None:
        """A drill takes at most half of what is free."""
        try:
            marked = (await self._zfs.own_properties([parent]))[parent].get(MARK) == "yes"
        except zfs_errors.NotFound:
            await self._zfs.create(parent, ROOT_PROPERTIES)
            marked = True
        if not marked:
            raise MeshkeepError(
                f"{parent} is there, and no drill made it",
                code="destination_exists",
                exit=Exit.REFUSED,
                hint=f"zfs rename {parent} {parent}-2",
            )
        room = (await self._zfs.dataset(pool_of(parent))).available // 2
        await self._zfs.set(parent, {"quota": str(room)})

    async def _clean(self) -> None:
        """What earlier drills left, for they were ended."""
        for scratch in sorted(self._local.drills()):
            await self._destroy(scratch)

    async def _destroy(self, scratch: str) -> None:
        """Exactly what a drill noted, and only where a drill makes things. What does not go stays noted."""
        parent = parent_of(scratch) or ""
        try:
            if pool_of(scratch) not in {pool.name for pool in await self._zfs.pools()}:
                return  # it may be there again when its pool is
            properties = (await self._zfs.own_properties([parent]))[parent]
            if parent.endswith(f"/{FOLDER}") and properties.get(MARK) == "yes":
                with contextlib.suppress(zfs_errors.NotFound):
                    await self._destroy_all_of(scratch)
                with contextlib.suppress(zfs_errors.Busy):  # there is something below it that no drill noted
                    await self._zfs.destroy_dataset(parent)
        except zfs_errors.NotFound:
            log.info("nothing is left of the drill in %s", scratch)
        except zfs_errors.ZfsError as error:
            log.warning("%s stays until the next drill: %s", scratch, error)
            return
        self._local.end_drill(scratch)
        for name in (scratch, parent):
            self._local.end_restore(name)

    async def _destroy_all_of(self, scratch: str) -> None:
        await self._zfs.dataset(scratch)
        if await self._zfs.resume_state(scratch) is not None:
            await self._zfs.abort_receive(scratch)
        await self._zfs.unmount(scratch)
        failed = await self._zfs.destroy_snapshots(
            [one.full_name for one in await self._zfs.snapshots(scratch)]
        )
        for error in failed.values():
            raise error
        await self._zfs.destroy_dataset(scratch)


def read_some(root: Path, limit: int | None, rng: random.Random | None = None) -> Seen:
    """Read *limit* random files below *root* to their ends, or all for None. Follows no link, opens no device."""
    found = list(_files(root))
    chosen = (
        found if limit is None or limit >= len(found) else (rng or random.SystemRandom()).sample(found, limit)
    )
    count, bad = 0, []
    for path in chosen:
        try:
            count += _read_whole(path)
        except OSError as error:
            bad.append(f"{path.relative_to(root)}: {error.strerror}")
    return Seen(len(chosen) - len(bad), count, len(found), tuple(bad))


def _files(root: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error

    for directory, _, names in os.walk(root, onerror=fail, followlinks=False):
        for name in names:
            path = Path(directory, name)
            if stat.S_ISREG(path.lstat().st_mode):
                yield path


def _read_whole(path: Path) -> int:
    count = 0
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:
        while piece := file.read(CHUNK):
            count += len(piece)
    return count
