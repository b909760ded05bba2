"""The source's side of replication: one job a rule, run when there is something to send, judged on the target.

A job lists both sides, asks the planner, runs the steps, and then lists the target again: only what is found there
counts. Interruptions are retried with growing pauses, at once when the peer comes back; conflicts wait for a person.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mesh.link import Link
from mesh.link_errors import LinkError, LinkTimeout, PeerBroke, PeerRefused, PeerUnreachable
from node import protection
from node.errors import Exit, MeshkeepError
from node.job import Job, Report
from node.offers import Offer
from node.transfers import Workers
from replication import errors as transfer_errors
from replication.conflicts import Conflict
from replication.guard import Guard, hold_tag, reconcile
from replication.history import Rule, SourceHistory, TargetSnapshot, TargetState
from replication.plan import plan
from replication.steps import Abort, Full, Plan, Resume, Stream, UpToDate
from zfs import errors as zfs_errors
from zfs.door import Zfs
from zfs.model import Look, ResumeState

log = logging.getLogger(__name__)

POLL = 30.0
FIRST_PAUSE = 5.0
LONGEST_PAUSE = 300.0
SETTLE = 10.0
STALLED = 5.0
# What a target answers when the plan was made from a listing that is no longer true.
STALE = frozenset({"partial_state", "diverged", "already_here", "no_base", "no_partial", "would_overwrite"})


@dataclass(frozen=True, slots=True)
class Peer:
    """An active node of the mesh, as jobs need it."""

    id: str
    name: str
    role: str
    address: str


class Directory(Protocol):
    """Where jobs find nodes."""

    def peer(self, name: str) -> Peer:
        """Raises MeshkeepError (not found) where no active node has that name."""
        ...

    def link(self) -> Link:
        """Raises MeshkeepError where this host is in no mesh."""
        ...


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """One rule of the configuration."""

    dataset: str
    target: str
    allow_plaintext: bool = False
    rate_limit: int | None = None


class Replicator:
    """Runs the rules. `zfs` is the source's pool; targets are asked through `directory`."""

    def __init__(self, zfs: Zfs, workers: Workers, directory: Directory, now: Callable[[], float]) -> None:
        self._zfs = zfs
        self._workers = workers
        self._directory = directory
        self._now = now
        self._jobs: dict[tuple[str, str], Job] = {}
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._group: asyncio.TaskGroup | None = None
        self.finished: Callable[[], None] = lambda: None

    @property
    def jobs(self) -> Sequence[Job]:
        """In the order of the configuration."""
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

    def configure(self, rules: Sequence[RuleSpec]) -> None:
        """Take the rules of a new configuration: start what is new, end what is gone, leave the rest running."""
        wanted = {(rule.dataset, rule.target): rule for rule in rules}
        for key in [key for key in self._jobs if key not in wanted]:
            del self._jobs[key]
            if task := self._tasks.pop(key, None):
                task.cancel()
        for key, rule in wanted.items():
            job = self._jobs.setdefault(key, Job(rule.dataset, rule.target))
            job.allow_plaintext = rule.allow_plaintext
            job.rate_limit = rule.rate_limit
            if self._group is not None and key not in self._tasks:
                self._tasks[key] = self._group.create_task(self._follow(job), name=f"replicate {key}")

    async def run(self) -> None:
        """Follow the rules until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for key, job in self._jobs.items():
                self._tasks[key] = group.create_task(self._follow(job), name=f"replicate {key}")
            await asyncio.Event().wait()

    def wake(self, *, dataset: str | None = None, target: str | None = None) -> None:
        """There may be something to do: a snapshot was taken, a peer came back."""
        for job in self._jobs.values():
            if dataset in (None, job.dataset) and target in (None, job.target):
                job.wake.set()

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

    def needed(self, dataset: str) -> Mapping[int, str]:
        """The snapshots (by guid) that a replica's next stream begins from, and whose replica."""
        return {
            job.common: job.target
            for job in self._jobs.values()
            if job.dataset == dataset and job.common is not None
        }

    async def planned(self, dataset: str, target: str) -> Plan | Conflict | UpToDate:
        """What would be done now, by the rule if there is one. Changes nothing. Raises MeshkeepError."""
        job = self._jobs.get((dataset, target)) or Job(dataset, target)
        peer = self._directory.peer(target)
        source, there = await self._look(job, peer)
        return plan(source, there, self._rule(job, peer, source))

    # -- following ---------------------------------------------------------------------------------------------

    async def _follow(self, job: Job) -> None:
        pause = POLL
        failures = 0
        while True:
            await job.wait_for_work(pause)
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

    async def run_once(self, job: Job) -> Report:
        """Bring the replica up to date. Raises MeshkeepError with the cause; the job keeps it for `status`."""
        async with job.lock:
            job.begin()
            try:
                report = await self._bring_up_to_date(job)
            except (MeshkeepError, LinkError, transfer_errors.TransferFailed, zfs_errors.ZfsError) as error:
                raise job.fail(*_explain(job, error)) from error
            except asyncio.CancelledError:
                job.stopped()
                raise
            except Exception as error:
                log.exception("%s -> %s", job.dataset, job.target)
                raise job.fail(*_explain(job, error)) from error
            job.finish(report)
            self.finished()
            return report

    async def _bring_up_to_date(self, job: Job) -> Report:
        """Look, decide, act, and look again, until the target shows that there is nothing left to do."""
        peer = self._directory.peer(job.target)
        tally = _Tally()
        while True:
            source, there = await self._look(job, peer)
            decided = await self._decide(job, peer, source, there)
            if isinstance(decided, UpToDate):
                return Report(job.as_of, tally.sent, tally.steps, tally.resumed)
            try:
                await self._carry_out(job, peer, decided, there, tally)
            except transfer_errors.PlanStale as error:
                tally.stale(error)

    async def _decide(
        self, job: Job, peer: Peer, source: SourceHistory, there: TargetState
    ) -> Plan | UpToDate:
        """The plan, with the source's holds and bookmarks set to what the target has. Raises for a conflict."""
        decided = plan(source, there, self._rule(job, peer, source))
        job.conflict = decided if isinstance(decided, Conflict) else None
        if isinstance(decided, Conflict):
            raise MeshkeepError(
                decided.text,
                code=decided.kind,
                exit=Exit.REFUSED,
                why="; ".join(decided.evidence),
                hint=decided.hint,
            )
        job.common = decided.base.guid if decided.base is not None else None
        cut_short = there.resume.to_guid if there.resume is not None else None
        await self._guard(source, peer.id, common=job.common, to=cut_short)
        return decided

    async def _carry_out(
        self, job: Job, peer: Peer, decided: Plan, there: TargetState, tally: "_Tally"
    ) -> None:
        for number, step in enumerate(decided.steps, start=1):
            if isinstance(step, Abort):
                tally.abort(step)
                log.info("%s -> %s: %s", job.dataset, job.target, step.reason)
                await self._directory.link().call(peer.address, "replica.abort", {"dataset": job.dataset})
                return
            job.stepping(number, len(decided.steps), step.to.name)
            base = None if isinstance(step, Full) else step.base
            source = await self._history(job.dataset)
            await self._guard(source, peer.id, common=base.guid if base else None, to=step.to.guid)
            job.resumed += isinstance(step, Resume)
            tally.resumed += isinstance(step, Resume)
            tally.sent += await self._send(job, peer, step, raw=decided.raw, already=there.resume)
            tally.steps += 1
            job.common = step.to.guid

    async def _send(
        self, job: Job, peer: Peer, step: Stream, *, raw: bool, already: ResumeState | None
    ) -> int:
        """One stream. Returns the bytes that went out."""
        base = None if isinstance(step, Full) else step.base
        resume = (step.object, step.offset) if isinstance(step, Resume) else None
        size = await self._zfs.send_size(step.to.full_name, base.full_name if base else None, raw=raw)
        arrived = already.bytes if resume and already else 0
        left = max(0, size - arrived)
        offer = Offer(
            dataset=job.dataset,
            name=step.target_name,
            to_guid=step.to.guid,
            from_guid=base.guid if base else None,
            raw=raw,
            resuming=resume is not None,
            size=left,
        )
        job.sending(arrived, max(size, arrived))
        before = job.bytes_total_sent
        try:
            async with self._directory.link().stream(
                peer.address, "replica.receive", offer.as_json()
            ) as stream:
                transfer = await self._workers.send(
                    stream.socket,
                    snapshot=step.to.full_name,
                    base=base.full_name if base else None,
                    raw=raw,
                    resume=resume,
                    rate_limit=job.rate_limit,
                    on_progress=job.sent,
                )
                job.transfer = transfer
                try:
                    await transfer.outcome()
                except transfer_errors.TransferFailed as error:
                    raise await _peer_knows_better(stream.finish, error) from error
                finally:
                    job.transfer = None
                await stream.finish(timeout=3600)
        except PeerRefused as refused:
            if refused.code in STALE:
                raise transfer_errors.PlanStale(refused.text) from refused
            raise transfer_errors.of_code(refused.code, refused.text) from refused
        return job.bytes_total_sent - before

    # -- looking -----------------------------------------------------------------------------------------------

    async def _history(self, dataset: str) -> SourceHistory:
        return _source(await self._zfs.look(dataset))

    async def _look(self, job: Job, peer: Peer) -> tuple[SourceHistory, TargetState]:
        """Both sides as they are; what that means for the protection is noted in the job."""
        try:
            look = await self._zfs.look(job.dataset)
        except zfs_errors.NotFound:
            raise MeshkeepError(
                f"there is no dataset {job.dataset} here",
                code="no_dataset",
                exit=Exit.NOT_FOUND,
                hint="zfs list",
            ) from None
        answer = await self._directory.link().call(peer.address, "replica.state", {"dataset": job.dataset})
        now, written = int(self._now()), look.dataset.written
        try:
            there = target_state(answer)
            job.began_raw = bool(answer["encrypted"]) if there.snapshots else None
            job.see(
                protection.as_of(look.snapshots, written, answer["snapshots"], now=now),
                protection.behind(look.snapshots, answer["snapshots"]),
            )
        except (KeyError, TypeError, ValueError) as error:  # a target is not trusted to make sense
            raise PeerBroke(peer.address, f"its answer makes no sense: {error!r}") from error
        return _source(look), there

    def _rule(self, job: Job, peer: Peer, source: SourceHistory) -> Rule:
        """Raises MeshkeepError for a target that stores nothing."""
        role = next((one for one in ("admin", "member", "vault") if one == peer.role), None)
        if role is None:
            raise MeshkeepError(
                f"{peer.name} is a {peer.role} and stores nothing",
                code="role_stores_nothing",
                exit=Exit.REFUSED,
                hint="choose a member or a vault: meshkeep status",
            )
        return Rule(
            target=peer.name,
            target_role=role,
            raw=source.encrypted if job.began_raw is None else job.began_raw,
            allow_plaintext=job.allow_plaintext,
        )

    async def _guard(
        self, source: SourceHistory, target_id: str, *, common: int | None, to: int | None
    ) -> None:
        held = {
            snapshot.guid: await self._zfs.holds(snapshot.full_name)
            for snapshot in source.snapshots
            if snapshot.holds
        }
        await self._apply(reconcile(source, held, target_id, common=common, to=to))

    async def _apply(self, guard: Guard) -> None:
        for snapshot, bookmark in guard.create:
            await self._zfs.bookmark(snapshot, bookmark)
        if guard.hold:
            await self._zfs.hold(guard.tag, guard.hold)
        if guard.release:
            await self._zfs.release(guard.tag, guard.release)
        if guard.destroy:
            await self._zfs.destroy_bookmarks(guard.destroy)

    async def forget(self, dataset: str, target_id: str) -> None:
        """A rule was removed: release what was kept for it. The replica itself stays where it is."""
        tag = hold_tag(target_id)
        source = await self._history(dataset)
        held = [snapshot.full_name for snapshot in source.snapshots if snapshot.holds]
        await self._zfs.release(tag, [name for name in held if tag in await self._zfs.holds(name)])
        marks = [
            mark.full_name for mark in source.bookmarks if mark.name.startswith(f"meshkeep_{target_id}_")
        ]
        if marks:
            await self._zfs.destroy_bookmarks(marks)


