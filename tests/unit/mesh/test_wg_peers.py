import asyncio
import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mesh.endpoints import Endpoint
from mesh.wireguard.device import NO_PRESHARED_KEY, Device, PeerState, RemovePeer, SetPeer
from mesh.wireguard.peers import CANDIDATE_S, RENEW_AFTER_S, PeerMemory, PeerWish, plan
from tests.fakes.wireguard import FakeWireGuard

IF = "wg0"
WALL = 1_800_000_000.0
OWN = bytes(32)
LAN, WAN, RELAY, ROAMED = (Endpoint(f"192.0.2.{n}", 51820) for n in (1, 2, 3, 99))


def key(number):
    return bytes([number]) * 32


def wish(number=1, *candidates, **more):
    return PeerWish(key(number), f"fd00::{number}", candidates, **more)


class Host:
    """A device and its planner, at a time that passes only when told."""

    def __init__(self, *wishes):
        self.wishes = list(wishes)
        self.wg = FakeWireGuard()
        asyncio.run(self.wg.ensure(IF, private_key=key(200), port=1, address=None, mtu=1420))
        self.memory, self.now, self.skew = {}, 1000.0, 0.0

    @property
    def wall(self):
        return WALL + self.now + self.skew

    @property
    def device(self):
        return asyncio.run(self.wg.read(IF))

    def peer(self, number=1):
        return self.device.peers[key(number)]

    def plan(self):
        return plan(self.wishes, self.device, self.memory, self.now, self.wall)

    def tend(self, seconds=0.0):
        """Lets time pass, plans and applies; what was changed."""
        self.now += seconds
        planned = self.plan()
        asyncio.run(self.wg.apply(IF, planned.changes))
        self.memory = planned.memory
        return list(planned.changes)

    def handshake(self, number=1, endpoint=None):
        self.wg.handshake(IF, key(number), self.wall, endpoint)


def test_a_new_peer_is_added_whole():
    host = Host(wish(1, LAN, preshared_key=key(9)))
    assert host.tend() == [SetPeer(key(1), frozenset({"fd00::1/128"}), LAN, key(9), 25)]
    assert host.tend() == []


def test_a_peer_without_candidates_waits_to_be_called():
    host = Host(wish())
    assert host.tend() == [SetPeer(key(1), frozenset({"fd00::1/128"}), None, NO_PRESHARED_KEY, 25)]
    assert host.tend(30) == []


def test_a_peer_nobody_wants_is_removed():
    host = Host(wish(1), wish(2))
    host.tend()
    host.wishes = [wish(2)]
    assert host.tend() == [RemovePeer(key(1))]


def test_a_live_peer_is_never_touched_wherever_it_roams():
    host = Host(wish(1, LAN, WAN))
    host.tend()
    for step in range(20):
        host.handshake(endpoint=replace(ROAMED, port=step + 1))
        assert host.tend(120) == []


def test_candidates_take_turns_of_six_seconds():
    host = Host(wish(1, LAN, WAN, RELAY))
    host.tend()
    seen = [host.peer().endpoint]
    for _ in range(19):
        host.tend(1)
        seen.append(host.peer().endpoint)
    turns = [(where, len(list(group))) for where, group in itertools.groupby(seen)]
    assert turns == [(LAN, 6), (WAN, 6), (RELAY, 6), (LAN, 2)]


def test_a_single_candidate_is_written_once():
    host = Host(wish(1, LAN))
    host.tend()
    assert [host.tend(5) for _ in range(10)] == [[]] * 10


def test_the_turns_stop_at_a_handshake():
    host = Host(wish(1, LAN, WAN))
    host.tend()
    host.tend(6)
    assert host.peer().endpoint == WAN
    host.handshake()
    assert [host.tend(20) for _ in range(8)] == [[]] * 8


def test_a_session_ends_three_minutes_after_its_last_handshake_and_goes_on_where_it_was():
    host = Host(wish(1, LAN, WAN))
    host.tend()
    host.handshake(endpoint=ROAMED)
    assert host.tend() == []
    assert host.tend(179) == []
    assert host.tend(2) == [], "the last place that worked gets the first turn"
    assert host.tend(6) == [SetPeer(key(1), endpoint=LAN)]
    assert host.tend(6) == [SetPeer(key(1), endpoint=WAN)]
    assert host.tend(6) == [SetPeer(key(1), endpoint=ROAMED)]


