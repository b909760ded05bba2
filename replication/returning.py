"""What is offered back, beside the list of what was sent: which of it is genuine, and how old it is. Pure.

Who keeps a replica may be hostile. What a list says is sure, for its owner signed it; what a keeper says is a claim.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from replication.ledger import Head, Ledger, begin, names
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
        elif not encrypted and all(entry.raw for entry in fitting):
            wrong.append(f"@{one.name} was encrypted when it was sent")
        elif all(entry.raw != encrypted for entry in fitting):
            unlisted.append(one)  # encrypted since, as `meshkeep encrypt` does, which keeps the guids
        else:
            listed.append(one)
    return Sorted(tuple(listed), tuple(unlisted), tuple(wrong))


@dataclass(frozen=True, slots=True)
class Expected:
    """What the BEGIN record of a stream must say beside its guids. `keys` empty: any; an ivset None: any."""

    to_ivset: int | None = None
    from_ivset: int | None = None
    keys: tuple[str, ...] = ()


def expected(
    ledger: Ledger | None, to_guid: int, from_guid: int | None, *, encrypted: bool = True
) -> Expected:
    """By the list; nothing is asked of what is not on it, nor of plaintext, which has neither key nor IVs."""
    if ledger is None or not encrypted or to_guid not in ledger.by_guid:
        return Expected()
    return Expected(_ivset(ledger, to_guid), _ivset(ledger, from_guid), tuple(sorted(ledger.keys)))


def _ivset(ledger: Ledger, guid: int | None) -> int | None:
    """The one that it must be of; None where it is of none, or went out as several."""
    entries = ledger.by_guid.get(guid, ()) if guid is not None else ()
    ivsets = {entry.ivset for entry in entries if entry.ivset is not None}
    return ivsets.pop() if len(ivsets) == 1 else None


@dataclass(frozen=True, slots=True)
class Witness:
    """A node that remembers a head that its owner signed; `role` is what that node is in the mesh."""

    node: str
    role: str
    head: Head


@dataclass(frozen=True, slots=True)
class Account:
    """What is known of what one node sent of one dataset: its list as *source* has it, and heads that others saw."""

    ledger: Ledger | None
    source: str
    witnesses: tuple[Witness, ...] = ()


def together(dataset: str, accounts: Iterable[Account]) -> Ledger | None:
    """All that owner and heirs sent, for looking things up. None where nobody has a list."""
    lists = [one.ledger for one in accounts if one.ledger is not None]
    if not lists:
        return None
    return begin(dataset).added(entry for one in lists for entry in one.entries)


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


def age(accounts: Sequence[Account], as_of: int, keeper: str) -> Age:
    """Of what *keeper* offers as of *as_of*. What the keeper itself remembers can only speak against it.

    Witnessed is what somebody else has heard of, and nothing newer: the keeper alone cannot have held back more.
    """
    told = [one for account in accounts for one in account.witnesses]
    fork = next((one for account in accounts for one in account.witnesses if _forks(account, one)), None)
    if fork is not None:
        seen = ((fork.node, fork.head.at),)
        return Age("forked", fork.head.as_of, seen, f"{fork.node} has seen another list than this one")
    lists = [account.ledger.head.as_of for account in accounts if account.ledger is not None]
    newest = max((*lists, *(one.head.as_of for one in told)), default=0)
    if newest > as_of:
        by = tuple((one.node, one.head.at) for one in told if one.head.as_of == newest)
        return Age("stale", newest, by, "newer ones were sent")
    others = [one for one in told if one.node != keeper]
    fresh = tuple((one.node, one.head.at) for one in others if one.head.as_of >= as_of)
    if fresh:
        return Age("witnessed", as_of, fresh)
    if not others:
        why = f"nobody but {keeper} can tell whether there is anything newer"
        return Age("unwitnessed", newest or None, (), why)
    last = max(others, key=lambda one: one.head.as_of)
    why = f"{last.node} has not heard of anything that new"
    return Age("unwitnessed", newest or None, ((last.node, last.head.at),), why)


def _forks(account: Account, witness: Witness) -> bool:
    """Whether the list did not have that head when it was so long."""
    had = account.ledger.after(witness.head.count) if account.ledger is not None else None
    return had is not None and not names(had, witness.head)
