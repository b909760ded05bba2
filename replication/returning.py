"""What is offered back, beside the list of what was sent: which of it is genuine, and how old it is. Pure.

Who keeps a replica may be hostile. What a list says is sure, for its owner signed it; what a keeper says is a claim.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from replication.ledger import Head, Ledger, names
from zfs.model import Snapshot


@dataclass(frozen=True, slots=True)
class Sorted:
    """Snapshots that a node offers: those on the list, those that are not, and why some contradict it."""

    listed: tuple[Snapshot, ...]
    unlisted: tuple[Snapshot, ...]
    wrong: tuple[str, ...]


def sort_out(ledger: Ledger | None, offered: Sequence[Snapshot], *, encrypted: bool) -> Sorted:
    """Compare by guid, name, creation and form; in the order of *offered*."""
    listed, unlisted, wrong = [], [], []
    for one in offered:
        entries = ledger.by_guid.get(one.guid, ()) if ledger is not None else ()
        if not entries:
            unlisted.append(one)
            continue
        fitting = [entry for entry in entries if entry.name == one.name]
        if not fitting:
            wrong.append(f"what it calls @{one.name} was sent as @{entries[-1].name}")
        elif all(entry.creation != one.creation for entry in fitting):
            wrong.append(f"@{one.name} was not taken when it says")
        elif all(entry.raw != encrypted for entry in fitting):
            wrong.append(f"@{one.name} was {'not ' if encrypted else ''}encrypted when it was sent")
        else:
            listed.append(one)
    return Sorted(tuple(listed), tuple(unlisted), tuple(wrong))


@dataclass(frozen=True, slots=True)
class Expected:
    """What the BEGIN record of a stream must say beside its guids. `keys` empty: any; an ivset None: any."""

    to_ivset: int | None = None
    from_ivset: int | None = None
    keys: tuple[str, ...] = ()


def expected(ledger: Ledger | None, to_guid: int, from_guid: int | None) -> Expected:
    """By the list; nothing is asked of what is not on it."""
    if ledger is None:
        return Expected()
    return Expected(_ivset(ledger, to_guid), _ivset(ledger, from_guid), tuple(sorted(ledger.keys)))


def _ivset(ledger: Ledger, guid: int | None) -> int | None:
    entries = ledger.by_guid.get(guid, ()) if guid is not None else ()
    return entries[-1].ivset if entries else None


@dataclass(frozen=True, slots=True)
class Witness:
    """A node that remembers a head that its owner signed; `role` is what that node is in the mesh."""

    node: str
    role: str
    head: Head


State = Literal["witnessed", "unwitnessed", "stale", "forked"]


@dataclass(frozen=True, slots=True)
class Age:
    """Whether something newer is known. `seen` is the creation (epoch seconds) of the newest anybody remembers, `by`
    who remembers it, with when that was told (epoch seconds).
    """

    state: State
    seen: int | None
    by: tuple[tuple[str, int], ...] = ()
    why: str = ""


def age(ledger: Ledger | None, as_of: int, keeper: str, witnesses: Iterable[Witness]) -> Age:
    """Of what *keeper* offers as of *as_of*. What the keeper itself remembers can only speak against it.

    Witnessed is what somebody else has heard of, and nothing newer: the keeper alone cannot have held back more.
    """
    told = tuple(witnesses)
    for one in told:
        had = ledger.after(one.head.count) if ledger is not None else None
        if had is not None and not names(had, one.head):
            return Age(
                "forked", one.head.as_of, ((one.node, one.head.at),), f"{one.node} has seen another list"
            )
    newest = max((*(one.head.as_of for one in told), ledger.head.as_of if ledger else 0), default=0)
    if newest > as_of:
        by = tuple((one.node, one.head.at) for one in told if one.head.as_of == newest)
        return Age("stale", newest, by, "newer ones were sent")
    others = [one for one in told if one.node != keeper]
    fresh = tuple((one.node, one.head.at) for one in others if one.head.as_of >= as_of)
    if fresh:
        return Age("witnessed", as_of, fresh)
    if not others:
        return Age(
            "unwitnessed", newest or None, (), f"nobody but {keeper} can tell whether there is anything newer"
        )
    last = max(others, key=lambda one: one.head.as_of)
    why = f"{last.node} has not heard of anything that new"
    return Age("unwitnessed", newest or None, ((last.node, last.head.at),), why)
