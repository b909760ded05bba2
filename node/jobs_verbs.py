"""The verbs of the local API about jobs: one dataset on its way to one node, by whatever rule."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from node.api import Request
from node.errors import Exit, MeshkeepError
from node.job import Job, Report, short_ids
from node.replicator import Replicator
from node.transfers import watched


class JobVerbs:
    """Handlers. A job is named by the beginning of its id, or by dataset and node."""

    def __init__(self, replicator: Replicator) -> None:
        self._replicator = replicator

    async def listing(self, _: Request) -> dict[str, Any]:
        """``jobs.list``"""
        shown = short_ids(self._replicator.jobs)
        return {
            "schema": "meshkeep.jobs-list/1",
            "jobs": [_as_json(job, shown) for job in self._replicator.jobs],
        }

    async def show(self, request: Request) -> dict[str, Any]:
        """``jobs.show``: with the rule that it is by, and what keeps it from running."""
        job = self._find(request.args)
        rule = job.rule
        return {
            "schema": "meshkeep.jobs-show/1",
            **_as_json(job, short_ids(self._replicator.jobs)),
            "options": {
                "recursive": rule.recursive,
                "exclude": list(rule.exclude),
                "snapshots": str(rule.selector),
                "initial": rule.initial,
                "window": str(rule.window) if rule.window else None,
                "rate_limit": rule.rate_limit,
                "allow_plaintext": rule.allow_plaintext,
                "base_hold": rule.patience.age,
                "base_hold_size": rule.patience.size,
            },
            "base_pins": job.pinned,
            "target_seen": job.seen,
        }

    async def watch(self, request: Request) -> dict[str, Any]:
        """``jobs.watch``: progress until the run that is under way ends; begins none, and ends none by leaving."""
        job = self._find(request.args)
        if job.result is not None and not job.result.done():
            async with watched(lambda: request.progress(job.progress())):
                report = await asyncio.shield(job.result)
            return {"schema": "meshkeep.jobs-watch/1", **outcome(job, report)}
        return {"schema": "meshkeep.jobs-watch/1", **_as_json(job, short_ids(self._replicator.jobs))}

    async def cancel(self, request: Request) -> dict[str, Any]:
        """``jobs.cancel``: end the run that is under way; what arrived stays, and the next run goes on with it."""
        job = self._find(request.args)
        if not job.cancel():
            raise MeshkeepError(
                f"{job.dataset} to {job.target} is not running",
                code="not_running",
                exit=Exit.REFUSED,
                why=f"it is: {job.state}",
                hint=f"meshkeep replicate pause {job.rule.dataset} {job.target}",
            )
        return {
            "schema": "meshkeep.jobs-cancel/1",
            "job": job.id,
            "dataset": job.dataset,
            "node": job.target,
            "arrived": job.bytes_done,
        }

    def _find(self, args: Mapping[str, Any]) -> Job:
        """Raises MeshkeepError where there is none, or more than one."""
        wanted = str(args.get("job", ""))
        if args.get("node"):
            return self._replicator.job(wanted, str(args["node"]))
        jobs = self._replicator.jobs
        found = [job for job in jobs if wanted and job.id.startswith(wanted)]
        if len(found) == 1:
            return found[0]
        shown = short_ids(jobs)
        raise MeshkeepError(
            f"{wanted!r} is the beginning of {len(found)} jobs" if found else f"there is no job {wanted!r}",
            code="no_job" if not found else "ambiguous_job",
            exit=Exit.NOT_FOUND if not found else Exit.USAGE,
            why=", ".join(f"{shown[job.id]} ({job.dataset} to {job.target})" for job in found),
            hint="meshkeep jobs list",
        )


async def run_rule(replicator: Replicator, request: Request, dataset: str, target: str) -> dict[str, Any]:
    """Bring *dataset* up to date, with all that its rule takes along, and wait for it. Raises MeshkeepError."""
    jobs = replicator.of_rule(dataset, target)
    schema = {"schema": "meshkeep.replicate-run/1"}
    if len(jobs) == 1:
        async with watched(lambda: request.progress(jobs[0].progress())):
            report = await replicator.run_or_join(jobs[0])
        return {**schema, **outcome(jobs[0], report)}

    async def progress() -> None:
        for job in jobs:
            if job.transfer is not None:
                await request.progress(job.progress())

    async with watched(progress):
        outcomes = await replicator.run_tree(jobs)
    return {**schema, **_tree(jobs, outcomes)}


def _tree(jobs: Sequence[Job], outcomes: Mapping[tuple[str, str], Report | MeshkeepError]) -> dict[str, Any]:
    """The sum of a tree. Raises MeshkeepError where some failed; it names them."""
    failed = {key: one for key, one in outcomes.items() if isinstance(one, MeshkeepError)}
    if failed:
        raise MeshkeepError(
            f"{len(failed)} of {len(jobs)} datasets of {jobs[0].dataset} were not brought up to date",
            code="partial",
            exit=Exit.PARTIAL,
            why="\n".join(f"{dataset}: {error}" for (dataset, _), error in failed.items()),
            hint="meshkeep jobs list",
        )
    reports = {key: one for key, one in outcomes.items() if isinstance(one, Report)}
    each = [outcome(job, reports[job.dataset, job.target]) for job in jobs]
    moments = [one["as_of"] for one in each]
    waiting = [one["state"] for one in each if one["state"] not in ("ok", "nothing to send")]
    return {
        "dataset": jobs[0].dataset,
        "node": jobs[0].target,
        "state": waiting[0] if waiting else "ok",
        "as_of": None if None in moments else min(moments),
        "bytes": sum(one["bytes"] for one in each),
        "steps": sum(one["steps"] for one in each),
        "resumed": sum(one["resumed"] for one in each),
        "datasets": each,
    }


def outcome(job: Job, report: Report) -> dict[str, Any]:
    """How a run of *job* ended."""
    return {
        "dataset": job.dataset,
        "node": job.target,
        "state": job.state,
        "as_of": report.as_of,
        "bytes": report.bytes,
        "steps": report.steps,
        "resumed": report.resumed,
    }


def _as_json(job: Job, shown: Mapping[str, str]) -> dict[str, Any]:
    return {**job.as_json(), "job": shown[job.id], "id": job.id}
