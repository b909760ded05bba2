"""The contract of a WireGuard device: values, errors, and what every implementation must do.

`mesh.wireguard.netlink` is the kernel's, `tests/fakes/wireguard.py` its double, both held to
`tests/contracts/wireguard_contract.py`. Keys are 32 raw bytes everywhere; secret ones never show in a repr.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from mesh.endpoints import Endpoint, InterfaceAddress

KEY_BYTES = 32
NO_PRESHARED_KEY = bytes(KEY_BYTES)
"""WireGuard's own word for "none"; as a change it takes a preshared key away."""

REJECT_AFTER_S = 180.0
"""A session older than this carries nothing any more (WireGuard's REJECT_AFTER_TIME)."""


class WireGuardError(Exception):
    """Something the device refused. What was applied before stays; plan again from `read`."""


class NoKernelWireGuard(WireGuardError):
    """This kernel has no WireGuard. Nothing was changed."""


class NoInterface(WireGuardError):
    """There is no such interface, or it went away in between. Nothing was changed."""


class InterfaceTaken(WireGuardError):
    """The name belongs to an interface that is not WireGuard. Nothing was changed."""


class PortInUse(WireGuardError):
    """Another program has the UDP port. The interface exists, but is down or has no socket."""


class NotPermitted(WireGuardError):
    """This process may not change network devices (CAP_NET_ADMIN). Nothing was changed."""


class NoIPv6(WireGuardError):
    """IPv6 is switched off on this host or interface. The interface exists without an address."""


@dataclass(frozen=True, slots=True)
class PeerState:
    """A peer as the device has it. `last_handshake` is in epoch seconds by this host's clock of then."""

    allowed_ips: frozenset[str] = frozenset()
    endpoint: Endpoint | None = None
    preshared_key: bytes | None = field(default=None, repr=False)
    keepalive: int = 0
    last_handshake: float | None = None
    rx: int = 0
    tx: int = 0


@dataclass(frozen=True, slots=True)
class Device:
    """A WireGuard interface as it is. `port` 0 means that it has no socket (yet)."""

    public_key: bytes
    port: int
    peers: Mapping[bytes, PeerState]


@dataclass(frozen=True, slots=True)
class SetPeer:
    """Make or change a peer; None leaves that part as it is. `allowed_ips` is the whole new set.

    Without `allowed_ips` it changes only a peer that is there: a peer removed in between is not made again.
    """

    public_key: bytes
    allowed_ips: frozenset[str] | None = None
    endpoint: Endpoint | None = None
    preshared_key: bytes | None = field(default=None, repr=False)
    keepalive: int | None = None
    reason: str = field(default="", compare=False)


@dataclass(frozen=True, slots=True)
class RemovePeer:
    """Remove a peer with its session. One that is not there is no error."""

    public_key: bytes
    reason: str = field(default="", compare=False)


Change = SetPeer | RemovePeer


class WireGuard(Protocol):
    """Every method may raise NotPermitted and WireGuardError; what else is said at each."""

    async def check(self) -> None:
        """Raises NoKernelWireGuard where this implementation cannot work."""
        ...

    async def ensure(
        self, interface: str, *, private_key: bytes, port: int, address: str | None, mtu: int
    ) -> None:
        """Make *interface*, or adopt it as it is, and have it up with exactly this key, port, address, mtu.

        *address* is IPv6 with or without ``/prefix`` (then /128); other global IPv6 addresses of the
        interface go. What is right already is not touched: sessions survive. Raises NoKernelWireGuard,
        InterfaceTaken, PortInUse, NoIPv6.
        """
        ...

    async def read(self, interface: str) -> Device:
        """Raises NoInterface."""
        ...

    async def apply(self, interface: str, changes: Sequence[Change]) -> None:
        """In this order. An allowed IP given to one peer is taken from any other. Raises NoInterface."""
        ...

    async def remove(self, interface: str) -> None:
        """One that is not there is no error. Raises InterfaceTaken."""
        ...

    async def ensure_route(self, prefix: str, interface: str) -> None:
        """Idempotent. Raises NoInterface."""
        ...

    async def remove_route(self, prefix: str, interface: str) -> None:
        """Idempotent; an interface that is not there is no error."""
        ...

    async def addresses(self) -> list[InterfaceAddress]:
        """All addresses of all interfaces that are up."""
        ...

    async def overlapping_routes(self, prefix: str, ours: Collection[str] = ()) -> list[str]:
        """Routes through other interfaces than *ours* that would take packets for *prefix* away from us:
        equal or more specific ones, as ``fd00::/48 dev eth0``. A wider route takes nothing away."""
        ...
