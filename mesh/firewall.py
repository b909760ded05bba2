"""The one nft table of meshkeep: its text is a pure function of values; `Firewall` puts it into the kernel.

It only ever drops: another table's drop stays a drop, and what we accept others may still drop. Fail closed:
whoever brings the mesh up applies this first and gives up on FirewallError.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network

from mesh.ports import JOIN, MESH, RESERVED

TABLE = "inet meshkeep"
NFS = 2049
_TIMEOUT_S = 20.0

Nft = Callable[[tuple[str, ...], str], Awaitable[tuple[int, str]]]
"""Runs nft with arguments and standard input: exit code, and what it said on standard error."""


class FirewallError(Exception):
    """nft refused. The table is as it was before: a transaction applies whole or not at all."""


@dataclass(frozen=True, slots=True)
class FirewallRules:
    """What the table is built from. `vaults` are those of `peers` that may not open connections to us.

    `guard_nfs` closes NFS (TCP and UDP 2049) to everything but the mesh and this host: for hosts that export
    to the mesh only. A host with NFS exports of its own to its LAN needs it off. `only` are the TCP ports that are
    open to the mesh besides ours; None leaves all as they are.
    """

    mesh_prefix: str
    mesh_interface: str
    door_interface: str
    peers: frozenset[str] = frozenset()
    vaults: frozenset[str] = frozenset()
    guard_nfs: bool = True
    only: frozenset[int] | None = None


def table_text(rules: FirewallRules) -> str:
    """The whole table as one transaction for ``nft -f -``: what was there before is replaced atomically.

    Raises ValueError for a prefix, address or name that is none: nothing unchecked reaches nft.
    """
    prefix = str(IPv6Network(rules.mesh_prefix))
    mesh, door = _quoted(rules.mesh_interface), _quoted(rules.door_interface)
    guard = f'iifname != {{ "lo", {mesh} }} meta l4proto {{ tcp, udp }} th dport {NFS} drop'
    chains = [
        _set("peers", rules.peers),
        _set("vaults", rules.vaults),
        _chain(
            "prerouting",
            "filter hook prerouting priority -300",
            # A mesh address from anywhere but the mesh: a neighbour on the LAN that plays a node.
            f'iifname != {{ "lo", {mesh} }} ip6 saddr {prefix} drop',
            f'iifname != {{ "lo", {mesh} }} ip6 daddr {prefix} drop',
        ),
        _chain(
            "input",
            "filter hook input priority -10",
            f"iifname {mesh} jump from_mesh",
            f"iifname {door} jump from_door",
            *([guard] if rules.guard_nfs else []),
        ),
        _from_mesh(prefix, rules.only),
        _chain("from_door", None, "ct state established,related accept", f"tcp dport {JOIN} accept", "drop"),
        _chain(
            "forward",
            "filter hook forward priority -10",
            f"iifname {{ {mesh}, {door} }} drop",
            f"oifname {{ {mesh}, {door} }} drop",
        ),
        _output(prefix, mesh, door),
    ]
    body = "".join(chains)
    # `destroy table` would be shorter, but nft before 1.0.7 does not know it.
    return f"add table {TABLE}\ndelete table {TABLE}\ntable {TABLE} {{\n{body}}}\n"


def _from_mesh(prefix: str, only: frozenset[int] | None) -> str:
    return _chain(
        "from_mesh",
        None,
        f"ip6 saddr != {prefix} drop",
        "meta nfproto ipv4 drop",
        "ip6 saddr != @peers drop",
        # Below this only root may bind, so such a packet is from the other agent and no other program there.
        f"meta l4proto {{ tcp, udp }} th dport {MESH} th sport >= {RESERVED} drop",
        "ip6 saddr @vaults ct state established,related accept",
        f"ip6 saddr @vaults udp dport {MESH} accept",
        "ip6 saddr @vaults drop",
        *(_closed_but(only) if only is not None else ()),
    )


def _closed_but(ports: frozenset[int]) -> Iterable[str]:
    if any(not 0 < port < 1 << 16 for port in ports):
        raise ValueError(f"{sorted(ports)} are no ports")
    yield "ct state established,related accept"
    yield f"meta l4proto {{ tcp, udp }} th dport {MESH} accept"
    if ports:
        yield f"tcp dport {{ {', '.join(map(str, sorted(ports)))} }} accept"
    yield "meta l4proto != ipv6-icmp drop"


def _output(prefix: str, mesh: str, door: str) -> str:
    return _chain(
        "output",
        "filter hook output priority -10",
        # With the mesh interface down these would leave in the clear by the default route.
        f'oifname != {{ "lo", {mesh} }} ip6 daddr {prefix} drop',
        f"ip6 daddr {prefix} meta l4proto {{ tcp, udp }} th dport {MESH} meta skuid != 0 drop",
        f"oifname {door} meta skuid != 0 drop",
    )


def _chain(name: str, hook: str | None, *lines: str) -> str:
    base = f"\t\ttype {hook}; policy accept;\n" if hook else ""
    return f"\tchain {name} {{\n{base}" + "".join(f"\t\t{line}\n" for line in lines) + "\t}\n"


def _set(name: str, addresses: Iterable[str]) -> str:
    members = sorted(IPv6Address(address) for address in addresses)
    elements = f"\t\telements = {{ {', '.join(map(str, members))} }}\n" if members else ""
    return f"\tset {name} {{\n\t\ttype ipv6_addr\n{elements}\t}}\n"


def _quoted(interface: str) -> str:
    allowed = interface.replace("-", "").replace("_", "").replace(".", "")
    if not (0 < len(interface) < 16 and allowed.isascii() and allowed.isalnum()):
        raise ValueError(f"{interface!r} is no interface name")
    return f'"{interface}"'


class Firewall:
    """The table in the kernel. Remembers what it applied, and sees when somebody flushed it."""

    def __init__(self, nft: Nft | None = None) -> None:
        self._nft = nft or run_nft
        self._applied: str | None = None

    async def apply(self, rules: FirewallRules) -> bool:
        """Have exactly these rules; True if anything had to be done. Raises FirewallError, ValueError."""
        text = table_text(rules)
        if text == self._applied and await self.present():
            return False
        self._applied = None
        code, said = await self._nft(("-f", "-"), text)
        if code != 0:
            raise FirewallError(f"nft refused the table {TABLE}: {said.strip() or f'exit code {code}'}")
        self._applied = text
        return True

    async def present(self) -> bool:
        """Whether the table is there at all: ``systemctl restart nftables`` flushes everybody's."""
        code, _ = await self._nft(("list", "table", *TABLE.split()), "")
        return code == 0

    async def remove(self) -> None:
        """Take the table away; one that is not there is no error. Raises FirewallError."""
        self._applied = None
        code, said = await self._nft(("-f", "-"), f"add table {TABLE}\ndelete table {TABLE}\n")
        if code != 0:
            raise FirewallError(f"nft did not remove the table {TABLE}: {said.strip()}")


async def run_nft(arguments: tuple[str, ...], text: str) -> tuple[int, str]:
    """Runs the real nft. Raises FirewallError where there is none, or where it does not end."""
    pipe = asyncio.subprocess.PIPE
    try:
        process = await asyncio.create_subprocess_exec(
            "nft", *arguments, stdin=pipe, stdout=asyncio.subprocess.DEVNULL, stderr=pipe
        )
    except FileNotFoundError as error:
        raise FirewallError("there is no nft; the mesh needs it (apt install nftables)") from error
    try:
        _, said = await asyncio.wait_for(process.communicate(text.encode()), _TIMEOUT_S)
    except TimeoutError as error:
        process.kill()
        await process.communicate()  # and not wait(), which would leave its pipes open
        raise FirewallError(f"nft did not end within {_TIMEOUT_S:.0f} s") from error
    return process.returncode or 0, said.decode(errors="replace")
