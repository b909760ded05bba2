"""Words about what a node keeps for others: two that only the recovery key can sign, and an admin's against one.

Values and their layouts; `mesh.objects` signs and verifies them, `mesh.trust` stores them. Each names the node that is
to follow it and the node whose data it is about, so that no other node, and of no other's data, can be told by it.
"""

from dataclasses import dataclass
from typing import ClassVar

from mesh.codec import Malformed, Reader, Writer

SHORTEST = 3600
LONGEST = 36_500 * 86400
"""Seconds that a floor may have: from an hour to a hundred years."""

Slot = tuple[int | bytes | str, ...]
"""Of the words with one slot only that with the highest version counts."""


@dataclass(frozen=True, slots=True)
class Shorten:
    """The recovery key's: *target* keeps what *owner* stores there for `floor` seconds at least, and no longer has to.

    `version` rises with each such word, `created` is in seconds since the epoch and only told to people.
    """

    kind: ClassVar[int] = 16
    genesis_public: bytes
    target_public: bytes
    owner_public: bytes
    version: int
    created: int
    floor: int

    @property
    def slot(self) -> Slot:
        return (self.kind, self.target_public, self.owner_public)


@dataclass(frozen=True, slots=True)
class ApproveKey:
    """The recovery key's: where *owner*'s `dataset` lies on *target* under the wrapped key with the fingerprint
    `pinned`, that with the fingerprint `offered` may take its place.
    """

    kind: ClassVar[int] = 17
    genesis_public: bytes
    target_public: bytes
    owner_public: bytes
    version: int
    created: int
    dataset: str
    pinned: bytes
    offered: bytes

    @property
    def slot(self) -> Slot:
        return (self.kind, self.target_public, self.owner_public, self.dataset)


@dataclass(frozen=True, slots=True)
class Veto:
    """An admin's: the `Shorten` with the object id `against` is not to take effect; `version` is that of it."""

    kind: ClassVar[int] = 18
    issuer_public: bytes
    target_public: bytes
    owner_public: bytes
    version: int
    created: int
    against: bytes

    @property
    def slot(self) -> Slot:
        return (self.kind, self.issuer_public, self.target_public, self.owner_public)


Decree = Shorten | ApproveKey | Veto


def write_shorten(out: Writer, value: Shorten) -> None:
    _write_head(out, value.genesis_public, value)
    out.uint(_floor(value.floor), 8)


def read_shorten(data: Reader) -> Shorten:
    signer, target, owner, version, created = _read_head(data)
    return Shorten(signer, target, owner, version, created, _floor(data.uint(8)))


def write_approve_key(out: Writer, value: ApproveKey) -> None:
    _write_head(out, value.genesis_public, value)
    out.text(value.dataset)
    out.fixed(value.pinned, 32)
    out.fixed(value.offered, 32)


def read_approve_key(data: Reader) -> ApproveKey:
    signer, target, owner, version, created = _read_head(data)
    dataset, pinned, offered = data.text(), data.fixed(32), data.fixed(32)
    return ApproveKey(signer, target, owner, version, created, dataset, pinned, offered)


def write_veto(out: Writer, value: Veto) -> None:
    _write_head(out, value.issuer_public, value)
    out.fixed(value.against, 32)


def read_veto(data: Reader) -> Veto:
    signer, target, owner, version, created = _read_head(data)
    return Veto(signer, target, owner, version, created, data.fixed(32))


def _write_head(out: Writer, signer: bytes, value: Decree) -> None:
    for public in (signer, value.target_public, value.owner_public):
        out.fixed(public, 32)
    out.uint(value.version, 8)
    out.uint(value.created, 8)


def _read_head(data: Reader) -> tuple[bytes, bytes, bytes, int, int]:
    return data.fixed(32), data.fixed(32), data.fixed(32), data.uint(8), data.uint(8)


def _floor(seconds: int) -> int:
    if not SHORTEST <= seconds <= LONGEST:
        raise Malformed(f"a floor of {seconds} seconds")
    return seconds
