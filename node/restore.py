"""Bringing a dataset back from a node that keeps a replica of it: planned like any replication, the other way round.

Nothing that exists is overwritten: the name to restore to must be free, or hold the beginning of the same restore.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mesh.identity import Identity
from mesh.link_errors import LinkTimeout, PeerRefused, PeerUnreachable
from node.copies import Copies, Copy, Found, newest_of
from node.errors import Exit, MeshkeepError
from node.job import Job
from node.local_state import LocalState
from node.replicator import Directory, Peer
from node.testimony import Gather
from node.transfers import Workers, watched
from node.version_gates import VersionGates
from node.vouching import Vouched, check_age, vouched, vouched_all
from replication import errors as transfer_errors
from replication.conflicts import Conflict
from replication.history import Rule, SourceHistory, TargetSnapshot, TargetState
from replication.jobs import ReceiveStep
from replication.plan import plan
from replication.steps import Abort, Full, Resume, Rotate, Stream, UpToDate
from zfs import errors as zfs_errors
from zfs.door import Zfs
from zfs.model import Snapshot
from zfs.names import InvalidName, check_dataset, parent_of

ATTEMPTS = 5
PAUSE_S = 2.0
_ACCEPT = "--accept-unlisted takes it: only its own key then shows whether it is genuine"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to restore: `dataset` as it was called at home, from `node` (None: whoever has the newest), as `to`.

    `at` is the snapshot up to which; where none is called that, the newest taken by the time `before` (epoch seconds).
    `rate_limit` in bytes a second. `accept_unlisted` takes what is not on the list of what was sent, `older` what is
    known not to be the newest; `recovery` opens manifests, where the list is.
    """

    dataset: str
    node: str | None
    to: str
    at: str | None = None
    owner: str | None = None
    before: int | None = None
    rate_limit: int | None = None
    accept_unlisted: bool = False
    older: bool = False
    recovery: Identity | None = None


Tell = Callable[[Mapping[str, Any]], Awaitable[None]]


