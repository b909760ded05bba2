"""Snapshots by policy: APScheduler is the tick, `policy.tick` decides, this looks, and has done what it said.

What is due is derived from the newest snapshots, so a tick that was lost loses nothing.
"""

import logging
import shlex
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from node.clock import ClockWatch, Every
from node.histories import Histories
from node.prune_rounds import Facts, PruneRounds
from node.pruner import Pruner
from node.rulebook import Rulebook, Rules
from node.sanoid_timer import SanoidTimer
from node.storage import node_roots
from node.taker import Taker
from node.two_schedulers import aside
from policy.rules import Resolution
from policy.sanoid_ini import Section
from policy.tick import DEAD, Inventory, Notice, Tick, plan_tick
from zfs import errors
from zfs.door import Zfs
from zfs.model import Dataset, Pool, Snapshot
from zfs.names import pool_of

log = logging.getLogger(__name__)

STUCK = 600.0
"""Seconds after which a tick that has not ended is said to hang: a hook without a timeout, or ZFS itself."""


class Snapshotter:
    """Owns the scheduler. `taken` is called with each dataset that got a snapshot."""

    def __init__(
        self,
        zfs: Zfs,
        *,
        taker: Taker,
        pruner: Pruner,
        needed: Callable[[str], Mapping[int, str]],
        replica_roots: Callable[[], Collection[str]],
        taken: Callable[[str], None],
        sanoid: SanoidTimer | None = None,
        rulebook: Rulebook | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._zfs = zfs
        self._taker = taker
        self._needed = needed
        self._replica_roots = replica_roots
        self._taken = taken
        self._sanoid = sanoid
        self._rulebook = rulebook or Rulebook(monotonic)
        self._now = now
        self._monotonic = monotonic
        self._rules = Rules()
        self._histories = Histories(zfs, now)
        self._rounds = PruneRounds(pruner, now)
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._notices: tuple[Notice, ...] = ()
        self._began: float | None = None
        self.chosen: tuple[str, ...] = ()

    @property
    def notices(self) -> tuple[Notice, ...]:
        """What a person should know, as of the last tick."""
        if self._began is None or self._monotonic() - self._began < STUCK:
            return self._notices
        minutes = int(self._monotonic() - self._began) // 60
        text = f"a round of snapshots has not ended for {minutes} minutes: a hook or a pool hangs"
        return (*self._notices, Notice("tick_hangs", "", text, "zpool status; journalctl -u meshkeep-agent"))

    @property
    def waiting(self) -> Mapping[str, int]:
        """By dataset, how many snapshots the brake keeps from being pruned."""
        return self._rounds.waiting

    # -- the clock -----------------------------------------------------------------------------------------------

    def configure(self, rules: Rules, tick_seconds: int) -> None:
        """Take the rules of a new configuration, and read its sanoid.conf again; the next tick is at once."""
        self._rules = rules
        self._rulebook.renew()
        self._scheduler.add_job(
            self.tick,
            Every(tick_seconds),
            id="tick",
            replace_existing=True,
            coalesce=True,
            misfire_grace_time=None,
            max_instances=1,
        )
        self._tick_now()

    def start(self) -> None:
        """Begin to tick, at once."""
        self._scheduler.start()
        self._tick_now()

    def stop(self) -> None:
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)

    async def watch_clock(self, watch: ClockWatch) -> None:
        """Tick at once after each jump of the clock, until cancelled."""
        await watch.run(self.clock_jumped)

    def clock_jumped(self, seconds: float) -> None:
        """The scheduler waits by the old time, and cached histories were dated by it."""
        log.warning("the clock jumped by %+.0f s", seconds)
        self._histories.forget()
        self._tick_now()

    def _tick_now(self) -> None:
        if self._scheduler.running and self._scheduler.get_job("tick"):
            self._scheduler.modify_job("tick", next_run_time=datetime.fromtimestamp(self._now(), UTC))

    # -- what there is ---------------------------------------------------------------------------------------------

    async def resolution(self) -> Resolution:
        """What each dataset gets now. Raises ZfsError."""
        datasets, _ = await self._look()
        return (await self._resolve(datasets))[0]

    @property
    def sanoid_sections(self) -> Mapping[str, Section]:
        """Those of the sanoid.conf in force, by name, as `resolution` found them."""
        return self._rulebook.sections

    async def histories(self, datasets: Iterable[str]) -> dict[str, tuple[Snapshot, ...]]:
        """The snapshots of *datasets*, of those that are there and can be listed. Raises ZfsError."""
        wanted = set(datasets)
        present = [one for one in (await self._look())[0] if one.name in wanted]
        found, _ = await self._histories.of(present)
        return {name: tuple(history) for name, history in found.items()}

    async def _look(self) -> tuple[list[Dataset], list[Pool]]:
        """The datasets and pools; one pool that cannot be listed does not hide the others."""
        pools = await self._zfs.pools()
        try:
            return await self._zfs.datasets(), pools
        except errors.ZfsError as error:
            log.info("looking at each pool by itself: %s", error)
        datasets: list[Dataset] = []
        for pool in pools:
            if pool.health in DEAD:
                continue
            try:
                datasets += await self._zfs.datasets(pool.name)
            except errors.ZfsError as error:
                log.warning("pool %s cannot be listed: %s", pool.name, error)
        return datasets, pools

    async def _resolve(self, datasets: Sequence[Dataset]) -> tuple[Resolution, list[Notice]]:
        names = [dataset.name for dataset in datasets]
        # By name too: where replicas lie now is known only after the first look, and they may have moved.
        roots = {*self._replica_roots(), *node_roots(names)}
        resolution, notices = await self._rulebook.resolve(self._rules, names, roots)
        other = await self._sanoid.managed(names, roots) if self._sanoid and self._rules else None
        if other is None:
            return resolution, notices
        resolution, told = aside(resolution, other)
        return resolution, [*notices, *told]

    # -- the tick --------------------------------------------------------------------------------------------------

    async def tick(self) -> Tick:
        """One round: list, decide, take, destroy. What goes wrong is said in `notices`."""
        self._began = self._monotonic()
        decided = Tick()
        notices: list[Notice] = []
        try:
            if self._rules:
                decided, notices = await self._round()
            else:
                self.chosen = ()
        except errors.ZfsError as error:
            notices = [Notice("zfs_failed", "", f"no snapshots this time: {error}", "zpool status")]
        except Exception as error:
            log.exception("a round of snapshots failed")
            text = f"a round of snapshots failed: {error!r}"
            notices = [Notice("tick_failed", "", text, "journalctl -u meshkeep-agent")]
        finally:
            self._began = None
        self._say(notices)
        return decided

    def _say(self, notices: Iterable[Notice]) -> None:
        """What is new among them goes to the log too."""
        told = tuple({(one.code, one.subject, one.text): one for one in notices}.values())
        for notice in told:
            if notice not in self._notices:
                log.warning("%s", notice.text)
        self._notices = told

    async def _round(self) -> tuple[Tick, list[Notice]]:
        datasets, pools = await self._look()
        resolution, notices = await self._resolve(datasets)
        resolution = _told_once(resolution, pools, notices)
        self.chosen = tuple(resolution.chosen)
        self._rounds.see(pools, resolution)
        histories, resolution = await self._list(datasets, pools, resolution, notices)
        needed: dict[int, str] = {}
        for name in resolution.chosen:
            needed |= self._needed(name)
        now = int(self._now())
        everything = tuple(snapshot for history in histories.values() for snapshot in history)
        unchanged = frozenset(dataset.name for dataset in datasets if dataset.written == 0)
        decided = plan_tick(Inventory(everything, tuple(pools), unchanged), resolution, now, needed)
        notices += decided.warnings
        policies = {name: chosen.policy for name, chosen in resolution.chosen.items()}
        taken = await self._taker.take(decided.take, policies, now)
        for name in dict.fromkeys(full.partition("@")[0] for full in taken.names):
            self._taken(name)
        pruned, told = await self._rounds.run(decided.destroy, Facts(pools, resolution, histories, needed))
        stayed = {full.partition("@")[0] for full in pruned.failed}
        for dataset in datasets:
            if dataset.name in stayed:
                self._histories.forget(dataset)
        return decided, [*notices, *taken.trouble, *told]

    async def _list(
        self,
        datasets: Iterable[Dataset],
        pools: Iterable[Pool],
        resolution: Resolution,
        notices: list[Notice],
    ) -> tuple[dict[str, Sequence[Snapshot]], Resolution]:
        """The histories of what has a policy; a dataset that cannot be listed must not keep the others from theirs."""
        dead = {pool.name for pool in pools if pool.health in DEAD}
        wanted = [one for one in datasets if one.name in resolution.chosen and pool_of(one.name) not in dead]
        for dataset in wanted:
            if pool_of(dataset.name) in self._rounds.draining:
                self._histories.forget(dataset)  # `used`, which the space guard goes by, changes on its own
        self._histories.only(wanted)
        found, failed = await self._histories.of(wanted)
        for name, error in failed.items():
            if not isinstance(error, errors.NotFound):
                text = f"no snapshot of {name} this time, its snapshots cannot be listed: {error}"
                notices.append(Notice("not_listed", name, text, f"zfs list -t snapshot {shlex.quote(name)}"))
        listed = {name: one for name, one in resolution.chosen.items() if name not in failed}
        return found, replace(resolution, chosen=listed)


def _told_once(resolution: Resolution, pools: Iterable[Pool], notices: list[Notice]) -> Resolution:
    """ZFS lists no dataset of a pool that is down: that is said of the pool, not of each rule for it."""
    dead = {pool.name: pool for pool in pools if pool.health in DEAD}
    lost = [name for name in resolution.unmatched if pool_of(name) in dead]
    for name in sorted({pool_of(one) for one in lost}):
        text = f"pool {name} is {dead[name].health}"
        notices.append(Notice("pool_unavailable", name, text, f"zpool status {shlex.quote(name)}"))
    return replace(resolution, unmatched=tuple(one for one in resolution.unmatched if one not in lost))
