"""Signed objects: one layout per type and version, one way in (`open_signed`), one way out (`sign`).

    SIGNED    = version u8 | type u8 | length u16 | body | signature 64
    signature = Ed25519 over "meshkeep1" | type | mesh id | body
    oid       = BLAKE2b-256 (person mk-object) of type | mesh id | body      (the signature is no part of it)

All integers are big-endian. **Every body begins with the 32-byte public key of its signer**, so that an
object of a type that this version does not know can be verified and carried on all the same.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import ClassVar, Generic, Literal, TypeVar, cast, get_args

from mesh import decrees
from mesh.codec import Malformed, Reader, Writer, check_ascending, check_count
from mesh.decrees import ApproveKey, Decree, Shorten, Veto
from mesh.endpoints import Endpoint, NamedEndpoint
from mesh.identity import Identity, digest, mesh_id, node_id, valid_name, verify

VERSION = 1
MAX_OBJECT = 65536
MAX_BODY = MAX_OBJECT - 4 - 64
MAX_KEEP = 1024
MAX_REPORT = 48 * 1024
MAX_EXPORTS = 64
MAX_ALLOWED = 32
MAX_ENDPOINTS = 8

Role = Literal["admin", "member", "vault", "client"]
ROLES: tuple[Role, ...] = get_args(Role)
"""From the most to the least trusted with the mesh; a role's number on the wire is its place here, from 1."""


class BadObject(ValueError):
    """These bytes are no object of this mesh; the text says why. Nothing was changed."""


class Kind(IntEnum):
    """The types of this version."""

    GENESIS = 1
    ADMISSION = 2
    TOMBSTONE = 3
    RECORD = 4
    REPORT = 5
    SHORTEN = Shorten.kind
    APPROVE_KEY = ApproveKey.kind
    VETO = Veto.kind


@dataclass(frozen=True, slots=True)
class Genesis:
    """The mesh itself, signed by its genesis key. `created` is in seconds since the epoch."""

    kind: ClassVar[Kind] = Kind.GENESIS
    genesis_public: bytes
    name: str
    created: int


@dataclass(frozen=True, slots=True)
class Admission:
    """This key, this name, this role, says the issuer; perhaps succeeding another node.

    `keep` goes with `succeeds` only: oids of what the predecessor issued that stays valid.
    """

    kind: ClassVar[Kind] = Kind.ADMISSION
    issuer_public: bytes
    node_public: bytes
    role: Role
    created: int
    invite_id: bytes
    name: str
    succeeds: bytes | None = None
    keep: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Tombstone:
    """This node is out, says the issuer. `keep`: oids of what it issued that stays valid."""

    kind: ClassVar[Kind] = Kind.TOMBSTONE
    issuer_public: bytes
    node_public: bytes
    created: int
    reason: int = 0
    keep: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Export:
    """A dataset that may be mounted. `allowed`: public keys of the nodes that may, ascending."""

    guid: int
    path: str
    dataset: str
    writable: bool
    allowed: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """What a node says of itself. The highest version counts; `boot` tells two hosts with one key apart."""

    kind: ClassVar[Kind] = Kind.RECORD
    node_public: bytes
    version: int
    boot: bytes
    wireguard_public: bytes
    door_public: bytes
    port: int
    software: str
    endpoints: tuple[Endpoint, ...] = ()
    exports: tuple[Export, ...] = ()
    names: tuple[NamedEndpoint, ...] = ()


@dataclass(frozen=True, slots=True)
class Report:
    """What a node says of its datasets and replicas: bytes that the mesh does not read."""

    kind: ClassVar[Kind] = Kind.REPORT
    node_public: bytes
    version: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Opaque:
    """An object of a type that this version does not know: verified, carried on, never interpreted."""

    type: int
    body: bytes


Value = Genesis | Admission | Tombstone | Record | Report | Decree
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Signed(Generic[T_co]):
    """A verified object: only `open_signed` and `sign` make one. `data` is what goes over the wire."""

    oid: bytes
    type: int
    signer: bytes
    value: T_co
    data: bytes

    @property
    def author(self) -> str:
        """The node id of the signer."""
        return node_id(self.signer)


