"""Drills that nobody asked for: APScheduler is the tick, `drill_schedule` decides, `drill` does it, one at a time."""

import logging
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from pathlib import Path
from typing import Any

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from node import replication_check
from node.clock import Every
from node.drill import FILES, FOUND_WANTING, Drill
from node.drill_schedule import Case, due, late_after, next_of, overdue
from node.errors import Exit, MeshkeepError
from node.job import Job
from node.local_state import LocalState
from node.metric_facts import DrillFacts
from node.status import Problem
from zfs import errors
from zfs.door import Zfs

log = logging.getLogger(__name__)

EVERY = 300
"""Seconds between two looks whether one is due."""

MAX_KEY = 4096
"""Bytes of a key file."""


class DrillRounds:
    """Owns its scheduler."""

    def __init__(
        self,
        zfs: Zfs,
        drill: Drill,
        local: LocalState,
        *,
        jobs: Callable[[], Sequence[Job]],
        now: Callable[[], float],
    ) -> None:
        self._zfs = zfs
        self._drill = drill
        self._local = local
        self._jobs = jobs
        self._now = now
        self._scheduler = AsyncIOScheduler(timezone=UTC)

    def start(self) -> None:
        """Look every few minutes."""
        self._scheduler.add_job(
            self.tick,
            Every(EVERY),
            id="drill",
            replace_existing=True,
            coalesce=True,
            misfire_grace_time=None,
            max_instances=1,
        )
        self._scheduler.start()

    def stop(self) -> None:
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    async def tick(self) -> None:
        """Run the drill that is due, if there is one. What goes wrong is noted, and said by `problems`."""
        if self._drill.running:
            return
        now = int(self._now())
        jobs = {(job.dataset, job.target): job for job in self._wanted()}
        for job in jobs.values():
            self._note_first(job, now)
        busy = [job.target for job in self._jobs() if job.transfer is not None]
        case = next_of(map(self._case, jobs.values()), now, busy)
        if case is None:
            return
        log.info("drill: %s on %s is due", case.dataset, case.node)
        try:
            await self._run(jobs[case.dataset, case.node])
        except MeshkeepError as error:
            if error.code == "drill_running":
                return  # a person was faster
            self._drill.failed(case.dataset, case.node, error)
            log.warning("drill: %s on %s: %s", case.dataset, case.node, error)
        except errors.ZfsError as error:
            trouble = MeshkeepError(str(error), code="zfs_failed")
            self._drill.failed(case.dataset, case.node, trouble)
            log.warning("drill: %s on %s: %s", case.dataset, case.node, error)

    async def _run(self, job: Job) -> None:
        async def silent(_: Mapping[str, Any]) -> None:
            return None

        key = await self._key(job)
        limit = job.rule.rate_limit
        report = await self._drill.run(job.dataset, job.target, key, FILES, silent, rate_limit=limit)
        log.info("drill: %s on %s: %s %s", job.dataset, job.target, report["state"], report["why"])

    async def _key(self, job: Job) -> bytes | None:
        """What opens it, from where the rule or keylocation says; None where it is nowhere. Raises MeshkeepError."""
        if job.rule.drill_key_file is not None:
            return read_key(Path(job.rule.drill_key_file), "")
        try:
            root = (await self._zfs.dataset(job.dataset)).encryption_root
            if root is None:
                return None
            found = await self._zfs.get(root, ["keylocation", "keyformat"])
        except errors.NotFound:
            return None
        location = found["keylocation"].value
        if not location.startswith("file:///"):
            return None
        return read_key(Path(location.removeprefix("file://")), found["keyformat"].value)

    # -- what is to be said ------------------------------------------------------------------------------------

    def problems(self) -> list[Problem]:
        """For `status`: each that failed, and in one line each those that are overdue or stay closed."""
        now = int(self._now())
        cases = [self._case(job) for job in self._wanted()]
        failed = [case for case in cases if case.state == "failed"]
        found = [
            Problem("drill_failed", f"the drill of {_copy(case)} failed: {case.fault}", _again(case))
            for case in failed
        ]
        closed = [case for case in cases if case.state == "received, unproven"]
        if closed:
            text = f"{_copy(closed[0])} was received and not opened: {closed[0].fault}{_more(closed)}"
            found.append(Problem("drill_unopened", text, _again(closed[0])))
        late = [case for case in cases if case not in failed and overdue(case, now)]
        if late:
            text = f"{_copy(late[0])} {_proven(late[0], now)}{_more(late)}"
            found.append(Problem("drill_overdue", text, _again(late[0])))
        return found

    def judged(self, job: Job) -> replication_check.Copy:
        """What ``check replication`` judges, with what drills found."""
        copy = job.copy()
        if job not in self._wanted():
            return copy
        case, now = self._case(job), int(self._now())
        if case.state == "failed":
            return replace(copy, drill=f"drill failed: {case.fault}", wanting=case.wanting)
        return replace(copy, drill=_proven(case, now)) if overdue(case, now) else copy

    def facts(self) -> Iterable[DrillFacts]:
        """For the metrics: each copy that is to be drilled, and each that once was."""
        wanted = {(job.dataset, job.target) for job in self._wanted()}
        for job in self._jobs():
            proven = self._local.proven_facts(job.dataset, job.target)
            if (job.dataset, job.target) not in wanted and not proven:
                continue
            case = self._case(job)
            yield DrillFacts(
                job.dataset,
                job.target,
                proven=case.proven,
                late_after=late_after(case.every) if case.every else None,
                failed=case.state == "failed",
                bytes_read=proven.get("bytes_read"),
            )

    def listing(self) -> list[dict[str, Any]]:
        """Each copy that is to be drilled: when it is due, and how it stands."""
        now = int(self._now())
        return [
            {
                "dataset": case.dataset,
                "node": case.node,
                "proven": case.proven,
                "due": due(case, now),
                "state": case.state,
                "why": case.fault,
                "overdue": overdue(case, now),
            }
            for case in map(self._case, self._wanted())
        ]

    def _wanted(self) -> list[Job]:
        """The copies that are to be drilled: there are such, and nobody has stopped their rule."""
        return [
            job
            for job in self._jobs()
            if job.rule.drill is not None
            and not job.vanished
            and not job.rule.paused
            and job.as_of is not None
        ]

    def _note_first(self, job: Job, now: int) -> None:
        noted = self._local.drilled(job.dataset, job.target)
        if "since" not in noted:
            self._local.save_drilled(job.dataset, job.target, {**noted, "since": now})

    def _case(self, job: Job) -> Case:
        noted = self._local.drilled(job.dataset, job.target)
        return Case(
            job.dataset,
            job.target,
            job.rule.drill or 0,
            job.rule.quiet,
            since=noted.get("since", int(self._now())),
            proven=self._local.proven(job.dataset, job.target),
            tried=noted.get("at"),
            state=noted.get("state", ""),
            fault=noted.get("why", ""),
            wanting=noted.get("code") in FOUND_WANTING,
        )


