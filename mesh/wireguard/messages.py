"""Netlink messages of WireGuard, between pyroute2's form and our values. Opens no socket.

pyroute2's own `WireGuard.set` takes one peer per call, and 0.7.7 has the flags of peers wrong.
"""

from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import replace
from ipaddress import ip_interface
from socket import AF_INET, AF_INET6
from typing import Any

from mesh.endpoints import Endpoint
from mesh.wireguard.device import KEY_BYTES, NO_PRESHARED_KEY, Change, Device, PeerState, RemovePeer

# From the kernel's uapi/linux/wireguard.h; pyroute2 0.7.7 has other numbers under these names.
_PEER_REMOVE_ME = 1
_PEER_REPLACE_ALLOWEDIPS = 2
_PEER_UPDATE_ONLY = 4


def encode_change(change: Change) -> dict[str, Any]:
    """One entry of WGDEVICE_A_PEERS in pyroute2's form."""
    attrs: list[list[Any]] = [["WGPEER_A_PUBLIC_KEY", encode_key(change.public_key)]]
    if isinstance(change, RemovePeer):
        attrs.append(["WGPEER_A_FLAGS", _PEER_REMOVE_ME])
        return {"attrs": attrs}
    creates = change.allowed_ips is not None
    attrs.append(["WGPEER_A_FLAGS", _PEER_REPLACE_ALLOWEDIPS if creates else _PEER_UPDATE_ONLY])
    if change.preshared_key is not None:
        attrs.append(["WGPEER_A_PRESHARED_KEY", encode_key(change.preshared_key)])
    if change.endpoint is not None:
        attrs.append(["WGPEER_A_ENDPOINT", {"addr": change.endpoint.host, "port": change.endpoint.port}])
    if change.keepalive is not None:
        attrs.append(["WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL", change.keepalive])
    if change.allowed_ips is not None:
        attrs.append(["WGPEER_A_ALLOWEDIPS", [_allowed_ip(text) for text in sorted(change.allowed_ips)]])
    return {"attrs": attrs}


def _allowed_ip(text: str) -> dict[str, Any]:
    address = ip_interface(text)
    return {
        "attrs": [
            ["WGALLOWEDIP_A_FAMILY", family(text)],
            ["WGALLOWEDIP_A_IPADDR", address.network.network_address.packed],
            ["WGALLOWEDIP_A_CIDR_MASK", address.network.prefixlen],
        ]
    }


def decode_dump(messages: Iterable[Any]) -> tuple[Device, bytes]:
    """The device of a whole dump, and its private key. A peer with many allowed IPs goes on in the next
    message, where only its key and further allowed IPs stand."""
    public, private, port = bytes(KEY_BYTES), b"", 0
    peers: dict[bytes, PeerState] = {}
    for message in messages:
        public = _key(message, "WGDEVICE_A_PUBLIC_KEY") or public
        private = _key(message, "WGDEVICE_A_PRIVATE_KEY") or private
        port = message.get_attr("WGDEVICE_A_LISTEN_PORT") or port
        for entry in message.get_attr("WGDEVICE_A_PEERS") or ():
            key = _key(entry, "WGPEER_A_PUBLIC_KEY")
            if key is not None:
                peers[key] = _merge(peers.get(key), entry)
    return Device(public, port, peers), private


def _merge(before: PeerState | None, entry: Any) -> PeerState:
    allowed = frozenset(
        str(ip_interface(ip["addr"]).network) for ip in entry.get_attr("WGPEER_A_ALLOWEDIPS") or ()
    )
    if before is not None:
        return replace(before, allowed_ips=before.allowed_ips | allowed)
    preshared = _key(entry, "WGPEER_A_PRESHARED_KEY")
    endpoint = entry.get_attr("WGPEER_A_ENDPOINT")
    moment = entry.get_attr("WGPEER_A_LAST_HANDSHAKE_TIME") or {"tv_sec": 0, "tv_nsec": 0}
    handshake = float(moment["tv_sec"]) + float(moment["tv_nsec"]) / 1e9
    return PeerState(
        allowed_ips=allowed,
        endpoint=Endpoint(endpoint["addr"], endpoint["port"]) if endpoint and endpoint["port"] else None,
        preshared_key=preshared if preshared != NO_PRESHARED_KEY else None,
        keepalive=entry.get_attr("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL") or 0,
        last_handshake=handshake or None,
        rx=entry.get_attr("WGPEER_A_RX_BYTES") or 0,
        tx=entry.get_attr("WGPEER_A_TX_BYTES") or 0,
    )


def _key(message: Any, attribute: str) -> bytes | None:
    value = message.get_attr(attribute)
    return b64decode(value) if value else None


def encode_key(key: bytes) -> str:
    """The base64 that pyroute2 wants. Raises ValueError for what is no key, without showing it."""
    if len(key) != KEY_BYTES:
        raise ValueError("a WireGuard key has 32 bytes")
    return b64encode(key).decode()


def clamped(private_key: bytes) -> bytes:
    """The form in which the kernel keeps and returns a private key (RFC 7748, section 5)."""
    low, high = private_key[0] & 248, (private_key[31] & 127) | 64
    return bytes([low]) + private_key[1:31] + bytes([high])


def family(prefix: str) -> int:
    """The address family of an address or prefix."""
    return AF_INET6 if ":" in prefix else AF_INET
