"""When somebody is told that no event has the key that was asked for."""

from hypothesis import given
from hypothesis import strategies as st

from ingestd.schemas.key_paths import KeyWatch

CHUNKS = st.lists(st.tuples(st.integers(0, 500), st.floats(0, 1)), max_size=30)


def dedup() -> KeyWatch:
    return KeyWatch("schema.dedup_key", "orderID")


def test_no_event_with_the_key_is_told_with_the_number_and_the_path() -> None:
    watch = dedup()
    assert watch.warning == watch.news() == ""
    watch.count(4_000, 4_000)
    watch.count(1_000, 1_000)
    assert watch.warning == (
        "no event of 5,000 had the dedup key `orderID`: nothing was deduplicated (schema.dedup_key)"
    )
    assert watch.describe() == {
        "setting": "schema.dedup_key",
        "paths": "orderID",
        "events": 5_000,
        "without_key": 5_000,
        "warning": watch.warning,
    }
    order = KeyWatch("sinks.crm.order_by", "$.k")
    order.count(150, 150)
    assert order.warning == (
        "no event of 150 had the order key `$.k`: nothing was kept in order (sinks.crm.order_by)"
    )


def test_one_event_with_the_key_is_enough_and_a_long_row_without_it_is_told_again() -> None:
    watch = dedup()
    watch.count(5_000, 4_999)
    assert (watch.warning, watch.describe()["without_key"]) == ("", 4_999)
    for _ in range(9):
        watch.count(100, 100)
    assert watch.warning == ""
    watch.count(100, 100)
    assert watch.warning == (
        "none of the last 1,000 events had the dedup key `orderID`: none was deduplicated (schema.dedup_key)"
    )


def test_news_come_once_and_again_for_ten_times_as_many() -> None:
    watch = dedup()
    told = []
    for _ in range(2_000):
        watch.count(1, 1)
        if news := watch.news():
            told.append(news.split(" had ")[0])
    assert told == ["no event of 1", "no event of 10", "no event of 100", "no event of 1,000"]
    watch.count(1, 0)
    assert watch.news() == ""
    watch.count(999, 999)
    assert watch.news() == ""
    watch.count(1, 1)
    assert watch.news().startswith("none of the last 1,000 events had ")


@given(CHUNKS)
def test_a_warning_stands_as_long_as_it_is_true(chunks: list[tuple[int, float]]) -> None:
    watch, keyed = dedup(), list[bool]()
    for events, share in chunks:
        without = round(events * share)
        watch.count(events, without)
        keyed += [False] * without + [True] * (events - without)
    assert (watch.events, watch.without) == (len(keyed), keyed.count(False))
    if watch.warning.startswith("no event"):
        assert not any(keyed)
    elif watch.warning:
        assert not any(keyed[-watch.in_a_row :])
    else:
        assert not keyed or any(keyed)