def read_key(path: Path, keyformat: str) -> bytes:
    """The key in a file that only its owner may read: its first line. Raises MeshkeepError, which never has the key."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            mode = os.fstat(descriptor).st_mode
            content = file.read(MAX_KEY + 1) if stat.S_ISREG(mode) else b""
    except OSError as error:
        raise _no_key(path, error.strerror or str(error)) from None
    if not stat.S_ISREG(mode):
        raise _no_key(path, "it is no file")
    if mode & 0o077:
        raise _no_key(path, f"others may read it too (mode {mode & 0o777:04o})", f"chmod 0600 {path}")
    if keyformat == "raw":
        raise _no_key(path, "it is a raw key, and drills open with a passphrase or a hex key")
    line = content.partition(b"\n")[0]
    if not line or len(content) > MAX_KEY:
        raise _no_key(path, "it is empty" if not line else "it is too long for a key")
    return line


def _no_key(path: Path, why: str, hint: str = "") -> MeshkeepError:
    text = f"the key file {path} cannot be used for a drill"
    return MeshkeepError(text, code="no_key_file", exit=Exit.REFUSED, why=why, hint=hint)


def _copy(case: Case) -> str:
    return f"the copy of {case.dataset} on {case.node}"


def _again(case: Case) -> str:
    return f"meshkeep restore drill {case.dataset} --from {case.node}"


def _proven(case: Case, now: int) -> str:
    wanted = f"and is to be every {case.every // 86400}d"
    if case.proven is None or case.proven > now:
        return f"was never proven, {wanted}"
    return f"was last proven {(now - case.proven) // 86400}d ago, {wanted}"


def _more(cases: Sequence[Case]) -> str:
    return f"; so it is with {len(cases) - 1} more" if len(cases) > 1 else ""
