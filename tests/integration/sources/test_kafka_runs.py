"""Lists of messages as the library gives them, made into runs of one partition."""

from collections.abc import Sequence

import pytest

from ingestd.core.sequences import COMPILED
from ingestd.sources.broker.chunks import Cutter
from ingestd.sources.broker.formats import reader_of
from ingestd.sources.broker.messages import MessageColumns
from ingestd.sources.kafka.run_queue import RunQueue
from ingestd.sources.kafka.runs import Run, run_of, split_by_place
from tests.each import each
from tests.scripted_kafka import NO_MORE, KafkaError, Message

T0, T1 = ("t", 0), ("t", 1)


def run(*offsets: int, place: tuple[str, int] = T0) -> Run:
    return run_of(place, [Message(place, offset, b"%d" % offset) for offset in offsets])


def queue(*runs: Run) -> RunQueue:
    found = RunQueue()
    found.add(runs)
    return found


def columns(one: Run) -> MessageColumns:
    assert one.messages is not None
    return one.messages


@each("one_topic", [True, False])
def test_a_list_is_split_where_the_partition_changes_and_an_error_stands_alone(one_topic: bool) -> None:
    found: Sequence[Message] = [
        Message(T0, 1, b"a"),
        Message(T0, 2, b"b"),
        Message(T1, 1, b"c"),
        Message(T1, 2, None, KafkaError(NO_MORE)),
        Message(T0, 3, b"d"),
    ]
    parts = [
        (place, error.code() if error else 0, [one.number for one in messages])
        for place, error, messages in split_by_place(found, one_topic=one_topic)
    ]
    assert parts == [(T0, 0, [1, 2]), (T1, 0, [1]), (T1, NO_MORE, [2]), (T0, 0, [3])]


@each(
    ("first", "second", "offsets"),
    [((1, 2), (3, 4), range(1, 5)), ((1, 2), (5, 6), [1, 2, 5, 6]), ((1, 3), (4,), [1, 3, 4])],
)
def test_runs_that_follow_each_other_are_one_with_the_offsets_of_all(
    first: Sequence[int], second: Sequence[int], offsets: Sequence[int]
) -> None:
    one, other = run(*first), run(*second)
    both = queue(one, other).next(100, 100)
    found = columns(both)
    assert found.sequences == offsets
    assert found.payloads == [b"%d" % offset for offset in offsets]
    assert [message.sequence for message in found] == [*offsets]
    assert found.size_bytes == sum(map(len, found.payloads))
    assert (both.place, both.stored_at) == (T0, one.stored_at)
    assert both.size_bytes == one.size_bytes + other.size_bytes


@each(
    "other",
    [run(3, place=T1), run(2, 3), run(0, 1), Run(T0, None, end=3)],
)
def test_what_is_of_another_partition_or_was_read_again_or_ends_it_does_not_follow(other: Run) -> None:
    one, after = run(1, 2), run(9)
    waiting = queue(one, other, after)
    assert waiting.next(100, 100) is one
    assert [*waiting] == [other, after]


def test_messages_do_not_pass_the_end_of_what_came_before_them() -> None:
    end, after = Run(T0, None, end=3), run(4, 5)
    waiting = queue(end, after)
    assert waiting.next(100, 100) is end
    assert [*waiting] == [after]


@each(
    ("lists", "most", "most_bytes", "taken"),
    [
        ([(1, 2, 3), (4, 5)], 100, 4, [[1, 2, 3, 4], [5]]),
        ([(1, 2, 3), (4, 5)], 2, 100, [[1, 2], [3, 4], [5]]),
        ([(1, 2, 3), (4, 5), (6,)], 3, 100, [[1, 2, 3], [4, 5, 6]]),
        ([(10, 11), (12,)], 100, 1, [[10], [11], [12]]),
    ],
)
def test_of_what_waits_as_much_is_taken_as_a_chunk_may_have_and_the_rest_stays(
    lists: Sequence[Sequence[int]], most: int, most_bytes: int, taken: Sequence[Sequence[int]]
) -> None:
    waiting = queue(*(run(*offsets) for offsets in lists))
    found = []
    while waiting:
        before = sum(one.size_bytes for one in waiting)
        one = waiting.next(most, most_bytes)
        assert waiting.size_bytes == sum(left.size_bytes for left in waiting)
        assert one.size_bytes + waiting.size_bytes == before
        assert one.stored_at == columns(one).raw[0].timestamp()[1] / 1000
        found.append([*columns(one).sequences])
    assert found == taken


@pytest.mark.skipif(not COMPILED, reason="the accelerator is not installed, or is off")
def test_with_the_accelerator_a_chunk_has_its_payloads_once_and_what_is_told_of_a_message() -> None:
    kafka = pytest.importorskip("confluent_kafka", reason="the extra kafka is not installed")
    headers = [("trace", b"of 7")]
    raw = [
        kafka.Message(
            topic="t", partition=0, offset=at, value=b"{%d}" % at, headers=headers, timestamp=(1, at)
        )
        for at in (7, 8, 9)
    ]
    found = columns(run_of(T0, raw))
    (chunk,) = Cutter(1, reader_of("event"), where=lambda one: f"offset {one.sequence}").cut(found)
    assert list(chunk.events) == [b"{7}", b"{8}", b"{9}"]
    assert [one.value() for one in raw] == [b"", b"", b""]
    assert [chunk.place(index) for index in range(3)] == [(7, 1), (8, 1), (9, 1)]
    assert chunk.about
    assert chunk.about(1) == "offset 8, headers trace: of 7"
