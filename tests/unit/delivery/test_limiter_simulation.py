"""The number of requests at once finds the knee of an API, and finds it again when that moves."""

import pytest

from ingestd.delivery.concurrency_limiter import ConcurrencyLimiter
from tests.each import each
from tests.unit.delivery.limiter_simulation import SERVICE_S, Simulation

ROUND_TRIPS = 50 * SERVICE_S


def assert_at_the_knee(simulation: Simulation, capacity: int) -> None:
    seen = simulation.run(20 * SERVICE_S)
    assert 0.7 * capacity <= seen.limit <= 1.3 * capacity, f"{seen.limit:.1f} at once, the knee is {capacity}"
    assert seen.rate >= 0.9 * capacity / SERVICE_S, (
        f"{seen.rate:.0f} of {capacity / SERVICE_S:.0f} in a second"
    )


@each("queue", [1000, 12], ids=["waits", "429"])
def test_the_knee_is_found_within_50_round_trips_and_found_again_when_it_moves(queue: int) -> None:
    simulation = Simulation(ConcurrencyLimiter(200), capacity=20, queue=queue)
    for capacity in (20, 12, 40, 15, 60):
        simulation.capacity = capacity
        simulation.run(ROUND_TRIPS)
        assert_at_the_knee(simulation, capacity)


def test_it_is_found_although_bodies_differ_a_thousandfold() -> None:
    simulation = Simulation(ConcurrencyLimiter(200), capacity=20, sizes=(1_000, 50_000, 400_000, 800_000))
    simulation.run(ROUND_TRIPS)
    assert 14 <= simulation.run(20 * SERVICE_S).limit <= 30


def test_it_does_not_creep_up_in_a_long_time() -> None:
    simulation = Simulation(ConcurrencyLimiter(200), capacity=20)
    simulation.run(1000 * SERVICE_S)
    assert_at_the_knee(simulation, 20)


def test_the_beginning_is_warm() -> None:
    simulation = Simulation(ConcurrencyLimiter(200), capacity=64)
    assert simulation.run(10 * SERVICE_S).rate >= 0.6 * 64 / SERVICE_S, "from 1, one more each time: 0.08"


def test_an_api_that_has_become_slower_by_itself_is_not_deserted() -> None:
    """Less at once would not make it faster."""
    simulation = Simulation(ConcurrencyLimiter(40), capacity=60)
    simulation.run(ROUND_TRIPS)
    simulation.slowness = 2.0
    simulation.run(ROUND_TRIPS)
    assert simulation.run(20 * SERVICE_S).limit >= 36


def test_with_five_slots_all_five_are_used_from_the_first_to_the_last() -> None:
    simulation = Simulation(ConcurrencyLimiter(5), capacity=20, jitter=0.9)
    assert simulation.run(100 * SERVICE_S).limit == pytest.approx(5.0)
    simulation.capacity = 3
    assert simulation.run(100 * SERVICE_S).limit == pytest.approx(5.0), "so few are a burden to nobody"


def test_a_lone_slow_answer_changes_nothing() -> None:
    limiter = ConcurrencyLimiter(32)
    for number in range(400):
        now = number / 100
        limiter.succeeded(limiter.limit, started=now - 0.1, now=now, seconds=0.1, size=1000)
    assert limiter.limit == 32
    limiter.succeeded(32, started=now - 60, now=now, seconds=60.0, size=1000)
    limiter.failed(started=now - 30, now=now, seconds=30.0, size=1000)
    for number in range(400, 600):
        now = number / 100
        limiter.succeeded(32, started=now - 0.1, now=now, seconds=0.1, size=1000)
        assert limiter.limit == 32


def test_slowness_that_others_cause_is_no_reason_to_shrink() -> None:
    """One at a time, of 32 that may be out."""
    limiter = ConcurrencyLimiter(32)
    for number in range(300):
        now = number / 100
        limiter.succeeded(limiter.limit, started=now - 0.1, now=now, seconds=0.1, size=1000)
    for _ in range(100):
        limiter.succeeded(1, started=now, now=now + 2, seconds=2.0, size=1000)
        now += 2
    assert limiter.limit == 32


def test_timeouts_are_a_sign_of_load() -> None:
    limiter = ConcurrencyLimiter(32)
    for number in range(300):
        now = number / 100
        limiter.succeeded(limiter.limit, started=now - 0.1, now=now, seconds=0.1, size=1000)
    for _ in range(60):
        now += 1
        limiter.succeeded(limiter.limit, started=now - 0.1, now=now, seconds=0.1, size=1000)
        limiter.failed(started=now - 0.9, now=now, seconds=5.0, size=1000)
        limiter.failed(started=now - 0.9, now=now, seconds=5.0, size=1000)
    assert limiter.limit < 32
