"""What of a partition is new where its log is another one from some offset on."""

import pytest

from ingestd.sources.broker.chunks import Message, MessageColumns, place_of
from ingestd.sources.broker.formats import whole
from ingestd.sources.kafka.partition import OtherMessages, Partition
from ingestd.sources.kafka.runs import LogCutter, mark_of, without_time
from ingestd.sources.source import Position
from tests.each import each


def columns(first: int, *marks: tuple[int, int]) -> MessageColumns:
    """By epoch and time."""
    made = [Message(at, mark_of(*mark), b"{}", {}) for at, mark in enumerate(marks, first)]
    return MessageColumns(made, range(first, first + len(made)), [b"{}"] * len(made), lambda one: one)


def partition(mark: int = 0, offset: int = 0) -> Partition:
    return Partition(
        ("t", 0),
        b"",
        1,
        offset,
        (),
        lambda number, cuts, where: LogCutter(number, whole, cuts, where=where),
        lambda one, position: None,
        mark,
    )


@each(
    "last, new",
    [
        ((2, 1), [3, 4, 5]),  # another leader wrote it: epochs tell the rest, whatever times producers set
        ((1, 70), [0, 1, 2, 3, 4, 5]),  # an older copy of the log: only times tell
    ],
)
def test_of_a_log_that_is_read_anew_what_was_read_is_passed_over(
    last: tuple[int, int], new: list[int]
) -> None:
    before = (1, 90), (1, 80), (1, 70)
    one = partition()
    one.take(columns(0, *before, (1, 50), (1, 60)), skip_tombstones=False)
    one.ack(Position(place_of(5), 1, (one.last_mark, b"")))
    assert one.goes_on_at().offset == 4
    with pytest.raises(OtherMessages):
        one.take(columns(4, last), skip_tombstones=False)
    again = partition()
    again.pass_over(one)
    fresh, count = again.take(columns(0, *before, last, last, last), skip_tombstones=False)
    assert fresh
    assert ([*fresh.sequences], count) == (new, 6 - len(new))


@each("epoch, is_other", [(3, False), (2, True), (4, True)])
def test_of_the_message_before_a_committed_offset_the_epoch_is_compared(epoch: int, is_other: bool) -> None:
    one = partition(without_time(3), offset=5)
    assert (one.to_commit().epoch, one.goes_on_at().offset) == (3, 4)
    messages = columns(4, (epoch, 7), (epoch, 8))
    if is_other:
        with pytest.raises(OtherMessages):
            one.take(messages, skip_tombstones=False)
    else:
        fresh, _ = one.take(messages, skip_tombstones=False)
        assert fresh
        assert [*fresh.sequences] == [5]
        assert one.to_commit().epoch == 3
