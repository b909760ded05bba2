"""Keys and what is derived from them: node ids, mesh ids, addresses, recovery words. Crypto is PyNaCl's."""

import ipaddress
import re
from collections.abc import Callable
from dataclasses import dataclass

import nacl.bindings
import nacl.exceptions
import nacl.hash
import nacl.signing
import nacl.utils
from mnemonic import Mnemonic
from nacl.encoding import RawEncoder

from mesh.codec import Malformed, base32, from_base32, from_base64, to_base64

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
WORDS = 24
Random = Callable[[int], bytes]


class BadWords(ValueError):
    """The recovery words are not what was printed; the text says which. Nothing was changed."""


def digest(person: bytes, data: bytes, size: int = 32) -> bytes:
    """BLAKE2b of *data*, personalised with *person* (at most 16 bytes), *size* bytes long."""
    return nacl.hash.blake2b(data, digest_size=size, person=person, encoder=RawEncoder)


@dataclass(frozen=True, slots=True)
class Identity:
    """An Ed25519 key pair. Its repr shows no secret."""

    _key: nacl.signing.SigningKey

    @classmethod
    def generate(cls, random: Random = nacl.utils.random) -> "Identity":
        """A new key; *random* gives that many random bytes."""
        return cls.from_seed(random(32))

    @classmethod
    def from_seed(cls, seed: bytes) -> "Identity":
        """The key of a 32-byte seed. Raises ValueError for another length."""
        if len(seed) != 32:
            raise ValueError("an Ed25519 seed has 32 bytes")
        return cls(nacl.signing.SigningKey(seed))

    def __repr__(self) -> str:
        return f"Identity({self.id})"

    @property
    def seed(self) -> bytes:
        """The 32 secret bytes: for the key file only."""
        return bytes(self._key)

    @property
    def public(self) -> bytes:
        """The 32-byte public key."""
        return bytes(self._key.verify_key)

    @property
    def id(self) -> str:
        """The node id: 16 lower-case base32 characters."""
        return node_id(self.public)

    def sign(self, message: bytes) -> bytes:
        """The 64-byte signature. The caller separates domains by a prefix."""
        return self._key.sign(message).signature


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether *signature* is *public*'s over *message* (strict: no malleable s, no small-order key)."""
    if len(public) != 32 or len(signature) != 64:
        return False
    try:
        nacl.signing.VerifyKey(public).verify(message, signature)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


def node_id(public: bytes) -> str:
    """The first 80 bits of BLAKE2b-256 (person mk-node) of the public key, as 16 base32 characters."""
    return base32(digest(b"mk-node", public)[:10])


def mesh_id(genesis_public: bytes) -> bytes:
    """BLAKE2b-256 (person mk-mesh) of the genesis public key."""
    return digest(b"mk-mesh", genesis_public)


def valid_node_id(text: str) -> bool:
    """Whether *text* has the form of a node id."""
    try:
        return len(from_base32(text)) == 10
    except Malformed:
        return False


def mesh_address(mesh: bytes, node: str) -> str:
    """The node's IPv6 address: fd, 40 bits of the mesh id, the 80 bits of the node id. Raises Malformed."""
    suffix = from_base32(node)
    if len(suffix) != 10:
        raise Malformed(f"{node!r} is not a node id")
    return str(ipaddress.IPv6Address(b"\xfd" + mesh[:5] + suffix))


def mesh_prefix(mesh: bytes) -> str:
    """The mesh's ``fdxx:…::/48``."""
    return str(ipaddress.IPv6Network((b"\xfd" + mesh[:5] + bytes(10), 48)))


def valid_name(name: str) -> bool:
    """Whether *name* may name a node or a mesh: lower-case letters, digits and inner hyphens, at most 32."""
    return NAME.fullmatch(name) is not None


def clamp(secret: bytes) -> bytes:
    """Make 32 bytes an X25519 private key (RFC 7748 §5), as ``wg genkey`` does. Raises ValueError."""
    if len(secret) != 32:
        raise ValueError("an X25519 key has 32 bytes")
    return bytes([secret[0] & 248]) + secret[1:31] + bytes([secret[31] & 127 | 64])


def wireguard_private(random: Random = nacl.utils.random) -> str:
    """A new WireGuard private key in base64."""
    return to_base64(clamp(random(32)))


def wireguard_public(private: str) -> str:
    """The public key of a private one, both in base64. Raises Malformed or ValueError."""
    return to_base64(x25519_public(from_base64(private)))


def x25519_public(private: bytes) -> bytes:
    """The X25519 public key of 32 private bytes."""
    return nacl.bindings.crypto_scalarmult_base(private)


def new_recovery_words(random: Random = nacl.utils.random) -> list[str]:
    """24 new BIP-39 words that hold a genesis key; to be shown once and kept on paper."""
    return Mnemonic("english").to_mnemonic(random(32)).split()


def genesis_from_words(words: list[str]) -> Identity:
    """The genesis key that *words* hold (its seed is their entropy). Raises BadWords."""
    book = Mnemonic("english")
    if len(words) != WORDS:
        raise BadWords(f"there must be {WORDS} words, not {len(words)}")
    lower = [word.strip().lower() for word in words]
    known = set(book.wordlist)
    wrong = [f"{position} ({word})" for position, word in enumerate(lower, 1) if word not in known]
    if wrong:
        raise BadWords("not in the word list: word " + ", ".join(wrong))
    try:
        return Identity.from_seed(bytes(book.to_entropy(lower)))
    except ValueError as error:
        raise BadWords("the words do not belong together: one is wrong, or two are swapped") from error
