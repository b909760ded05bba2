"""Who is in the mesh: a pure function of the set of signed objects, whatever the order of their arrival.

By which chains a node is in the mesh, and which successions hold, is said in `mesh.chains`. Here the objects
are verified and stored, and the members, their records and their quarrels are read from the chains.

**Bounds.** Objects whose signer is not admitted yet wait in a table of 256. Nothing else is stored without a
chain of admissions, standing or not (what is void today is needed to judge tomorrow). Only beyond these
bounds and those of the chains does the order of arrival matter.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal, TypeVar, cast

from mesh.chains import MAX_CHAIN as MAX_CHAIN
from mesh.chains import MAX_CHAINS as MAX_CHAINS
from mesh.chains import Certificate, Chain, Ruling, World, rule
from mesh.decrees import ApproveKey, Decree, Shorten, Slot, Veto
from mesh.identity import mesh_id, node_id
from mesh.objects import (
    ROLES,
    Admission,
    BadObject,
    Genesis,
    Kind,
    Opaque,
    Record,
    Report,
    Role,
    Signed,
    Tombstone,
    Value,
    open_signed,
)

MAX_PENDING = 256
MAX_ADMISSIONS = 2048
MAX_PER_ISSUER = 512
MAX_OPAQUE_PER_NODE = 8
MAX_DECREES = 4096
"""Of the recovery key's."""
MAX_VETOES = 256
"""Of one admin's."""

State = Literal["active", "evicted", "succeeded", "conflict"]
Item = Signed[Value | Opaque]
_Versioned = TypeVar("_Versioned", Signed[Record], Signed[Report])


@dataclass(frozen=True, slots=True)
class Added:
    """New and stored."""

    item: Item


@dataclass(frozen=True, slots=True)
class Known:
    """Stored already; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Stale:
    """A newer version is stored; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Well signed by a node that is not admitted as far as is known; kept in a bounded table until it is."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """Not an object of this mesh, or no room for it; nothing was changed."""

    reason: str


Outcome = Added | Known | Stale | Waiting | Rejected


@dataclass(frozen=True, slots=True)
class Member:
    """A node with a chain. `admitted_by` is None for genesis; `record` and `report` only while active.

    `depth` is the length of its chain; `created` and `invite_id` are those of the admission that counts.
    """

    id: str
    public: bytes
    name: str
    role: Role
    admitted_by: str | None
    state: State
    created: int
    invite_id: bytes
    depth: int
    succeeded_by: str | None = None
    succeeds: str | None = None
    record: Record | None = None
    report: Report | None = None

    @property
    def active(self) -> bool:
        """Whether it is in the mesh now."""
        return self.state == "active"


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two nodes claim one thing; `loser` does not get it. `subject`: the name, predecessor or key."""

    kind: Literal["name", "succession", "wireguard_key"]
    subject: str
    winner: str
    loser: str


@dataclass(frozen=True, slots=True)
class Duplicate:
    """Two hosts run with one identity: one record version says two things. `boots` are hex nonces."""

    id: str
    version: int
    boots: tuple[str, str]


