"""Lets stored snapshots go that the target's own policy keeps no more: looks, asks the pure core, acts, says why.

What is remembered between rounds stands in ZFS, on the dataset above all replicas and on each snapshot, and is written
before anything goes. A crash at any point is mended by the next round: a snapshot that lost its hold and did not go
is let go then, or held again if it now stays. No peer can ask for any of this.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mesh.identity import valid_node_id
from node.api import Request
from node.promises import Promises
from node.replica_places import RECEIVED, Terms
from node.status import Problem
from replication.guard import FLOOR_HOLD
from replication.target_clock import Marks, Reading, begin, dump, elapsed, load, look, vouched, why
from replication.target_retention import Keep, Stored, Verdict, this_run, verdicts
from replication.terms import NOTICE, Agreed
from zfs import errors
from zfs.door import Zfs
from zfs.model import Look, Snapshot

log = logging.getLogger(__name__)

MARKS = "meshkeep:keeper"
EVERY = 3600
"""Seconds from one round to the next, at least."""

VOUCH = "meshkeep vault keep --clock-is-right"


def host_clock() -> Reading:
    """This host's clocks."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return Reading(int(time.time()), boot, int(time.clock_gettime(time.CLOCK_BOOTTIME)))


@dataclass(frozen=True, slots=True)
class _Replica:
    """One replica as it was found. `receipts` are by the part behind the @, without those that say no time."""

    owner: str
    source: str
    look: Look
    receipts: Mapping[str, int]

    @property
    def dataset(self) -> str:
        return self.look.dataset.name


@dataclass(frozen=True, slots=True)
class _Survey:
    """All that is stored, and what was remembered, at one reading of the clocks. `longest` is the longest time, in
    seconds, that anything here waits for.
    """

    root: str
    now: Reading
    longest: int
    owners: tuple[str, ...]
    replicas: tuple[_Replica, ...]
    marks: Marks

    def counted(self, replica: _Replica, snapshot: Snapshot) -> int:
        received = replica.receipts.get(snapshot.name)
        return self.now.wall if received is None else self.marks.counted(received)


