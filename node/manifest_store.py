"""Manifests that other nodes had stored here: ciphertext that this node cannot read unless it is one of the readers.

A thief of a source's key could store rubbish over what is good: so of each of the last days that had one, the last
stays.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from mesh.identity import valid_node_id
from mesh.store import sync_directory, write_durably

MAX_SEALED = 256 * 1024
EARLIER = 5
DAY = 86400
_NAME = re.compile(r"(\d{1,12})\.sealed")


@dataclass(frozen=True, slots=True)
class Stored:
    """One of them. `received` in epoch seconds by this node's clock; `count` is how many there are."""

    data: bytes
    received: int
    count: int


class ManifestStore:
    """A directory for each owner below *root*. Raises OSError; then what was there is there."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, owner: str, data: bytes, now: int) -> None:
        """Keep *data* as the newest of *owner*; durable when this returns. At most MAX_SEALED bytes."""
        if len(data) > MAX_SEALED:
            raise ValueError(f"a manifest has at most {MAX_SEALED} bytes")
        place = self._place(owner)
        place.mkdir(parents=True, exist_ok=True, mode=0o700)
        known = self._received(owner)
        write_durably(place / f"{_next(now, known[0]) if known else now}.sealed", data)
        self._tidy(owner)

    def get(self, owner: str, back: int = 0) -> Stored | None:
        """The newest of *owner*, or the one so many before it; None where there is none."""
        known = self._received(owner)
        if not 0 <= back < len(known):
            return None
        data = (self._place(owner) / f"{known[back]}.sealed").read_bytes()
        return Stored(data, known[back], len(known))

    def _tidy(self, owner: str) -> None:
        known, place = self._received(owner), self._place(owner)
        for one in set(known) - kept(known):
            (place / f"{one}.sealed").unlink(missing_ok=True)
        sync_directory(place)

    def _received(self, owner: str) -> list[int]:
        """Newest first."""
        place = self._place(owner)
        names = [one.name for one in place.iterdir()] if place.is_dir() else []
        return sorted((int(found[1]) for name in names if (found := _NAME.fullmatch(name))), reverse=True)

    def _place(self, owner: str) -> Path:
        if not valid_node_id(owner):
            raise ValueError(f"{owner!r} is no node id")
        return self._root / owner


def _next(now: int, newest: int) -> int:
    """When what comes *now* counts as received. A clock that went back does not make it older than *newest*; and many
    in one second do not count on into days that have not come: they would drown what earlier days had.
    """
    if now > newest:
        return now
    return newest + 1 if (newest + 1) // DAY == newest // DAY else newest


def kept(received: Iterable[int]) -> set[int]:
    """The newest, and of the EARLIER days before its own that have any, the last one each (days of UTC)."""
    days: dict[int, int] = {}
    for one in sorted(received):
        days[one // DAY] = one
    return {days[day] for day in sorted(days, reverse=True)[: EARLIER + 1]}
