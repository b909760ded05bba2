"""By which chains of admissions a node stands: a pure function of the set of certificates.

**Chains.** A *chain* is a path of admissions genesis -> n1 -> ... -> nk in which every issuer but genesis
was itself admitted as admin by the step before, and no node stands twice. A node is in the mesh while one
of its chains stands. Authority is a matter of the chain alone: *whoever stands earlier on a chain is above
whoever stands later.*

- A tombstone by a node of the chain on a later one is *in force* if it survives what is in force against
  its own issuer (is in the keep list of it). It ends the membership that this chain gives, and the chain
  goes on through the evicted node only by admissions in its keep list. A node with two chains survives if
  the evictor is on one of them only: nobody evicts sideways, nor upwards, and no later admission can undo
  an eviction from above.
- A tombstone by any standing admin ends memberships that are not admin. Non-admins issue nothing, so this
  decides nothing else, and a later admission in a non-admin role does not bring the node back.

Indices along a chain only fall in this definition, so it needs no fixpoint and knows no cycle of arguments.

**Successions.** An admission with `succeeds` by a node above the old one works on the chain like a
tombstone with that keep list. One from below or aside (hosts burn, the founder too) voids admissions of the
old node outside its keep list, never on its issuer's own chain; the tombstones of the old node stay, or a
stolen laptop could succeed home to undo its own eviction. Such successions can attack each other, so they
are decided as an argumentation with the well-founded semantics (van Gelder et al. 1991), broken where it
leaves a tie:

    undecided = all successions; repeat until none is left:
      reject those that do not stand even if no undecided one takes effect,
             and the rivals of accepted ones, and those that would close a circle of heirs
      accept those that stand even if every undecided one takes effect, without an earlier undecided rival
      if neither decided anything: accept the first by (created, oid)

Every round decides at least one, so it ends; each set is a function of the objects, so it is deterministic.
The earliest of two rivals (same predecessor) wins, and a succession that would close a circle of heirs is
rejected.

**Bounds.** At most 8 chains per node are followed, shortest first, each at most 64 long. Only beyond these
bounds does the order of arrival matter.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

from mesh.identity import mesh_id
from mesh.objects import Admission, Signed, Tombstone

MAX_CHAINS = 8
MAX_CHAIN = 64

Certificate = Signed[Admission] | Signed[Tombstone]


@dataclass(frozen=True, slots=True)
class Chain:
    """`nodes` begin with genesis; `enders[i]` is what is in force on this chain against `nodes[i]`."""

    nodes: tuple[bytes, ...]
    steps: tuple[Signed[Admission], ...]
    enders: tuple[tuple[Certificate, ...], ...]

    @property
    def admin(self) -> bool:
        """Whether its last node is an admin by it; genesis is."""
        return not self.steps or self.steps[-1].value.role == "admin"

    @property
    def alive(self) -> bool:
        """Whether no tombstone is in force on its last node."""
        return not any(isinstance(ender.value, Tombstone) for ender in self.enders[-1])

    def keeps(self, certificate: Certificate, at: int) -> bool:
        """Whether *certificate*, issued by `nodes[at]`, survives what is in force against its issuer."""
        return all(certificate.oid in ender.value.keep for ender in self.enders[at])


@dataclass(frozen=True, slots=True)
class Law:
    """The certificates, sorted and indexed. `exempt`: per succession, the admissions that it never voids."""

    admissions: Mapping[bytes, list[Signed[Admission]]]
    against: Mapping[bytes, list[Certificate]]
    roots: tuple[bytes, ...]
    exempt: dict[bytes, frozenset[bytes]] = field(default_factory=dict)


@dataclass(slots=True)
class World:
    """All chains, given which successions admit (`allowed`) and which void from aside (`effective`)."""

    law: Law
    allowed: Collection[bytes]
    effective: Mapping[bytes, list[Signed[Admission]]]
    chains: dict[bytes, list[Chain]] = field(default_factory=dict)
    stands: set[bytes] = field(default_factory=set)

    def walk(self) -> "World":
        """Breadth first, so that a node's shortest chains come first."""
        level = [Chain((root,), (), ((),)) for root in self.law.roots]
        while level:
            found = [longer for chain in level for longer in self._longer(chain)]
            level = [chain for chain in found if chain.admin and len(chain.steps) < MAX_CHAIN]
            level.sort(key=lambda chain: _order(chain.steps[-1]))
        return self

    def _longer(self, chain: Chain) -> Iterator[Chain]:
        for step in self.law.admissions.get(chain.nodes[-1], ()):
            node = step.value.node_public
            if node in chain.nodes or not self._permits(chain, step):
                continue
            self.stands.add(step.oid)
            known = self.chains.setdefault(node, [])
            if len(known) >= MAX_CHAINS or (step.value.succeeds and step.oid not in self.allowed):
                continue
            enders = tuple(e for e in self.law.against.get(node, ()) if self._in_force(chain, e))
            longer = Chain((*chain.nodes, node), (*chain.steps, step), (*chain.enders, enders))
            known.append(longer)
            yield longer

    def _permits(self, chain: Chain, step: Signed[Admission]) -> bool:
        if not chain.keeps(step, -1):
            return False
        return all(
            step.oid in succession.value.keep or step.oid in self.law.exempt.get(succession.oid, ())
            for succession in self.effective.get(chain.nodes[-1], ())
        )

    @staticmethod
    def _in_force(chain: Chain, ender: Certificate) -> bool:
        return ender.signer in chain.nodes and chain.keeps(ender, chain.nodes.index(ender.signer))

    def alive(self, node: bytes) -> list[Chain]:
        """The chains by which *node* is a member (or would be, but for being succeeded)."""
        chains = [chain for chain in self.chains.get(node, ()) if chain.alive]
        if chains and any(self._evicts(t) for t in self.law.against.get(node, ())):
            return [chain for chain in chains if chain.admin]
        return chains

    def _evicts(self, certificate: Certificate) -> bool:
        return isinstance(certificate.value, Tombstone) and self._valid_act(certificate)

    def _valid_act(self, certificate: Certificate) -> bool:
        """Whether its issuer is an admin by a chain on which *certificate* survives."""
        chains = self.chains.get(certificate.signer, ())
        return certificate.signer in self.law.roots or any(
            chain.admin and chain.keeps(certificate, -1) for chain in chains
        )

    def valid(self) -> Iterator[Certificate]:
        """Every admission that some chain can use, and every tombstone whose issuer stands."""
        for admissions in self.law.admissions.values():
            yield from (a for a in admissions if a.oid in self.stands)
        for acts in self.law.against.values():
            yield from (act for act in acts if self._evicts(act))


