"""How many requests at once, and whether at all, by what the API says. Pure; time is passed in."""


class Limiter:
    """Additive increase, multiplicative decrease between 1 and ``most`` requests at once.

    One 429 holds back its own batch and halves the limit. A second one in a row, for a request that
    was started after the first was seen, shows that the whole lane is too fast: nothing more is sent
    until the time the API named.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._refused_at = float("-inf")
        self._refused_before = False
        self.closed_until = float("-inf")

    @property
    def limit(self) -> int:
        return int(self._limit)

    def succeeded(self, active: int) -> None:
        """``active``: requests that were out, this one included; the limit grows only if it was reached."""
        self._refused_before = False
        if active >= self.limit:
            self._limit = min(float(self._most), self._limit + 1.0 / self._limit)

    def slow_down(self, *, started: float, now: float, wait_s: float, throttled: bool) -> None:
        """A request started at ``started`` was answered 429 (``throttled``) or 503."""
        if started < self._refused_at:
            return  # sent before the API had said so
        self._limit = max(1.0, self._limit / 2)
        if throttled and self._refused_before:
            self.closed_until = max(self.closed_until, now + wait_s)
        self._refused_before = throttled
        self._refused_at = now
