"""Messages as the installed pyroute2 packs and unpacks them, without a kernel."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nacl.public import PrivateKey
from pyroute2.netlink.generic.wireguard import wgmsg

from mesh.endpoints import Endpoint
from mesh.wireguard.device import NO_PRESHARED_KEY, PeerState, RemovePeer, SetPeer
from mesh.wireguard.messages import clamped, decode_dump, encode_change, encode_key

KEY, OTHER, SHARED = bytes(range(32)), bytes(range(1, 33)), bytes(range(2, 34))


def over_the_wire(*attrs):
    message = wgmsg()
    message["attrs"] += [list(attr) for attr in attrs]
    message.encode()
    received = wgmsg(message.data)
    received.decode()
    return received


def peers_of(*changes):
    message = over_the_wire(("WGDEVICE_A_PEERS", [encode_change(change) for change in changes]))
    return decode_dump([message])[0].peers


def flags_of(change):
    message = over_the_wire(("WGDEVICE_A_PEERS", [encode_change(change)]))
    return message.get_attr("WGDEVICE_A_PEERS")[0].get_attr("WGPEER_A_FLAGS")


keys = st.binary(min_size=32, max_size=32)
endpoints = st.builds(Endpoint, st.ip_addresses().map(str), st.integers(1, 65535))
networks = st.ip_addresses(v=6).map(lambda ip: f"{ip}/128") | st.ip_addresses(v=4).map(lambda ip: f"{ip}/32")


@given(keys, st.frozensets(networks, max_size=5), st.none() | endpoints, keys, st.integers(0, 65535))
def test_a_peer_survives_the_wire(public_key, allowed_ips, endpoint, preshared, keepalive):
    change = SetPeer(public_key, allowed_ips, endpoint, preshared, keepalive)
    shared = preshared if preshared != NO_PRESHARED_KEY else None
    assert peers_of(change) == {public_key: PeerState(allowed_ips, endpoint, shared, keepalive)}


def test_the_flags_are_those_of_the_kernel():
    assert flags_of(RemovePeer(KEY)) == 1
    assert flags_of(SetPeer(KEY, frozenset())) == 2
    assert flags_of(SetPeer(KEY, keepalive=1)) == 4


def test_what_is_left_as_it_is_is_not_in_the_message():
    attrs = {name for name, _ in encode_change(SetPeer(KEY, keepalive=25))["attrs"]}
    assert attrs == {"WGPEER_A_PUBLIC_KEY", "WGPEER_A_FLAGS", "WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL"}


def test_a_peer_that_goes_on_in_the_next_message_is_one_peer():
    first = over_the_wire(
        ("WGDEVICE_A_LISTEN_PORT", 51820),
        ("WGDEVICE_A_PUBLIC_KEY", encode_key(OTHER)),
        ("WGDEVICE_A_PEERS", [encode_change(SetPeer(KEY, frozenset({"fd00::1/128"}), None, SHARED, 25))]),
    )
    second = over_the_wire(
        ("WGDEVICE_A_PEERS", [encode_change(SetPeer(KEY, frozenset({"fd00::2/128", "10.0.0.0/8"})))])
    )
    device, private = decode_dump([first, second])
    assert (device.public_key, device.port, private) == (OTHER, 51820, b"")
    assert device.peers == {
        KEY: PeerState(frozenset({"fd00::1/128", "fd00::2/128", "10.0.0.0/8"}), None, SHARED, 25)
    }


def test_a_last_handshake_is_in_epoch_seconds_and_never_is_none():
    for seconds, expected in ((1_800_000_000, 1_800_000_000.25), (0, None)):
        entry = encode_change(SetPeer(KEY))
        moment = {"tv_sec": seconds, "tv_nsec": 250_000_000 if seconds else 0}
        entry["attrs"].append(["WGPEER_A_LAST_HANDSHAKE_TIME", moment])
        message = over_the_wire(("WGDEVICE_A_PEERS", [entry]))
        assert decode_dump([message])[0].peers[KEY].last_handshake == expected


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)])
def test_what_is_no_key_is_not_sent_and_not_shown(key):
    with pytest.raises(ValueError, match="32 bytes"):
        encode_key(key)


@given(keys)
def test_clamping_changes_no_public_key_and_only_once(key):
    assert bytes(PrivateKey(clamped(key)).public_key) == bytes(PrivateKey(key).public_key)
    assert clamped(clamped(key)) == clamped(key)
