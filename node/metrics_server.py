"""Gathers what `node.metrics` tells, and serves it by HTTP where the settings say so.

A scrape is answered from memory: a loop looks at ZFS once a minute while someone may scrape.
"""

import asyncio
import contextlib
import ipaddress
import logging
import platform
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from mesh.swim import MemberState
from node.errors import Exit, MeshkeepError
from node.job import Job
from node.membership import Membership
from node.metric_facts import DrillFacts, Facts, NodeFacts, Pools, ReplicaFacts, Snapshots, StoredFacts
from node.metrics import dataset_facts, exposition
from node.status import Problem
from node.version import version
from policy.rules import Resolution
from zfs.door import Zfs
from zfs.errors import ZfsError
from zfs.model import Pool, PoolStatus, Snapshot

log = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between two looks at ZFS, and between two attempts to listen."""

PATIENCE = 10.0
"""Seconds that ZFS has for an answer; what was seen before stays, and its age tells."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


async def _nothing_stored() -> Mapping[str, int]:
    return {}


@dataclass(frozen=True, slots=True)
class Sources:
    """Where what is told comes from; all but the first two answer from memory.

    `histories` has the snapshots of the datasets that it is asked for. By dataset: `waiting`, prunes that wait for a
    person; `pruned` and `unpruned`, snapshots destroyed by policy and failures at it since the agent began. `states` is
    what gossip holds of the nodes, by id. `stored` has the bytes stored for each owner, by name, and looks; `held`
    how many snapshots of them are held, `refused` how many streams were not taken, by code, and `keys_waiting` the
    changed keys that wait for a word, by owner.
    """

    resolution: Callable[[], Awaitable[Resolution]]
    histories: Callable[[Iterable[str]], Awaitable[Mapping[str, Sequence[Snapshot]]]]
    jobs: Callable[[], Sequence[Job]]
    states: Callable[[], Mapping[str, MemberState]]
    problems: Callable[[], Iterable[Problem]]
    waiting: Callable[[], Mapping[str, int]]
    pruned: Callable[[], Mapping[str, int]]
    unpruned: Callable[[], Mapping[str, int]]
    drills: Callable[[], Iterable[DrillFacts]] = tuple
    stored: Callable[[], Awaitable[Mapping[str, int]]] = _nothing_stored
    held: Callable[[], Mapping[str, int]] = dict
    refused: Callable[[], Mapping[str, int]] = dict
    keys_waiting: Callable[[], Mapping[str, int]] = dict


