"""Two network namespaces of one host that reach each other through kernel WireGuard, and through the door."""

import asyncio
import os
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

from mesh.door import Clocks, DoorPeer, GuestDoor, GuestKeys, IssuerDoor
from mesh.endpoints import Endpoint
from mesh.firewall import FirewallRules, table_text
from mesh.frames import read_frame, write_frame
from mesh.wireguard.device import NO_PRESHARED_KEY, SetPeer, WireGuard
from mesh.wireguard.netlink import KernelWireGuard
from mesh.wireguard.peers import Memory, PeerWish, plan
from tests.contracts.wireguard_contract import IF, PREFIX, address, net, public, secret

A, B = "mkcontract-a", "mkcontract-b"
UNDERLAY = {
    A: {"v4": "192.0.2.1", "v6": "2001:db8::1"},
    B: {"v4": "192.0.2.2", "v6": "2001:db8::2"},
}
PORT = 41820
T = TypeVar("T")


def run(command: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command.split(), capture_output=True, text=True, timeout=60)
    if check and done.returncode:
        raise AssertionError(f"{command}: {done.stderr.strip()}")
    return done


@contextmanager
def namespace(name: str) -> Iterator[None]:
    run(f"ip netns add {name}")
    try:
        run(f"ip -n {name} link set lo up")
        yield
    finally:
        run(f"ip netns del {name}")


@contextmanager
def two_hosts() -> Iterator[None]:
    """A and B on one wire, with IPv4 and IPv6."""
    with namespace(A), namespace(B):
        run(f"ip link add wire0 netns {A} type veth peer name wire0 netns {B}")
        for name, where in UNDERLAY.items():
            run(f"ip -n {name} addr add {where['v4']}/24 dev wire0")
            run(f"ip -n {name} addr add {where['v6']}/64 dev wire0 nodad")
            run(f"ip -n {name} link set wire0 up")
        yield


def inside(name: str, work: Callable[[], T]) -> "Future[T]":
    """Runs *work* in a thread of that namespace."""

    def go() -> T:
        with open(f"/run/netns/{name}") as handle:
            os.setns(handle.fileno(), os.CLONE_NEWNET)  # type: ignore[attr-defined]
        return work()

    worker = ThreadPoolExecutor(1)
    try:
        return worker.submit(go)
    finally:
        worker.shutdown(wait=False)


def kernel_in(name: str) -> KernelWireGuard:
    return inside(name, KernelWireGuard).result()


class Side:
    """One of the two hosts, with a device whose key and addresses have the number of the side."""

    def __init__(self, name: str, number: int) -> None:
        self.name, self.number = name, number
        self.wg: WireGuard = kernel_in(name)
        self.memory: Memory = {}

    async def up(self) -> None:
        await self.wg.ensure(
            IF, private_key=secret(self.number), port=PORT, address=address(self.number), mtu=1420
        )
        await self.wg.ensure_route(PREFIX, IF)

    async def peer(self, other: "Side", family: str | None, preshared: bytes = NO_PRESHARED_KEY) -> None:
        where = Endpoint(UNDERLAY[other.name][family], PORT) if family else None
        change = SetPeer(public(other.number), frozenset({net(other.number)}), where, preshared, 25)
        await self.wg.apply(IF, [change])

    async def handshake(self, other: "Side") -> float | None:
        return (await self.wg.read(IF)).peers[public(other.number)].last_handshake

    def ping(self, other: "Side", wait: int = 6) -> bool:
        command = f"ip netns exec {self.name} ping -6 -n -q -c 1 -w {wait} {address(other.number)}"
        return run(command, check=False).returncode == 0


def tunnel(test: Callable[[Side, Side], Awaitable[None]]) -> Callable[[], None]:
    """The test on two fresh hosts whose interfaces are up."""

    def go() -> None:
        async def both() -> None:
            a, b = Side(A, 1), Side(B, 2)
            await a.up()
            await b.up()
            await test(a, b)

        with two_hosts():
            asyncio.run(both())

    go.__name__ = test.__name__
    return go


