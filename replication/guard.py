"""Our holds and bookmarks: their names, and which there must be, so that the common base cannot be lost.

While steps run, a hold and a bookmark stand on all of their ends: whichever of them the target turns out to
have, the source still has a base, whatever is pruned or crashes in between. A bookmark made for a step is
tentative until the target shows its snapshot; then the newest of those is the cursor and the others go.
Nothing else is remembered, so running `reconcile` at start repairs what a crash left behind.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from replication.history import SourceHistory
from zfs.model import Bookmark

FLOOR_HOLD = "meshkeep:floor"
_CURSOR = re.compile(r"meshkeep_([a-z0-9]+)_([0-9a-f]{16})")
_HOLD = re.compile(r"meshkeep:([a-z0-9]+)")


def hold_tag(target_id: str) -> str:
    """The tag on the source's snapshots that a running or interrupted step to this target needs."""
    return f"meshkeep:{target_id}"


def cursor_name(target_id: str, guid: int) -> str:
    """The part behind the # of the bookmark that keeps snapshot *guid* usable as a base for this target."""
    return f"meshkeep_{target_id}_{guid:016x}"


def cursor_of(bookmark: Bookmark) -> str | None:
    """Whose cursor this is (a node id), or None. A name that lies about its guid is not ours."""
    match = _CURSOR.fullmatch(bookmark.name)
    return match[1] if match and int(match[2], 16) == bookmark.guid else None


def holder_of(tag: str) -> str | None:
    """For which target a hold of ours stands (a node id), or None for every other tag."""
    match = _HOLD.fullmatch(tag)
    return match[1] if match and tag != FLOOR_HOLD else None


@dataclass(frozen=True, slots=True)
class Guard:
    """Changes in the order in which they are safe: first make and hold, then release and destroy.

    `create` has pairs (``ds@snap``, ``ds#mark``); the rest are full names of snapshots and bookmarks.
    """

    tag: str
    create: tuple[tuple[str, str], ...] = ()
    hold: tuple[str, ...] = ()
    release: tuple[str, ...] = ()
    destroy: tuple[str, ...] = ()


def reconcile(
    source: SourceHistory,
    held: Mapping[int, Collection[str]],
    target_id: str,
    *,
    common: int | None,
    to: Collection[int] = (),
) -> Guard:
    """What must change on the source so that exactly what this target needs is kept.

    *held* has the hold tags of each snapshot by guid. *common* is the guid of the newest version that the
    target's own listing shows and the source has; *to* are the guids of the snapshots that are being sent, or
    of that whose stream was cut short and can be resumed. Without *common* nothing is released or destroyed: a
    target whose pool is not imported shows no snapshots, and its cursor must outlive that.
    """
    tag = hold_tag(target_id)
    needed = set(to) if common is None else {common, *to}
    busy = needed if to else set()
    marks = {mark.guid: mark for mark in cursors_of(source, target_id)}
    present = {snapshot.guid: snapshot for snapshot in source.oldest_first()}
    create = tuple(
        (one.full_name, f"{source.dataset}#{cursor_name(target_id, guid)}")
        for guid, one in present.items()
        if guid in needed and guid not in marks
    )
    ours = {guid for guid in present if tag in held.get(guid, ())}
    hold = tuple(present[guid].full_name for guid in present if guid in busy - ours)
    if common is None:
        return Guard(tag, create, hold)
    release = tuple(present[guid].full_name for guid in present if guid in ours - busy)
    obsolete = tuple(mark.full_name for guid, mark in marks.items() if guid not in needed)
    return Guard(tag, create, hold, release, obsolete)


def applied(
    source: SourceHistory, held: Mapping[int, Collection[str]], change: Guard
) -> tuple[SourceHistory, dict[int, list[str]]]:
    """The history and the hold tags as they are after *change*, which saves listing them anew."""
    by_name = {one.full_name: one for one in source.snapshots}
    made = []
    for snapshot, name in change.create:
        one = by_name[snapshot]
        made.append(Bookmark(source.dataset, name.partition("#")[2], one.guid, one.createtxg, one.creation))
    marks = [mark for mark in source.bookmarks if mark.full_name not in change.destroy]
    tags = {guid: list(names) for guid, names in held.items()}
    for name in change.hold:
        tags.setdefault(by_name[name].guid, []).append(change.tag)
    for name in change.release:
        tags[by_name[name].guid].remove(change.tag)
    return replace(source, bookmarks=(*marks, *made)), {guid: names for guid, names in tags.items() if names}


