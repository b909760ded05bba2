"""What ``meshkeep check`` says: Nagios levels and lines, in sanoid's words, of what was found. Pure.

On purpose otherwise than sanoid: a limit that only warns does warn, also where there is no snapshot at all; a newest
snapshot far in the future is a warning; a dataset that a rule names and that does not exist is critical, and so is one
that cannot be read.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from policy.rules import KINDS, Chosen, Kind, Limit, Monitor, PoolLimits, Resolution
from policy.tick import CLOCK_SLACK, newest_by_kind
from zfs.model import Pool, PoolStatus, Snapshot, Vdev
from zfs.names import pool_of
from zfs.sizes import size

MANY = 60
"""More figures than these become one for each kind: Nagios cuts a line off at 8 KiB."""


class Level(IntEnum):
    """The exit codes of a Nagios plugin."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


_WORST_FIRST = (Level.CRITICAL, Level.WARNING, Level.UNKNOWN, Level.OK)


@dataclass(frozen=True, slots=True)
class Figure:
    """One item of performance data; a limit of 0 is none."""

    label: str
    value: int
    unit: str = ""
    warn: int = 0
    crit: int = 0
    most: int | None = None

    def __str__(self) -> str:
        limits = f"{self.warn or ''};{self.crit or ''};0;{'' if self.most is None else self.most}"
        return f"'{self.label}'={self.value}{self.unit};{limits.rstrip(';')}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one check ended; `line` is what the plugin prints."""

    level: Level
    text: str
    figures: tuple[Figure, ...] = ()

    @property
    def line(self) -> str:
        """The text and, behind a bar, the performance data."""
        text = " ".join(self.text.replace("|", "/").split())
        return f"{text} | {' '.join(map(str, self.figures))}" if self.figures else text


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found of the datasets that have a policy.

    `unreadable` are those that could not be listed, and why; `unchanged` those that nothing was written to
    since their newest snapshot.
    """

    histories: Mapping[str, Sequence[Snapshot]]
    unreadable: Mapping[str, str] = field(default_factory=dict)
    unchanged: Collection[str] = ()


def worst(levels: Iterable[Level]) -> Level:
    """Critical, then warning, then unknown; OK of none."""
    found = set(levels)
    return next((level for level in _WORST_FIRST if level in found), Level.OK)


def together(outcomes: Mapping[str, Outcome]) -> Outcome:
    """Several checks, by name, as one."""
    level = worst(outcome.level for outcome in outcomes.values())
    text = "; ".join(f"{name}: {outcome.text}" for name, outcome in outcomes.items())
    figures = tuple(figure for outcome in outcomes.values() for figure in outcome.figures)
    return Outcome(level, f"{level.name} - {text}", figures)


def unknown(why: str) -> Outcome:
    """Nothing could be found out."""
    return Outcome(Level.UNKNOWN, f"UNKNOWN - {why}")


def doubtful(outcome: Outcome, why: str) -> Outcome:
    """*outcome*, where not all that should have been looked at is known."""
    level = worst((outcome.level, Level.UNKNOWN))
    return Outcome(level, f"{level.name} - {why}; {outcome.text}", outcome.figures)


def silent(seconds: float, suspended: Collection[str] = ()) -> Outcome:
    """ZFS has not answered for so long, which a suspended pool does to all that touch it."""
    why = f"suspended: {', '.join(sorted(suspended))}" if suspended else "perhaps a pool is suspended"
    return Outcome(Level.CRITICAL, f"CRITICAL - ZFS did not answer within {seconds:g} s ({why})")


# -- snapshots ---------------------------------------------------------------------------------------------------


def snapshots(resolution: Resolution, seen: Seen, now: int) -> Outcome:
    """Whether every monitored dataset has snapshots as fresh as its policy wants."""
    monitored = {name: one for name, one in resolution.chosen.items() if one.policy.monitor.monitor}
    found = [(Level.CRITICAL, _lost(name, seen)) for name in resolution.unmatched]
    figures: list[Figure] = []
    for dataset, chosen in monitored.items():
        if dataset in seen.unreadable:
            found.append((Level.CRITICAL, _lost(dataset, seen)))
            continue
        history = seen.histories.get(dataset, ())
        newest = newest_by_kind(chosen.policy, history)
        figures += _ages(dataset, chosen, newest, now)
        if not (history and is_idle(dataset, chosen, seen.unchanged)):
            found += _complaints(dataset, chosen, newest, now)
    figures = figures if len(figures) <= MANY else _oldest(figures)
    if found:
        texts = sorted((text for _, text in found), key=lambda text: (text.lower(), text))
        return Outcome(worst(level for level, _ in found), ", ".join(texts), tuple(figures))
    if not monitored:
        return Outcome(Level.OK, "OK: no dataset is monitored")
    names = ", ".join(sorted(monitored, key=lambda name: (name.lower(), name)))
    return Outcome(Level.OK, f"OK: all monitored datasets ({names}) have fresh snapshots", tuple(figures))


def _lost(dataset: str, seen: Seen) -> str:
    why = seen.unreadable.get(dataset)
    return f"CRIT: {dataset} cannot be read: {why}" if why else f"CRIT: {dataset} does not exist"


def is_idle(dataset: str, chosen: Chosen, unchanged: Collection[str]) -> bool:
    """Whether its policy takes nothing now because nothing was written: then nothing is late."""
    return chosen.policy.skip_unchanged and all(name in unchanged for name in (dataset, *chosen.along))


def limits(chosen: Chosen) -> Iterator[tuple[Kind, Limit]]:
    """The kinds that its policy has and watches."""
    for kind in KINDS:
        limit = chosen.policy.monitor.limit(kind)
        if chosen.policy.count(kind) > 0 and (limit.warn or limit.crit):
            yield kind, limit


def _ages(dataset: str, chosen: Chosen, newest: Mapping[Kind, int], now: int) -> Iterator[Figure]:
    for kind, limit in limits(chosen):
        if kind in newest:
            age = max(0, now - newest[kind])
            yield Figure(f"{dataset} {kind}", age, "s", limit.warn, limit.crit)


def _oldest(figures: Iterable[Figure]) -> list[Figure]:
    oldest: dict[str, int] = {}
    for figure in figures:
        kind = figure.label.rpartition(" ")[2]
        oldest[kind] = max(figure.value, oldest.get(kind, 0))
    return [Figure(kind, age, "s") for kind, age in oldest.items()]


def _complaints(
    dataset: str, chosen: Chosen, newest: Mapping[Kind, int], now: int
) -> Iterator[tuple[Level, str]]:
    monitor = chosen.policy.monitor
    for kind, limit in limits(chosen):
        age = now - newest[kind] if kind in newest else None
        level = _level(age, limit)
        if level is not Level.OK:
            yield _counted(level, monitor), _complaint(level, dataset, kind, age, limit)


def _level(age: int | None, limit: Limit) -> Level:
    """Exactly at a limit is still fine."""
    if limit.crit and (age is None or age > limit.crit):
        return Level.CRITICAL
    if limit.warn and (age is None or age > limit.warn):
        return Level.WARNING
    return Level.WARNING if age is not None and age < -CLOCK_SLACK else Level.OK


def _counted(level: Level, monitor: Monitor) -> Level:
    """What is only to be said counts as nothing."""
    mute = monitor.monitor_dont_crit if level is Level.CRITICAL else monitor.monitor_dont_warn
    return Level.OK if mute else level


def _complaint(level: Level, dataset: str, kind: Kind, age: int | None, limit: Limit) -> str:
    word = "CRIT" if level is Level.CRITICAL else "WARN"
    if age is None:
        return f"{word}: {dataset} has no {kind} snapshots at all!"
    if age < 0:
        return f"{word}: {dataset} newest {kind} snapshot is {span(-age)} in the future"
    bound = limit.crit if level is Level.CRITICAL else limit.warn
    return f"{word}: {dataset} newest {kind} snapshot is {span(age)} old (should be < {span(bound)})"


def span(seconds: int) -> str:
    """``1d 8h 0m 1s``; what is zero in front is left out."""
    parts = [
        (seconds // 86400, "d"),
        (seconds // 3600 % 24, "h"),
        (seconds // 60 % 60, "m"),
        (seconds % 60, "s"),
    ]
    first = next((number for number, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count}{unit}" for count, unit in parts[first:])


# -- pools -------------------------------------------------------------------------------------------------------


def usable(pool: Pool) -> bool:
    """Whether its datasets can be asked about; one that is suspended hangs whoever tries."""
    return pool.health in _STATES


def missing_pools(resolution: Resolution, pools: Iterable[Pool]) -> list[str]:
    """Those that a rule needs and that are not imported."""
    named = {*map(pool_of, (*resolution.chosen, *resolution.unmatched)), *resolution.pools}
    return sorted(named - {pool.name for pool in pools})


def capacity(pools: Iterable[Pool], limits: Mapping[str, PoolLimits], missing: Iterable[str] = ()) -> Outcome:
    """Whether a pool is filled to the percentage at which it was to be said."""
    found = [_missing(name) for name in missing]
    figures = []
    for pool in sorted(pools, key=lambda pool: pool.name):
        limit = limits.get(pool.name, PoolLimits())
        level = _filled(pool.capacity, limit)
        found.append((level, f"{level.name} ZPOOL {pool.name} : {pool.capacity}%"))
        figures.append(Figure(pool.name, pool.capacity, "%", limit.capacity_warn, limit.capacity_crit, 100))
    return _of_pools(found, figures)


def _filled(percent: int, limit: PoolLimits) -> Level:
    if limit.capacity_crit and percent >= limit.capacity_crit:
        return Level.CRITICAL
    if limit.capacity_warn and percent >= limit.capacity_warn:
        return Level.WARNING
    return Level.OK


def health(statuses: Mapping[str, PoolStatus | str], now: int, missing: Iterable[str] = ()) -> Outcome:
    """How the pools are; of one that could not be looked at, *statuses* has the reason."""
    found = [_missing(name) for name in missing]
    figures = []
    for name, status in sorted(statuses.items()):
        if isinstance(status, str):
            found.append((Level.CRITICAL, f"CRITICAL ZPOOL {name} : {status}"))
            continue
        found.append(_pool_health(status, now))
        figures.append(Figure(f"{name} errors", errors_of(status)))
        if status.scrub_end is not None:
            figures.append(Figure(f"{name} scrub", max(0, now - status.scrub_end), "s"))
    return _of_pools(found, figures)


def errors_of(status: PoolStatus) -> int:
    """Read, write and checksum errors of all its devices."""
    return sum(vdev.read + vdev.write + vdev.checksum for vdev in status.vdevs)


def _pool_health(status: PoolStatus, now: int) -> tuple[Level, str]:
    remarks = [remark for vdev in status.vdevs if (remark := _remark(vdev, status.name))]
    level = _STATES.get(status.state, Level.CRITICAL)
    if remarks and level is Level.OK:
        level = Level.WARNING
    sizes = f"{{Size:{size(status.size)} Free:{size(status.free)} Cap:{status.capacity}%}}"
    scrub = "no finished scrub"
    if status.scrub_end is not None:
        scrub = f"scrub {span(max(0, now - status.scrub_end) // 3600 * 3600)} ago"
    told = " ".join([status.state, sizes, *remarks, scrub])
    return level, f"{level.name} ZPOOL {status.name} : {told}"


_STATES = {"ONLINE": Level.OK, "DEGRADED": Level.WARNING}
_FINE = ("ONLINE", "AVAIL", "INUSE")
_GROUP = re.compile(r"(?:mirror|raidz[1-3]?|draid[1-3]?|spare|replacing)(?:[:-].*)?")


def _remark(vdev: Vdev, pool: str) -> str:
    """What sanoid says of a device: ``sdb:FAULTED``, ``<mirror-0:DEGRADED>``, ``(sda:cksum errors)``."""
    kinds = (("read", vdev.read), ("write", vdev.write), ("cksum", vdev.checksum))
    wrong = ", ".join(kind for kind, count in kinds if count)
    if vdev.state not in _FINE and vdev.name != pool:
        return f"<{vdev.name}:{vdev.state}>" if _GROUP.fullmatch(vdev.name) else f"{vdev.name}:{vdev.state}"
    return f"({vdev.name}:{wrong} errors)" if wrong else ""


def _missing(name: str) -> tuple[Level, str]:
    return Level.CRITICAL, f"CRITICAL ZPOOL {name} : not imported"


def _of_pools(found: Sequence[tuple[Level, str]], figures: Sequence[Figure]) -> Outcome:
    if not found:
        return Outcome(Level.OK, "OK: there is no pool")
    level = worst(level for level, _ in found)
    prefix = "" if level is Level.OK else f"*** {level.name} *** "
    return Outcome(level, prefix + ", ".join(text for _, text in found), tuple(figures))
