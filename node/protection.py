"""The headline: as of when a dataset is protected on a target. Pure; computed from what exists on the target."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from zfs.model import Snapshot


def as_of(
    source: Sequence[Snapshot], written: int, target: Sequence[Mapping[str, Any]], *, now: int
) -> int | None:
    """Seconds since the epoch up to which nothing would be lost; None where nothing is stored.

    The creation of the newest snapshot that the target has, never later than its receipt there (`creation` is
    whatever the sender says). While nothing has been written since the newest snapshot, and the target has that one,
    it moves on with `now`. `source` may be empty: then only the target's word counts.
    """
    if not target:
        return None
    newest = max(target, key=lambda one: int(one["createtxg"]))
    moment = int(newest["creation"])
    received = int(newest.get("received") or 0)
    if received:
        moment = min(moment, received)
    if source and written == 0 and int(newest["guid"]) == source[-1].guid:
        return now
    return min(moment, now)


def behind(
    source: Sequence[Snapshot],
    target: Sequence[Mapping[str, Any]],
    wanted: Callable[[Snapshot], bool] = lambda _snapshot: True,
) -> int:
    """How many of the source's *wanted* snapshots are newer than the newest one that the target has."""
    have = {int(one["guid"]) for one in target}
    missing = 0
    for snapshot in reversed(source):
        if snapshot.guid in have:
            break
        missing += wanted(snapshot)
    return missing