def _source(look: Look) -> SourceHistory:
    return SourceHistory(look.dataset.name, look.snapshots, look.bookmarks, look.dataset.encrypted)


@dataclass(slots=True)
class _Tally:
    """What one run has done so far."""

    sent: int = 0
    steps: int = 0
    resumed: int = 0
    aborted: int = 0
    surprises: int = 0

    def stale(self, error: transfer_errors.PlanStale) -> None:
        """An earlier stream that still ran at the first look explains one or two. Raises *error* after that."""
        self.surprises += 1
        if self.surprises > 2:
            raise error

    def abort(self, step: Abort) -> None:
        """Once is a plan; a partial stream that will not go away is trouble. Raises PlanStale."""
        self.aborted += 1
        if self.aborted > 2:
            raise transfer_errors.PlanStale(
                f"the target does not drop what it partly received: {step.reason}"
            )


def target_state(answer: Mapping[str, Any]) -> TargetState:
    """The answer to ``replica.state`` as the planner's value."""
    resume = answer.get("resume")
    return TargetState(
        exists=bool(answer["exists"]),
        snapshots=tuple(
            TargetSnapshot(str(one["name"]), int(one["guid"]), int(one["createtxg"]), int(one["creation"]))
            for one in answer["snapshots"]
        ),
        resume=None if resume is None else ResumeState(**resume),
    )