@dataclass(frozen=True, slots=True)
class View:
    """Who is in the mesh, as of one set of objects. Members are keyed by node id."""

    mesh_id: bytes
    mesh_name: str
    members: Mapping[str, Member]
    conflicts: tuple[Conflict, ...]
    duplicates: tuple[Duplicate, ...]
    _world: World = field(repr=False, compare=False)

    def by_name(self, name: str) -> Member | None:
        """The active member of that name."""
        return next((m for m in self.members.values() if m.active and m.name == name), None)

    def active(self) -> list[Member]:
        """The active members, by name."""
        return sorted((m for m in self.members.values() if m.active), key=lambda m: m.name)

    def owner_of(self, node: str) -> str:
        """The last heir in the line of successions from *node*; itself if nobody succeeds it."""
        while (member := self.members.get(node)) is not None and member.succeeded_by is not None:
            node = member.succeeded_by
        return node

    def may_read_root(self, caller: str, root: str) -> bool:
        """Whether *caller* is the living owner of the replica root of node *root*."""
        member = self.members.get(caller)
        return member is not None and member.active and self.owner_of(root) == caller

    def is_above(self, upper: str, lower: str) -> bool:
        """Whether *lower* is in the mesh by grace of *upper* alone: all its chains pass through *upper*."""
        chains = self._chains(lower)
        return bool(chains) and all(upper in map(node_id, chain.nodes[:-1]) for chain in chains)

    def may_evict(self, admin: str, target: str) -> bool:
        """Whether a tombstone by *admin* on *target* would take it out."""
        by, on = self.members.get(admin), self.members.get(target)
        if by is None or on is None or not by.active or by.role != "admin" or admin == target:
            return False
        return on.role != "admin" or self.is_above(admin, target)

    def chain(self, node: str) -> list[bytes]:
        """The admissions of the node's shortest standing chain, from the top down; empty if none."""
        chains = self._chains(node)
        return [step.data for step in chains[0].steps] if chains else []

    def issued_by(self, node: str) -> tuple[bytes, ...]:
        """The oids of all valid admissions and tombstones of *node*: a keep list that keeps everything."""
        return tuple(sorted(c.oid for c in self._world.valid() if c.author == node))

    def visible(self, item: Item, viewer: Member, served: Collection[str] = ()) -> bool:
        """Whether *viewer* may be given *item*. `served`: ids of the nodes that a vault stores for.

        Trust objects are for everyone: without them nobody could verify anything.
        """
        if isinstance(item.value, Genesis | Admission | Tombstone):
            return True
        if isinstance(item.value, Shorten | ApproveKey | Veto):
            return _concerns(item.value, viewer)
        if isinstance(item.value, Opaque) and mesh_id(item.signer) == self.mesh_id:
            return viewer.active and viewer.role in ("admin", "member")
        author = self.members.get(item.author)
        if author is None or not author.active or not viewer.active:
            return False
        if author.id == viewer.id or viewer.role in ("admin", "member"):
            return True
        if isinstance(item.value, Report):
            return viewer.role == "vault" and author.id in served
        if viewer.role == "vault":
            return isinstance(item.value, Record) and author.role in ("admin", "member")
        return True

    def _chains(self, node: str) -> list[Chain]:
        member = self.members.get(node)
        return self._world.alive(member.public) if member else []


