"""The last hour in memory."""

from hypothesis import given
from hypothesis import strategies as st

from ingestd.telemetry.history import MAX_SERIES, SAMPLES, STEP_S, History, quantile

INF = float("inf")


def filled(values: list[float]) -> History:
    history = History()
    for number, value in enumerate(values):
        history.add(100 + number * STEP_S, 1000 + number * STEP_S, {"seen": value})
    return history


def test_rates_are_differences_over_the_time_that_was_asked_for() -> None:
    history = filled([0, 50, 100, 400])
    assert history.rate("seen", 5) == 60
    assert history.rate("seen", 10) == 35
    assert history.rate("seen", 3600) == 400 / 15
    assert history.rates("seen") == [0, 10, 10, 60]
    assert history.times() == [1000, 1005, 1010, 1015]


def test_a_counter_that_begins_again_is_no_negative_rate() -> None:
    history = filled([100, 0])
    assert history.rate("seen", 10) == 0
    assert history.rates("seen") == [0, 0]
    assert history.slope("seen", 10) == -20


def test_nothing_is_known_before_the_second_sample_nor_of_other_names() -> None:
    assert History().rate("seen", 10) == 0
    assert filled([5]).rate("seen", 10) == 0
    assert filled([5, 6]).rate("another", 10) == 0


def test_a_series_that_comes_later_counts_from_nothing() -> None:
    history = filled([1, 2])
    history.add(110, 1010, {"seen": 3, "new": 10})
    assert history.values("new") == [0, 0, 10]


def test_it_is_due_every_few_seconds_and_keeps_an_hour_of_so_many_series() -> None:
    history = History()
    assert history.due(0)
    for number in range(SAMPLES + 50):
        history.add(number * STEP_S, number * STEP_S, {f"s{number % (MAX_SERIES + 20)}": 1.0})
    assert not history.due((SAMPLES + 49) * STEP_S + 1)
    assert history.due((SAMPLES + 49) * STEP_S + STEP_S)
    assert len(history.times()) == SAMPLES
    assert history.values(f"s{MAX_SERIES + 10}") == [0.0] * SAMPLES


def test_a_quantile_is_linear_within_its_bucket() -> None:
    assert quantile(0.5, (1, 2, INF), (0, 10, 10)) == 1.5
    assert quantile(0.99, (1, 2, INF), (0, 0, 10)) == 2
    assert quantile(0.5, (1, INF), (0, 0)) is None


@given(st.lists(st.integers(0, 50), min_size=3, max_size=3), st.floats(0.01, 0.99))
def test_a_quantile_lies_within_the_bounds(rises: list[int], share: float) -> None:
    counts = [sum(rises[: index + 1]) for index in range(3)]
    found = quantile(share, (0.1, 1.0, INF), counts)
    assert (found is None) == (counts[-1] == 0)
    assert found is None or 0 <= found <= 1.0
