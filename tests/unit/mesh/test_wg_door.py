"""The door over the double of a device and the loopback interface; over the kernel in the lab."""

import asyncio
import os
import socket
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from mesh.door import Clocks, DoorError, DoorPeer, GuestDoor, GuestKeys, IssuerDoor, NobodyThere
from mesh.endpoints import Endpoint
from mesh.frames import ConnectionClosed, read_frame, write_frame
from mesh.wireguard.device import NoInterface
from tests.contracts.wireguard_contract import public, secret
from tests.fakes.wireguard import FakeWireGuard

ANNA = DoorPeer(public(1), secret(91), "fd00::1")
BERT = DoorPeer(public(2), secret(92), "fd00::2")
HERE = DoorPeer(public(3), secret(93), "::1")
KEYS = GuestKeys(secret(3), secret(93), "::1", public(0), "::1")
VM, HOME = Endpoint("192.0.2.7", 51821), Endpoint("192.0.2.8", 51821)


@dataclass
class Time:
    """Virtual: a pause passes at once, and is remembered."""

    now: float = 1000.0
    pauses: tuple[float, ...] = ()

    def clocks(self):
        return Clocks(steady=lambda: self.now, wall=lambda: self.now + 1e9, sleep=self.sleep)

    async def sleep(self, seconds):
        self.now += seconds
        self.pauses += (seconds,)
        await asyncio.sleep(0)


@pytest.fixture
def wg():
    return FakeWireGuard()


@pytest.fixture
def time():
    return Time()


async def opened(wg, time, *guests):
    door = IssuerDoor(wg, clocks=time.clocks())
    await door.open(secret(0), "fd00::ff", guests)
    return door


class Loopback(FakeWireGuard):
    """The double's interface is called lo, so that real sockets can be bound to it."""

    def __init__(self):
        super().__init__()
        self.foreign = {}


async def test_each_invite_is_one_peer_with_its_preshared_key_and_a_route(wg, time):
    await opened(wg, time, ANNA, BERT)
    peers = (await wg.read("mkdoor0")).peers
    assert {key: (set(p.allowed_ips), p.preshared_key, p.endpoint) for key, p in peers.items()} == {
        public(1): ({"fd00::1/128"}, secret(91), None),
        public(2): ({"fd00::2/128"}, secret(92), None),
    }
    assert wg.routes == {("fd00::1/128", "mkdoor0"), ("fd00::2/128", "mkdoor0")}
    assert wg.links["mkdoor0"].port == 51821


async def test_a_closed_invite_goes_and_the_others_are_not_touched(wg, time):
    door = await opened(wg, time, ANNA, BERT)
    wg.handshake("mkdoor0", public(2), time.now + 1e9, VM)
    wg.changes.clear()
    await door.open(secret(0), "fd00::ff", [BERT])
    assert [change.public_key for change in wg.changes] == [public(1)]
    assert wg.routes == {("fd00::2/128", "mkdoor0")}


async def test_dialling_sets_the_endpoint_and_the_newest_is_tried_first(wg, time):
    door = await opened(wg, time, ANNA)
    await door.dial(ANNA.public_key, VM)
    assert (await wg.read("mkdoor0")).peers[public(1)].endpoint == VM
    time.now += 6
    await door.dial(ANNA.public_key, HOME)
    await door.tend()
    assert (await wg.read("mkdoor0")).peers[public(1)].endpoint == HOME


async def test_who_has_no_invite_cannot_be_dialled(wg, time):
    door = await opened(wg, time, ANNA)
    with pytest.raises(KeyError):
        await door.dial(public(2), VM)


async def test_two_guests_with_one_key_or_address_are_a_mistake(wg, time):
    for twin in (DoorPeer(public(1), secret(5), "fd00::5"), DoorPeer(public(5), secret(5), "fd00:0::1")):
        with pytest.raises(ValueError, match="two guests"):
            await opened(wg, time, ANNA, twin)


async def test_keeping_the_door_looks_every_two_seconds(wg, time):
    door = await opened(wg, time, ANNA)
    await door.dial(ANNA.public_key, VM, HOME)
    keeper = asyncio.ensure_future(door.keep())
    seen = set()
    while len(seen) < 2:
        await asyncio.sleep(0)
        seen.add((await wg.read("mkdoor0")).peers[public(1)].endpoint)
    keeper.cancel()
    assert seen == {VM, HOME}
    assert set(time.pauses) == {2.0}


async def test_a_closed_door_has_no_interface(wg, time):
    door = await opened(wg, time, ANNA)
    await door.close()
    with pytest.raises(NoInterface):
        await wg.read("mkdoor0")


