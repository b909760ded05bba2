"""Carrying out a plan: its steps go out in chunks, each over one connection and by one worker on either side."""

import asyncio
import contextlib
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from mesh.link import OutgoingStream
from mesh.link_errors import PeerBroke, PeerRefused
from node.bases import Bases, Kept, note_bases
from node.directory import Directory, Peer
from node.job import Job
from node.offers import Offer, OfferedStep
from node.run_errors import peer_knows_better
from node.sent import Sent
from node.transfers import Workers
from replication import errors as transfer_errors
from replication.history import Base, TargetState
from replication.jobs import SendOutcome, SendStep
from replication.steps import Full, Resume, Step, Stream
from zfs import errors as zfs_errors
from zfs.door import Zfs

CHUNK = 64
"""Steps over one connection. What surrounds a chunk (a request, two workers, holds and bookmarks, each waiting for the
disk once) is a hundredth of it by then; and a run that breaks off leaves no more than so many snapshots held.
"""

# What a target answers when the plan was made from a listing that is no longer true.
STALE = frozenset(
    {"partial_state", "diverged", "already_here", "no_base", "no_partial", "would_overwrite", "came_back"}
)


class WindowClosed(Exception):
    """A first stream ended, resumably, because its window did."""


@dataclass(frozen=True, slots=True)
class Part:
    """A chunk of a chain. `begins` is the number of its first step in the chain, from 1; sizes in bytes.

    `arrived` is what the target has of the first already, `behind` what of the chain comes after this chunk.
    """

    steps: Sequence[Stream]
    raw: bool
    begins: int
    sizes: Sequence[int]
    arrived: int
    behind: int

    @property
    def left(self) -> list[int]:
        """What each step still has to bring."""
        return [max(0, self.sizes[0] - self.arrived), *self.sizes[1:]]

    def offer(self, dataset: str) -> Offer:
        """As it is announced."""
        steps = [
            OfferedStep(step.target_name, step.to.guid, base.guid if (base := base_of(step)) else None, size)
            for step, size in zip(self.steps, self.left, strict=True)
        ]
        return Offer(dataset, self.raw, isinstance(self.steps[0], Resume), tuple(steps))


