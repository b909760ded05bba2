"""What is mounted, as the kernel lists it in mountinfo(5). Read for PID 1: our own namespace may differ."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

HOST = Path("/proc/1/mountinfo")


@dataclass(frozen=True, slots=True)
class Mounted:
    """One mount: where, of which file system type, and what."""

    point: str
    fstype: str
    source: str


def parse(text: str) -> list[Mounted]:
    """The mounts in order; of several on one point the last one is what is seen there."""
    found = []
    for line in text.splitlines():
        before, separator, after = line.partition(" - ")
        fields, rest = before.split(" "), after.split(" ")
        if separator and len(fields) >= 5 and len(rest) >= 2:
            found.append(Mounted(_plain(fields[4]), rest[0], _plain(rest[1])))
    return found


def at(mounts: Iterable[Mounted], point: str) -> Mounted | None:
    """What is seen at *point*, if that is a mount point."""
    found = None
    for mount in mounts:
        if mount.point == point:
            found = mount
    return found


def read(path: Path = HOST) -> list[Mounted]:
    """What is mounted on this host now. Touches no mounted file system, so it never hangs on a dead one."""
    return parse(path.read_text(encoding="utf-8", errors="surrogateescape"))


def _plain(field: str) -> str:
    raw = re.sub(
        rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), field.encode(errors="surrogateescape")
    )
    return raw.decode(errors="surrogateescape")
