"""How long the lane waits between attempts."""

import random

from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.backoff import Backoff

seconds = st.floats(0.001, 1000)


@given(st.integers(-5, 10**6), seconds, seconds, st.integers())
def test_every_wait_is_above_zero_and_at_most_the_cap(
    attempt: int, base_s: float, cap_s: float, seed: int
) -> None:
    wait = Backoff(base_s=base_s, cap_s=cap_s).delay(attempt, rng=random.Random(seed))
    assert 0 < wait <= cap_s
    assert wait <= base_s * 2.0 ** min(max(attempt - 1, 0), 64)


@given(st.integers(1, 40), st.floats(0, 900), st.integers())
def test_retry_after_is_a_floor_and_not_far_above(attempt: int, floor_s: float, seed: int) -> None:
    backoff = Backoff(base_s=0.5, cap_s=30.0)
    wait = backoff.delay(attempt, at_least_s=floor_s, rng=random.Random(seed))
    assert floor_s <= wait <= floor_s * 1.1 + 0.05


def test_waits_spread_over_the_whole_range_and_double_with_each_attempt() -> None:
    backoff, rng = Backoff(base_s=1.0, cap_s=30.0), random.Random(7)
    for attempt, ceiling in [(1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (6, 30.0), (50, 30.0)]:
        waits = [backoff.delay(attempt, rng=rng) for _ in range(2000)]
        assert ceiling * 0.95 < max(waits) <= ceiling
        assert min(waits) < ceiling * 0.15


def test_many_batches_that_were_told_the_same_time_do_not_come_back_in_one_instant() -> None:
    backoff, rng = Backoff(base_s=1.0, cap_s=30.0), random.Random(7)
    waits = [backoff.delay(1, at_least_s=2.0, rng=rng) for _ in range(100)]
    assert max(waits) - min(waits) > 0.15
