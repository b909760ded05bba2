"""Making the host's nfsd serve exactly the exports that `node.exports` worked out, by NFSv4 only."""

import asyncio
import pwd
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from node import mountinfo
from node.commands import CommandMissing, Result, Runner
from node.errors import MeshkeepError
from node.exports import (
    MANAGED,
    NOBODY,
    Export,
    Skipped,
    client_address,
    exports_text,
    granted,
    leaving,
    leaving_text,
    without,
)
from node.files import remove, write_atomic
from node.settings import ShareRule

_NFS_CONF = MANAGED + "[nfsd]\nvers3=n\nvers4=y\n"
_SERVER = "nfs-server.service"


@dataclass(frozen=True, slots=True)
class Applied:
    """What `Exports.apply` left behind; `notes` are for a person to read."""

    exported: tuple[Export, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...] = ()


def squash_identity(share: ShareRule, mountpoint: str) -> tuple[int, int]:
    """Whom the squashed accesses of a share act as: `map_to`, else the owner of *mountpoint*, never root.

    With ``squash = "root"`` it is root alone who is squashed, so without `map_to` that is nobody. Raises
    MeshkeepError for a user that does not exist.
    """
    if share.map_to is not None:
        return _user(share.map_to)
    if share.squash != "all":
        return NOBODY, NOBODY
    status = Path(mountpoint).stat()
    return (NOBODY, NOBODY) if status.st_uid == 0 else (status.st_uid, status.st_gid)


def _user(name: int | str) -> tuple[int, int]:
    try:
        entry = pwd.getpwuid(name) if isinstance(name, int) else pwd.getpwnam(name)
    except KeyError:
        if isinstance(name, int):
            return name, name
        raise MeshkeepError(f'there is no user "{name}" on this host', code="unknown_user") from None
    if entry.pw_uid == 0:
        raise MeshkeepError("a share cannot be mapped to root", code="unknown_user")
    return entry.pw_uid, entry.pw_gid


@dataclass(frozen=True, slots=True)
class Places:
    """The files that NFS on this host lives in."""

    exports: Path = Path("/etc/exports.d/meshkeep.exports")
    others: Path = Path("/etc/exports")
    conf: Path = Path("/etc/nfs.conf.d/meshkeep.conf")
    clients: Path = Path("/proc/fs/nfsd/clients")
    mountinfo: Path = mountinfo.HOST


class Exports:
    """Owns the managed exports file. Calls are serialised; the file itself is the memory between runs."""

    def __init__(self, runner: Runner, places: Places | None = None) -> None:
        self._runner = runner
        self._places = places or Places()
        self._lock = asyncio.Lock()
        self._synced: str | None = None

    async def apply(self, exports: Iterable[Export]) -> Applied:
        """Make nfsd serve exactly *exports*, but for those whose dataset is not mounted at its path.

        What is withdrawn is gone when this returns: unexported, flushed, the client's state expired. Raises
        MeshkeepError; what was withdrawn is then withdrawn as far as it went, and the call can be repeated.
        """
        async with self._lock:
            mounts = mountinfo.read(self._places.mountinfo)
            served, skipped = [], []
            for export in exports:
                seen = mountinfo.at(mounts, export.path)
                if seen is None or (seen.fstype, seen.source) != ("zfs", export.dataset):
                    skipped.append(
                        Skipped(export.dataset, f"{export.dataset} is not mounted at {export.path}")
                    )
                else:
                    served.append(export)
            notes = await self._write(exports_text(served))
            return Applied(tuple(served), tuple(skipped), notes)

    async def revoke(self, address: str) -> None:
        """Take every export from *address* at once, and throw its NFS client out.

        For a node that is evicted: nothing it mounted works when this returns, and nothing of ours stays busy
        because of it. Raises MeshkeepError.
        """
        async with self._lock:
            await self._write(without(self._current(), address))
            await asyncio.to_thread(self._expire, {address})

    def _current(self) -> str:
        try:
            return self._places.exports.read_text(encoding="utf-8")
        except FileNotFoundError:
            return MANAGED

    async def _write(self, text: str) -> tuple[str, ...]:
        before = self._current()
        if text == before and (text == self._synced or text == MANAGED):
            return ()
        grants = granted(text)
        lost = (granted(before) | leaving(before)) - grants
        if lost:
            # Until it is done the file says who is leaving, so that a crash on the way forgets nobody.
            await asyncio.to_thread(write_atomic, self._places.exports, text + leaving_text(lost))
            await self._withdraw({address for _, address in lost})
        notes: tuple[str, ...] = ()
        if grants:
            await asyncio.to_thread(write_atomic, self._places.exports, text)
            notes = await self._serve()
            await self._command("exportfs", "-ra")
        else:
            await asyncio.to_thread(remove, self._places.exports)
        self._synced = text
        return notes

    async def _withdraw(self, addresses: set[str]) -> None:
        try:
            await self._command("exportfs", "-ra")
        finally:
            # Also after a failure: exportfs fails over a line of somebody else's and has done the rest.
            await self._command("exportfs", "-f")
            await asyncio.to_thread(self._expire, addresses)

    async def _serve(self) -> tuple[str, ...]:
        """Have nfsd run, without version 3 unless somebody else's exports were served with it already."""
        conf = self._places.conf
        configured = conf.exists() and conf.read_text(encoding="utf-8") == _NFS_CONF
        if not configured:
            write_atomic(conf, _NFS_CONF)
        running = (await self._runner.run(["systemctl", "is-active", "--quiet", _SERVER])).ok
        if not running:
            await self._command("systemctl", "start", _SERVER)
        elif not configured and not self._has_other_exports():
            await self._command("systemctl", "restart", _SERVER)
        elif not configured:
            return ("nfsd serves other exports too: it goes on offering NFSv3 until nfs-server is restarted",)
        return ()

    def _has_other_exports(self) -> bool:
        ours = self._places.exports
        files = [self._places.others, *ours.parent.glob("*.exports")]
        texts = [file.read_text(errors="replace") for file in files if file != ours and file.exists()]
        return any(
            line.strip() and not line.lstrip().startswith("#") for text in texts for line in text.split("\n")
        )

    def _expire(self, addresses: set[str]) -> None:
        """Drop the NFSv4 state of clients at *addresses*: open files and locks would keep datasets busy."""
        wanted = {ip_address(address) for address in addresses}
        for info in self._places.clients.glob("*/info"):
            try:
                address = client_address(info.read_text(encoding="utf-8", errors="replace"))
                if address and ip_address(address) in wanted:
                    (info.parent / "ctl").write_text("expire\n", encoding="ascii")
            except FileNotFoundError:
                continue  # It left by itself while we looked.

    async def _command(self, *argv: str) -> Result:
        try:
            result = await self._runner.run(argv)
        except CommandMissing as error:
            raise MeshkeepError(
                "this host cannot serve NFS",
                code="nfs_server_missing",
                why=error.what,
                hint="apt install nfs-kernel-server",
            ) from None
        if not result.ok:
            raise MeshkeepError(f"{' '.join(argv)} failed", code="nfs_failed", why=result.words)
        return result