class Restorer:
    """Runs restores; each is one call. `others` are the nodes to look on where none is named; `gather` what is known of
    what was sent to them.
    """

    def __init__(
        self,
        zfs: Zfs,
        workers: Workers,
        directory: Directory,
        local: LocalState,
        gather: Gather,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        others: Callable[[], Sequence[Peer]] = lambda: (),
    ) -> None:
        self._local = local
        self._pause = pause
        self._zfs = zfs
        self._workers = workers
        self._directory = directory
        self.gather = gather
        self.copies = Copies(directory, others)
        self._gates = VersionGates(zfs)

    async def restore(self, wanted: Wanted, progress: Tell) -> dict[str, Any]:
        """Raises MeshkeepError. An interrupted restore is resumed by asking for the same again."""
        await self._check_place(wanted)
        return await self.fetch(wanted, await self.choose(wanted), progress)

    async def fetch(self, wanted: Wanted, copy: Copy, progress: Tell) -> dict[str, Any]:
        """Restore *copy*, found before, as `wanted.to`, whose parent exists. Raises MeshkeepError.

        Whatever was done with *copy* before: only what something vouches for is asked for.
        """
        if copy.vouched is None:
            copy = await vouched(copy, self.gather(wanted.recovery), accept_unlisted=wanted.accept_unlisted)
        if not await self._ours(wanted):
            if isinstance(plan(*await self._both(wanted, copy), _rule(wanted, copy)), UpToDate):
                return await self._report(wanted, copy, Job(wanted.dataset, copy.peer.name))
            raise _occupied(wanted, "no restore to it is under way")
        await self._gates.check_restoring(copy.encrypted, f"cannot restore {wanted.dataset}")
        self._local.begin_restore(wanted.to)
        try:
            return await self._fetch_all(wanted, copy, progress)
        finally:
            if not await self._exists(wanted.to):
                self._local.end_restore(wanted.to)

    async def plan(self, wanted: Wanted) -> dict[str, Any]:
        """What `restore` would do. Changes nothing. Raises MeshkeepError where that would be refused."""
        await self._check_place(wanted)
        copy = await self.choose(wanted)
        decided = plan(*await self._both(wanted, copy), _rule(wanted, copy))
        if isinstance(decided, Conflict):
            raise _occupied(wanted, "; ".join(decided.evidence))
        if not isinstance(decided, UpToDate) and not await self._ours(wanted):
            raise _occupied(wanted, "no restore to it is under way")
        steps = (
            []
            if isinstance(decided, UpToDate)
            else [one for one in decided.steps if not isinstance(one, Abort)]
        )
        return {
            "dataset": wanted.dataset,
            "to": wanted.to,
            "node": copy.peer.name,
            "owner": copy.owner,
            "snapshot": copy.newest.name,
            "as_of": copy.newest.creation,
            "snapshots": len(copy.snapshots),
            "steps": len(steps),
            "bytes_at_most": copy.used if steps else 0,
            "resumes": any(isinstance(step, Resume) for step in steps),
            "encrypted": copy.encrypted,
            "key": await self._key(wanted, copy),
            "reasons": list(decided.reasons),
            "vouched": _vouched(copy).as_json(),
        }

    async def _key(self, wanted: Wanted, copy: Copy) -> dict[str, Any]:
        """What is known here of the key that opens *copy*: `kin` is a dataset here with the same data key."""
        if not copy.encrypted:
            return {"needed": False, "kin": None, "loaded": None}
        for name in dict.fromkeys((wanted.dataset, wanted.to)):
            try:
                here = await self._zfs.look(name)
            except zfs_errors.NotFound:
                continue
            if here.dataset.encrypted and copy.known & {one.guid for one in here.snapshots}:
                return {"needed": True, "kin": name, "loaded": here.dataset.keystatus == "available"}
        return {"needed": True, "kin": None, "loaded": None}

    async def _ours(self, wanted: Wanted) -> bool:
        """Whether the name is free, or holds what an earlier restore to it began."""
        return wanted.to in self._local.restoring() or not await self._exists(wanted.to)

    async def _fetch_all(self, wanted: Wanted, copy: Copy, progress: Tell) -> dict[str, Any]:
        """Plan and fetch until the plan says that nothing is left."""
        job = Job(wanted.dataset, copy.peer.name)
        attempts = 0
        while True:
            decided = plan(*await self._both(wanted, copy), _rule(wanted, copy))
            if isinstance(decided, UpToDate):
                self._local.end_restore(wanted.to)
                return await self._report(wanted, copy, job)
            if isinstance(decided, Conflict):
                raise _occupied(wanted, "; ".join(decided.evidence))
            try:
                for number, step in enumerate(decided.steps, start=1):
                    if isinstance(step, Abort):
                        if step.to_guid not in copy.known:
                            raise _occupied(wanted, "it has a partly received stream of something else")
                        await self._zfs.abort_receive(wanted.to)
                        break
                    if isinstance(step, Rotate):  # no rule of a restore asks for that
                        raise _occupied(wanted, step.reason)
                    job.stepping(number, len(decided.steps), step.to.name)
                    await self._fetch(wanted, copy, step, job, progress)
                    attempts = 0
            except (transfer_errors.Transient, PeerUnreachable, LinkTimeout) as error:
                attempts += 1
                if attempts >= ATTEMPTS:
                    raise failed(wanted, copy.peer.name, error) from error
                await self._pause(PAUSE_S * 2**attempts)
            except (transfer_errors.Permanent, PeerRefused, zfs_errors.ZfsError) as error:
                raise failed(wanted, copy.peer.name, error) from error

    async def _check_place(self, wanted: Wanted) -> None:
        try:
            check_dataset(wanted.to)
        except InvalidName as error:
            raise MeshkeepError(str(error), code="bad_name", exit=Exit.USAGE) from error
        parent = parent_of(wanted.to)
        try:
            await self._zfs.dataset(parent or wanted.to)
        except zfs_errors.NotFound:
            raise MeshkeepError(
                f"cannot restore to {wanted.to}: there is no {parent or 'such pool'} here",
                code="no_parent",
                exit=Exit.NOT_FOUND,
                hint=f"zfs create -p {parent}" if parent else "zpool list",
            ) from None
        if parent is None:
            raise MeshkeepError(
                "a pool itself is never restored over",
                code="destination_exists",
                exit=Exit.REFUSED,
                hint=f"--to {wanted.to}/restored",
            )

    async def _exists(self, dataset: str) -> bool:
        try:
            await self._zfs.dataset(dataset)
        except zfs_errors.NotFound:
            return False
        return True

    async def choose(self, wanted: Wanted) -> Copy:
        """The copy that is meant, of those that are ours, up to the snapshot that is wanted."""
        there = await self._found(wanted)
        credible = [copy for copy in there if copy.credible]
        if not credible:
            raise _forged(wanted, there[0].peer.name)
        found, suspect = await vouched_all(
            credible, self.gather(wanted.recovery), accept_unlisted=wanted.accept_unlisted
        )
        if not found:
            raise next(error for _, error in suspect)
        cut = [copy.up_to(end) for copy in found if (end := _end(wanted, copy)) is not None]
        chosen = newest_of(cut)
        if chosen is not None:
            if not wanted.older and wanted.at is None and wanted.before is None:
                check_age(chosen)
            return chosen
        raise _no_snapshot(wanted, found)

    async def _found(self, wanted: Wanted) -> tuple[Copy, ...]:
        """The copies of the dataset on the node that is named, or on all. Raises MeshkeepError for none."""
        if wanted.node is not None:
            peer = self._directory.peer(wanted.node)
            try:
                answer = Found(await self.copies.on(peer))
            except (PeerUnreachable, LinkTimeout, PeerRefused) as error:
                raise failed(wanted, wanted.node, error) from error
        else:
            answer = await self.copies.everywhere()
        found = tuple(
            one
            for one in answer.copies
            if one.dataset == wanted.dataset and wanted.owner in (None, one.owner)
        )
        if not found:
            raise _no_replica(wanted, answer)
        return found

    async def _both(self, wanted: Wanted, copy: Copy) -> tuple[SourceHistory, TargetState]:
        there = SourceHistory(wanted.dataset, copy.snapshots, (), copy.encrypted)
        try:
            look = await self._zfs.look(wanted.to)
        except zfs_errors.NotFound:
            return there, TargetState(exists=False)
        here = tuple(TargetSnapshot(s.name, s.guid, s.createtxg, s.creation) for s in look.snapshots)
        return there, TargetState(exists=True, snapshots=here, resume=look.resume)

    async def _fetch(self, wanted: Wanted, copy: Copy, step: Stream, job: Job, progress: Tell) -> None:
        """One snapshot. That it is here is seen when both sides are looked at again."""
        base = None if isinstance(step, Full) else step.base
        resume = [step.object, step.offset] if isinstance(step, Resume) else None
        args = {
            "owner": copy.owner,
            "dataset": wanted.dataset,
            "to_guid": step.to.guid,
            "from_guid": base.guid if base else None,
            "resume": resume,
        }
        link = self._directory.link()
        async with link.stream(copy.peer.address, "replica.send", args, sending=False, timeout=120) as stream:
            job.sending(0, int(stream.reply.get("size") or 0))
            from_guid = base.guid if base else None
            expected = _vouched(copy).expected(step.to.guid, from_guid, encrypted=copy.encrypted)
            received = ReceiveStep(
                f"{wanted.to}@{step.target_name}",
                step.to.guid,
                from_guid,
                expected.to_ivset,
                expected.from_ivset,
            )
            transfer = await self._workers.receive(
                stream.socket,
                steps=[received],
                raw=copy.encrypted,
                resuming=resume is not None,
                keys=expected.keys,
                rate_limit=wanted.rate_limit,
                on_progress=job.sent,
            )
            async with watched(lambda: progress(job.progress())):
                await transfer.outcome()

    async def _report(self, wanted: Wanted, copy: Copy, job: Job) -> dict[str, Any]:
        look = await self._zfs.look(wanted.to)
        here, newest, dataset = look.snapshots, look.snapshots[-1], look.dataset
        return {
            "dataset": wanted.to,
            "node": copy.peer.name,
            "owner": copy.owner,
            "state": "restored, unproven",
            "vouched": _vouched(copy).as_json(),
            "snapshots": len(here),
            "newest": newest.name,
            "as_of": newest.creation,
            "bytes": job.bytes_total_sent,
            "encrypted": dataset.encrypted,
            "next": f"zfs load-key {wanted.to} && zfs mount {wanted.to}"
            if dataset.encrypted
            else f"zfs mount {wanted.to}",
        }


