"""This node in its mesh: trusts what the signed objects say, and makes tunnels, names and firewall follow.

One desired state, computed from the view of `mesh.trust` and applied as a diff every few seconds and at every
change. What leaves the agent out of breath never takes a working tunnel down.
"""

import asyncio
import contextlib
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from ipaddress import ip_address, ip_network

from mesh import hosts
from mesh.codec import from_base64
from mesh.endpoints import (
    MAX_NAMES,
    BadEndpoint,
    Endpoint,
    NamedEndpoint,
    announceable,
    parse_endpoint,
    parse_named,
)
from mesh.firewall import Firewall, FirewallRules
from mesh.identity import mesh_address, mesh_prefix, x25519_public
from mesh.link import Link
from mesh.objects import MAX_ENDPOINTS, Export, Record, Report, Role, Value, sign
from mesh.store import MeshStore
from mesh.trust import Added, Member, Trust, View
from mesh.wireguard.device import Device, WireGuard
from mesh.wireguard.peers import Memory, PeerWish, plan
from node.errors import Exit, MeshkeepError
from node.local_state import LocalState
from node.replicator import Peer
from node.resolver import Resolver
from node.status import Problem
from node.version import version

log = logging.getLogger(__name__)

INTERFACE = "meshkeep0"
DOOR_INTERFACE = "mkdoor0"
OURS = (INTERFACE, DOOR_INTERFACE)
MTU = 1420
SESSION_S = 180.0
FIREWALL_S = 60.0
# Roles that never need a tunnel between them: neither may ask anything of the other.
_STRANGERS = (frozenset({"vault"}), frozenset({"vault", "client"}), frozenset({"client"}))


def not_in_a_mesh() -> MeshkeepError:
    """What every command but init and join says before there is a mesh."""
    return MeshkeepError(
        "this host is in no mesh yet",
        code="no_mesh",
        exit=Exit.REFUSED,
        hint="meshkeep init --mesh NAME, or meshkeep join --invite-file FILE",
    )


