"""Never two schedulers: whether sanoid runs on this host by itself, and what it manages."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from node.commands import Runner
from node.errors import MeshkeepError
from node.sanoid_files import SanoidMissing, SanoidUnreadable, look
from policy.rules import Resolution
from policy.sanoid_conf import SanoidConf

log = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds that an answer holds."""

UNIT = "sanoid.timer"
UNKNOWN = f"whether {UNIT} is active cannot be told"

_RUNS = frozenset({"active", "activating", "reloading", "refreshing"})
"""What systemctl calls it; "activating" is a timer's while its service runs for the first time."""

_RESTS = frozenset({"inactive", "deactivating", "failed", "maintenance", "unknown"})


@dataclass(frozen=True, slots=True)
class OtherScheduler:
    """Sanoid, at work: `how` it is started, whose snapshots it takes or prunes.

    With `trouble` its configuration makes no sense to us, and `datasets` is empty because it is not known.
    """

    how: str
    datasets: frozenset[str] = frozenset()
    trouble: str = ""


class SanoidTimer:
    """Asks systemd, or cron where there is none; at most once a minute. *root* is where the host's files are."""

    def __init__(
        self, commands: Runner, root: Path = Path("/"), now: Callable[[], float] = time.monotonic
    ) -> None:
        self._commands = commands
        self._root = root
        self._now = now
        self._asked: float | None = None
        self._how: str | None = None

    async def active(self) -> str:
        """How sanoid is started here, or nothing; UNKNOWN where there was no answer yet.

        While there is none, it is asked for each time, and what was known before counts.
        """
        now = self._now()
        if self._asked is None or now - self._asked >= EVERY:
            found = await self._look()
            if found is not None:
                self._how, self._asked = found, now
        return UNKNOWN if self._how is None else self._how

    async def managed(
        self, datasets: Iterable[str], replica_roots: Collection[str] = ()
    ) -> OtherScheduler | None:
        """What sanoid manages of *datasets* if it is at work, or may be."""
        how = await self.active()
        if not how:
            return None
        try:
            conf = await asyncio.to_thread(_read, self._root / "etc/sanoid")
        except SanoidMissing:
            return None  # it ends at once without its sanoid.conf
        except SanoidUnreadable as error:
            # Sanoid runs with much that is a mistake here: it takes `hourly = two` for 0, and destroys.
            return OtherScheduler(how, trouble=str(error))
        return OtherScheduler(how, frozenset(_managed(conf.resolve(datasets, replica_roots))))

    async def _look(self) -> str | None:
        """None if there is no answer."""
        if not (self._root / "run/systemd/system").is_dir():
            cron = self._root / "etc/cron.d/sanoid"
            return f"{cron} is there" if cron.exists() else ""
        try:
            asked = await self._commands.run(["systemctl", "is-active", UNIT])
        except MeshkeepError as error:
            log.warning("%s: %s", UNKNOWN, error)
            return None
        state = asked.out.strip()
        if state in _RUNS:
            return f"{UNIT} is active"
        if state in _RESTS:
            return ""
        log.warning("%s: %s", UNKNOWN, asked.words)
        return None


def stop_command(how: str) -> str:
    """What ends a sanoid that is started like that (what `SanoidTimer.active` says)."""
    return f"systemctl disable --now {UNIT}" if UNIT in how else "mv /etc/cron.d/sanoid /root/sanoid.cron"


def _read(directory: Path) -> SanoidConf:
    return look(directory).parse()


def _managed(found: Resolution) -> Iterable[str]:
    for dataset, chosen in found.chosen.items():
        if chosen.policy.autosnap or chosen.policy.autoprune:
            yield dataset
            yield from chosen.along