def test_a_new_candidate_gets_its_turn_and_a_withdrawn_one_loses_it_at_once():
    host = Host(wish(1, LAN))
    host.tend()
    host.wishes = [wish(1, WAN)]
    assert host.tend(1) == [SetPeer(key(1), endpoint=WAN)]


def test_a_waiting_peer_is_called_as_soon_as_there_is_a_candidate():
    host = Host(wish(1))
    host.tend()
    host.wishes = [wish(1, WAN)]
    assert host.tend() == [SetPeer(key(1), endpoint=WAN)]


def test_a_peer_without_a_session_is_added_again_once_a_minute():
    host = Host(wish(1))
    host.tend()
    renewed = []
    for second in range(1, 301):
        if changes := host.tend(1):
            assert [type(change) for change in changes] == [RemovePeer, SetPeer]
            assert "clock" in changes[0].reason
            renewed.append(second)
    assert renewed == [60, 120, 180, 240, 300]


def test_adding_again_keeps_the_candidate_whose_turn_it_is():
    host = Host(wish(1, LAN, WAN))
    host.tend()
    for _ in range(60):
        before, began = host.peer().endpoint, host.memory[key(1)].since
        changes = host.tend(1)
        if len(changes) == 2 and host.now - began < CANDIDATE_S:
            assert host.peer().endpoint == before


def test_a_restarted_agent_does_not_disturb_a_live_peer():
    host = Host(wish(1, LAN, WAN))
    host.tend()
    host.handshake(endpoint=ROAMED)
    host.now += 100
    host.memory = {}
    assert host.tend() == []
    assert host.memory[key(1)].live(host.now)
    assert not host.memory[key(1)].live(host.now + 81)


def test_a_restarted_agent_tries_first_where_a_dead_session_went():
    host = Host(wish(1, LAN, WAN))
    host.tend()
    host.handshake(endpoint=ROAMED)
    host.now += 1000
    host.memory = {}
    assert host.tend() == []
    assert host.tend(6) == [SetPeer(key(1), endpoint=LAN)]


@pytest.mark.parametrize("jump", [-10 * 365 * 86400.0, -3600.0, 3600.0, 10 * 365 * 86400.0])
def test_a_jump_of_the_hosts_clock_neither_ends_nor_prolongs_a_session(jump):
    host = Host(wish(1, LAN, WAN))
    host.tend()
    host.handshake()
    host.tend()
    host.skew = jump
    assert host.tend(170) == []
    assert host.memory[key(1)].live(host.now)
    host.tend(11)
    assert not host.memory[key(1)].live(host.now)


def test_a_handshake_from_the_future_counts_as_just_now_and_no_longer():
    host = Host(wish(1, LAN))
    host.tend()
    host.handshake()
    host.skew, host.memory = -86400.0, {}
    host.tend()
    assert host.memory[key(1)].live(host.now + 179)
    host.tend(181)
    assert not host.memory[key(1)].live(host.now)


def test_what_differs_is_repaired_without_touching_the_endpoint():
    host = Host(wish(1, LAN, preshared_key=key(9)))
    host.tend()
    host.handshake()
    asyncio.run(host.wg.apply(IF, [SetPeer(key(1), frozenset({"fd00::7/128"}), ROAMED, key(8), 3)]))
    assert host.tend() == [SetPeer(key(1), frozenset({"fd00::1/128"}), None, key(9), 25)]
    assert host.tend() == []


def test_a_withdrawn_preshared_key_is_taken_away():
    host = Host(wish(1, preshared_key=key(9)))
    host.tend()
    host.wishes = [wish(1)]
    assert host.tend() == [SetPeer(key(1), preshared_key=NO_PRESHARED_KEY)]


def test_two_newcomers_that_claim_one_key_are_both_kept_out():
    host = Host(wish(1), PeerWish(key(1), "fd00::2"), wish(3))
    planned = host.plan()
    assert [change.public_key for change in planned.changes] == [key(3)]
    assert [refusal.wish.address for refusal in planned.refused] == ["fd00::1", "fd00::2"]
    assert {refusal.reason for refusal in planned.refused} == {"another peer claims the same key"}


@pytest.mark.parametrize("thief", [PeerWish(key(1), "fd00::2"), PeerWish(key(2), "fd00::1")])
def test_a_newcomer_cannot_push_out_the_peer_that_is_there(thief):
    host = Host(wish(1, LAN))
    host.tend()
    host.handshake()
    for order in ([thief, wish(1, LAN)], [wish(1, LAN), thief]):
        host.wishes = order
        planned = host.plan()
        assert planned.changes == ()
        assert [refusal.wish for refusal in planned.refused] == [thief]


