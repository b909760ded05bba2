"""How many bytes may go now under a bandwidth limit: a token bucket. Pure; the caller has the clock."""

BURST_SECONDS = 0.25


class TokenBucket:
    """*rate* in bytes per second. Holds a quarter of a second's worth at most, or *least* if that is more."""

    def __init__(self, rate: int, now: float, *, least: int = 65536) -> None:
        if rate <= 0:
            raise ValueError("a bandwidth limit must be positive")
        self._rate = rate
        self._size = max(float(least), rate * BURST_SECONDS)
        self._least = least
        self._tokens = self._size
        self._filled = now

    def allowance(self, now: float) -> int:
        """Bytes that may go now; 0 until *least* have gathered, so that it does not dribble."""
        self._tokens = min(self._size, self._tokens + max(0.0, now - self._filled) * self._rate)
        self._filled = now
        return int(self._tokens) if self._tokens >= self._least else 0

    def spend(self, count: int) -> None:
        """*count* bytes have gone."""
        self._tokens -= count

    def delay(self) -> float:
        """Seconds from the last `allowance` until the next one is not 0."""
        return max(0.0, (self._least - self._tokens) / self._rate)
