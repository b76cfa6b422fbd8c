"""How many requests go out at once."""

from hypothesis import given
from hypothesis import strategies as st

from ingestd.delivery.concurrency_limiter import ConcurrencyLimiter

calls = st.lists(
    st.one_of(
        st.tuples(st.just("ok"), st.integers(0, 20)),
        st.tuples(st.sampled_from(["429", "503"]), st.integers(0, 900)),
    ),
    max_size=200,
)


def told_to_slow_down(
    limiter: ConcurrencyLimiter, at: float, *, wait_s: float = 5.0, throttled: bool = True
) -> None:
    """A request that is started and answered at ``at``."""
    limiter.slow_down(started=at, now=at, wait_s=wait_s, throttled=throttled)


@given(st.integers(1, 16), calls)
def test_the_limit_is_never_below_one_or_above_most(most: int, history: list[tuple[str, int]]) -> None:
    limiter = ConcurrencyLimiter(most)
    for now, (what, number) in enumerate(history):
        if what == "ok":
            limiter.succeeded(number)
        else:
            told_to_slow_down(limiter, now, wait_s=number, throttled=what == "429")
        assert 1 <= limiter.limit <= most


def test_one_429_holds_back_only_its_own_batch() -> None:
    limiter = ConcurrencyLimiter(8)
    told_to_slow_down(limiter, 1.0)
    assert limiter.closed_until < 1.0
    assert limiter.limit == 4


def test_a_second_429_in_a_row_closes_the_lane_until_the_time_that_was_named() -> None:
    limiter = ConcurrencyLimiter(8)
    told_to_slow_down(limiter, 1.0)
    told_to_slow_down(limiter, 2.0, wait_s=5.0)
    assert limiter.closed_until == 7.0
    told_to_slow_down(limiter, 3.0, wait_s=1.0)
    assert limiter.closed_until == 7.0, "a shorter time takes nothing back"
    assert limiter.limit == 1


def test_a_success_between_two_429s_keeps_the_lane_open() -> None:
    limiter = ConcurrencyLimiter(8)
    told_to_slow_down(limiter, 1.0)
    limiter.succeeded(1)
    told_to_slow_down(limiter, 2.0)
    assert limiter.closed_until < 1.0


def test_requests_that_were_out_at_the_first_429_count_as_the_same_word() -> None:
    limiter = ConcurrencyLimiter(8)
    limiter.slow_down(started=1.0, now=2.0, wait_s=5.0, throttled=True)
    for _ in range(7):
        limiter.slow_down(started=1.0, now=2.1, wait_s=5.0, throttled=True)
    assert limiter.limit == 4
    assert limiter.closed_until < 2.0


def test_a_503_lowers_the_limit_but_does_not_close_the_lane() -> None:
    limiter = ConcurrencyLimiter(8)
    for at in (1.0, 2.0, 3.0):
        told_to_slow_down(limiter, at, throttled=False)
    assert limiter.limit == 1
    assert limiter.closed_until < 1.0


def test_the_limit_grows_only_when_it_was_reached() -> None:
    limiter = ConcurrencyLimiter(8)
    told_to_slow_down(limiter, 1.0)
    for _ in range(100):
        limiter.succeeded(limiter.limit - 1)
    assert limiter.limit == 4
    for _ in range(5):
        limiter.succeeded(limiter.limit)
    assert limiter.limit == 5, "by about one for each round of requests"
    for _ in range(100):
        limiter.succeeded(limiter.limit)
    assert limiter.limit == 8
