"""Make the pool of a fresh vault on an empty disk. Looks first; touches nothing that has anything on it."""

import os
import re
import stat
import subprocess
from collections.abc import Sequence
from typing import Any, NamedTuple

from node.errors import Exit, MeshkeepError

__all__ = ["DISK", "POOL", "Found", "decide", "prepare"]

DISK = re.compile(r"/dev/[A-Za-z0-9._:+/-]+")
POOL = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,60}")
_RESERVED = re.compile(r"(mirror|raidz|draid|spare|log)")

# A vault only stores: nothing is mounted, nothing of the pool itself is written to.
_OPTIONS = ("-m", "none", "-o", "ashift=12", "-o", "autotrim=on", "-O", "canmount=off", "-O", "atime=off")


class Found(NamedTuple):
    """What is there before anything is done."""

    pool_exists: bool
    block_device: bool
    signatures: tuple[str, ...]
    """What `wipefs` sees on the disk: file systems, partition tables, members of pools."""
    children: tuple[str, ...]
    """Partitions and what is stacked on the disk."""


def decide(pool: str, disk: str, found: Found, *, if_needed: bool) -> bool:
    """Whether to make the pool. Raises `MeshkeepError`: usage for bad names, refused for what is in use."""
    if not POOL.fullmatch(pool) or _RESERVED.match(pool):
        raise MeshkeepError(f"{pool!r} is no name for a pool", code="usage", exit=Exit.USAGE)
    if found.pool_exists:
        if if_needed:
            return False
        raise _refused(
            f"the pool {pool} exists already", "it is imported on this host", "zpool status " + pool
        )
    if not DISK.fullmatch(disk) or not found.block_device:
        raise MeshkeepError(
            f"{disk} is no disk of this host", code="no_such_disk", exit=Exit.NOT_FOUND, hint="lsblk"
        )
    if found.signatures or found.children:
        what = ", ".join((*found.signatures, *found.children))
        raise _refused(f"{disk} is not empty", f"it has: {what}", f"lsblk -f {disk}")
    return True


def prepare(disk: str, pool: str, *, if_needed: bool) -> dict[str, Any]:
    """Look, decide, make. Raises `MeshkeepError`; the disk is then as it was or as `zpool create` left it."""
    if os.geteuid() != 0:
        raise MeshkeepError(
            f"this needs root (you are uid {os.geteuid()})",
            code="needs_root",
            exit=Exit.NOT_PERMITTED,
            hint="sudo meshkeep vault prepare …",
        )
    made = decide(pool, disk, _look(disk, pool), if_needed=if_needed)
    if made:
        _run(["zpool", "create", *_OPTIONS, pool, disk], f"cannot make the pool {pool} on {disk}")
    return {"schema": "meshkeep.vault/1", "pool": pool, "disk": disk, "made": made}


def _look(disk: str, pool: str) -> Found:
    pools = _run(["zpool", "list", "-H", "-o", "name"], "cannot list the pools").splitlines()
    if pool in pools or not _is_block_device(disk):
        return Found(pool in pools, _is_block_device(disk), (), ())
    signatures = _run(["wipefs", "--no-act", "--noheadings", "--output", "TYPE", disk], f"cannot read {disk}")
    children = _run(["lsblk", "--noheadings", "--list", "--paths", "-o", "NAME", disk], f"cannot read {disk}")
    return Found(
        pool_exists=False,
        block_device=True,
        signatures=tuple(sorted({line.strip() for line in signatures.splitlines() if line.strip()})),
        children=tuple(line.strip() for line in children.splitlines()[1:] if line.strip()),
    )


def _is_block_device(path: str) -> bool:
    try:
        return stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:
        return False


def _run(command: Sequence[str], failed: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise MeshkeepError(
            failed,
            code="tool_missing",
            why=f"there is no {command[0]} on this host",
            hint="sudo apt-get install zfsutils-linux",
        ) from None
    if done.returncode != 0:
        raise MeshkeepError(failed, code="tool_failed", why=done.stderr.strip())
    return done.stdout


def _refused(what: str, why: str, hint: str) -> MeshkeepError:
    return MeshkeepError(what, code="disk_in_use", exit=Exit.REFUSED, why=why, hint=hint)
