"""Bringing a dataset back from a node that keeps a replica of it: planned like any replication, the other way round.

Nothing that exists is overwritten: the name to restore to must be free, or hold the beginning of the same restore.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mesh.link_errors import LinkTimeout, PeerRefused, PeerUnreachable
from node.errors import Exit, MeshkeepError
from node.job import Job
from node.local_state import LocalState
from node.offers import Offer
from node.replicator import Directory, Peer
from node.transfers import Workers, watched
from replication import errors as transfer_errors
from replication.conflicts import Conflict
from replication.history import Rule, SourceHistory, TargetSnapshot, TargetState
from replication.plan import plan
from replication.steps import Abort, Full, Resume, Stream, UpToDate
from zfs import errors as zfs_errors
from zfs.door import Zfs
from zfs.model import Snapshot
from zfs.names import InvalidName, check_dataset, parent_of

ATTEMPTS = 5
PAUSE_S = 2.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to restore: `dataset` as it was called at home, from `node`, up to snapshot `at`, as `to`."""

    dataset: str
    node: str
    to: str
    at: str | None = None
    owner: str | None = None


class Restorer:
    """Runs restores; each is one call."""

    def __init__(
        self,
        zfs: Zfs,
        workers: Workers,
        directory: Directory,
        local: LocalState,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._local = local
        self._pause = pause
        self._zfs = zfs
        self._workers = workers
        self._directory = directory

    async def restore(
        self, wanted: Wanted, progress: Callable[[Mapping[str, Any]], Awaitable[None]]
    ) -> dict[str, Any]:
        """Raises MeshkeepError. An interrupted restore is resumed by asking for the same again."""
        await self._check_place(wanted)
        peer = self._directory.peer(wanted.node)
        replica = await self._choose(wanted, peer)
        ours = wanted.to in self._local.restoring() or not await self._exists(wanted.to)
        if not ours:
            there, here = await self._both(wanted, replica)
            if isinstance(plan(there, here, _rule(wanted, peer, replica)), UpToDate):
                return await self._report(wanted, replica, Job(wanted.dataset, wanted.node))
            raise _occupied(wanted, "no restore to it is under way")
        self._local.begin_restore(wanted.to)
        try:
            return await self._fetch_all(wanted, replica, peer, progress)
        finally:
            if not await self._exists(wanted.to):
                self._local.end_restore(wanted.to)

    async def _fetch_all(
        self,
        wanted: Wanted,
        replica: Mapping[str, Any],
        peer: Peer,
        progress: Callable[[Mapping[str, Any]], Awaitable[None]],
    ) -> dict[str, Any]:
        """Plan and fetch until the plan says that nothing is left."""
        job = Job(wanted.dataset, wanted.node)
        attempts = 0
        while True:
            decided = plan(*await self._both(wanted, replica), _rule(wanted, peer, replica))
            if isinstance(decided, UpToDate):
                self._local.end_restore(wanted.to)
                return await self._report(wanted, replica, job)
            if isinstance(decided, Conflict):
                raise _occupied(wanted, "; ".join(decided.evidence))
            try:
                for number, step in enumerate(decided.steps, start=1):
                    if isinstance(step, Abort):
                        if step.to_guid not in replica["guids"]:
                            raise _occupied(wanted, "it has a partly received stream of something else")
                        await self._zfs.abort_receive(wanted.to)
                        break
                    job.stepping(number, len(decided.steps), step.to.name)
                    await self._fetch(wanted, replica, peer, step, job, progress)
                    attempts = 0
            except (transfer_errors.Transient, PeerUnreachable, LinkTimeout) as error:
                attempts += 1
                if attempts >= ATTEMPTS:
                    raise _failed(wanted, error) from error
                await self._pause(PAUSE_S * 2**attempts)
            except (transfer_errors.Permanent, PeerRefused, zfs_errors.ZfsError) as error:
                raise _failed(wanted, error) from error

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

    async def _choose(self, wanted: Wanted, peer: Peer) -> dict[str, Any]:
        """The replica that is meant, of those the peer says are ours."""
        try:
            answer = await self._directory.link().call(peer.address, "replica.list", {}, timeout=120)
        except (PeerUnreachable, LinkTimeout, PeerRefused) as error:
            raise _failed(wanted, error) from error
        found = [one for one in answer["replicas"] if one["dataset"] == wanted.dataset]
        if wanted.owner is not None:
            found = [one for one in found if one["owner"] == wanted.owner]
        if not found:
            raise MeshkeepError(
                f"{wanted.node} keeps no replica of {wanted.dataset} that is this host's to read",
                code="no_replica",
                exit=Exit.NOT_FOUND,
                why="it keeps "
                + (", ".join(sorted({o["dataset"] for o in answer["replicas"]})) or "nothing of ours"),
                hint="a replica is read by its owner, or by the host that succeeds it: meshkeep invite --succeeds NODE",
            )
        replica = max(found, key=lambda one: max(int(s["creation"]) for s in one["snapshots"]))
        replica = {**replica, "guids": {int(one["guid"]) for one in replica["snapshots"]}}
        if wanted.at is not None:
            names = [one["name"] for one in replica["snapshots"]]
            if wanted.at not in names:
                raise MeshkeepError(
                    f"{wanted.node} has no snapshot @{wanted.at} of {wanted.dataset}",
                    code="no_snapshot",
                    exit=Exit.NOT_FOUND,
                    why="it has " + ", ".join(names[-5:]),
                )
            replica = {**replica, "snapshots": replica["snapshots"][: names.index(wanted.at) + 1]}
        return replica

    async def _both(self, wanted: Wanted, replica: Mapping[str, Any]) -> tuple[SourceHistory, TargetState]:
        there = SourceHistory(wanted.dataset, _snapshots(replica), (), bool(replica["encrypted"]))
        try:
            look = await self._zfs.look(wanted.to)
        except zfs_errors.NotFound:
            return there, TargetState(exists=False)
        here = tuple(TargetSnapshot(s.name, s.guid, s.createtxg, s.creation) for s in look.snapshots)
        return there, TargetState(exists=True, snapshots=here, resume=look.resume)

    async def _fetch(
        self,
        wanted: Wanted,
        replica: Mapping[str, Any],
        peer: Peer,
        step: Stream,
        job: Job,
        progress: Callable[[Mapping[str, Any]], Awaitable[None]],
    ) -> None:
        """One snapshot. That it is here is seen when both sides are looked at again."""
        base = None if isinstance(step, Full) else step.base
        resume = [step.object, step.offset] if isinstance(step, Resume) else None
        args = {
            "owner": replica["owner"],
            "dataset": wanted.dataset,
            "to_guid": step.to.guid,
            "from_guid": base.guid if base else None,
            "resume": resume,
        }
        link = self._directory.link()
        async with link.stream(peer.address, "replica.send", args, sending=False, timeout=120) as stream:
            job.sending(0, int(stream.reply.get("size") or 0))
            offer = Offer(
                dataset=wanted.dataset,
                name=step.target_name,
                to_guid=step.to.guid,
                from_guid=base.guid if base else None,
                raw=bool(replica["encrypted"]),
                resuming=resume is not None,
                size=0,
            )
            transfer = await self._workers.receive(
                stream.socket, snapshot=f"{wanted.to}@{step.target_name}", offer=offer, on_progress=job.sent
            )
            async with watched(lambda: progress(job.progress())):
                await transfer.outcome()

    async def _report(self, wanted: Wanted, replica: Mapping[str, Any], job: Job) -> dict[str, Any]:
        look = await self._zfs.look(wanted.to)
        here, newest, dataset = look.snapshots, look.snapshots[-1], look.dataset
        return {
            "dataset": wanted.to,
            "node": wanted.node,
            "owner": replica["owner"],
            "state": "restored, unproven",
            "snapshots": len(here),
            "newest": newest.name,
            "as_of": newest.creation,
            "bytes": job.bytes_total_sent,
            "encrypted": dataset.encrypted,
            "next": f"zfs load-key {wanted.to} && zfs mount {wanted.to}"
            if dataset.encrypted
            else f"zfs mount {wanted.to}",
        }


def _snapshots(replica: Mapping[str, Any]) -> tuple[Snapshot, ...]:
    listed: Sequence[Mapping[str, Any]] = replica["snapshots"]
    return tuple(
        Snapshot(
            dataset=str(replica["dataset"]),
            name=str(one["name"]),
            guid=int(one["guid"]),
            createtxg=int(one["createtxg"]),
            creation=int(one["creation"]),
        )
        for one in listed
    )


def _rule(wanted: Wanted, peer: Peer, replica: Mapping[str, Any]) -> Rule:
    return Rule(target=wanted.to, target_role="member", raw=bool(replica["encrypted"]), allow_plaintext=True)


def _occupied(wanted: Wanted, why: str) -> MeshkeepError:
    return MeshkeepError(
        f"{wanted.to} exists and is not the beginning of this restore; nothing is overwritten",
        code="destination_exists",
        exit=Exit.REFUSED,
        why=why,
        hint=f"choose another name: --to {wanted.to}-restored",
    )


def _failed(wanted: Wanted, error: Exception) -> MeshkeepError:
    unreachable = isinstance(error, PeerUnreachable | LinkTimeout)
    code = getattr(error, "code", "peer_unreachable" if unreachable else "failed")
    refused = isinstance(error, PeerRefused) and error.exit != Exit.FAILED
    exit = Exit.NO_PEER if unreachable else Exit.REFUSED if refused else Exit.FAILED
    return MeshkeepError(
        f"cannot restore {wanted.dataset} from {wanted.node}",
        code=str(code),
        exit=exit,
        why=str(error),
        hint="the same command goes on where this one stopped",
    )