async def _peer_knows_better(
    finish: Callable[..., Awaitable[dict[str, Any]]], error: transfer_errors.TransferFailed
) -> Exception:
    """The sender only sees a closed connection; why it was closed is what the receiver says last."""
    if isinstance(error, transfer_errors.Cancelled):
        return error
    try:
        await finish(timeout=SETTLE)
    except PeerRefused as refused:
        return refused
    except (PeerUnreachable, LinkTimeout):
        return error
    return error


def _explain(job: Job, error: Exception) -> tuple[str, MeshkeepError]:
    """The state a job is in after *error*, and what a person is told."""
    what = f"cannot replicate {job.dataset} to {job.target}"
    match error:
        case MeshkeepError():
            return ("blocked" if error.exit is Exit.REFUSED else "failed"), error
        case PeerUnreachable() | LinkTimeout():
            return "waiting", MeshkeepError(
                f"{what}: {job.target} is not reachable",
                code="peer_unreachable",
                exit=Exit.NO_PEER,
                why=str(error),
                hint="meshkeep status",
            )
        case PeerRefused(code="target_full") | transfer_errors.TargetFull():
            return "blocked", MeshkeepError(
                f"{what}: no room on {job.target}",
                code="target_full",
                why=str(error),
                hint=f"raise the quota or add disks on {job.target}; replication goes on by itself",
            )
        case PeerRefused(exit=Exit.FAILED):
            return "retrying", MeshkeepError(f"{what}: {error.text}", code=error.code, hint=error.hint)
        case PeerRefused():
            return "blocked", MeshkeepError(
                f"{what}: {error.text}", code=error.code, exit=Exit.REFUSED, hint=error.hint
            )
        case transfer_errors.Permanent():
            return "blocked", MeshkeepError(f"{what}: {error.text}", code=error.code, exit=Exit.REFUSED)
        case transfer_errors.TransferFailed():
            return "retrying", MeshkeepError(f"{what}: {error.text}", code=error.code)
        case _:
            return "failed", MeshkeepError(f"{what}: {error}", code="zfs_failed")
