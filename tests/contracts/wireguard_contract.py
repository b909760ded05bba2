"""What every WireGuard device must do: over the double by pytest, over the kernel as a program.

``python3 -m tests.contracts.wireguard_contract`` needs root, kernel WireGuard and no pytest; it works in
network namespaces of its own, ends with "N passed, N failed", and exits 1 if one failed.
"""

import asyncio
import sys
import traceback
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address

from nacl.public import PrivateKey

from mesh.endpoints import Endpoint
from mesh.wireguard.device import (
    NO_PRESHARED_KEY,
    InterfaceTaken,
    NoInterface,
    PeerState,
    PortInUse,
    RemovePeer,
    SetPeer,
    WireGuard,
    WireGuardError,
)
from mesh.wireguard.peers import PeerWish, plan

IF = "wgcontract0"
OTHER_IF = "wgcontract1"
PREFIX = "fd4d:6573:6801::/48"
OWN = "fd4d:6573:6801::1"


def secret(number: int) -> bytes:
    return bytes([number % 251 + 1]) * 31 + bytes([number // 251])


def public(number: int) -> bytes:
    return bytes(PrivateKey(secret(number)).public_key)


def address(number: int) -> str:
    return f"fd4d:6573:6801::1:{number:x}"


def net(number: int) -> str:
    return f"{address(number)}/128"


@dataclass
class Ready:
    """A device with the interface IF up, key 0, port 41820."""

    wg: WireGuard
    port: int = 41820
    key: bytes = field(default=secret(0), repr=False)

    async def ensure(self, **changes: object) -> None:
        wanted: dict[str, object] = {"private_key": self.key, "port": self.port, "address": OWN, "mtu": 1420}
        await self.wg.ensure(IF, **{**wanted, **changes})  # type: ignore[arg-type]

    async def apply(self, *changes: SetPeer | RemovePeer) -> dict[bytes, PeerState]:
        await self.wg.apply(IF, changes)
        return dict((await self.wg.read(IF)).peers)


Clause = Callable[[Ready], Awaitable[None]]
CONTRACT: list[Clause] = []


def clause(test: Clause) -> Clause:
    CONTRACT.append(test)
    return test


async def raises(error: type[Exception], doing: Awaitable[object]) -> Exception:
    try:
        await doing
    except error as raised:
        return raised
    raise AssertionError(f"{error.__name__} was not raised")


@clause
async def a_fresh_interface_has_its_key_its_port_and_no_peers(at: Ready) -> None:
    device = await at.wg.read(IF)
    assert device.public_key == public(0)
    assert device.port == 41820
    assert dict(device.peers) == {}


@clause
async def its_address_is_there_and_reported(at: Ready) -> None:
    mine = [a for a in await at.wg.addresses() if a.interface == IF and not a.ip.startswith("fe80")]
    assert [(a.ip, a.prefixlen) for a in mine] == [(OWN, 128)]


@clause
async def ensuring_again_changes_nothing(at: Ready) -> None:
    peer = SetPeer(public(1), frozenset({net(1)}), Endpoint("192.0.2.1", 1), secret(9), 25)
    before = await at.apply(peer)
    await at.ensure()
    assert dict((await at.wg.read(IF)).peers) == before


@clause
async def ensuring_another_port_and_address_keeps_the_peers(at: Ready) -> None:
    before = await at.apply(SetPeer(public(1), frozenset({net(1)})))
    await at.ensure(port=41821, address="fd4d:6573:6801::2/64")
    device = await at.wg.read(IF)
    assert device.port == 41821
    assert dict(device.peers) == before
    mine = [a for a in await at.wg.addresses() if a.interface == IF and not a.ip.startswith("fe80")]
    assert [(a.ip, a.prefixlen) for a in mine] == [("fd4d:6573:6801::2", 64)]


@clause
async def ensuring_another_key_changes_who_it_is(at: Ready) -> None:
    await at.ensure(private_key=secret(7))
    assert (await at.wg.read(IF)).public_key == public(7)


@clause
async def what_is_set_is_read_back(at: Ready) -> None:
    for where in (Endpoint("192.0.2.1", 51820), Endpoint("2001:db8::1", 65535)):
        peers = await at.apply(SetPeer(public(1), frozenset({net(1)}), where, secret(9), 25))
        assert peers == {public(1): PeerState(frozenset({net(1)}), where, secret(9), 25)}


@clause
async def a_peer_without_anything_is_possible(at: Ready) -> None:
    assert await at.apply(SetPeer(public(1), frozenset())) == {public(1): PeerState()}


@clause
async def changing_the_endpoint_leaves_the_rest(at: Ready) -> None:
    await at.apply(SetPeer(public(1), frozenset({net(1)}), Endpoint("192.0.2.1", 1), secret(9), 25))
    peers = await at.apply(SetPeer(public(1), endpoint=Endpoint("192.0.2.2", 2)))
    assert peers[public(1)] == PeerState(frozenset({net(1)}), Endpoint("192.0.2.2", 2), secret(9), 25)


@clause
async def changing_a_peer_that_is_not_there_makes_none(at: Ready) -> None:
    assert await at.apply(SetPeer(public(1), endpoint=Endpoint("192.0.2.2", 2), keepalive=5)) == {}


@clause
async def allowed_ips_are_replaced_as_a_whole(at: Ready) -> None:
    await at.apply(SetPeer(public(1), frozenset({net(1), net(2), "10.0.0.0/8"})))
    peers = await at.apply(SetPeer(public(1), frozenset({net(3)})))
    assert peers[public(1)].allowed_ips == {net(3)}


@clause
async def an_allowed_ip_belongs_to_one_peer_and_the_last_one_has_it(at: Ready) -> None:
    peers = await at.apply(
        SetPeer(public(1), frozenset({net(1), net(2)})), SetPeer(public(2), frozenset({net(2)}))
    )
    assert peers[public(1)].allowed_ips == {net(1)}
    assert peers[public(2)].allowed_ips == {net(2)}


@clause
async def two_peers_can_swap_their_addresses(at: Ready) -> None:
    await at.apply(SetPeer(public(1), frozenset({net(1)})), SetPeer(public(2), frozenset({net(2)})))
    peers = await at.apply(SetPeer(public(1), frozenset({net(2)})), SetPeer(public(2), frozenset({net(1)})))
    assert [peers[public(n)].allowed_ips for n in (1, 2)] == [{net(2)}, {net(1)}]


@clause
async def a_preshared_key_can_be_taken_away(at: Ready) -> None:
    await at.apply(SetPeer(public(1), frozenset({net(1)}), preshared_key=secret(9)))
    peers = await at.apply(SetPeer(public(1), preshared_key=NO_PRESHARED_KEY))
    assert peers[public(1)].preshared_key is None


@clause
async def removing_a_peer_twice_is_no_error(at: Ready) -> None:
    await at.apply(SetPeer(public(1), frozenset({net(1)})), SetPeer(public(2), frozenset({net(2)})))
    for _ in range(2):
        assert set(await at.apply(RemovePeer(public(1)))) == {public(2)}


@clause
async def a_peer_is_removed_and_added_in_one_go(at: Ready) -> None:
    await at.apply(SetPeer(public(1), frozenset({net(1)}), Endpoint("192.0.2.1", 1), secret(9), 25))
    peers = await at.apply(RemovePeer(public(1)), SetPeer(public(1), frozenset({net(1)}), keepalive=25))
    assert peers == {public(1): PeerState(frozenset({net(1)}), keepalive=25)}


@clause
async def the_own_key_is_never_a_peer(at: Ready) -> None:
    assert await at.apply(SetPeer(public(0), frozenset({net(1)}))) == {}


@clause
async def three_hundred_peers_and_a_peer_with_a_thousand_addresses(at: Ready) -> None:
    wide = frozenset(f"{IPv6Address('fd4d:6573:6801:1::') + n}/128" for n in range(1000))
    many = [SetPeer(public(n), frozenset({net(n)}), keepalive=25) for n in range(1, 300)]
    peers = await at.apply(*many, SetPeer(public(300), wide))
    assert len(peers) == 300
    assert peers[public(300)].allowed_ips == wide
    assert all(peers[public(n)].allowed_ips == {net(n)} for n in range(1, 300))


@clause
async def a_plan_that_was_applied_leaves_nothing_to_do(at: Ready) -> None:
    wishes = [
        PeerWish(public(1), address(1), (Endpoint("192.0.2.1", 1), Endpoint("2001:db8::1", 2)), secret(9)),
        PeerWish(public(2), address(2)),
        PeerWish(public(3), address(3), (), None, 0),
    ]
    await at.apply(SetPeer(public(4), frozenset({net(1)})), SetPeer(public(3), frozenset({net(2)})))
    first = plan(wishes, await at.wg.read(IF), {}, 100.0, 1e9)
    await at.wg.apply(IF, first.changes)
    second = plan(wishes, await at.wg.read(IF), first.memory, 100.0, 1e9)
    assert second.changes == ()
    assert set((await at.wg.read(IF)).peers) == {public(1), public(2), public(3)}


@clause
async def what_is_not_there_cannot_be_read_or_changed_but_removed(at: Ready) -> None:
    await raises(NoInterface, at.wg.read(OTHER_IF))
    await raises(NoInterface, at.wg.apply(OTHER_IF, [RemovePeer(public(1))]))
    await raises(NoInterface, at.wg.ensure_route(PREFIX, OTHER_IF))
    await at.wg.remove_route(PREFIX, OTHER_IF)
    await at.wg.remove(OTHER_IF)


@clause
async def an_interface_of_another_kind_is_left_alone(at: Ready) -> None:
    made = at.wg.ensure("lo", private_key=secret(1), port=41999, address=None, mtu=1420)
    await raises(InterfaceTaken, made)
    await raises(InterfaceTaken, at.wg.remove("lo"))
    assert any(a.interface == "lo" for a in await at.wg.addresses())


@clause
async def a_port_that_is_taken_is_said(at: Ready) -> None:
    made = at.wg.ensure(OTHER_IF, private_key=secret(1), port=at.port, address=None, mtu=1420)
    await raises(PortInUse, made)


@clause
async def what_was_removed_is_gone(at: Ready) -> None:
    await at.wg.remove(IF)
    await raises(NoInterface, at.wg.read(IF))


@clause
async def a_route_is_there_once_however_often_it_is_ensured(at: Ready) -> None:
    for _ in range(2):
        await at.wg.ensure_route(PREFIX, IF)
    assert await at.wg.overlapping_routes(PREFIX, ours=[IF]) == []
    assert f"{PREFIX} dev {IF}" in await at.wg.overlapping_routes(PREFIX)
    for _ in range(2):
        await at.wg.remove_route(PREFIX, IF)
    assert f"{PREFIX} dev {IF}" not in await at.wg.overlapping_routes(PREFIX)


@clause
async def only_routes_that_take_packets_from_us_overlap(at: Ready) -> None:
    await at.wg.ensure_route("fd00::/8", IF)
    await at.wg.ensure_route("fd4d:6573:6801:7::/64", IF)
    assert f"fd4d:6573:6801:7::/64 dev {IF}" in await at.wg.overlapping_routes(PREFIX)
    assert not any(route.startswith("fd00::/8") for route in await at.wg.overlapping_routes(PREFIX))


@clause
async def no_error_shows_a_key(at: Ready) -> None:
    change = SetPeer(public(1), frozenset({net(1)}), preshared_key=secret(9))
    error = await raises(WireGuardError, at.wg.apply(OTHER_IF, [change]))
    shown = repr(change) + "".join(traceback.format_exception(error))
    assert secret(9).hex() not in shown
    assert repr(secret(9)) not in shown


async def hold(test: Clause, wg: WireGuard) -> None:
    """Runs one clause on a device without our interfaces."""
    at = Ready(wg)
    await at.ensure()
    try:
        await test(at)
    finally:
        for interface in (IF, OTHER_IF):
            await wg.remove(interface)


def run_all(tests: list[tuple[str, Callable[[], None]]]) -> int:
    """A runner for hosts without pytest: prints each failure, then the count; 1 if one failed."""
    failed = 0
    for name, test in tests:
        try:
            test()
        except Exception:  # noqa: BLE001 - whatever it is, it is that test's failure
            failed += 1
            print(f"FAILED {name}\n{traceback.format_exc()}")
        else:
            print(f"ok {name}", flush=True)
    print(f"{len(tests) - failed} passed, {failed} failed")
    return 1 if failed else 0


def main() -> int:
    from tests.contracts.wireguard_tunnels import TUNNELS, kernel_in, namespace

    def over_the_kernel(test: Clause) -> Callable[[], None]:
        def go() -> None:
            with namespace("mkcontract"):
                wg = kernel_in("mkcontract")
                try:
                    asyncio.run(hold(test, wg))
                finally:
                    wg.close()

        return go

    contract = [(test.__name__, over_the_kernel(test)) for test in CONTRACT]
    return run_all(contract + [(test.__name__, test) for test in TUNNELS])


if __name__ == "__main__":
    sys.exit(main())
