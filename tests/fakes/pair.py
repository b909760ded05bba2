"""Two hosts in one process: home replicates to cloud over a real connection on ::1, and restores from it."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mesh.link import IncomingStream, Link, LinkServer, Refusal
from node.errors import Exit, MeshkeepError
from node.job import Report
from node.key_archive import KeyArchive
from node.local_state import LocalState
from node.offers import dataset_of
from node.replica_places import Terms
from node.replicas import Replicas
from node.replicator import Peer, Replicator, RuleSpec
from node.restore import Restorer, Wanted
from node.sent import Sent
from node.testimony import HERE
from replication.returning import Account, Witness
from tests.fakes.workers import FakeWorkers
from tests.fakes.zfs import FakeZfs

HOME, OLD, NEIGHBOUR, CLOUD = (name * 4 for name in ("home", "oldh", "nbor", "clou"))
ROOT = "vault/meshkeep"
PASSPHRASE = b"correct horse"
BEGAN = 1_700_000_000.0


class OwnLists:
    """As `node.testimony.Testimony` on a host that still has its lists."""

    def __init__(self, sent: Sent) -> None:
        self._sent = sent

    async def of(self, owner: str, dataset: str) -> tuple[Account, ...]:
        ledger = self._sent.ledger(dataset)
        if ledger is None:
            return ()
        return (Account(ledger, HERE, (Witness(HERE, "member", ledger.head),)),)


class Clock:
    """What time it is on both hosts."""

    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> float:
        return self.now


class Pair:
    """`owners` is whose roots the caller owns, as cloud sees it; `role` what cloud is, `named` the names of nodes."""

    def __init__(self, archive: Path, room: int = 1 << 30, quota: int | None = None) -> None:
        self.clock = Clock()
        self.home = FakeZfs(clock=self.clock, seed=1, pools={"tank": 1 << 30})
        self.cloud = FakeZfs(clock=self.clock, seed=2, pools={"vault": room})
        self.sending, self.storing = FakeWorkers(self.home), FakeWorkers(self.cloud)
        self.owners = [HOME]
        self.role = "vault"
        self.terms: Terms | None = Terms(ROOT, quota)
        self.port = 0
        self.asked: list[str] = []
        self.refusals: list[Refusal] = []
        self.archive = archive
        self.named: Mapping[str, str] = {}
        self.replicas = self.serving()
        self.sent = Sent(self.home, archive / "sent", self.clock)
        self.replicator = self.another_replicator()
        workers: Any = self.sending
        self.local = LocalState(archive)
        self.restorer = Restorer(
            self.home, workers, self, self.local, lambda _: OwnLists(self.sent), pause=_at_once
        )

    def serving(self) -> Replicas:
        """The agent on cloud; a new one is what comes after a crash."""

        async def terms() -> Terms | None:
            return self.terms

        workers: Any = self.storing
        self.replicas = Replicas(
            self.cloud,
            workers,
            KeyArchive(self.archive),
            terms=terms,
            only_raw=lambda: self.role == "vault",
            now=self.clock,
            named=lambda node: self.named.get(node, node),
        )
        return self.replicas

    def another_replicator(self) -> Replicator:
        """A second agent on home; it must do no harm."""
        workers: Any = self.sending
        return Replicator(self.home, workers, self, self.clock, sent=self.sent)

    # What the replicator knows of the mesh

    def peer(self, name: str) -> Peer:
        if name != "cloud":
            raise MeshkeepError(f"no {name}", code="no_node", exit=Exit.NOT_FOUND)
        return Peer(CLOUD, "cloud", self.role, "::1")

    def link(self) -> Link:
        return Link("::1", port=self.port, source_ports=range(1))

    # What a test says

    async def encrypted(self, dataset: str = "tank/home") -> None:
        await self.home.create(dataset, {}, passphrase=PASSPHRASE)

    async def snap(self, *names: str, data: bytes = b"more", dataset: str = "tank/home") -> None:
        """Write, take a snapshot, an hour later the next."""
        for name in names:
            self.home.write(dataset, data)
            await self.home.snapshot([f"{dataset}@{name}"])
            self.clock.now += 3600

    def rule(self, dataset: str = "tank/home", **more: Any) -> None:
        self.replicator.configure([RuleSpec(dataset, "cloud", **more)])

    async def replicate(self, dataset: str = "tank/home", **more: Any) -> Report:
        self.rule(dataset, **more)
        return await self.replicator.run_once(self.replicator.job(dataset, "cloud"))

    async def refused(self, dataset: str = "tank/home", **more: Any) -> MeshkeepError:
        """The error of a run that must fail."""
        try:
            await self.replicate(dataset, **more)
        except MeshkeepError as error:
            return error
        raise AssertionError("it was not refused")

    async def restore(self, to: str = "tank/back", **more: Any) -> dict[str, Any]:
        async def ignore(_: object) -> None:
            return None

        return await self.restorer.restore(Wanted("tank/home", "cloud", to, **more), ignore)

    def stored(self, owner: str = HOME, dataset: str = "tank/home") -> list[str]:
        """The names of the snapshots on cloud."""
        node = self.cloud.state.nodes.get(f"{ROOT}/{owner}/{dataset}")
        return [] if node is None else list(node.snapshots)

    async def __call__(
        self, caller: str, verb: str, args: dict[str, Any], stream: IncomingStream
    ) -> dict[str, Any]:
        """What cloud answers."""
        self.asked.append(verb)
        if verb == "replica.receive" and self.refusals:
            raise self.refusals.pop()
        match verb:
            case "replica.state":
                return await self.replicas.state(self.owners, dataset_of(args))
            case "replica.states":
                return await self.replicas.states(self.owners, args)
            case "replica.list":
                return await self.replicas.listing(self.owners, args)
            case "replica.receive":
                return await self.replicas.receive(self.owners, args, stream)
            case "replica.abort":
                return await self.replicas.abort(self.owners, dataset_of(args))
            case "replica.rotate":
                return await self.replicas.rotate(self.owners, args)
            case "replica.wraps":
                return await self.replicas.wraps(self.owners, args)
            case "replica.send":
                return await self.replicas.send(self.owners, args, stream)
        raise Refusal("unknown_verb", verb)


@asynccontextmanager
async def served(pair: Pair) -> AsyncIterator[Pair]:
    """Cloud listens while the block runs."""
    server = LinkServer("::1", 0, handler=pair, source_port_limit=None)
    pair.port = server.port
    task = asyncio.ensure_future(server.serve())
    try:
        yield pair
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def dump(zfs: FakeZfs) -> dict[str, Any]:
    """All there is on a host, for comparing before and after."""
    return {
        name: {
            "data": node.data,
            "properties": dict(node.properties),
            "wrap": node.wrap,
            "partial": None if node.partial is None else (node.partial.to_guid, node.partial.body),
            "bookmarks": sorted(node.bookmarks),
            "snapshots": {
                one.name: (one.guid, one.data, sorted(one.holds), dict(one.properties))
                for one in node.snapshots.values()
            },
        }
        for name, node in sorted(zfs.state.nodes.items())
    }


async def _at_once(_seconds: float) -> None:
    """Instead of waiting."""
