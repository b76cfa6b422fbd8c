"""Chunks of a broker's messages: cut again as they were, whatever came with what."""

import gc
import weakref
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.chunk import Chunk
from ingestd.intake.read_again import known_until
from ingestd.sources.broker import chunks
from ingestd.sources.broker.chunks import Cutter, KnownCut
from ingestd.sources.broker.formats import reader_of
from ingestd.sources.broker.messages import Message, place_of, sequence_of
from ingestd.store.frozen_batches import PackedSegment
from tests.each import each

SEQUENCES = st.lists(st.integers(1, 200), unique=True, min_size=1, max_size=40).map(sorted)
SIZES = st.lists(st.integers(1, 7), min_size=1)


def where(message: Message) -> str:
    return f"sequence {message.sequence}"


def message(sequence: int) -> Message:
    payload = b'{"n":%d}\n' % sequence * (sequence % 3)  # none, one or two events
    return Message(sequence, sequence, payload, {"H": str(sequence)})


def cut(cutter: Cutter, sequences: Sequence[int], sizes: Sequence[int]) -> list[Chunk]:
    """As they come: so many at a time."""
    chunks: list[Chunk] = []
    at = turn = 0
    while at < len(sequences):
        size = sizes[turn % len(sizes)]
        chunks += cutter.cut([message(one) for one in sequences[at : at + size]])
        at, turn = at + size, turn + 1
    return [*chunks, *cutter.flush()]


def told(chunks: Sequence[Chunk]) -> list[tuple[int, int, list[bytes]]]:
    return [(chunk.start, chunk.end, chunk.events) for chunk in chunks]


def known(chunks: Sequence[Chunk]) -> list[KnownCut]:
    return [(chunk.start, chunk.end, chunk.last_mark) for chunk in chunks]


@given(SEQUENCES, SIZES, SIZES, st.integers(0, 40), st.data())
def test_known_chunks_are_cut_again_wherever_reading_begins_and_however_it_comes(
    sequences: list[int], sizes: list[int], others: list[int], first: int, data: st.DataObject
) -> None:
    read = reader_of("ndjson")
    before = cut(Cutter(1, read, where=where, max_messages=4), sequences, sizes)
    before = before[first % len(before) :]
    frozen = [chunk for chunk in before if data.draw(st.booleans())]
    left = [one for one in sequences if one >= sequence_of(before[0].start)]
    again = cut(Cutter(1, read, known(frozen), where=where, max_messages=4), left, others)
    places = {(chunk.start, chunk.end): chunk.events for chunk in again}
    for chunk in frozen:
        assert places[chunk.start, chunk.end] == chunk.events
    assert [one for chunk in again for one in chunk.events] == [
        one for chunk in before for one in chunk.events
    ]
    assert [chunk.end for chunk in again] == sorted({chunk.end for chunk in again})
    assert sum(chunk.start - place_of(sequence_of(chunk.start)) for chunk in again) == len(left)


@given(SEQUENCES, SIZES, SIZES, st.data())
def test_of_a_chunk_that_lost_a_message_nothing_is_taken_for_what_it_was(
    sequences: list[int], sizes: list[int], others: list[int], data: st.DataObject
) -> None:
    """Its positions would be those of other events."""
    read = reader_of("ndjson")
    frozen = cut(Cutter(1, read, where=where, max_messages=4), sequences, sizes)
    gone = data.draw(st.sets(st.sampled_from(sequences), max_size=len(sequences) - 1))
    left = [one for one in sequences if one not in gone]
    was = {chunk.start: chunk.events for chunk in frozen}
    again = cut(Cutter(1, read, known(frozen), where=where, max_messages=4), left, others)
    for chunk in again:
        if chunk.start in was:
            assert chunk.events == was[chunk.start]
    found = [one for chunk in again for one in chunk.events]
    assert found == [one for sequence in left for one in cut_alone(sequence)]


def cut_alone(sequence: int) -> list[bytes]:
    return [
        one
        for chunk in Cutter(1, reader_of("ndjson"), where=where).cut([message(sequence)])
        for one in chunk.events
    ]


def test_an_event_is_told_with_its_message_and_its_place_in_it() -> None:
    (chunk,) = Cutter(7, reader_of("ndjson"), where=where).cut(
        [message(1), message(2), message(3), message(5)]
    )
    assert (chunk.source, chunk.start, chunk.end) == (7, place_of(1, 4), place_of(6))
    assert chunk.unreadable == {3: "the message is empty"}
    assert [chunk.place(index) for index in range(6)] == [(1, 1), (2, 1), (2, 2), (3, 1), (5, 1), (5, 2)]
    assert chunk.about
    assert chunk.about(2) == "sequence 2, headers H: 2"
    assert chunk.size_bytes == sum(map(len, chunk.events))


