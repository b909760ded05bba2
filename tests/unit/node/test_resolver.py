"""Names are looked up beside the agent, again and again, and what was found stays until something else is."""

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from mesh.endpoints import BadEndpoint, Endpoint, NamedEndpoint, parse_named
from mesh.invite import Invite, Token
from node.resolver import AT_ONCE, EVERY_S, KNOWN, URGENT_S, Resolver, look_up_once
from tests.fakes.mesh import BEGAN, Host, Street

HOME = NamedEndpoint("home.example.org", 51820)


class Dns:
    """A resolver whose lookups happen when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.zone: dict[str, Sequence[str] | OSError] = {HOME.name: ["203.0.113.7"]}
        self.asked: list[str] = []
        self.waiting: list[Callable[[], None]] = []
        self.resolver = Resolver(lambda: self.now, self.lookup, self.waiting.append)

    def lookup(self, name: str) -> Sequence[str]:
        self.asked.append(name)
        found = self.zone.get(name, OSError("no such name"))
        if isinstance(found, OSError):
            raise found
        return found

    async def answer(self) -> None:
        """All that was asked."""
        while self.waiting:
            self.waiting.pop(0)()
        await asyncio.sleep(0)

    async def told(self, *, urgent: bool = False, after: float = 0.0) -> list[Endpoint]:
        """What is known once the answers of this moment are there."""
        self.now += after
        self.resolver.endpoints([HOME], urgent=urgent)
        await self.answer()
        return self.resolver.endpoints([HOME], urgent=urgent)


async def test_nobody_waits_for_an_answer() -> None:
    dns = Dns()
    assert dns.resolver.endpoints([HOME]) == []
    assert (dns.asked, len(dns.waiting)) == ([], 1)
    await dns.answer()
    assert dns.resolver.endpoints([HOME]) == [Endpoint("203.0.113.7", 51820)]


async def test_a_renewed_address_is_found_after_some_minutes() -> None:
    dns = Dns()
    await dns.told()
    dns.zone[HOME.name] = ["203.0.113.99"]
    assert await dns.told(after=EVERY_S - 1) == [Endpoint("203.0.113.7", 51820)]
    assert await dns.told(after=1) == [Endpoint("203.0.113.99", 51820)]
    assert len(dns.asked) == 2


async def test_sooner_when_nobody_is_reached_there() -> None:
    dns = Dns()
    await dns.told()
    dns.zone[HOME.name] = ["203.0.113.99"]
    assert await dns.told(after=URGENT_S - 1, urgent=True) == [Endpoint("203.0.113.7", 51820)]
    assert await dns.told(after=1, urgent=True) == [Endpoint("203.0.113.99", 51820)]


@pytest.mark.parametrize("gone", [OSError("servers do not answer"), [], ["127.0.0.1"]])
async def test_a_dns_that_is_dead_or_lies_takes_nothing_away(gone: Sequence[str] | OSError) -> None:
    dns = Dns()
    await dns.told()
    dns.zone[HOME.name] = gone
    for _ in range(5):
        assert await dns.told(after=EVERY_S) == [Endpoint("203.0.113.7", 51820)]


async def test_what_nobody_can_dial_is_left_out() -> None:
    dns = Dns()
    dns.zone[HOME.name] = [
        "127.0.0.1",
        "::1",
        "0.0.0.0",
        "169.254.1.1",
        "fe80::1",
        "2001:db8::7",
        "224.0.0.1",
    ]
    assert await dns.told() == [Endpoint("2001:db8::7", 51820)]
    dns = Dns()
    dns.zone[HOME.name] = [f"203.0.113.{n}" for n in range(1, 30)]
    assert len(await dns.told()) == 4


async def test_lookups_that_hang_hold_up_no_more_than_themselves() -> None:
    dns = Dns()
    names = [NamedEndpoint(f"n{number}.example.org", 1) for number in range(10)]
    for _ in range(3):
        dns.resolver.endpoints(names)
    assert len(dns.waiting) == AT_ONCE
    dns.now += 10 * EVERY_S
    dns.resolver.endpoints(names)
    assert len(dns.waiting) == AT_ONCE


async def test_names_that_nobody_asks_for_are_forgotten() -> None:
    dns = Dns()
    for number in range(2 * KNOWN):
        dns.now += 1
        dns.resolver.endpoints([NamedEndpoint(f"n{number}.example.org", 1)])
        await dns.answer()
    assert len(dns.resolver._known) == KNOWN


async def test_a_real_thread_answers() -> None:
    threads: list[str] = []

    def lookup(name: str) -> list[str]:
        threads.append(threading.current_thread().name)
        return ["203.0.113.7"]

    assert await look_up_once([HOME], 20, lookup) == [Endpoint("203.0.113.7", 51820)]
    assert threads == ["dns"]
    assert await look_up_once([], 20, lookup) == []


class TestNames:
    @pytest.mark.parametrize(
        ("text", "name", "port"),
        [
            ("home.example.org:51820", "home.example.org", 51820),
            ("Home.Example.ORG.:7", "home.example.org", 7),
            ("a-b.c", "a-b.c", 51821),
            ("xn--bcher-kva.example:1", "xn--bcher-kva.example", 1),
        ],
    )
    def test_are_read(self, text: str, name: str, port: int) -> None:
        assert parse_named(text, 51821) == NamedEndpoint(name, port)

    @pytest.mark.parametrize(
        "text",
        [
            *("home:1", "1.2.3.4:5", "1.2.3:5", "-a.b:1", "a_.b:1", "a..b:1", ".:1", "a.b:0", "a b.c:1"),
            *("ü.de:1", f"{'a.' * 130}b:1", f"{'a' * 64}.b:1", "[a.b]:1:2"),
        ],
    )
    def test_are_refused(self, text: str) -> None:
        with pytest.raises(BadEndpoint):
            parse_named(text)

    def test_go_along_in_an_invite(self) -> None:
        invite = Invite(secret=b"s" * 16, role="member", expires=10, created=1)
        endpoints = tuple(Endpoint(f"203.0.113.{n}", 51821) for n in range(1, 8))
        token = invite.token(b"m" * 32, b"d" * 32, endpoints, (NamedEndpoint("home.example.org", 51821),))
        read = Token.parse(token.text)
        assert read.names == (NamedEndpoint("home.example.org", 51821),)
        assert read.endpoints == endpoints[:5]


class TestMembership:
    async def test_a_name_of_the_settings_reaches_who_joins(self, tmp_path: Path) -> None:
        """In the record and the invite; who joined dials where it leads, anew while there is no session."""
        street, clock = Street(), [float(BEGAN)]
        home, cloud = (Host(tmp_path / name, street, clock) for name in ("home", "cloud"))
        home.mesh._configured = lambda: ("home.example.org", "192.0.2.1")
        await home.init()
        dialled: list[NamedEndpoint] = []

        async def look_up(names: Iterable[NamedEndpoint]) -> list[Endpoint]:
            dialled.extend(names)
            return []

        cloud.joining._look_up = look_up
        invite = await home.invite(role="member", name="cloud")
        await cloud.join(invite["invite"])
        assert dialled == [NamedEndpoint("home.example.org", 51821)]
        dns = Dns()
        cloud.mesh._resolver = dns.resolver
        record = cloud.mesh.view().members[home.mesh.identity.id].record
        assert record is not None
        assert (record.names, Endpoint("192.0.2.1", 51820) in record.endpoints) == ((HOME,), True)
        assert cloud.mesh._named(record) == []
        await dns.answer()
        assert cloud.mesh._named(record) == [Endpoint("203.0.113.7", 51820)]
        dns.now += URGENT_S
        cloud.mesh._named(record)
        assert len(dns.waiting) == 1

    async def test_a_name_that_leads_into_the_mesh_leads_nowhere(self, tmp_path: Path) -> None:
        home = Host(tmp_path / "home", Street(), [float(BEGAN)])
        home.mesh._configured = lambda: ("home.example.org",)
        await home.init()
        dns = Dns()
        dns.zone[HOME.name] = [home.mesh.address_of(home.mesh.identity.id), "203.0.113.7"]
        home.mesh._resolver = dns.resolver
        record = home.mesh.me().record
        assert record is not None
        home.mesh._named(record)
        await dns.answer()
        assert home.mesh._named(record) == [Endpoint("203.0.113.7", 51820)]
