"""Home and its targets in one process, whose agents can be killed and made anew from what is on their disks."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mesh.link import IncomingStream, Link
from mesh.link_server import LinkServer
from node.errors import MeshkeepError
from node.job import Report
from node.replicator import Peer, RuleSpec
from node.sent import Sent
from tests.fakes.pair import Pair
from tests.faults.hosts import PATIENCE, Door, Kill, Life, workers_of
from tests.faults.points import Script, Strike
from zfs.errors import ZfsError

FAR = "farr" * 4
Outcomes = dict[tuple[str, str], Report | MeshkeepError]


class Listener(LinkServer):
    """Leaves no connection open when it is cancelled while it accepts one: with a process, that ends too."""

    async def _accept(self, loop: asyncio.AbstractEventLoop) -> tuple[socket.socket, tuple[str, int]]:
        while True:
            with contextlib.suppress(BlockingIOError):
                sock, peer = self._listener.accept()
                sock.setblocking(False)
                return sock, peer[:2]
            readable = asyncio.Event()
            loop.add_reader(self._listener, readable.set)
            try:
                await readable.wait()
            finally:
                loop.remove_reader(self._listener)


class Target(Pair):
    """One node that keeps replicas, and the server in its agent."""

    def __init__(self, archive: Path, script: Script, kill: Kill) -> None:
        super().__init__(archive)
        self.script, self._kill = script, kill
        self._life = Life("cloud", script, kill)
        self._serving: asyncio.Task[None] | None = None
        self._server: LinkServer | None = None
        self.answer: Callable[[str, dict[str, Any]], dict[str, Any]] = lambda _, answer: answer
        self.hear: Callable[[str, dict[str, Any]], dict[str, Any]] = lambda _, args: args

    def switch_on(self) -> None:
        """A new agent, at the port of the last one."""
        self._life = Life("cloud", self.script, self._kill)
        self.storing = workers_of(self.cloud, self._life, self.gone)
        disk, door = self.cloud, Door(self.cloud, self._life)
        self.cloud = door  # type: ignore[assignment]
        try:
            self.serving()
        finally:
            self.cloud = disk
        self._server = Listener("::1", self.port, handler=self, source_port_limit=None)
        self.port = self._server.port
        self._serving = asyncio.ensure_future(self._server.serve())

    def switch_off(self) -> None:
        """Dead from now on; `gone` waits for the sweeping."""
        self._life.over = True
        if self._serving is not None:
            self._serving.cancel()

    async def gone(self) -> None:
        if self._serving is not None:
            assert self._server is not None
            self._server.close()  # its task may have died before it began
            await asyncio.wait([self._serving], timeout=PATIENCE)
            assert self._serving.done(), "the target's agent cannot be swept away"
            self._serving = None

    @property
    def on(self) -> bool:
        return self._serving is not None

    async def __call__(
        self, caller: str, verb: str, args: dict[str, Any], stream: IncomingStream
    ) -> dict[str, Any]:
        strike = self.script.next("cloud", "request", verb)
        if strike is not None and strike.fault == "lost":
            await self._break(caller)
        said = await super().__call__(caller, verb, self.hear(verb, args), stream)
        if strike is not None and strike.fault == "unsaid":
            await self._break(caller)
        return self.answer(verb, said)

    async def _break(self, caller: str) -> None:
        assert self._server is not None
        self._server.cut(caller)
        await asyncio.get_running_loop().create_future()


class World(Target):
    """Home, and cloud; `far` is a second target. `script` says what strikes."""

    def __init__(self, archive: Path, script: Script | None = None) -> None:
        script = script or Script()
        super().__init__(archive / "cloud", script, self._die)
        self.far = Target(archive / "far", script, self._die)
        self.rules: Sequence[RuleSpec] = ()
        self.dead: set[str] = set()
        self._died = asyncio.Event()
        self._run: asyncio.Task[Outcomes] | None = None
        self._home = Life("home", script, self._die)
        self._begins = True

    def start_home(self) -> None:
        """A new agent on home."""
        self._home = Life("home", self.script, self._die)
        self._begins = True
        self.sending = workers_of(self.home, self._home, self._targets_gone)
        disk, door = self.home, Door(self.home, self._home)
        self.home = door  # type: ignore[assignment]
        try:
            self.sent = Sent(self.home, self.archive / "sent", self.clock)
            self.replicator = self.another_replicator()
        finally:
            self.home = disk
        self.replicator.configure(self.rules)

    def obey(self, *rules: RuleSpec) -> None:
        """The rules of home's configuration."""
        self.rules = rules
        self.replicator.configure(rules)

    # What the replicator knows of the mesh

    def peer(self, name: str) -> Peer:
        return Peer(FAR, "far", self.far.role, "far") if name == "far" else super().peer(name)

    def link(self) -> Link:
        return _Routes(super().link(), Link("::1", port=self.far.port, source_ports=range(1)))  # type: ignore[return-value]

    # Runs, and ends of them

    async def run(self) -> Outcomes:
        """One run of every job. Empty if home died of it; who is dead is started again."""
        self._run = asyncio.ensure_future(self._all_jobs())
        await asyncio.wait([self._run], timeout=PATIENCE)
        assert self._run.done(), "the run does not end"
        run, self._run = self._run, None
        await self._swept()
        return {} if run.cancelled() or "home" in self.dead else run.result()

    async def _all_jobs(self) -> Outcomes:
        with contextlib.suppress(ZfsError):  # the jobs stay as they are
            await self.replicator.refresh()
        for job in self.replicator.jobs if self._begins else ():
            with contextlib.suppress(MeshkeepError, ZfsError):  # the first run says what is wrong
                await self.replicator._runs.recall(job)
        self._begins = False
        return await self.replicator.run_tree(self.replicator.jobs)

    async def revive(self) -> list[str]:
        """Start the agents that died; says which."""
        dead, self.dead = sorted(self.dead), set()
        if "cloud" in dead:
            for target in self._targets():
                target.switch_on()
        if "home" in dead:
            self.start_home()
        return dead

    def _die(self, who: str) -> None:
        """Nothing of an agent that is dead does anything any more."""
        self._died.set()
        self.dead |= {"home", "cloud"} if who == "both" else {who}
        if "cloud" in self.dead:
            for target in self._targets():
                target.switch_off()
        if "home" in self.dead:
            self._home.over = True
            if self._run is not None:
                self._run.cancel()

    async def _swept(self) -> None:
        """Until nothing runs but the servers that are on. Somebody may die of what still runs."""
        while True:
            self._died.clear()
            if "cloud" in self.dead:
                await self._targets_gone()
            for life in (self._home, *(target._life for target in self._targets())):
                for task in filter(None, life.stuck):
                    task.cancel()
                life.stuck.clear()
            servers = {target._serving for target in self._targets() if target.on}
            rest = asyncio.all_tasks() - servers - self._lasting
            if not rest:
                return
            died = asyncio.ensure_future(self._died.wait())
            done, _ = await asyncio.wait({*rest, died}, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            died.cancel()
            await asyncio.wait([died])
            assert done, f"still running: {rest}"

    async def _targets_gone(self) -> None:
        for target in self._targets():
            await target.gone()

    def _targets(self) -> list[Target]:
        return [self, self.far]

    @property
    def _lasting(self) -> set[Any]:
        current = asyncio.current_task()
        return {current} | self.outside

    outside: set[Any] = set()  # noqa: RUF012


class _Routes:
    """The link to whichever target."""

    def __init__(self, cloud: Link, far: Link) -> None:
        self._cloud, self._far = cloud, far

    def _of(self, address: str) -> Link:
        return self._far if address == "far" else self._cloud

    def call(self, address: str, *args: Any, **named: Any) -> Any:
        return self._of(address).call("::1", *args, **named)

    def stream(self, address: str, *args: Any, **named: Any) -> Any:
        return self._of(address).stream("::1", *args, **named)


@asynccontextmanager
async def world_of(archive: Path, strikes: Sequence[Strike] = ()) -> AsyncIterator[World]:
    """All agents are on."""
    world = World(archive, Script(strikes))
    world.outside = asyncio.all_tasks()
    world.switch_on()
    world.far.switch_on()
    world.start_home()
    try:
        yield world
    finally:
        world.script.disarm()
        world._die("both")
        await world._swept()
