"""The kernel's WireGuard by netlink: the one place that knows pyroute2 (0.7.7 to 0.9.7).

pyroute2 0.9's synchronous classes run an event loop of their own and refuse to work inside another, and its
sockets do not bear two calls at once; so everything happens in one thread, with fresh sockets per call (under
2 ms).
"""

import asyncio
import errno
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import IPv6Interface, ip_network
from itertools import islice
from socket import AF_INET6
from typing import Any, TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink import NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.generic import GenericNetlinkSocket
from pyroute2.netlink.generic.wireguard import WG_CMD_GET_DEVICE, WG_CMD_SET_DEVICE, WG_GENL_NAME, wgmsg

from mesh.endpoints import InterfaceAddress
from mesh.wireguard.device import (
    Change,
    Device,
    InterfaceTaken,
    NoInterface,
    NoIPv6,
    NoKernelWireGuard,
    NotPermitted,
    PortInUse,
    WireGuardError,
)
from mesh.wireguard.messages import clamped, decode_dump, encode_change, encode_key, family

_PEERS_PER_MESSAGE = 64  # a netlink attribute ends at 64 KiB, and all peers of a message are one
_IFF_UP = 1
_RT_SCOPE_UNIVERSE = 0
_RTN_UNICAST, _RTN_LOCAL = 1, 2

_NO_KERNEL = (
    "this kernel has no WireGuard: its module is neither built in nor loadable (Linux 5.6 or newer has it; "
    "`modprobe wireguard` says what is missing)"
)

T = TypeVar("T")


class KernelWireGuard:
    """`mesh.wireguard.device.WireGuard` for the kernel. Works in the network namespace of the thread that
    made it. `close` ends its thread; it can be left to the end of the process."""

    def __init__(self) -> None:
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="wireguard-netlink")
        # A thread inherits the namespace of the thread that starts it: start it now, not at the first call.
        self._worker.submit(lambda: None).result()

    def close(self) -> None:
        self._worker.shutdown(wait=False)

    async def check(self) -> None:
        await self._run(_check)

    async def ensure(
        self, interface: str, *, private_key: bytes, port: int, address: str | None, mtu: int
    ) -> None:
        wanted = IPv6Interface(address) if address is not None else None
        await self._run(lambda: _ensure(interface, private_key, port, wanted, mtu))

    async def read(self, interface: str) -> Device:
        return await self._run(lambda: _read(interface)[0])

    async def apply(self, interface: str, changes: Sequence[Change]) -> None:
        if changes:
            await self._run(lambda: _apply(interface, changes))

    async def remove(self, interface: str) -> None:
        await self._run(lambda: _remove(interface))

    async def ensure_route(self, prefix: str, interface: str) -> None:
        await self._run(lambda: _ensure_route(prefix, interface))

    async def remove_route(self, prefix: str, interface: str) -> None:
        await self._run(lambda: _remove_route(prefix, interface))

    async def addresses(self) -> list[InterfaceAddress]:
        return await self._run(_addresses)

    async def overlapping_routes(self, prefix: str, ours: Collection[str] = ()) -> list[str]:
        return await self._run(lambda: _overlapping_routes(prefix, ours))

    async def _run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)


def _check() -> None:
    with _translated("wireguard"), _generic():
        pass


def _ensure(interface: str, private_key: bytes, port: int, address: IPv6Interface | None, mtu: int) -> None:
    with _translated(interface), IPRoute() as ip:
        link = _link(ip, interface)
        if link is None:
            link = _make_link(ip, interface)
        _require_wireguard(interface, link)
        _ensure_identity(interface, private_key, port)
        if link.get_attr("IFLA_MTU") != mtu:
            ip.link("set", index=link["index"], mtu=mtu)
        if not link["flags"] & _IFF_UP:
            ip.link("set", index=link["index"], state="up")
        if address is not None:
            _ensure_address(ip, link["index"], address)


def _make_link(ip: Any, interface: str) -> Any:
    try:
        ip.link("add", ifname=interface, kind="wireguard")
    except NetlinkError as error:
        if error.code == errno.EOPNOTSUPP:
            raise NoKernelWireGuard(_NO_KERNEL) from error
        raise
    link = _link(ip, interface)
    if link is None:
        raise NoInterface(f"{interface} went away while it was made")
    return link


def _ensure_identity(interface: str, private_key: bytes, port: int) -> None:
    """Key and port, each only if it differs: writing the port again drops the peers' cached routes."""
    device, current_key = _read(interface)
    attrs: list[list[Any]] = []
    if current_key != clamped(private_key):
        attrs.append(["WGDEVICE_A_PRIVATE_KEY", encode_key(private_key)])
    if device.port != port:
        attrs.append(["WGDEVICE_A_LISTEN_PORT", port])
    if attrs:
        _set_device(interface, attrs)


def _ensure_address(ip: Any, index: int, wanted: IPv6Interface) -> None:
    there = False
    for message in list(ip.get_addr(family=AF_INET6)):
        if message["index"] != index or message["scope"] != _RT_SCOPE_UNIVERSE:
            continue
        current = IPv6Interface(f"{message.get_attr('IFA_ADDRESS')}/{message['prefixlen']}")
        if current == wanted:
            there = True
        else:
            ip.addr(
                "del", index=index, address=str(current.ip), prefixlen=message["prefixlen"], family=AF_INET6
            )
    if there:
        return
    try:
        ip.addr(
            "add", index=index, address=str(wanted.ip), prefixlen=wanted.network.prefixlen, family=AF_INET6
        )
    except NetlinkError as error:
        if error.code in (errno.EACCES, errno.EOPNOTSUPP):
            raise NoIPv6("IPv6 is switched off here; the mesh needs it (sysctl net.ipv6.conf.*)") from error
        raise


