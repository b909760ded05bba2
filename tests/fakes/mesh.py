"""Hosts with the membership half of an agent: real stores and trust, doors that lead to each other in memory."""

import asyncio
import json
import random
import socket
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

from mesh.door import DoorPeer, GuestKeys, NobodyThere
from mesh.endpoints import Endpoint
from mesh.firewall import Firewall
from mesh.store import MeshStore
from mesh.trust import Member
from node.admission import Admissions
from node.api import Request
from node.exchange import Exchange
from node.joining import Joining
from node.local_state import LocalState
from node.manifest_desk import ManifestDesk
from node.manifest_store import ManifestStore
from node.membership import Membership
from node.peer_api import Answer, PeerApi
from node.testimony import SentDesk
from tests.fakes.wireguard import FakeWireGuard

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter, str], Awaitable[None]]
BEGAN = 1_700_000_000


class Street:
    """Where doors are: by the issuer's address in the door's tunnel."""

    def __init__(self) -> None:
        self.doors: dict[str, FakeIssuerDoor] = {}
        self.rung: dict[str, asyncio.Event] = {}
        self.talks: list[asyncio.Task[None]] = []

    def bell(self, guest: str) -> asyncio.Event:
        return self.rung.setdefault(guest, asyncio.Event())


class FakeIssuerDoor:
    """As `mesh.door.IssuerDoor`."""

    def __init__(self, street: Street) -> None:
        self._street = street
        self.guests: dict[str, DoorPeer] = {}
        self.handler: Handler | None = None

    async def open(self, private_key: bytes, address: str, guests: Iterable[DoorPeer]) -> None:
        self._street.doors[address] = self
        self.guests = {guest.guest_address: guest for guest in guests}

    async def dial(self, public_key: bytes, *endpoints: Endpoint) -> None:
        for address, guest in self.guests.items():
            if guest.public_key == public_key:
                self._street.bell(address).set()

    async def tend(self) -> None:
        return None

    async def listen(self, handler: Handler) -> Any:
        self.handler = handler
        return FakeServer()

    async def close(self) -> None:
        self.guests = {}


class FakeServer:
    """What listens at a door."""

    def close(self) -> None:
        return None


class FakeGuestDoor:
    """As `mesh.door.GuestDoor`."""

    def __init__(self, street: Street) -> None:
        self._street = street
        self._keys: GuestKeys | None = None
        self._waits = False
        self.closed = False

    async def enter(self, keys: GuestKeys, endpoints: tuple[Endpoint, ...] = ()) -> None:
        self._keys, self._waits = keys, not endpoints

    async def connect(self, deadline: float | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        assert self._keys is not None
        guest = self._keys.guest_address
        if self._waits:
            await self._street.bell(guest).wait()
        door = self._street.doors.get(self._keys.issuer_address)
        if door is None or door.handler is None or guest not in door.guests:
            raise NobodyThere("no answer")
        near, far = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=far)
        self._street.talks.append(asyncio.ensure_future(_talk(door.handler, reader, writer, guest)))
        return await asyncio.open_connection(sock=near)

    async def close(self) -> None:
        self.closed = True


async def _talk(
    handler: Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, guest: str
) -> None:
    try:
        await handler(reader, writer, guest)
    finally:
        writer.close()


