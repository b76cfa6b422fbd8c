"""A token bucket: a rate with a small burst. Pure; time is passed in."""


class TokenBucket:
    """``rate_per_s`` tokens a second, at most ``burst``. It may be overdrawn: then it fills up first.

    ``tokens`` may be set: beside the rate some may come, and go back."""

    def __init__(self, rate_per_s: float, burst: float, now: float) -> None:
        self.tokens = self.burst = burst
        self._rate, self._at = rate_per_s, now

    def set_rate(self, rate_per_s: float, burst: float, now: float) -> None:
        """From now on; what is in it stays, as far as there is room."""
        self.fill(now)
        self._rate, self.burst = rate_per_s, burst
        self.tokens = min(self.tokens, burst)

    def fill(self, now: float) -> None:
        if self.tokens < self.burst:
            self.tokens = min(self.burst, self.tokens + max(0.0, now - self._at) * self._rate)
        self._at = now

    def take(self, now: float, cost: float = 1.0) -> None:
        self.fill(now)
        self.tokens -= cost

    def wait_s(self, now: float, need: float = 1.0) -> float:
        """Until there are as many tokens; 0 if there are."""
        self.fill(now)
        return max(0.0, need - self.tokens) / self._rate

    def reserve(self, now: float) -> float:
        """Take the next token; gives the seconds until it is there."""
        self.take(now)
        return self.wait_s(now, 0.0)

    @property
    def next_at(self) -> float:
        """When there is a whole token."""
        return self._at + max(0.0, 1.0 - self.tokens) / self._rate
