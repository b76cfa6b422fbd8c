"""No batch has events of two sources, whatever order chunks come in, and none is forgotten."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.chunk import Batch, Chunk
from ingestd.delivery.queues import Batcher
from ingestd.delivery.source_batchers import SourceBatchers
from tests.ids import new_id

CHUNKS = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 9)), max_size=40)


def batchers(max_open: int = 64) -> SourceBatchers:
    one = Batcher(max_bytes=1000, max_events=7, max_age_s=5.0, overhead_bytes=2, new_id=new_id)
    return SourceBatchers(one, max_open)


def fill(made: SourceBatchers, chunks: Sequence[tuple[int, int]]) -> list[Batch]:
    """Chunks (source, events), a second apart."""
    found: list[Batch] = []
    for number, (source, count) in enumerate(chunks):
        events = [b"%d-%d-%d" % (source, number, at) for at in range(count)]
        chunk = Chunk(events, source=source, start=number, end=number + 1)
        found += made.add(chunk, events, [None] * count, range(count), float(number))
        assert made.deadline is None or made.deadline > number - 64
    return found


@given(CHUNKS, st.integers(1, 4))
def test_a_batch_has_events_of_one_source_in_their_order(
    chunks: list[tuple[int, int]], max_open: int
) -> None:
    made = batchers(max_open)
    found = fill(made, chunks)
    assert len(made) <= 6 * max_open
    while made.deadline is not None:
        found.append(made.flush())
    assert len(made) == 0
    of: dict[int, list[bytes]] = {}
    for batch in found:
        (source,) = {segment.chunk.source for segment in batch.segments}
        assert 0 < len(batch) <= 7
        of.setdefault(source, []).extend(batch.events)
    expected: dict[int, list[bytes]] = {}
    for number, (source, count) in enumerate(chunks):
        expected.setdefault(source, []).extend(b"%d-%d-%d" % (source, number, at) for at in range(count))
    assert of == expected


def test_the_oldest_goes_first_and_what_was_learned_holds_for_all() -> None:
    made = batchers()
    assert made.deadline is None
    assert fill(made, [(1, 2), (2, 2), (3, 2)]) == []
    assert made.deadline == 5.0
    assert made.flush().segments[0].chunk.source == 1
    assert made.deadline == 6.0


def test_a_limit_that_was_learned_holds_for_those_that_are_open_and_those_to_come() -> None:
    first = Batcher(max_bytes=1000, max_events=100, max_age_s=5.0, overhead_bytes=2, new_id=new_id)
    made = SourceBatchers(first)
    fill(made, [(1, 1)])
    first.learn(12)
    assert made.max_event_bytes == 10
    assert [len(one) for one in fill(made, [(1, 3), (2, 3)])]
    assert all(len(b",".join(one.events)) <= 10 for one in fill(made, [(1, 4), (4, 4)]))