class Membership:
    """The mesh as this node knows it. `changed` is called after every change of the view."""

    def __init__(
        self,
        store: MeshStore,
        local: LocalState,
        wireguard: WireGuard,
        firewall: Firewall,
        *,
        port: Callable[[], int],
        domain: Callable[[], str],
        endpoints: Callable[[], Sequence[str]],
        vault_ports: Callable[[], Sequence[int]] = tuple,
        steady: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        wall: Callable[[], float] = time.time,
        resolver: Resolver | None = None,
    ) -> None:
        self.store = store
        self.local = local
        self.identity = store.identity()
        self.wireguard_key = from_base64(store.wireguard_key())
        self.door_key = from_base64(store.door_key())
        self.trust: Trust | None = None
        self.changed: list[Callable[[], None]] = []
        self.problems: dict[str, Problem] = {}
        self._wireguard = wireguard
        self._firewall = firewall
        self._port = port
        self._domain = domain
        self._configured = endpoints
        self._vault_ports = vault_ports
        self._steady = steady
        self._wall = wall
        self._resolver = resolver or Resolver(steady)
        self._memory: Memory = {}
        self._device: Device | None = None
        self._boot = secrets.token_bytes(8)
        self._exports: tuple[Export, ...] = ()
        self._guarded: FirewallRules | None = None
        self._guarded_at = 0.0
        self._up = False
        self._turn = asyncio.Lock()

    # -- what is known -----------------------------------------------------------------------------------------

    @property
    def joined(self) -> bool:
        """Whether this node is in a mesh."""
        return self.trust is not None

    @property
    def admitted(self) -> bool:
        """Whether the mesh still counts this node in."""
        member = self.view().members.get(self.identity.id) if self.trust else None
        return member is not None and member.active

    def view(self) -> View:
        """Raises MeshkeepError where there is no mesh."""
        if self.trust is None:
            raise not_in_a_mesh()
        return self.trust.view()

    def me(self) -> Member:
        """This node's own membership. Raises MeshkeepError where there is none, or not any more."""
        member = self.view().members.get(self.identity.id)
        if member is None or not member.active:
            raise MeshkeepError(
                "this node was evicted from its mesh" if member else "this node's admission is not known",
                code="not_admitted",
                exit=Exit.NOT_PERMITTED,
            )
        return member

    def my_role(self) -> Role:
        return self.me().role

    def address_of(self, node: str) -> str:
        """The mesh address of a node id."""
        return mesh_address(self.view().mesh_id, node)

    def caller(self, address: str) -> Member | None:
        """The active member with that mesh address."""
        return next((m for m in self.view().active() if self.address_of(m.id) == address), None)

    def owned_by(self, node: str) -> list[str]:
        """The node's id, and those of the nodes it succeeded, nearest first."""
        view, ids = self.view(), [node]
        older = [m.id for m in view.members.values() if m.id != node and view.owner_of(m.id) == node]
        return ids + sorted(older, key=lambda one: -view.members[one].created)

    def peer(self, name: str) -> Peer:
        """An active node by name or id. Raises MeshkeepError."""
        view = self.view()
        member = view.by_name(name) or view.members.get(name)
        if member is None or not member.active:
            known = ", ".join(m.name for m in view.active())
            raise MeshkeepError(
                f"there is no node {name!r} in the mesh",
                code="no_node",
                exit=Exit.NOT_FOUND,
                why=f"known: {known}",
                hint="meshkeep status",
            )
        return Peer(member.id, member.name, member.role, self.address_of(member.id))

    def link(self) -> Link:
        """For requests to peers. Raises MeshkeepError where this host is in no mesh."""
        return Link(self.address_of(self.me().id), device=INTERFACE)

    def path(self, member: Member) -> tuple[str, int | None]:
        """How the node is reached now, in words, and when it was last heard (epoch seconds)."""
        if member.id == self.identity.id:
            return "this node", None
        record, device = member.record, self._device
        state = device.peers.get(record.wireguard_public) if record and device else None
        if state is None:
            return "no tunnel", None
        if state.last_handshake is None or self._wall() - state.last_handshake > SESSION_S:
            return "no session", int(state.last_handshake) if state.last_handshake else None
        return f"direct {state.endpoint}", int(state.last_handshake)

    # -- changing what is known --------------------------------------------------------------------------------

    def load(self) -> None:
        """Go on in the mesh that is on disk, if there is one. Raises StoreError."""
        self.trust = self.store.load_trust()

    def enter(self, mesh: bytes, objects: Iterable[bytes]) -> None:
        """Begin in a mesh, after init or join; durable when this returns. Raises StoreError."""
        trust = Trust(mesh)
        for data in objects:
            trust.add(data)
        self.store.save_trust(trust)
        self.store.set_mesh_id(mesh)
        self.trust = trust

    def add(self, objects: Iterable[bytes]) -> int:
        """Take objects from anywhere; what is new is durable when this returns. Returns how many were new."""
        if self.trust is None:
            return 0
        new = sum(isinstance(self.trust.add(data), Added) for data in objects)
        if new:
            self.persist()
        return new

    def persist(self) -> None:
        """What was added to `trust` is durable when this returns, and everyone is told."""
        if self.trust is not None:
            self.store.save_trust(self.trust)
            for tell in self.changed:
                tell()

    def issue(self, value: Value) -> bytes:
        """Sign as this node, store, and return the bytes."""
        signed = sign(self.identity, self.view().mesh_id, value)
        self.add([signed.data])
        return signed.data

    def announce_exports(self, exports: Sequence[Export]) -> None:
        """What this node shares, for its next record."""
        self._exports = tuple(exports)

    def report(self, body: bytes) -> None:
        """What this node says of its datasets; a body that says nothing new is not published again."""
        known = self.view().members[self.identity.id].report
        if known is None or known.body != body:
            self.issue(Report(self.identity.public, self.store.next_version(), body))

    def hint(self, node: str, endpoint: Endpoint) -> None:
        """A node was reached there once: a candidate beside what it says of itself."""
        self.local.add_hint(node, endpoint)

    # -- making the host follow --------------------------------------------------------------------------------

    async def reconcile(self) -> None:
        """Bring firewall, device, peers and names to what the view says. Raises what the doors raise."""
        async with self._turn:
            view, me = self.view(), self.view().members.get(self.identity.id)
            if me is None or not me.active:
                await self._tear_down()
                return
            peers = [
                m for m in view.active() if m.record and m.id != me.id and not _strangers(m.role, me.role)
            ]
            await self._guard(self._rules(peers))
            if not self._up:
                await self._bring_up(me)
            await self._apply_peers(peers)
            names = {m.name: self.address_of(m.id) for m in view.active()}
            hosts.update({f"{name}.{self._domain()}": address for name, address in names.items()})
            await self._publish()

    async def _guard(self, rules: FirewallRules) -> None:
        """The table follows every change at once; that nobody flushed it is looked at now and then."""
        now = self._steady()
        if rules != self._guarded or now - self._guarded_at > FIREWALL_S:
            await self._firewall.apply(rules)
            self._guarded, self._guarded_at = rules, now

    async def _bring_up(self, me: Member) -> None:
        prefix = mesh_prefix(self.view().mesh_id)
        overlapping = await self._wireguard.overlapping_routes(prefix, OURS)
        if overlapping:
            raise MeshkeepError(
                f"the mesh's addresses {prefix} are in use on this host",
                code="prefix_overlap",
                exit=Exit.REFUSED,
                why="routes: " + ", ".join(overlapping),
                hint="ip -6 route",
            )
        await self._wireguard.ensure(
            INTERFACE,
            private_key=self.wireguard_key,
            port=self._port(),
            address=self.address_of(me.id),
            mtu=MTU,
        )
        await self._wireguard.ensure_route(prefix, INTERFACE)
        self._up = True

    async def _apply_peers(self, peers: Sequence[Member]) -> None:
        hints = self.local.hints()
        wishes = [
            PeerWish(
                member.record.wireguard_public,
                self.address_of(member.id),
                candidates=tuple(
                    dict.fromkeys(
                        [*hints.get(member.id, ()), *self._named(member.record), *member.record.endpoints]
                    )
                ),
            )
            for member in peers
            if member.record is not None
        ]
        device = await self._wireguard.read(INTERFACE)
        decided = plan(wishes, device, self._memory, self._steady(), self._wall())
        if decided.changes:
            await self._wireguard.apply(INTERFACE, decided.changes)
            device = await self._wireguard.read(INTERFACE)
        self._memory, self._device = decided.memory, device
        for refusal in decided.refused:
            log.warning("no tunnel to %s: %s", refusal.wish.address, refusal.reason)

    def _named(self, record: Record) -> list[Endpoint]:
        """Where its names lead now. Not within the mesh itself: a tunnel through itself leads nowhere."""
        memory = self._memory.get(record.wireguard_public)
        live = memory is not None and memory.live(self._steady())
        found = self._resolver.endpoints(record.names, urgent=not live)
        prefix = ip_network(mesh_prefix(self.view().mesh_id))
        return [one for one in found if ip_address(one.host) not in prefix]

    async def _publish(self) -> None:
        """Say anew what this node says of itself, if it changed or if this is another run of it."""
        known = self.view().members[self.identity.id].record
        record = Record(
            node_public=self.identity.public,
            version=known.version if known else 0,
            boot=known.boot if known else self._boot,
            wireguard_public=x25519_public(self.wireguard_key),
            door_public=x25519_public(self.door_key),
            port=self._port(),
            software=version(),
            endpoints=await self.own_endpoints(),
            exports=self._exports,
            names=self.own_names(),
        )
        if record != known or record.boot != self._boot:
            self.issue(replace(record, version=self.store.next_version(), boot=self._boot))

    async def own_endpoints(self) -> tuple[Endpoint, ...]:
        """Where others may dial this node: what the settings say first, then this host's own addresses."""
        configured = []
        for text in self._configured():
            with contextlib.suppress(BadEndpoint):
                configured.append(parse_endpoint(text, self._port()))
        prefix = mesh_prefix(self.view().mesh_id) if self.joined else None
        found = announceable(await self._wireguard.addresses(), self._port(), ours=OURS, mesh_prefix=prefix)
        return tuple(dict.fromkeys([*configured, *found]))[: MAX_ENDPOINTS - len(self.own_names())]

    def own_names(self) -> tuple[NamedEndpoint, ...]:
        """The DNS names under which the settings say that others may dial this node."""
        named = []
        for text in self._configured():
            with contextlib.suppress(BadEndpoint):
                named.append(parse_named(text, self._port()))
        return tuple(dict.fromkeys(named))[:MAX_NAMES]

    def _rules(self, peers: Sequence[Member]) -> FirewallRules:
        """A vault stores, and has nothing else to offer: who stole a source's keys gets at no other program there."""
        return FirewallRules(
            mesh_prefix=mesh_prefix(self.view().mesh_id),
            mesh_interface=INTERFACE,
            door_interface=DOOR_INTERFACE,
            peers=frozenset(self.address_of(m.id) for m in peers),
            vaults=frozenset(self.address_of(m.id) for m in peers if m.role == "vault"),
            only=frozenset(self._vault_ports()) if self.my_role() == "vault" else None,
        )

    async def _tear_down(self) -> None:
        """Not in the mesh any more: no tunnel, no names."""
        if self._up or self._device is not None:
            await self._wireguard.remove(INTERFACE)
            hosts.update({})
            self._up, self._device, self._memory = False, None, {}
        self.problems["evicted"] = Problem("evicted", "this node is not in the mesh any more")


def _strangers(one: str, other: str) -> bool:
    return frozenset({one, other}) in _STRANGERS
