"""Earlier versions of one file or directory in the snapshots of the dataset it lies on.

Runs in the process of the person who asks, with that person's rights, and needs no agent: what may not be read in the
file system may not be read in its snapshots either.
"""

import os
import stat
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from node.errors import Exit, MeshkeepError
from node.mountinfo import Mounted
from zfs import listing

Creations = Callable[[str], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Version:
    """A state of the file that differs from its neighbours, seen from `since` (the oldest snapshot that has it) to
    `taken` (`snapshot`, the newest that has it); `modified` is the file's own time. All in epoch seconds. `path` is
    where it can be read.
    """

    snapshot: str
    taken: int
    since: int
    modified: int
    size: int
    kind: str
    path: Path


@dataclass(frozen=True, slots=True)
class Place:
    """Where a path lies: `dataset` mounted at `mountpoint`, and the rest of the way."""

    dataset: str
    mountpoint: Path
    relative: Path


def place_of(path: Path, mounts: Iterable[Mounted]) -> Place:
    """The dataset that *path* (which need not exist any more) lies on. Raises MeshkeepError."""
    full = _resolved(path)
    found: Mounted | None = None
    for mount in mounts:
        inside = full == Path(mount.point) or Path(mount.point) in full.parents
        if inside and (found is None or len(mount.point) >= len(found.point)):
            found = mount
    if found is None or found.fstype != "zfs":
        what = f"on {found.fstype} ({found.source})" if found else "on nothing that is mounted"
        raise MeshkeepError(
            f"{path} lies {what}, not on a ZFS dataset of this host",
            code="not_zfs",
            exit=Exit.NOT_FOUND,
            hint="ask on the host that owns it; meshkeep status shows which one" if found else "zfs mount -a",
        )
    return Place(found.source, Path(found.point), full.relative_to(found.point))


def _resolved(path: Path) -> Path:
    """Absolute, with the links on the way followed, but not the last one: it may be what is wanted."""
    absolute = path if path.is_absolute() else Path.cwd() / path
    return Path(os.path.normpath(absolute.parent.resolve() / absolute.name))


def creations(dataset: str) -> dict[str, int]:
    """When each snapshot of *dataset* was taken. Any user may ask ZFS. Raises MeshkeepError."""
    command = ["zfs", "list", "-Hp", "-t", "snapshot", "-d", "1", "-o", listing.SNAPSHOT_COLUMNS, dataset]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, env=environment, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MeshkeepError(
            f"cannot list the snapshots of {dataset}", code="zfs_failed", why=str(error)
        ) from error
    if done.returncode:
        why = os.fsdecode(done.stderr).strip()
        raise MeshkeepError(f"cannot list the snapshots of {dataset}", code="zfs_failed", why=why)
    return {one.name: one.creation for one in listing.snapshots(os.fsdecode(done.stdout))}


def versions(place: Place, taken: Mapping[str, int]) -> list[Version]:
    """The different versions in the snapshots, newest first. A run of equal ones is one."""
    found: list[Version] = []
    last: tuple[int, ...] | None = None
    for name in sorted(taken, key=lambda one: (taken[one], one), reverse=True):
        path = place.mountpoint / ".zfs" / "snapshot" / name / place.relative
        try:
            seen = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            last = None
            continue
        # ZFS keeps inode and generation over snapshots; ctime moves with every change, mtime can be set at will.
        state = (seen.st_ino, seen.st_ctime_ns, seen.st_mtime_ns, seen.st_size)
        if state != last:
            when, kind = taken[name], kind_of(seen.st_mode)
            found.append(Version(name, when, when, int(seen.st_mtime), seen.st_size, kind, path))
        else:
            found[-1] = replace(found[-1], since=taken[name])
        last = state
    return found


def kind_of(mode: int) -> str:
    """What `Version.kind` says of it."""
    if stat.S_ISDIR(mode):
        return "directory"
    return "link" if stat.S_ISLNK(mode) else "file"


def is_current(version: Version, path: Path) -> bool:
    """Whether what lies at *path* now is that version."""
    try:
        now, then = path.lstat(), version.path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return (now.st_ino, now.st_ctime_ns, now.st_size) == (then.st_ino, then.st_ctime_ns, then.st_size)


def put_back(version: Version, to: Path, stamp: str) -> Path | None:
    """Copy *version* to *to* (``cp -a``: rights, owners, times, attributes). Returns where what was there is kept now.

    The copy is complete before anything moves; what was at *to* is renamed to ``NAME.before-STAMP``, never overwritten.
    Raises MeshkeepError, with everything as it was.
    """
    draft = _free(to.with_name(f".{to.name}.restoring"))
    try:
        _copy(version.path, draft)
        kept = _set_aside(to, stamp)
        try:
            os.rename(draft, to)
        except OSError:
            if kept is not None:
                os.rename(kept, to)
            raise
    except OSError as error:
        raise MeshkeepError(
            f"cannot put @{version.snapshot} of {to.name} back",
            code="copy_failed",
            why=f"{error.strerror}: {to}",
        ) from error
    finally:
        if os.path.lexists(draft):
            subprocess.run(["rm", "-rf", "--", str(draft)], check=False)
    return kept


def _copy(source: Path, to: Path) -> None:
    command = ["cp", "-a", "--reflink=auto", "--", str(source), str(to)]
    done = subprocess.run(command, capture_output=True, check=False)
    if done.returncode:
        raise MeshkeepError(
            f"cannot copy {source}",
            code="copy_failed",
            why=os.fsdecode(done.stderr).strip(),
            hint="as root, owners and rights can be kept too: sudo meshkeep restore file …",
        )


def _set_aside(path: Path, stamp: str) -> Path | None:
    if not os.path.lexists(path):
        return None
    kept = _free(path.with_name(f"{path.name}.before-{stamp}"))
    os.rename(path, kept)
    return kept


def _free(path: Path) -> Path:
    """*path*, or with a number behind it where that exists."""
    candidate, number = path, 1
    while os.path.lexists(candidate):
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate


def choose(found: Sequence[Version], *, number: int | None, at: int | None) -> Version:
    """The version with that number (from 1, newest first), or the newest seen at or before *at* (epoch seconds).

    Raises MeshkeepError where there is none.
    """
    if number is not None:
        if 1 <= number <= len(found):
            return found[number - 1]
        raise MeshkeepError(
            f"there is no version {number}",
            code="no_version",
            exit=Exit.NOT_FOUND,
            why=f"there are {len(found)}",
        )
    for version in found:
        if at is None or version.since <= at:
            return version
    raise MeshkeepError(
        "no version is that old",
        code="no_version",
        exit=Exit.NOT_FOUND,
        hint="meshkeep restore file PATH --list",
    )
