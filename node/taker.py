"""Taking the snapshots of one tick: hooks around them, one transaction for each pool and kind, nobody starved.

ZFS takes all snapshots of a transaction or none. So one that cannot be taken is left out, and said.
"""

import asyncio
import logging
import shlex
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from node.hooks import HookResult, HookRunner
from node.rulebook import some
from policy.naming import snapshot_name
from policy.rules import KINDS, Hooks, Policy
from policy.tick import Group, Notice, Take, grouped
from zfs import errors
from zfs.door import Zfs
from zfs.names import MAX_NAME, InvalidName, check_snapshot, pool_of

log = logging.getLogger(__name__)

HOOKS_AT_ONCE = 8

_LEFT_OUT = 8
"""So many are left out of a transaction, one after another; if it still fails, each is taken by itself."""

# What is wrong with all of a pool, and not with one dataset of it.
_OF_THE_POOL = (errors.PoolUnavailable, errors.ReadOnly, errors.NotPermitted, errors.Unsupported)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Taken:
    """The full names of what was taken, and what went wrong."""

    names: tuple[str, ...] = ()
    trouble: tuple[Notice, ...] = ()


@dataclass(frozen=True, slots=True)
class _Visit:
    """One dataset's snapshots of this tick, as its hooks see them."""

    dataset: str
    hooks: Hooks
    environment: Mapping[str, str]


class Taker:
    """Takes what a tick decided."""

    def __init__(self, zfs: Zfs, hooks: HookRunner) -> None:
        self._zfs = zfs
        self._hooks = hooks

    async def take(self, takes: Sequence[Take], policies: Mapping[str, Policy], now: int) -> Taken:
        """Hooks before, all snapshots named after *now*, hooks after; each pool by itself, so that a hook that hangs
        keeps no other pool's datasets as its own hooks left them. Raises nothing of ZFS.
        """
        pools: dict[str, list[Take]] = {}
        for take in takes:
            pools.setdefault(pool_of(take.dataset), []).append(take)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._pool(of, policies, now)) for of in pools.values()]
        done = [task.result() for task in tasks]
        return Taken(
            tuple(name for one in done for name in one.names),
            tuple(notice for one in done for notice in one.trouble),
        )

    async def _pool(self, takes: Sequence[Take], policies: Mapping[str, Policy], now: int) -> Taken:
        trouble: list[Notice] = []
        visits = [_visit(dataset, of, policies, now) for dataset, of in _by_dataset(takes).items()]
        names: list[str] = []
        began: list[_Visit] = []
        failed: list[_Visit] = []
        try:
            await self._before(visits, began, failed, trouble)
            skipped = {one.dataset for one in failed if one.hooks.no_inconsistent_snapshot}
            for group in grouped([take for take in takes if take.dataset not in skipped], now):
                names += await self._group(group, trouble)
            began = visits
        finally:  # whatever happened: what a hook has frozen must thaw
            refused = {one.dataset for one in failed}
            after = self._after(_answered(began, refused), refused, trouble)
            await _to_the_end(asyncio.ensure_future(after))
        return Taken(tuple(names), tuple(trouble))

    async def _before(
        self, visits: Sequence[_Visit], began: list[_Visit], failed: list[_Visit], trouble: list[Notice]
    ) -> None:
        """Run the hooks that come first; *began* and *failed* get those that were begun and those that failed.

        The ones that may take for ever go first: nothing is frozen yet while they do.
        """
        hooked = [one for one in visits if one.hooks.pre_snapshot_script]
        for patient in (True, False):
            some = [one for one in hooked if (one.hooks.script_timeout <= 0) is patient]
            failed += await self._run_before(some, began, trouble)

    async def _run_before(
        self, visits: Sequence[_Visit], began: list[_Visit], trouble: list[Notice]
    ) -> list[_Visit]:
        async def run(one: _Visit) -> HookResult:
            began.append(one)
            return await self._run(one, one.hooks.pre_snapshot_script, {"SANOID_SCRIPT": "pre"})

        results = await some_at_once(visits, run)
        failed = [one for one, result in zip(visits, results, strict=True) if not result.ok]
        for one, result in zip(visits, results, strict=True):
            if not result.ok:
                then = (
                    "no snapshot is taken"
                    if one.hooks.no_inconsistent_snapshot
                    else "it is snapped all the same"
                )
                trouble.append(_hook_failed(one.dataset, "pre_snapshot_script", result, then))
        return failed

    async def _after(self, visits: Sequence[_Visit], refused: set[str], trouble: list[Notice]) -> None:
        async def run(one: _Visit) -> HookResult:
            failure = "1" if one.dataset in refused else "0"
            more = {"SANOID_SCRIPT": "post", "SANOID_PRE_FAILURE": failure}
            return await self._run(one, one.hooks.post_snapshot_script, more)

        for one, result in zip(visits, await some_at_once(visits, run), strict=True):
            if not result.ok:
                trouble.append(_hook_failed(one.dataset, "post_snapshot_script", result, ""))

    async def _run(self, one: _Visit, command: str, more: Mapping[str, str]) -> HookResult:
        return await self._hooks.run(command, {**one.environment, **more}, one.hooks.script_timeout)

    async def _group(self, group: Group, trouble: list[Notice]) -> list[str]:
        """Take as many of *group* as can be. Their names."""
        together, apart = _nameable(group, trouble), list[str]()
        while together:
            try:
                await self._zfs.snapshot(together)
            except _OF_THE_POOL as error:
                trouble.append(_not_taken(group, [group.pool], str(error)))
                return []
            except errors.ZfsError as error:
                if error.name in together and len(apart) < _LEFT_OUT:
                    together.remove(error.name)
                    apart.append(error.name)
                else:
                    apart, together = [*apart, *together], []
            else:
                log.info("took %s", ", ".join(together))
                break
        return together + await self._each(group, apart, trouble)

    async def _each(self, group: Group, names: Iterable[str], trouble: list[Notice]) -> list[str]:
        """ZFS does not always name the right one: each that was left out gets a try of its own."""
        taken = []
        refused: dict[str, list[str]] = {}
        for name in names:
            try:
                await self._zfs.snapshot([name])
            except errors.ZfsError as error:
                why = error.detail or (type(error).__doc__ or "").splitlines()[0]
                refused.setdefault(why, []).append(name.partition("@")[0])
            else:
                log.info("took %s", name)
                taken.append(name)
        trouble += [_not_taken(group, datasets, why) for why, datasets in refused.items()]
        return taken


