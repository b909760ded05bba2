"""One host and several that keep its replicas, each behind a real connection on ::1, in one process."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mesh.link import IncomingStream, Link, LinkServer, Refusal
from node.errors import Exit, MeshkeepError
from node.key_archive import KeyArchive
from node.local_state import LocalState
from node.replica_places import Terms
from node.replicas import Replicas
from node.replicator import Peer, Replicator, RuleSpec
from node.restore import Restorer, Wanted
from node.restore_host import HostRestorer, HostWanted
from node.sent import Sent
from tests.fakes.pair import HOME, PASSPHRASE, Clock, OwnLists
from tests.fakes.workers import FakeWorkers
from tests.fakes.zfs import FakeZfs


class Keeper:
    """A node that stores. `lies` replaces its answer to ``replica.list``."""

    def __init__(self, path: Path, name: str, role: str, clock: Clock) -> None:
        self.peer = Peer((name * 16)[:16], name, role, name)
        self.zfs = FakeZfs(clock=clock, seed=len(name) * 100 + ord(name[0]), pools={"vault": 1 << 30})
        self.workers = FakeWorkers(self.zfs)
        self.owners = [HOME]
        self.lies: dict[str, Any] | None = None
        self.port = 0

        async def terms() -> Terms:
            return Terms("vault/meshkeep")

        workers: Any = self.workers
        only_raw = role == "vault"
        archive = KeyArchive(path / f"keys-{name}")
        self.replicas = Replicas(
            self.zfs, workers, archive, terms=terms, only_raw=lambda: only_raw, now=clock
        )

    async def __call__(
        self, caller: str, verb: str, args: dict[str, Any], stream: IncomingStream
    ) -> dict[str, Any]:
        match verb:
            case "replica.state":
                return await self.replicas.state(self.owners, args["dataset"])
            case "replica.states":
                return await self.replicas.states(self.owners, args)
            case "replica.list":
                return self.lies or await self.replicas.listing(self.owners, args)
            case "replica.receive":
                return await self.replicas.receive(self.owners, args, stream)
            case "replica.send":
                return await self.replicas.send(self.owners, args, stream)
        raise Refusal("unknown_verb", verb)


class Keepers:
    """home, which has pool tank, and its keepers by name."""

    def __init__(self, path: Path, **roles: str) -> None:
        self.clock = Clock()
        self.home = FakeZfs(clock=self.clock, seed=1, pools={"tank": 1 << 30})
        self.keepers = {name: Keeper(path, name, role, self.clock) for name, role in roles.items()}
        self.local = LocalState(path)
        self.workers = FakeWorkers(self.home)
        self.told: list[str] = []
        workers: Any = self.workers
        self.sent = Sent(self.home, path / "sent", self.clock)
        self.replicator = Replicator(self.home, workers, self, self.clock, sent=self.sent)
        self.restorer = Restorer(
            self.home,
            workers,
            self,
            self.local,
            lambda _: OwnLists(self.sent),
            pause=_at_once,
            others=lambda: self.others(),
        )
        self.host = HostRestorer(self.home, self.restorer, self.local)

    def others(self) -> Sequence[Peer]:
        return [one.peer for one in self.keepers.values()]

    def peer(self, name: str) -> Peer:
        if name not in self.keepers:
            raise MeshkeepError(f"no {name}", code="no_node", exit=Exit.NOT_FOUND)
        return self.keepers[name].peer

    def link(self) -> Link:
        lines: Any = _Lines({name: one.port for name, one in self.keepers.items()})
        return lines  # type: ignore[no-any-return]

    async def encrypted(self, *datasets: str) -> None:
        for dataset in datasets:
            await self.home.create(dataset, {}, passphrase=PASSPHRASE)

    async def snap(self, dataset: str, *names: str, data: bytes = b"more") -> None:
        """Write, take a snapshot, an hour later the next."""
        for name in names:
            self.home.write(dataset, data)
            await self.home.snapshot([f"{dataset}@{name}"])
            self.clock.now += 3600

    async def replicate(self, dataset: str, node: str, **more: Any) -> None:
        self.replicator.configure([RuleSpec(dataset, node, **more)])
        await self.replicator.run_once(self.replicator.job(dataset, node))

    def burn(self) -> None:
        """All of home's datasets are gone; the pool is there, and empty."""
        self.home.state.nodes = {"tank": self.home.state.nodes["tank"]}

    async def restore(self, dataset: str, to: str, node: str | None = None, **more: Any) -> dict[str, Any]:
        return await self.restorer.restore(Wanted(dataset, node, to, **more), self._tell)

    async def restore_host(self, **more: Any) -> dict[str, Any]:
        return await self.host.run(HostWanted(**more), self._tell)

    async def _tell(self, event: Any) -> None:
        if "text" in event:
            self.told.append(event["text"])

    def here(self) -> list[str]:
        """The datasets of home, but the pool."""
        return sorted(name for name in self.home.state.nodes if "/" in name)

    def snapshots(self, dataset: str) -> list[str]:
        return list(self.home.state.nodes[dataset].snapshots)


class _Lines:
    """As `mesh.link.Link`, with a port of its own for each peer: all are on ::1."""

    def __init__(self, ports: dict[str, int]) -> None:
        self._ports = ports

    def _link(self, address: str) -> Link:
        return Link("::1", port=self._ports[address], source_ports=range(1))

    async def call(self, address: str, *args: Any, **more: Any) -> dict[str, Any]:
        return await self._link(address).call("::1", *args, **more)

    @asynccontextmanager
    async def stream(self, address: str, *args: Any, **more: Any) -> AsyncIterator[Any]:
        async with self._link(address).stream("::1", *args, **more) as stream:
            yield stream


@asynccontextmanager
async def listening(keepers: Keepers) -> AsyncIterator[Keepers]:
    """All keepers listen while the block runs."""
    tasks = []
    for keeper in keepers.keepers.values():
        server = LinkServer("::1", 0, handler=keeper, source_port_limit=None)
        keeper.port = server.port
        tasks.append(asyncio.ensure_future(server.serve()))
    try:
        yield keepers
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


async def _at_once(_seconds: float) -> None:
    """Instead of waiting."""
