from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.chunk import Batch, Chunk
from ingestd.delivery.queues import Batcher
from ingestd.sinks.ingest_api import IngestApi
from tests.each import each
from tests.ids import new_id

API = IngestApi("http://localhost")


def batcher(max_bytes: int = 100, max_events: int = 1000, max_age_s: float = 1.0) -> Batcher:
    return Batcher(
        max_bytes=max_bytes,
        max_events=max_events,
        max_age_s=max_age_s,
        overhead_bytes=API.overhead_bytes,
        sep_bytes=API.separator_bytes,
        new_id=new_id,
    )


def add(batcher: Batcher, events: Sequence[bytes], now: float = 0.0) -> list[Batch]:
    """The events as every second one of a chunk: the others are gone, as duplicates are."""
    chunk = Chunk([twin for event in events for twin in (b"gone", event)], source=1, start=0, end=1)
    positions = range(1, 2 * len(events), 2) if len(events) % 2 else list(range(1, 2 * len(events), 2))
    return list(batcher.add(chunk, list(events), [b"key of " + e for e in events], list(positions), now))


def all_of(batcher: Batcher, chunks: Sequence[Sequence[bytes]]) -> tuple[list[Batch], Batch]:
    full = [batch for chunk in chunks for batch in add(batcher, chunk)]
    return full, batcher.flush()


ROOM = 100 - API.overhead_bytes  # for one event, under the smallest limit used here
an_event = st.tuples(st.integers(0, ROOM), st.sampled_from(b"abc")).map(
    lambda drawn: bytes([drawn[1]]) * drawn[0]
)
some_chunks = st.lists(st.lists(an_event, max_size=30), max_size=6)


@given(some_chunks, st.integers(100, 400), st.integers(1, 40))
def test_batches_hold_all_events_in_order_each_within_the_limits(
    chunks: list[list[bytes]], max_bytes: int, max_events: int
) -> None:
    full, rest = all_of(batcher(max_bytes, max_events), chunks)
    batches = [*full, rest]
    assert [e for batch in batches for e in batch.events] == [e for chunk in chunks for e in chunk]
    for batch in batches:
        assert len(API.encode(batch.events)) <= max_bytes
        assert len(batch) <= max_events
        assert batch.digests == [b"key of " + event for event in batch.events]
        assert [s.chunk.events[p] for s in batch.segments for p in s.positions] == batch.events


@given(some_chunks, st.integers(100, 400), st.integers(1, 40))
def test_no_batch_is_closed_while_the_next_event_would_have_fit(
    chunks: list[list[bytes]], max_bytes: int, max_events: int
) -> None:
    full, rest = all_of(batcher(max_bytes, max_events), chunks)
    for batch, following in pairwise([*full, rest]):
        if len(batch) < max_events:
            assert following.events, "closed although nothing came after it"
            assert len(API.encode([*batch.events, following.events[0]])) > max_bytes


def test_a_body_of_exactly_the_limit_is_full_and_one_byte_more_is_not_taken() -> None:
    events = [b"a" * 40, b"b" * (100 - API.overhead_bytes - 40 - API.separator_bytes)]
    assert len(API.encode(events)) == 100
    exact = batcher(100)
    assert add(exact, events) == []
    assert exact.flush().events == events
    (first,) = add(batcher(99), events)
    assert first.events == events[:1]


@given(st.integers(100, 300), st.integers(0, 300))
def test_the_longest_event_is_told_to_the_byte(max_bytes: int, size: int) -> None:
    fits = len(API.encode([b"e" * size])) <= max_bytes
    assert (size <= batcher(max_bytes).max_event_bytes) == fits


def test_an_event_that_a_learned_limit_has_no_room_for_goes_alone() -> None:
    small = batcher(200)
    small.learn(60)
    batches = add(small, [b"a" * 10, b"b" * 150, b"c" * 10])
    assert [batch.events for batch in batches] == [[b"a" * 10], [b"b" * 150]]
    assert small.flush().events == [b"c" * 10]


def test_a_learned_limit_closes_an_open_batch_that_is_already_over_it() -> None:
    open_one = batcher(200)
    add(open_one, [b"a" * 100])
    open_one.learn(80)
    assert [batch.events for batch in add(open_one, [b"b"])] == [[b"a" * 100]]


@given(st.lists(st.integers(0, 1000), max_size=5))
def test_learning_only_ever_shrinks_the_limit(learned: list[int]) -> None:
    small = batcher(500)
    before = small.max_event_bytes
    for max_bytes in learned:
        small.learn(max_bytes)
        assert 1 <= small.max_event_bytes <= before
        assert small.max_event_bytes <= max(1, max_bytes - API.overhead_bytes)
        before = small.max_event_bytes


def test_a_batch_is_due_an_age_after_its_first_event() -> None:
    waiting = batcher(max_age_s=5.0)
    assert waiting.deadline is None
    add(waiting, [b"a"], now=10.0)
    add(waiting, [b"b"], now=12.0)
    assert waiting.deadline == 15.0
    assert waiting.flush().events == [b"a", b"b"]
    assert waiting.deadline is None
    assert len(waiting) == 0


def test_the_rest_of_a_chunk_that_filled_a_batch_is_as_old_as_that_chunk() -> None:
    waiting = batcher(max_bytes=100, max_age_s=5.0)
    add(waiting, [b"a" * 50], now=10.0)
    (full,) = add(waiting, [b"b" * 50], now=13.0)
    assert full.events == [b"a" * 50]
    assert waiting.deadline == 18.0


def test_segments_of_whole_chunks_stay_ranges() -> None:
    chunk = Chunk([b"a", b"b", b"c"], source=1, start=0, end=9)
    whole, cut = batcher(), batcher(max_events=2)
    assert list(whole.add(chunk, chunk.events, [None] * 3, range(3), 0.0)) == []
    assert whole.flush().segments == [(chunk, range(3))]
    (first,) = cut.add(chunk, chunk.events, [None] * 3, range(3), 0.0)
    assert first.segments == [(chunk, range(2))]
    assert cut.flush().segments == [(chunk, range(2, 3))]


@each("count", [1, 2, 7])
def test_a_batch_full_by_count_goes_at_once(count: int) -> None:
    batches = add(batcher(10_000, max_events=count), [b"x"] * count)
    assert [len(batch) for batch in batches] == [count]
