"""The source's side of replication: which runs there are by the rules, and when each is due.

A rule over a tree makes a job for each dataset in it, and goes on doing so as datasets come. Interruptions are retried
with growing pauses, at once when the peer comes back; conflicts wait for a person. What a run does is in `runs`.
"""

import asyncio
import contextlib
import logging
import math
from collections.abc import Callable, Collection, Mapping, Sequence

from mesh.link_errors import LinkError
from node.directory import Directory, Peer
from node.errors import Exit, MeshkeepError
from node.job import Job, Report, RuleSpec, Slots
from node.run_errors import explain
from node.runs import Runs
from node.sent import Sent
from node.transfers import Workers
from replication import errors as transfer_errors
from replication.conflicts import Conflict
from replication.steps import Plan, UpToDate
from replication.tree import expand
from zfs import errors as zfs_errors
from zfs.door import Zfs
from zfs.names import is_below, parent_of

__all__ = ["Directory", "Peer", "Replicator", "RuleSpec"]

log = logging.getLogger(__name__)

POLL = 30.0
"""Seconds. All jobs look in the same moment, so that one listing here and one request to each target does for all."""

FIRST_PAUSE = 5.0
LONGEST_PAUSE = 300.0
STALLED = 5.0
LOOK_AROUND = 60.0
PARALLEL = 2


