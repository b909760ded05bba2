"""One run of a replication: look at both sides, ask the planner, act, and look again.

Only what is found on the target counts. Which runs there are, and when, is the `replicator`'s.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from mesh.link_errors import LinkTimeout, PeerBroke, PeerUnreachable
from node import protection
from node.bases import Bases, history_of, note_bases
from node.chain import Chain, WindowClosed, is_first
from node.directory import Directory, Peer
from node.errors import Exit, MeshkeepError
from node.job import Job, Report, Slots
from node.looks import Looks
from node.roots import ROOT, Roots, seen
from node.rotation import chosen, keep_aside
from node.sent import Sent
from node.target_states import TargetStates, target_state
from node.transfers import Workers
from node.version_gates import VersionGates
from replication import errors as transfer_errors
from replication.conflicts import Conflict
from replication.guard import cursors_of
from replication.history import Rule, SourceHistory, TargetState
from replication.plan import plan
from replication.steps import Abort, Full, Incremental, Plan, Resume, Rotate, UpToDate
from zfs import errors as zfs_errors
from zfs.door import Zfs

log = logging.getLogger(__name__)

STILL_TRUE = 300.0
"""Seconds in line for a stream after which both sides are looked at again. A plan that is out of date before does no
harm: the target refuses it, and it is made anew."""


class _NotNow(Exception):
    """The run ends before its work is done, and nothing is wrong: what it waits for."""


class Runs:
    """Carries out the runs of jobs. `zfs` is the source's pool; targets are asked through `directory`, and `sent` lists
    what they were seen to hold.
    """

    def __init__(
        self,
        zfs: Zfs,
        workers: Workers,
        directory: Directory,
        now: Callable[[], float],
        sent: Sent | None = None,
    ) -> None:
        self._sent = sent
        self._directory = directory
        self._now = now
        self._looks = Looks(zfs, now, (ROOT,))
        self._states = TargetStates(directory)
        self._bases = Bases(zfs, self._looks)
        self._chain = Chain(zfs, workers, directory, self._bases, now, sent)
        self._roots = Roots(zfs, self._guid_of)
        self._gates = VersionGates(zfs)
        self._in_order: dict[tuple[str, str], tuple[object, ...]] = {}

    async def bring_up_to_date(
        self, job: Job, slots: Slots, above: Job | None = None, nested: tuple[str, ...] = ()
    ) -> Report:
        """Look, decide, act, and look again, until the target shows that there is nothing left to do.

        The first stream waits until *above* is stored, the job of the nearest ancestor that goes there too; *nested*
        are the datasets below with jobs of their own. Where the run has to wait for something else, the report says so.
        """
        tally = _Tally()
        waiting = ""
        try:
            await self._rounds(job, slots, tally, above, nested)
        except (_NotNow, WindowClosed) as wait:
            waiting = str(wait)
        return Report(job.as_of, tally.sent, tally.steps, tally.resumed, waiting)

    async def _rounds(
        self, job: Job, slots: Slots, tally: "_Tally", above: Job | None, nested: tuple[str, ...]
    ) -> None:
        """A slot is held for streams alone, so that those who look again can do it together."""
        peer = self._directory.peer(job.target)
        time = asyncio.get_running_loop().time
        while True:
            source, there = await self._look(job, peer)
            looked = time()
            if above is not None and not there.exists:
                _check_order(job, above)
            decided = self._decide(job, peer, source, there, nested)
            if isinstance(decided, UpToDate):
                await self._tidy(job, peer, source, there, decided)
                return
            if any(is_first(step) for step in decided.steps):
                self._check_window(job)
            await self._roots.check(job.roots, job.target, decided)
            await self._gates.check_sending(decided, f"{job.dataset} is not replicated to {job.target}")
            job.state = "queued"
            await slots.take()
            job.state = "running"
            try:
                if time() < looked + STILL_TRUE:
                    await self._carry_out(job, peer, decided, source, there, tally)
            except transfer_errors.PlanStale as error:
                tally.stale(error)
            finally:
                slots.give_back()

    async def planned(self, job: Job) -> Plan | Conflict | UpToDate:
        """What would be done now. Changes nothing. Raises MeshkeepError."""
        peer = self._directory.peer(job.target)
        source, there = await self._look(job, peer)
        return plan(source, there, self._rule(job, peer, source, there))

    async def _guid_of(self, dataset: str) -> int:
        return (await self._looks.at(dataset)).dataset.guid

    async def recall(self, job: Job) -> None:
        """After a start: what the dataset's bookmarks say of the base, before the target was asked."""
        target_id = self._directory.peer(job.target).id
        source = history_of(await self._looks.at(job.dataset))
        note_bases(job, source, [mark.guid for mark in cursors_of(source, target_id)])

    def _check_window(self, job: Job) -> None:
        window = job.rule.window
        if window is not None and not window.is_open(int(self._now())):
            raise _NotNow(f"waiting for window {window}")

    def _decide(
        self, job: Job, peer: Peer, source: SourceHistory, there: TargetState, nested: tuple[str, ...]
    ) -> Plan | UpToDate:
        """Raises MeshkeepError for a conflict."""
        decided = plan(source, there, self._rule(job, peer, source, there, nested))
        job.conflict = decided if isinstance(decided, Conflict) else None
        if isinstance(decided, Conflict):
            raise MeshkeepError(
                decided.text,
                code=decided.kind,
                exit=Exit.REFUSED,
                why="; ".join(decided.evidence),
                hint=decided.hint,
            )
        if decided.base is not None:
            # a target whose pool is not imported shows nothing: what it needs is needed on
            note_bases(job, source, [decided.base.guid])
        return decided

    async def _tidy(
        self, job: Job, peer: Peer, source: SourceHistory, there: TargetState, decided: UpToDate
    ) -> None:
        """The source's holds and bookmarks are set to what the target has; if nothing moved, they still are."""
        common = decided.base.guid if decided.base is not None else None
        cut_short = [there.resume.to_guid] if there.resume is not None else []
        key, seen = (job.dataset, peer.id), (source.snapshots, source.bookmarks, common, cut_short)
        known = self._in_order.get(key)
        if known is not None and known[0] is seen[0] and known[1] is seen[1] and known[2:] == seen[2:]:
            return
        kept = await self._bases.read(source)
        if await self._bases.keep(kept, peer.id, common=common, to=cut_short) is kept:
            self._in_order[key] = seen

    async def _carry_out(
        self,
        job: Job,
        peer: Peer,
        decided: Plan,
        source: SourceHistory,
        there: TargetState,
        tally: "_Tally",
    ) -> None:
        first, link = decided.steps[0], self._directory.link()
        if isinstance(first, Rotate):
            tally.abort(first)
            await keep_aside(link, peer.address, job, source, first)
            return
        if isinstance(first, Abort):
            tally.abort(first)
            log.info("%s -> %s: %s", job.dataset, job.target, first.reason)
            await link.call(peer.address, "replica.abort", {"dataset": job.dataset})
            return
        streams = [step for step in decided.steps if isinstance(step, Full | Incremental | Resume)]
        before = job.bytes_total_sent
        kept = await self._bases.read(source)
        try:
            async for stored in self._chain.send(job, peer, streams, kept, there, raw=decided.raw):
                tally.steps += len(stored)
                tally.resumed += sum(isinstance(step, Resume) for step in stored)
        finally:
            tally.sent += job.bytes_total_sent - before
            self._looks.forget(job.dataset)

    # -- looking -----------------------------------------------------------------------------------------------

    async def _look(self, job: Job, peer: Peer) -> tuple[SourceHistory, TargetState]:
        """Both sides as they are; what that means for the protection is noted in the job."""
        try:
            look = await self._looks.at(job.dataset)
        except zfs_errors.NotFound:
            raise MeshkeepError(
                f"there is no dataset {job.dataset} here",
                code="no_dataset",
                exit=Exit.NOT_FOUND,
                hint="zfs list",
            ) from None
        try:
            answer = await self._states.of(peer, job.dataset)
        except (PeerUnreachable, LinkTimeout):
            await self._lose_patience(job, peer, history_of(look))
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
            job.roots = seen(look)
        except (KeyError, TypeError, ValueError) as error:  # a target is not trusted to make sense
            raise PeerBroke(peer.address, f"its answer makes no sense: {error!r}") from error
        if self._sent is not None:
            stored = [(one.guid, one.name) for one in there.snapshots]
            await self._sent.shown(
                job.dataset,
                peer.id,
                look.snapshots,
                stored,
                encrypted=look.dataset.encrypted,
                claimed=job.began_raw is True,
            )
        return history_of(look), there

    async def _lose_patience(self, job: Job, peer: Peer, source: SourceHistory) -> None:
        """A target that is away for too long, or pins too much, keeps its bookmarks and no snapshot."""
        kept = await self._bases.read(source)
        change = self._bases.letting_go(kept, peer.id)
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
        await self._bases.apply(kept, change)

    def _rule(
        self, job: Job, peer: Peer, source: SourceHistory, there: TargetState, nested: tuple[str, ...] = ()
    ) -> Rule:
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
            on_divergence=chosen(job, there),
        )

    async def forget(self, dataset: str, target_id: str) -> None:
        """A rule was removed: release what was kept for it. The replica itself stays where it is."""
        await self._bases.forget(dataset, target_id)


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

    def stale(self, error: transfer_errors.PlanStale) -> None:
        """An earlier stream that still ran at the first look explains one or two. Raises *error* after that."""
        self.surprises += 1
        if self.surprises > 2:
            raise error

    def abort(self, step: Abort | Rotate) -> None:
        """Once is a plan; what stands in the way and will not go is trouble. Raises PlanStale."""
        self.aborted += 1
        if self.aborted > 2:
            raise transfer_errors.PlanStale(
                f"the target does not drop what it partly received, or keep aside what it has: {step.reason}"
            )
