"""What a target has agreed to keep of one node's data, and how that changes. Pure.

A floor is lengthened at once, by its owner or at the target's console. It is shortened at the console, or by a word of
the recovery key that stood unopposed for seven days of the target's own clock as `replication.target_clock` believes
it: time that the target was not seen to be up does not count, and nothing takes effect after a jump of the clock. Each
word has a version; one that ended here, either way, is `done` and comes back no more, nor does any before it.

What is remembered stands in ZFS, on the dataset above the owner's replicas. Losing it makes the seven days begin anew;
what cannot be read is kept for ever.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from replication.target_clock import Marks

DAY = 86400
NOTICE = 7 * DAY
"""Seconds for which a word of the recovery key waits."""

SHORTEST = 3600
FOREVER = 36_500 * DAY

By = Literal["", "owner", "console", "recovery key", "damaged"]
_BY: Collection[str] = ("", "owner", "console", "recovery key")
_VERSION = 1
_MAX = 2**64


@dataclass(frozen=True, slots=True)
class Ask:
    """A verified word of the recovery key: `oid` says which, `floor` is in seconds."""

    oid: str
    version: int
    floor: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """The word that may take effect; `since` is when it was first heard, by the target's clock."""

    oid: str
    version: int
    floor: int
    since: int


@dataclass(frozen=True, slots=True)
class Agreed:
    """Of one owner. `floor` is None where nothing but the target's own policy and its invite was agreed; `by` is who
    last changed it, `at` when (epoch seconds), and `done` the version of the last word of the recovery key that ended.
    """

    floor: int | None = None
    by: By = ""
    at: int = 0
    waiting: Waiting | None = None
    done: int = 0


DAMAGED = Agreed(FOREVER, "damaged")


def lengthened(agreed: Agreed, floor: int, by: By, now: int) -> Agreed:
    """Never less than before. What waits goes on waiting: whoever lengthens may not be who is to be overruled."""
    return agreed if floor <= (agreed.floor or 0) else replace(agreed, floor=floor, by=by, at=now)


def shortened(agreed: Agreed, floor: int, newest: int, now: int) -> Agreed:
    """Root at the target's console says so. Nothing waits any more, up to version *newest*, the newest known here."""
    return Agreed(floor, "console", now, None, max(agreed.done, newest, _version(agreed.waiting)))


def heard(agreed: Agreed, ask: Ask | None, vetoed: Collection[str], since: int, floor: int) -> Agreed:
    """A word is new, or opposed, or neither. One no shorter than the *floor* as it is has nothing to wait for."""
    waiting = agreed.waiting
    if ask is not None and ask.version > agreed.done and _newer(ask, waiting):
        waiting = Waiting(ask.oid, ask.version, ask.floor, since)
    if waiting is not None and (waiting.oid in vetoed or waiting.floor >= floor):
        return dropped(replace(agreed, waiting=waiting), waiting.version)
    return replace(agreed, waiting=waiting)


def dropped(agreed: Agreed, version: int) -> Agreed:
    """Nothing up to *version* takes effect any more."""
    waiting = agreed.waiting if _version(agreed.waiting) > version else None
    return replace(agreed, waiting=waiting, done=max(agreed.done, version))


def left(waiting: Waiting, marks: Marks, now: int) -> int:
    """Seconds that it still has to wait, if the clock goes on to be believed; 0 when it has waited long enough."""
    return max(0, NOTICE - (now - marks.counted(waiting.since)))


def settled(agreed: Agreed, marks: Marks, now: int) -> Agreed:
    """What waited for long enough takes effect, unless the clock jumped."""
    waiting = agreed.waiting
    if waiting is None or marks.jump or left(waiting, marks, now):
        return agreed
    return Agreed(waiting.floor, "recovery key", now, None, max(agreed.done, waiting.version))


def corrected(agreed: Agreed, now: int) -> Agreed:
    """A word that was heard in the future was heard by a clock that was wrong: now, or some time before."""
    waiting = agreed.waiting
    if waiting is None or waiting.since <= now:
        return agreed
    return replace(agreed, waiting=replace(waiting, since=now))


def _newer(ask: Ask, waiting: Waiting | None) -> bool:
    """Another word of the same version is another word, and waits from its own beginning."""
    return waiting is None or (ask.oid != waiting.oid and ask.version >= waiting.version)


def _version(waiting: Waiting | None) -> int:
    return waiting.version if waiting is not None else 0


def dump(agreed: Agreed) -> str:
    """As text for a user property."""
    waiting = agreed.waiting
    found: dict[str, Any] = {
        "v": _VERSION,
        "floor": agreed.floor,
        "by": agreed.by,
        "at": agreed.at,
        "done": agreed.done,
        "waiting": [waiting.oid, waiting.version, waiting.floor, waiting.since] if waiting else None,
    }
    return json.dumps(found, separators=(",", ":"))


def load(text: str) -> Agreed:
    """What `dump` wrote; for anything else `DAMAGED`, by which nothing goes until root at the console looks."""
    try:
        return _read(json.loads(text))
    except (ValueError, TypeError, KeyError, RecursionError):
        return DAMAGED


def _read(raw: Mapping[str, Any]) -> Agreed:
    floor, by, waiting = raw["floor"], raw["by"], raw["waiting"]
    if raw["v"] != _VERSION or by not in _BY:
        raise ValueError("of another version")
    found = None
    if waiting is not None:
        oid, version, shorter, since = waiting
        found = Waiting(str(oid), _number(version), _floor(shorter), _number(since))
    return Agreed(
        None if floor is None else _floor(floor), by, _number(raw["at"]), found, _number(raw["done"])
    )


def _number(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _MAX:
        raise ValueError(f"{value!r} is no number that was written here")
    return value


def _floor(value: Any) -> int:
    if not SHORTEST <= _number(value) <= FOREVER:
        raise ValueError(f"{value!r} is no floor")
    return int(value)
