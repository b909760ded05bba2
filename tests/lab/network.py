"""The lab's own internet: a network namespace that routes between hosts, and one per home that does NAT.

Every host or home has a slot N. A public host is 203.0.113.(4N+2) behind a tap in the internet's namespace; a
host at home is 192.168.(N+1).2 and its router has the public address. The host's own network is not touched.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

from .machine import Nic
from .progress import LabError

PREFIX = "mklab"
SERVER = "198.51.100.1"
SLOTS = 64

INTERNET_RULES = """
table ip lab {
    set cuts { type ipv4_addr . ipv4_addr; }
    chain between_hosts {
        type filter hook forward priority 0
        ip saddr . ip daddr @cuts drop
    }
}
"""
# "easy" keeps the source port where it can: what one peer sees holds for the next. "hard" never does.
# Neither lets anything in that nobody inside asked for, nor answers it.
ROUTER_RULES = """
table ip lab {{
    chain unasked {{
        type filter hook input priority 0
        iifname "wan" ct state != {{ established, related }} drop
    }}
    chain through {{
        type filter hook forward priority 0; policy drop;
        ct state {{ established, related }} accept
        iifname "lan" accept
    }}
    chain out {{ type nat hook postrouting priority 100; oifname "wan" masquerade {how}; }}
}}
"""


class Nat(str):
    """The kind of NAT a host is behind, "easy" or "hard", with its addresses on both sides."""

    public: str
    private: str

    def __new__(cls, kind: str, public: str, private: str) -> Nat:
        self = super().__new__(cls, kind)
        self.public = public
        self.private = private
        return self


@dataclass(frozen=True)
class Place:
    """Where one host is plugged in."""

    namespace: str
    tap: str
    mac: str
    public: str
    inside: str
    gateway: str
    nat: Nat | None
    lan: str | None

    @property
    def nic(self) -> Nic:
        return Nic(self.mac, self.tap)

    @property
    def argument(self) -> str:
        """For the guest's lab-network service, on its kernel command line or as an argument."""
        return f"lab.net=eth0,{self.mac},{self.inside},{self.gateway}"


@dataclass
class Home:
    """A router and the number of hosts behind it."""

    namespace: str
    slot: int
    kind: str
    hosts: int = 0


class Internet:
    """Makes places, cuts and heals. `sweep` of its name leaves nothing behind."""

    def __init__(self, name: str) -> None:
        """The name is PREFIX PID-NUMBER: the process that answers for it tells leftovers from labs in use."""
        self.name = name
        self._slots = 0
        self._homes: dict[str, Home] = {}
        add_namespace(self.name)
        ip("-n", self.name, "addr", "add", f"{SERVER}/32", "dev", "lo")
        nft(self.name, INTERNET_RULES)

    def public_place(self) -> Place:
        slot = self._slot()
        tap = f"tap{slot}"
        add_tap(self.name, tap)
        ip("-n", self.name, "addr", "add", f"{gateway_of(slot)}/30", "dev", tap)
        public = public_of(slot)
        return Place(self.name, tap, mac_of(slot, 0), public, f"{public}/30", gateway_of(slot), None, None)

    def home_place(self, lan: str, kind: str) -> Place:
        """A place behind the NAT of that name, whose router is made for its first host."""
        home = self._homes.get(lan) or self._router(lan, kind)
        if home.kind != kind:
            raise LabError(f"the router of {lan} is {home.kind}, it cannot be {kind} as well")
        home.hosts += 1
        tap = f"tap{home.hosts}"
        add_tap(home.namespace, tap, "lan")
        private = f"192.168.{home.slot + 1}.{1 + home.hosts}"
        public = public_of(home.slot)
        gateway = f"192.168.{home.slot + 1}.1"
        mac = mac_of(home.slot, home.hosts)
        return Place(
            home.namespace, tap, mac, public, f"{private}/24", gateway, Nat(kind, public, private), lan
        )

    def cut(self, a: Place, b: Place) -> None:
        """Drop every packet between two hosts in silence, both ways, running flows included."""
        if a.public == b.public:
            raise LabError("these two are on one LAN: the internet between them cannot be cut")
        elements = f"{a.public} . {b.public}, {b.public} . {a.public}"
        nft(self.name, f"add element ip lab cuts {{ {elements} }}")

    def heal(self) -> None:
        nft(self.name, "flush set ip lab cuts")

    def _slot(self) -> int:
        if self._slots == SLOTS:
            raise LabError(f"a lab has room for {SLOTS} public addresses")
        self._slots += 1
        return self._slots - 1

    def _router(self, lan: str, kind: str) -> Home:
        slot = self._slot()
        home = Home(f"{self.name}r{slot}", slot, kind)
        add_namespace(home.namespace)
        wan = f"home{slot}"
        peer = ("peer", "name", "wan", "netns", home.namespace)
        ip("-n", self.name, "link", "add", wan, "type", "veth", *peer)
        ip("-n", self.name, "addr", "add", f"{gateway_of(slot)}/30", "dev", wan)
        ip("-n", self.name, "link", "set", wan, "up")
        ip("-n", home.namespace, "addr", "add", f"{public_of(slot)}/30", "dev", "wan")
        ip("-n", home.namespace, "link", "set", "wan", "up")
        ip("-n", home.namespace, "route", "add", "default", "via", gateway_of(slot))
        ip("-n", home.namespace, "link", "add", "lan", "type", "bridge")
        ip("-n", home.namespace, "addr", "add", f"192.168.{slot + 1}.1/24", "dev", "lan")
        ip("-n", home.namespace, "link", "set", "lan", "up")
        nft(home.namespace, ROUTER_RULES.format(how="fully-random" if kind == "hard" else ""))
        self._homes[lan] = home
        return home


def gateway_of(slot: int) -> str:
    return f"203.0.113.{4 * slot + 1}"


def public_of(slot: int) -> str:
    return f"203.0.113.{4 * slot + 2}"


def mac_of(slot: int, host: int) -> str:
    return f"52:54:00:1a:{slot:02x}:{host:02x}"


def tool(*command: str, stdin: str | None = None) -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def ip(*arguments: str) -> str:
    return tool("ip", *arguments)


def nft(namespace: str, rules: str) -> None:
    tool("ip", "netns", "exec", namespace, "nft", "-f", "-", stdin=rules)


def add_namespace(name: str) -> None:
    ip("netns", "add", name)
    ip("-n", name, "link", "set", "lo", "up")
    ip("netns", "exec", name, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")


def add_tap(namespace: str, tap: str, bridge: str | None = None) -> None:
    ip("-n", namespace, "tuntap", "add", tap, "mode", "tap")
    if bridge:
        ip("-n", namespace, "link", "set", tap, "master", bridge)
    ip("-n", namespace, "link", "set", tap, "up")


def namespaces() -> list[str]:
    return [line.split()[0] for line in ip("netns", "list").splitlines() if line.startswith(PREFIX)]


def sweep(lab: str) -> None:
    """Remove the lab's namespaces and what still runs in them: all of it was started by that lab."""
    mine = re.compile(rf"{re.escape(lab)}(r\d+)?")
    for name in namespaces():
        if mine.fullmatch(name):
            for pid in ip("netns", "pids", name).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
            # Another sweep of the same lab may have been faster.
            with contextlib.suppress(LabError):
                ip("netns", "del", name)


def sweep_the_dead() -> None:
    """Labs whose process is gone without its own teardown."""
    for name in namespaces():
        owner = re.match(rf"{PREFIX}(\d+)-\d+", name)
        if owner and not Path(f"/proc/{owner[1]}").exists():
            sweep(owner[0])
