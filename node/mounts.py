"""Mounting what peers share: systemd units, written, started, and checked against what the kernel mounted.

systemd mounts, not the agent: the agent may live in a mount namespace of its own.
"""

import asyncio
import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from node import mountinfo
from node.commands import CommandTimeout, Result, Runner
from node.errors import Exit, MeshkeepError
from node.files import remove, write_atomic
from node.mount_units import Wanted, automount_unit, escape_path, mount_unit, read_unit

_PATIENCE = 60.0


@dataclass(frozen=True, slots=True)
class MountState:
    """A mount of ours, and whether it is mounted right now (it need not be: it mounts on first use)."""

    wanted: Wanted
    mounted: bool


class Mounts:
    """Owns the units of our mounts. Calls are serialised; the units are the memory between runs."""

    def __init__(
        self,
        runner: Runner,
        units: Path = Path("/etc/systemd/system"),
        mounted: Path = mountinfo.HOST,
    ) -> None:
        self._runner = runner
        self._units = units
        self._mountinfo = mounted
        self._lock = asyncio.Lock()

    async def current(self) -> list[MountState]:
        """Our mounts, by directory."""
        return [MountState(wanted, self._is_mounted(wanted)) for wanted in self._ours()]

    async def mount(self, wanted: Wanted) -> None:
        """Mount it now, and from now on whenever it is used, also after a reboot.

        Asking again for the same is no error. Raises MeshkeepError (not_a_directory, directory_not_empty,
        already_mounted, mount_refused, mount_not_found, mount_timeout, mount_failed, nfs_client_missing):
        then nothing of it is left, neither units nor a directory made for it.
        """
        async with self._lock:
            where = _absolute(wanted.where)
            known = self._at(where)
            if known is None:
                # systemd wants the path of a mount free of symlinks.
                where = await asyncio.to_thread(os.path.realpath, where)
                known = self._at(where)
            if known is None:
                wanted = await self._prepare(wanted, where)
            elif (known.source, known.rw) == (wanted.source, wanted.rw):
                wanted = known
            else:
                raise _in_use(where, f"{known.source} is mounted there", f"meshkeep umount {where}")
            try:
                await self._start(wanted)
            except BaseException:
                if known is None:
                    await asyncio.shield(self._discard(wanted))
                raise

    async def umount(self, directory: str) -> None:
        """Unmount it for good and remove its units, and the directory if we made it.

        Raises MeshkeepError: not_mounted for a directory that is none of our mounts, busy while files are
        open there; then everything is as before.
        """
        async with self._lock:
            # Not resolved through symlinks: that would walk into a mount whose server may be away.
            where = _absolute(directory)
            wanted = self._at(where)
            if wanted is None:
                raise MeshkeepError(
                    f"{where} is not a mount of meshkeep",
                    code="not_mounted",
                    exit=Exit.NOT_FOUND,
                    hint="meshkeep mount list",
                )
            stopped = await self._systemctl("stop", self._unit(wanted, "mount"))
            if not stopped.ok or self._is_mounted(wanted):
                raise MeshkeepError(
                    f"{where} is in use",
                    code="busy",
                    why=stopped.words if not stopped.ok else "it was mounted again while it was unmounted",
                    hint=f"fuser -vm {where}",
                )
            await self._discard(wanted)

    async def _prepare(self, wanted: Wanted, where: str) -> Wanted:
        mounts = mountinfo.read(self._mountinfo)
        there = mountinfo.at(mounts, where)
        if there is not None:
            raise _in_use(where, f"{there.source} ({there.fstype}) is mounted there")
        made = await asyncio.to_thread(_make_directory, where)
        wanted = Wanted(wanted.node, wanted.address, wanted.path, where, wanted.rw, made)
        try:
            text, auto = mount_unit(wanted), automount_unit(wanted)
            for suffix in ("mount", "automount"):
                if self._file(wanted, suffix).exists():
                    raise _in_use(where, f"{self._file(wanted, suffix)} exists and is not ours")
            write_atomic(self._file(wanted, "mount"), text)
            write_atomic(self._file(wanted, "automount"), auto)
        except BaseException as error:
            if made:
                Path(where).rmdir()
            if isinstance(error, ValueError):
                raise MeshkeepError(str(error), code="bad_path", exit=Exit.USAGE) from None
            raise
        return wanted

    async def _start(self, wanted: Wanted) -> None:
        await self._must("daemon-reload")
        # The automount first: systemd refuses to start one where something is mounted already.
        await self._must("enable", "--now", self._unit(wanted, "automount"))
        unit = self._unit(wanted, "mount")
        try:
            result = await self._systemctl("start", unit)
        except CommandTimeout:
            raise _failure(wanted, "Connection timed out") from None
        if not result.ok:
            raise _failure(wanted, await self._log_of(unit) or result.words)
        if not self._is_mounted(wanted):
            raise _failure(wanted, "systemd reports success, and yet it is not mounted")

    async def _log_of(self, unit: str) -> str:
        """What mount.nfs said in the unit's last run; systemctl itself only says that it failed."""
        await self._runner.run(["journalctl", "--sync"])
        shown = await self._systemctl("show", "--property=InvocationID", "--value", unit)
        invocation = shown.out.strip()
        if not invocation:
            return ""
        log = await self._runner.run(
            ["journalctl", "--quiet", "--no-pager", "-o", "cat", f"_SYSTEMD_INVOCATION_ID={invocation}"]
        )
        return log.out.strip()

    async def _discard(self, wanted: Wanted) -> None:
        """Stop and remove everything of it that is there."""
        units = [self._unit(wanted, suffix) for suffix in ("automount", "mount")]
        with contextlib.suppress(CommandTimeout):
            await self._systemctl("disable", "--now", units[0])
            await self._systemctl("stop", *units)
        for suffix in ("automount", "mount"):
            remove(self._file(wanted, suffix))
        await self._systemctl("daemon-reload")
        await self._systemctl("reset-failed", *units)
        if wanted.made and mountinfo.at(mountinfo.read(self._mountinfo), wanted.where) is None:
            with contextlib.suppress(OSError):  # Somebody put something there; then it is theirs.
                Path(wanted.where).rmdir()

    def _ours(self) -> list[Wanted]:
        found = []
        for file in sorted(self._units.glob("*.mount")):
            try:
                wanted = read_unit(file.read_text(encoding="utf-8", errors="replace"))
            except FileNotFoundError:
                continue
            if wanted is not None:
                found.append(wanted)
        return sorted(found, key=lambda wanted: wanted.where)

    def _at(self, where: str) -> Wanted | None:
        return next((ours for ours in self._ours() if ours.where == where), None)

    def _is_mounted(self, wanted: Wanted) -> bool:
        there = mountinfo.at(mountinfo.read(self._mountinfo), wanted.where)
        return there is not None and there.fstype.startswith("nfs") and there.source == wanted.source

    def _unit(self, wanted: Wanted, suffix: str) -> str:
        return f"{escape_path(wanted.where)}.{suffix}"

    def _file(self, wanted: Wanted, suffix: str) -> Path:
        return self._units / self._unit(wanted, suffix)

    async def _systemctl(self, *arguments: str) -> Result:
        return await self._runner.run(["systemctl", *arguments], timeout=_PATIENCE)

    async def _must(self, *arguments: str) -> None:
        result = await self._systemctl(*arguments)
        if not result.ok:
            raise MeshkeepError(
                f"systemctl {' '.join(arguments)} failed", code="systemd_failed", why=result.words
            )


