"""Points in time as people write them: a date, a date with a time of day, or how long ago."""

from datetime import datetime

from node.quantities import parse_duration


def moment(text: str, now: float) -> int:
    """Epoch seconds of ``"2026-11-20 14:00"`` or ``"2026-11-20"`` (local time; a date is its first moment), or of
    ``"3d"`` before *now*. Raises ValueError saying what is wanted.
    """
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        pass
    try:
        return int(now) - parse_duration(text)
    except ValueError:
        raise ValueError(
            f'{text!r} is no time; write it like "2026-11-20 14:00", "2026-11-20" or "3d"'
        ) from None
