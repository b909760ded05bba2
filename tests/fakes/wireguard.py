"""The double of a WireGuard device: the kernel's rules of peers and allowed IPs, without a kernel."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Interface, ip_network

from nacl.public import PrivateKey

from mesh.endpoints import Endpoint, InterfaceAddress
from mesh.wireguard.device import (
    NO_PRESHARED_KEY,
    Change,
    Device,
    InterfaceTaken,
    NoInterface,
    PeerState,
    PortInUse,
    RemovePeer,
    SetPeer,
)


@dataclass
class Link:
    """An interface of the double."""

    private_key: bytes
    port: int
    mtu: int
    address: IPv6Interface | None = None
    peers: dict[bytes, PeerState] = field(default_factory=dict)


class FakeWireGuard:
    """One host's devices. `changes` lists what was applied; `foreign` are interfaces of other kinds."""

    def __init__(self) -> None:
        self.links: dict[str, Link] = {}
        self.foreign: dict[str, list[InterfaceAddress]] = {"lo": [InterfaceAddress("lo", "::1", 128)]}
        self.routes: set[tuple[str, str]] = set()
        self.changes: list[Change] = []

    # What the world does

    def handshake(
        self, interface: str, public_key: bytes, at: float, endpoint: Endpoint | None = None
    ) -> None:
        """The peer completed a handshake, perhaps from a new place."""
        peers = self.links[interface].peers
        peers[public_key] = replace(
            peers[public_key], last_handshake=at, endpoint=endpoint or peers[public_key].endpoint
        )

    # The contract

    async def check(self) -> None:
        return None

    async def ensure(
        self, interface: str, *, private_key: bytes, port: int, address: str | None, mtu: int
    ) -> None:
        self._refuse_foreign(interface)
        if any(link.port == port for name, link in self.links.items() if name != interface):
            raise PortInUse(f"{interface}: its UDP port is taken by another program")
        link = self.links.setdefault(interface, Link(private_key, port, mtu))
        link.private_key, link.port, link.mtu = private_key, port, mtu
        link.peers.pop(_public(private_key), None)
        if address is not None:
            link.address = IPv6Interface(address)

    async def read(self, interface: str) -> Device:
        link = self._link(interface)
        return Device(_public(link.private_key), link.port, dict(link.peers))

    async def apply(self, interface: str, changes: Sequence[Change]) -> None:
        if not changes:
            return
        link = self._link(interface)
        for change in changes:
            self.changes.append(change)
            if isinstance(change, RemovePeer):
                link.peers.pop(change.public_key, None)
            elif change.public_key != _public(link.private_key):
                _set(link.peers, change)

    async def remove(self, interface: str) -> None:
        self._refuse_foreign(interface)
        self.links.pop(interface, None)
        self.routes = {route for route in self.routes if route[1] != interface}

    async def ensure_route(self, prefix: str, interface: str) -> None:
        self._link(interface)
        self.routes.add((str(ip_network(prefix)), interface))

    async def remove_route(self, prefix: str, interface: str) -> None:
        self.routes.discard((str(ip_network(prefix)), interface))

    async def addresses(self) -> list[InterfaceAddress]:
        own = [
            InterfaceAddress(name, str(link.address.ip), link.address.network.prefixlen)
            for name, link in self.links.items()
            if link.address is not None
        ]
        return [address for known in self.foreign.values() for address in known] + own

    async def overlapping_routes(self, prefix: str, ours: Collection[str] = ()) -> list[str]:
        mesh = ip_network(prefix)
        return sorted(
            f"{route} dev {name}"
            for route, name in self.routes
            if name not in ours and ip_network(route).subnet_of(mesh)
        )

    def _link(self, interface: str) -> Link:
        if interface not in self.links:
            raise NoInterface(f"there is no interface {interface}")
        return self.links[interface]

    def _refuse_foreign(self, interface: str) -> None:
        if interface in self.foreign:
            raise InterfaceTaken(f"{interface} exists and is no WireGuard interface")


def _set(peers: dict[bytes, PeerState], change: SetPeer) -> None:
    if change.public_key not in peers and change.allowed_ips is None:
        return  # as the kernel's UPDATE_ONLY
    state = peers.get(change.public_key, PeerState())
    if change.allowed_ips is not None:
        taken = frozenset(str(ip_network(ip)) for ip in change.allowed_ips)
        for key, other in peers.items():
            peers[key] = replace(other, allowed_ips=other.allowed_ips - taken)
        state = replace(state, allowed_ips=taken)
    if change.endpoint is not None:
        state = replace(state, endpoint=change.endpoint)
    if change.preshared_key is not None:
        shared = change.preshared_key if change.preshared_key != NO_PRESHARED_KEY else None
        state = replace(state, preshared_key=shared)
    if change.keepalive is not None:
        state = replace(state, keepalive=change.keepalive)
    peers[change.public_key] = state


def _public(private_key: bytes) -> bytes:
    return bytes(PrivateKey(private_key).public_key)
