"""The steps of a plan. Each is one stream of one snapshot, but for `Abort` and `Rotate`, which send nothing."""

from dataclasses import dataclass

from replication.history import Base
from zfs.model import Snapshot


@dataclass(frozen=True, slots=True)
class Full:
    """Send all of `to`; the target has nothing. `target_name` is the snapshot's name over there."""

    to: Snapshot
    target_name: str


@dataclass(frozen=True, slots=True)
class Incremental:
    """Send what changed from `base` (a snapshot, or the bookmark that is left of it) to `to`."""

    base: Base
    to: Snapshot
    target_name: str


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on with a stream that was cut short, at `object` and `offset`. `base` is None for a full one."""

    base: Base | None
    to: Snapshot
    target_name: str
    object: int
    offset: int


@dataclass(frozen=True, slots=True)
class Abort:
    """The target's own agent drops the partly received stream of `to_guid`. No snapshot is touched by it."""

    to_guid: int
    reason: str


@dataclass(frozen=True, slots=True)
class Rotate:
    """The target's own agent keeps the replica aside under another name; none of its snapshots is touched by it.

    `newest_guid` is that of the snapshot it ends with, so that no other replica than the one that was seen is moved.
    """

    newest_guid: int
    reason: str


Stream = Full | Incremental | Resume
Step = Stream | Abort | Rotate


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do, in order. `base` is the newest version both sides have, None for the first time."""

    steps: tuple[Step, ...]
    base: Base | None
    raw: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UpToDate:
    """Nothing to do. `base` is None only where the source has no snapshot yet: then nothing is protected."""

    base: Base | None
    reasons: tuple[str, ...]
