"""What `meshkeep doctor` finds, as values, and what of the host can be seen without an agent.

Looking changes nothing. Mended is only what is certain: modes of our own files, and what a mesh that this host has left
put into nft and /etc/hosts.
"""

import asyncio
import contextlib
import os
import stat
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mesh.firewall import TABLE
from mesh.hosts import BEGIN, HostsError, update
from node.commands import CommandMissing, Result, Runner
from node.errors import MeshkeepError
from node.sanoid_timer import UNKNOWN, SanoidTimer, stop_command
from node.settings import ConfigError, Settings, config_files, load
from zfs.sizes import size

Level = Literal["ok", "warn", "fail", "unknown"]

LEAST_ROOM = 64 << 20
LITTLE_ROOM = 0.05
BEFORE_US = 1_735_689_600
"""The first of January 2025: no clock that is right shows an earlier time."""

PATIENCE = 10.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the page. `hint` is a command that is safe to paste; `fix` names what --fix would do, or nothing."""

    check: str
    level: Level
    text: str
    why: str = ""
    hint: str = ""
    fix: str = ""

    def as_json(self) -> dict[str, str]:
        """One entry of ``findings``."""
        return {
            "check": self.check,
            "level": self.level,
            "text": self.text,
            "why": self.why,
            "try": self.hint,
            "fix": self.fix,
        }

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> "Finding":
        """The inverse; a level that is not known here is told as unknown."""
        level = raw.get("level")
        known: Level = level if level in ("ok", "warn", "fail") else "unknown"
        text, why, hint = (str(raw.get(key, "")) for key in ("text", "why", "try"))
        return cls(str(raw.get("check", "agent")), known, text, why, hint, str(raw.get("fix", "")))


@dataclass(frozen=True, slots=True)
class AgentSays:
    """What the host's part needs of the agent: None for each that nobody knows. `roots` hold others' replicas."""

    running: bool = False
    joined: bool | None = None
    roots: tuple[str, ...] = ()


class HostDoctor:
    """`root` is where the host's files are, `state` our own, below it or not. `now` in epoch seconds."""

    def __init__(
        self,
        commands: Runner,
        *,
        now: float,
        root: Path = Path("/"),
        state: Path = Path("/var/lib/meshkeep"),
        config: Path = Path("/etc/meshkeep"),
    ) -> None:
        self._commands = commands
        self._now = now
        self._root = root
        self._state = state
        self._config = config
        self._settings: Settings | None = None

    async def look(self, agent: AgentSays) -> list[Finding]:
        """Every check, in the order of the page. One that breaks says so, and the others go on."""
        steps: list[tuple[str, Callable[[AgentSays], Awaitable[list[Finding]]]]] = [
            ("config", self._look_at_config),
            ("zfs", self._look_at_zfs),
            ("pools", self._look_at_pools),
            ("delegation", self._look_at_delegation),
            ("wireguard", self._look_at_wireguard),
            ("ports", self._look_at_ports),
            ("nft", self._look_at_nft),
            ("hosts", self._look_at_hosts),
            ("clock", self._look_at_clock),
            ("nfs", self._look_at_nfs),
            ("systemd", self._look_at_systemd),
            ("schedulers", self._look_at_schedulers),
            ("room", self._look_at_room),
            ("modes", self._look_at_modes),
        ]
        found: list[Finding] = []
        for check, step in steps:
            try:
                found += await step(agent)
            except (MeshkeepError, HostsError, OSError) as error:
                hint = error.hint if isinstance(error, MeshkeepError) else ""
                found.append(Finding(check, "unknown", f"could not be looked at: {error}", hint=hint))
        return found

    # -- checks ------------------------------------------------------------------------------------------------

    async def _look_at_config(self, _: AgentSays) -> list[Finding]:
        try:
            self._settings = await asyncio.to_thread(lambda: load(config_files(self._config)))
        except ConfigError as error:
            return [Finding("config", "fail", error.what, error.why, "meshkeep config check")]
        return [Finding("config", "ok", "the configuration has no mistakes")]

    async def _look_at_zfs(self, _: AgentSays) -> list[Finding]:
        try:
            said = await self._run("zfs", "version")
        except CommandMissing:
            text = "ZFS is not installed"
            return [Finding("zfs", "fail", text, hint="apt install zfsutils-linux zfs-dkms")]
        names = dict(_versions(said.out))
        tools, module = names.get("zfs"), names.get("zfs-kmod")
        if tools is None or module is None:
            why = said.words.splitlines()[0] if said.words else ""
            return [Finding("zfs", "fail", "the ZFS module is not loaded", why, "modprobe zfs")]
        if tools != module:
            text = f"the ZFS tools are {tools} and the module is {module}"
            why = "the module in memory is from before an update; new commands may fail"
            return [Finding("zfs", "warn", text, why, "systemctl reboot, when it suits")]
        return [Finding("zfs", "ok", f"ZFS {module}, module and tools agree")]

    async def _look_at_pools(self, _: AgentSays) -> list[Finding]:
        said = await self._run("zpool", "list", "-Hp", "-o", "name,health")
        if not said.ok:
            return [Finding("pools", "unknown", f"the pools cannot be listed: {said.words}")]
        rows = [line.split("\t") for line in said.out.splitlines() if line.count("\t") == 1]
        bad = [
            Finding(
                "pools",
                "warn" if health == "DEGRADED" else "fail",
                f"pool {name} is {health}",
                "nothing can be written to it, and what tries hangs" if health == "SUSPENDED" else "",
                f"zpool status {name}",
            )
            for name, health in rows
            if health != "ONLINE"
        ]
        if not rows:
            return [Finding("pools", "ok", "no pool is imported here")]
        return bad or [Finding("pools", "ok", f"{', '.join(name for name, _ in rows)} online")]

    async def _look_at_delegation(self, agent: AgentSays) -> list[Finding]:
        """Streams of others are received without root, where that is delegated."""
        found = []
        for dataset in agent.roots:
            said = await self._run("zfs", "allow", dataset)
            if not said.ok:
                found.append(Finding("delegation", "unknown", f"zfs allow {dataset}: {said.words}"))
            elif not _delegated(said.out):
                text = f"the user meshkeep may not receive into {dataset}"
                hint = f"zfs allow -u meshkeep create,mount,receive:append {dataset}"
                found.append(Finding("delegation", "fail", text, "no stream for it can be stored", hint))
        if found or not agent.roots:
            return found
        return [
            Finding("delegation", "ok", f"streams into {len(agent.roots)} roots are received without root")
        ]

    async def _look_at_wireguard(self, _: AgentSays) -> list[Finding]:
        if (self._root / "sys/module/wireguard").is_dir():
            return [Finding("wireguard", "ok", "WireGuard is in the kernel")]
        for program in ("usr/bin/wireguard-go", "usr/local/bin/wireguard-go"):
            if (self._root / program).exists():
                text = "this kernel has no WireGuard loaded; there is wireguard-go"
                return [
                    Finding("wireguard", "warn", text, "it is several times slower", "modprobe wireguard")
                ]
        text = "this kernel has no WireGuard loaded"
        return [Finding("wireguard", "fail", text, "without it there is no mesh", "modprobe wireguard")]

    async def _look_at_ports(self, agent: AgentSays) -> list[Finding]:
        if self._settings is None:
            return [Finding("ports", "unknown", "the port of the mesh is in the configuration")]
        port = self._settings.mesh.listen_port
        taken = port in _udp_ports(self._root / "proc/net")
        if agent.joined and not taken:
            text = f"nothing listens on UDP {port}"
            return [Finding("ports", "fail", text, "other nodes cannot call this one", "meshkeep status")]
        if taken and (agent.joined is False or not agent.running):
            text = f"UDP {port} is open, and not by an agent that is in a mesh"
            why = "a tunnel outlives its agent; or another program has the port"
            return [Finding("ports", "warn", text, why, f"ss -lunp sport = :{port}")]
        return [Finding("ports", "ok", f"UDP {port} is {'ours' if taken else 'free'}")]

    async def _look_at_nft(self, agent: AgentSays) -> list[Finding]:
        said = await self._run("nft", "list", "table", *TABLE.split())
        if "not permitted" in said.err.lower():
            return [Finding("nft", "unknown", "only root sees nft tables", hint="sudo meshkeep doctor")]
        if agent.joined is None:
            state = "is there" if said.ok else "is not there"
            return [Finding("nft", "unknown", f"the table {TABLE} {state}; the agent knows if it should be")]
        if agent.joined and not said.ok:
            text = f"the nft table {TABLE} is gone"
            return [
                Finding("nft", "fail", text, "systemctl restart nftables flushes all tables", fix="agent:nft")
            ]
        if not agent.joined and said.ok:
            text = f"the nft table {TABLE} is there, and this host is in no mesh"
            return [Finding("nft", "warn", text, "it still drops packets", fix="nft")]
        return [Finding("nft", "ok", f"the nft table {TABLE} is {'there' if said.ok else 'not needed'}")]

    async def _look_at_hosts(self, agent: AgentSays) -> list[Finding]:
        text = (self._root / "etc/hosts").read_text(encoding="utf-8", errors="surrogateescape")
        if agent.joined is False and BEGIN in text.splitlines():
            why = "the names in it lead nowhere"
            return [
                Finding("hosts", "warn", "/etc/hosts has the block of a mesh we are not in", why, fix="hosts")
            ]
        return [Finding("hosts", "ok", "/etc/hosts has no stale names")] if agent.joined is not None else []

    async def _look_at_clock(self, _: AgentSays) -> list[Finding]:
        if self._now < BEFORE_US:
            text = "the clock shows a time before this program was made"
            return [Finding("clock", "fail", text, "snapshots get wrong dates", "timedatectl set-ntp true")]
        said = await self._run("timedatectl", "show", "-p", "NTPSynchronized", "--value")
        if not said.ok:
            return [Finding("clock", "unknown", f"timedatectl: {said.words}")]
        if said.out.strip() != "yes":
            text = "no time server keeps the clock right"
            why = "what is due, and what may be forgotten, goes by the clock"
            return [Finding("clock", "warn", text, why, "timedatectl set-ntp true")]
        return [Finding("clock", "ok", "a time server keeps the clock right")]

    async def _look_at_nfs(self, _: AgentSays) -> list[Finding]:
        if self._settings is None or not self._settings.shares:
            return []
        said = await self._run("systemctl", "is-active", "nfs-server")
        if said.out.strip() == "active":
            return [Finding("nfs", "ok", "the NFS server runs")]
        text = f"there are {len(self._settings.shares)} shares, and the NFS server does not run"
        return [Finding("nfs", "fail", text, said.words, "systemctl enable --now nfs-server")]

    async def _look_at_systemd(self, agent: AgentSays) -> list[Finding]:
        if not (self._root / "run/systemd/system").is_dir():
            return [Finding("systemd", "unknown", "systemd does not run here")]
        unit = "meshkeep-agent.service"
        active = (await self._run("systemctl", "is-active", unit)).out.strip()
        enabled = (await self._run("systemctl", "is-enabled", unit)).out.strip()
        if active != "active":
            hint = f"systemctl start {unit}"
            why = "it answers all the same: somebody started it by hand" if agent.running else ""
            return [Finding("systemd", "fail", f"{unit} is {active or 'unknown'}", why, hint)]
        if enabled != "enabled":
            text = f"{unit} runs, and does not start at boot"
            return [Finding("systemd", "warn", text, enabled, f"systemctl enable {unit}")]
        return [Finding("systemd", "ok", f"{unit} runs, and starts at boot")]

    async def _look_at_schedulers(self, _: AgentSays) -> list[Finding]:
        how = await SanoidTimer(self._commands, self._root).active()
        if not how:
            return [Finding("schedulers", "ok", "no other scheduler takes or prunes snapshots")]
        if how == UNKNOWN:
            return [Finding("schedulers", "unknown", how)]
        if self._settings is not None and not self._settings.assignments:
            return [Finding("schedulers", "ok", f"{how}, and no policy of ours is beside it")]
        why = "two would prune the same snapshots, so what it manages is left alone here"
        hint = f"meshkeep config import-sanoid --apply && {stop_command(how)}"
        return [Finding("schedulers", "warn", how, why, hint)]

    async def _look_at_room(self, _: AgentSays) -> list[Finding]:
        if not self._state.is_dir():
            return [Finding("room", "unknown", f"there is no {self._state} yet")]
        seen = os.statvfs(self._state)
        free, whole = seen.f_bavail * seen.f_frsize, seen.f_blocks * seen.f_frsize
        text = f"{size(free)} free for {self._state}"
        if free < LEAST_ROOM or (seen.f_files and seen.f_favail < 1000):
            why = "what is not written down is not known after a restart"
            return [Finding("room", "fail", f"only {text}", why, f"df -h {self._state}")]
        if whole and free < LITTLE_ROOM * whole:
            return [Finding("room", "warn", f"only {text}", hint=f"df -h {self._state}")]
        return [Finding("room", "ok", text)]

    async def _look_at_modes(self, _: AgentSays) -> list[Finding]:
        if not self._state.is_dir():
            return []
        loose = await asyncio.to_thread(lambda: sorted(_loose(self._state)))
        if not loose:
            return [Finding("modes", "ok", f"only root enters {self._state}")]
        names = ", ".join(loose[:3]) + (f" and {len(loose) - 3} more" if len(loose) > 3 else "")
        text = f"others than root may read {names}"
        return [Finding("modes", "fail", text, "keys of this node lie there", fix="modes")]

    # -- mending -----------------------------------------------------------------------------------------------

    async def fix(self, wanted: Iterable[str]) -> list[str]:
        """Mend what is named by `Finding.fix`, and say what was done. Raises MeshkeepError, HostsError, OSError."""
        done: list[str] = []
        for name in dict.fromkeys(wanted):
            if name == "modes":
                closed = await asyncio.to_thread(lambda: _tighten(self._state))
                done += [f"closed to others: {', '.join(closed)}"] if closed else []
            elif name == "nft":
                said = await self._run("nft", "delete", "table", *TABLE.split())
                done += [f"removed the nft table {TABLE}"] if said.ok else []
            elif name == "hosts" and await asyncio.to_thread(lambda: update({}, self._root / "etc/hosts")):
                done.append("took the names of a mesh we are not in out of /etc/hosts")
        return done

    async def _run(self, *argv: str) -> Result:
        return await self._commands.run(argv, timeout=PATIENCE)


