"""How an API is asked again until a change shows: pauses grow, and the last question comes at the end."""

import itertools

import pytest

from ingestd.core.backoff import polls
from tests.integration.control.world import World


@pytest.mark.anyio
async def test_the_last_question_comes_when_the_time_is_over_and_pauses_grow() -> None:
    world = World()
    context, times, left = world.context(), list[float](), list[float]()
    async for left_s in polls(context.clock, context.rng, within_s=30.0, first_s=0.5, longest_s=5.0):
        times.append(context.clock.monotonic())
        left.append(left_s)
    pauses = [after - before for before, after in itertools.pairwise(times)]
    assert times[-1] - times[0] == pytest.approx(30.0)
    assert (left[0], left[-1]) == (30.0, 0.0)
    assert 0.25 <= pauses[0] <= 0.5
    assert all(pause <= 5.0 for pause in pauses)
    assert max(pauses) > 2.0
