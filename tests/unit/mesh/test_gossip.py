"""The shell around the membership core, on real sockets: IPv4-mapped loopback addresses play the mesh."""

import asyncio
import contextlib
import random
import socket
from collections.abc import AsyncIterator

import pytest

from mesh.gossip import Gossip
from mesh.swim import Event, Peer, Swim, SwimConfig

HASTE = SwimConfig(
    period=0.05, probe_timeout_min=0.01, probe_timeout_max=0.02, gossip_interval=0.01, suspicion_min=1.0
)
IDS = ["a" * 16, "b" * 16, "c" * 16]
ADDRESSES = {id: f"::ffff:127.0.0.{n}" for n, id in enumerate(IDS, 1)}
NODES = {address: id for id, address in ADDRESSES.items()}


class Hosts:
    """Three hosts, and what each was told."""

    def __init__(self) -> None:
        self.gossips: dict[str, Gossip] = {}
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self.events: asyncio.Queue[tuple[str, Event]] = asyncio.Queue()

    def start(self) -> None:
        port = 0
        for id in IDS:
            gossip = Gossip(
                Swim(id, random.Random(id), HASTE),
                (ADDRESSES[id], port),
                node_at=NODES.get,
                address_of=ADDRESSES.get,
                on_event=lambda event, id=id: self.events.put_nowait((id, event)),
            )
            port = gossip.port
            self.gossips[id] = gossip
            self.tasks[id] = asyncio.ensure_future(gossip.run())
            gossip.set_members(dict.fromkeys(IDS, Peer()))

    async def stop(self, id: str) -> None:
        self.tasks[id].cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.tasks.pop(id)

    async def hear(self, *expected: tuple[str, str, str]) -> None:
        """Until each (observer, kind, member) was told."""
        wanted = set(expected)
        async with asyncio.timeout(20):
            while wanted:
                observer, event = await self.events.get()
                wanted.discard((observer, event.kind, event.member))


@pytest.fixture
async def hosts() -> AsyncIterator[Hosts]:
    all_of_them = Hosts()
    all_of_them.start()
    yield all_of_them
    for id in list(all_of_them.tasks):
        await all_of_them.stop(id)


def everybody(kind: str) -> list[tuple[str, str, str]]:
    return [(one, kind, other) for one in IDS for other in IDS if one != other]


async def test_three_find_each_other_and_miss_the_one_that_dies(hosts: Hosts) -> None:
    a, b, c = IDS
    await hosts.hear(*everybody("alive"))
    await hosts.stop(c)
    await hosts.hear((a, "down", c), (b, "down", c))
    assert hosts.gossips[a].states()[c].state == "down"
    assert hosts.gossips[a].states()[b].state == "alive"


async def test_a_good_bye_is_no_death(hosts: Hosts) -> None:
    a, b, c = IDS
    await hosts.hear(*everybody("alive"))
    hosts.gossips[c].leave()
    await hosts.hear((a, "left", c), (b, "left", c))


async def test_strangers_and_other_ports_are_dropped_unread(hosts: Hosts) -> None:
    await hosts.hear(*everybody("alive"))
    gossip = hosts.gossips[IDS[0]]
    target = (ADDRESSES[IDS[0]], gossip.port)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other_port:
        other_port.bind((ADDRESSES[IDS[1]], 0))
        other_port.sendto(b"x", target)
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("::ffff:127.0.0.9", gossip.port))
        stranger.sendto(b"x", target)
    async with asyncio.timeout(20):
        while gossip.dropped < 2:
            await asyncio.sleep(0)


async def test_a_taken_port_is_an_error_at_once() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as taken:
        taken.bind(("::1", 0))
        with pytest.raises(OSError, match="in use"):
            Gossip(
                Swim(IDS[0], random.Random(1)),
                ("::1", taken.getsockname()[1]),
                node_at=NODES.get,
                address_of=ADDRESSES.get,
                on_event=print,
            )


async def test_what_cannot_be_sent_is_counted_and_harms_nothing() -> None:
    events: list[Event] = []
    gossip = Gossip(
        Swim(IDS[0], random.Random(1), HASTE),
        (ADDRESSES[IDS[0]], 0),
        node_at=NODES.get,
        address_of={IDS[1]: "2001:db8::1"}.get,
        on_event=events.append,
    )
    task = asyncio.ensure_future(gossip.run())
    gossip.set_members(dict.fromkeys(IDS, Peer()))
    async with asyncio.timeout(20):
        while gossip.unsent < 4:
            await asyncio.sleep(0)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert events == []