def exit_level(findings: Iterable[Finding]) -> int:
    """How many problems there are: what only warns, or could not be seen, is none."""
    return sum(one.level == "fail" for one in findings)


def _versions(text: str) -> Iterator[tuple[str, str]]:
    """Of ``zfs-2.3.9-1`` and ``zfs-kmod-2.3.9-1``."""
    for line in text.splitlines():
        name, dash, rest = line.strip().partition("-kmod-")
        if dash:
            yield f"{name}-kmod", rest
        elif line.startswith("zfs-"):
            yield "zfs", line.strip().removeprefix("zfs-")


def _delegated(text: str) -> bool:
    """Whether ``zfs allow`` says that the user may receive; older ones print no ``:append``."""
    for line in text.splitlines():
        words = line.split()
        if words[:2] == ["user", "meshkeep"] and len(words) > 2:
            return any(word in ("receive", "receive:append") for word in words[2].split(","))
    return False


def _udp_ports(folder: Path) -> set[int]:
    """The local ports of all UDP sockets, WireGuard's own too."""
    found = set()
    for name in ("udp", "udp6"):
        with contextlib.suppress(FileNotFoundError):
            for line in (folder / name).read_text().splitlines()[1:]:
                found.add(int(line.split()[1].rpartition(":")[2], 16))
    return found


def _loose(state: Path) -> Iterator[str]:
    """What below *state* others than its owner may read or write, itself too. Follows no link."""
    for path in (state, *_below(state)):
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode) and mode & 0o077:
            yield str(path)


def _below(state: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(state, followlinks=False):
        yield from (Path(folder, name) for name in (*folders, *files))


def _tighten(state: Path) -> list[str]:
    """What was closed."""
    closed = []
    for name in sorted(_loose(state)):
        # Opened first, so that what is changed is what was looked at, and no link.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
            os.fchmod(descriptor, mode & ~0o077)
            closed.append(name)
        finally:
            os.close(descriptor)
    return closed
