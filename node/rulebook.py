"""The policy rules of both front ends, meshkeep.toml and a sanoid.conf, become one `Resolution`."""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol, TypeAlias

from node.sanoid_files import load
from policy.rules import Assignment, Chosen, PoolLimits, Resolution, resolve
from policy.sanoid_conf import SanoidConfError
from policy.tick import Notice

_SHOWN = 3
"""Datasets that a notice names; the rest is counted."""


class SanoidRules(Protocol):
    """What was read of a sanoid.conf."""

    def resolve(
        self, datasets: Iterable[str], replica_roots: Collection[str] = (), timezone: str = "UTC"
    ) -> Resolution: ...


class SanoidUnreadable(Exception):
    """There is no sanoid.conf at that place, or it has mistakes. The text says all of them."""


Loader: TypeAlias = Callable[[Path], SanoidRules]


def load_sanoid(directory: Path) -> SanoidRules:
    """sanoid.conf in *directory* and the fragments in its sanoid.d. Raises SanoidUnreadable."""
    try:
        return load(directory)
    except SanoidConfError as error:
        raise SanoidUnreadable("\n".join(map(str, error.problems))) from error
    except OSError as error:
        raise SanoidUnreadable(f"{error.filename or directory}: {error.strerror or error}") from error


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


class Rulebook:
    """Rules that are read anew each time; a sanoid.conf that has become unreadable stays as it was."""

    def __init__(self, read: Loader = load_sanoid) -> None:
        self._read = read
        self._good: dict[str, SanoidRules] = {}

    async def resolve(
        self, rules: Rules, datasets: Sequence[str], replica_roots: Collection[str]
    ) -> tuple[Resolution, list[Notice]]:
        """What each of *datasets* gets, and what a person should know of the rules."""
        ours = resolve(rules.assignments, datasets, replica_roots, rules.pools)
        if rules.sanoid is None:
            return ours, []
        notices = []
        try:
            self._good[rules.sanoid] = await asyncio.to_thread(self._read, Path(rules.sanoid))
        except SanoidUnreadable as error:
            kept = "what it said before still holds" if rules.sanoid in self._good else "none of it holds"
            notices.append(
                Notice(
                    "sanoid_conf_invalid",
                    rules.sanoid,
                    f"sanoid's configuration cannot be used, {kept}: {error}",
                    "meshkeep policy test " + str(Path(rules.sanoid) / "sanoid.conf"),
                )
            )
        conf = self._good.get(rules.sanoid)
        if conf is None:
            return ours, notices
        return _merged(
            ours, conf.resolve(datasets, replica_roots, rules.timezone), rules.sanoid, notices
        ), notices


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
