"""A model of what OpenZFS does with streams, written from its rules and from nothing of ours.

Versions are letters; the alphabet is the order of transaction groups. From zfs-send(8), zfs-receive(8) and dmu_recv.c:

- `zfs send X` needs snapshot X. `zfs send -i B X` needs snapshot X and an older B of the same dataset, a snapshot or a
  bookmark.
- A full stream is received only where no dataset is (without -F).
- An incremental stream is received only onto the dataset's most recent snapshot, and only if that is B (without -F).
- While a partly received stream lies there, only its own rest is received; `zfs receive -A` drops it, and with it a
  dataset that was nothing else.
- Receiving adds one snapshot at the end and takes none away.
- `zfs rename` gives a dataset another name with all that it has; the old name is free.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace


class Refused(Exception):
    """ZFS would not do it."""


@dataclass(frozen=True, slots=True)
class Source:
    """The letters of its snapshots and of its bookmarks."""

    snapshots: frozenset[str]
    bookmarks: frozenset[str] = frozenset()

    @property
    def versions(self) -> frozenset[str]:
        return self.snapshots | self.bookmarks


@dataclass(frozen=True, slots=True)
class Target:
    """Its snapshots, the most recent last, and the (base, snapshot) of a partly received stream.

    `aside` are datasets beside it that once had its name.
    """

    snapshots: tuple[str, ...] = ()
    partial: tuple[str | None, str] | None = None
    empty: bool = False
    aside: tuple[tuple[str, ...], ...] = ()

    @property
    def exists(self) -> bool:
        return bool(self.snapshots) or self.partial is not None or self.empty

    @property
    def newest(self) -> str | None:
        return self.snapshots[-1] if self.snapshots else None


def receive(source: Source, target: Target, base: str | None, to: str, *, rest: bool = False) -> Target:
    """`zfs send -i base to | zfs receive`; with *rest* the rest of what was cut short. Raises Refused."""
    if to not in source.snapshots:
        raise Refused(f"@{to} does not exist")
    if base is not None and (base not in source.versions or base >= to):
        raise Refused(f"{base} is no earlier version than @{to}")
    if rest:
        if target.partial != (base, to):
            raise Refused("no such stream was begun")
    elif target.partial is not None:
        raise Refused("contains partially-complete state")
    if base is None and (target.snapshots or target.empty):
        raise Refused("destination exists")
    if base is not None and target.newest != base:
        raise Refused("destination has been modified, or is no such base")
    if to in target.snapshots:
        raise Refused("destination already has it")
    return Target((*target.snapshots, to), aside=target.aside)


def abort(target: Target) -> Target:
    """`zfs receive -A`. Raises Refused."""
    if target.partial is None:
        raise Refused("nothing was partly received")
    return replace(target, partial=None)


def rename(target: Target) -> Target:
    """`zfs rename` to a name beside it. Raises Refused."""
    if not target.exists:
        raise Refused("dataset does not exist")
    if target.partial is not None:
        raise Refused("a partly received stream would go along: no agent of ours does that")
    return Target(aside=(*target.aside, target.snapshots))


def moves(source: Source, target: Target) -> Iterator[Target]:
    """All that can be done next."""
    bases = (None, *source.versions)
    for to in source.snapshots:
        for base in bases:
            for rest in (False, True):
                try:
                    yield receive(source, target, base, to, rest=rest)
                except Refused:
                    continue
    if target.partial is not None:
        yield abort(target)


def newest_common(source: Source, target: Target) -> str | None:
    """The newest version that both have, by the source's order."""
    return max((one for one in target.snapshots if one in source.versions), default=None)


def is_up_to_date(source: Source, target: Target, wanted: frozenset[str]) -> bool:
    """The target ends with a version of the source, nothing lies about, and no newer *wanted* snapshot is missing."""
    if target.partial is not None:
        return False
    newest = target.newest
    if newest is None:
        return not source.snapshots & wanted
    if newest not in source.versions:
        return False
    return not any(one > newest for one in source.snapshots & wanted)


def can_come_up_to_date(source: Source, target: Target, wanted: frozenset[str]) -> bool:
    """Whether any sequence of moves at all leads there: none of them forces, destroys or rolls back."""
    seen, ahead = {target}, [target]
    while ahead:
        at = ahead.pop()
        if is_up_to_date(source, at, wanted):
            return True
        for following in moves(source, at):
            if following not in seen:
                seen.add(following)
                ahead.append(following)
    return False
