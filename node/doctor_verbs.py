"""The agent's part of `meshkeep doctor`: what only it knows, and what only it may mend."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Any, Protocol

from node.api import Request
from node.doctor import Finding
from node.errors import Exit, MeshkeepError
from node.job import Job
from node.leftovers import Leftovers
from node.local_state import LocalState
from node.status import Problem
from replication.guard import Leftover
from zfs.errors import ZfsError

WARNINGS = frozenset(
    {
        *("key_unverified", "drill_overdue", "drill_unopened", "replica_late", "prune_waiting"),
        *("not_shared", "metrics_failed", "tick_hangs"),
    }
)
"""Problems of `status` by which nothing is broken yet."""


class Mesh(Protocol):
    """Membership, as far as it matters here."""

    @property
    def joined(self) -> bool: ...

    @property
    def local(self) -> LocalState: ...

    async def reconcile(self) -> None: ...


class DoctorVerbs:
    """`roots` are the datasets that hold others' replicas, one for each owner. `gates` tells of known bugs of ZFS."""

    def __init__(
        self,
        mesh: Mesh,
        leftovers: Leftovers,
        *,
        problems: Callable[[], Iterable[Problem]],
        jobs: Callable[[], Sequence[Job]],
        roots: Callable[[], Awaitable[Collection[str]]],
        gates: Callable[[], Awaitable[Iterable[Finding]]] | None = None,
    ) -> None:
        self._mesh = mesh
        self._leftovers = leftovers
        self._problems = problems
        self._jobs = jobs
        self._roots = roots
        self._gates = gates

    async def look(self, _: Request) -> dict[str, Any]:
        """What there is; nothing is changed."""
        findings = [*self._told(), *await self._left(), *self._unproven()]
        try:
            roots = sorted(await self._roots())
            findings += await self._gates() if self._gates is not None else ()
        except ZfsError as error:
            roots = []
            findings.append(Finding("zfs", "unknown", f"ZFS does not tell: {error}"))
        return {
            "schema": "meshkeep.doctor-agent/1",
            "joined": self._mesh.joined,
            "roots": roots,
            "findings": [one.as_json() for one in findings],
        }

    async def fix(self, request: Request) -> dict[str, Any]:
        """Mend what `what` names. Snapshots are never destroyed by it. Raises what the doors raise."""
        what = request.args.get("what")
        if not isinstance(what, list):
            raise MeshkeepError("'what' is no list", code="bad_request", exit=Exit.USAGE)
        done: list[str] = []
        if "agent:leftovers" in what:
            done += [_released(one) for one in await self._leftovers.reconcile() if _fixable(one)]
        if "agent:nft" in what and self._mesh.joined:
            await self._mesh.reconcile()
            done.append("put the nft table and the names of the mesh back")
        return {"schema": "meshkeep.doctor-fix/1", "fixed": done}

    def _told(self) -> list[Finding]:
        found = [
            Finding("status", "warn" if one.code in WARNINGS else "fail", one.text, hint=one.try_)
            for one in self._problems()
        ]
        return found or [Finding("status", "ok", "status has no problem to tell of")]

    async def _left(self) -> list[Finding]:
        try:
            found = await self._leftovers.find()
        except ZfsError as error:
            return [Finding("leftovers", "unknown", f"holds and bookmarks were not looked for: {error}")]
        worth = [one for one in found if _fixable(one) or not one.certain]
        return [_leftover(one) for one in worth] or [
            Finding("leftovers", "ok", "no hold or bookmark is left of an earlier rule")
        ]

    def _unproven(self) -> list[Finding]:
        """Copies that nobody has ever opened and read."""
        copies = [job for job in self._jobs() if job.as_of is not None and not job.vanished]
        never = [job for job in copies if self._mesh.local.proven(job.dataset, job.target) is None]
        if not never:
            return [Finding("proof", "ok", f"all {len(copies)} copies were once proven")] if copies else []
        first = never[0]
        more = f" and {len(never) - 1} more" if len(never) > 1 else ""
        text = f"the copy of {first.dataset} on {first.target}{more} was never opened and read"
        why = "its rule has that done by itself, and it was not yet"
        if first.rule.drill is None:
            why = 'drill = "monthly" in the rule has it done by itself'
        return [
            Finding(
                "proof", "warn", text, why, f"meshkeep restore drill {first.dataset} --from {first.target}"
            )
        ]


def _fixable(one: Leftover) -> bool:
    return one.certain and bool(one.release or one.destroy)


def _leftover(one: Leftover) -> Finding:
    what = f"{one.dataset} has {_counted(one.release, 'hold')} and {_counted(_marks(one), 'bookmark')}"
    text = f"{what} for {one.target_id}: {one.why}"
    why = "a hold keeps the space of what is destroyed since" if one.release else ""
    if one.certain:
        return Finding("leftovers", "fail", text, why, fix="agent:leftovers")
    return Finding(
        "leftovers", "warn", text, why, "meshkeep replicate leftovers --release, if nobody needs them"
    )


def _released(one: Leftover) -> str:
    parts = [f"released {', '.join(one.release)}"] if one.release else []
    parts += [f"destroyed {', '.join(one.destroy)}"] if one.destroy else []
    return " and ".join(parts)


def _marks(one: Leftover) -> tuple[str, ...]:
    return (*one.destroy, *one.kept)


def _counted(names: Sequence[str], what: str) -> str:
    return f"1 {what}" if len(names) == 1 else f"{len(names)} {what}s"


def as_said(answer: Mapping[str, Any]) -> list[Finding]:
    """The findings in the agent's answer; what makes no sense is left out."""
    raw = answer.get("findings")
    return [Finding.from_json(one) for one in (raw if isinstance(raw, list) else []) if isinstance(one, dict)]
