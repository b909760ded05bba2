"""The door: a throw-away WireGuard interface that a join runs in, from the issuer's side and the guest's.

Tunnels and TCP connections only. What is said inside is `mesh.join`'s, where keys and addresses come from
`mesh.invite`'s. Either side may dial; the guest is always the one that connects by TCP.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from mesh.channel import bind_device, listener
from mesh.endpoints import Endpoint
from mesh.frames import FrameError
from mesh.ports import DOOR, JOIN
from mesh.wireguard.device import WireGuard
from mesh.wireguard.peers import Memory, PeerWish, Refusal, plan

INTERFACE = "mkdoor0"
MTU = 1280
"""A join is a few kilobytes: the least MTU of IPv6 spares it every path that cannot carry more."""

MAX_CONNECTIONS = 32
TEND_S = 2.0
_ATTEMPT_S = 8.0  # TCP repeats its first packet after 1, 3 and 7 s
_PAUSES_S = (0.5, 1.0, 2.0, 3.0)

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter, str], Awaitable[None]]
"""Serves one guest: reader, writer, the guest's door address (which names the invite)."""

log = logging.getLogger(__name__)


class DoorError(Exception):
    """Something at the door did not work."""


class NobodyThere(DoorError):
    """The issuer did not answer in time. The door on this side stays as it is until it is closed."""


@dataclass(frozen=True, slots=True)
class DoorPeer:
    """The guest of one invite, as the issuer's door knows it."""

    public_key: bytes
    preshared_key: bytes = field(repr=False)
    guest_address: str


@dataclass(frozen=True, slots=True)
class GuestKeys:
    """What a guest derives from its invite."""

    private_key: bytes = field(repr=False)
    preshared_key: bytes = field(repr=False)
    guest_address: str
    issuer_public: bytes
    issuer_address: str


@dataclass(frozen=True, slots=True)
class Clocks:
    """Steady seconds that count sleep, the host's epoch seconds, and how to let time pass."""

    steady: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    wall: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Tunnel:
    """One interface and the peers it should have."""

    def __init__(self, wireguard: WireGuard, interface: str, port: int, clocks: Clocks) -> None:
        self.interface = interface
        self._wireguard = wireguard
        self._port = port
        self._clocks = clocks
        self._wishes: dict[bytes, PeerWish] = {}
        self._memory: Memory = {}
        self._turn = asyncio.Lock()

    async def open(self, private_key: bytes, address: str) -> None:
        """Have the interface up. Raises WireGuardError."""
        await self._wireguard.ensure(
            self.interface, private_key=private_key, port=self._port, address=address, mtu=MTU
        )

    async def want(self, wishes: Iterable[PeerWish]) -> tuple[Refusal, ...]:
        """Have exactly these peers, with a route to each. Raises WireGuardError."""
        before = {wish.address for wish in self._wishes.values()}
        self._wishes = {wish.public_key: wish for wish in wishes}
        after = {wish.address for wish in self._wishes.values()}
        for address in sorted(after):
            await self._wireguard.ensure_route(f"{address}/128", self.interface)
        for address in sorted(before - after):
            await self._wireguard.remove_route(f"{address}/128", self.interface)
        return await self.tend()

    async def tend(self) -> tuple[Refusal, ...]:
        """One look at the peers, and what is due: the next candidate's turn, a peer to add again."""
        async with self._turn:
            device = await self._wireguard.read(self.interface)
            now, wall = self._clocks.steady(), self._clocks.wall()
            planned = plan(self._wishes.values(), device, self._memory, now, wall)
            await self._wireguard.apply(self.interface, planned.changes)
            self._memory = planned.memory
            return planned.refused

    async def close(self) -> None:
        """Take the interface away with everything in it."""
        self._wishes, self._memory = {}, {}
        await self._wireguard.remove(self.interface)


