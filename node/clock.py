"""The scheduler's clock: when a tick is next, and noticing that somebody turned the clock or the host slept.

APScheduler's own interval trigger replays every minute that a jump skipped, one by one, and after a jump back it
waits for the old time to come again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from apscheduler.triggers.base import BaseTrigger

JUMP = 5.0
"""Seconds that wall clock and monotonic clock may drift apart between two looks; ntpd slews by far less."""

LOOK = 5.0
"""Seconds from one look to the next."""


class Every(BaseTrigger):  # type: ignore[misc]  # apscheduler 3 has no types
    """Fires at whole multiples of *seconds*: always the next one from now, never one that has passed."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds

    def get_next_fire_time(self, previous: datetime | None, now: datetime) -> datetime:
        """APScheduler's hook; *previous* does not matter."""
        return datetime.fromtimestamp((int(now.timestamp()) // self.seconds + 1) * self.seconds, UTC)


class ClockWatch:
    """Tells jumps of the wall clock against the monotonic one, which stands still while the host sleeps."""

    def __init__(
        self,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._pause = pause
        self._offset = wall() - monotonic()

    def jumped(self) -> float:
        """Seconds by which the wall clock has jumped since the last look; 0 for less than JUMP."""
        offset = self._wall() - self._monotonic()
        by, self._offset = offset - self._offset, offset
        return by if abs(by) > JUMP else 0.0

    async def run(self, on_jump: Callable[[float], None]) -> None:
        """Look until cancelled; *on_jump* gets the seconds."""
        while True:
            await self._pause(LOOK)
            by = self.jumped()
            if by:
                on_jump(by)