async def test_a_waiting_guest_has_no_endpoint_and_a_dialling_one_has(wg, time):
    for endpoints, expected in (((), None), ((HOME,), HOME)):
        door = GuestDoor(wg, clocks=time.clocks())
        await door.enter(KEYS, endpoints)
        assert (await wg.read("mkdoor0")).peers[public(0)].endpoint == expected
        await door.close()


async def test_one_cannot_connect_before_entering(wg, time):
    with pytest.raises(DoorError, match="enter"):
        await GuestDoor(wg, clocks=time.clocks()).connect(None)


# Real sockets from here on, on the loopback interface.

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="binding to an interface needs root")


@pytest.fixture
def port():
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return probe.getsockname()[1]


async def echo(reader, writer, guest):
    await write_frame(writer, {"you": guest, "said": await read_frame(reader)})


@asynccontextmanager
async def listening(time, handler, port, *guests):
    door = IssuerDoor(Loopback(), interface="lo", clocks=time.clocks())
    await door.open(secret(0), "::1", guests)
    async with await door.listen(handler, port=port):
        yield door
    await door.close()
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0)


async def guest_inside(time, *endpoints):
    door = GuestDoor(Loopback(), interface="lo", clocks=time.clocks())
    await door.enter(KEYS, endpoints)
    return door


@needs_root
async def test_a_guest_is_served_under_the_address_of_its_invite(time, port):
    async with listening(time, echo, port, HERE):
        reader, writer = await (await guest_inside(time)).connect(None, port=port)
        await write_frame(writer, {"n": 1})
        assert await read_frame(reader) == {"you": "::1", "said": {"n": 1}}
        writer.close()
        await writer.wait_closed()


@needs_root
async def test_an_address_without_an_invite_is_closed_unheard(time, port):
    async with listening(time, echo, port, ANNA):
        reader, writer = await (await guest_inside(time)).connect(None, port=port)
        with pytest.raises(ConnectionClosed):
            await read_frame(reader)
        writer.close()


@needs_root
async def test_a_handler_that_fails_ends_its_own_conversation_only(time, port, caplog):
    async def fail_at_first(reader, writer, guest):
        if not caplog.records:
            raise ZeroDivisionError
        await echo(reader, writer, guest)

    async with listening(time, fail_at_first, port, HERE):
        guest = await guest_inside(time)
        reader, writer = await guest.connect(None, port=port)
        with pytest.raises(ConnectionClosed):
            await read_frame(reader)
        writer.close()
        reader, writer = await guest.connect(None, port=port)
        await write_frame(writer, {})
        assert (await read_frame(reader))["you"] == "::1"
        writer.close()
    assert "a guest failed" in caplog.text


@needs_root
async def test_too_many_conversations_at_once_are_closed_unheard(time, port, monkeypatch):
    monkeypatch.setattr("mesh.door.MAX_CONNECTIONS", 1)
    async with listening(time, echo, port, HERE):
        guest = await guest_inside(time)
        first, held = await guest.connect(None, port=port)
        second, refused = await guest.connect(None, port=port)
        with pytest.raises(ConnectionClosed):
            await read_frame(second)
        refused.close()
        await write_frame(held, {})
        assert (await read_frame(first))["you"] == "::1"
        held.close()


@needs_root
async def test_an_issuer_that_never_answers_is_given_up_at_the_deadline(time, port):
    guest = await guest_inside(time)
    with pytest.raises(NobodyThere, match="refused"):
        await guest.connect(time.now + 20, port=port)
    assert time.now <= 1020
    assert time.pauses[:5] == (0.5, 1.0, 2.0, 3.0, 3.0)


@needs_root
async def test_a_guest_without_a_deadline_tries_until_the_issuer_is_there_and_tends_its_tunnel(time, port):
    guest = await guest_inside(time, VM, HOME)
    connecting = asyncio.ensure_future(guest.connect(None, port=port))
    while len(time.pauses) < 10:
        await asyncio.sleep(0)
    async with listening(time, echo, port, HERE):
        _, writer = await connecting
        writer.close()
    assert {change.endpoint for change in guest._tunnel._wireguard.changes} == {VM, HOME}


@needs_root
async def test_closing_the_door_breaks_off_what_is_under_way(time, port):
    async with listening(time, echo, port, HERE) as door:
        reader, writer = await (await guest_inside(time)).connect(None, port=port)
        await write_frame(writer, {})
        await read_frame(reader)
        reader, second = await (await guest_inside(time)).connect(None, port=port)
        while not door._served:
            await asyncio.sleep(0)
        await door.close()
        with pytest.raises(ConnectionClosed):
            await read_frame(reader)
        writer.close()
        second.close()
