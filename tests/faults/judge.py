"""What must be true: nothing lost on either side, the base kept at every moment, nothing leaked, no status that lies.

It looks at the disks, and asks the product only for what the product says.
"""

from dataclasses import dataclass, field

from node.job import Job
from node.replica_places import RECEIVED
from replication.guard import FLOOR_HOLD, cursor_name, hold_tag
from tests.fakes.pair import CLOUD, HOME, ROOT
from tests.fakes.zfs import FakeZfs
from tests.fakes.zfs_state import Node, Snap
from tests.faults.world import FAR, World

IDS = {"cloud": CLOUD, "far": FAR}


class Broken(AssertionError):
    """An invariant does not hold."""


@dataclass(slots=True)
class Judge:
    """Remembers what was there, in one world. Of what a test does on purpose: `destroyed` are guids of home,
    `strangers` those of a target; `renamed` are datasets of home, `away` pools by side, `port` is cloud's own.
    """

    world: World
    taken: dict[tuple[str, int], bytes] = field(default_factory=dict)
    stored: dict[tuple[str, str, int], bytes] = field(default_factory=dict)
    written: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    destroyed: set[int] = field(default_factory=set)
    strangers: set[int] = field(default_factory=set)
    renamed: dict[str, str] = field(default_factory=dict)
    away: dict[str, tuple[str, int]] = field(default_factory=dict)
    port: int = 0

    # -- what happens at home ----------------------------------------------------------------------------------

    async def snap(self, *names: str, dataset: str = "tank/home", data: bytes = b"more") -> None:
        """Write, take a snapshot, and an hour goes by."""
        for name in names:
            length = len(self.world.home.state.nodes[dataset].data) + len(data)
            self.written.setdefault(dataset, []).append((self.world.clock.now, length))
            await self.world.snap(name, dataset=dataset, data=data)
            self._home_keeps()

    async def destroy(self, dataset: str, *names: str) -> list[str]:
        """As a person or the pruner would; what is held stays. Returns what went."""
        snapshots = self.world.home.state.nodes[dataset].snapshots
        guids = {name: snapshots[name].guid for name in names}
        failed = await self.world.home.destroy_snapshots([f"{dataset}@{name}" for name in names])
        went = [name for name in names if f"{dataset}@{name}" not in failed]
        self.destroyed |= {guids[name] for name in went}
        return went

    async def prune(self) -> None:
        """Everything that nothing holds goes, but for the newest."""
        for dataset in sorted({job.dataset for job in self.world.replicator.jobs}):
            node = self.world.home.state.nodes.get(dataset)
            newest = node.newest if node else None
            if node and newest:
                await self.destroy(dataset, *[name for name in node.snapshots if name != newest.name])

    # -- looking -----------------------------------------------------------------------------------------------

    def look(self) -> None:
        """What must be true at every moment."""
        self._home_keeps()
        for job in self.world.replicator.jobs:
            self._target_keeps(job)
            self._base_is_kept(job)
            self._tells_the_truth(job)

    def _home_keeps(self) -> None:
        was = {now: before for before, now in self.renamed.items()}
        here = {
            (was.get(node.name, node.name), snap.guid): snap.data
            for node in self.world.home.state.nodes.values()
            for snap in node.snapshots.values()
        }
        for key, data in self.taken.items():
            if key[1] not in self.destroyed and here.get(key) != data:
                raise Broken(f"home lost a snapshot of {key[0]}")
        self.taken |= here

    def _target_keeps(self, job: Job) -> None:
        there = self._snapshots_there(job)
        by_guid = {snap.guid: snap.data for snap in there}
        for (target, dataset, guid), data in self.stored.items():
            if (target, dataset) == (job.target, job.dataset) and by_guid.get(guid) != data:
                raise Broken(f"{target} lost a snapshot of {dataset}")
        for snap in there:
            if snap.guid in self.strangers:
                continue
            if self.taken.get((job.dataset, snap.guid)) != snap.data:
                raise Broken(f"{job.target} has another {job.dataset}@{snap.name} than home")
            self.stored[job.target, job.dataset, snap.guid] = snap.data

    def _base_is_kept(self, job: Job) -> None:
        """The newest that the target has is held or bookmarked at home."""
        node = self._at_home(job)
        there = [snap for snap in self._snapshots_there(job) if snap.guid not in self.strangers]
        if node is None or not there:
            return
        newest, tag = there[-1].guid, hold_tag(IDS[job.target])
        held = any(snap.guid == newest and tag in snap.holds for snap in node.snapshots.values())
        if not held and cursor_name(IDS[job.target], newest) not in node.bookmarks:
            raise Broken(
                f"nothing at home keeps @{there[-1].name}, the base of {job.dataset} on {job.target}"
            )

    def _tells_the_truth(self, job: Job) -> None:
        """What it says to be protected as of then was written before, and is there."""
        if job.as_of is None:
            return
        there = self._snapshots_there(job)
        covered = max((len(snap.data) for snap in there), default=-1)
        later = [at for at, length in self.written.get(job.dataset, []) if length > covered]
        bound = min(later, default=self.world.clock.now)
        if not there or job.as_of > bound:
            raise Broken(f"{job.dataset} is called protected on {job.target} as of {job.as_of}, not {bound}")

    def after(self, job: Job, *, failed: bool) -> None:
        """What the state says when a run has ended."""
        there, node = self._snapshots_there(job), self._at_home(job)
        if failed and job.state in ("ok", "running"):
            raise Broken(f"the run failed, and {job.dataset} -> {job.target} is {job.state}")
        if failed or job.state != "ok":
            return
        newest = node.newest if node else None
        if newest is None or not there or there[-1].guid != newest.guid:
            raise Broken(f"{job.dataset} -> {job.target} is called ok and is not up to date")
        if job.behind:
            raise Broken(f"{job.dataset} -> {job.target} is ok and {job.behind} behind")

    def at_rest(self) -> None:
        """When all is done: everything is there and held, and nothing is left over."""
        for job in self.world.replicator.jobs:
            node, there = self.world.home.state.nodes[job.dataset], self._snapshots_there(job)
            newest = node.newest
            if newest is not None and (not there or there[-1].guid != newest.guid):
                raise Broken(f"{job.dataset}@{newest.name} never arrived on {job.target}")
            for snap in there:
                if snap.guid in self.strangers:
                    continue
                if FLOOR_HOLD not in snap.holds:
                    raise Broken(f"@{snap.name} on {job.target} is not held")
                if RECEIVED not in snap.properties:
                    raise Broken(f"@{snap.name} on {job.target} has no receipt")
            self._nothing_left_at_home(job, node, there)
            replica = self._replica(job)
            if replica is not None and replica.partial is not None:
                raise Broken(f"{job.target} still has a part of {job.dataset}")
        for snap in self._sending():
            raise Broken(f"@{snap.name} is still being sent")

    def _nothing_left_at_home(self, job: Job, node: Node, there: list[Snap]) -> None:
        tag = hold_tag(IDS[job.target])
        held = [snap.name for snap in node.snapshots.values() if tag in snap.holds]
        if held:
            raise Broken(f"{held} of {job.dataset} are still held for {job.target}")
        ours = sorted(name for name in node.bookmarks if name.startswith(f"meshkeep_{IDS[job.target]}_"))
        wanted = [cursor_name(IDS[job.target], there[-1].guid)] if there else []
        if ours != wanted:
            raise Broken(f"bookmarks of {job.dataset} for {job.target}: {ours} instead of {wanted}")

    def _sending(self) -> list[Snap]:
        return [
            snap
            for node in self.world.home.state.nodes.values()
            for snap in node.snapshots.values()
            if snap.sending
        ]

    def _at_home(self, job: Job) -> Node | None:
        return self.world.home.state.nodes.get(self.renamed.get(job.dataset, job.dataset))

    def _replica(self, job: Job) -> Node | None:
        disk: FakeZfs = self.world.far.cloud if job.target == "far" else self.world.cloud
        return disk.state.nodes.get(f"{ROOT}/{HOME}/{job.dataset}")

    def _snapshots_there(self, job: Job) -> list[Snap]:
        """On the target, oldest first."""
        node = self._replica(job)
        return sorted(node.snapshots.values(), key=lambda one: one.createtxg) if node else []
