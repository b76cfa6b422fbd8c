"""Under which leaders messages of a partition were written: an offset and the epoch of its leader name one
message for good. After an unclean election, others come at its offset, under another epoch."""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from ingestd.sources.broker.messages import MessageColumns
from ingestd.sources.kafka.runs import epoch_of


class Span(NamedTuple):
    """Messages from ``first`` to before ``last`` that are settled, as far as they are of this epoch."""

    first: int
    last: int
    epoch: int


class Leaders:
    """Of the messages that were read, in the order of reading. Epochs ascend, so a list is looked through
    only where its last message has another one than the message before the list."""

    def __init__(self) -> None:
        self._firsts: list[int] = []
        self._epochs: list[int] = []

    def read(self, messages: MessageColumns, last_mark: int) -> None:
        """``last_mark``: of the last of them."""
        if self._epochs and self._epochs[-1] == epoch_of(last_mark):
            return
        if epoch_of(messages[0].mark) == epoch_of(last_mark):
            messages = messages.part(0, 1)
        for message in messages:
            epoch, is_first = epoch_of(message.mark), not self._firsts
            if is_first or (epoch != self._epochs[-1] and message.sequence > self._firsts[-1]):
                self._firsts.append(message.sequence)
                self._epochs.append(epoch)

    def forget(self, offset: int) -> None:
        """What is before the offset."""
        if (gone := bisect_right(self._firsts, offset) - 1) > 0:
            del self._firsts[:gone], self._epochs[:gone]

    def split(self, first: int, last: int) -> list[Span]:
        """The messages between these offsets, by their epochs."""
        ends = [*self._firsts[1:], last]
        parts = zip(self._firsts, ends, self._epochs, strict=True)
        return [
            Span(max(first, begin), min(last, end), epoch)
            for begin, end, epoch in parts
            if max(first, begin) < min(last, end)
        ]


def without(messages: MessageColumns, span: Span) -> MessageColumns:
    """Those that are not in the span."""
    numbers = messages.sequences
    first, last = bisect_left(numbers, span.first), bisect_left(numbers, span.last)
    if first >= last:
        return messages
    left: Sequence[int] = ()
    if {epoch_of(messages[at].mark) for at in (first, last - 1)} != {span.epoch}:
        left = [at for at in range(first, last) if epoch_of(messages[at].mark) != span.epoch]
    return messages.pick([*range(first), *left, *range(last, len(numbers))])


def merged(spans: Sequence[Span]) -> list[Span]:
    found: list[Span] = []
    for span in sorted(spans, key=lambda one: (one.epoch, one.first)):
        if found and found[-1].epoch == span.epoch and found[-1].last >= span.first:
            found[-1] = found[-1]._replace(last=max(span.last, found[-1].last))
        else:
            found.append(span)
    return sorted(found)