class Trust:
    """The set of objects of one mesh: `add` takes bytes from anywhere, `view` says what follows."""

    def __init__(self, mesh: bytes) -> None:
        self.mesh_id = mesh
        self._genesis: Signed[Genesis] | None = None
        self._certificates: dict[bytes, Certificate] = {}
        self._issued: dict[tuple[bytes, int], int] = defaultdict(int)
        self._admitted: set[bytes] = set()
        self._admins: set[bytes] = set()
        self._records: dict[bytes, list[Signed[Record]]] = {}
        self._reports: dict[bytes, list[Signed[Report]]] = {}
        self._opaque: dict[bytes, list[Signed[Opaque]]] = {}
        self._decrees: dict[Slot, Signed[Decree]] = {}
        self._pending: dict[bytes, Item] = {}
        self._ruling: Ruling | None = None
        self._view: View | None = None

    def add(self, data: bytes) -> Outcome:
        """Verify and store one object; what waited for it is stored too. Never raises for bad data."""
        try:
            item = open_signed(data, self.mesh_id)
        except BadObject as error:
            return Rejected(str(error))
        outcome = self._place(item)
        if isinstance(outcome, Added) and isinstance(item.value, Admission):
            self._release()
        return outcome

    def view(self) -> View:
        """What follows from the objects; computed anew only after a change."""
        if self._view is None:
            if self._ruling is None:
                self._ruling = rule(self._certificates.values(), self.mesh_id)
            self._view = _look(self, self._ruling)
        return self._view

    @property
    def genesis(self) -> Signed[Genesis] | None:
        """The mesh's own object, if it has arrived."""
        return self._genesis

    def records_of(self, public: bytes) -> list[Signed[Record]]:
        """The newest record of a node; two if two hosts run with its key; none if none came."""
        return list(self._records.get(public, ()))

    def report_of(self, public: bytes) -> Signed[Report] | None:
        """The newest report of a node."""
        return next(iter(self._reports.get(public, ())), None)

    def decrees(self) -> list[Signed[Decree]]:
        """What the recovery key and admins said of what nodes keep: of each slot the newest, judged by nobody yet."""
        return list(self._decrees.values())

    def all_signed(self) -> Iterator[Item]:
        """Everything stored, in an order in which a node that knows nothing yet can store it one by one."""
        if self._genesis is not None:
            yield cast(Item, self._genesis)
        # Stored only once its issuer was known: the order of insertion is such an order.
        yield from cast(Iterable[Item], self._certificates.values())
        yield from cast(Iterable[Item], self._decrees.values())
        for table in (self._records, self._reports, self._opaque):
            for items in table.values():
                yield from cast(list[Item], items)

    def objects(self, *kinds: Kind) -> Iterator[Item]:
        """Everything stored of these kinds."""
        return (item for item in self.all_signed() if item.type in kinds)

    def _place(self, item: Item) -> Outcome:
        value = item.value
        if isinstance(value, Genesis):
            return self._place_genesis(cast(Signed[Genesis], item))
        if item.oid in self._certificates:
            return Known()
        if isinstance(value, Admission | Tombstone):
            by_genesis = mesh_id(item.signer) == self.mesh_id
            if not by_genesis and item.signer not in self._admins:
                return self._wait(item)
            return self._place_certificate(cast(Certificate, item), by_genesis)
        if isinstance(value, Shorten | ApproveKey | Veto):
            return self._place_decree(cast(Signed[Decree], item))
        by_recovery = isinstance(value, Opaque) and mesh_id(item.signer) == self.mesh_id
        if item.signer not in self._admitted and not by_recovery:
            return self._wait(item)
        if isinstance(value, Record):
            return self._place_versioned(self._records, cast(Signed[Record], item), most=2)
        if isinstance(value, Report):
            return self._place_versioned(self._reports, cast(Signed[Report], item), most=1)
        return self._place_opaque(cast(Signed[Opaque], item))

    def _place_genesis(self, item: Signed[Genesis]) -> Outcome:
        """The genesis key could sign two; all nodes then settle on the same one."""
        old = self._genesis
        if old is not None and old.oid == item.oid:
            return Known()
        if old is not None and (old.value.created, old.oid) < (item.value.created, item.oid):
            return Stale()
        self._genesis, self._view = item, None
        return Added(cast(Item, item))

    def _place_certificate(self, item: Certificate, by_genesis: bool) -> Outcome:
        # Genesis is never short of room: it is what a mesh with a mad admin is rescued with.
        full = isinstance(item.value, Admission) and self._count(Kind.ADMISSION) >= MAX_ADMISSIONS
        if not by_genesis and (full or self._issued[item.signer, item.type] >= MAX_PER_ISSUER):
            return Rejected("no room for more certificates")
        self._certificates[item.oid] = item
        self._issued[item.signer, item.type] += 1
        if isinstance(item.value, Admission):
            self._admitted.add(item.value.node_public)
            if item.value.role == "admin":
                self._admins.add(item.value.node_public)
        self._ruling = self._view = None
        return Added(cast(Item, item))

    def _place_decree(self, item: Signed[Decree]) -> Outcome:
        """Of one slot the highest version counts, and of one version the lowest oid, as with records."""
        by_genesis = mesh_id(item.signer) == self.mesh_id
        if item.signer not in self._admins and not by_genesis:
            return self._wait(cast(Item, item))
        old = self._decrees.get(item.value.slot)
        if old is not None and old.oid == item.oid:
            return Known()
        if old is not None and (old.value.version, item.oid) > (item.value.version, old.oid):
            return Stale()
        said = sum(one.signer == item.signer for one in self._decrees.values())
        if old is None and said >= (MAX_DECREES if by_genesis else MAX_VETOES):
            return Rejected("no room for more decrees")
        self._decrees[item.value.slot] = item
        return Added(cast(Item, item))

    def _count(self, kind: Kind) -> int:
        return sum(count for (_, type), count in self._issued.items() if type == kind)

    def _place_versioned(self, table: dict[bytes, list[_Versioned]], item: _Versioned, most: int) -> Outcome:
        """The highest version counts; of one version, the lowest oids: a choice that order cannot change."""
        stored: list[_Versioned] = table.get(item.signer, [])
        if any(old.oid == item.oid for old in stored):
            return Known()
        if stored and stored[0].value.version > item.value.version:
            return Stale()
        kept: list[_Versioned] = [item]
        kept += [old for old in stored if old.value.version == item.value.version]
        kept.sort(key=lambda each: each.oid)
        del kept[most:]
        table[item.signer] = kept
        self._view = None
        return Added(cast(Item, item)) if item in kept else Stale()

    def _place_opaque(self, item: Signed[Opaque]) -> Outcome:
        stored = self._opaque.get(item.signer, [])
        if any(old.oid == item.oid for old in stored):
            return Known()
        kept = sorted([*stored, item], key=lambda each: each.oid)[:MAX_OPAQUE_PER_NODE]
        self._opaque[item.signer] = kept
        return Added(cast(Item, item)) if item in kept else Rejected("no room for more unknown objects")

    def _wait(self, item: Item) -> Outcome:
        if item.oid not in self._pending and len(self._pending) >= MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        self._pending[item.oid] = item
        return Waiting()

    def _release(self) -> None:
        """Place what waited, until nothing more finds its place."""
        moved = True
        while moved:
            waiting, self._pending = self._pending, {}
            placed = [self._place(item) for item in waiting.values()]
            moved = any(isinstance(outcome, Added) for outcome in placed)


