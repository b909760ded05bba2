"""What is still to be passed on, and how often: the broadcast queue of SWIM."""

import math
from collections.abc import Iterable

from mesh.swim.wire import Update


def retransmit_limit(members: int, floor: int) -> int:
    """How often a rumour is passed on in a mesh of `members`, ourselves included.

    4·⌈log10(n+1)⌉ is memberlist's; the floor is needed since with 4 a tenth of the rumours dies out at n=8.
    """
    return max(floor, 4 * math.ceil(math.log10(members + 1)))


class Rumours:
    """At most one *alive* or *left* per node, or some *suspect* of it, each by another."""

    def __init__(self) -> None:
        self._queue: dict[tuple[str, str], tuple[Update, int, int]] = {}  # -> update, sent, order
        self._count = 0

    def __bool__(self) -> bool:
        return bool(self._queue)

    def add(self, update: Update) -> None:
        """Queues it in place of what it makes stale: all of that node, or the same voice on it."""
        if update.claim == "suspect":
            self._queue.pop((update.about, update.about), None)
            stale = [
                key
                for key, (other, _, _) in self._queue.items()
                if other.about == update.about and other.incarnation < update.incarnation
            ]
            for key in stale:
                del self._queue[key]
        else:
            self.forget(update.about)
        self._count += 1
        self._queue[update.about, update.by] = (update, 0, self._count)

    def forget(self, about: str) -> None:
        """Drops all rumours about a node."""
        for key in [key for key in self._queue if key[0] == about]:
            del self._queue[key]

    def take(self, count: int, limit: int, skip: Iterable[Update] = ()) -> list[Update]:
        """Up to `count` to send once: the least sent first, and of those the newest (old news starve)."""
        left_out = set(skip)
        ordered = sorted(
            (entry for entry in self._queue.values() if entry[0] not in left_out),
            key=lambda entry: (entry[1], -entry[2]),
        )
        taken = ordered[: max(0, count)]
        for update, sent, order in taken:
            key = (update.about, update.by)
            if sent + 1 >= limit:
                del self._queue[key]
            else:
                self._queue[key] = (update, sent + 1, order)
        return [update for update, _, _ in taken]