def test_the_own_key_is_refused():
    host = Host()
    host.wishes = [PeerWish(host.device.public_key, "fd00::1")]
    planned = host.plan()
    assert planned.changes == ()
    assert planned.refused[0].reason == "it is this device's own key"


def test_no_repr_shows_a_preshared_key():
    host = Host(wish(1, preshared_key=key(9)))
    host.tend()
    shown = f"{host.wishes} {host.plan()} {host.wg.changes} {host.device}"
    assert repr(key(9)) not in shown


HALF = settings(max_examples=settings.default.max_examples // 2)
"""An example here is a whole story of rounds."""

places = st.sampled_from([LAN, WAN, RELAY, ROAMED])
numbers = st.integers(1, 5)
wishes = st.builds(
    lambda n, a, c, p, k: PeerWish(key(n), f"fd00::{a}", tuple(dict.fromkeys(c)), p, k),
    numbers,
    numbers,
    st.lists(places, max_size=3),
    st.sampled_from([None, key(9), key(8)]),
    st.sampled_from([0, 25]),
)
states = st.builds(
    PeerState,
    allowed_ips=st.frozensets(numbers.map(lambda n: f"fd00::{n}/128"), max_size=2),
    endpoint=st.none() | places,
    preshared_key=st.sampled_from([None, key(9)]),
    keepalive=st.sampled_from([0, 25]),
    last_handshake=st.none() | st.floats(WALL - 400, WALL + 400),
)


def exclusive(peers):
    """As a device is: each allowed IP with one peer."""
    taken, kept = set(), {}
    for public_key, state in peers.items():
        kept[public_key] = replace(state, allowed_ips=state.allowed_ips - taken)
        taken |= state.allowed_ips
    return kept


@HALF
@given(
    st.lists(wishes, max_size=6),
    st.dictionaries(numbers.map(key), states, max_size=5),
    st.lists(st.floats(0, 100), max_size=6),
)
def test_whatever_the_device_had_one_round_brings_what_is_wished_and_the_next_has_nothing_to_do(
    wanted, peers, pauses
):
    host = Host(*wanted)
    host.wg.links[IF].peers = exclusive(peers)
    for pause in [0.0, *pauses]:
        live_before = {
            k: state.endpoint
            for k, state in host.device.peers.items()
            if state.last_handshake is not None and 0 <= host.wall + pause - state.last_handshake < 180
        }
        host.tend(pause)
        planned = host.plan()
        assert planned.changes == ()
        admitted = {w.public_key: w for w in wanted if w not in [r.wish for r in planned.refused]}
        assert set(host.device.peers) == set(admitted)
        for public_key, state in host.device.peers.items():
            assert state.allowed_ips == admitted[public_key].allowed_ips
            assert state.preshared_key == admitted[public_key].preshared_key
            assert state.keepalive == admitted[public_key].keepalive
            if public_key in live_before:
                assert state.endpoint == live_before[public_key]


@HALF
@given(st.lists(st.floats(0.1, 30), min_size=1, max_size=40), st.integers(1, 3))
def test_no_candidate_loses_its_turn_early_and_no_renewal_comes_early(pauses, count):
    host = Host(wish(1, *(LAN, WAN, RELAY)[:count]))
    host.tend()
    turn, renewed = host.now, host.now
    for pause in pauses:
        before = host.peer().endpoint
        changes = host.tend(pause)
        if host.peer().endpoint != before:
            assert host.now - turn >= CANDIDATE_S
            turn = host.now
        if any(isinstance(change, RemovePeer) for change in changes):
            assert host.now - renewed >= RENEW_AFTER_S
            renewed = host.now


def test_memory_is_kept_only_for_wished_peers():
    host = Host(wish(1))
    host.tend()
    host.wishes = []
    host.tend()
    assert host.memory == {}


def test_a_device_without_a_peer_forgets_its_session():
    empty = Device(OWN, 1, {})
    was_live = {key(1): PeerMemory(handshake=WALL, handshake_at=10.0, good=ROAMED)}
    planned = plan([wish(1, LAN)], empty, was_live, 20.0, WALL + 20)
    assert not planned.memory[key(1)].live(20.0)
    assert planned.changes[0].endpoint == ROAMED


def test_a_link_local_place_is_followed_but_never_written():
    host = Host(wish(1, LAN))
    host.tend()
    host.handshake(endpoint=Endpoint("fe80::7", 5))
    host.tend()
    assert host.tend(181) == [SetPeer(key(1), endpoint=LAN)]
