"""The policy rules of both front ends, meshkeep.toml and a sanoid.conf, become one `Resolution`."""

import asyncio
import shlex
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from node.sanoid_files import OnDisk, SanoidUnreadable, look
from policy.rules import Assignment, Chosen, PoolLimits, Resolution, resolve
from policy.sanoid_conf import SanoidConf
from policy.sanoid_ini import Section
from policy.tick import Notice

EVERY = 60.0
"""Seconds between two looks at whether a sanoid.conf has changed."""

_SHOWN = 3
"""Datasets that a notice names; the rest is counted."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the settings say: the rules of the TOML files, and the directory of a sanoid.conf besides, whose times of
    day are those of `timezone`.
    """

    assignments: Sequence[Assignment] = ()
    pools: Mapping[str, PoolLimits] | None = None
    sanoid: str | None = None
    timezone: str = "UTC"

    def __bool__(self) -> bool:
        return bool(self.assignments or self.sanoid)


@dataclass(frozen=True, slots=True)
class _Sanoid:
    """A sanoid.conf as it was read: `conf` is in force, which is the one before if there is `trouble` with it."""

    on_disk: OnDisk
    conf: SanoidConf | None
    trouble: str = ""

    @property
    def directory(self) -> Path:
        return self.on_disk.directory


class Rulebook:
    """The rules in force. A sanoid.conf is read at first and after `renew`; a bad one leaves the one before in force.

    So a file that is half saved, or is edited to be tested first, changes nothing.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._sanoid: _Sanoid | None = None
        self._wanted = 0
        self._done = -1
        self._looked = 0.0
        self._changed = False
        self._reading = asyncio.Lock()

    @property
    def sections(self) -> Mapping[str, Section]:
        """Those of the sanoid.conf in force, by name."""
        conf = self._sanoid.conf if self._sanoid else None
        return {section.name: section for section in conf.sections} if conf else {}

    def renew(self) -> None:
        """Have a sanoid.conf read again, when the rules are asked for next."""
        self._wanted += 1

    async def resolve(
        self, rules: Rules, datasets: Sequence[str], replica_roots: Collection[str]
    ) -> tuple[Resolution, list[Notice]]:
        """What each of *datasets* gets, and what a person should know of the rules."""
        ours = resolve(rules.assignments, datasets, replica_roots, rules.pools)
        if rules.sanoid is None:
            self._sanoid = None
            return ours, []
        async with self._reading:
            sanoid = await self._read(Path(rules.sanoid))
        notices = [*_told(sanoid, self._changed)]
        if sanoid.conf is None:
            return ours, notices
        theirs = sanoid.conf.resolve(datasets, replica_roots, rules.timezone)
        return _merged(ours, theirs, rules.sanoid, notices), notices

    async def _read(self, directory: Path) -> _Sanoid:
        last = self._sanoid if self._sanoid and self._sanoid.directory == directory else None
        if last is None or self._done != self._wanted:
            wanted, now = self._wanted, self._now()
            sanoid = await asyncio.to_thread(_read, directory, last.conf if last else None)
            self._sanoid, self._done, self._changed, self._looked = sanoid, wanted, False, now
            return sanoid
        if self._now() - self._looked >= EVERY:
            self._looked = self._now()
            self._changed = (await asyncio.to_thread(look, directory, last.on_disk)).differs(last.on_disk)
        return last


def _read(directory: Path, before: SanoidConf | None) -> _Sanoid:
    on_disk = look(directory)
    try:
        return _Sanoid(on_disk, on_disk.parse())
    except SanoidUnreadable as error:
        return _Sanoid(on_disk, before, str(error))


def _told(sanoid: _Sanoid, changed: bool) -> list[Notice]:
    place = str(sanoid.directory)
    hint = f"meshkeep policy test {shlex.quote(place)}"
    notices = []
    if sanoid.trouble:
        kept = "none of it holds" if sanoid.conf is None else "what it said before still holds"
        text = f"sanoid's configuration cannot be used, {kept}: {sanoid.trouble}"
        notices.append(Notice("sanoid_conf_invalid", place, text, hint))
    if changed:
        text = (
            f"sanoid's configuration in {place} has changed on disk since it was read; "
            "meshkeep config reload puts it to use"
        )
        notices.append(Notice("sanoid_conf_changed", place, text, hint))
    return notices


def without(resolution: Resolution, datasets: Collection[str], why: str) -> Resolution:
    """*resolution* with *datasets* left alone: they get no policy, and are not taken along with others."""
    chosen = {
        name: replace(one, along=tuple(below for below in one.along if below not in datasets))
        for name, one in resolution.chosen.items()
        if name not in datasets
    }
    excluded = {**resolution.excluded, **{name: why for name in resolution.chosen if name in datasets}}
    return replace(resolution, chosen=chosen, excluded=excluded)


def some(names: Collection[str]) -> str:
    """The first few of *names*, and how many more."""
    shown = ", ".join(sorted(names)[:_SHOWN])
    return shown if len(names) <= _SHOWN else f"{shown} and {len(names) - _SHOWN} more"


def _merged(ours: Resolution, theirs: Resolution, directory: str, notices: list[Notice]) -> Resolution:
    """Where both have a rule, the one in meshkeep.toml counts."""
    both = ours.chosen.keys() & theirs.chosen.keys()
    if both:
        notices.append(
            Notice(
                "rule_twice",
                min(both),
                f"{some(both)}: the rules in meshkeep.toml count, those in {directory}/sanoid.conf do not",
                "meshkeep config import-sanoid",
            )
        )
    theirs = without(theirs, ours.chosen.keys(), "")
    chosen: dict[str, Chosen] = {**theirs.chosen, **ours.chosen}
    excluded = {**theirs.excluded, **ours.excluded}
    return Resolution(
        chosen,
        {name: why for name, why in excluded.items() if name not in chosen},
        tuple(dict.fromkeys((*ours.unmatched, *theirs.unmatched))),
        {**theirs.pools, **ours.pools},
        (*ours.notes, *theirs.notes),
    )