class Chain:
    """Sends what a plan says, with both ends of every step kept on the source before its first byte goes out."""

    def __init__(
        self,
        zfs: Zfs,
        workers: Workers,
        directory: Directory,
        bases: Bases,
        now: Callable[[], float],
        sent: Sent | None = None,
    ) -> None:
        self._sent = sent
        self._zfs = zfs
        self._workers = workers
        self._directory = directory
        self._bases = bases
        self._now = now

    async def send(
        self, job: Job, peer: Peer, steps: Sequence[Stream], kept: Kept, there: TargetState, *, raw: bool
    ) -> AsyncIterator[Sequence[Stream]]:
        """Chunk by chunk; yields what the target says it has of each. Ends early where that is not all.

        Raises PlanStale, TransferFailed, LinkError, ZfsError, WindowClosed.
        """
        arrived, sent = (there.resume.bytes if there.resume and isinstance(steps[0], Resume) else 0), 0
        for chunk in chunks(steps):
            base, begins = base_of(chunk[0]), sent + 1
            try:
                kept = await self._bases.keep(
                    kept, peer.id, common=base.guid if base else None, to=[step.to.guid for step in chunk]
                )
                sizes, behind = await self._sizes(chunk, steps[-1], raw)
            except zfs_errors.NotFound as error:  # pruned since it was planned
                raise transfer_errors.PlanStale(str(error)) from error
            part = Part(chunk, raw, begins, sizes, arrived if begins == 1 else 0, behind)
            job.sending(part.arrived, sum(sizes) + behind, first=begins == 1)
            job.stepping(begins, len(steps), chunk[0].to.name)
            stored = await self._one(job, peer, part, len(steps))
            if stored:
                note_bases(job, kept.source, [stored[-1].to.guid])
                job.stored = True
            sent += len(stored)
            yield stored
            if len(stored) < len(chunk):
                raise transfer_errors.PlanStale(
                    f"the target has {len(stored)} of the {len(chunk)} snapshots that were sent"
                )

    async def _sizes(self, chunk: Sequence[Stream], last: Stream, raw: bool) -> tuple[list[int], int]:
        """Estimates, all at once: of each step in *chunk*, and of the rest of the chain as if it were one step.

        Each is a short question to the kernel, which answers from its dead lists; asked for a chunk before it goes
        out, and not for all of the chain, so that the first byte does not wait for the last step.
        """
        spans = [(step.to.full_name, base.full_name if (base := base_of(step)) else None) for step in chunk]
        if last is not chunk[-1]:
            spans.append((last.to.full_name, chunk[-1].to.full_name))
        sizes = await asyncio.gather(*(self._zfs.send_size(to, base, raw=raw) for to, base in spans))
        return sizes[: len(chunk)], sum(sizes[len(chunk) :])

    async def _one(self, job: Job, peer: Peer, part: Part, total: int) -> list[Stream]:
        """One connection. The steps that the target found, from the first on."""
        first = part.steps[0]
        job.resumed += isinstance(first, Resume)
        try:
            async with self._directory.link().stream(
                peer.address, "replica.receive", part.offer(job.dataset).as_json()
            ) as stream:
                answer = await self._through(job, part, total, stream)
        except PeerRefused as refused:
            if refused.code in STALE:
                raise transfer_errors.PlanStale(refused.text) from refused
            if not transfer_errors.is_code(refused.code):
                raise  # the target's own word, with what can be done about it
            raise transfer_errors.of_code(refused.code, refused.text) from refused
        try:
            found = {int(one["guid"]) for one in answer["received"]}
        except (KeyError, TypeError, ValueError) as error:
            raise PeerBroke(peer.address, f"its answer makes no sense: {error!r}") from error
        missing = next((n for n, step in enumerate(part.steps) if step.to.guid not in found), len(part.steps))
        return list(part.steps[:missing])

    async def _through(self, job: Job, part: Part, total: int, stream: OutgoingStream) -> dict[str, Any]:
        first, ends = part.steps[0], list(accumulate(part.left))

        def progress(count: int) -> None:
            """Which step it is follows from the estimates: close enough for people."""
            job.sent(count)
            number = min(bisect_right(ends, count), len(part.steps) - 1)
            job.stepping(part.begins + number, total, part.steps[number].to.name)

        transfer = await self._workers.send(
            stream.socket,
            steps=[
                SendStep(step.to.full_name, base.full_name if (base := base_of(step)) else None)
                for step in part.steps
            ],
            raw=part.raw,
            resume=(first.object, first.offset) if isinstance(first, Resume) else None,
            rate_limit=job.rule.rate_limit,
            on_progress=progress,
        )
        job.transfer = transfer
        try:
            async with self._while_open(job, first=is_first(first)):
                await transfer.outcome()
        except transfer_errors.TransferFailed as error:
            raise await peer_knows_better(stream.finish, error) from error
        finally:
            job.transfer = None
            await self._note(job, part, transfer.said)
        return await stream.finish(timeout=3600)

    async def _note(self, job: Job, part: Part, said: SendOutcome | None) -> None:
        """What went out is noted before anything is asked about it; of what broke off nobody knows what arrived."""
        if self._sent is None or said is None or (said.code and not said.begin):
            return
        names = {step.to.guid: step.target_name for step in part.steps}
        await self._sent.went_out(job.dataset, names, said.begin, None if said.code else said.bytes)

    @contextlib.asynccontextmanager
    async def _while_open(self, job: Job, *, first: bool) -> AsyncIterator[None]:
        """Ends a first stream, resumably, when its window closes."""
        window = job.rule.window if first else None
        try:
            async with asyncio.timeout(window.changes(int(self._now())) if window else None):
                yield
        except TimeoutError:
            raise WindowClosed(f"waiting for window {window}") from None


def chunks(steps: Sequence[Stream]) -> Iterator[Sequence[Stream]]:
    """Parts of a chain. A first stream goes by itself: it may take days, and has a window that may close."""
    start = 1 if steps and is_first(steps[0]) else 0
    if start:
        yield steps[:1]
    for begin in range(start, len(steps), CHUNK):
        yield steps[begin : begin + CHUNK]


def base_of(step: Stream) -> Base | None:
    """What the stream begins from; None for a full one."""
    return None if isinstance(step, Full) else step.base


def is_first(step: Step) -> bool:
    """Whether it brings the first snapshot of a replica."""
    return isinstance(step, Full) or (isinstance(step, Resume) and step.base is None)
