"""Anti-entropy of signed objects: what two nodes must tell each other to know the same. Pure.

Each side makes a digest of what the other may see, `missing` compares two digests, `pick` fetches from the
store and `batches` cuts it into frames. Trust objects are a grow-only set; of records and reports only the
newest version of each node counts. Nothing is verified here: what arrives must still pass `mesh.trust`.
"""

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

Kind = Literal["trust", "record", "report"]

BATCH = 2 * 1024 * 1024
"""Bytes of JSON in one batch: half a frame, which leaves room for what is said beside it."""

MAX_OBJECTS = 65_536
"""Entries that a digest may have in each of its parts."""

_ORDER = {kind: place for place, kind in enumerate(get_args(Kind))}
_MAX_VERSION = 2**63 - 1


class BadSync(Exception):
    """What a peer sent is no digest or no item. Nothing was taken from it."""


@dataclass(frozen=True, slots=True)
class SignedItem:
    """One signed object as bytes. `node` is whom it is about; `version` is for records and reports."""

    oid: str
    kind: Kind
    node: str
    version: int
    data: bytes

    def as_json(self) -> dict[str, Any]:
        """Its form in a frame."""
        return {
            "oid": self.oid,
            "kind": self.kind,
            "node": self.node,
            "version": self.version,
            "data": base64.b64encode(self.data).decode("ascii"),
        }

    @classmethod
    def from_json(cls, raw: object) -> "SignedItem":
        """The inverse of `as_json`. Raises BadSync."""
        match raw:
            case {
                "oid": str(oid),
                "kind": str(kind),
                "node": str(node),
                "version": version,
                "data": str(data),
            }:
                try:
                    content = base64.b64decode(data, validate=True)
                except (binascii.Error, ValueError) as error:
                    raise BadSync(f"an item's data: {error}") from error
                if kind not in _ORDER or not _is_version(version):
                    raise BadSync("an item of no known kind or version")
                return cls(oid, cast(Kind, kind), node, version, content)
        raise BadSync("an item is an object with oid, kind, node, version and data")


@dataclass(frozen=True, slots=True)
class Digest:
    """What a store holds: trust objects by id, records and reports as node id -> version."""

    trust: frozenset[str] = frozenset()
    records: Mapping[str, int] = field(default_factory=dict)
    reports: Mapping[str, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.trust or self.records or self.reports)

    def as_json(self) -> dict[str, Any]:
        """Its form in a frame; equal digests look equal."""
        return {
            "trust": sorted(self.trust),
            "records": dict(sorted(self.records.items())),
            "reports": dict(sorted(self.reports.items())),
        }

    @classmethod
    def from_json(cls, raw: object) -> "Digest":
        """The inverse of `as_json`. Raises BadSync."""
        match raw:
            case {"trust": list(trust), "records": dict(records), "reports": dict(reports)}:
                if max(len(trust), len(records), len(reports)) > MAX_OBJECTS:
                    raise BadSync(f"a digest of more than {MAX_OBJECTS} objects")
                if not all(isinstance(oid, str) for oid in trust):
                    raise BadSync("a digest's trust is a list of object ids")
                return cls(frozenset(trust), _versions(records), _versions(reports))
        raise BadSync("a digest is an object with trust, records and reports")


def digest(items: Iterable[SignedItem]) -> Digest:
    """The digest of the items that a peer may see (choosing them is the caller's business)."""
    trust: set[str] = set()
    versions: dict[Kind, dict[str, int]] = {"record": {}, "report": {}}
    for item in items:
        if item.kind == "trust":
            trust.add(item.oid)
        else:
            known = versions[item.kind]
            known[item.node] = max(item.version, known.get(item.node, item.version))
    return Digest(frozenset(trust), versions["record"], versions["report"])


def missing(mine: Digest, theirs: Digest) -> tuple[Digest, Digest]:
    """(to_send, to_ask): what they lack of mine, and what I lack of theirs. Both empty: nothing to say."""
    return _beyond(mine, theirs), _beyond(theirs, mine)


def pick(items: Iterable[SignedItem], wanted: Digest) -> list[SignedItem]:
    """The items that `wanted` names, at its version or newer; trust first, since the rest is judged by it."""
    return sorted((item for item in items if _names(wanted, item)), key=lambda item: _ORDER[item.kind])


def unknown(mine: Digest, received: Iterable[SignedItem]) -> list[SignedItem]:
    """Of what a peer sent, that which is new to me; the rest need not be verified. Trust first."""
    items = list(received)
    return pick(items, _beyond(digest(items), mine))


def batches(items: Iterable[SignedItem], limit: int = BATCH) -> Iterator[list[SignedItem]]:
    """In order, in lists whose JSON is at most `limit` bytes; one item beyond it comes alone."""
    batch: list[SignedItem] = []
    size = 0
    for item in items:
        cost = len(json.dumps(item.as_json())) + 1
        if batch and size + cost > limit:
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += cost
    if batch:
        yield batch


def _beyond(one: Digest, other: Digest) -> Digest:
    return Digest(
        one.trust - other.trust,
        _newer(one.records, other.records),
        _newer(one.reports, other.reports),
    )


def _newer(one: Mapping[str, int], other: Mapping[str, int]) -> dict[str, int]:
    return {node: version for node, version in one.items() if node not in other or version > other[node]}


def _names(wanted: Digest, item: SignedItem) -> bool:
    if item.kind == "trust":
        return item.oid in wanted.trust
    versions = wanted.records if item.kind == "record" else wanted.reports
    return item.node in versions and item.version >= versions[item.node]


def _versions(raw: Mapping[object, object]) -> dict[str, int]:
    if not all(isinstance(node, str) and _is_version(version) for node, version in raw.items()):
        raise BadSync("a digest's versions are node id -> number")
    return cast(dict[str, int], dict(raw))


def _is_version(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MAX_VERSION
