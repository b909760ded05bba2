"""The agent: the one place where the real doors are picked and everything is wired, started and stopped."""

import asyncio
import contextlib
import logging
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.door import GuestDoor, IssuerDoor
from mesh.endpoints import Endpoint
from mesh.firewall import Firewall, FirewallError
from mesh.gossip import Gossip
from mesh.hosts import HostsError
from mesh.link_errors import LinkError
from mesh.link_server import LinkServer
from mesh.objects import MAX_REPORT
from mesh.store import DEFAULT, MeshStore, StoreError
from mesh.swim import Event, MemberState, Peer, Swim
from mesh.trust import Member
from mesh.wireguard.device import WireGuardError
from mesh.wireguard.netlink import KernelWireGuard
from node import status
from node.admission import Admissions
from node.adopt import Adopter
from node.api import Api, Request
from node.checks import Checks
from node.clock import ClockWatch
from node.commands import Commands
from node.copies import keepers
from node.decrees import Decrees
from node.doctor_verbs import DoctorVerbs
from node.drill import Drill
from node.drill_rounds import DrillRounds
from node.encrypt import Encryptor
from node.errors import Exit, MeshkeepError
from node.exchange import Exchange
from node.file_fetch import FileFetcher
from node.first_days import FirstDays
from node.hooks import HookRunner
from node.jobs_verbs import JobVerbs
from node.joining import Joining
from node.key_archive import KeyArchive
from node.key_verbs import KeyApprovals
from node.leftovers import Leftovers, Nodes
from node.local_state import LocalState
from node.manifest_apply import Giver
from node.manifest_desk import ManifestDesk
from node.manifest_store import ManifestStore
from node.manifests import Manifests
from node.membership import INTERFACE, Membership
from node.metrics_server import Metrics, Sources
from node.mounts import Mounts
from node.nfs import Exports
from node.overview import Overview
from node.own_keys import OwnKeys
from node.peer_api import PeerApi
from node.policy_verbs import PolicyVerbs
from node.promises import Promises
from node.prune_verbs import PruneVerbs
from node.pruner import Pruner
from node.recognise import recognised
from node.replica_keeper import ReplicaKeeper
from node.replicas import Replicas
from node.replicator import Replicator
from node.restore import Restorer
from node.restore_host import HostRestorer
from node.restore_verbs import RestoreVerbs
from node.rotation_verbs import RotationVerbs
from node.rulebook import Rules
from node.sanoid_timer import SanoidTimer
from node.scratch import Scratches
from node.seed import SeedExport, SeedImport
from node.sent import Sent
from node.settings import CONFIG_DIR, ConfigError, Settings, config_files, load
from node.sharing import Sharing
from node.snapshot_verbs import SnapshotVerbs
from node.snapshot_view import SnapshotViews
from node.snapshotter import Snapshotter
from node.status import Problem
from node.storage import Storage, node_roots
from node.systemd import Notifier
from node.taker import Taker
from node.terms_desk import TermsDesk
from node.terms_verbs import TermsVerbs
from node.testimony import Gathering, SentDesk
from node.transfers import Workers, worker_command
from node.verbs import DataVerbs
from node.version import version
from node.version_gates import VersionGates
from node.wrap_back import WrapBack
from node.wrap_rounds import WrapRounds
from node.wrap_verbs import WrapVerbs
from zfs.errors import NotFound, ZfsError
from zfs.libzfs import LibZfs
from zfs.model import Dataset
from zfs.names import InvalidName

log = logging.getLogger("meshkeep")

SOCKET = Path("/run/meshkeep/agent.sock")
STATE = Path("/var/lib/meshkeep")
TEND_S = 3.0
SHARE_S = 30.0
REPORT_S = 30.0
TEND_REPLICAS_S = 300.0
MANIFEST_S = 120.0
MANIFEST_PAUSE_S = 5.0
# What a host can be in the way with; everything else is a bug and logged with its traceback.
TROUBLE = (FirewallError, WireGuardError, HostsError, StoreError, MeshkeepError, ZfsError, OSError)


@dataclass(frozen=True, slots=True)
class Places:
    """Where the agent lives on disk."""

    config: Path = CONFIG_DIR
    state: Path = STATE
    mesh: Path = DEFAULT
    socket: Path = SOCKET