async def two_hosts_ping_through_an_ipv4_endpoint(a: Side, b: Side) -> None:
    await a.peer(b, "v4")
    await b.peer(a, None)
    assert a.ping(b)
    state = (await b.wg.read(IF)).peers[public(1)]
    assert state.endpoint == Endpoint("192.0.2.1", PORT), "the one that was called knows where from"
    assert state.rx > 0
    assert state.tx > 0
    assert abs(time.time() - (state.last_handshake or 0)) < 60


async def two_hosts_ping_through_an_ipv6_endpoint_with_a_preshared_key(a: Side, b: Side) -> None:
    await a.peer(b, "v6", secret(9))
    await b.peer(a, None, secret(9))
    assert a.ping(b)
    assert (await b.wg.read(IF)).peers[public(1)].endpoint == Endpoint("2001:db8::1", PORT)


async def another_preshared_key_hears_nothing(a: Side, b: Side) -> None:
    await a.peer(b, "v4", secret(9))
    await b.peer(a, None, secret(8))
    assert not a.ping(b, wait=2)
    assert await b.handshake(a) is None


async def a_session_survives_ensure_and_a_plan_that_changes_nothing(a: Side, b: Side) -> None:
    await a.peer(b, "v4")
    await b.peer(a, None)
    assert a.ping(b)
    before = await a.handshake(b)
    await a.up()
    wish = PeerWish(public(2), address(2), (Endpoint("203.0.113.9", 9), Endpoint("192.0.2.2", PORT)))
    planned = plan([wish], await a.wg.read(IF), {}, time.monotonic(), time.time())
    assert planned.changes == (), "its endpoint is another than the first candidate, but it is live"
    assert a.ping(b)
    assert await a.handshake(b) == before


async def a_removed_peer_hears_nothing_more(a: Side, b: Side) -> None:
    await a.peer(b, "v4")
    await b.peer(a, None)
    assert a.ping(b)
    emptied = plan([], await b.wg.read(IF), {}, 0.0, time.time())
    await b.wg.apply(IF, emptied.changes)
    assert not a.ping(b, wait=2)
    assert dict((await b.wg.read(IF)).peers) == {}


async def the_planner_finds_the_candidate_that_answers(a: Side, b: Side) -> None:
    candidates = (
        Endpoint("203.0.113.9", PORT),
        Endpoint("2001:db8::dead", PORT),
        Endpoint("192.0.2.2", PORT),
    )
    await b.peer(a, None)
    memory: Memory = {}
    for turn in range(20):  # each look is 3 s later for the planner, and an instant here
        now = turn * 3.0
        wish = [PeerWish(public(2), address(2), candidates)]
        planned = plan(wish, await a.wg.read(IF), memory, now, time.time())
        await a.wg.apply(IF, planned.changes)
        memory = planned.memory
        if (await a.wg.read(IF)).peers[public(2)].endpoint == candidates[2]:
            break
    assert a.ping(b, wait=12)


async def a_clock_that_went_back_is_healed_by_adding_the_peer_again(a: Side, b: Side) -> None:
    await a.peer(b, "v4")
    await b.peer(a, None)
    start, wall = time.monotonic(), time.time()
    try:
        time.clock_settime(time.CLOCK_REALTIME, wall + 10 * 86400)
        assert a.ping(b), "a handshake dated ten days ahead"
    finally:
        time.clock_settime(time.CLOCK_REALTIME, wall + time.monotonic() - start)
    await a.wg.apply(IF, plan([], await a.wg.read(IF), {}, 0.0, 0.0).changes)
    await a.peer(b, "v4")
    assert not a.ping(b, wait=3), "b drops handshakes older than the last one, and says nothing"

    wish = [PeerWish(public(1), address(1))]
    first = plan(wish, await b.wg.read(IF), {}, 0.0, time.time())
    assert first.changes == (), "for all b knows, the session is live"
    later = plan(wish, await b.wg.read(IF), first.memory, 181.0, time.time())
    assert later.changes == ()
    healed = plan(wish, await b.wg.read(IF), later.memory, 242.0, time.time())
    await b.wg.apply(IF, healed.changes)
    assert a.ping(b, wait=12)


