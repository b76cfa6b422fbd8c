"""A token bucket: a rate with a small burst. Pure; time is passed in."""


class TokenBucket:
    """``rate_per_s`` tokens a second, at most ``burst``. It may be overdrawn: then it fills up first."""

    def __init__(self, rate_per_s: float, burst: float, now: float) -> None:
        self._rate, self._burst = rate_per_s, burst
        self._tokens, self._at = burst, now

    def take(self, now: float, cost: float = 1.0) -> None:
        self._tokens = min(self._burst, self._tokens + max(0.0, now - self._at) * self._rate) - cost
        self._at = now

    @property
    def next_at(self) -> float:
        """When there is a whole token."""
        return self._at + max(0.0, 1.0 - self._tokens) / self._rate
