"""One run of a replication: look at both sides, ask the planner, act, and look again.

Only what is found on the target counts. Which runs there are, and when, is the `replicator`'s.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from mesh.link import Link
from mesh.link_errors import LinkTimeout, PeerBroke, PeerRefused, PeerUnreachable
from node import protection
from node.errors import Exit, MeshkeepError
from node.job import Job, Report, Slots
from node.offers import Offer
from node.transfers import Workers
from replication import errors as transfer_errors
from replication.conflicts import Conflict
from replication.guard import Guard, cursors_of, hold_tag, let_go, reconcile
from replication.history import Rule, SourceHistory, TargetSnapshot, TargetState
from replication.jobs import SendStep
from replication.plan import plan
from replication.steps import Abort, Full, Plan, Resume, Step, Stream, UpToDate
from zfs import errors as zfs_errors
from zfs.door import Zfs
from zfs.model import Look, ResumeState

log = logging.getLogger(__name__)

SETTLE = 10.0
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


class _NotNow(Exception):
    """The run ends before its work is done, and nothing is wrong: what it waits for."""


class Runs:
    """Carries out the runs of jobs. `zfs` is the source's pool; targets are asked through `directory`."""

    def __init__(self, zfs: Zfs, workers: Workers, directory: Directory, now: Callable[[], float]) -> None:
        self._zfs = zfs
        self._workers = workers
        self._directory = directory
        self._now = now

    async def bring_up_to_date(
        self, job: Job, slots: Slots, above: Job | None = None, nested: tuple[str, ...] = ()
    ) -> Report:
        """Look, decide, act, and look again, until the target shows that there is nothing left to do.

        The first stream waits until *above* is stored, the job of the nearest ancestor that goes there too; *nested*
        are the datasets below with jobs of their own. Where the run has to wait for something else, the report says so.
        """
        tally = _Tally()
        try:
            await self._rounds(job, slots, tally, above, nested)
        except _NotNow as wait:
            return Report(job.as_of, tally.sent, tally.steps, tally.resumed, str(wait))
        finally:
            if tally.slot:
                slots.give_back()
        return Report(job.as_of, tally.sent, tally.steps, tally.resumed)

    async def _rounds(
        self, job: Job, slots: Slots, tally: "_Tally", above: Job | None, nested: tuple[str, ...]
    ) -> None:
        peer = self._directory.peer(job.target)
        while True:
            source, there = await self._look(job, peer)
            if above is not None and not there.exists:
                _check_order(job, above)
            decided = await self._decide(job, peer, source, there, nested)
            if isinstance(decided, UpToDate):
                return
            if any(_is_first(step) for step in decided.steps):
                self._check_window(job)
            if not tally.slot:
                job.state = "queued"
                waited = await slots.take()
                tally.slot, job.state = True, "running"
                if waited:
                    continue
            try:
                await self._carry_out(job, peer, decided, there, tally)
            except transfer_errors.PlanStale as error:
                tally.stale(error)

    async def planned(self, job: Job) -> Plan | Conflict | UpToDate:
        """What would be done now. Changes nothing. Raises MeshkeepError."""
        peer = self._directory.peer(job.target)
        source, there = await self._look(job, peer)
        return plan(source, there, self._rule(job, peer, source))

    async def recall(self, job: Job) -> None:
        """After a start: what the dataset's bookmarks say of the base, before the target was asked."""
        target_id = self._directory.peer(job.target).id
        source = await self._history(job.dataset)
        _note_bases(job, source, [mark.guid for mark in cursors_of(source, target_id)])

    def _check_window(self, job: Job) -> None:
        window = job.rule.window
        if window is not None and not window.is_open(int(self._now())):
            raise _NotNow(f"waiting for window {window}")

    async def _decide(
        self, job: Job, peer: Peer, source: SourceHistory, there: TargetState, nested: tuple[str, ...]
    ) -> Plan | UpToDate:
        """The plan, with the source's holds and bookmarks set to what the target has. Raises for a conflict."""
        decided = plan(source, there, self._rule(job, peer, source, nested))
        job.conflict = decided if isinstance(decided, Conflict) else None
        if isinstance(decided, Conflict):
            raise MeshkeepError(
                decided.text,
                code=decided.kind,
                exit=Exit.REFUSED,
                why="; ".join(decided.evidence),
                hint=decided.hint,
            )
        common = decided.base.guid if decided.base is not None else None
        if (
            common is not None
        ):  # a target whose pool is not imported shows nothing: what it needs is needed on
            _note_bases(job, source, [common])
        cut_short = there.resume.to_guid if there.resume is not None else None
        await self._guard(source, peer.id, common=common, to=cut_short)
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
            _note_bases(job, source, [step.to.guid])
            job.stored = True

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
                    steps=[SendStep(step.to.full_name, base.full_name if base else None)],
                    raw=raw,
                    resume=resume,
                    rate_limit=job.rule.rate_limit,
                    on_progress=job.sent,
                )
                job.transfer = transfer
                try:
                    async with self._while_open(job, first=base is None):
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

    @contextlib.asynccontextmanager
    async def _while_open(self, job: Job, *, first: bool) -> AsyncIterator[None]:
        """Ends a first stream, resumably, when its window closes."""
        window = job.rule.window if first else None
        try:
            async with asyncio.timeout(window.changes(int(self._now())) if window else None):
                yield
        except TimeoutError:
            raise _NotNow(f"waiting for window {window}") from None

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
        try:
            answer = await self._directory.link().call(
                peer.address, "replica.state", {"dataset": job.dataset}
            )
        except (PeerUnreachable, LinkTimeout):
            await self._lose_patience(job, peer, _source(look))
            raise
        now, written = int(self._now()), look.dataset.written
        try:
            there = target_state(answer)
            job.began_raw = bool(answer["encrypted"]) if there.snapshots else None
            job.see(
                protection.as_of(look.snapshots, written, answer["snapshots"], now=now),
                protection.behind(look.snapshots, answer["snapshots"], job.rule.selector.wants),
            )
            job.stored, job.seen = bool(there.snapshots), now
        except (KeyError, TypeError, ValueError) as error:  # a target is not trusted to make sense
            raise PeerBroke(peer.address, f"its answer makes no sense: {error!r}") from error
        return _source(look), there

    async def _lose_patience(self, job: Job, peer: Peer, source: SourceHistory) -> None:
        """A target that is away for too long, or pins too much, keeps its bookmarks and no snapshot."""
        held = await self._held(source)
        change = let_go(source, held, peer.id)
        if not change.release:
            return
        cursors = cursors_of(source, peer.id)
        since = job.seen if job.seen is not None else max((mark.creation for mark in cursors), default=None)
        away = int(self._now()) - since if since is not None else 0
        pinned = sum(one.used for one in source.snapshots if one.full_name in change.release)
        if not job.rule.patience.ends(away=away, pinned=pinned):
            return
        log.info(
            "%s -> %s: not there for %d s, %d bytes pinned: %s only bookmarked from now on",
            job.dataset, job.target, away, pinned, ", ".join(change.release),
        )  # fmt: skip
        await self._apply(change)

    def _rule(self, job: Job, peer: Peer, source: SourceHistory, nested: tuple[str, ...] = ()) -> Rule:
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
            allow_plaintext=job.rule.allow_plaintext,
            selector=job.rule.selector,
            initial=job.rule.initial,
            nested=nested,
        )

    async def _guard(
        self, source: SourceHistory, target_id: str, *, common: int | None, to: int | None
    ) -> None:
        held = await self._held(source)
        await self._apply(reconcile(source, held, target_id, common=common, to=to))

    async def _held(self, source: SourceHistory) -> dict[int, list[str]]:
        """The tags on each snapshot that has any, by guid."""
        return {
            snapshot.guid: await self._zfs.holds(snapshot.full_name)
            for snapshot in source.snapshots
            if snapshot.holds
        }

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


