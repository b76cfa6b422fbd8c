"""What of a partition is new where its log is another one from some offset on."""

from types import SimpleNamespace

import pytest

from ingestd.sources.broker.formats import whole
from ingestd.sources.broker.messages import Message, MessageColumns, place_of
from ingestd.sources.kafka.client import NONE, Start, cut_at
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
    assert (one.to_commit().epoch, one.goes_on_at()) == (3, Start(4, 3))
    messages = columns(4, (epoch, 7), (epoch, 8))
    if is_other:
        with pytest.raises(OtherMessages):
            one.take(messages, skip_tombstones=False)
    else:
        fresh, _ = one.take(messages, skip_tombstones=False)
        assert fresh
        assert [*fresh.sequences] == [5]
        assert one.to_commit().epoch == 3


CUT = "Partition log truncation detected at offset 9 (leader epoch 3): broker end offset is 6 (offset leader"
UNKNOWN = "No epoch found less or equal to offset 9 (leader epoch 3): broker end offset is -1 (offset leader"
LACKS = "fetch failed due to requested offset not available on the broker: Broker: Offset out of range"


@each(
    "text, offset, cut",
    [(f"{CUT} epoch 2). Reset", None, 6), (f"{UNKNOWN} epoch -1). Reset", 9, NONE), (LACKS, 9, None)],
)
def test_where_a_log_was_cut_is_in_the_words_of_the_library(
    text: str, offset: int | None, cut: int | None
) -> None:
    assert cut_at(SimpleNamespace(str=lambda: text), offset) == cut


def test_where_the_library_finds_other_words_the_log_is_looked_through_from_its_first_message() -> None:
    assert cut_at(SimpleNamespace(str=lambda: "cut"), None) == 0


@each(
    "epoch, cut, first, end, start",
    [
        (3, 6, 0, 12, Start(6)),
        (3, 6, 8, 12, Start(8)),  # retention has deleted some
        (3, 9, 0, 12, Start(9, 3)),  # all that was taken is there, not all that the library had read
        (3, 6, 0, 9, None),  # the log is shorter than what was taken
        (3, None, 0, 12, None),
        (3, NONE, 0, 12, None),  # an older copy
        (0, NONE, 0, 12, Start(9)),  # messages without epochs
    ],
)
def test_of_a_log_that_was_cut_it_is_read_what_has_come_since(
    epoch: int, cut: int | None, first: int, end: int, start: Start | None
) -> None:
    assert partition(without_time(epoch), offset=10).looks_back(cut, first, end) == start


@each(
    "lists, new",
    [
        ([(12, 4)], [12]),  # marks of a later leader: nothing is lost
        ([(6, 3), (9, 3), (12, 4)], [12]),
        ([(6, 4)], None),
        ([(7, 3), (9, 4), (12, 4)], None),  # whichever list it is in
        ([(9, 2)], None),  # an older copy
    ],
)
@each("at_once", [True, False])
def test_a_message_of_a_later_leader_before_the_committed_offset_tells_of_an_end_that_was_lost(
    lists: list[tuple[int, int]], new: list[int] | None, at_once: bool
) -> None:
    one = partition(without_time(3), offset=10)
    assert one.looks_back(6, 0, 20) == Start(6)
    numbers = [offset for offset, _ in lists]
    messages = columns(0, *[(epoch, 7) for _, epoch in lists])
    raw = [made._replace(sequence=at) for made, at in zip(messages, numbers, strict=True)]
    given = MessageColumns(raw, numbers, [b"{}"] * len(raw), lambda one: one)
    found, again = [], 0
    try:
        for part in [given] if at_once else [given.part(at, at + 1) for at in range(len(given))]:
            fresh, count = one.take(part, skip_tombstones=False)
            found += [*fresh.sequences] if fresh else []
            again += count
    except OtherMessages:
        assert new is None
    else:
        assert (found, again) == (new, 0), "what is looked at again counts as nothing"
