"""The hours in which a first full send may run. Pure: `now` in seconds since the epoch."""

import re
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

_FORM = re.compile(r"([01]\d|2[0-3]):([0-5]\d)\s*-\s*([01]\d|2[0-3]):([0-5]\d)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Window:
    """From *start* to *end*, minutes of the day by the clocks of *timezone*; over midnight if it ends first."""

    start: int
    end: int
    timezone: str = "UTC"

    @classmethod
    def parse(cls, text: str, timezone: str = "UTC") -> "Window":
        """Read ``"01:00-06:00"``. Raises ValueError saying what is wanted."""
        match = _FORM.fullmatch(text.strip())
        if match is None:
            raise ValueError(f'"{text}" is no window; write it like "01:00-06:00"')
        hours = [int(part) for part in match.groups()]
        start, end = hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]
        if start == end:
            raise ValueError(f'"{text}" begins when it ends; leave it out if any time will do')
        return cls(start, end, timezone)

    def is_open(self, now: int) -> bool:
        """Whether a stream may run at *now*."""
        local = datetime.fromtimestamp(now, ZoneInfo(self.timezone))
        minute = local.hour * 60 + local.minute
        if self.start < self.end:
            return self.start <= minute < self.end
        return minute >= self.start or minute < self.end

    def changes(self, now: int) -> int:
        """The seconds from *now* until it opens, or closes if it is open; at least one.

        Minute by minute through real time, so that a night with a change of clocks is no special case.
        """
        state = self.is_open(now)
        minute = now - now % 60
        for _ in range(2 * 24 * 60):
            minute += 60
            if self.is_open(minute) is not state:
                return minute - now
        return 24 * 3600  # hours that this day does not have

    def __str__(self) -> str:
        return "-".join(f"{minute // 60:02}:{minute % 60:02}" for minute in (self.start, self.end))
