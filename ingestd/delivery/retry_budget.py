"""How much may be sent again: a sick API gets little more than usual. Pure; time is passed in."""

_MOST = 100.0
"""A long good time must not pay for a storm."""


class RetryBudget:
    """Every first request brings ``share`` of a repeat. So that little traffic, and the end of a replay,
    can repeat at all, there are ``floor`` to begin with, and while there are fewer ``per_s`` come with time.
    """

    def __init__(self, *, share: float, floor: int, per_s: float, now: float) -> None:
        self._share, self._floor, self._per_s = share, max(1.0, floor), per_s
        self._most = max(_MOST, self._floor)
        self._tokens, self._at = self._floor, now

    def first_sent(self) -> None:
        self._tokens = min(self._most, self._tokens + self._share)

    def repeat_sent(self, now: float) -> None:
        """Also one that was sent without asking: a probe, or at the end of the process."""
        self._fill(now)
        self._tokens = max(0.0, self._tokens - 1.0)

    def next_at(self, now: float) -> float:
        """When there is one, if only time brings it; ``now`` if there is."""
        self._fill(now)
        return now if self._tokens >= 1.0 else now + (1.0 - self._tokens) / self._per_s

    def _fill(self, now: float) -> None:
        if self._tokens < self._floor:
            self._tokens = min(self._floor, self._tokens + max(0.0, now - self._at) * self._per_s)
        self._at = now