def _read(interface: str) -> tuple[Device, bytes]:
    """The device and its private key (empty where it has none)."""
    with _translated(interface), _generic() as wg:
        message = wgmsg()
        message["cmd"] = WG_CMD_GET_DEVICE
        message["version"] = 1
        message["attrs"].append(["WGDEVICE_A_IFNAME", interface])
        answer = tuple(wg.nlm_request(message, msg_type=wg.prid, msg_flags=NLM_F_REQUEST | NLM_F_DUMP))
    return decode_dump(answer)


def _apply(interface: str, changes: Sequence[Change]) -> None:
    rest = iter(changes)
    while batch := list(islice(rest, _PEERS_PER_MESSAGE)):
        _set_device(interface, [["WGDEVICE_A_PEERS", [encode_change(change) for change in batch]]])


def _set_device(interface: str, attrs: Iterable[list[Any]]) -> None:
    with _translated(interface), _generic() as wg:
        message = wgmsg()
        message["cmd"] = WG_CMD_SET_DEVICE
        message["version"] = 1
        message["attrs"] += [["WGDEVICE_A_IFNAME", interface], *attrs]
        tuple(wg.nlm_request(message, msg_type=wg.prid, msg_flags=NLM_F_REQUEST | NLM_F_ACK))


def _remove(interface: str) -> None:
    with _translated(interface), IPRoute() as ip:
        link = _link(ip, interface)
        if link is not None:
            _require_wireguard(interface, link)
            ip.link("del", index=link["index"])


def _ensure_route(prefix: str, interface: str) -> None:
    with _translated(interface), IPRoute() as ip:
        link = _link(ip, interface)
        if link is None:
            raise NoInterface(f"there is no interface {interface}")
        ip.route("replace", dst=str(ip_network(prefix)), oif=link["index"], family=family(prefix))


def _remove_route(prefix: str, interface: str) -> None:
    with _translated(interface), IPRoute() as ip:
        link = _link(ip, interface)
        if link is None:
            return
        try:
            ip.route("del", dst=str(ip_network(prefix)), oif=link["index"], family=family(prefix))
        except NetlinkError as error:
            if error.code != errno.ESRCH:
                raise


def _addresses() -> list[InterfaceAddress]:
    with _translated("addresses"), IPRoute() as ip:
        up = {link["index"]: _name(link) for link in list(ip.get_links()) if link["flags"] & _IFF_UP}
        found = []
        for message in list(ip.get_addr()):
            address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            if address is not None and message["index"] in up:
                found.append(InterfaceAddress(up[message["index"]], address, message["prefixlen"]))
        return found


def _overlapping_routes(prefix: str, ours: Collection[str]) -> list[str]:
    mesh = ip_network(prefix)
    with _translated("routes"), IPRoute() as ip:
        names = {link["index"]: _name(link) for link in list(ip.get_links())}
        found = []
        for route in list(ip.get_routes(family=family(prefix))):
            destination, device = route.get_attr("RTA_DST"), names.get(route.get_attr("RTA_OIF"), "?")
            if destination is None or route["type"] not in (_RTN_UNICAST, _RTN_LOCAL) or device in ours:
                continue
            network = ip_network(f"{destination}/{route['dst_len']}")
            if network.subnet_of(mesh):  # type: ignore[arg-type]
                found.append(f"{network} dev {device}")
        return sorted(set(found))


@contextmanager
def _generic() -> Iterator[Any]:
    with GenericNetlinkSocket() as wg:
        wg.module_err_level = "debug"  # 0.7.7 would log the absence of the module as an error by itself
        try:
            wg.bind(WG_GENL_NAME, wgmsg)
        except NetlinkError as error:
            if error.code == errno.ENOENT:
                raise NoKernelWireGuard(_NO_KERNEL) from error
            raise
        yield wg


def _link(ip: Any, interface: str) -> Any:
    return next((link for link in list(ip.get_links()) if _name(link) == interface), None)


def _name(link: Any) -> str:
    return str(link.get_attr("IFLA_IFNAME"))


def _require_wireguard(interface: str, link: Any) -> None:
    info = link.get_attr("IFLA_LINKINFO")
    kind = info.get_attr("IFLA_INFO_KIND") if info is not None else None
    if kind != "wireguard":
        raise InterfaceTaken(f"{interface} exists and is no WireGuard interface ({kind or 'unknown kind'})")


@contextmanager
def _translated(subject: str) -> Iterator[None]:
    """pyroute2's one exception into one class per cause. The texts never carry message contents (keys)."""
    try:
        yield
    except NetlinkError as error:
        text = f"{subject}: {errno.errorcode.get(error.code, error.code)}"
        if error.code == errno.ENODEV:
            raise NoInterface(f"there is no interface {subject}") from error
        if error.code == errno.EADDRINUSE:
            raise PortInUse(f"{subject}: its UDP port is taken by another program") from error
        if error.code in (errno.EPERM, errno.EACCES):
            raise NotPermitted(f"{subject}: network devices need CAP_NET_ADMIN (root)") from error
        raise WireGuardError(text) from error
