"""What is still to be passed on, and how often: the broadcast queue of SWIM."""

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass

from mesh.swim.wire import Update


def retransmit_limit(members: int, floor: int) -> int:
    """How often a rumour is passed on in a mesh of `members`, ourselves included.

    4·⌈log10(n+1)⌉ is memberlist's; the floor is needed since with 4 a tenth of the rumours dies out at n=8.
    """
    return max(floor, 4 * math.ceil(math.log10(members + 1)))


class Rumours:
    """At most one *alive* or *left* per node, or some *suspect* of it, each by another."""

    def __init__(self) -> None:
        self._about: dict[str, dict[str, _Entry]] = {}  # by whom
        self._by_sent: dict[
            int, list[tuple[int, _Entry]]
        ] = {}  # heaps, newest first; what is dropped stays in
        self._count = 0

    def __bool__(self) -> bool:
        return bool(self._about)

    def add(self, update: Update) -> None:
        """Queues it in place of what it makes stale: all of that node, or the same voice on it."""
        voices = self._about.get(update.about, {})
        if update.claim == "suspect":
            stale = [
                by
                for by, entry in voices.items()
                if by in (update.about, update.by) or entry.update.incarnation < update.incarnation
            ]
        else:
            stale = list(voices)
        for by in stale:
            self._drop(voices[by])
        self._count += 1
        entry = _Entry(update, self._count)
        self._about.setdefault(update.about, {})[update.by] = entry
        self._queue(entry)

    def forget(self, about: str) -> None:
        """Drops all rumours about a node."""
        for entry in list(self._about.get(about, {}).values()):
            self._drop(entry)

    def take(self, count: int, limit: int, skip: Iterable[Update] = ()) -> list[Update]:
        """Up to `count` to send once: the least sent first, and of those the newest (old news starve)."""
        left_out = set(skip)
        passed: list[_Entry] = []
        taken: list[_Entry] = []
        for sent in sorted(self._by_sent):
            heap = self._by_sent[sent]
            while heap and len(taken) < count:
                entry = heapq.heappop(heap)[1]
                if entry.dropped:
                    continue
                (passed if entry.update in left_out else taken).append(entry)
            if not heap:
                del self._by_sent[sent]
        for entry in taken:
            entry.sent += 1
            if entry.sent >= limit:
                self._drop(entry)
            else:
                self._queue(entry)
        for entry in passed:
            self._queue(entry)
        return [entry.update for entry in taken]

    def _queue(self, entry: "_Entry") -> None:
        heapq.heappush(self._by_sent.setdefault(entry.sent, []), (-entry.order, entry))

    def _drop(self, entry: "_Entry") -> None:
        entry.dropped = True
        voices = self._about[entry.update.about]
        del voices[entry.update.by]
        if not voices:
            del self._about[entry.update.about]


@dataclass(slots=True)
class _Entry:
    """A rumour in the queue: how often it went out, and its place in the order of arrival."""

    update: Update
    order: int
    sent: int = 0
    dropped: bool = False