class IssuerDoor:
    """The issuer's side: one peer per invite, and a TCP server for the guests. Silent to everyone else."""

    def __init__(
        self,
        wireguard: WireGuard,
        *,
        interface: str = INTERFACE,
        port: int = DOOR,
        clocks: Clocks | None = None,
    ) -> None:
        self._clocks = clocks or Clocks()
        self._tunnel = Tunnel(wireguard, interface, port, self._clocks)
        self._address = ""
        self._guests: dict[bytes, DoorPeer] = {}
        self._dialled: dict[bytes, tuple[Endpoint, ...]] = {}
        self._served: set[asyncio.StreamWriter] = set()

    async def open(self, private_key: bytes, address: str, guests: Iterable[DoorPeer]) -> None:
        """Open the door at *address* for exactly these guests; open again to change them. An established
        session of a guest that stays is not touched. Raises WireGuardError, ValueError for one key or address
        twice."""
        listed = list(guests)
        if len({guest.public_key for guest in listed}) != len(listed):
            raise ValueError("two guests with one key")
        if len({IPv6Address(guest.guest_address) for guest in listed}) != len(listed):
            raise ValueError("two guests with one address")
        self._address = address
        self._guests = {guest.public_key: guest for guest in listed}
        self._dialled = {key: where for key, where in self._dialled.items() if key in self._guests}
        await self._tunnel.open(private_key, address)
        await self._want()

    async def dial(self, public_key: bytes, *endpoints: Endpoint) -> None:
        """Call the waiting guest there, in turn, until `open` drops it. Raises KeyError for no such guest."""
        if public_key not in self._guests:
            raise KeyError("no invite with this key is open")
        kept = [e for e in self._dialled.get(public_key, ()) if e not in endpoints]
        self._dialled[public_key] = (*endpoints, *kept)
        await self._want()

    async def tend(self) -> None:
        """One look at the guests' tunnels. Raises WireGuardError."""
        await self._tunnel.tend()

    async def keep(self) -> None:
        """Tends the tunnels until cancelled. Raises WireGuardError."""
        while True:
            await self._tunnel.tend()
            await self._clocks.sleep(TEND_S)

    async def listen(self, handler: Handler, *, port: int = JOIN) -> asyncio.Server:
        """Serve guests on the door's address, bound to its interface; the caller closes the server.

        A connection from an address of no open invite, or beyond MAX_CONNECTIONS, is closed unheard. Each is
        closed when *handler* ends. A guest that goes away is no fault; what else the handler raises is
        logged and goes no further. Raises OSError.
        """
        sock = listener(self._address, port, self._tunnel.interface)

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            guest = str(IPv6Address(writer.get_extra_info("peername")[0]))
            if len(self._served) < MAX_CONNECTIONS and self._expects(guest):
                self._served.add(writer)
                try:
                    await handler(reader, writer, guest)
                except (FrameError, OSError) as error:
                    log.info("a guest went away: %s", error)
                except Exception:
                    log.warning("the conversation with a guest failed", exc_info=True)
                finally:
                    self._served.discard(writer)
            await _close(writer)

        return await asyncio.start_server(serve, sock=sock)

    async def close(self) -> None:
        """Take the door's interface away; conversations under way break off."""
        self._guests, self._dialled = {}, {}
        for writer in self._served:
            writer.transport.abort()
        await self._tunnel.close()

    def _expects(self, address: str) -> bool:
        return any(str(IPv6Address(guest.guest_address)) == address for guest in self._guests.values())

    async def _want(self) -> None:
        await self._tunnel.want(
            PeerWish(
                guest.public_key,
                guest.guest_address,
                candidates=self._dialled.get(guest.public_key, ()),
                preshared_key=guest.preshared_key,
            )
            for guest in self._guests.values()
        )


class GuestDoor:
    """The new node's side: one peer, the issuer, dialled or waited for."""

    def __init__(
        self,
        wireguard: WireGuard,
        *,
        interface: str = INTERFACE,
        port: int = DOOR,
        clocks: Clocks | None = None,
    ) -> None:
        self._clocks = clocks or Clocks()
        self._tunnel = Tunnel(wireguard, interface, port, self._clocks)
        self._keys: GuestKeys | None = None

    async def enter(self, keys: GuestKeys, endpoints: tuple[Endpoint, ...] = ()) -> None:
        """Open the tunnel; without endpoints it waits to be dialled. Raises WireGuardError."""
        self._keys = keys
        await self._tunnel.open(keys.private_key, keys.guest_address)
        wish = PeerWish(keys.issuer_public, keys.issuer_address, endpoints, keys.preshared_key)
        await self._tunnel.want([wish])

    async def connect(
        self, deadline: float | None, *, port: int = JOIN
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A TCP connection to the issuer, trying until *deadline* (steady seconds; None: for ever).

        Tends the tunnel meanwhile. Raises NobodyThere, WireGuardError.
        """
        if self._keys is None:
            raise DoorError("enter the door first")
        attempt = 0
        while True:
            await self._tunnel.tend()
            try:
                return await self._attempt(self._keys, port)
            except OSError as error:  # among them TimeoutError, and ENOKEY where there is no tunnel yet
                reason = os.strerror(error.errno) if error.errno else "no answer"
            pause = _PAUSES_S[min(attempt, len(_PAUSES_S) - 1)]
            attempt += 1
            if deadline is not None and self._clocks.steady() + pause >= deadline:
                raise NobodyThere(f"the issuer of the invite does not answer ({reason})")
            await self._clocks.sleep(pause)

    async def close(self) -> None:
        """Take the door's interface away."""
        await self._tunnel.close()

    async def _attempt(self, keys: GuestKeys, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            bind_device(sock, self._tunnel.interface)
            async with asyncio.timeout(_ATTEMPT_S):
                await asyncio.get_running_loop().sock_connect(sock, (keys.issuer_address, port, 0, 0))
            return await asyncio.open_connection(sock=sock)
        except BaseException:
            sock.close()
            raise


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