def _vouched(copy: Copy) -> Vouched:
    """What speaks for it; without that nothing is fetched."""
    assert copy.vouched is not None
    return copy.vouched


def _end(wanted: Wanted, copy: Copy) -> Snapshot | None:
    """The snapshot of *copy* up to which is wanted; None if it has none such."""
    if wanted.at is not None:
        named = next((one for one in copy.snapshots if one.name == wanted.at), None)
        if named is not None or wanted.before is None:
            return named
    if wanted.before is None:
        return copy.newest
    then = [one for one in copy.snapshots if one.creation <= wanted.before]
    return max(then, key=lambda one: one.createtxg, default=None)


def _rule(wanted: Wanted, copy: Copy) -> Rule:
    return Rule(target=wanted.to, target_role="member", raw=copy.encrypted, allow_plaintext=True)


def _no_replica(wanted: Wanted, answer: Found) -> MeshkeepError:
    """Nobody who answered has it; who did not may have."""
    names = sorted({one.dataset for one in answer.copies})
    silent = "; ".join(f"{one.node} did not answer ({one.why})" for one in answer.silent)
    keeps = ("it keeps " if wanted.node else "they keep ") + (", ".join(names) or "nothing of ours")
    return MeshkeepError(
        f"{wanted.node or 'no node that answered'} keeps "
        + ("no" if wanted.node else "a")
        + f" replica of {wanted.dataset} that is this host's to read",
        code="no_replica",
        exit=Exit.NO_PEER if silent and not names else Exit.NOT_FOUND,
        why="; ".join(part for part in (keeps, silent) if part),
        hint="a replica is read by its owner, or by the host that succeeds it: meshkeep invite --succeeds NODE",
    )


