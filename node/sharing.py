"""Shares: what the settings let other nodes mount, served by NFS and announced; and mounting what others announce."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from mesh.objects import Export as Announced
from mesh.trust import Member
from node.errors import Exit, MeshkeepError
from node.exports import Skipped, desired
from node.membership import Membership
from node.mount_units import Wanted
from node.mounts import Mounts
from node.nfs import Exports, squash_identity
from node.settings import ShareRule
from zfs.door import Zfs

log = logging.getLogger(__name__)


class Sharing:
    """Both ends of NFS. `refresh` asks a peer for what it says of itself now."""

    def __init__(
        self,
        zfs: Zfs,
        membership: Membership,
        exports: Exports,
        mounts: Mounts,
        *,
        shares: Callable[[], Sequence[ShareRule]],
        refresh: Callable[[Member], Awaitable[None]],
    ) -> None:
        self._zfs = zfs
        self._mesh = membership
        self._exports = exports
        self._mounts = mounts
        self._shares = shares
        self._refresh = refresh
        self.skipped: tuple[Skipped, ...] = ()
        self._exported = True  # until looked: an earlier run may have left exports behind

    async def apply(self) -> None:
        """Serve exactly what the settings and the mesh allow now, and say so in this node's record."""
        shares = list(self._shares())
        addresses = {m.name: self._mesh.address_of(m.id) for m in self._mesh.view().active()}
        datasets = {one.name: one for one in await self._zfs.datasets()} if shares else {}
        shared = [name for name in dict.fromkeys(share.dataset for share in shares) if name in datasets]
        places = await self._zfs.mountpoints(shared)
        wanted, skipped = await asyncio.to_thread(
            desired, shares, datasets, places, addresses, squash_identity
        )
        applied = await self._exports.apply(wanted)
        self.skipped = (*skipped, *applied.skipped)
        self._exported = bool(applied.exported)
        by_address = {self._mesh.address_of(m.id): m.public for m in self._mesh.view().active()}
        self._mesh.announce_exports(
            [
                Announced(
                    guid=datasets[export.dataset].guid,
                    path=export.path,
                    dataset=export.dataset,
                    writable=rw,
                    allowed=tuple(
                        sorted(
                            by_address[c.address]
                            for c in export.clients
                            if c.rw == rw and c.address in by_address
                        )
                    ),
                )
                for export in applied.exported
                for rw in sorted({client.rw for client in export.clients})
            ]
        )

    @property
    def serving(self) -> bool:
        """Whether anything is exported or could not be."""
        return bool(self._exported or self.skipped)

    async def revoke(self, address: str) -> None:
        """A node was evicted: what it mounted is gone when this returns."""
        await self._exports.revoke(address)

    # -- mounting ----------------------------------------------------------------------------------------------

    async def mount(self, node: str, dataset: str | None, path: str | None, directory: str) -> dict[str, Any]:
        """Mount a peer's share. Raises MeshkeepError."""
        me = self._mesh.me()
        what = f"{node}:{dataset or path}"
        peer = self._mesh.peer(node)
        if me.role == "vault":
            raise MeshkeepError("a vault mounts nothing", code="role_refuses", exit=Exit.REFUSED)
        if peer.role == "vault":
            raise MeshkeepError(
                f"cannot mount {what}: {node} is a vault and shares nothing",
                code="vault_refuses",
                exit=Exit.REFUSED,
                why="what it stores is ciphertext without a key",
                hint=f"meshkeep restore dataset {dataset or 'DATASET'} --from {node} --to NAME --wait",
            )
        await self._refresh(self._mesh.view().members[peer.id])
        export = self._find(peer.id, dataset, path)
        if export is None:
            raise MeshkeepError(
                f"cannot mount {what}: {node} does not share it",
                code="not_shared",
                exit=Exit.NOT_FOUND,
                hint=f"on {node}: meshkeep share add {dataset or 'DATASET'} --to {me.name}",
            )
        if me.public not in export.allowed:
            raise MeshkeepError(
                f"cannot mount {what}: it is not shared with {me.name}",
                code="not_shared_with_us",
                exit=Exit.NOT_PERMITTED,
                hint=f"on {node}: meshkeep share add {export.dataset} --to {me.name}",
            )
        await self._mounts.mount(Wanted(node, peer.address, export.path, directory, export.writable))
        return {
            "node": node,
            "dataset": export.dataset,
            "path": export.path,
            "dir": directory,
            "rw": export.writable,
        }

    async def umount(self, directory: str) -> dict[str, Any]:
        """Raises MeshkeepError."""
        await self._mounts.umount(directory)
        return {"dir": directory}

    def _find(self, node: str, dataset: str | None, path: str | None) -> Announced | None:
        record = self._mesh.view().members[node].record
        mine = self._mesh.identity.public
        found = [e for e in (record.exports if record else ()) if dataset == e.dataset or path == e.path]
        return next((e for e in found if mine in e.allowed), found[0] if found else None)