class ReplicaKeeper:
    """`receiving` are the datasets into which a stream runs right now: they wait for the next round. `named` gives
    the name of a node id. `held` is by owner how many snapshots were held at the last round.
    """

    def __init__(
        self,
        zfs: Zfs,
        *,
        terms: Callable[[], Awaitable[Terms | None]],
        promises: Promises,
        receiving: Callable[[], Collection[str]],
        named: Callable[[str], str] = str,
        clock: Callable[[], Reading] = host_clock,
    ) -> None:
        self._zfs = zfs
        self._terms = terms
        self._promises = promises
        self._receiving = receiving
        self._named = named
        self._clock = clock
        self._one_at_a_time = asyncio.Lock()
        self._looked: Reading | None = None
        self._jump = ""
        self._trouble: dict[str, str] = {}
        self.held: Mapping[str, int] = {}

    def problems(self) -> list[Problem]:
        """For `status`."""
        found = [
            Problem("not_let_go", text, "journalctl -u meshkeep-agent") for text in self._trouble.values()
        ]
        if self._jump:
            text = (
                f"{self._jump}: no stored snapshot goes until somebody has looked whether the clock is right"
            )
            found.append(Problem("clock_jumped", text, VOUCH))
        return [*found, *self._promises.problems()]

    async def tend(self) -> None:
        """A round, unless the last one was less than an hour ago; what was said meanwhile is heard at once."""
        async with self._one_at_a_time:
            due = await self._due()
            if not due and not self._promises.news:
                return
            if due:
                self._trouble = {}
            survey = await self._survey()
            if survey is None:
                return
            if due:
                await self._round(survey)
            else:
                await self._promises.settle(survey.root, survey.owners, survey.marks, survey.now.wall)

    # -- looking -----------------------------------------------------------------------------------------------

    async def _due(self) -> bool:
        now = self._clock()
        if self._looked is not None and elapsed(self._looked, now) < EVERY:
            return False
        root = await self._root()
        marks = await self._remembered(root) if root else None
        return marks is None or bool(marks.jump) or not 0 <= elapsed(marks.last, now) < EVERY

    async def _root(self) -> str | None:
        """The dataset above all replicas, if there is one yet."""
        terms = await self._terms()
        if terms is None:
            return None
        try:
            return (await self._zfs.dataset(terms.root)).name
        except errors.NotFound:
            return None

    async def _remembered(self, root: str) -> Marks | None:
        found = (await self._zfs.get(root, [MARKS]))[MARKS]
        return load(found.value) if found.source == "local" else None

    async def _survey(self) -> _Survey | None:
        """None where nothing is stored."""
        root = await self._root()
        if root is None:
            return None
        replicas, owners = [], []
        for dataset in await self._zfs.datasets(root):
            owner, slash, source = dataset.name.removeprefix(root + "/").partition("/")
            if not valid_node_id(owner):
                continue
            if slash:
                replica = await self._look(owner, source, dataset.name)
                replicas += [replica] if replica else []
            else:
                owners.append(owner)
        agreed = [await self._promises.noted(root, owner) for owner in owners]
        longest = max((self._promises.keep(one).floor for one in agreed), default=0)
        now, longest = self._clock(), max(longest, NOTICE)
        noted = [at for replica in replicas for at in replica.receipts.values()]
        noted += [one.waiting.since for one in agreed if one.waiting]
        marks = look(await self._remembered(root) or begin(now), now, max(noted, default=0), longest)
        return _Survey(root, now, longest, tuple(owners), tuple(replicas), marks)

    async def _look(self, owner: str, source: str, dataset: str) -> _Replica | None:
        """None where there is no snapshot, or it cannot be listed: the others must not wait for it."""
        try:
            seen = await self._zfs.look(dataset)
            # Only what stands on a snapshot itself is a receipt, not what it has from the dataset.
            notes = await self._zfs.snapshot_property(dataset, RECEIVED) if seen.snapshots else {}
        except errors.NotFound:
            return None
        except errors.ZfsError as error:
            self._failed(dataset, f"cannot look at {dataset}: {error}")
            return None
        receipts = {name: at for name, text in notes.items() if (at := _time(text)) is not None}
        return _Replica(owner, source, seen, receipts) if seen.snapshots else None

    async def _keep(self, survey: _Survey, owner: str) -> Keep:
        return self._promises.keep(await self._promises.noted(survey.root, owner))

    async def _verdicts(self, survey: _Survey, replica: _Replica, keep: Keep) -> list[Verdict]:
        """Of one replica, with what others hold: all that may go."""
        stored = [Stored(one, survey.counted(replica, one)) for one in replica.look.snapshots]
        base = replica.look.resume.from_guid if replica.look.resume else None
        at = survey.now.wall
        held: dict[str, list[str]] = {}
        for verdict in verdicts(keep, stored, at, base=base):
            if verdict.goes and verdict.snapshot.holds:
                tags = await self._zfs.holds(verdict.snapshot.full_name)
                held[verdict.snapshot.name] = [tag for tag in tags if tag != FLOOR_HOLD]
        return verdicts(keep, stored, at, base=base, held=held)

    # -- acting ------------------------------------------------------------------------------------------------

    async def _round(self, survey: _Survey) -> None:
        self._looked = survey.now
        self.held = _held(survey)
        await self._zfs.set(survey.root, {MARKS: dump(survey.marks)})
        self._told(why(survey.marks, survey.now))
        await self._promises.settle(survey.root, survey.owners, survey.marks, survey.now.wall)
        for replica in survey.replicas:
            if replica.dataset in self._receiving():
                continue
            try:
                async with (
                    self._promises.turn
                ):  # nobody is told of a longer floor while the shorter is followed
                    await self._tend_one(survey, replica)
            except errors.ZfsError as error:
                self._failed(replica.dataset, f"cannot tend {replica.dataset}: {error}")

    async def _tend_one(self, survey: _Survey, replica: _Replica) -> None:
        keep = await self._keep(survey, replica.owner)
        found = this_run(await self._verdicts(survey, replica, keep))
        going = [] if survey.marks.jump else [verdict for verdict in found if verdict.goes]
        leaving = {verdict.snapshot.name for verdict in going}
        staying = [one for one in replica.look.snapshots if one.name not in leaving]
        bare = [one.full_name for one in staying if not one.holds]
        if bare:
            await self._zfs.hold(FLOOR_HOLD, bare)
        if not survey.marks.jump:
            for one in staying:
                if one.name not in replica.receipts:
                    await self._zfs.set(one.full_name, {RECEIVED: str(survey.now.wall)})
        if going:
            await self._let_go(going)

    async def _let_go(self, going: list[Verdict]) -> None:
        """The hold first, then the snapshot, then the word of it."""
        names = [verdict.snapshot.full_name for verdict in going]
        await self._zfs.release(FLOOR_HOLD, names)
        kept = await self._zfs.destroy_snapshots(names)
        for verdict in going:
            if verdict.snapshot.full_name not in kept:
                log.info("let go of %s: %s", verdict.snapshot.full_name, ", ".join(verdict.reasons))
        for name, error in kept.items():
            log.warning("%s stays: %s", name, error)
        if kept:
            await self._zfs.hold(FLOOR_HOLD, list(kept))

    def _told(self, jump: str) -> None:
        if jump and not self._jump:
            log.warning("no stored snapshot goes: %s", jump)
        self._jump = jump

    def _failed(self, dataset: str, text: str) -> None:
        log.warning("%s", text)
        self._trouble[dataset] = text

    # -- verbs -------------------------------------------------------------------------------------------------

    async def plan(self, _: Request) -> dict[str, Any]:
        """What a round would do now, with the reasons; nothing is changed."""
        async with self._one_at_a_time:
            survey = await self._survey()
            found = [await self._planned(survey, replica) for replica in survey.replicas] if survey else []
        return {
            "schema": "meshkeep.storage-plan/1",
            "clock": why(survey.marks, survey.now) if survey else "",
            "replicas": found,
        }

    async def _planned(self, survey: _Survey, replica: _Replica) -> dict[str, Any]:
        keep = await self._keep(survey, replica.owner)
        found = this_run(await self._verdicts(survey, replica, keep))
        return {
            "owner": replica.owner,
            "node": self._named(replica.owner),
            "dataset": replica.source,
            "snapshots": [
                {
                    "name": verdict.snapshot.name,
                    "creation": verdict.snapshot.creation,
                    "received": replica.receipts.get(verdict.snapshot.name),
                    "goes": verdict.goes and not survey.marks.jump,
                    "reasons": list(verdict.reasons),
                }
                for verdict in found
            ],
        }

    async def freed(self, owner: str, floor: int) -> list[str]:
        """The snapshots of *owner* that could go, in time, with that floor, and not with the one that it has now."""
        async with self._one_at_a_time:
            survey = await self._survey()
            if survey is None:
                return []
            now = await self._keep(survey, owner)
            then = self._promises.keep(Agreed(floor))
            found = []
            for replica in (one for one in survey.replicas if one.owner == owner):
                staying = {v.snapshot.name for v in await self._verdicts(survey, replica, now) if not v.goes}
                found += [
                    f"{replica.source}@{verdict.snapshot.name}"
                    for verdict in await self._verdicts(survey, replica, then)
                    if verdict.goes and verdict.snapshot.name in staying
                ]
        return found

    async def clock(self) -> tuple[Marks, int] | None:
        """What is remembered of the clock, and what it says; None where nothing is stored."""
        root = await self._root()
        now = self._clock()
        return (await self._remembered(root) or begin(now), now.wall) if root else None

    async def vouch(self, _: Request) -> dict[str, Any]:
        """A person at this host says that the clock is right: rounds go on, at the price that `vouched` names."""
        async with self._one_at_a_time:
            survey = await self._survey()
            if survey is None or not survey.marks.jump:
                return {"schema": "meshkeep.storage-vouch/1", "vouched": False, "counts_anew": False}
            await self._correct(survey)
            marks = vouched(survey.marks, survey.now, survey.longest)
            await self._zfs.set(survey.root, {MARKS: dump(marks)})
            self._told("")
            self._looked = survey.now
            log.info("the clock is right, says a person at this host")
        anew = marks.since == survey.now.wall
        return {"schema": "meshkeep.storage-vouch/1", "vouched": True, "counts_anew": anew}

    async def _correct(self, survey: _Survey) -> None:
        """Receipts in the future were noted by a clock that was wrong: received now, or some time before."""
        for replica in survey.replicas:
            for one in replica.look.snapshots:
                if replica.receipts.get(one.name, 0) > survey.now.wall:
                    await self._zfs.set(one.full_name, {RECEIVED: str(survey.now.wall)})
        await self._promises.correct(survey.root, survey.owners, survey.now.wall)


def _time(text: str) -> int | None:
    """A receipt; None for what says no time."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 12 else None


def _held(survey: _Survey) -> Mapping[str, int]:
    found: Counter[str] = Counter()
    for replica in survey.replicas:
        found[replica.owner] += sum(one.holds > 0 for one in replica.look.snapshots)
    return found