def _note_bases(job: Job, source: SourceHistory, guids: Sequence[int]) -> None:
    """From which versions the target's next stream may begin, and what is pinned by that."""
    job.bases = tuple(guids)
    found = source.by_guid()
    job.base_creation = max((found[guid].creation for guid in guids if guid in found), default=0)
    job.pinned = sum(one.used for one in source.snapshots if one.guid in guids)


def _is_first(step: Step) -> bool:
    return isinstance(step, Full) or (isinstance(step, Resume) and step.base is None)


def _check_order(job: Job, above: Job) -> None:
    """Nothing of *job* is stored, and what lies above it goes first. Raises _NotNow; MeshkeepError if it never will."""
    if above.stored:
        return
    if above.state == "nothing to send":
        raise MeshkeepError(
            f"cannot replicate {job.dataset} to {job.target} before {above.dataset}, which has no snapshot to send",
            code="parent_first",
            exit=Exit.REFUSED,
            why=f"a placeholder in its place could never be replaced by {above.dataset} later",
            hint=f"meshkeep snapshot take {above.dataset}",
        )
    raise _NotNow(f"waiting for {above.dataset}")


@dataclass(slots=True)
class _Tally:
    """What one run has done so far."""

    sent: int = 0
    steps: int = 0
    resumed: int = 0
    aborted: int = 0
    surprises: int = 0
    slot: bool = False

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


def _key_changed(job: Job, error: transfer_errors.KeyChanged) -> MeshkeepError:
    told = error.__cause__
    command = told.hint if isinstance(told, PeerRefused) and told.hint else "meshkeep key pending"
    return MeshkeepError(
        f"cannot replicate {job.dataset} to {job.target}: key changed",
        code=error.code,
        exit=Exit.REFUSED,
        why=f"{error.text}\n"
        f"if you changed it, say so at the console of {job.target}; if you did not, somebody else did",
        hint=f"on {job.target}, as root: {command}",
    )


def explain(job: Job, error: Exception) -> tuple[str, MeshkeepError]:
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
        case transfer_errors.KeyChanged():
            return "blocked", _key_changed(job, error)
        case transfer_errors.Permanent():
            return "blocked", MeshkeepError(f"{what}: {error.text}", code=error.code, exit=Exit.REFUSED)
        case transfer_errors.TransferFailed():
            return "retrying", MeshkeepError(f"{what}: {error.text}", code=error.code)
        case _:
            return "failed", MeshkeepError(f"{what}: {error}", code="zfs_failed")
