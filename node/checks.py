"""The verb `check`: looks at ZFS now, within a deadline, and has `policy.checks` say what it means."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

from node.api import Request
from node.errors import Exit, MeshkeepError
from node.replication_check import Copy, replication
from policy import checks
from policy.checks import Outcome, Seen
from policy.rules import Resolution
from zfs.door import Zfs
from zfs.errors import ZfsError
from zfs.model import Pool, PoolStatus, Snapshot
from zfs.names import pool_of

DEADLINE = 10.0
"""Seconds that ZFS has for an answer: a suspended pool can hang whoever asks."""

Histories = Mapping[str, Sequence[Snapshot]]


class Checks:
    """`resolution` gives the present rules, `histories` the snapshots of datasets that are named to it, `doubts` why
    some of the rules are not known, `copies` what the rules of replication have come to.
    """

    def __init__(
        self,
        zfs: Zfs,
        *,
        resolution: Callable[[], Awaitable[Resolution]],
        histories: Callable[[Iterable[str]], Awaitable[Histories]],
        doubts: Callable[[], str] = lambda: "",
        copies: Callable[[], Sequence[Copy]] = tuple,
        now: Callable[[], float] = time.time,
        deadline: float = DEADLINE,
    ) -> None:
        self._zfs = zfs
        self._resolution = resolution
        self._histories = histories
        self._doubts = doubts
        self._copies = copies
        self._now = now
        self._deadline = deadline
        self._checks: dict[str, Callable[[float], Awaitable[Outcome]]] = {
            "snapshots": self._snapshots,
            "capacity": self._capacity,
            "health": self._health,
            "replication": self._replication,
        }

    async def check(self, request: Request) -> dict[str, Any]:
        """One of the checks, or all of them. Raises MeshkeepError for one that there is not."""
        what = request.args.get("what")
        if what is not None and what not in self._checks:
            raise MeshkeepError(f"there is no check {what!r}", code="bad_request", exit=Exit.USAGE)
        outcomes = await self._run([what] if what else list(self._checks))
        shown = outcomes[what] if what else checks.together(outcomes)
        return {
            "schema": "meshkeep.check/1",
            "code": int(shown.level),
            "state": shown.level.name,
            "line": shown.line,
            "checks": [_as_json(name, outcome) for name, outcome in outcomes.items()],
        }

    async def _run(self, names: Sequence[str]) -> dict[str, Outcome]:
        until = asyncio.get_running_loop().time() + self._deadline
        found = await asyncio.gather(*(self._one(name, until) for name in names))
        return dict(zip(names, found, strict=True))

    async def _one(self, name: str, until: float) -> Outcome:
        try:
            return await self._checks[name](until)
        except TimeoutError:
            return checks.silent(self._deadline)
        except ZfsError as error:
            return checks.unknown(f"ZFS could not be asked: {error}")

    async def _pools(self, until: float) -> list[Pool]:
        async with asyncio.timeout_at(until):
            return await self._zfs.pools()

    # -- snapshots ---------------------------------------------------------------------------------------------

    async def _snapshots(self, until: float) -> Outcome:
        pools = await self._pools(until)
        dead = {pool.name: f"pool {pool.name} is {pool.health}" for pool in pools if not checks.usable(pool)}
        try:
            async with asyncio.timeout_at(until):
                resolution = await self._resolution()
        except TimeoutError:
            return checks.silent(self._deadline, dead)
        except ZfsError:
            if not dead:
                raise
            return Outcome(checks.Level.CRITICAL, f"CRITICAL - {', '.join(dead.values())}")
        by_pool: dict[str, list[str]] = {}
        for dataset in resolution.chosen:
            by_pool.setdefault(pool_of(dataset), []).append(dataset)
        seen = await asyncio.gather(
            *(
                self._of_pool(pool, datasets, resolution, dead.get(pool, ""), until)
                for pool, datasets in by_pool.items()
            )
        )
        hidden = {name: dead[pool] for name in resolution.unmatched if (pool := pool_of(name)) in dead}
        outcome = checks.snapshots(resolution, _merged([*seen, Seen({}, hidden)]), int(self._now()))
        doubts = self._doubts()
        return checks.doubtful(outcome, doubts) if doubts else outcome

    async def _of_pool(
        self, pool: str, datasets: Sequence[str], resolution: Resolution, dead: str, until: float
    ) -> Seen:
        """What there is of one pool, so that one that hangs takes no other along."""
        if dead:
            return Seen({}, dict.fromkeys(datasets, dead))
        try:
            async with asyncio.timeout_at(until):
                histories = await self._histories(datasets)
                unchanged: list[str] = []
                if any(resolution.chosen[name].policy.skip_unchanged for name in datasets):
                    unchanged = [one.name for one in await self._zfs.datasets(pool) if one.written == 0]
        except TimeoutError:
            return Seen({}, dict.fromkeys(datasets, f"no answer within {self._deadline:g} s"))
        except ZfsError as error:
            return Seen({}, dict.fromkeys(datasets, str(error)))
        lost = {name: "it could not be listed" for name in datasets if name not in histories}
        return Seen(histories, lost, unchanged)

    # -- pools -------------------------------------------------------------------------------------------------

    async def _rules(self, until: float) -> Resolution:
        """The rules, for the pools that they want. A ZFS that cannot list datasets can still tell of its pools."""
        try:
            async with asyncio.timeout_at(until - self._deadline / 2):
                return await self._resolution()
        except (TimeoutError, ZfsError):
            return Resolution({})

    async def _capacity(self, until: float) -> Outcome:
        pools, rules = await asyncio.gather(self._pools(until), self._rules(until))
        return checks.capacity(pools, rules.pools, checks.missing_pools(rules, pools))

    async def _health(self, until: float) -> Outcome:
        pools, rules = await asyncio.gather(self._pools(until), self._rules(until))
        statuses = await asyncio.gather(*(self._status(pool, until) for pool in pools))
        named = {pool.name: status for pool, status in zip(pools, statuses, strict=True)}
        return checks.health(named, int(self._now()), checks.missing_pools(rules, pools))

    async def _replication(self, _: float) -> Outcome:
        return replication(self._copies(), int(self._now()))

    async def _status(self, pool: Pool, until: float) -> PoolStatus | str:
        """Or why there is none."""
        try:
            async with asyncio.timeout_at(until):
                return await self._zfs.pool_status(pool.name)
        except TimeoutError:
            return f"{pool.health}, no answer within {self._deadline:g} s"
        except ZfsError as error:
            return f"{pool.health}, {error}"


def _merged(seen: Iterable[Seen]) -> Seen:
    histories: dict[str, Sequence[Snapshot]] = {}
    unreadable: dict[str, str] = {}
    unchanged: set[str] = set()
    for one in seen:
        histories |= one.histories
        unreadable |= one.unreadable
        unchanged |= set(one.unchanged)
    return Seen(histories, unreadable, unchanged)


def _as_json(name: str, outcome: Outcome) -> dict[str, Any]:
    figures = [
        {"label": one.label, "value": one.value, "unit": one.unit, "warn": one.warn, "crit": one.crit}
        for one in outcome.figures
    ]
    return {
        "name": name,
        "code": int(outcome.level),
        "state": outcome.level.name,
        "text": outcome.text,
        "figures": figures,
    }
