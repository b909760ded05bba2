"""Never two schedulers: whether sanoid runs on this host by itself, and what it manages."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from node.commands import CommandMissing, CommandTimeout, Runner
from node.rulebook import Loader, SanoidUnreadable, load_sanoid
from policy.rules import Resolution

log = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds that an answer holds."""

UNIT = "sanoid.timer"
TRY = f"meshkeep config import-sanoid; systemctl disable --now {UNIT}"


@dataclass(frozen=True, slots=True)
class OtherScheduler:
    """Sanoid, at work: `how` it is started, whose snapshots it takes or prunes, `trouble` with its configuration."""

    how: str
    datasets: frozenset[str] = frozenset()
    trouble: str = ""


class SanoidTimer:
    """Asks systemd, or cron where there is none; at most once a minute. *root* is where the host's files are."""

    def __init__(
        self,
        commands: Runner,
        root: Path = Path("/"),
        now: Callable[[], float] = time.monotonic,
        read: Loader = load_sanoid,
    ) -> None:
        self._commands = commands
        self._read = read
        self._root = root
        self._now = now
        self._asked: float | None = None
        self._how = ""

    async def active(self) -> str:
        """How sanoid is started here, or nothing."""
        now = self._now()
        if self._asked is None or now - self._asked >= EVERY:
            self._how, self._asked = await self._look(), now
        return self._how

    async def managed(
        self, datasets: Iterable[str], replica_roots: Collection[str] = ()
    ) -> OtherScheduler | None:
        """What sanoid manages of *datasets* if it is at work."""
        how = await self.active()
        if not how:
            return None
        try:
            conf = await asyncio.to_thread(self._read, self._root / "etc/sanoid")
        except SanoidUnreadable as error:
            # Sanoid dies of what we cannot read, so there is nothing that both would do.
            return OtherScheduler(how, trouble=str(error))
        return OtherScheduler(how, frozenset(_managed(conf.resolve(datasets, replica_roots))))

    async def _look(self) -> str:
        if (self._root / "run/systemd/system").is_dir():
            try:
                asked = await self._commands.run(["systemctl", "is-active", UNIT])
            except (CommandMissing, CommandTimeout) as error:
                log.warning("cannot tell whether %s is active: %s", UNIT, error)
                return self._how
            # "activating" is a timer's while its service runs for the first time
            return f"{UNIT} is active" if asked.out.strip() in ("active", "activating", "reloading") else ""
        cron = self._root / "etc/cron.d/sanoid"
        return f"{cron} is there" if cron.exists() else ""


def _managed(found: Resolution) -> Iterable[str]:
    for dataset, chosen in found.chosen.items():
        if chosen.policy.autosnap or chosen.policy.autoprune:
            yield dataset
            yield from chosen.along