class Metrics:
    """`listen` is the address:port of the settings, or None."""

    def __init__(
        self,
        zfs: Zfs,
        mesh: Membership,
        sources: Sources,
        *,
        listen: Callable[[], str | None],
        now: Callable[[], float] = time.time,
        patience: float = PATIENCE,
    ) -> None:
        self._zfs = zfs
        self._mesh = mesh
        self._from = sources
        self._listen = listen
        self._now = now
        self._patience = patience
        self._version = ""
        self._snapshots: Snapshots | None = None
        self._pools: Pools | None = None
        self._stored: Mapping[str, int] = {}
        self._reload_ok = True
        self._reloaded: int | None = None
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._at: str | None = None
        self._not_served: Problem | None = None
        self._failing: dict[str, str] = {}

    # -- what happens ------------------------------------------------------------------------------------------

    def configured(self) -> None:
        """A new configuration holds: listen where it says."""
        self._reload_ok, self._reloaded = True, int(self._now())
        self._changed.set()

    def not_configured(self) -> None:
        """The configuration on disk has mistakes."""
        self._reload_ok = False

    async def run(self) -> None:
        """Until cancelled: serve, and keep what is served fresh."""
        try:
            while True:
                self._changed.clear()
                await self._tried("serving", self.settle)
                if self._at is not None:
                    await self.look()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(EVERY):
                        await self._changed.wait()
        finally:
            await self._stop()

    @property
    def problem(self) -> Problem | None:
        """What keeps metrics from being served, or from being fresh."""
        if self._not_served is not None or not self._failing:
            return self._not_served
        failing = "; ".join(f"{what}: {why}" for what, why in sorted(self._failing.items()))
        return Problem(
            "metrics_failed", f"metrics are not up to date: {failing}", "journalctl -u meshkeep-agent"
        )

    # -- serving -----------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Listen where the settings say, or note the problem that keeps it from that."""
        wanted = self._listen()
        if wanted != self._at:
            await self._stop()
            if wanted is not None:
                self._not_served = await self._start(wanted)
        if wanted is None:
            self._not_served = None

    async def _start(self, wanted: str) -> Problem | None:
        try:
            host, port = self._place(wanted)
            app = web.Application()
            app.router.add_get("/metrics", self._serve)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
            await runner.setup()
            try:
                await web.TCPSite(runner, host, port).start()
            except OSError:
                await runner.cleanup()
                raise
        except (MeshkeepError, OSError) as error:
            why = error.strerror or error if isinstance(error, OSError) else error
            text = f"metrics are not served at {wanted}: {why}"
            if self._not_served is None or self._not_served.text != text:
                log.warning("%s", text)
            return Problem("metrics_failed", text, "meshkeep config check")
        self._runner, self._at = runner, wanted
        log.info("metrics are served at http://%s/metrics", wanted)
        return None

    def _place(self, wanted: str) -> tuple[str, int]:
        """Raises MeshkeepError for an address that more than this host and the mesh may reach."""
        host, _, port = wanted.rpartition(":")
        host = host.strip("[]")
        with contextlib.suppress(ValueError):
            address = ipaddress.ip_address(host)
            if address.is_loopback or str(address) == self._own_address():
                return host, int(port)
        raise MeshkeepError(
            "only a loopback address or this node's own mesh address is served, and they name your datasets",
            code="metrics_open",
            exit=Exit.REFUSED,
        )

    def _own_address(self) -> str | None:
        if not (self._mesh.joined and self._mesh.admitted):
            return None
        return str(ipaddress.ip_address(self._mesh.address_of(self._mesh.me().id)))

    async def _stop(self) -> None:
        runner, self._runner, self._at = self._runner, None, None
        if runner is not None:
            await runner.cleanup()

    async def _serve(self, http: web.Request) -> web.Response:
        if not self._may_read(http.remote or ""):
            raise web.HTTPForbidden(text="this node may not read metrics\n")
        return web.Response(body=self._text(), headers={"Content-Type": CONTENT_TYPE})

    def _may_read(self, remote: str) -> bool:
        """This host itself, and active nodes of the mesh but vaults, which may ask for nothing."""
        with contextlib.suppress(ValueError):
            address = ipaddress.ip_address(remote)
            if address.is_loopback or str(address) == self._own_address():
                return True
            caller = self._mesh.caller(str(address)) if self._mesh.joined else None
            return caller is not None and caller.role != "vault"
        return False

    # -- telling -----------------------------------------------------------------------------------------------

    async def verb(self, _: object = None) -> dict[str, Any]:
        """The verb ``metrics``: looks first."""
        await self.look()
        return {"schema": "meshkeep.metrics/1", "text": self._text().decode()}

    def _text(self) -> bytes:
        return exposition(self.facts())

    def facts(self) -> Facts:
        """What is known now, without asking anything."""
        return Facts(
            now=int(self._now()),
            version=version(),
            python=platform.python_version(),
            zfs=self._version,
            snapshots=self._snapshots,
            pools=self._pools,
            reload_ok=self._reload_ok,
            reloaded=self._reloaded,
            nodes=tuple(self._nodes()),
            replicas=tuple(map(_replica, self._from.jobs())),
            waiting=dict(self._from.waiting()),
            problems=Counter(problem.code for problem in self._from.problems()),
            pruned=dict(self._from.pruned()),
            unpruned=dict(self._from.unpruned()),
            drills=tuple(self._from.drills()),
            stored=tuple(self._stored_facts()),
            refused=dict(self._from.refused()),
            keys_waiting=dict(self._from.keys_waiting()),
        )

    def _stored_facts(self) -> Iterable[StoredFacts]:
        held = self._from.held()
        return (StoredFacts(owner, count, held.get(owner)) for owner, count in self._stored.items())

    def _nodes(self) -> Iterable[NodeFacts]:
        if not self._mesh.joined:
            return
        states = self._from.states()
        for member in self._mesh.view().active():
            if member.id == self._mesh.identity.id:
                yield NodeFacts(member.name, member.role, "alive", True, "direct")
                continue
            path, handshake = self._mesh.path(member)
            known = states.get(member.id, MemberState())
            up = None if known.state == "unknown" else known.state in ("alive", "suspect")
            way = "direct" if path.startswith("direct") else "none"
            yield NodeFacts(member.name, member.role, known.state, up, way, handshake, known.rtt)

    # -- looking -----------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """See what ZFS has. Where it does not answer, what was seen before stays, and its age tells."""
        await asyncio.gather(
            self._within("its version", self._look_at_version),
            self._within("snapshots", self._look_at_snapshots),
            self._within("pools", self._look_at_pools),
            self._within("what is stored here", self._look_at_stored),
        )

    async def _within(self, what: str, look: Callable[[], Awaitable[None]]) -> None:
        async def patiently() -> None:
            async with asyncio.timeout(self._patience):
                await look()

        try:
            await self._tried(what, patiently)
        except TimeoutError:
            log.info("metrics: no answer of ZFS about %s within %g s", what, self._patience)
        except ZfsError as error:
            log.info("metrics: ZFS does not tell of %s: %s", what, error)

    async def _tried(self, what: str, step: Callable[[], Awaitable[None]]) -> None:
        """A step of a loop that must outlive it: what nobody expects to go wrong is a problem until it works.

        Raises TimeoutError, ZfsError.
        """
        try:
            await step()
        except (TimeoutError, ZfsError):
            self._failing.pop(what, None)
            raise
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            if self._failing.get(what) != why:
                log.exception("metrics: %s failed", what)
            self._failing[what] = why
        else:
            self._failing.pop(what, None)

    async def _look_at_version(self) -> None:
        if not self._version:
            self._version = (await self._zfs.version())[0]

    async def _look_at_snapshots(self) -> None:
        at = int(self._now())
        resolution = await self._from.resolution()
        histories = await self._from.histories(resolution.chosen)
        unchanged: list[str] = []
        if any(chosen.policy.skip_unchanged for chosen in resolution.chosen.values()):
            unchanged = [dataset.name for dataset in await self._zfs.datasets() if dataset.written == 0]
        datasets = tuple(
            dataset_facts(name, chosen, histories[name], unchanged)
            for name, chosen in resolution.chosen.items()
            if name in histories
        )
        self._snapshots = Snapshots(at, datasets, resolution.unmatched)

    async def _look_at_stored(self) -> None:
        self._stored = await self._from.stored()

    async def _look_at_pools(self) -> None:
        at = int(self._now())
        pools = await self._zfs.pools()
        self._pools = Pools(at, tuple(await asyncio.gather(*map(self._status, pools))))

    async def _status(self, pool: Pool) -> PoolStatus:
        """Of one that does not answer, what the list of pools says of it."""
        try:
            async with asyncio.timeout(self._patience / 2):
                return await self._zfs.pool_status(pool.name)
        except (TimeoutError, ZfsError):
            return PoolStatus(pool.name, pool.health, (), None, pool.size, pool.free, pool.capacity)


def _replica(job: Job) -> ReplicaFacts:
    return ReplicaFacts(
        job.dataset,
        job.target,
        job.state,
        job.rule.late_after,
        job.as_of,
        job.behind,
        job.bytes_total_sent,
        pinned=job.pinned,
        resumed=job.resumed,
        outcome=job.outcome,
        seconds=None if job.ended is None or job.began is None else max(0, job.ended - job.began),
        run_bytes=job.run_bytes,
    )
