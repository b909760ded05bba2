"""Timers as values: named by a tuple, set again or cancelled at will, due in the order of their times."""

import heapq
from collections.abc import Iterator

Name = tuple[str, ...]


class Timers:
    """A heap with lazy deletion: setting a name again moves its timer."""

    def __init__(self) -> None:
        self._at: dict[Name, float] = {}
        self._heap: list[tuple[float, int, Name]] = []
        self._count = 0

    def set(self, name: Name, at: float) -> None:
        """Sets or moves a timer."""
        self._at[name] = at
        self._count += 1
        heapq.heappush(self._heap, (at, self._count, name))

    def cancel(self, name: Name) -> None:
        """Forgets a timer; none of that name is no error."""
        self._at.pop(name, None)

    def get(self, name: Name) -> float | None:
        """When it is due, or None."""
        return self._at.get(name)

    def next(self) -> float | None:
        """When the first one is due."""
        while self._heap and self._at.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def due(self, now: float) -> Iterator[Name]:
        """Takes out what is due, oldest first; timers set meanwhile count if they are due too."""
        while (at := self.next()) is not None and at <= now:
            name = heapq.heappop(self._heap)[2]
            del self._at[name]
            yield name