def sign(identity: Identity, mesh: bytes, value: Value) -> Signed[Value]:
    """Sign *value* for the mesh. Raises BadObject if it breaks its layout or names another signer."""
    try:
        writer = Writer()
        _ENCODERS[value.kind](writer, value)
        body = writer.done()
    except Malformed as error:
        raise BadObject(f"{Kind(value.kind).name}: {error}") from error
    if len(body) > MAX_BODY:
        raise BadObject(f"{Kind(value.kind).name}: {len(body)} bytes where at most {MAX_BODY} belong")
    return cast(Signed[Value], open_signed(seal(identity, mesh, value.kind, body), mesh))


def seal(identity: Identity, mesh: bytes, type: int, body: bytes) -> bytes:
    """Frame and sign a body of any type; the body must begin with the identity's public key."""
    signature = identity.sign(_message(type, mesh, body))
    return bytes([VERSION, type]) + len(body).to_bytes(2, "big") + body + signature


def open_signed(data: bytes, mesh: bytes) -> Signed[Value | Opaque]:
    """Verify and decode: the only way from bytes to an object. Raises BadObject."""
    if not 4 + 32 + 64 <= len(data) <= MAX_OBJECT:
        raise BadObject(f"an object of {len(data)} bytes")
    if data[0] != VERSION:
        raise BadObject(f"version {data[0]} is not known here")
    type, body, signature = data[1], data[4:-64], data[-64:]
    if int.from_bytes(data[2:4], "big") != len(body):
        raise BadObject("the length does not fit: truncated, or trailing bytes")
    signer = body[:32]
    if not verify(signer, _message(type, mesh, body), signature):
        raise BadObject("the signature is not its signer's, or not for this mesh")
    oid = digest(b"mk-object", bytes([type]) + mesh + body)
    return Signed(oid, type, signer, _decode(type, body, mesh), bytes(data))


def _message(type: int, mesh: bytes, body: bytes) -> bytes:
    return b"meshkeep1" + bytes([type]) + mesh + body


def _decode(type: int, body: bytes, mesh: bytes) -> Value | Opaque:
    decoder = _DECODERS.get(type)
    if decoder is None:
        return Opaque(type, body)
    try:
        reader = Reader(body)
        value = decoder(reader)
        reader.end()
    except Malformed as error:
        raise BadObject(f"{Kind(type).name}: {error}") from error
    if isinstance(value, Genesis) and mesh_id(value.genesis_public) != mesh:
        raise BadObject("GENESIS: of another mesh")
    if isinstance(value, Shorten | ApproveKey) and mesh_id(value.genesis_public) != mesh:
        raise BadObject(f"{Kind(type).name}: only the recovery key of the mesh can say that")
    return value


def _name(name: str) -> str:
    if not valid_name(name):
        raise Malformed(f"{name!r} is no valid name")
    return name


def _write_genesis(out: Writer, value: Genesis) -> None:
    out.fixed(value.genesis_public, 32)
    out.uint(value.created, 8)
    out.text(_name(value.name), 32)


def _read_genesis(data: Reader) -> Genesis:
    public, created = data.fixed(32), data.uint(8)
    return Genesis(public, _name(data.text(32)), created)


def _write_admission(out: Writer, value: Admission) -> None:
    _check_admission(value)
    out.fixed(value.issuer_public, 32)
    out.fixed(value.node_public, 32)
    out.uint(ROLES.index(value.role) + 1, 1)
    out.uint(value.created, 8)
    out.fixed(value.invite_id, 8)
    out.text(_name(value.name), 32)
    out.uint(value.succeeds is not None, 1)
    if value.succeeds is not None:
        out.fixed(value.succeeds, 32)
        out.keys(value.keep, MAX_KEEP)


def _read_admission(data: Reader) -> Admission:
    issuer, node, role = data.fixed(32), data.fixed(32), data.uint(1)
    if not 1 <= role <= len(ROLES):
        raise Malformed(f"role {role}")
    created, invite, name = data.uint(8), data.fixed(8), _name(data.text(32))
    follows = data.flag()
    succeeds = data.fixed(32) if follows else None
    keep = data.keys(MAX_KEEP) if follows else ()
    value = Admission(issuer, node, ROLES[role - 1], created, invite, name, succeeds, keep)
    _check_admission(value)
    return value


