"""Comparing two trees of files: what they are, what they hold, and who may touch them. Follows no link. Blocks."""

import hashlib
import os
import random
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CHUNK = 1 << 20
TOLD = 5


@dataclass(frozen=True, slots=True)
class Compared:
    """What was compared: all entries by name and metadata, and of `files` files the contents of `read`.

    `differ` says where they differ, at most TOLD of them.
    """

    entries: int
    files: int
    read: int
    bytes: int
    differ: tuple[str, ...] = ()

    @property
    def how(self) -> str:
        """In words."""
        if self.read == self.files:
            return f"all {self.files} files read and compared"
        some = f"{self.read} of {self.files} files, chosen at random, read and compared"
        return f"{some}; the others by name and metadata"


def compare(one: Path, other: Path, limit: int | None, rng: random.Random | None = None) -> Compared:
    """Entries of both, and the contents of *limit* random files, or all for None. Raises OSError."""
    left, right = dict(_entries(one)), dict(_entries(other))
    differ = [f"{name}: missing" for name in sorted(left.keys() - right.keys())]
    differ += [f"{name}: was not there" for name in sorted(right.keys() - left.keys())]
    both = sorted(left.keys() & right.keys())
    differ += [f"{name}: {left[name]} and {right[name]}" for name in both if left[name] != right[name]]
    files = [name for name in both if left[name].startswith("file")]
    some = (
        files if limit is None or limit >= len(files) else (rng or random.SystemRandom()).sample(files, limit)
    )
    count = 0
    for name in some:
        size, sums = _digest(one / name)
        count += size
        if (size, sums) != _digest(other / name):
            differ.append(f"{name}: its contents")
    return Compared(len(both), len(files), len(some), count, tuple(differ[:TOLD]))


def _entries(root: Path) -> Iterator[tuple[str, str]]:
    """Everything below *root* by its path, and *root* itself as ".": kind, mode, owner, size, change, link."""

    def fail(error: OSError) -> None:
        raise error

    yield ".", _facts(root)
    for directory, folders, names in os.walk(root, onerror=fail, followlinks=False):
        for name in (*folders, *names):
            path = Path(directory, name)
            yield os.fspath(path.relative_to(root)), _facts(path)


def _facts(path: Path) -> str:
    told = path.lstat()
    owner = f"{stat.S_IMODE(told.st_mode):o} {told.st_uid}:{told.st_gid}"
    if stat.S_ISREG(told.st_mode):
        return f"file {owner} {told.st_size} {told.st_mtime_ns}"
    if stat.S_ISLNK(told.st_mode):
        return f"link {told.st_uid}:{told.st_gid} {os.readlink(path)}"
    if stat.S_ISDIR(told.st_mode):
        return f"directory {owner}"
    return f"special {owner} {stat.S_IFMT(told.st_mode):o} {told.st_rdev}"


def _digest(path: Path) -> tuple[int, str]:
    sums, size = hashlib.sha256(), 0
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with open(descriptor, "rb", buffering=0) as file:
        while piece := file.read(CHUNK):
            sums.update(piece)
            size += len(piece)
    return size, sums.hexdigest()
