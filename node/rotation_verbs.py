"""The verbs by which a person settles what a rule does not: an old replica kept aside, a changed encryption root."""

from collections.abc import Mapping
from typing import Any

from node.api import Request
from node.errors import Exit, MeshkeepError
from node.jobs_verbs import run_rule
from node.replicator import Replicator
from node.roots import Roots
from replication.conflicts import REPLACED, Conflict
from replication.steps import Plan, Rotate
from zfs import errors as zfs_errors
from zfs.door import Zfs
from zfs.names import InvalidName, check_dataset


class RotationVerbs:
    """Handlers. What is done by a person's word is done of the very replica that was shown."""

    def __init__(self, replicator: Replicator, zfs: Zfs) -> None:
        self._replicator = replicator
        self._zfs = zfs
        self._roots = Roots(zfs, self._guid_of)

    async def rotate(self, request: Request) -> dict[str, Any]:
        """``replicate.rotate``: what stands against the replica; with `newest` as shown, it is kept aside and a new one
        begun. Raises MeshkeepError.
        """
        dataset, target = _dataset(request.args), str(request.args.get("node"))
        job = self._replicator.job(dataset, target)
        shown = {"schema": "meshkeep.replicate-rotate/1", "dataset": dataset, "node": target}
        newest, why, evidence = await self._against(dataset, target)
        wanted = request.args.get("newest")
        if wanted is None:
            return {**shown, "newest": newest, "text": why, "evidence": evidence, "rotated": False}
        if wanted != newest:
            raise MeshkeepError(
                f"the replica on {target} is another one now than was shown; nothing was done",
                code="stale",
                exit=Exit.REFUSED,
                hint=f"meshkeep replicate rotate {dataset} {target}",
            )
        job.rotate_once = newest
        try:
            report = await run_rule(self._replicator, request, dataset, target)
        finally:
            job.rotate_once = None
        return {**report, **shown, "newest": newest, "text": why, "evidence": evidence, "rotated": True}

    async def _against(self, dataset: str, target: str) -> tuple[int, str, list[str]]:
        """(guid that the replica ends with, why nothing leads on from it, evidence). Raises MeshkeepError."""
        decided = await self._replicator.planned(dataset, target)
        if isinstance(decided, Plan):
            for step in decided.steps:
                if isinstance(step, Rotate):
                    return step.newest_guid, step.reason, list(decided.reasons)
        if isinstance(decided, Conflict) and decided.kind in REPLACED and decided.newest is not None:
            return decided.newest, decided.text, list(decided.evidence)
        raise MeshkeepError(
            f"the replica of {dataset} on {target} is in nobody's way; nothing was done",
            code="not_diverged",
            exit=Exit.REFUSED,
            why=decided.text if isinstance(decided, Conflict) else "; ".join(decided.reasons),
            hint=f"meshkeep replicate plan {dataset} {target}",
        )

    async def accept_root(self, request: Request) -> dict[str, Any]:
        """``replicate.accept-root``: the encryption root that a dataset has now is meant. Raises MeshkeepError."""
        dataset = _dataset(request.args)
        try:
            accepted = await self._roots.accept(dataset)
        except zfs_errors.NotFound:
            raise MeshkeepError(
                f"there is no dataset {dataset} here", code="no_dataset", exit=Exit.NOT_FOUND, hint="zfs list"
            ) from None
        self._replicator.wake(dataset=dataset)
        return {"schema": "meshkeep.replicate-accept-root/1", **accepted}

    async def _guid_of(self, dataset: str) -> int:
        return (await self._zfs.dataset(dataset)).guid


def _dataset(args: Mapping[str, Any]) -> str:
    try:
        return check_dataset(str(args.get("dataset") or ""))
    except InvalidName as error:
        raise MeshkeepError(str(error), code="bad_name", exit=Exit.USAGE) from None