def _check_admission(value: Admission) -> None:
    if value.keep and value.succeeds is None:
        raise Malformed("a keep list without a succession")
    if value.node_public in (value.succeeds, value.issuer_public):
        raise Malformed("a node admits or succeeds itself")


def _write_tombstone(out: Writer, value: Tombstone) -> None:
    out.fixed(value.issuer_public, 32)
    out.fixed(value.node_public, 32)
    out.uint(value.created, 8)
    out.uint(value.reason, 1)
    out.keys(value.keep, MAX_KEEP)


def _read_tombstone(data: Reader) -> Tombstone:
    issuer, node = data.fixed(32), data.fixed(32)
    return Tombstone(issuer, node, data.uint(8), data.uint(1), data.keys(MAX_KEEP))


def _write_record(out: Writer, value: Record) -> None:
    out.fixed(value.node_public, 32)
    out.uint(value.version, 8)
    out.fixed(value.boot, 8)
    out.fixed(value.wireguard_public, 32)
    out.fixed(value.door_public, 32)
    out.uint(value.port, 2)
    out.text(value.software, 64)
    out.places(value.names, value.endpoints, MAX_ENDPOINTS)
    check_count(len(value.exports), MAX_EXPORTS)
    out.uint(len(value.exports), 1)
    for export in value.exports:
        _write_export(out, export)


def _read_record(data: Reader) -> Record:
    public, version, boot = data.fixed(32), data.uint(8), data.fixed(8)
    wireguard, door, port = data.fixed(32), data.fixed(32), data.uint(2)
    software, (names, endpoints), count = data.text(64), data.places(MAX_ENDPOINTS), data.uint(1)
    check_count(count, MAX_EXPORTS)
    exports = tuple(_read_export(data) for _ in range(count))
    return Record(public, version, boot, wireguard, door, port, software, endpoints, exports, names)


def _write_export(out: Writer, value: Export) -> None:
    out.uint(value.guid, 8)
    out.text(value.path)
    out.text(value.dataset)
    out.uint(value.writable, 1)
    check_ascending(value.allowed, MAX_ALLOWED)
    out.uint(len(value.allowed), 1)
    for public in value.allowed:
        out.fixed(public, 32)


def _read_export(data: Reader) -> Export:
    guid, path, dataset, writable = data.uint(8), data.text(), data.text(), data.flag()
    count = data.uint(1)
    check_count(count, MAX_ALLOWED)
    allowed = tuple(data.fixed(32) for _ in range(count))
    check_ascending(allowed, MAX_ALLOWED)
    return Export(guid, path, dataset, writable, allowed)


def _write_report(out: Writer, value: Report) -> None:
    out.fixed(value.node_public, 32)
    out.uint(value.version, 8)
    out.blob(value.body, MAX_REPORT)


def _read_report(data: Reader) -> Report:
    return Report(data.fixed(32), data.uint(8), data.blob(MAX_REPORT))


_DECODERS: dict[int, Callable[[Reader], Value]] = {
    Kind.GENESIS: _read_genesis,
    Kind.ADMISSION: _read_admission,
    Kind.TOMBSTONE: _read_tombstone,
    Kind.RECORD: _read_record,
    Kind.REPORT: _read_report,
    Kind.SHORTEN: decrees.read_shorten,
    Kind.APPROVE_KEY: decrees.read_approve_key,
    Kind.VETO: decrees.read_veto,
}
# Each encoder is reached only by the kind of its own class.
_ENCODERS = cast(
    dict[int, Callable[[Writer, Value], None]],
    {
        Kind.GENESIS: _write_genesis,
        Kind.ADMISSION: _write_admission,
        Kind.TOMBSTONE: _write_tombstone,
        Kind.RECORD: _write_record,
        Kind.REPORT: _write_report,
        Kind.SHORTEN: decrees.write_shorten,
        Kind.APPROVE_KEY: decrees.write_approve_key,
        Kind.VETO: decrees.write_veto,
    },
)
