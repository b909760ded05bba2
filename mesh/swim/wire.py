"""Datagrams of the membership protocol: a fixed binary layout, big-endian, at most what the encoder is told.

    header  version u8, kind u8, sequence u32, sender's incarnation u32, subject 10 bytes, count of updates u8
    update  claim u8, incarnation u32, about 10 bytes, by 10 bytes

`subject` is whom a ping-req, or the ack or nack that answers it, is about; else it is the receiver. `by` is
who says *suspect*; else it is the node itself. Node ids are 80 bits, written as 16 base32 characters. The
sender is the address a datagram came from, which the tunnel vouches for.
"""

import base64
import binascii
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from mesh.swim.transitions import Claim

VERSION = 1
MAX_INCARNATION = 2**32 - 2
"""The highest that is believed of a node, so that it can always answer with a higher one."""

Kind = Literal["ping", "ack", "ping-req", "nack", "gossip"]

_KINDS: tuple[Kind, ...] = get_args(Kind)
_CLAIMS: tuple[Claim, ...] = get_args(Claim)
_HEADER = struct.Struct(">BBII10sB")
_UPDATE = struct.Struct(">BI10s10s")
_ID_BYTES, _ID_CHARS = 10, 16


class WireError(Exception):
    """Not a datagram of ours. Drop it."""


@dataclass(frozen=True, slots=True)
class Update:
    """A rumour: `claim` about a node at its incarnation, `by` whom."""

    claim: Claim
    about: str
    incarnation: int
    by: str


@dataclass(frozen=True, slots=True)
class Message:
    """One datagram."""

    kind: Kind
    sequence: int
    incarnation: int
    subject: str
    updates: tuple[Update, ...] = ()


def room(limit: int) -> int:
    """How many updates fit into a datagram of `limit` bytes."""
    return min(255, (limit - _HEADER.size) // _UPDATE.size)


def encode(message: Message) -> bytes:
    """The datagram. Raises WireError for an id or number that has no place in it."""
    return b"".join(
        [
            _pack(
                _HEADER,
                VERSION,
                _KINDS.index(message.kind),
                message.sequence,
                message.incarnation,
                _id_bytes(message.subject),
                len(message.updates),
            ),
            *(_encode_update(update) for update in message.updates),
        ]
    )


def decode(datagram: bytes) -> Message:
    """The message. Raises WireError for anything that `encode` would not have made."""
    if len(datagram) < _HEADER.size:
        raise WireError("too short")
    version, kind, sequence, incarnation, subject, count = _HEADER.unpack_from(datagram)
    if version != VERSION:
        raise WireError(f"version {version}")
    if kind >= len(_KINDS):
        raise WireError(f"kind {kind}")
    if len(datagram) != _HEADER.size + count * _UPDATE.size:
        raise WireError(f"{len(datagram)} bytes with {count} updates")
    updates = tuple(_decode_update(datagram, _HEADER.size + n * _UPDATE.size) for n in range(count))
    return Message(_KINDS[kind], sequence, incarnation, _id_text(subject), updates)


def _encode_update(update: Update) -> bytes:
    claim = _CLAIMS.index(update.claim)
    return _pack(_UPDATE, claim, update.incarnation, _id_bytes(update.about), _id_bytes(update.by))


def _decode_update(datagram: bytes, offset: int) -> Update:
    claim, incarnation, about, by = _UPDATE.unpack_from(datagram, offset)
    if claim >= len(_CLAIMS):
        raise WireError(f"claim {claim}")
    return Update(_CLAIMS[claim], _id_text(about), incarnation, _id_text(by))


def _pack(layout: struct.Struct, *values: int | bytes) -> bytes:
    try:
        return layout.pack(*values)
    except struct.error as error:
        raise WireError(str(error)) from error


@lru_cache(maxsize=4096)
def _id_bytes(text: str) -> bytes:
    try:
        raw = base64.b32decode(text.upper()) if text == text.lower() else b""
    except (binascii.Error, ValueError) as error:
        raise WireError(f"node id {text!r}: {error}") from error
    if len(raw) != _ID_BYTES or len(text) != _ID_CHARS:
        raise WireError(f"node id {text!r}")
    return raw


@lru_cache(maxsize=4096)
def _id_text(raw: bytes) -> str:
    return base64.b32encode(raw).decode("ascii").lower()
