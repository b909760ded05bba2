"""Where a node can be reached: reading endpoints, and which addresses of a host to announce. Pure."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

MAX_ENDPOINTS = 8
MAX_NAMES = 3
_MAX_PER_RANK = 3  # a host with many temporary IPv6 addresses must not crowd out its other families
_SHARED = IPv4Network("100.64.0.0/10")
_UNIQUE_LOCAL = IPv6Network("fc00::/7")

# Bridges and pairs that only containers and virtual machines of this host can reach; 192.168.122.1 or
# 172.17.0.1 exist on half of all hosts, so announcing them would send peers to themselves.
_INSIDE = re.compile(
    r"(docker|veth|virbr|vnet|lxcbr|lxdbr|incusbr|podman|cni|flannel|cali|kube|dummy|nodelocaldns)"
    r"|br-[0-9a-f]{12}$"
)
# Other tunnels do carry us where nothing else does, but never by preference.
_TUNNEL = re.compile(r"(wg|tun|tap|tailscale|zt|ppp|ipsec|utun|nebula)")


_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


class BadEndpoint(ValueError):
    """The text names no endpoint that can be dialled. The message says why and what form is expected."""


@dataclass(frozen=True, slots=True, order=True)
class Endpoint:
    """An IP address (canonical text, no scope) and a UDP port (1..65535)."""

    host: str
    port: int

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise BadEndpoint(f"{self.port} is no port: 1 to 65535")
        try:
            address = ip_address(self.host)
        except ValueError as error:
            raise BadEndpoint(f"{self.host!r} is no IP address") from error
        if isinstance(address, IPv6Address) and address.scope_id:
            raise BadEndpoint(f"{self.host!r} has a scope, which endpoints do not carry")
        object.__setattr__(self, "host", str(_plain(address)))

    @property
    def link_local(self) -> bool:
        """Means nothing without its interface: seen on a device now and then, never to be written to one."""
        return ip_address(self.host).is_link_local

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, order=True)
class NamedEndpoint:
    """A DNS name (lower case, at least one dot, no dot at its end) and a UDP port: whoever dials looks it up."""

    name: str
    port: int

    def __post_init__(self) -> None:
        if not 1 <= self.port <= 65535:
            raise BadEndpoint(f"{self.port} is no port: 1 to 65535")
        labels = self.name.split(".")
        if len(self.name) > 253 or len(labels) < 2 or not all(map(_LABEL.fullmatch, labels)):
            raise BadEndpoint(f"{self.name!r} is no host name with a domain")
        if labels[-1].isdigit():
            raise BadEndpoint(f"{self.name!r} is no IP address and no host name; give 192.0.2.7:51820")

    def __str__(self) -> str:
        return f"{self.name}:{self.port}"


@dataclass(frozen=True, slots=True)
class InterfaceAddress:
    """One address of this host: interface name, IP in canonical text, prefix length."""

    interface: str
    ip: str
    prefixlen: int


def parse_endpoint(text: str, default_port: int | None = None) -> Endpoint:
    """Reads ``1.2.3.4:51820``, ``[2001:db8::1]:51820``, or a bare address where there is a default port.

    Raises BadEndpoint for host names (`parse_named` reads those) and for addresses nobody can dial: unspecified,
    loopback, multicast, link-local IPv6.
    """
    host, port = _split(text.strip(), default_port)
    try:
        address = _plain(ip_address(host))
    except ValueError as error:
        raise BadEndpoint(
            f"{host!r} is no IP address; give 192.0.2.7:51820 or [2001:db8::7]:51820"
        ) from error
    reason = _not_dialable(address)
    if reason:
        raise BadEndpoint(f"{host} cannot be dialled: {reason}")
    return Endpoint(str(address), port)


def parse_named(text: str, default_port: int | None = None) -> NamedEndpoint:
    """Reads ``home.example.org:51820``, or a bare name where there is a default port. Raises BadEndpoint."""
    host, port = _split(text.strip(), default_port)
    return NamedEndpoint(host.lower().removesuffix("."), port)


def announceable(
    addresses: Iterable[InterfaceAddress],
    port: int,
    *,
    ours: Collection[str] = (),
    mesh_prefix: str | None = None,
) -> tuple[Endpoint, ...]:
    """The endpoints a node may announce of itself, best first, at most MAX_ENDPOINTS, each once.

    Out: loopback, link-local, multicast, the mesh's and the door's own interfaces (`ours`), anything in the
    mesh prefix, and bridges only this host's containers see. Order: LAN addresses, public IPv6, public IPv4,
    shared (CGNAT) space, other tunnels last.
    """
    mesh = IPv6Network(mesh_prefix) if mesh_prefix else None
    ranked: list[tuple[int, Endpoint]] = []
    for entry in addresses:
        address = _plain(ip_address(entry.ip))
        if entry.interface in ours or _INSIDE.match(entry.interface) or _not_dialable(address):
            continue
        if address.is_link_local or (
            mesh is not None and isinstance(address, IPv6Address) and address in mesh
        ):
            continue
        ranked.append((_rank(entry.interface, address), Endpoint(str(address), port)))
    return _best(ranked)


def _best(ranked: list[tuple[int, Endpoint]]) -> tuple[Endpoint, ...]:
    chosen: dict[Endpoint, int] = {}
    for rank, endpoint in sorted(
        ranked, key=lambda pair: pair[0]
    ):  # stable: the host's own order decides ties
        if endpoint not in chosen and list(chosen.values()).count(rank) < _MAX_PER_RANK:
            chosen[endpoint] = rank
    return tuple(chosen)[:MAX_ENDPOINTS]


def _rank(interface: str, address: IPv4Address | IPv6Address) -> int:
    if _TUNNEL.match(interface):
        return 4
    if isinstance(address, IPv4Address):
        return 3 if address in _SHARED else (0 if address.is_private else 2)
    return 0 if address in _UNIQUE_LOCAL else 1


def _split(text: str, default_port: int | None) -> tuple[str, int]:
    bracketed = re.fullmatch(r"\[([^\]]*)\](?::(\d{1,5}))?", text)
    plain = re.fullmatch(r"([^:\[\]]+)(?::(\d{1,5}))?", text)
    match = bracketed or plain
    if match is None and text.count(":") > 1:
        match = re.fullmatch(r"([0-9A-Fa-f:.]+)()", text)  # a bare IPv6 address; a port needs brackets
    if match is None:
        raise BadEndpoint(f"{text!r} is no endpoint; give 192.0.2.7:51820 or [2001:db8::7]:51820")
    if not match[2] and default_port is None:
        raise BadEndpoint(f"{text!r} has no port; give 192.0.2.7:51820 or [2001:db8::7]:51820")
    port = int(match[2]) if match[2] else int(default_port or 0)
    if not 1 <= port <= 65535:
        raise BadEndpoint(f"{port} is no port: 1 to 65535")
    return match[1], port


def _not_dialable(address: IPv4Address | IPv6Address) -> str:
    if address.is_unspecified:
        return "it is the unspecified address"
    if address.is_loopback:
        return "it is a loopback address"
    if address.is_multicast or str(address) == "255.255.255.255":
        return "it is no address of one host"
    if isinstance(address, IPv6Address) and (address.is_link_local or address.scope_id):
        return "link-local addresses need a scope, which WireGuard's endpoints do not carry reliably"
    return ""


def _plain(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address