def _concerns(decree: Decree, viewer: Member) -> bool:
    """It is for the node that is to follow it and for those that could object; names of datasets not for clients."""
    if decree.target_public == viewer.public:
        return True
    if viewer.role == "client":
        return viewer.active and not isinstance(decree, ApproveKey)
    return viewer.active and viewer.role in ("admin", "member")


def _look(trust: Trust, ruling: Ruling) -> View:
    """The view of a ruling and the newest records."""
    entries = sorted(
        (_entry(public, ruling) for public, chains in ruling.world.chains.items() if chains),
        key=lambda e: e.rank,
    )
    conflicts = [
        Conflict("succession", node_id(cast(bytes, one.value.succeeds)), _node(one), _node(other))
        for one, other in ruling.rivals
    ]
    names: dict[str, str] = {}
    keys: dict[bytes, str] = {}
    members: dict[str, Member] = {}
    for member in (entry.member for entry in entries):
        if member.active and names.setdefault(member.name, member.id) != member.id:
            conflicts.append(Conflict("name", member.name, names[member.name], member.id))
            member = replace(member, state="conflict")
        if member.active:
            member = _with_records(trust, member)
        key = member.record.wireguard_public if member.record else None
        if key is not None and keys.setdefault(key, member.id) != member.id:
            conflicts.append(Conflict("wireguard_key", key.hex(), keys[key], member.id))
            member = replace(member, record=None)
        members[member.id] = member
    name = trust.genesis.value.name if trust.genesis else ""
    duplicates = tuple(d for m in members.values() if m.active and (d := _duplicate(trust, m)))
    return View(trust.mesh_id, name, MappingProxyType(members), tuple(conflicts), duplicates, ruling.world)


def _node(admission: Signed[Admission]) -> str:
    return node_id(admission.value.node_public)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A member and its rank in quarrels: role, depth, then the earlier, then the lower oid."""

    rank: tuple[int, int, int, bytes]
    member: Member


def _entry(public: bytes, ruling: Ruling) -> _Entry:
    """The admission that counts: of the most trusted role, then shortest chain, earliest, lowest oid."""
    alive = ruling.world.alive(public)
    chain = min(alive or ruling.world.chains[public], key=_rank)
    heir = ruling.heirs.get(public)
    step = chain.steps[-1]
    state: State = "evicted" if not alive else "succeeded" if heir else "active"
    member = Member(
        id=node_id(public),
        public=public,
        name=step.value.name,
        role=step.value.role,
        admitted_by=node_id(step.signer) if len(chain.steps) > 1 else None,
        state=state,
        created=step.value.created,
        invite_id=step.value.invite_id,
        depth=len(chain.steps),
        succeeded_by=_node(heir) if heir else None,
        succeeds=node_id(step.value.succeeds) if step.value.succeeds else None,
    )
    return _Entry(_rank(chain), member)


def _rank(chain: Chain) -> tuple[int, int, int, bytes]:
    step = chain.steps[-1]
    return ROLES.index(step.value.role), len(chain.steps), step.value.created, step.oid


def _with_records(trust: Trust, member: Member) -> Member:
    records, report = trust.records_of(member.public), trust.report_of(member.public)
    return replace(
        member, record=records[0].value if records else None, report=report.value if report else None
    )


def _duplicate(trust: Trust, member: Member) -> Duplicate | None:
    records = [signed.value for signed in trust.records_of(member.public)]
    if len(records) < 2:
        return None
    boots = records[0].boot.hex(), records[1].boot.hex()
    return Duplicate(member.id, records[0].version, boots)