def _answered(visits: Iterable[_Visit], refused: Collection[str]) -> list[_Visit]:
    """Those whose post-hook is to run, by sanoid's rules for one whose pre-hook failed."""
    return [
        one
        for one in visits
        if one.hooks.post_snapshot_script
        and (
            one.dataset not in refused
            or (one.hooks.force_post_snapshot_script and not one.hooks.no_inconsistent_snapshot)
        )
    ]


async def _to_the_end(work: asyncio.Future[None]) -> None:
    """Wait for *work* even when cancelled meanwhile; the cancellation is raised behind it."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    work.result()


async def some_at_once(
    things: Sequence[T], work: Callable[[T], Awaitable[HookResult]], limit: int = HOOKS_AT_ONCE
) -> list[HookResult]:
    """*work* on each of *things*, *limit* at a time; the results in their order."""
    room = asyncio.Semaphore(limit)

    async def one(thing: T) -> HookResult:
        async with room:
            return await work(thing)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(thing)) for thing in things]
    return [task.result() for task in tasks]


def _nameable(group: Group, trouble: list[Notice]) -> list[str]:
    """A dataset may have a name that leaves no room for that of a snapshot."""
    good, bad = [], []
    for name in group.names:
        try:
            good.append(check_snapshot(name))
        except InvalidName:
            bad.append(name.partition("@")[0])
    if bad:
        trouble.append(
            _not_taken(group, bad, f"the snapshot's name would be longer than {MAX_NAME} characters")
        )
    return good


def _by_dataset(takes: Iterable[Take]) -> dict[str, list[Take]]:
    found: dict[str, list[Take]] = {}
    for take in takes:
        found.setdefault(take.dataset, []).append(take)
    return found


def _visit(dataset: str, takes: Iterable[Take], policies: Mapping[str, Policy], now: int) -> _Visit:
    kinds = sorted({take.kind for take in takes}, key=KINDS.index)
    names = [snapshot_name(kind, now) for kind in kinds]
    environment = {
        "SANOID_TARGET": dataset,
        "SANOID_TARGETS": dataset,
        "SANOID_SNAPNAME": names[0],
        "SANOID_SNAPNAMES": ",".join(names),
        "SANOID_TYPES": ",".join(kinds),
    }
    policy = policies.get(dataset)
    return _Visit(dataset, policy.hooks if policy else Hooks(), environment)


def _hook_failed(dataset: str, hook: str, result: HookResult, then: str) -> Notice:
    text = f"{hook} of {dataset} {result.words}" + (f"; {then}" if then else "")
    return Notice("hook_failed", dataset, text, "journalctl -u meshkeep-agent")


def _not_taken(group: Group, subjects: Sequence[str], why: str) -> Notice:
    text = f"could not take the {group.kind} snapshot of {some(subjects)}: {why}"
    return Notice("snapshot_failed", subjects[0], text, f"zfs list -o space {shlex.quote(subjects[0])}")
