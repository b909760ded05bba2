"""What a source sent of one dataset: an append-only list in which each entry vouches for all before it. Pure.

    hash(0) = BLAKE2b-256 (person mk-sent) of the dataset's name
    hash(n) = BLAKE2b-256 (person mk-sent) of hash(n-1) | entry n as canonical JSON

A `Head` names a list of that length and no other. Entries may be dropped from the front: the head of what was dropped
stays, so that the rest can still be checked. Where a list lies and who signs its head is not known here.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

from zfs.names import InvalidName, check_snapshot

SHORT = 32
"""Hexadecimal digits of a hash in what is gossiped: 128 bits, which nobody finds a second list for."""

_MAX_64 = (1 << 64) - 1
_HASH = re.compile(r"[0-9a-f]{64}")
_WITNESSED = re.compile(r"[0-9a-f]{32}")
_NODE = re.compile(r"[a-z0-9]{1,64}")


class BadLedger(ValueError):
    """These values are no list of what was sent, or not the one that its head names. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A snapshot that a target was seen to hold. `at` is when it was first seen (epoch seconds), on node id `target`.

    `ivset` names the set of IVs its blocks are encrypted with (None: not encrypted), `key` is the fingerprint of the
    wrapped key it was sent under and `bytes` the length of its stream; both None where nobody saw the stream go out.
    """

    guid: int
    name: str
    creation: int
    ivset: int | None
    key: str | None
    bytes: int | None
    target: str
    at: int

    @property
    def raw(self) -> bool:
        """Whether it goes as it lies on disk."""
        return self.ivset is not None


@dataclass(frozen=True, slots=True)
class Head:
    """A list of `count` entries. `as_of` is the latest creation among them, `at` when the last one was made."""

    count: int
    hash: str
    as_of: int
    at: int


@dataclass(frozen=True)
class Ledger:
    """The list of one dataset: the head of what was dropped from its front, and the entries since."""

    dataset: str
    dropped: Head
    entries: tuple[Entry, ...] = ()

    @cached_property
    def _heads(self) -> tuple[Head, ...]:
        heads = [self.dropped]
        for entry in self.entries:
            heads.append(_next(heads[-1], entry))
        return tuple(heads)

    @property
    def head(self) -> Head:
        """What names this list as it is now."""
        return self._heads[-1]

    @cached_property
    def by_guid(self) -> Mapping[int, tuple[Entry, ...]]:
        """The entries of each snapshot: one, or more where its name on the targets differs."""
        found: dict[int, tuple[Entry, ...]] = {}
        for entry in self.entries:
            found[entry.guid] = (*found.get(entry.guid, ()), entry)
        return found

    @cached_property
    def keys(self) -> frozenset[str]:
        """The fingerprints of all wrapped keys that went out."""
        return frozenset(entry.key for entry in self.entries if entry.key is not None)

    def after(self, count: int) -> Head | None:
        """The head it had with so many entries; None where that is dropped, or still to come."""
        place = count - self.dropped.count
        return self._heads[place] if 0 <= place < len(self._heads) else None

    def lists(self, guid: int, name: str, raw: bool) -> bool:
        """Whether that snapshot went out under that name, and in that form."""
        return any(entry.name == name and entry.raw == raw for entry in self.by_guid.get(guid, ()))

    def has(self, entry: Entry) -> bool:
        """Whether that snapshot went out under that name, as the same ciphertext."""
        same = (entry.name, entry.ivset)
        return any((one.name, one.ivset) == same for one in self.by_guid.get(entry.guid, ()))

    def added(self, entries: Iterable[Entry]) -> "Ledger":
        """Itself with *entries* at the end. Raises BadLedger for one that cannot be."""
        new = tuple(entries)
        for entry in new:
            _check(self.dataset, entry)
        return replace(self, entries=(*self.entries, *new))

    def without(self, count: int) -> "Ledger":
        """Itself without its first *count* entries."""
        return Ledger(self.dataset, self._heads[count], self.entries[count:])


def begin(dataset: str) -> Ledger:
    """The empty list of *dataset*."""
    return Ledger(dataset, Head(0, _digest(dataset.encode()), 0, 0))


def _next(head: Head, entry: Entry) -> Head:
    content = json.dumps(asdict(entry), sort_keys=True, separators=(",", ":")).encode()
    grown = _digest(bytes.fromhex(head.hash) + content)
    return Head(head.count + 1, grown, max(head.as_of, entry.creation), entry.at)


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=32, person=b"mk-sent").hexdigest()


def droppable(ledger: Ledger, held: Iterable[int], *, keep: int) -> int:
    """How many entries at the front are of snapshots that no target holds any more; *keep* stay in any case."""
    still = frozenset(held)
    count = 0
    for entry in ledger.entries[: max(0, len(ledger.entries) - keep)]:
        if entry.guid in still:
            break
        count += 1
    return count


# -- as JSON -------------------------------------------------------------------------------------------------------


def as_json(ledger: Ledger) -> dict[str, Any]:
    """The whole list, for `read`."""
    return {
        "dataset": ledger.dataset,
        "dropped": asdict(ledger.dropped),
        "entries": [asdict(entry) for entry in ledger.entries],
    }


def read(raw: Any) -> Ledger:
    """The inverse of `as_json`. Raises BadLedger. What it says is only as good as whoever signed it."""
    try:
        if set(raw) != {"dataset", "dropped", "entries"} or not isinstance(raw["dataset"], str):
            raise BadLedger("it is no list of what was sent")
        dropped = read_head(raw["dropped"])
        entries = [Entry(**one) for one in raw["entries"]]
    except (TypeError, KeyError) as error:
        raise BadLedger(f"it is no list of what was sent: {error}") from error
    return Ledger(raw["dataset"], dropped).added(entries)


def read_head(raw: Any) -> Head:
    """A head as `asdict` writes it. Raises BadLedger."""
    try:
        head = Head(**raw)
    except TypeError as error:
        raise BadLedger(f"it is no head: {error}") from error
    numbers = (head.count, head.as_of, head.at)
    if not all(map(_is_number, numbers)) or not (isinstance(head.hash, str) and _HASH.fullmatch(head.hash)):
        raise BadLedger("it is no head")
    return head


def entry_of(raw: Any, dataset: str) -> Entry:
    """One entry. Raises BadLedger."""
    try:
        entry = Entry(**raw)
    except TypeError as error:
        raise BadLedger(f"it is no entry: {error}") from error
    _check(dataset, entry)
    return entry


def _check(dataset: str, entry: Entry) -> None:
    optional = [one for one in (entry.ivset, entry.bytes) if one is not None]
    if not all(map(_is_number, (entry.guid, entry.creation, entry.at, *optional))):
        raise BadLedger("a number in an entry is none")
    if entry.key is not None and not (isinstance(entry.key, str) and _HASH.fullmatch(entry.key)):
        raise BadLedger("a key in an entry is no fingerprint")
    if not isinstance(entry.target, str) or not _NODE.fullmatch(entry.target):
        raise BadLedger("a target in an entry is no node")
    try:
        check_snapshot(f"{dataset}@{entry.name}")
    except InvalidName as error:
        raise BadLedger(str(error)) from error


def _is_number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_64


# -- what is gossiped ----------------------------------------------------------------------------------------------


def told(heads: Mapping[str, Head], limit: int) -> dict[str, list[int | str]]:
    """The heads by dataset as they go into a report of which they may fill *limit* bytes: the newest first."""
    found: dict[str, list[int | str]] = {}
    size = 2
    for dataset, head in sorted(heads.items(), key=lambda item: (-item[1].at, item[0])):
        value: list[int | str] = [head.count, head.hash[:SHORT], head.as_of, head.at]
        size += len(json.dumps({dataset: value}, separators=(",", ":")))
        if size > limit:
            break
        found[dataset] = value
    return found


def heard(raw: object) -> dict[str, Head]:
    """The inverse of `told`, of anything; what is malformed is left out. The hashes are short."""
    found = {}
    for dataset, value in raw.items() if isinstance(raw, Mapping) else ():
        match value:
            case [count, str(short), as_of, at] if _WITNESSED.fullmatch(short):
                if all(map(_is_number, (count, as_of, at))) and isinstance(dataset, str):
                    found[dataset] = Head(count, short, as_of, at)
    return found


def names(head: Head, heard: Head) -> bool:
    """Whether the head that was heard of is this one."""
    return head.count == heard.count and head.hash[:SHORT] == heard.hash[:SHORT]


def trimmed(ledgers: Sequence[Ledger], most: int) -> tuple[Ledger, ...]:
    """Each with its newest *most* entries only."""
    return tuple(one.without(max(0, len(one.entries) - most)) for one in ledgers)
