"""How long to wait before the next attempt, and the loops around that."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    import random

    from ingestd.core.clock import Clock

T = TypeVar("T")


class Backoff(NamedTuple):
    """Exponential with full jitter: a random time up to ``base_s * 2**(attempt-1)``, at most ``cap_s``."""

    base_s: float = 0.5
    cap_s: float = 30.0

    def ceiling(self, attempt: int) -> float:
        """The longest that ``delay`` may be without a Retry-After, in seconds."""
        return min(self.cap_s, self.base_s * 2.0 ** min(max(attempt - 1, 0), 32))

    def delay(self, attempt: int, *, at_least_s: float | None = None, rng: "random.Random") -> float:
        """Seconds before attempt ``attempt + 1``. The API's Retry-After is a floor, not the answer:
        a little jitter on top keeps many batches from coming back in the same instant."""
        ceiling = self.ceiling(attempt)
        if at_least_s is None:
            return rng.uniform(ceiling / 10, ceiling)
        return at_least_s + rng.uniform(0, min(ceiling, 0.1 * at_least_s + 0.05))


async def retrying(
    attempt: Callable[[], Awaitable[T]],
    wait_s: Callable[[T, int], float | None],
    *,
    clock: "Clock",
    until: float = math.inf,
) -> tuple[T, int]:
    """(the last outcome, attempts). ``wait_s(outcome, attempts)``: the seconds before the next attempt, or
    None: there is none. Neither is there one that would begin after ``until`` (monotonic)."""
    attempts = 0
    while True:
        outcome = await attempt()
        attempts += 1
        pause_s = wait_s(outcome, attempts)
        if pause_s is None or clock.monotonic() + pause_s > until:
            return outcome, attempts
        await clock.sleep(pause_s)


async def polls(
    clock: "Clock",
    rng: "random.Random",
    *,
    within_s: float,
    first_s: float,
    longest_s: float,
    growth: float = 1.6,
) -> AsyncIterator[float]:
    """One turn for each question, until a change shows: gives the seconds that are left. Pauses grow from
    ``first_s`` to ``longest_s``, with jitter. The last question comes when the time is over."""
    end, pause_s = clock.monotonic() + within_s, first_s
    while True:
        yield max(0.0, end - clock.monotonic())
        left_s = end - clock.monotonic()
        if left_s <= 0:
            return
        await clock.sleep(min(left_s, rng.uniform(pause_s / 2, pause_s)))
        pause_s = min(pause_s * growth, longest_s)
