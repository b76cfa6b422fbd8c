"""Whether a token that the API refuses is worth a new one. Pure; time is passed in."""

AGAIN_S = 300.0
"""So long after a new token that was refused as well, another one is tried."""


class TokenRenewal:
    """One new token for each that was good or is the first: refused again, it is not the token's age.

    ``worked`` hears of generations with which the API has answered anything else.
    """

    def __init__(self) -> None:
        self._renewed = self._worked = -1
        self._renewed_at = float("-inf")

    def worked(self, generation: int) -> None:
        if generation > self._worked:
            self._worked = generation

    def allows(self, generation: int, *, started: float, now: float) -> bool:
        """A request of ``started`` with that generation was refused. True: send it again with a new one."""
        if started < self._renewed_at:
            return True  # it was out when another one heard of it
        fresh_one_refused = self._renewed >= 0 and self._worked <= self._renewed
        if fresh_one_refused and now - self._renewed_at < AGAIN_S:
            return False
        self._renewed, self._renewed_at = generation, now
        return True