class Agent:
    """One run of the agent."""

    def __init__(self, places: Places, notifier: Notifier) -> None:
        self._places = places
        self._notifier = notifier
        self._settings = Settings()
        self._problems: dict[str, Problem] = {}
        self._news = asyncio.Event()
        self._reported = asyncio.Event()
        self._listed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._rules_changed = asyncio.Event()
        self._told = asyncio.Event()
        self._known: dict[str, str] = {}
        self._gossip: Gossip | None = None
        self._server: LinkServer | None = None
        self._running: list[asyncio.Task[None]] = []
        self._group: asyncio.TaskGroup | None = None
        self._wire()

    def _wire(self) -> None:
        """Everything that exists for the whole run."""
        self.zfs = LibZfs()
        self.gates = VersionGates(self.zfs)
        self.wireguard = KernelWireGuard()
        self.workers = Workers(worker_command())
        self.mesh = Membership(
            MeshStore(self._places.mesh),
            LocalState(self._places.state),
            self.wireguard,
            Firewall(),
            port=lambda: self._settings.mesh.listen_port,
            domain=lambda: self._settings.mesh.domain,
            endpoints=lambda: self._settings.mesh.endpoints,
            vault_ports=lambda: self._settings.mesh.vault_ports,
        )
        self.mesh.changed.append(self._mesh_changed)
        self.storage = Storage(self.zfs, self.mesh.local, lambda: self._settings.storage_under)
        keys = self._keys = KeyArchive(self._places.state / "keys")
        self.replicas = Replicas(
            self.zfs,
            self.workers,
            keys,
            terms=self.storage.terms,
            only_raw=lambda: self.mesh.my_role() == "vault",
            now=time.time,
            named=self._name_of,
        )
        self.decrees = Decrees(self.mesh, heard=self.mesh.local.heard)
        self.approvals = KeyApprovals(
            self.zfs,
            keys,
            terms=self.storage.terms,
            named=self._name_of,
            words=self.decrees.approvals,
        )
        self.wraps = WrapRounds(self.zfs, keys, terms=self.storage.terms)
        self.promises = Promises(
            self.zfs,
            keep=lambda agreed: self.storage.keep(self._settings.keep, agreed),
            words=self.decrees.words,
            named=self._name_of,
        )
        self.keeper = ReplicaKeeper(
            self.zfs,
            terms=self.storage.terms,
            promises=self.promises,
            receiving=lambda: self.replicas.receiving,
            named=self._name_of,
        )
        self.sent = Sent(self.zfs, self._places.state / "sent", time.time)
        self.sent.changed = self._listed.set
        self.replicator = Replicator(
            self.zfs,
            self.workers,
            self.mesh,
            time.time,
            passed_over=lambda: (*self.storage.roots, *self.mesh.local.restoring()),
            sent=self.sent,
        )
        self.replicator.finished = self._reported.set
        self.own_keys = OwnKeys(
            self.zfs,
            self.mesh.local,
            jobs=lambda: self.replicator.jobs,
            role=self._role_of,
            now=time.time,
        )
        self.leftovers = Leftovers(
            self.zfs,
            self.replicator,
            nodes=self._nodes,
            sound=lambda: not self._problems.keys() & {"config", "reload_failed"},
            passed_over=lambda: (*self.storage.roots, *self.mesh.local.restoring()),
            now=time.time,
        )
        hooks = HookRunner()
        self.pruner = Pruner(self.zfs, hooks, needed=self.replicator.needed, node_id=self._id_of)
        self.snapshotter = Snapshotter(
            self.zfs,
            taker=Taker(self.zfs, hooks),
            pruner=self.pruner,
            sanoid=SanoidTimer(Commands()),
            needed=self.replicator.needed,
            replica_roots=lambda: (*self.storage.roots, *self.mesh.local.restoring()),
            taken=lambda dataset: self.replicator.wake(dataset=dataset),
        )
        self.exchange = Exchange(
            self.mesh, self._served, random.Random(), lambda node: self._states().get(node) != "down"
        )
        self.sharing = Sharing(
            self.zfs,
            self.mesh,
            Exports(Commands()),
            Mounts(Commands()),
            shares=lambda: self._settings.shares,
            refresh=self._refresh,
        )
        self.restorer = Restorer(
            self.zfs,
            self.workers,
            self.mesh,
            self.mesh.local,
            lambda recovery: Gathering(self.mesh, self.sent, self.manifests, recovery),
            others=lambda: keepers(self.mesh),
        )
        self.scratches = Scratches(
            self.zfs, self.restorer, self.mesh.local, self._places.socket.parent / "drill"
        )
        self.drill = Drill(self.zfs, self.restorer, self.mesh.local, self.scratches, now=time.time)
        self.drills = DrillRounds(
            self.zfs, self.drill, self.mesh.local, jobs=lambda: self.replicator.jobs, now=time.time
        )
        self.manifests = Manifests(
            self.zfs,
            self.mesh,
            self._places.state,
            rules=lambda: [(job.dataset, job.target) for job in self.replicator.jobs if not job.vanished],
            config=self._places.config,
            files=lambda: config_files(self._places.config),
            now=time.time,
            sent=self.sent.ledgers,
        )
        heads = SentDesk(self.mesh)
        desk = ManifestDesk(self.mesh, ManifestStore(self._places.state / "manifests"), time.time)
        self.terms = TermsVerbs(
            self.mesh,
            TermsDesk(
                self.zfs,
                self.storage,
                self.promises,
                self.keeper,
                policy=lambda: self._settings.keep,
                named=self._name_of,
                admitted=lambda: self.mesh.me().created if self.mesh.admitted else None,
            ),
            self.decrees,
            self.approvals,
            tell=self.exchange.tell_everyone,
        )
        self.peer_api = PeerApi(
            self.mesh,
            self.exchange,
            self.replicas,
            desk,
            {
                **self.terms.answers(),
                "sent.heads": lambda caller, args, _stream: heads.heads(caller, args),
                "replica.recognise": lambda _caller, args, _stream: recognised(self.zfs, args),
            },
        )
        self.admissions = Admissions(
            self.mesh,
            IssuerDoor(self.wireguard),
            joined=self._admitted,
            expelled=self._expelled,
        )
        self.joining = Joining(
            self.mesh,
            lambda: GuestDoor(self.wireguard),
            own_record=self._own_record,
            joined=self._follow_mesh_or_say_why,
        )
        self.overview = Overview(
            self.zfs,
            self.mesh,
            self.replicator,
            states=self._states,
            policied=lambda: self.snapshotter.chosen,
            problems=self._all_problems,
        )

        self.metrics = Metrics(
            self.zfs,
            self.mesh,
            Sources(
                resolution=self.snapshotter.resolution,
                histories=self.snapshotter.histories,
                jobs=lambda: self.replicator.jobs,
                states=self._gossiped,
                problems=self._all_problems,
                waiting=lambda: self.snapshotter.waiting,
                pruned=lambda: self.pruner.pruned,
                unpruned=lambda: self.pruner.unpruned,
                drills=self.drills.facts,
                stored=self._stored,
                held=lambda: {self._name_of(owner): count for owner, count in self.keeper.held.items()},
                refused=lambda: self.peer_api.refused,
                keys_waiting=lambda: Counter(self._name_of(one.owner) for one in self._keys.pending()),
            ),
            listen=lambda: self._settings.metrics,
        )

    # -- running -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until told to stop. Raises MeshkeepError, StoreError where it cannot even begin."""
        self._read_first_settings()
        self.mesh.load()
        api = self._api()
        await api.start()
        await self.workers.prepare()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopping.set)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                tasks = [
                    group.create_task(work)
                    for work in (
                        self._keep_mesh(),
                        self.exchange.run(),
                        self.replicator.run(),
                        self._keep_tidy(),
                        self._keep_shares(),
                        self._keep_replicas(),
                        self._keep_manifest(),
                        self._keep_reporting(),
                        self.metrics.run(),
                        self.snapshotter.watch_clock(ClockWatch()),
                        self._notifier.feed_watchdog(),
                    )
                ]
                loop.add_signal_handler(signal.SIGHUP, lambda: group.create_task(self._reload_quietly()))
                self.snapshotter.start()
                self.drills.start()
                self._notifier.notify("READY=1", f"STATUS={self._line()}")
                await self._stopping.wait()
                self._notifier.notify("STOPPING=1")
                if self._gossip is not None:
                    self._gossip.leave()
                self.snapshotter.stop()
                self.drills.stop()
                for task in [*tasks, *self._running]:
                    task.cancel()
        finally:
            await self.admissions.close()
            await api.stop()
            await self.workers.close()
            self.wireguard.close()

    def _api(self) -> Api:
        verbs = DataVerbs(
            self.zfs,
            self.mesh,
            self.replicator,
            self.sharing,
            config=self._places.config,
            settings=lambda: self._settings,
            reload=self.reload,
            reminder=self.own_keys.reminder,
        )
        api = Api(self._places.socket, translate=translate)
        api.register("status", self.overview.status, access="group")
        api.register("metrics", self.metrics.verb, access="group")
        checks = Checks(
            self.zfs,
            resolution=self.snapshotter.resolution,
            histories=self.snapshotter.histories,
            doubts=self._doubts,
            copies=lambda: [self.drills.judged(job) for job in self.replicator.jobs],
        )
        api.register("check", checks.check, access="group")
        doctor = DoctorVerbs(
            self.mesh,
            self.leftovers,
            problems=self._all_problems,
            jobs=lambda: self.replicator.jobs,
            roots=self._owner_roots,
            gates=self.gates.findings,
        )
        api.register("doctor", doctor.look, access="group")
        api.register("doctor.fix", doctor.fix, access="root")
        api.register("init", self.admissions.init, access="root")
        api.register("join", self.joining.join, access="root")
        api.register("invite.create", self.admissions.create, access="root")
        api.register("invite.list", self.admissions.listing, access="root")
        api.register("invite.revoke", self.admissions.revoke, access="root")
        api.register("invite.dial", self.admissions.dial, access="root")
        api.register("evict", self.admissions.evict, access="root")
        api.register("config.reload", self._reload_verb, access="root")
        api.register("replicate.add", verbs.replicate_add, access="root")
        api.register("replicate.run", verbs.replicate_run, access="root")
        api.register("replicate.list", verbs.replicate_list, access="group")
        api.register("replicate.plan", verbs.replicate_plan, access="group")
        api.register("replicate.remove", verbs.replicate_remove, access="root")
        api.register("replicate.pause", verbs.replicate_pause, access="root")
        api.register("replicate.resume", verbs.replicate_resume, access="root")
        api.register("replicate.leftovers", self.leftovers.verb, access="root")
        settled = RotationVerbs(self.replicator, self.zfs)
        api.register("replicate.rotate", settled.rotate, access="root")
        api.register("replicate.accept-root", settled.accept_root, access="root")
        jobs = JobVerbs(self.replicator)
        api.register("jobs.list", jobs.listing, access="group")
        api.register("jobs.show", jobs.show, access="group")
        api.register("jobs.watch", jobs.watch, access="group")
        api.register("jobs.cancel", jobs.cancel, access="root")
        api.register("share.add", verbs.share_add, access="root")
        api.register("share.list", verbs.share_list, access="group")
        api.register("share.remove", verbs.share_remove, access="root")
        api.register("storage.vouch", self.keeper.vouch, access="root")
        api.register("storage.plan", self.keeper.plan, access="group")
        self.approvals.register(api)
        self.terms.register(api)
        self.own_keys.register(api)
        api.register("mount", verbs.mount, access="root")
        api.register("umount", verbs.umount, access="root")
        self._register_restore(api)
        self._register_first_days(api)
        self._register_policy(api)
        return api

    def _register_restore(self, api: Api) -> None:
        """The verbs that bring data back."""
        host = HostRestorer(self.zfs, self.restorer, self.mesh.local)
        giver = Giver(self.zfs, self.manifests, self._places.config, load)
        files = FileFetcher(self.restorer, self.scratches)
        restores = RestoreVerbs(self.mesh, self.restorer, host, giver, self.drill, files)
        api.register("restore.dataset", restores.dataset, access="root")
        api.register("restore.plan", restores.plan, access="root")
        api.register("restore.host", restores.host, access="root")
        api.register("restore.drill", restores.drill, access="root")
        wraps = WrapVerbs(self.mesh, WrapBack(self.zfs, self.workers, self.mesh, self._places.socket.parent))
        api.register("restore.wraps", wraps.listing, access="root")
        api.register("restore.wrap", wraps.put, access="root")
        api.register("restore.file", restores.file, access="root")
        api.register("restore.copies", restores.copies, access="group")

    def _register_first_days(self, api: Api) -> None:
        """The verbs that begin with what is there already."""
        adopter = Adopter(
            self.zfs,
            self.workers,
            self._keys,
            self.mesh,
            terms=self.storage.terms,
            only_raw=lambda: self.mesh.my_role() == "vault",
            now=time.time,
        )
        seeds = SeedExport(
            self.zfs,
            self.workers,
            me=lambda: self.mesh.identity,
            mesh=lambda: self.mesh.view().mesh_id,
            now=time.time,
        )
        sowing = SeedImport(
            self.replicas,
            mesh=lambda: self.mesh.view().mesh_id,
            public=self._owner_key,
            named=self._name_of,
        )
        encryptor = Encryptor(
            self.zfs,
            self.workers,
            self.mesh.local,
            SnapshotViews(Commands(), self._places.socket.parent / "views"),
            shared=lambda name: [to for one in self._settings.shares if one.dataset == name for to in one.to],
            rules=lambda name: [job.target for job in self.replicator.jobs if job.dataset == name],
            now=time.time,
        )
        FirstDays(adopter, seeds, sowing, encryptor).register(api)

    def _owner_key(self, node: str) -> bytes | None:
        """The public key of a node that may own what is stored here."""
        member = self.mesh.view().members.get(node)
        return member.public if member and member.active and member.role in ("admin", "member") else None

    def _register_policy(self, api: Api) -> None:
        """The verbs about snapshots and the rules for them."""
        needed = self.replicator.needed
        snapshots = SnapshotVerbs(self.zfs, self.mesh, self.replicator, self.snapshotter)
        api.register("snapshot.take", snapshots.take, access="root")
        api.register("snapshot.list", snapshots.listing, access="group")
        api.register("snapshot.hold", snapshots.hold, access="root")
        api.register("snapshot.release", snapshots.release, access="root")
        api.register("snapshot.destroy", snapshots.destroy, access="root")
        rules = PolicyVerbs(
            self.zfs,
            self.snapshotter,
            settings=lambda: self._settings,
            needed=needed,
            replica_roots=self._replica_roots,
        )
        api.register("policy.list", rules.listing, access="group")
        api.register("policy.show", rules.show, access="group")
        api.register("policy.explain", rules.explain, access="group")
        api.register("policy.plan", rules.plan, access="group")
        api.register("policy.test", rules.test, access="group")
        prunes = PruneVerbs(self.zfs, self.snapshotter, self.pruner, needed=needed)
        api.register("prune.plan", prunes.plan, access="group")
        api.register("prune.run", prunes.run, access="root")

    def _replica_roots(self) -> Collection[str]:
        """Below these nothing local is done: replicas, and what is being restored."""
        return (*self.storage.roots, *self.mesh.local.restoring())

    def _doubts(self) -> str:
        """Why some rules are not known, for a check that must not call that well."""
        if problem := self._problems.get("config"):
            return problem.text
        codes = ("sanoid_conf_invalid", "sanoid_unknown")
        unread = [one.text for one in self.snapshotter.notices if one.code in codes]
        return unread[0] if unread else ""

    def _line(self) -> str:
        if not self.mesh.joined:
            return "in no mesh"
        return f"{self.mesh.view().mesh_name}: {len(self.mesh.view().active())} nodes"

    # -- configuration -----------------------------------------------------------------------------------------

    def _read_first_settings(self) -> None:
        """A bad configuration at start keeps the mesh up, and does nothing else until it is mended."""
        try:
            self._settings = load(config_files(self._places.config))
        except ConfigError as error:
            log.error("%s\n%s", error.what, error.why)
            self._problems["config"] = Problem(
                "config_invalid", f"{error.what}: {error.why}", "meshkeep config check"
            )
            self.metrics.not_configured()
        else:
            self.metrics.configured()
        self._apply_settings()

    async def reload(self) -> None:
        """Take the new configuration, or raise ConfigError and keep the old."""
        self._settings = await asyncio.to_thread(lambda: load(config_files(self._places.config)))
        for told in ("config", "reload_failed"):
            self._problems.pop(told, None)
        self.metrics.configured()
        self._apply_settings()
        if self.mesh.joined:
            await self.sharing.apply()
            await self.mesh.reconcile()

    def _apply_settings(self) -> None:
        self.replicator.configure(
            [spec for rule in self._settings.replicate for spec in rule.specs()],
            parallel=self._settings.parallel,
        )
        self._rules_changed.set()
        settings = self._settings
        self.snapshotter.configure(
            Rules(settings.assignments, settings.pools, settings.sanoid, settings.timezone), settings.tick
        )

    async def _reload_verb(self, _: Request) -> dict[str, Any]:
        await self._reload_or_tell()
        files = [str(path) for path in config_files(self._places.config)]
        return {"schema": "meshkeep.config-reload/1", "files": files}

    async def _reload_quietly(self) -> None:
        """SIGHUP: nobody waits for an answer, so the log and `status` say it."""
        await self._step("reload_failed", "the configuration was not taken over", self._reload_or_tell)

    async def _reload_or_tell(self) -> None:
        """Metrics tell of mistakes that stay on disk; an edit by command that makes one is undone."""
        try:
            await self.reload()
        except ConfigError:
            self.metrics.not_configured()
            raise

    # -- the mesh ----------------------------------------------------------------------------------------------

    def _mesh_changed(self) -> None:
        self._news.set()
        self._told.set()
        self.exchange.news()

    async def _keep_mesh(self) -> None:
        """Make the host follow the mesh, at every change and every few seconds."""
        while True:
            if self.mesh.joined:
                await self._follow_mesh_or_say_why()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TEND_S):
                    await self._news.wait()
            self._news.clear()

    async def _follow_mesh_or_say_why(self) -> None:
        await self._step("mesh_down", "the mesh is not as it should be", self._follow_mesh)

    async def _step(self, code: str, what: str, step: Callable[[], Awaitable[None]]) -> None:
        """One step of a loop that must outlive it: what goes wrong is said in `status` and tried again."""
        try:
            await step()
        except Exception as error:
            if code not in self._problems:
                expected = isinstance(error, TROUBLE)
                log.warning("%s: %s", what, error, exc_info=None if expected else error)
            why = f"{error}: {error.why}" if isinstance(error, ConfigError) else str(error)
            self._problems[code] = Problem(code, f"{what}: {why}", "journalctl -u meshkeep-agent")
        else:
            self._problems.pop(code, None)

    async def _follow_mesh(self) -> None:
        await self._expel_the_gone()
        await self.mesh.reconcile()
        me = self.mesh.view().members.get(self.mesh.identity.id)
        if me is None or not me.active:
            self._end_services()
            return
        self._begin_services(me)
        if self._gossip is not None:
            peers = [m for m in self.mesh.view().active() if m.record and m.id != me.id]
            self._gossip.set_members({m.id: Peer(quiet=m.role == "vault") for m in peers})
        if me.role == "admin":
            await self.admissions.keep()

    def _begin_services(self, me: Member) -> None:
        """Gossip and the link server, once the mesh address exists."""
        if self._server is not None or self._group is None:
            return
        address = self.mesh.address_of(me.id)
        server = LinkServer(address, handler=self.peer_api, device=INTERFACE)
        try:
            gossip = Gossip(
                Swim(me.id, random.Random(), quiet=me.role == "vault", incarnation=int(time.time())),
                address,
                device=INTERFACE,
                node_at=self._node_at,
                address_of=self._address_of,
                on_event=self._heard,
            )
        except OSError:
            server.close()
            raise
        self._server, self._gossip = server, gossip
        self._running = [self._group.create_task(server.serve()), self._group.create_task(gossip.run())]
        self._notifier.notify(f"STATUS={self._line()}")

    def _end_services(self) -> None:
        for task in self._running:
            task.cancel()
        self._running = []
        self._server, self._gossip = None, None

    def _node_at(self, address: str) -> str | None:
        member = self.mesh.caller(address)
        return member.id if member else None

    def _address_of(self, node: str) -> str | None:
        member = self.mesh.view().members.get(node)
        return self.mesh.address_of(node) if member and member.active else None

    def _heard(self, event: Event) -> None:
        member = self.mesh.view().members.get(event.member)
        name = member.name if member else event.member
        log.info("%s is %s: %s", name, event.kind, event.reason)
        if event.kind == "alive":
            self.replicator.wake(target=name)
        elif event.kind == "down" and self._group is not None:
            self._group.create_task(self.replicator.end_stalled(name))

    def _id_of(self, name: str) -> str | None:
        active = self.mesh.view().active() if self.mesh.joined else ()
        return next((one.id for one in active if one.name == name), None)

    def _role_of(self, name: str) -> str:
        active = self.mesh.view().active() if self.mesh.joined else ()
        return next((one.role for one in active if one.name == name), "")

    def _gossiped(self) -> Mapping[str, MemberState]:
        return {} if self._gossip is None else self._gossip.states()

    def _name_of(self, node: str) -> str:
        member = self.mesh.view().members.get(node) if self.mesh.joined else None
        return member.name if member else node

    def _states(self) -> Mapping[str, str]:
        return {node: state.state for node, state in self._gossiped().items()}

    async def _expel_the_gone(self) -> None:
        """Nodes that were active at the last look and are not any more: their access goes first."""
        now = {m.id: self.mesh.address_of(m.id) for m in self.mesh.view().active()}
        gone = {node: address for node, address in self._known.items() if node not in now}
        self._known |= now
        for address in gone.values():
            if self._server is not None:
                self._server.cut(address)
        for node, address in gone.items():
            await self.sharing.revoke(address)
            del self._known[node]  # not before it is done: a failure is tried again at the next look

    async def _admitted(self) -> None:
        """A node was admitted here: the others know before it is said, or a host that is lost takes it along."""
        await self._follow_mesh_or_say_why()
        await self.exchange.tell_everyone()

    async def _expelled(self, member: Member) -> None:
        """An eviction by this node: complete here before it is acknowledged."""
        self._known[member.id] = self.mesh.address_of(member.id)
        await self._follow_mesh()

    async def _own_record(self) -> tuple[int, tuple[Endpoint, ...]]:
        return self._settings.mesh.listen_port, await self.mesh.own_endpoints()

    async def _refresh(self, member: Member) -> None:
        try:
            await self.exchange.compare(member)
        except LinkError as error:
            log.info("%s could not be asked for news: %s", member.name, error)

    # -- shares and reports ------------------------------------------------------------------------------------

    async def _keep_shares(self) -> None:
        """What is exported follows what is mounted: after boot, after load-key, after an eviction."""
        while True:
            if self.mesh.joined and (self._settings.shares or self.sharing.serving):
                await self._step("shares_failed", "shares are not as they should be", self.sharing.apply)
            await asyncio.sleep(SHARE_S)

    async def _keep_replicas(self) -> None:
        """What is stored for others and kept no longer goes, a little at a time; what was said of it is followed."""
        while True:
            await self._step("retention_failed", "stored snapshots are not tended", self.keeper.tend)
            await self._step("keys_failed", "approved keys are not pinned", self.approvals.follow)
            await self._step("wraps_failed", "archived keys are not tended", self.wraps.tend)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TEND_REPLICAS_S):
                    await self._told.wait()
            self._told.clear()

    async def _keep_manifest(self) -> None:
        """The targets of our rules have what the streams do not carry, soon after it changes."""
        while True:
            if self.mesh.joined and self.mesh.admitted:
                await self._step("manifest_failed", "the manifest is not up to date", self.manifests.tend)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(MANIFEST_S):
                    await self._listed.wait()
            self._listed.clear()
            await asyncio.sleep(MANIFEST_PAUSE_S)

    async def _keep_tidy(self) -> None:
        """At start and after each change of the rules: what no rule asks for any more is released."""

        async def tidy() -> None:
            await self.leftovers.reconcile()

        while True:
            await self._rules_changed.wait()
            self._rules_changed.clear()
            await self._step("leftovers_kept", "what earlier rules left was not looked for", tidy)

    def _nodes(self) -> Nodes | None:
        """None before the mesh is known, and for a host that was shut out: then nothing is anybody's."""
        if not self.mesh.joined or not self.mesh.admitted:
            return None
        members = self.mesh.view().members.values()
        return Nodes(
            {one.id: one.name for one in members if one.active},
            {one.id: one.name for one in members if one.state in ("evicted", "succeeded")},
        )

    async def _keep_reporting(self) -> None:
        """Tell the mesh where this node's datasets are protected."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REPORT_S):
                    await self._reported.wait()
            self._reported.clear()
            await self._step("zfs_unknown", "the version of OpenZFS was not looked at", self.gates.renew)
            await self._step(
                "keys_unknown", "the keys of our datasets were not looked at", self.own_keys.look
            )
            if self.mesh.joined and self.mesh.admitted:
                await self._step(
                    "report_failed", "the other nodes are not told of our datasets", self._report
                )

    async def _report(self) -> None:
        datasets = await self.overview.own_datasets()
        if datasets or self.mesh.me().report is not None:
            self.mesh.report(status.report_body(datasets, MAX_REPORT, self.sent.heads()))

    # -- small answers -----------------------------------------------------------------------------------------

    def _served(self, node: str) -> Iterable[str]:
        return self.mesh.owned_by(node)

    async def _stored(self) -> Mapping[str, int]:
        """Bytes that are stored here, by the name of their owner. Raises ZfsError."""
        roots = await self._owner_roots()
        return {self._name_of(name.rpartition("/")[2]): one.used for name, one in roots.items()}

    async def _owner_roots(self) -> Mapping[str, Dataset]:
        """The datasets below which this node keeps replicas, one for each owner, by their names. Raises ZfsError."""
        terms = await self.storage.terms()
        try:
            found = [] if terms is None else await self.zfs.datasets(terms.root)
        except NotFound:
            return {}
        roots = node_roots(one.name for one in found)
        return {one.name: one for one in found if one.name in roots}

    def _all_problems(self) -> list[Problem]:
        found = list(self._problems.values())
        found += self.mesh.problems.values()
        found += [self.metrics.problem] if self.metrics.problem else []
        found += [Problem(notice.code, notice.text, notice.hint) for notice in self.snapshotter.notices]
        found += self.keeper.problems()
        found += self.approvals.problems()
        found += self.decrees.problems()
        found += self.own_keys.problems()
        found += self.gates.problems
        found += self.drills.problems()
        found += self.manifests.problems()
        found += self.sent.problems()
        found += [Problem("not_shared", skipped.reason) for skipped in self.sharing.skipped]
        for job in self.replicator.jobs:
            if job.error is not None:
                found.append(Problem(job.error.code, str(job.error), job.error.hint))
        if self.mesh.joined:
            view = self.mesh.view()
            found += [
                Problem("duplicate_identity", f"two hosts run with the identity of {one.id}")
                for one in view.duplicates
            ]
            found += [
                Problem(f"conflict_{one.kind}", f"{one.subject} is claimed by {one.winner} and {one.loser}")
                for one in view.conflicts
            ]
        return found


def translate(error: Exception) -> MeshkeepError | None:
    """Errors of other packages in a person's words; None for what is a bug."""
    if isinstance(error, InvalidName):
        return MeshkeepError(str(error), code="bad_name", exit=Exit.USAGE)
    if isinstance(error, ZfsError):
        return MeshkeepError(str(error), code="zfs_failed")
    if isinstance(error, LinkError):
        return MeshkeepError(str(error), code="peer_failed")
    if isinstance(error, FirewallError | WireGuardError | StoreError | HostsError):
        return MeshkeepError(str(error), code="mesh_failed")
    return None


def main(places: Places | None = None) -> int:
    """``meshkeep agent``: runs until SIGTERM. Returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    for quiet in ("apscheduler", "asyncio"):
        logging.getLogger(quiet).setLevel(logging.WARNING)
    log.info("meshkeep %s", version())
    try:
        asyncio.run(Agent(places or Places(), Notifier.from_environment()).run())
    except MeshkeepError as error:
        log.error("%s", error)
        return int(error.exit)
    except StoreError as error:
        log.error("%s", error)
        return 1
    return 0
