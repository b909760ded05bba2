"""Who attacks: root of a host, with its keys, its address in the mesh and its tunnel."""

import asyncio
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from mesh.identity import Identity, mesh_address
from mesh.link import Link
from mesh.store import MeshStore
from mesh.trust import Member, Trust

INTERFACE = "meshkeep0"
PORT = 801


@dataclass
class Thief:
    """`dataset` is what is attacked; all its names are as they are at home."""

    trust: Trust
    identity: Identity
    vault: str = "cloud"
    other: str = "laptop"
    dataset: str = "tank/photos"
    kept: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def here(cls) -> "Thief":
        """With what lies on this host's disk."""
        store = MeshStore()
        trust = store.load_trust()
        assert trust is not None
        return cls(trust, store.identity())

    # -- who is who --------------------------------------------------------------------------------------------

    @property
    def mesh(self) -> bytes:
        return self.trust.view().mesh_id

    def member(self, name: str) -> Member:
        return next(one for one in self.trust.view().members.values() if one.name == name)

    def address(self, name: str) -> str:
        return mesh_address(self.mesh, self.member(name).id)

    @property
    def own_address(self) -> str:
        return mesh_address(self.mesh, self.identity.id)

    @property
    def link(self) -> Link:
        return Link(self.own_address, device=INTERFACE)

    # -- asking ------------------------------------------------------------------------------------------------

    async def ask(
        self, verb: str, args: dict[str, Any] | None = None, timeout: float = 20.0
    ) -> dict[str, Any]:
        """As the agent does."""
        return await self.link.call(self.address(self.vault), verb, args or {}, timeout)

    async def offer(self, args: dict[str, Any], data: bytes, timeout: float = 30.0) -> dict[str, Any]:
        """``replica.receive`` with any arguments and any bytes."""
        address = self.address(self.vault)
        async with self.link.stream(address, "replica.receive", args, timeout=timeout) as stream:
            await asyncio.to_thread(pour, stream.socket, data)
            return await stream.finish(timeout)

    async def push(
        self,
        data: bytes,
        to: int,
        base: int | None,
        *,
        dataset: str | None = None,
        name: str = "forged",
        raw: bool = True,
    ) -> dict[str, Any]:
        """One stream, announced as that of a snapshot with the guid *to*. What it leaves half done is dropped."""
        where = dataset or self.dataset
        try:
            return await self.offer(announced(where, (name, to, base), raw=raw), data)
        finally:
            with suppress(Exception):
                await self.ask("replica.abort", {"dataset": where})

    # -- this host's own ZFS -----------------------------------------------------------------------------------

    def guid(self, name: str) -> int:
        return int(run("zfs", "get", "-Hp", "-o", "value", "guid", name))

    def stream(self, to: str, base: str | None = None, *flags: str) -> bytes:
        """``zfs send``; raw unless other *flags* are given."""
        since = ["-i", base] if base else []
        words = ["zfs", "send", *(flags or ("-w",)), *since, to]
        return subprocess.run(words, check=True, capture_output=True).stdout

    def snapshot(self, dataset: str, name: str, text: str = "") -> int:
        """A file that changed and a snapshot of it; its guid."""
        with open(f"/{dataset}/changed", "a") as file:
            file.write(text or name * 1000)
        run("zfs", "snapshot", f"{dataset}@{name}")
        return self.guid(f"{dataset}@{name}")


def announced(
    dataset: str, *steps: tuple[str, int, int | None], raw: bool = True, size: int = 0
) -> dict[str, Any]:
    """The arguments of ``replica.receive``."""
    told = [{"name": name, "to_guid": to, "from_guid": base, "size": size} for name, to, base in steps]
    return {"dataset": dataset, "raw": raw, "resuming": False, "steps": told}


def pour(sock: socket.socket, data: bytes) -> None:
    """All of it and the end; a vault that hangs up has said why, or will."""
    with suppress(OSError):
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)


def run(*words: str) -> str:
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()
