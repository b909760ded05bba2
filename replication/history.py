"""What the planner looks at: the source's versions, the target's snapshots, and the rule between them."""

from dataclasses import dataclass
from typing import Literal

from replication.selector import EVERY, Selector
from zfs.model import Bookmark, ResumeState, Snapshot

Role = Literal["admin", "member", "vault"]
Initial = Literal["all", "newest"]
OnDivergence = Literal["conflict", "rotate"]
Base = Snapshot | Bookmark


@dataclass(frozen=True, slots=True)
class SourceHistory:
    """Everything of one dataset that a stream can begin from or end at. The order given does not matter."""

    dataset: str
    snapshots: tuple[Snapshot, ...]
    bookmarks: tuple[Bookmark, ...] = ()
    encrypted: bool = False

    def oldest_first(self) -> list[Snapshot]:
        """The snapshots by createtxg: ZFS takes at most one of a dataset in a transaction group."""
        return sorted(self.snapshots, key=lambda snapshot: snapshot.createtxg)

    def find_snapshot(self, guid: int) -> Snapshot | None:
        """The snapshot with this guid."""
        return next((snapshot for snapshot in self.snapshots if snapshot.guid == guid), None)

    def by_guid(self) -> dict[int, Base]:
        """The snapshot of each guid, or else a bookmark made from it."""
        found: dict[int, Base] = {bookmark.guid: bookmark for bookmark in reversed(self.bookmarks)}
        found.update({snapshot.guid: snapshot for snapshot in self.snapshots})
        return found


@dataclass(frozen=True, slots=True)
class TargetSnapshot:
    """One snapshot of the replica, as the target reports it. `createtxg` counts in the target's own pool."""

    name: str
    guid: int
    createtxg: int
    creation: int


@dataclass(frozen=True, slots=True)
class TargetState:
    """The replica as it is. A first stream cut short leaves `exists`, no snapshot, and a `resume`.

    `key_root` is its encryption root by the name at home: its own, or somebody there changed it. None: not said.
    """

    exists: bool
    snapshots: tuple[TargetSnapshot, ...] = ()
    resume: ResumeState | None = None
    key_root: str | None = None

    def oldest_first(self) -> list[TargetSnapshot]:
        """The snapshots in the order in which the target has them."""
        return sorted(self.snapshots, key=lambda snapshot: snapshot.createtxg)


NOTHING_THERE = TargetState(exists=False)


@dataclass(frozen=True, slots=True)
class Rule:
    """What was agreed when the replication was set up.

    `target` is the node's name, only shown. `raw` is the mode in which the replica was begun, for
    good. `allow_plaintext` lets an unencrypted dataset go to a member; nothing lets it go to a vault.
    `selector` says which snapshots are sent, `initial` where a first copy begins: with the oldest of them, or with
    the newest only. `nested` are datasets below this one that go to the same target by rules of their own.
    `on_divergence` is what becomes of a replica that the source's history does not lead on from: it stays and waits
    for a person, or it is kept aside under another name and a new one is begun.
    """

    target: str
    target_role: Role
    raw: bool
    allow_plaintext: bool = False
    selector: Selector = EVERY
    initial: Initial = "all"
    nested: tuple[str, ...] = ()
    on_divergence: OnDivergence = "conflict"