class Replicator:
    """Runs the rules. `zfs` is the source's pool; targets are asked through `directory`.

    `passed_over` are the trees that no recursive rule goes into.
    """

    def __init__(
        self,
        zfs: Zfs,
        workers: Workers,
        directory: Directory,
        now: Callable[[], float],
        passed_over: Callable[[], Collection[str]] = lambda: (),
        sent: Sent | None = None,
    ) -> None:
        self._zfs = zfs
        self._directory = directory
        self._now = now
        self._passed_over = passed_over
        self._runs = Runs(zfs, workers, directory, now, sent)
        self._rules: tuple[RuleSpec, ...] = ()
        self._present: frozenset[str] = frozenset()
        self._parallel = PARALLEL
        self._slots: dict[str, Slots] = {}
        self._jobs: dict[tuple[str, str], Job] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self._look_around = asyncio.Event()
        self._nested: dict[tuple[str, str], list[str]] = {}
        self.finished: Callable[[], None] = lambda: None

    @property
    def rules(self) -> Sequence[RuleSpec]:
        """In the order of the configuration, one for each target."""
        return self._rules

    @property
    def jobs(self) -> Sequence[Job]:
        """Parents before children."""
        return list(self._jobs.values())

    def job(self, dataset: str, target: str) -> Job:
        """Raises MeshkeepError where there is no such rule."""
        try:
            return self._jobs[dataset, target]
        except KeyError:
            raise MeshkeepError(
                f"there is no rule that replicates {dataset} to {target}",
                code="no_rule",
                exit=Exit.NOT_FOUND,
                hint=f"meshkeep replicate add {dataset} {target}",
            ) from None

    def of_rule(self, dataset: str, target: str) -> list[Job]:
        """The job of *dataset*, and those that the same rule makes of what lies below it. Raises MeshkeepError."""
        top = self.job(dataset, target)
        return [top, *(job for job in self._jobs.values() if job is not top and _below(job, top))]

    # -- which jobs there are ----------------------------------------------------------------------------------

    def configure(self, rules: Sequence[RuleSpec], *, parallel: int = PARALLEL) -> None:
        """Take the rules of a new configuration: start what is new, end what is gone, leave the rest running."""
        self._rules = tuple(rules)
        self._parallel = parallel
        for slots in self._slots.values():
            slots.resize(parallel)
        self._arrange()
        self._look_around.set()

    async def refresh(self) -> None:
        """Look which datasets there are, and arrange the jobs of recursive rules by that. Raises ZfsError."""
        if not any(rule.recursive for rule in self._rules):
            return
        present = frozenset([dataset.name for dataset in await self._zfs.datasets()])
        if present != self._present:
            self._present = present
            self._arrange()

    def _arrange(self) -> None:
        rules = {(rule.dataset, rule.target): rule for rule in self._rules}
        branches = expand([rule.branch for rule in self._rules], self._present, self._passed_over())
        wanted = {key: rules[branch.root, branch.target] for key, branch in branches.items()}
        for key in [key for key in self._jobs if key not in wanted]:
            self._drop(key, self._jobs[key])
        for key, rule in wanted.items():
            job = self._jobs.setdefault(key, Job(*key))
            self._follow_rule(job, rule)
        order = {key: place for place, key in enumerate(wanted)}
        self._jobs = dict(sorted(self._jobs.items(), key=lambda item: order.get(item[0], len(order))))
        self._nested.clear()

    def _drop(self, key: tuple[str, str], job: Job) -> None:
        """A rule that is gone takes its jobs along; a dataset that is gone from its tree is shown until then."""
        rule = job.rule
        if rule in self._rules and rule.branch.covers(job.dataset) and job.dataset not in self._present:
            if not job.vanished:
                log.warning("%s -> %s: the dataset is gone from here; its copy stays", *key)
            job.vanished, job.state = True, "vanished"
            job.error = MeshkeepError(
                f"{job.dataset} is gone from here; its copy on {job.target} stays, and nothing is added to it",
                code="dataset_vanished",
                exit=Exit.NOT_FOUND,
                hint=f"meshkeep restore dataset {job.dataset} --from {job.target} --to {job.dataset}",
            )
        else:
            del self._jobs[key]
        if task := self._tasks.pop(key, None):
            task.cancel()

    def _follow_rule(self, job: Job, rule: RuleSpec) -> None:
        was, job.rule = job.rule, rule
        if job.vanished:
            job.vanished, job.error, job.state = False, None, "waiting"
        if rule.paused:
            job.cancel()
            job.state = "paused"
        elif was.paused:
            job.state = "waiting"
            job.wake.set()
        if was.dataset and was != rule:
            job.wake.set()
        key = job.dataset, job.target
        if self._group is not None and key not in self._tasks:
            self._tasks[key] = self._group.create_task(self._follow(job), name=f"replicate {key}")

    async def run(self) -> None:
        """Follow the rules until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            self._arrange()
            while True:
                self._look_around.clear()
                try:
                    await self.refresh()
                except (
                    zfs_errors.ZfsError
                ) as error:  # a pool that is gone comes back; the jobs stay as they are
                    log.warning("cannot see which datasets there are: %s", error)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_AROUND):
                        await self._look_around.wait()

    # -- when they run -----------------------------------------------------------------------------------------

    def wake(self, *, dataset: str | None = None, target: str | None = None) -> None:
        """There may be something to do: a snapshot was taken, a peer came back."""
        for job in self._jobs.values():
            if job.cancelled and dataset is None:
                continue  # a person stopped it; that its peer comes and goes does not begin it again
            if dataset in (None, job.dataset) and target in (None, job.target):
                job.wake.set()
        if dataset is not None and dataset not in self._present:
            self._look_around.set()

    async def end_stalled(self, target: str) -> None:
        """*target* is down: end what still runs to it, unless bytes go on moving. TCP would wait for minutes."""
        before = {
            id(job): job.bytes_done for job in self._jobs.values() if job.target == target and job.transfer
        }
        await asyncio.sleep(STALLED)
        for job in list(self._jobs.values()):
            if job.transfer is not None and before.get(id(job)) == job.bytes_done:
                log.info(
                    "%s -> %s: no byte has moved and the peer is down: interrupting", job.dataset, target
                )
                await job.transfer.cancel()

    async def _follow(self, job: Job) -> None:
        with contextlib.suppress(MeshkeepError, zfs_errors.ZfsError):  # the first run says what is wrong
            await self._runs.recall(job)
        pause = POLL
        failures = 0
        while True:
            await job.wait_for_work(None if job.cancelled or job.rule.paused else _until_all_look(pause))
            if job.rule.paused:
                continue
            try:
                await self.run_once(job)
                failures, pause = 0, POLL
            except MeshkeepError as error:
                failures += 1
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures - 1, 8))
                if error.exit is Exit.REFUSED:
                    pause = LONGEST_PAUSE
                log.warning("%s -> %s: %s", job.dataset, job.target, error)

    async def run_or_join(self, job: Job) -> Report:
        """The outcome of the run that is under way, or else of one that begins now. Raises MeshkeepError."""
        if job.lock.locked() and job.result is not None:
            return await asyncio.shield(job.result)
        return await self.run_once(job)

    async def run_tree(self, jobs: Sequence[Job]) -> dict[tuple[str, str], Report | MeshkeepError]:
        """Run all of *jobs* and wait for them. What lies below one that is not stored yet comes after it."""
        outcomes: dict[tuple[str, str], Report | MeshkeepError] = {}

        async def one(job: Job) -> None:
            try:
                outcomes[job.dataset, job.target] = await self.run_or_join(job)
            except MeshkeepError as error:
                outcomes[job.dataset, job.target] = error

        left = list(jobs)
        while left:
            first_time = {(job.dataset, job.target) for job in left if not job.stored}
            later: list[Job] = []
            async with asyncio.TaskGroup() as group:
                for job in left:
                    if first_time.isdisjoint(_ancestors(job)):
                        group.create_task(one(job))
                    else:
                        later.append(job)
            left = later
        return outcomes

    async def run_once(self, job: Job) -> Report:
        """Bring the replica up to date. Raises MeshkeepError with the cause; the job keeps it for `status`."""
        if job.rule.paused:
            raise MeshkeepError(
                f"the replication of {job.dataset} to {job.target} is paused",
                code="paused",
                exit=Exit.REFUSED,
                hint=f"meshkeep replicate resume {job.rule.dataset} {job.target}",
            )
        async with job.lock:
            job.begin(int(self._now()))
            stored = job.stored
            try:
                report = await self._work(job)
            except (MeshkeepError, LinkError, transfer_errors.TransferFailed, zfs_errors.ZfsError) as error:
                raise job.fail(*explain(job, error), int(self._now())) from error
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if job.cancelled and task is not None and not task.cancelling():
                    raise self._stopped_by_hand(job) from None
                job.stopped()
                raise
            except Exception as error:
                log.exception("%s -> %s", job.dataset, job.target)
                raise job.fail(*explain(job, error), int(self._now())) from error
            finally:
                job.work = None
                if job.stored and not stored:
                    self._wake_below(job)
            job.finish(report, int(self._now()))
            self.finished()
            return report

    async def _work(self, job: Job) -> Report:
        """One run as a task of its own, which `Job.cancel` can end without ending who follows the job."""
        above, nested = self._relatives(job)
        slots = self._slots.setdefault(job.target, Slots(self._parallel))
        job.work = asyncio.ensure_future(self._runs.bring_up_to_date(job, slots, above, nested))
        try:
            return await job.work
        finally:
            if not job.work.done():
                job.work.cancel()

    def _relatives(self, job: Job) -> tuple[Job | None, tuple[str, ...]]:
        """The job of the nearest ancestor that goes there too, and the datasets below with jobs of their own."""
        if not self._nested:
            for one in self._jobs.values():
                for key in _ancestors(one) if not one.vanished else ():
                    self._nested.setdefault(key, []).append(one.dataset)
        above = (self._jobs.get(key) for key in _ancestors(job))
        nearest = next((one for one in above if one is not None and not one.vanished), None)
        return nearest, tuple(self._nested.get((job.dataset, job.target), ()))

    def _stopped_by_hand(self, job: Job) -> MeshkeepError:
        if job.rule.paused:
            job.stopped()
            return MeshkeepError(
                f"the replication of {job.dataset} to {job.target} was paused",
                code="paused",
                exit=Exit.REFUSED,
            )
        error = MeshkeepError(
            f"the replication of {job.dataset} to {job.target} was cancelled",
            code="cancelled",
            why="what has arrived stays there, and the next run goes on with it",
            hint=f"meshkeep replicate run {job.dataset} {job.target}",
        )
        return job.stopped_by_hand(error, int(self._now()))

    def _wake_below(self, job: Job) -> None:
        for other in self._jobs.values():
            if other.target == job.target and is_below(other.dataset, job.dataset):
                other.wake.set()

    # -- for others --------------------------------------------------------------------------------------------

    def needed(self, dataset: str) -> Mapping[int, str]:
        """The snapshots (by guid) that a replica's next stream begins from, and whose replica.

        Paused rules count. Those whose target is away for longer than its rule allows, or whose base pins more, do
        not: a bookmark keeps the base then.
        """
        return {
            guid: job.target
            for job in self._jobs.values()
            if job.dataset == dataset and not self._impatient(job)
            for guid in job.bases
        }

    def _impatient(self, job: Job) -> bool:
        """Asked of the target last when it answered; after a start, when its base was taken."""
        since = job.seen if job.seen is not None else job.base_creation
        away = int(self._now()) - since if since else 0
        return job.rule.patience.ends(away=away, pinned=job.pinned)

    async def planned(self, dataset: str, target: str) -> Plan | Conflict | UpToDate:
        """What would be done now, by the rule if there is one. Changes nothing. Raises MeshkeepError."""
        job = self._jobs.get((dataset, target)) or Job(dataset, target)
        return await self._runs.planned(job)

    async def forget(self, dataset: str, target_id: str) -> None:
        """A rule was removed: release what was kept for it. The replica itself stays where it is."""
        await self._runs.forget(dataset, target_id)


def _ancestors(job: Job) -> list[tuple[str, str]]:
    """The keys that jobs above it would have, nearest first."""
    found, name = [], parent_of(job.dataset)
    while name is not None:
        found.append((name, job.target))
        name = parent_of(name)
    return found


def _until_all_look(pause: float) -> float:
    """Seconds from now: to the next moment in which all look, or to the first one after a longer *pause*."""
    now = asyncio.get_running_loop().time()
    if pause == POLL:
        return (now // POLL + 1) * POLL - now
    return math.ceil((now + pause) / FIRST_PAUSE) * FIRST_PAUSE - now


def _below(job: Job, top: Job) -> bool:
    return job.target == top.target and job.rule == top.rule and is_below(job.dataset, top.dataset)