def let_go(source: SourceHistory, held: Mapping[int, Collection[str]], target_id: str) -> Guard:
    """Give up resuming for a target that stays away, but not its base: each hold becomes a bookmark."""
    tag = hold_tag(target_id)
    marked = {mark.guid for mark in cursors_of(source, target_id)}
    ours = [one for one in source.oldest_first() if tag in held.get(one.guid, ())]
    create = tuple(
        (one.full_name, f"{source.dataset}#{cursor_name(target_id, one.guid)}")
        for one in ours
        if one.guid not in marked
    )
    return Guard(tag, create, release=tuple(one.full_name for one in ours))


def cursors_of(source: SourceHistory, target_id: str) -> list[Bookmark]:
    """The versions that this target's next stream may begin from, oldest first, as the source alone can tell.

    After a crash there are two, and only the target knows which one it has.
    """
    marks = [mark for mark in source.bookmarks if cursor_of(mark) == target_id]
    return sorted(marks, key=lambda mark: mark.createtxg)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a base is kept as a snapshot for a target that is away (seconds), and how much it may pin (bytes)."""

    age: int = 14 * 86400
    size: int | None = None

    def ends(self, *, away: int, pinned: int) -> bool:
        """Whether the bookmark must do from now on."""
        return away > self.age or (self.size is not None and pinned > self.size)


DEFAULT_PATIENCE = Patience()


@dataclass(frozen=True, slots=True)
class Leftover:
    """What an earlier rule left on one dataset for one target. Full names.

    `release` (holds) and `destroy` (bookmarks) are what may go, without asking if it is `certain`; `kept` are the
    bookmarks that stay for now.
    """

    dataset: str
    target_id: str
    why: str
    release: tuple[str, ...] = ()
    destroy: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    certain: bool = True


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of targets, by node id. `named` are those that a rule sends this dataset to.

    `active` and `gone` (evicted, or succeeded by another host) map ids to names for people.
    """

    named: Collection[str]
    active: Mapping[str, str]
    gone: Mapping[str, str]


def orphans(
    source: SourceHistory,
    held: Mapping[int, Collection[str]],
    known: Known,
    *,
    now: int,
    keep_cursor: int = DEFAULT_PATIENCE.age,
) -> tuple[Leftover, ...]:
    """What earlier rules left on a dataset, by target. Ask only with rules and a mesh that are known to be whole.

    A hold of a target without a rule pins space, so it goes. Its bookmark costs nothing and is the only way back for a
    rule that was taken out by mistake: it goes when its snapshot is older than *keep_cursor* seconds, or the node is
    out of the mesh for good. What names a node that this mesh has never had is shown and left alone.
    """
    marks: dict[str, list[Bookmark]] = {}
    holds: dict[str, list[str]] = {}
    for mark in source.bookmarks:
        if owner := cursor_of(mark):
            marks.setdefault(owner, []).append(mark)
    for snapshot in source.oldest_first():
        for tag in sorted(held.get(snapshot.guid, ())):
            if owner := holder_of(tag):
                holds.setdefault(owner, []).append(snapshot.full_name)
    return tuple(
        _leftover(source.dataset, owner, marks.get(owner, []), holds.get(owner, []), known, now - keep_cursor)
        for owner in sorted(marks.keys() | holds.keys())
        if owner not in known.named
    )


def _leftover(
    dataset: str, owner: str, marks: Sequence[Bookmark], holds: Sequence[str], known: Known, old: int
) -> Leftover:
    names = tuple(mark.full_name for mark in marks)
    if owner in known.gone:
        return Leftover(dataset, owner, f"{known.gone[owner]} is out of the mesh", tuple(holds), names)
    if owner not in known.active:
        why = f"this mesh has never had a node {owner}"
        return Leftover(dataset, owner, why, tuple(holds), names, certain=False)
    young = tuple(mark.full_name for mark in marks if mark.creation >= old)
    why = f"no rule sends it to {known.active[owner]} any more"
    if young:
        why += ", and a rule that comes back would go on from its bookmark"
    return Leftover(
        dataset, owner, why, tuple(holds), tuple(name for name in names if name not in young), young
    )
