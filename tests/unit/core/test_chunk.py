import random
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.chunk import Batch, Chunk, Segment, batch_ids, pick_segments
from ingestd.core.receipt import Positions, Receipt
from ingestd.store.frozen_batches import pack_positions, unpack_positions
from tests.each import each
from tests.ids import new_id

ascending = st.sets(st.integers(0, 2**32 - 1), max_size=50).map(sorted)
ranges = st.tuples(st.integers(0, 2**31), st.integers(0, 1000)).map(lambda r: range(r[0], r[0] + r[1]))


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    """Batches of events from several chunks; every event says where it came from."""
    segments, events = [], []
    for number in range(draw(st.integers(1, 5))):
        chunk = Chunk([b"%d.%d" % (number, i) for i in range(20)], source=1, start=number, end=number + 1)
        first = draw(st.integers(0, 19))
        some = st.sets(st.integers(0, 19), min_size=1).map(sorted)
        positions: Positions = draw(st.one_of(some, st.just(range(first, 20))))
        segments.append(Segment(chunk, positions))
        events += [chunk.events[position] for position in positions]
    digests = [b"digest of " + event for event in events]
    return Batch(events, [*digests], segments, new_id=new_id)


def named_by(segments: list[Segment]) -> list[bytes]:
    return [segment.chunk.events[position] for segment in segments for position in segment.positions]


@given(st.one_of(ascending, ranges))
def test_positions_come_back_from_the_store_as_they_were(positions: Positions) -> None:
    assert list(unpack_positions(pack_positions(positions))) == list(positions)


def test_a_range_costs_nine_bytes_and_a_slice_of_it_too() -> None:
    assert len(pack_positions(range(3, 5000))) == 9
    assert unpack_positions(pack_positions(range(3, 5000)[10:20])) == range(13, 23)


@given(st.data(), batches())
def test_picked_segments_name_exactly_the_events_at_the_indices(data: st.DataObject, batch: Batch) -> None:
    indices = sorted(data.draw(st.sets(st.integers(0, len(batch) - 1))))
    assert named_by(list(pick_segments(batch.segments, indices))) == [batch.events[i] for i in indices]


@given(st.data(), batches())
def test_parts_hold_every_event_of_their_batch_once_with_its_key_and_origin(
    data: st.DataObject, batch: Batch
) -> None:
    batch.attempts, batch.first_sent, batch.first_sent_wall, batch.last_answer = 3, 5.0, 7.0, "413"
    chosen = data.draw(st.sets(st.integers(0, len(batch) - 1)))
    sides = sorted(chosen), [i for i in range(len(batch)) if i not in chosen]
    parts = [batch.part(indices) for indices in sides]
    for part, indices in zip(parts, sides, strict=True):
        assert part.events == [batch.events[i] for i in indices] == named_by(part.segments)
        assert part.digests == [batch.digests[i] for i in indices]
        assert (part.tries, part.first_sent, part.first_sent_wall, part.last_answer) == (
            3,
            5.0,
            7.0,
            "413",
        )
        assert (part.attempts, part.body) == (0, b"")
    assert len({batch.id, *(part.id for part in parts)}) == 3


def test_a_part_of_a_batch_of_letters_keeps_their_numbers() -> None:
    batch = Batch([b"a", b"b", b"c"], [None, None, None], [], letters=(7, 8, 9), new_id=new_id)
    assert batch.part([0, 2]).letters == (7, 9)


def test_a_frozen_batch_does_not_change_under_its_key() -> None:
    batch = Batch([b"{}"], [None], [], new_id=new_id)
    batch.freeze(b"body")
    batch.freeze(b"body")
    with pytest.raises(AssertionError, match="change under its key"):
        batch.freeze(b"other")


def test_a_receipt_is_done_once_when_its_last_event_has_its_end() -> None:
    done: list[int] = []
    receipt = Receipt(3, lambda: done.append(1))
    receipt.settle(0)
    receipt.settle(2)
    assert done == []
    receipt.settle()
    assert done == [1]
    receipt.settle(0)
    assert done == [1]
    with pytest.raises(AssertionError, match="twice"):
        receipt.settle()


@each("seed", range(50))
def test_an_id_is_a_random_uuid_and_the_same_for_the_same_seed(seed: int) -> None:
    one, two = (batch_ids(random.Random(seed))() for _ in range(2))
    found = uuid.UUID(one)
    assert (found.version, found.variant, str(found)) == (4, uuid.RFC_4122, one)
    assert one == two != batch_ids(random.Random(seed + 1))()
