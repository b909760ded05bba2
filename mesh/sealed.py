"""Bytes that one node signs and that only named readers open: for what lies with nodes that are not to read it.

    SEALED    = "mkseal1\\0" | count u16 | count times (reader 32 | sealed box of the content key 80) | secret box
    INSIDE    = signer 32 | signature 64 | body
    signature = Ed25519 over "meshkeep-" purpose "1\\0" | mesh id | body

A reader is named by its Ed25519 key; its box is made for the X25519 key that follows from that. Whoever stores it sees
who the readers are and how long the body is, and not who signed it.
"""

from collections.abc import Collection
from dataclasses import dataclass

import nacl.bindings
import nacl.exceptions
import nacl.public
import nacl.secret
import nacl.signing
import nacl.utils

from mesh.codec import Malformed, Reader, Writer
from mesh.identity import Identity, verify

MAGIC = b"mkseal1\0"
MAX_READERS = 512
BOX = 32 + 16 + 32
_INSIDE = 32 + 64


class BadSeal(ValueError):
    """These bytes are not what was sealed, or not for this purpose and mesh; the text says why."""


class NotAReader(BadSeal):
    """They may be genuine, but they are not for this key."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What was inside, and the public key of who signed it."""

    signer: bytes
    body: bytes


def seal(signer: Identity, mesh: bytes, purpose: str, body: bytes, readers: Collection[bytes]) -> bytes:
    """Sign *body* and seal it to *readers* (Ed25519 public keys). Raises BadSeal for a key that is none."""
    key = nacl.utils.random(nacl.secret.SecretBox.KEY_SIZE)
    out = Writer()
    out.fixed(MAGIC, len(MAGIC))
    try:
        out.uint(len(set(readers)), 2)
        for reader in sorted(set(readers)):
            public = nacl.bindings.crypto_sign_ed25519_pk_to_curve25519(reader)
            out.fixed(reader, 32)
            out.fixed(nacl.public.SealedBox(nacl.public.PublicKey(public)).encrypt(key), BOX)
    except (Malformed, nacl.exceptions.CryptoError) as error:
        raise BadSeal(f"there is a reader that is none: {error}") from error
    inside = signer.public + signer.sign(_message(mesh, purpose, body)) + body
    return out.done() + bytes(nacl.secret.SecretBox(key).encrypt(inside))


def readers_of(data: bytes) -> frozenset[bytes]:
    """The public keys it is for. Raises BadSeal. Says nothing of what is inside."""
    return frozenset(_boxes(data)[0])


def open_sealed(data: bytes, reader: Identity, mesh: bytes, purpose: str) -> Opened:
    """Open and verify: whose word it is, is for the caller to judge. Raises BadSeal, NotAReader."""
    return read_inside(unseal(data, reader), mesh, purpose)


def unseal(data: bytes, reader: Identity) -> bytes:
    """The inside, not verified: to be handed on to somebody who may read it. Raises BadSeal, NotAReader."""
    boxes, rest = _boxes(data)
    box = boxes.get(reader.public)
    if box is None:
        raise NotAReader("it is not sealed to this key")
    private = nacl.signing.SigningKey(reader.seed).to_curve25519_private_key()
    try:
        key = nacl.public.SealedBox(private).decrypt(box)
        return bytes(nacl.secret.SecretBox(key).decrypt(rest))
    except (nacl.exceptions.CryptoError, ValueError) as error:
        raise BadSeal("it was altered, or is not whole") from error


def read_inside(inside: bytes, mesh: bytes, purpose: str) -> Opened:
    """Verify what was inside, whoever opened it. Raises BadSeal."""
    signer, signature, body = inside[:32], inside[32:_INSIDE], inside[_INSIDE:]
    if not verify(signer, _message(mesh, purpose, body), signature):
        raise BadSeal("the signature is not its signer's, or not for this")
    return Opened(signer, body)


def _boxes(data: bytes) -> tuple[dict[bytes, bytes], bytes]:
    reader = Reader(data)
    try:
        if reader.fixed(len(MAGIC)) != MAGIC:
            raise BadSeal("it is nothing sealed, or by a version that is not known here")
        count = reader.uint(2)
        if not 1 <= count <= MAX_READERS:
            raise BadSeal(f"{count} readers")
        boxes = {reader.fixed(32): reader.fixed(BOX) for _ in range(count)}
    except Malformed as error:
        raise BadSeal(str(error)) from error
    if len(boxes) != count or list(boxes) != sorted(boxes):
        raise BadSeal("its readers are not each there once, in order")
    return boxes, data[len(MAGIC) + 2 + count * (32 + BOX) :]


def _message(mesh: bytes, purpose: str, body: bytes) -> bytes:
    return b"meshkeep-" + purpose.encode() + b"1\0" + mesh + body
