"""How long to wait before the next attempt. Pure."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential with full jitter: a random time up to ``base_s * 2**(attempt-1)``, at most ``cap_s``."""

    base_s: float = 0.5
    cap_s: float = 30.0

    def delay(self, attempt: int, *, at_least_s: float | None = None, rng: random.Random) -> float:
        """Seconds before attempt ``attempt + 1``. The API's Retry-After is a floor, not the answer:
        a little jitter on top keeps many batches from coming back in the same instant."""
        ceiling = min(self.cap_s, self.base_s * 2.0 ** min(max(attempt - 1, 0), 32))
        if at_least_s is None:
            return rng.uniform(ceiling / 10, ceiling)
        return at_least_s + rng.uniform(0, min(ceiling, 0.1 * at_least_s + 0.05))
