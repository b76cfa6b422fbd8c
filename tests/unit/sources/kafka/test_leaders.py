"""What is settled is told with the epoch of its leader, and no message of another one is taken for it."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.sources.broker.messages import Message, MessageColumns
from ingestd.sources.kafka.leaders import Leaders, Span, merged, without
from ingestd.sources.kafka.runs import mark_of
from tests.effort import examples

Log = list[tuple[int, int]]
"""Offset and epoch of messages."""
SPANS = st.lists(st.builds(Span, st.integers(0, 30), st.integers(0, 30), st.integers(0, 3)), max_size=6)


@st.composite
def logs(draw: st.DrawFn) -> Log:
    """Some are compacted away."""
    offsets = sorted(draw(st.sets(st.integers(0, 30), min_size=1)))
    return [*zip(offsets, sorted(draw(st.integers(0, 3)) for _ in offsets), strict=True)]


def columns(log: Log) -> MessageColumns:
    made = [Message(offset, mark_of(epoch, 1_000 - offset), b"{}", {}) for offset, epoch in log]
    return MessageColumns(made, [offset for offset, _ in log], [b"{}"] * len(log), lambda one: one)


def passed(log: Log, spans: Sequence[Span]) -> Log:
    messages = columns(log)
    for span in spans:
        messages = without(messages, span)
    return [one for one in log if one[0] not in messages.sequences]


@given(
    logs(),
    st.lists(st.integers(1, 6), min_size=1),
    st.integers(0, 31),
    st.integers(0, 31),
    st.integers(0, 31),
)
@settings(max_examples=examples(100))
def test_the_spans_of_what_was_read_are_those_of_its_leaders(
    log: Log, sizes: list[int], first: int, last: int, forgotten: int
) -> None:
    """However it comes; what another log has at these offsets is not passed over."""
    leaders, at = Leaders(), 0
    for turn in range(len(log)):
        if part := log[at : at + sizes[turn % len(sizes)]]:
            messages = columns(part)
            leaders.read(messages, messages[-1].mark)
            at += len(part)
    leaders.forget(min(first, forgotten))
    spans = leaders.split(first, last)
    assert passed(log, spans) == [one for one in log if first <= one[0] < last]
    assert all(span.first < span.last for span in spans)
    others = [(offset, epoch + 1) for offset, epoch in log]
    assert passed(others, spans) == [one for one in others if one in log and first <= one[0] < last]


@given(logs(), SPANS)
@settings(max_examples=examples(100))
def test_spans_that_are_merged_say_the_same(log: Log, spans: list[Span]) -> None:
    within = [one for one in log if any(s.first <= one[0] < s.last and s.epoch == one[1] for s in spans)]
    assert passed(log, spans) == passed(log, merged(spans)) == within