@dataclass(frozen=True, slots=True)
class Ruling:
    """The final world, the accepted successions by predecessor, and (winner, loser) of rivals."""

    world: World
    heirs: Mapping[bytes, Signed[Admission]]
    rivals: tuple[tuple[Signed[Admission], Signed[Admission]], ...]


def _order(item: Certificate) -> tuple[int, bytes]:
    return item.value.created, item.oid


def rule(certificates: Iterable[Certificate], mesh: bytes) -> Ruling:
    """Decide the successions, then walk the world that follows (see the module's docstring)."""
    law = _index(sorted(certificates, key=_order), mesh)
    every = sorted((a for group in law.admissions.values() for a in group if a.value.succeeds), key=_order)
    accepted: list[Signed[Admission]] = []
    rivals: list[tuple[Signed[Admission], Signed[Admission]]] = []
    undecided = every
    if every:
        _exempt_own_chains(law, every)
    while undecided:
        best = _world(law, [*accepted, *undecided], accepted)
        possible = [s for s in undecided if s.oid in best.stands]
        rivals += [(winner, s) for s in possible if (winner := _rival(s, accepted))]
        possible = [s for s in possible if not _rival(s, accepted) and not _closes_circle(s, accepted)]
        worst = _world(law, accepted, [*accepted, *possible])
        sure = [
            s
            for index, s in enumerate(possible)
            if s.oid in worst.stands
            and not _rival(s, possible[:index])
            and not _closes_circle(s, [*accepted, *possible])
        ]
        if not sure and len(possible) == len(undecided):
            sure = possible[:1]
        accepted += sure
        undecided = [s for s in possible if s not in sure]
    heirs = {cast(bytes, s.value.succeeds): s for s in accepted}
    return Ruling(_world(law, accepted, accepted), heirs, tuple(rivals))


def _index(ordered: Iterable[Certificate], mesh: bytes) -> Law:
    admissions: dict[bytes, list[Signed[Admission]]] = defaultdict(list)
    against: dict[bytes, list[Certificate]] = defaultdict(list)
    roots = set()
    for certificate in ordered:
        value = certificate.value
        if isinstance(value, Tombstone):
            against[value.node_public].append(certificate)
        else:
            admissions[certificate.signer].append(cast(Signed[Admission], certificate))
            if value.succeeds is not None:
                against[value.succeeds].append(certificate)
        if certificate.signer not in roots and mesh_id(certificate.signer) == mesh:
            roots.add(certificate.signer)
    return Law(admissions, against, tuple(roots))


def _world(law: Law, allowed: Iterable[Signed[Admission]], effective: Iterable[Signed[Admission]]) -> World:
    by_target: dict[bytes, list[Signed[Admission]]] = defaultdict(list)
    for succession in effective:
        by_target[cast(bytes, succession.value.succeeds)].append(succession)
    return World(law, frozenset(s.oid for s in allowed), by_target).walk()


def _exempt_own_chains(law: Law, successions: list[Signed[Admission]]) -> None:
    """A succession never voids itself, nor the issuer's chain as it is while no succession takes effect."""
    world = _world(law, successions, ())
    for succession in successions:
        chains = [chain for chain in world.chains.get(succession.signer, ()) if chain.admin]
        own = {step.oid for step in chains[0].steps} if chains else set()
        law.exempt[succession.oid] = frozenset({*own, succession.oid})


def _rival(one: Signed[Admission], others: Iterable[Signed[Admission]]) -> Signed[Admission] | None:
    """Another succession of the same node."""
    return next((o for o in others if o.value.succeeds == one.value.succeeds and o is not one), None)


def _closes_circle(one: Signed[Admission], others: Iterable[Signed[Admission]]) -> bool:
    """Whether the heirs of the successor lead back to the one it succeeds."""
    heirs: dict[bytes, list[bytes]] = defaultdict(list)
    for other in others:
        if other is not one:
            heirs[cast(bytes, other.value.succeeds)].append(other.value.node_public)
    seen, todo = set(), [one.value.node_public]
    while todo:
        node = todo.pop()
        if node == one.value.succeeds:
            return True
        if node not in seen:
            seen.add(node)
            todo += heirs.get(node, ())
    return False
