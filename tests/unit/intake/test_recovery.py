"""What an earlier process knew of a chunk that is read again."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import msgspec

from ingestd.core.chunk import Chunk, Segment
from ingestd.core.clock import SystemClock
from ingestd.intake.fan_out import FanOut
from ingestd.intake.processed_events import ProcessedEvents
from ingestd.intake.recovery import Recovery
from ingestd.sources.broker.chunks import Cutter, KnownCut
from ingestd.sources.broker.formats import reader_of, whole
from ingestd.sources.broker.messages import Message
from ingestd.sources.kafka.runs import LogCutter, mark_of
from ingestd.store.frozen_batches import FrozenBatch, PackedSegment, pack, pack_positions
from ingestd.store.journal import DISMISSED, EVERYWHERE
from tests.each import each
from tests.ids import new_id

if TYPE_CHECKING:
    from ingestd.delivery.sink_runner import SinkRunner
    from ingestd.processing.routes import Routes
    from ingestd.recording.event_recorder import EventRecorder
    from ingestd.store.journal import Journal

_CHUNKS = 500


def recovery_of(frozen: Sequence[FrozenBatch]) -> Recovery:
    return Recovery(
        frozen,
        {1},
        encode=lambda events: b"",
        digests=lambda events: [None] * len(events),
        claims_keys=False,
        new_id=new_id,
    )


class Place(int):
    """Counts how often it is compared."""

    looks = 0

    def __lt__(self, other: int) -> bool:
        Place.looks += 1
        return int(self) < other


def test_of_known_chunks_only_those_are_looked_at_that_are_passed() -> None:
    """One event that nobody takes, and all behind it are settled: there may be very many."""
    frozen = [
        FrozenBatch(
            id=f"b{number}",
            settled=number % 5 > 0,
            frozen_at=1.0,
            events=1,
            body_digest=b"",
            segments=[PackedSegment(1, Place(number), number + 1, pack_positions(range(1)))],
            kept=None,
            sink="s",
        )
        for number in range(_CHUNKS)
    ]
    recovery = recovery_of(frozen)
    gone = [recovery.passed(Chunk([], source=1, start=at, end=at + 1)) for at in range(_CHUNKS)]
    assert gone == [{f"b{at}"} if at % 5 == 0 else set() for at in range(_CHUNKS)]
    assert not recovery
    assert Place.looks < 40 * _CHUNKS


@each(
    "marks, left",
    [
        ((1, 2, 3, 4), ({0, 1, 2, 3}, {0, 1, 2, 3})),  # as it was
        ((1, 2, 8, 9), ({0, 1}, {0, 1})),  # it lost its end, and others came
        ((8, 8, 8, 9), (set(), set())),
        ((1, 2, 3, 3), (set(), set())),  # the clock was set back: nothing of it is certain
    ],
)
def test_what_came_at_numbers_of_messages_that_are_gone_is_new(
    marks: Sequence[int], left: tuple[set[int], set[int]]
) -> None:
    def cut(marks: Sequence[int], known: Sequence[KnownCut] = ()) -> Chunk:
        cutter = Cutter(1, whole, known, where=lambda one: one.subject)
        (chunk,) = cutter.cut([Message(at, mark, b"{}", {}) for at, mark in enumerate(marks, 1)])
        return chunk

    first = cut((1, 2, 3, 4))
    rows = msgspec.msgpack.decode(pack([Segment(first, range(4))]), type=list[PackedSegment])
    settled = FrozenBatch("b", True, 1.0, 4, b"", rows, None, "s")
    chunk = cut(marks, [(first.start, first.end, first.last_mark)])
    found = recovery_of([settled]).look(chunk)
    assert found
    assert (found.settled, ProcessedEvents([settled]).of(chunk)) == left

    older = msgspec.msgpack.decode(msgspec.msgpack.encode([rows[0][:4]]), type=list[PackedSegment])
    found = recovery_of([settled._replace(segments=older)]).look(chunk)
    assert found
    assert found.settled == {0, 1, 2, 3}  # of a version that kept no marks

    open_batch = settled._replace(settled=False)
    recovery = recovery_of([open_batch])
    found = recovery.look(chunk)
    assert found
    assert len(found.batches) == (left[0] == {0, 1, 2, 3})
    assert recovery.take_changed() == ["b"]  # its bytes are none that were frozen


@each(
    "epochs, left_out, left",
    [
        ((3, 3, 3, 3, 3), (), [1, 2, 3, 4, 5]),
        ((3, 3, 3, 3, 3), (5,), [1, 2, 3, 4]),
        ((3, 3, 3, 3, 3), (2, 5), [1, 3, 4]),
        ((3, 3, 3, 3, 3), (1, 3), [2, 4, 5]),
        ((3, 3, 4, 4, 4), (), [1, 2]),  # it lost its end, and others came
        ((3, 3, 4, 4, 4), (5,), [1, 2]),
        ((3, 3, 3, 3, 2), (), []),  # the last one is another; how that came nobody knows
    ],
)
def test_what_is_left_of_a_compacted_topic_is_not_new_though_its_times_do_not_ascend(
    epochs: Sequence[int], left_out: Sequence[int], left: list[int]
) -> None:
    """Several producers set them, each with its own clock."""

    def cut(epochs: Sequence[int], left_out: Sequence[int] = (), known: Sequence[KnownCut] = ()) -> Chunk:
        cutter = LogCutter(1, whole, known, where=lambda one: one.subject)
        marks = map(mark_of, epochs, (10, 50, 20, 30, 15))
        messages = [Message(at, mark, b"{}", {}) for at, mark in enumerate(marks, 1) if at not in left_out]
        chunk, *_ = [*cutter.cut(messages), *cutter.end(9)]
        return chunk

    first = cut((3, 3, 3, 3, 3))
    rows = msgspec.msgpack.decode(pack([Segment(first, range(5))]), type=list[PackedSegment])
    settled = FrozenBatch("b", True, 1.0, 5, b"", rows, None, "s")
    chunk = cut(epochs, left_out, [(first.start, first.end, first.last_mark)])
    found = recovery_of([settled]).look(chunk)
    assert found
    for positions in (found.settled, ProcessedEvents([settled]).of(chunk)):
        assert [chunk.place(at)[0] for at in sorted(positions)] == left


@each("events", [1, 2, 3])
def test_what_is_left_of_a_chunk_is_known_however_many_events_came_in_the_place_of_the_others(
    events: int,
) -> None:
    def cut(last: bytes, mark: int, known: Sequence[KnownCut] = ()) -> Chunk:
        cutter = Cutter(1, reader_of("ndjson"), known, where=lambda one: one.subject)
        (chunk,) = cutter.cut([Message(1, 1, b"{}\n{}", {}), Message(2, mark, last, {})])
        return chunk

    first = cut(b"{}\n{}", 2)
    rows = msgspec.msgpack.decode(pack([Segment(first, range(4))]), type=list[PackedSegment])
    settled = FrozenBatch("b", True, 1.0, 4, b"", rows, None, "s")
    chunk = cut(b"{}\n" * events, 9, [(first.start, first.end, first.last_mark)])
    found = recovery_of([settled]).look(chunk)
    assert found
    assert found.settled == ProcessedEvents([settled]).of(chunk) == {0, 1}


def test_an_event_that_is_known_twice_is_settled_once() -> None:
    """Where a log was cut in two ways, in turn: it is settled in one chunk, on its way in another,
    and a copy of itself in a third."""
    chunk = Chunk([b"{}"] * 4, source=1, start=5, end=9)

    def batch(name: str, *positions: int, settled: bool = False) -> FrozenBatch:
        place = PackedSegment(1, 5, 9, pack_positions(positions))
        return FrozenBatch(name, settled, 1.0, len(positions), b"", [place], None, "s")

    settled, copies = batch("settled", 0, 1, settled=True), batch("copies", 0, 1, 2, 3, settled=True)
    one, two, three = batch("one", 1, 2), batch("two", 3), batch("three", 3)
    recovery = recovery_of([one, two, three, settled])
    sink = SimpleNamespace(name="s", lane=SimpleNamespace(rooms=[]))
    fan_out = FanOut(
        [cast("SinkRunner", sink)],
        cast("Routes", SimpleNamespace(chooses=False)),
        {"s": recovery},
        {DISMISSED: ProcessedEvents([copies]), EVERYWHERE: ProcessedEvents([])},
        recorder=cast("EventRecorder", None),
        journal=cast("Journal", None),
        clock=SystemClock(),
        max_pending_bytes=1,
    )
    found = fan_out.recover(chunk)
    assert (found.by_sink["s"].settled, found.by_sink["s"].in_batches) == ({0, 1}, {3})
    assert found.dismissed == chunk.dismissed == {2}
    assert recovery.take_changed() == ["one", "three", "two"]