def _absolute(directory: str) -> str:
    if not directory.startswith("/"):
        raise MeshkeepError(f"{directory} is not an absolute path", code="not_a_directory", exit=Exit.USAGE)
    return "/" + os.path.normpath(directory).lstrip("/")


def _make_directory(where: str) -> bool:
    """True if it had to be made. Raises MeshkeepError if what is there cannot be mounted on."""
    path = Path(where)
    try:
        path.mkdir()
        path.chmod(0o755)  # mkdir's own mode is cut by the agent's umask
        return True
    except FileNotFoundError:
        raise MeshkeepError(
            f"{path.parent} does not exist",
            code="not_a_directory",
            exit=Exit.NOT_FOUND,
            hint=f"mkdir -p {where}",
        ) from None
    except FileExistsError:
        pass
    if not path.is_dir():
        raise MeshkeepError(f"{where} is not a directory", code="not_a_directory", exit=Exit.USAGE)
    if any(path.iterdir()):
        raise MeshkeepError(
            f"{where} is not empty",
            code="directory_not_empty",
            exit=Exit.REFUSED,
            why="what is in it would be hidden by the mount",
            hint="choose an empty directory, or one that does not exist yet",
        )
    return False


def _in_use(where: str, why: str, hint: str = "choose another directory") -> MeshkeepError:
    return MeshkeepError(f"{where} is in use", code="already_mounted", exit=Exit.REFUSED, why=why, hint=hint)


@dataclass(frozen=True, slots=True)
class _Cause:
    """Words of mount.nfs (in lower case), and what they mean to a person."""

    words: str
    code: str
    exit: Exit = Exit.FAILED
    hint: str = ""


def _failure(wanted: Wanted, said: str) -> MeshkeepError:
    """What mount.nfs said, as a cause with something to try."""
    found = next((cause for cause in _CAUSES if cause.words in said.lower()), _Cause("", "mount_failed"))
    return MeshkeepError(
        f"cannot mount {wanted.path} of {wanted.node} at {wanted.where}",
        code=found.code,
        exit=found.exit,
        why=said,
        hint=found.hint.format(node=wanted.node),
    )


_SHARES = "on {node}: meshkeep share list"
_CAUSES = (
    _Cause("access denied", "mount_refused", Exit.REFUSED, _SHARES),
    _Cause("not permitted", "mount_refused", Exit.REFUSED, _SHARES),
    _Cause("permission denied", "mount_refused", Exit.REFUSED, _SHARES),
    _Cause("no such file or directory", "mount_not_found", Exit.NOT_FOUND, _SHARES),
    _Cause("timed out", "mount_timeout", Exit.NO_PEER, "meshkeep status"),
    _Cause("unreachable", "mount_timeout", Exit.NO_PEER, "meshkeep status"),
    _Cause("no route to host", "mount_timeout", Exit.NO_PEER, "meshkeep status"),
    _Cause("connection refused", "mount_timeout", Exit.NO_PEER, "on {node}: systemctl status nfs-server"),
    _Cause("helper program", "nfs_client_missing", Exit.FAILED, "apt install nfs-common"),
    _Cause("unknown filesystem type", "nfs_client_missing", Exit.FAILED, "apt install nfs-common"),
)