async def the_firewall_stops_what_comes_around_the_mesh(a: Side, b: Side) -> None:
    """b accepts a's mesh address through the tunnel and drops it from the wire."""
    await a.peer(b, "v4")
    await b.peer(a, None)
    assert a.ping(b)
    around = f"{address(2)}/128 via 2001:db8::2 dev wire0"
    run(f"ip -n {A} -6 route add {around}")
    assert a.ping(b), "without the table the wire carries mesh addresses too"
    peers = frozenset({address(1)})
    nft(b.name, FirewallRules(PREFIX, IF, "mkdoor0", peers=peers))
    assert not a.ping(b, wait=1), "the wire carries no mesh address"
    run(f"ip -n {A} -6 route del {around}")
    assert a.ping(b), "the tunnel does"
    nft(b.name, FirewallRules(PREFIX, IF, "mkdoor0", peers=peers, vaults=peers))
    assert not a.ping(b, wait=1), "a vault opens no connection"
    assert b.ping(a), "but answers"
    nft(b.name, FirewallRules(PREFIX, IF, "mkdoor0"))
    assert not b.ping(a, wait=1), "who is no peer is not heard"


def nft(name: str, rules: FirewallRules) -> None:
    subprocess.run(
        ["ip", "netns", "exec", name, "nft", "-f", "-"], input=table_text(rules), text=True, check=True
    )


GUEST = DoorPeer(public(12), secret(9), "fd4d:6573:6802::12")
KEYS = GuestKeys(secret(12), secret(9), GUEST.guest_address, public(11), "fd4d:6573:6802::11")
CLOSED_WALLS = FirewallRules(PREFIX, IF, "mkdoor0")


def through_the_door(*, guest_dials: bool, issuer_dials: bool) -> Any:
    """The guest asks, the issuer answers with the guest's address; returns that answer."""
    done = threading.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, guest: str) -> None:
        asked = await read_frame(reader)
        await write_frame(writer, {"you": guest, "asked": asked})

    async def issue() -> None:
        door = IssuerDoor(KernelWireGuard())
        await door.open(secret(11), KEYS.issuer_address, [GUEST])
        if issuer_dials:
            await door.dial(GUEST.public_key, Endpoint("192.0.2.2", 51821))
        async with asyncio.TaskGroup() as tasks:
            server = await door.listen(serve)
            keeper = tasks.create_task(door.keep())
            await asyncio.to_thread(done.wait, 60)
            server.close()
            keeper.cancel()
        await door.close()

    async def enter() -> dict[str, Any]:
        door = GuestDoor(KernelWireGuard())
        await door.enter(KEYS, (Endpoint("192.0.2.1", 51821),) if guest_dials else ())
        reader, writer = await door.connect(Clocks().steady() + 45)
        await write_frame(writer, {"n": 1})
        answer = await read_frame(reader)
        writer.close()
        await door.close()
        return answer

    with two_hosts(), ExitStack() as ending:
        for name in (A, B):
            nft(name, CLOSED_WALLS)
        issuer = inside(A, lambda: asyncio.run(issue()))
        ending.callback(lambda: issuer.result(30))
        ending.callback(done.set)
        return inside(B, lambda: asyncio.run(enter())).result(90)


EXPECTED = {"you": GUEST.guest_address, "asked": {"n": 1}}


def a_guest_that_dials_is_served_through_the_door() -> None:
    assert through_the_door(guest_dials=True, issuer_dials=False) == EXPECTED


def a_guest_that_waits_is_dialled_and_served() -> None:
    assert through_the_door(guest_dials=False, issuer_dials=True) == EXPECTED


def both_sides_dialling_at_once_does_no_harm() -> None:
    assert through_the_door(guest_dials=True, issuer_dials=True) == EXPECTED


TUNNELS: list[Callable[[], None]] = [
    tunnel(two_hosts_ping_through_an_ipv4_endpoint),
    tunnel(two_hosts_ping_through_an_ipv6_endpoint_with_a_preshared_key),
    tunnel(another_preshared_key_hears_nothing),
    tunnel(a_session_survives_ensure_and_a_plan_that_changes_nothing),
    tunnel(a_removed_peer_hears_nothing_more),
    tunnel(the_planner_finds_the_candidate_that_answers),
    tunnel(a_clock_that_went_back_is_healed_by_adding_the_peer_again),
    tunnel(the_firewall_stops_what_comes_around_the_mesh),
    a_guest_that_dials_is_served_through_the_door,
    a_guest_that_waits_is_dialled_and_served,
    both_sides_dialling_at_once_does_no_harm,
]
