"""Our holds and bookmarks: their names, and which there must be, so that the common base cannot be lost.

While a step runs, a hold and a bookmark stand on both of its ends: whichever end the target turns out to
have, the source still has a base, whatever is pruned or crashes in between. A bookmark made for a step is
tentative until the target's own listing shows the snapshot; then it is the cursor and the older ones go.
Nothing else is remembered, so running `reconcile` at start repairs what a crash left behind.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

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
    to: int | None = None,
) -> Guard:
    """What must change on the source so that exactly what this target needs is kept.

    *held* has the hold tags of each snapshot by guid. *common* is the guid of the newest version that the
    target's own listing shows and the source has; *to* is the guid of the snapshot that is being sent, or
    whose stream was cut short and can be resumed. Without *common* nothing is released or destroyed: a target
    whose pool is not imported shows no snapshots, and its cursor must outlive that.
    """
    tag = hold_tag(target_id)
    needed = {guid for guid in (common, to) if guid is not None}
    busy = needed if to is not None else set()
    marks = {mark.guid: mark for mark in source.bookmarks if cursor_of(mark) == target_id}
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


@dataclass(frozen=True, slots=True)
class Orphans:
    """Bookmarks (full names) and holds (tag, guid of the snapshot) of targets that no rule names any more."""

    bookmarks: tuple[str, ...]
    holds: tuple[tuple[str, int], ...]


def orphans(source: SourceHistory, held: Mapping[int, Collection[str]], targets: Iterable[str]) -> Orphans:
    """What earlier rules left behind. *targets* are the node ids that some rule still sends it to."""
    known = set(targets)
    marks = tuple(
        mark.full_name
        for mark in source.bookmarks
        if (owner := cursor_of(mark)) is not None and owner not in known
    )
    holds = tuple(
        (tag, guid)
        for guid, tags in held.items()
        for tag in sorted(tags)
        if (owner := holder_of(tag)) is not None and owner not in known
    )
    return Orphans(marks, holds)
