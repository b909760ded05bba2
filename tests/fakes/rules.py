"""A host with rules: the double of ZFS, the real snapshotter and pruner, and the verbs about them on a real socket."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from node.api import Access, Api, Request
from node.cli import main
from node.hooks import HookRunner
from node.policy_verbs import PolicyVerbs
from node.prune_verbs import PruneVerbs
from node.pruner import Pruner
from node.rulebook import Rules
from node.settings import Settings, config_files, load
from node.snapshot_verbs import SnapshotVerbs
from node.snapshotter import Snapshotter
from node.taker import Taker
from policy.naming import snapshot_name
from policy.rules import Kind
from tests.fakes.mesh import Host, Street
from tests.fakes.zfs import FakeZfs

NOW = 1_800_000_600
"""Ten minutes past an hour."""

HOUR, DAY = 3600, 86400


class RuledHost:
    """`needed` has the bases of replicas by guid; the clock stands still until a test turns it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.now = float(NOW)
        self.zfs = FakeZfs(clock=lambda: self.now, pools={"tank": 1 << 30, "pond": 1 << 30})
        self.needed: dict[int, str] = {}
        self.woken: list[str] = []
        self.roots: tuple[str, ...] = ()
        self.settings = Settings()
        self.host = Host(path / "home", Street(), [self.now])
        hooks = HookRunner()
        self.pruner = Pruner(self.zfs, hooks, needed=self.needed_of)
        self.snapshotter = Snapshotter(
            self.zfs,
            taker=Taker(self.zfs, hooks),
            pruner=self.pruner,
            needed=self.needed_of,
            replica_roots=lambda: self.roots,
            taken=lambda dataset: None,
            now=lambda: self.now,
        )
        self.policies = PolicyVerbs(
            self.zfs,
            self.snapshotter,
            settings=lambda: self.settings,
            needed=self.needed_of,
            replica_roots=lambda: self.roots,
            now=lambda: self.now,
        )
        self.prunes = PruneVerbs(
            self.zfs, self.snapshotter, self.pruner, needed=self.needed_of, now=lambda: self.now
        )
        replicator: Any = _Replicator(self)
        self.snapshots = SnapshotVerbs(
            self.zfs, self.host.mesh, replicator, self.snapshotter, now=lambda: self.now
        )

    def needed_of(self, dataset: str) -> Mapping[int, str]:
        return self.needed

    def rules(self, toml: str, sanoid: str = "") -> None:
        """The configuration from now on."""
        if sanoid:
            (self.path / "sanoid").mkdir(exist_ok=True)
            (self.path / "sanoid" / "sanoid.conf").write_text(sanoid)
            toml += f'\n[snapshots]\nsanoid = "{self.path / "sanoid"}"\n'
        (self.path / "meshkeep.toml").write_text(toml)
        self.settings = load(config_files(self.path))
        settings = self.settings
        self.snapshotter.configure(
            Rules(settings.assignments, settings.pools, settings.sanoid, settings.timezone), 60
        )

    async def has(self, dataset: str, kind: Kind, ages: Sequence[int]) -> list[str]:
        """*dataset* (made if need be) gets snapshots of *kind* of those ages in seconds. Returns their full names."""
        if dataset not in self.zfs.state.nodes:
            await self.zfs.create(dataset, {})
        names = []
        now = self.now
        for age in sorted(ages, reverse=True):
            self.now = now - age
            names.append(f"{dataset}@{snapshot_name(kind, int(self.now))}")
            await self.zfs.snapshot(names[-1:])
        self.now = now
        return names

    def guid(self, full: str) -> int:
        return self.zfs.state.snap(full).guid

    def there(self, dataset: str) -> list[str]:
        """The full names of its snapshots."""
        return [f"{dataset}@{name}" for name in self.zfs.state.nodes[dataset].snapshots]

    def serve(self, socket: Path) -> Api:
        """The verbs on a socket, open to whoever runs the test."""
        api = Api(socket, group="no-such-group")
        access: Access = "group"
        for verb, handler in (
            ("policy.list", self.policies.listing),
            ("policy.show", self.policies.show),
            ("policy.explain", self.policies.explain),
            ("policy.plan", self.policies.plan),
            ("policy.test", self.policies.test),
            ("prune.plan", self.prunes.plan),
            ("prune.run", self.prunes.run),
            ("snapshot.take", self.snapshots.take),
            ("snapshot.list", self.snapshots.listing),
            ("snapshot.hold", self.snapshots.hold),
            ("snapshot.release", self.snapshots.release),
            ("snapshot.destroy", self.snapshots.destroy),
        ):
            api.register(verb, handler, access=access)
        return api


class _Replicator:
    """As far as the verbs ask it."""

    def __init__(self, ruled: RuledHost) -> None:
        self._ruled = ruled

    def needed(self, dataset: str) -> Mapping[int, str]:
        return self._ruled.needed_of(dataset)

    def wake(self, *, dataset: str) -> None:
        self._ruled.woken.append(dataset)


def asked(**args: Any) -> Request:
    """A call of root's."""
    return Request("", args, 0, 0)


async def typed(*words: str) -> int:
    """Run a command line against the agent that listens; the exit code."""
    return await asyncio.to_thread(main, list(words))
