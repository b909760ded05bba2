"""A copy received into a dataset of its own, aside, to be looked into and destroyed again.

What is made lies below POOL/meshkeep-drill, is noted before it is made, and is destroyed at the end; what a host that
went down in the middle left, the next one destroys. Nothing else is ever destroyed here.
"""

import contextlib
import logging
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from node.copies import Copy
from node.errors import Exit, MeshkeepError
from node.local_state import LocalState
from node.restore import Restorer, Tell, Wanted
from zfs import errors as zfs_errors
from zfs.door import Zfs
from zfs.model import Dataset
from zfs.names import parent_of, pool_of
from zfs.sizes import size

log = logging.getLogger(__name__)

FOLDER = "meshkeep-drill"
MARK = "meshkeep:drill"
ROOT_PROPERTIES = {"canmount": "off", "mountpoint": "none", MARK: "yes"}
SAFE = {"readonly": "on", "setuid": "off", "exec": "off", "devices": "off", "canmount": "noauto"}


@dataclass(frozen=True, slots=True)
class Received:
    """What arrived: the scratch dataset as it is, and the bytes of the stream."""

    dataset: Dataset
    bytes: int


class Scratches:
    """One at a time. `mounts` is a directory that only root enters."""

    def __init__(self, zfs: Zfs, restorer: Restorer, local: LocalState, mounts: Path) -> None:
        self._zfs = zfs
        self._restorer = restorer
        self._local = local
        self._mounts = mounts
        self.busy = False

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Nobody else makes one meanwhile. Raises MeshkeepError where somebody does."""
        if self.busy:
            raise MeshkeepError(
                "a drill is under way",
                code="drill_running",
                exit=Exit.REFUSED,
                why="one copy at a time is received aside",
            )
        self.busy = True
        try:
            await self._clean()
            yield
        finally:
            self.busy = False

    @asynccontextmanager
    async def received(
        self, copy: Copy, progress: Tell, rate_limit: int | None = None
    ) -> AsyncIterator[Received]:
        """The newest snapshot of *copy*, there while the block runs. Raises MeshkeepError."""
        parent = await self._parent(copy.dataset)
        scratch = f"{parent}/{secrets.token_hex(4)}"
        self._local.begin_drill(scratch)
        self._local.begin_restore(parent)  # no policy and no rule goes into it meanwhile
        try:
            await self._make(parent, copy)
            newest = replace(copy, snapshots=(copy.newest,))
            wanted = Wanted(copy.dataset, copy.peer.name, scratch, owner=copy.owner, rate_limit=rate_limit)
            report = await self._restorer.fetch(wanted, newest, progress)
            yield Received(await self._zfs.dataset(scratch), int(report["bytes"]))
        finally:
            await self._destroy(scratch)

    async def open(self, scratch: str, copy: Copy, key: bytes) -> None:
        """Load its key. Raises MeshkeepError for one that does not fit."""
        try:
            await self._zfs.load_key(scratch, key)
        except zfs_errors.WrongKey as error:
            raise MeshkeepError(
                f"this key does not open the copy of {copy.dataset} on {copy.peer.name}",
                code="key_does_not_open",
                why="the copy needs the key that the dataset had when it was sent",
                hint="try the passphrase of then; if nobody knows it, begin a new copy while the original is here",
            ) from error

    @asynccontextmanager
    async def mounted(self, scratch: str) -> AsyncIterator[Path]:
        """Where it can be read by root alone, while the block runs."""
        self._mounts.mkdir(parents=True, exist_ok=True, mode=0o700)
        place = Path(tempfile.mkdtemp(prefix="drill-", dir=self._mounts))  # mode 0700
        try:
            await self._zfs.set(scratch, {**SAFE, "mountpoint": str(place)})
            await self._zfs.mount(scratch)
            yield place
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

    async def _make(self, parent: str, copy: Copy) -> None:
        """It takes at most half of what is free, and is not begun where that cannot do."""
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
        needed = await self._needed(copy)
        if needed > room:
            raise MeshkeepError(
                f"there is no room on {pool_of(parent)} to receive {copy.dataset} aside",
                code="no_room",
                exit=Exit.REFUSED,
                why=f"it needs {size(needed)}, and half of what is free is {size(room)}",
                hint=f"zfs list -o space -r {pool_of(parent)}",
            )
        await self._zfs.set(parent, {"quota": str(room)})

    async def _needed(self, copy: Copy) -> int:
        """Bytes, as the original says where it still has the snapshot; else the quota has the only word."""
        try:
            snapshots = await self._zfs.snapshots(copy.dataset)
            here = next((one for one in snapshots if one.guid == copy.newest.guid), None)
            return 0 if here is None else await self._zfs.send_size(here.full_name, None, raw=copy.encrypted)
        except zfs_errors.ZfsError:
            return 0

    async def _clean(self) -> None:
        """What earlier ones left, for they were ended."""
        for scratch in sorted(self._local.drills()):
            await self._destroy(scratch)

    async def _destroy(self, scratch: str) -> None:
        """Exactly what was noted, and only where such things are made. What does not go stays noted."""
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
