"""Asking an API again until a change shows."""

from collections.abc import AsyncIterator

from ingestd.control.engine.resource import Context


async def polls(
    context: Context, *, within_s: float, first_s: float, longest_s: float, growth: float = 1.6
) -> AsyncIterator[float]:
    """One turn for each question: gives the seconds that are left. Between them it sleeps longer and longer,
    ``first_s`` to ``longest_s``, and never as long as others do. The last one comes when the time is over.
    """
    end, wait_s = context.clock.monotonic() + within_s, first_s
    while True:
        yield max(0.0, end - context.clock.monotonic())
        left_s = end - context.clock.monotonic()
        if left_s <= 0:
            return
        await context.clock.sleep(min(left_s, context.rng.uniform(wait_s / 2, wait_s)))
        wait_s = min(wait_s * growth, longest_s)
