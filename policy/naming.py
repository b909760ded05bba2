"""The names of policies' snapshots: ``autosnap_YYYY-MM-DD_HH:MM:SS_KIND``, sanoid's form, in UTC.

So a history that sanoid made is adopted. A name of any other form is not ours and is never pruned.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import cast

from policy.rules import KINDS, Kind

# sanoid, run in local time, adds "dst" in the hour that comes twice.
_FORM = re.compile(
    r"autosnap_(\d{4})-(\d\d)-(\d\d)_(\d\d):(\d\d):(\d\d)(?:dst)?_(" + "|".join(KINDS) + ")", re.ASCII
)
# sanoid looks behind the last underscore that a word in -ly follows, and never whether that word is all there is.
_LOOSE = re.compile(r"(?=autosnap)(?=.*ly\Z).*_(\w*ly)", re.ASCII | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Autosnap:
    """What a name says. `at` is its time read as UTC; a snapshot's age is taken from ZFS, never from here."""

    kind: Kind
    at: int


def snapshot_name(kind: Kind, now: int) -> str:
    """The name (behind the @) of a snapshot of *kind* taken at *now*."""
    return f"{datetime.fromtimestamp(now, UTC):autosnap_%Y-%m-%d_%H:%M:%S}_{kind}"


def parse(name: str) -> Autosnap | None:
    """Read the part of a snapshot's name behind the @; None for one that no policy made."""
    match = _FORM.fullmatch(name)
    if match is None:
        return None
    *numbers, kind = match.groups()
    year, month, day, hour, minute, second = map(int, numbers)
    try:
        at = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return Autosnap(cast(Kind, kind), int(at.timestamp()))


@lru_cache(maxsize=131072)
def kind_of(name: str, loose: bool = False) -> Kind | None:
    """The kind that *name* says; None for one that is not ours.

    With *loose*, what sanoid takes for its own: whatever begins with "autosnap" and ends in a kind, like
    ``autosnap_x_hourly``, and even ``autosnap_x_hourly-early``.
    """
    if loose:
        found = _LOOSE.match(name)
        return cast(Kind, found[1]) if found and found[1] in KINDS else None
    parsed = parse(name)
    return parsed.kind if parsed else None
