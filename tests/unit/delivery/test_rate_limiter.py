"""When the next request may go. Time is a number here."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.token_bucket import TokenBucket
from ingestd.delivery.rate_limiter import RateLimiter
from tests.each import each


def pace(**limits: float) -> RateLimiter:
    return RateLimiter(**({"requests_per_minute": 0, "events_per_second": 0.0, "now": 0.0} | limits))  # type: ignore[arg-type]


def send_all_one_may(
    paced: RateLimiter, *, until: float, events: int = 1, busy_s: float = 0.0
) -> list[float]:
    """Whenever the pace allows it, ``busy_s`` later at the earliest."""
    now, sent = 0.0, []
    while now <= until:
        paced.sent(now, events=events)
        sent.append(now)
        now = max(now + busy_s, paced.next_at)
        assert not math.isnan(now)
    return sent


@given(st.integers(1, 1000), st.floats(0, 5))
def test_no_minute_has_more_requests_than_allowed_and_a_long_time_nearly_as_many(
    rpm: int, busy_s: float
) -> None:
    sent = send_all_one_may(pace(requests_per_minute=rpm), until=200.0, busy_s=busy_s)
    most = max(sum(start <= at < start + 59.999 for at in sent) for start in sent[:: 1 + len(sent) // 50])
    assert most <= rpm
    if busy_s < 60 / rpm / 2:
        assert len(sent) >= rpm * 200 / 60 * 0.95


def test_a_small_burst_goes_at_once() -> None:
    sent = send_all_one_may(pace(requests_per_minute=300), until=1.0)
    assert sum(at == 0.0 for at in sent) == 6


def test_events_are_charged_whatever_the_size_of_their_batches() -> None:
    for events in (1, 7, 100, 950):
        sent = send_all_one_may(pace(events_per_second=100.0), until=60.0, events=events)
        assert events * len(sent) <= 100 * 61 + events


def test_a_bucket_does_not_fill_over_its_edge() -> None:
    bucket = TokenBucket(2.0, 4.0, now=0.0)
    for _ in range(4):
        bucket.take(1000.0)
    assert bucket.next_at == pytest.approx(1000.5)


def test_without_limits_and_headers_nothing_waits() -> None:
    paced = pace()
    for now in range(5):
        paced.sent(float(now), events=10_000)
        paced.answered(float(now), {"content-type": "x"})
    assert paced.next_at < 0


def told(paced: RateLimiter, now: float, remaining: int, reset: float, limit: int = 300) -> None:
    headers = {"ratelimit-remaining": f"{remaining}", "ratelimit-reset": f"{reset:.0f}"}
    paced.answered(now, headers | {"ratelimit-limit": f"{limit}"})


def test_where_nothing_remains_the_reset_is_waited_for_and_then_forgotten() -> None:
    paced = pace()
    told(paced, 10.0, 0, 30)
    assert paced.next_at == 40.0
    paced.sent(40.0, events=1)
    assert paced.next_at == 41.0, "the first one asks what is allowed now"
    paced.answered(40.1, {})
    paced.sent(41.0, events=1)
    assert paced.next_at < 41.0


def test_a_retry_after_is_worth_more_than_the_reset() -> None:
    paced = pace()
    paced.answered(0.0, {"ratelimit-remaining": "0", "ratelimit-reset": "600"}, after_s=5.0)
    assert paced.next_at == 5.0


def test_it_slows_down_as_little_remains_and_not_before() -> None:
    paced = pace()
    told(paced, 0.0, 200, 60)
    assert paced.next_at < 0.1
    told(paced, 0.0, 59, 60)
    assert paced.next_at == pytest.approx(1.0)


def test_an_answer_that_comes_late_does_not_give_back_what_is_gone() -> None:
    paced = pace()
    told(paced, 0.0, 1, 60)
    told(paced, 0.1, 120, 60)
    assert paced.next_at > 20


@each("limit", [5, 60, 300])
def test_an_api_that_counts_per_minute_is_never_run_into(limit: int) -> None:
    """A fixed window of 60 s, told in whole seconds; answers take 50 ms; other clients take a third of it."""
    paced, now, refused, taken = pace(), 3.0, 0, 0
    counted, window = limit // 3, 0
    answers: list[tuple[float, int, float]] = []
    while now < 600:
        if int(now // 60) != window:
            window, counted = int(now // 60), limit // 3
        counted += 1
        refused, taken = refused + (counted > limit), taken + (counted <= limit)
        paced.sent(now, events=1)
        answers.append((now + 0.05, max(0, limit - counted), math.ceil(60 - now % 60)))
        due = max(now + 0.01, paced.next_at)
        while answers and answers[0][0] <= due:
            at, remaining, reset = answers.pop(0)
            told(paced, at, remaining, reset, limit)
            due = max(now + 0.01, paced.next_at)
        now = due
    assert refused <= 3, "the first answers were not there yet"
    assert taken >= 0.85 * 10 * (limit - limit // 3)


def test_a_receiver_may_grant_less_than_is_set_but_never_more() -> None:
    for granted, spacing_s in ((60, 1.0), (6000, 0.5), (None, 0.5)):
        paced = pace(requests_per_minute=120)
        paced.allow(granted, 0.0)
        sent = 0
        now = 0.0
        while now <= 60.0:
            now = max(now, paced.next_at)
            paced.sent(now, events=1)
            sent += 1
        assert sent <= 60 / spacing_s + 3, (granted, sent)
        assert sent >= 60 / spacing_s - 4, (granted, sent)
    unlimited = pace()
    unlimited.allow(60, 0.0)
    unlimited.sent(0.0, events=1)
    assert unlimited.next_at > 0.5
    unlimited.allow(None, 1.0)
    assert unlimited.next_at <= 1.0
