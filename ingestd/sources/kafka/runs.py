"""Lists of messages as the library gives them, made into runs of one partition: columns, and hardly anything
for each message."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import groupby, repeat
from typing import Any, NamedTuple

from ingestd.sources.broker.chunks import Cutter
from ingestd.sources.broker.messages import Message, MessageColumns
from ingestd.sources.kafka.client import NONE, TopicPart

TOMBSTONE = "a tombstone"
"""The subject of a message without a value."""
NO_HEADERS: Mapping[str, str] = {}
_TIME_BITS = 43
_MESSAGE_BYTES = 100
"""What one takes besides its payload."""


class Run(NamedTuple):
    """Messages of one partition; or None: that it has no more before ``end``. ``stored_at``: when the first
    was stored, wall time; ``size_bytes``: what they take, or a little more."""

    place: TopicPart
    messages: MessageColumns | None
    stored_at: float = 0.0
    size_bytes: int = 0
    end: int = NONE


def mark_of(epoch: int, stored_ms: int) -> int:
    """Tells a message from another that had its offset before."""
    return (max(0, epoch) << _TIME_BITS) + max(0, stored_ms)


def epoch_of(mark: int) -> int:
    return ~mark if mark < 0 else mark >> _TIME_BITS


def without_time(epoch: int) -> int:
    """The mark of a message of which no more is known."""
    return ~epoch


def is_same(mark: int, known: int) -> bool:
    return epoch_of(mark) == epoch_of(known) if known < 0 else mark == known


def is_later(mark: int, than: int) -> bool:
    """Whether one of two messages was stored by a later leader, or, if the time of the other is known, at a
    later one."""
    if than < 0 or epoch_of(mark) > epoch_of(than):
        return epoch_of(mark) > epoch_of(than)
    return mark % (1 << _TIME_BITS) > than % (1 << _TIME_BITS)


def _is_of_later_leader(mark: int, than: int) -> bool:
    """Whether it came after the log had lost its end. Times do not tell: those that producers set need not
    ascend, and what is left of a topic that is compacted is not new."""
    return epoch_of(mark) > epoch_of(than)


LogCutter = partial(Cutter, is_later=_is_of_later_leader)
"""Of a partition."""


def headers_of(found: Iterable[tuple[str, bytes | str | None]]) -> dict[str, str]:
    """Of a message. A name may come several times."""
    headers: dict[str, str] = {}
    for name, value in found:
        text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers


def to_message(raw: Any) -> Message:
    """Of the library's. Its headers become text only here: for most messages nobody asks."""
    payload, headers = raw.value(), raw.headers()
    return Message(
        raw.offset(),
        mark_of(raw.leader_epoch() or 0, raw.timestamp()[1]),
        payload or b"",
        headers_of(headers) if headers else NO_HEADERS,
        "" if payload is not None else TOMBSTONE,
    )


def split_by_place(
    found: Sequence[Any], *, one_topic: bool = False
) -> Iterator[tuple[TopicPart, Any, Sequence[Any]]]:
    """(place, error or None, messages) of neighbours; an error comes alone. Without a step of the interpreter
    for each message: a method of the class costs half of one that is looked up for each. ``one_topic``: they
    are all of one."""
    kind = type(found[0])
    errors = [*map(kind.error, found)]  # one cannot be compared with None
    partitions = [*map(kind.partition, found)]
    if not any(errors) and one_topic:
        keys: Iterable[Any] = partitions
        if partitions.count(partitions[0]) == len(partitions):
            yield (found[0].topic(), partitions[0]), None, found
            return
    else:
        keys = zip(map(kind.topic, found), partitions, map(id, errors), strict=True)
    first = 0
    for _, same in groupby(keys):
        last, error = first + len(list(same)), errors[first]
        step = last - first if error is None else 1
        for at in range(first, last, step):
            yield (found[at].topic(), partitions[at]), error, found[at : at + step]
        first = last


def run_of(place: TopicPart, raw: Sequence[Any]) -> Run:
    """Messages of one partition that follow each other."""
    kind, first, last = type(raw[0]), raw[0].offset(), raw[-1].offset()
    offsets: Sequence[int] = range(first, last + 1)
    if len(offsets) != len(raw):  # of a transaction, or of a compacted topic
        offsets = [*map(kind.offset, raw)]
    payloads = [*map(kind.value, raw)]
    if not all(payloads):
        payloads = [payload or b"" for payload in payloads]
    return run_of_columns(place, LogColumns(raw, offsets, payloads, to_message))


class LogColumns(MessageColumns):
    """Of messages of confluent-kafka."""

    __slots__ = ()

    def heads(self) -> MessageColumns:
        deque(map(type(self.raw[0]).set_value, self.raw, repeat(b"")), 0)
        return LogColumns(self.raw, self.sequences, [], self._make)


def run_of_columns(place: TopicPart, messages: MessageColumns) -> Run:
    size_bytes = messages.size_bytes + _MESSAGE_BYTES * len(messages)
    return Run(place, messages, messages.raw[0].timestamp()[1] / 1000, size_bytes)
