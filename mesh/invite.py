"""The one-time invite: what its issuer keeps, the text that is handed over, and the keys of the door.

Pure. The secret is in the token and in invites.json (0600) and nowhere else; reprs do not show it.
"""

import ipaddress
import re
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from mesh.codec import Malformed, Reader, Writer, base32
from mesh.endpoints import Endpoint, NamedEndpoint
from mesh.identity import clamp, digest, valid_name, valid_node_id, x25519_public
from mesh.objects import ROLES, Role

PREFIX = "mk1-"
VERSION = 1
MAX_ENDPOINTS = 6
DOOR_PREFIX = bytes.fromhex("fd6d6b646f6f")  # "mkdoo" in the global id of a ULA

Why = Literal["not_an_invite", "other_version", "truncated", "typo", "expired"]


class BadInvite(ValueError):
    """The text cannot be used as an invite. `why` is a stable code. Nothing was changed."""

    def __init__(self, why: Why, text: str) -> None:
        super().__init__(text)
        self.why = why


@dataclass(frozen=True, slots=True)
class VaultTerms:
    """What a vault grants: room below dataset `under`, at most `quota` bytes, kept `floor_days` or more."""

    under: str
    quota: int | None = None
    floor_days: int | None = None


@dataclass(frozen=True, slots=True)
class Invite:
    """The issuer's side. Times in seconds since the epoch; `succeeds` and `used_by` are node ids."""

    secret: bytes = field(repr=False)
    role: Role
    created: int
    expires: int
    name: str | None = None
    succeeds: str | None = None
    vault: VaultTerms | None = None
    used_by: str | None = None
    revoked: bool = False

    def __post_init__(self) -> None:
        if len(self.secret) != 16 or self.role not in ROLES:
            raise Malformed("an invite has a secret of 16 bytes and a role")
        if self.name is not None and not valid_name(self.name):
            raise Malformed(f"{self.name!r} is no valid name")
        if any(node is not None and not valid_node_id(node) for node in (self.succeeds, self.used_by)):
            raise Malformed("not a node id")
        if self.vault is not None and self.role != "vault":
            raise Malformed("only a vault has terms")

    @property
    def id(self) -> str:
        """8 hex characters from the hash of the secret."""
        return invite_id(self.secret)

    def token(
        self,
        mesh: bytes,
        door_public: bytes,
        endpoints: tuple[Endpoint, ...],
        names: tuple[NamedEndpoint, ...] = (),
    ) -> "Token":
        """What the new node is given. At most 6 endpoints go along, named ones first."""
        return Token(
            mesh_id=mesh,
            secret=self.secret,
            door_public=door_public,
            role=self.role,
            expires=self.expires,
            endpoints=endpoints[: MAX_ENDPOINTS - len(names)],
            names=names,
            name=self.name,
            vault=self.vault,
        )

    def to_json(self) -> dict[str, Any]:
        """For invites.json only: the secret is in it."""
        terms = self.vault
        return {
            "secret": self.secret.hex(),
            "role": self.role,
            "created": self.created,
            "expires": self.expires,
            "name": self.name,
            "succeeds": self.succeeds,
            "vault": None if terms is None else [terms.under, terms.quota, terms.floor_days],
            "used_by": self.used_by,
            "revoked": self.revoked,
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Invite":
        """The inverse of `to_json`. Raises Malformed."""
        try:
            terms = raw["vault"]
            fields = {**raw, "secret": bytes.fromhex(raw["secret"]), "vault": terms and VaultTerms(*terms)}
            return cls(**fields)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise Malformed(f"not an invite: {error}") from error


@dataclass(frozen=True, slots=True)
class Accept:
    """The node may come in; `invite` is to be on disk before it is told so."""

    invite: Invite


@dataclass(frozen=True, slots=True)
class Refuse:
    """The node may not come in; nothing was changed. `hint` is what to try."""

    code: Literal["used", "expired", "revoked", "unknown"]
    text: str
    hint: str = "ask for a new invite: meshkeep invite"


def judge(invite: Invite | None, node: str, now: int) -> Accept | Refuse:
    """Whether *node* may redeem *invite*. The node that used it may again: its answer may have been lost."""
    if invite is None:
        return Refuse("unknown", "this invite was not issued here")
    if invite.used_by == node:
        return Accept(invite)
    if invite.revoked:
        return Refuse("revoked", f"invite {invite.id} was revoked")
    if invite.used_by is not None:
        return Refuse("used", f"invite {invite.id} was used already, by node {invite.used_by}")
    if now >= invite.expires:
        return Refuse("expired", f"invite {invite.id} expired {now - invite.expires} seconds ago")
    return Accept(replace(invite, used_by=node))


def invite_id(secret: bytes) -> str:
    """8 hex characters from the hash of the secret: to name an invite in lists and logs."""
    return long_invite_id(secret)[:4].hex()


def long_invite_id(secret: bytes) -> bytes:
    """The 8 bytes by which an admission names its invite."""
    return digest(b"mk-invite", secret)[:8]


@dataclass(frozen=True, slots=True)
class DoorKeys:
    """What both sides of a door derive for one invite. Keys are 32 raw bytes, addresses IPv6 text."""

    private: bytes = field(repr=False)
    public: bytes
    psk: bytes = field(repr=False)
    guest_address: str
    issuer_address: str


def derive_door(secret: bytes, issuer_door_public: bytes) -> DoorKeys:
    """The guest's WireGuard keys, the preshared key and the two /128 of the throw-away tunnel.

    The issuer's address follows from its door key alone: one door serves many invites.
    """
    both = secret + issuer_door_public
    private = clamp(digest(b"mk-door-key", both))
    return DoorKeys(
        private=private,
        public=x25519_public(private),
        psk=digest(b"mk-door-psk", both),
        guest_address=_door_address(digest(b"mk-door-guest", both)),
        issuer_address=door_address(issuer_door_public),
    )


def door_address(issuer_door_public: bytes) -> str:
    """The address of an issuer inside its door."""
    return _door_address(digest(b"mk-door-issuer", issuer_door_public))


def _door_address(hashed: bytes) -> str:
    return str(ipaddress.IPv6Address(DOOR_PREFIX + hashed[:10]))


@dataclass(frozen=True, slots=True)
class Token:
    """The new node's side of an invite; `text` is what is pasted.

    Layout: version u8 | length of all u16 | mesh id 32 | secret 16 | door key 32 | role u8 | expires u64 |
    flags u8 | endpoints | [name] | [under] | [quota u64] | [floor days u32] | checksum 2.
    Flags say what is there: 1 name, 2 under, 4 quota, 8 floor.
    """

    mesh_id: bytes
    secret: bytes = field(repr=False)
    door_public: bytes
    role: Role
    expires: int
    endpoints: tuple[Endpoint, ...] = ()
    name: str | None = None
    vault: VaultTerms | None = None
    names: tuple[NamedEndpoint, ...] = ()

    @property
    def id(self) -> str:
        """The id of the invite."""
        return invite_id(self.secret)

    @property
    def text(self) -> str:
        """``mk1-`` and lower-case base32. Raises Malformed if a field does not fit."""
        body = self._body()
        head = bytes([VERSION]) + (len(body) + 5).to_bytes(2, "big")
        return PREFIX + base32(head + body + _checksum(head + body))

    def door(self) -> DoorKeys:
        """The keys of the tunnel in which this invite is redeemed."""
        return derive_door(self.secret, self.door_public)

    def check(self, now: int) -> "Token":
        """Return itself. Raises BadInvite if it has expired."""
        if now >= self.expires:
            raise BadInvite("expired", f"this invite expired {now - self.expires} seconds ago")
        return self

    @classmethod
    def parse(cls, text: str) -> "Token":
        """Read what was pasted; case and white space do not matter. Raises BadInvite."""
        compact = "".join(text.split()).lower()
        version = re.match(r"mk(\d+)-", compact)
        if version is None:
            raise BadInvite("not_an_invite", f"this is not an invite: it does not begin with {PREFIX}")
        if version[0] != PREFIX:
            raise BadInvite("other_version", f"this invite is of version {version[1]}: update meshkeep")
        try:
            return cls._read(Reader(_checked(compact.removeprefix(PREFIX))))
        except Malformed as error:
            raise BadInvite("typo", f"this invite is damaged: {error}") from error

    def _body(self) -> bytes:
        out, terms = Writer(), self.vault
        out.fixed(self.mesh_id, 32)
        out.fixed(self.secret, 16)
        out.fixed(self.door_public, 32)
        out.uint(ROLES.index(self.role) + 1, 1)
        out.uint(self.expires, 8)
        quota, floor = (terms.quota, terms.floor_days) if terms else (None, None)
        given = (self.name, terms, quota, floor)
        out.uint(sum(1 << bit for bit, value in enumerate(given) if value is not None), 1)
        out.places(self.names, self.endpoints, MAX_ENDPOINTS)
        if self.name is not None:
            out.text(self.name, 32)
        if terms is not None:
            out.text(terms.under)
        if quota is not None:
            out.uint(quota, 8)
        if floor is not None:
            out.uint(floor, 4)
        return out.done()

    @classmethod
    def _read(cls, data: Reader) -> "Token":
        mesh, secret, door, role = data.fixed(32), data.fixed(16), data.fixed(32), data.uint(1)
        expires, flags, (names, endpoints) = data.uint(8), data.uint(1), data.places(MAX_ENDPOINTS)
        name = data.text(32) if flags & 1 else None
        under = data.text() if flags & 2 else None
        quota = data.uint(8) if flags & 4 else None
        floor = data.uint(4) if flags & 8 else None
        data.end()
        if not 1 <= role <= len(ROLES) or flags > 15 or (name is not None and not valid_name(name)):
            raise Malformed("a field has an impossible value")
        if under is None and flags & 12:
            raise Malformed("a field has an impossible value")
        terms = None if under is None else VaultTerms(under, quota, floor)
        return cls(mesh, secret, door, ROLES[role - 1], expires, endpoints, name, terms, names)


def _checksum(data: bytes) -> bytes:
    return digest(b"mk-token", data)[:2]


def _checked(text: str) -> bytes:
    """The body behind version and length, if length and checksum are right. Raises BadInvite."""
    stray = sorted(set(re.sub(r"[a-z2-7]", "", text)))
    if stray:
        raise BadInvite("typo", f"an invite has no {' '.join(stray)} in it (only a to z and 2 to 7)")
    # Whole bytes of however much is there: enough to read the length it should have.
    number = 0
    for character in text:
        number = number << 5 | "abcdefghijklmnopqrstuvwxyz234567".index(character)
    data = (number >> 5 * len(text) % 8).to_bytes(5 * len(text) // 8, "big")
    length = int.from_bytes(data[1:3], "big") if len(data) >= 3 else len(data) + 1
    if len(data) < length <= 4096:
        raise BadInvite("truncated", f"this invite is cut off: {len(data)} of {length} bytes are there")
    if len(data) != length or base32(data) != text or _checksum(data[:-2]) != data[-2:]:
        raise BadInvite("typo", "this invite has a typing mistake: its checksum does not fit")
    if data[0] != VERSION:
        raise BadInvite("other_version", f"this invite is of version {data[0]}: update meshkeep")
    return data[3:-2]