@given(st.integers(1, 40), st.sets(st.integers(1, 40)), SIZES, SIZES)
def test_of_a_known_chunk_of_which_messages_are_gone_it_is_known_which_event_was_which(
    count: int, gone: set[int], sizes: list[int], others: list[int]
) -> None:
    """Twice: what was cut after the first time may be known, too, and more is gone."""
    read, sequences = reader_of("event"), [*range(1, count + 1)]
    before = cut(Cutter(1, read, where=where, max_messages=6), sequences, sizes)
    places, events = known(before), {chunk.start: chunk.events for chunk in before}
    for left in (gone & {*range(1, 20)}, gone):
        there = [one for one in sequences if one not in left]
        again = cut(Cutter(1, read, places, where=where, max_messages=6), there, others)
        assert [one for chunk in again for one in chunk.events] == [message(n).payload for n in there]
        found: dict[int, dict[int, bytes]] = {start: {} for start in events}
        for chunk in again:
            for start, positions in {**chunk.earlier, chunk.start: range(len(chunk.events))}.items():
                if start in found:
                    found[start] |= {
                        at: one for at, one in zip(positions, chunk.events, strict=True) if at >= 0
                    }
        for start, ours in found.items():
            first = sequence_of(start)
            for at, payload in enumerate(events[start]):
                assert ours.get(at) == (None if first + at in left else payload)
        places += known(again)


@each(
    "source_end, marks, known",
    [
        (9, (4, 5, 6), {0: 3, 8: 3}),
        (8, (4, 5, 6), {0: 0, 8: 0}),
        (8, (4, 5, 9), {0: 0, 8: 2}),
        (8, (9, 9, 9), {0: 0, 8: 0}),
        (8, (4, 9, 7), {0: 0, 8: 0}),  # the clock was set back meanwhile
    ],
)
def test_where_a_source_lost_its_end_only_that_is_taken_for_what_it_was_which_is_so_for_certain(
    source_end: int, marks: tuple[int, ...], known: dict[int, int]
) -> None:
    """As in a power cut: what has come since has the numbers of what is gone. ``known``: by the mark of the
    last message then, 0 where that was not kept."""
    frozen = [(place_of(1, 3), place_of(4), 0), (place_of(4, 5), place_of(9), 0)]
    cutter = Cutter(1, reader_of("event"), frozen, where=where)
    first, *none = cutter.cut([*map(message, (1, 2, 3))])
    assert [*cutter.cut([message(at)._replace(mark=mark) for at, mark in enumerate(marks, 4)])] == []
    (second,) = cutter.end(source_end)
    assert ([first.start, second.start], none) == ([place_of(1, 3), place_of(4, 3)], [])
    assert (first.earlier, second.earlier) == ({}, {place_of(4, 5): [0, 1, 2]})
    was = PackedSegment(1, place_of(4, 5), place_of(9), b"")
    assert {mark: known_until(second, was._replace(last_mark=mark)) for mark in known} == known


def test_of_known_chunks_only_those_are_looked_at_that_may_be_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    """One event that nobody takes, and all behind it are settled: there may be very many."""
    looks = 0

    def counted(place: int) -> int:
        nonlocal looks
        looks += 1
        return sequence_of(place)

    monkeypatch.setattr(chunks, "sequence_of", counted)
    frozen = [(place_of(number, 1), place_of(number + 1), number) for number in range(1, 501)]
    again = cut(Cutter(1, reader_of("event"), frozen, where=where), range(1, 501), [500])
    assert known(again) == frozen
    assert looks < 20 * len(frozen)


class Raw:
    """A message as a library gives it."""

    def __init__(self, sequence: int) -> None:
        self.message = message(sequence)


def test_a_chunk_of_events_that_were_taken_out_of_messages_does_not_keep_those_too() -> None:
    raw = [Raw(sequence) for sequence in (1, 2, 4)]
    left = [weakref.ref(one) for one in raw]
    payloads = [one.message.payload for one in raw]
    columns = chunks.MessageColumns(raw, [1, 2, 4], payloads, lambda one: one.message)
    (chunk,) = Cutter(1, reader_of("ndjson"), where=where).cut(columns)
    del raw, columns
    gc.collect()
    assert [one() for one in left] == [None, None, None]
    assert [chunk.place(index) for index in range(4)] == [(1, 1), (2, 1), (2, 2), (4, 1)]


def test_a_known_chunk_of_which_all_is_lost_does_not_say_where_what_came_since_is_cut() -> None:
    """Both are known where a process has read that, too, and begins again. ``mark`` is a message's sequence
    here, and 100 more since the end was lost."""
    lost = [(place_of(3, 4), place_of(7), 6), (place_of(7, 2), place_of(9), 8)]
    since = [(place_of(2, 3), place_of(5), 104), (place_of(5, 4), place_of(9), 108)]
    cutter = Cutter(1, reader_of("event"), [*lost, *since], where=where)
    marks = [1, 2, *range(103, 110)]
    found = cutter.cut([message(mark % 100)._replace(mark=mark) for mark in marks])
    assert [(chunk.start, chunk.end) for chunk in found] == [
        (place_of(1, 1), place_of(2)),
        *[(start, end) for start, end, _ in since],
        (place_of(9, 1), place_of(10)),
    ]