class Host:
    """One host. `clock` is a list of one number, shared by all hosts of a test."""

    def __init__(self, path: Path, street: Street, clock: list[float]) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        self.clock = clock
        self.expelled: list[str] = []
        self.joined = 0
        wireguard: Any = FakeWireGuard()

        async def nft(arguments: tuple[str, ...], text: str) -> tuple[int, str]:
            return 0, ""

        self.mesh = Membership(
            MeshStore(path / "mesh"),
            LocalState(path),
            wireguard,
            Firewall(nft),
            port=lambda: 51820,
            domain=lambda: "mesh",
            endpoints=lambda: ("192.0.2.1",),
            steady=lambda: clock[0],
            wall=lambda: clock[0],
        )
        self.door = FakeIssuerDoor(street)
        door: Any = self.door
        self.admissions = Admissions(
            self.mesh, door, joined=self._up, expelled=self._expelled, now=lambda: clock[0]
        )
        guest: Any = lambda: FakeGuestDoor(street)  # noqa: E731
        self.joining = Joining(
            self.mesh,
            guest,
            own_record=self._record,
            joined=self._up,
            now=lambda: clock[0],
            steady=lambda: clock[0],
        )

    async def _up(self) -> None:
        """What an agent does then, as far as it touches no system: say something of itself."""
        self.joined += 1
        if self.mesh.me().record is None:
            await self.mesh._publish()  # the part of `reconcile` that is about signed objects

    async def _expelled(self, member: Member) -> None:
        self.expelled.append(member.name)

    async def _record(self) -> tuple[int, tuple[Endpoint, ...]]:
        return 51820, ()

    async def init(self, mesh: str = "fog", name: str = "home") -> dict[str, Any]:
        return await self.admissions.init(request(mesh=mesh, name=name))

    async def invite(self, **args: Any) -> dict[str, Any]:
        return await self.admissions.create(request(**args))

    async def join(self, invite: str, **args: Any) -> dict[str, Any]:
        return await self.joining.join(request(invite=invite, **args))

    def files(self) -> dict[str, bytes]:
        """Everything on its disk."""
        return {
            str(one.relative_to(self.path)): one.read_bytes()
            for one in sorted(self.path.rglob("*"))
            if one.is_file()
        }


def request(**args: Any) -> Request:
    """A call of root's that does not stream."""
    return Request("", args, 0, 0)


class Wires:
    """Requests between hosts without a network: JSON in, JSON out, and a log of who asked whom what."""

    def __init__(self, hosts: Iterable[Host]) -> None:
        self.asked: list[tuple[str, str, str]] = []
        self.exchanges: dict[str, Exchange] = {}
        self._hosts = {host.path.name: host for host in hosts}
        self._apis: dict[str, PeerApi] = {}
        nothing: Any = None
        for name, host in self._hosts.items():
            exchange = Exchange(host.mesh, host.mesh.owned_by, random.Random(1))
            self.exchanges[name] = exchange
            desk = ManifestDesk(
                host.mesh, ManifestStore(host.path / "manifests"), lambda clock=host.clock: clock[0]
            )
            self._apis[name] = PeerApi(
                host.mesh, exchange, nothing, desk, {"sent.heads": _heads(SentDesk(host.mesh))}
            )
            link: Any = _Wire(self, host)
            host.mesh.link = lambda wire=link: wire  # type: ignore[method-assign, misc]

    async def compare(self, one: str, other: str) -> None:
        """*one* asks *other* until both know the same."""
        member = self._hosts[one].mesh.view().members[self._hosts[other].mesh.identity.id]
        await self.exchanges[one].compare(member)

    async def ask(self, host: Host, address: str, verb: str, args: dict[str, Any]) -> dict[str, Any]:
        """What the host at *address* answers *host*. Raises Refusal."""
        name = next(
            name for name, one in self._hosts.items()
            if host.mesh.address_of(one.mesh.identity.id) == address
        )  # fmt: skip
        self.asked.append((host.path.name, name, verb))
        nothing: Any = None
        caller = host.mesh.address_of(host.mesh.identity.id)
        answer = await self._apis[name](caller, verb, json.loads(json.dumps(args)), nothing)
        return dict(json.loads(json.dumps(answer)))


class _Wire:
    """As `mesh.link.Link`, for questions only."""

    def __init__(self, wires: Wires, host: Host) -> None:
        self._wires = wires
        self._host = host

    async def call(
        self, address: str, verb: str, args: dict[str, Any], timeout: float = 30.0
    ) -> dict[str, Any]:
        return await self._wires.ask(self._host, address, verb, args)


def _heads(desk: SentDesk) -> Answer:
    return lambda caller, args, _stream: desk.heads(caller, args)