def _no_snapshot(wanted: Wanted, found: Sequence[Copy]) -> MeshkeepError:
    keepers = ", ".join(dict.fromkeys(copy.peer.name for copy in found))
    what = f"no snapshot @{wanted.at}" if wanted.before is None else f"no snapshot as old as {wanted.at}"
    copy = max(found, key=lambda one: one.newest.creation)
    withheld = next((one for one in found if wanted.at in _vouched(one).left_out), None)
    if withheld is not None and wanted.before is None:
        return MeshkeepError(
            f"{withheld.peer.name} has @{wanted.at} of {wanted.dataset}, left out: not on the list of what was sent",
            code="no_snapshot",
            exit=Exit.REFUSED,
            why="it was never sent there, or is older than what the list holds; listed are "
            + ", ".join(one.name for one in withheld.snapshots[-5:]),
            hint=_ACCEPT,
        )
    left = sum(len(_vouched(one).left_out) for one in found)
    names = [one.name for one in (copy.snapshots[-5:] if wanted.before is None else copy.snapshots[:1])]
    return MeshkeepError(
        f"{keepers} has {what} of {wanted.dataset}",
        code="no_snapshot",
        exit=Exit.NOT_FOUND,
        why=("it has " if wanted.before is None else "its oldest is ")
        + ", ".join(names)
        + (f"; {left} more left out: not on the list of what was sent" if left else ""),
        hint=_ACCEPT if left else "",
    )


def _forged(wanted: Wanted, node: str) -> MeshkeepError:
    return MeshkeepError(
        f"{node} offers {wanted.dataset} as plaintext",
        code="plaintext_from_vault",
        exit=Exit.REFUSED,
        why=f"{node} is a vault and never got any: these are not the bytes that were sent there",
        hint="restore it from another node",
    )


def _occupied(wanted: Wanted, why: str) -> MeshkeepError:
    return MeshkeepError(
        f"{wanted.to} exists and is not the beginning of this restore; nothing is overwritten",
        code="destination_exists",
        exit=Exit.REFUSED,
        why=why,
        hint=f"choose another name: --to {wanted.to}-restored",
    )


def failed(wanted: Wanted, node: str, error: Exception) -> MeshkeepError:
    """What went wrong between here and *node*, in a person's words."""
    unreachable = isinstance(error, PeerUnreachable | LinkTimeout)
    code = getattr(error, "code", "peer_unreachable" if unreachable else "failed")
    refused = isinstance(error, PeerRefused) and error.exit != Exit.FAILED
    exit = Exit.NO_PEER if unreachable else Exit.REFUSED if refused else Exit.FAILED
    return MeshkeepError(
        f"cannot restore {wanted.dataset} from {node}",
        code=str(code),
        exit=exit,
        why=str(error),
        hint="the same command goes on where this one stopped",
    )
