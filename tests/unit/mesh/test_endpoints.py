from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.endpoints import (
    MAX_ENDPOINTS,
    BadEndpoint,
    Endpoint,
    InterfaceAddress,
    announceable,
    parse_endpoint,
)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("1.2.3.4:51820", "1.2.3.4", 51820),
        ("  1.2.3.4:1 ", "1.2.3.4", 1),
        ("[2001:DB8::1]:65535", "2001:db8::1", 65535),
        ("[::ffff:1.2.3.4]:7", "1.2.3.4", 7),
        ("1.2.3.4", "1.2.3.4", 51821),
        ("2001:db8::1", "2001:db8::1", 51821),
        ("[2001:db8::1]", "2001:db8::1", 51821),
        ("::ffff:1.2.3.4", "1.2.3.4", 51821),
    ],
)
def test_an_endpoint_is_read(text, host, port):
    assert parse_endpoint(text, default_port=51821) == Endpoint(host, port)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("vm.example.com:51820", "no IP address"),
        ("vm.example.com", "no port"),
        ("1.2.3.4", "no port"),
        ("1.2.3.4:", "no endpoint"),
        ("1.2.3.4:0", "no port"),
        ("1.2.3.4:65536", "no port"),
        ("1.2.3.4:99999999", "no endpoint"),
        ("1.2.3:5", "no IP address"),
        ("01.2.3.4:5", "no IP address"),
        ("[2001:db8::1:5", "no endpoint"),
        ("2001:db8::zz:5", "no endpoint"),
        ("", "no endpoint"),
        (":5", "no endpoint"),
        ("[]:5", "no IP address"),
        ("0.0.0.0:5", "unspecified"),
        ("[::]:5", "unspecified"),
        ("127.0.0.1:5", "loopback"),
        ("[::1]:5", "loopback"),
        ("224.0.0.1:5", "no address of one host"),
        ("255.255.255.255:5", "no address of one host"),
        ("[ff02::1]:5", "no address of one host"),
        ("[fe80::1]:5", "scope"),
        ("[fe80::1%eth0]:5", "scope"),
        ("1.2.3.4:5\n", None),
        ("1.2.3.4 :5", "no IP address"),
    ],
)
def test_what_cannot_be_dialled_is_refused_with_the_reason(text, why):
    if why is None:
        assert parse_endpoint(text) == Endpoint("1.2.3.4", 5)
        return
    with pytest.raises(BadEndpoint, match=why):
        parse_endpoint(text)


@given(st.ip_addresses(), st.integers(1, 65535))
def test_what_an_endpoint_prints_is_read_back(address, port):
    endpoint = Endpoint(str(address), port)
    try:
        read = parse_endpoint(str(endpoint))
    except BadEndpoint:
        read = None
    reserved = address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local
    if not reserved and str(address) != "255.255.255.255":
        assert read == endpoint


@given(st.text(max_size=40))
def test_any_text_is_an_endpoint_or_refused(text):
    with suppress(BadEndpoint):
        parse_endpoint(text, default_port=1)


def announced(*addresses, **more):
    listed = [InterfaceAddress(name, ip, 64) for name, ip in addresses]
    return [endpoint.host for endpoint in announceable(listed, 51820, **more)]


def test_lan_comes_first_then_public_ipv6_then_public_ipv4_and_tunnels_last():
    assert announced(
        ("tailscale0", "100.64.0.9"),
        ("eth0", "8.8.8.8"),
        ("eth0", "2a00::5"),
        ("wwan0", "100.64.1.1"),
        ("eth0", "192.168.1.5"),
        ("eth0", "fd99::5"),
        ("wg0", "10.8.0.2"),
    ) == ["192.168.1.5", "fd99::5", "2a00::5", "8.8.8.8", "100.64.1.1", "100.64.0.9", "10.8.0.2"]


@pytest.mark.parametrize(
    ("name", "ip"),
    [
        ("lo", "127.0.0.1"),
        ("lo", "::1"),
        ("eth0", "fe80::1"),
        ("eth0", "169.254.7.7"),
        ("meshkeep0", "fd12:3456:789a::1"),
        ("eth0", "fd12:3456:789a::1"),
        ("mkdoor0", "fd77::1"),
        ("docker0", "172.17.0.1"),
        ("br-0123456789ab", "172.18.0.1"),
        ("veth12ab", "10.0.0.1"),
        ("virbr0", "192.168.122.1"),
        ("cni0", "10.244.0.1"),
    ],
)
def test_what_no_peer_can_dial_is_not_announced(name, ip):
    assert announced((name, ip), ours=["meshkeep0", "mkdoor0"], mesh_prefix="fd12:3456:789a::/48") == []


def test_an_ordinary_bridge_is_announced():
    assert announced(("br-lan", "192.168.1.1"), ("br0", "192.168.2.1")) == ["192.168.1.1", "192.168.2.1"]


def test_an_address_on_two_interfaces_is_announced_once():
    assert announced(("eth0", "192.168.1.5"), ("wlan0", "192.168.1.5")) == ["192.168.1.5"]


def test_many_temporary_addresses_do_not_crowd_out_the_others():
    temporary = [("eth0", f"2a00::{n}") for n in range(20)]
    assert announced(*temporary, ("eth0", "8.8.8.8")) == ["2a00::", "2a00::1", "2a00::2", "8.8.8.8"]


@given(st.lists(st.tuples(st.sampled_from(["eth0", "wg0", "lo"]), st.ip_addresses().map(str)), max_size=30))
def test_at_most_eight_are_announced_each_once(addresses):
    hosts = announced(*addresses)
    assert len(hosts) <= MAX_ENDPOINTS
    assert len(set(hosts)) == len(hosts)
