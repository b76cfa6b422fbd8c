"""Chunks of a broker's messages. After a restart, chunks that a frozen batch names are cut again at the same
places.

A broker gives what has just come, so that where a chunk ends is chance, but a batch that was frozen names
its chunks and positions in them. These cuts are known from the journal when a source is opened again.
"""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate
from operator import gt

from ingestd.core.chunk import Chunk
from ingestd.core.letter import HEADERS
from ingestd.core.sequences import together
from ingestd.sources.broker.formats import ReadMessage, Unreadable, whole
from ingestd.sources.broker.messages import Message, MessageColumns, Messages, place_of, sequence_of

MAX_CHUNK_BYTES = 256 * 1024
MAX_CHUNK_MESSAGES = 1_000
_MAX_SHOWN = 1_500
"""Characters of a message's headers that a dead letter has."""


Where = Callable[[Message], str]
"""The place of a message in words, for a dead letter."""

IsLater = Callable[[int, int], bool]
"""(mark, than): whether a message was stored after the one with the other mark, for certain."""

KnownCut = tuple[int, int, int]
"""(start, end, last mark) of a chunk, as places."""


class Cutter:
    """``known``: chunks of an earlier process that are to be cut as they were."""

    def __init__(
        self,
        source: int,
        read: ReadMessage,
        known: Iterable[KnownCut] = (),
        *,
        where: Where,
        max_messages: int = MAX_CHUNK_MESSAGES,
        max_bytes: int = MAX_CHUNK_BYTES,
        is_later: IsLater = gt,
    ) -> None:
        self._where = where
        self._is_later = is_later
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._source = source
        self._read = read
        self._known = deque(sorted(set(known)))
        self._held: list[Message] = []  # of a known chunk that is not whole

    @property
    def known_to(self) -> int:
        """The last message of known chunks that are still to come, and one more; 0: there are none."""
        return sequence_of(self._known[-1][1]) if self._known else 0

    @property
    def is_waiting(self) -> bool:
        """Whether messages wait for the others of their chunk."""
        return bool(self._held)

    def cut(self, messages: Messages) -> Iterator[Chunk]:
        """All of them, but for those of a known chunk of which some are still to come."""
        if isinstance(messages, MessageColumns) and not self._known:
            yield from self._cut_columns(messages)
            return
        free: list[Message] = []
        size = 0
        for message in messages:
            yield from self._pass_by(message)
            if self._known and message.sequence >= sequence_of(self._known[0][0]):
                if free:
                    yield self._chunk(free)
                    free, size = [], 0
                self._held.append(message)
                if message.sequence == sequence_of(self._known[0][1]) - 1:
                    yield from self.flush()
                continue
            size += len(message.payload)
            if free and (size > self._max_bytes or len(free) >= self._max_messages):
                yield self._chunk(free)
                free, size = [], len(message.payload)
            free.append(message)
        if free:
            yield self._chunk(free)

    def _cut_columns(self, messages: MessageColumns) -> Iterator[Chunk]:
        """Nothing here is per message but the sum of their lengths, where they are more than a chunk."""
        if len(messages) <= self._max_messages and messages.size_bytes <= self._max_bytes:
            yield self._chunk(messages, messages.size_bytes)
            return
        ends, first = [*accumulate(map(len, messages.payloads), initial=0)], 0
        while first < len(messages):
            most = min(first + self._max_messages, len(messages))
            last = bisect_right(ends, ends[first] + self._max_bytes, first + 2, most + 1) - 1
            yield self._chunk(messages.part(first, last), ends[last] - ends[first])
            first = last

    def flush(self, source_end: int | None = None) -> Iterator[Chunk]:
        """What is held: no more of it will come. ``source_end``: the sequence where the source ends,
        if it may have been longer."""
        if self._held:
            held, self._held = self._held, []
            chunk = self._chunk(held)
            if self._read is whole:
                chunk.earlier = self._earlier(held, chunk.start)
            chunk.source_end = place_of(source_end or 0)
            yield chunk
            _, end, _ = self._known.popleft()
            while self._known and self._known[0][1] <= end:  # as it was before messages were gone, and since
                self._known.popleft()

    def _earlier(self, held: Sequence[Message], start: int) -> Mapping[int, Sequence[int]]:
        """See ``Chunk.earlier``: messages may be gone meanwhile, as where a topic is compacted, or with the
        end of the source. Of chunks that had all messages of their span, so that it is known which event was
        which."""
        last = held[-1].sequence
        found = {}
        for before, end, _ in self._known:
            first, was_end = sequence_of(before), sequence_of(end)
            if first > last:
                break  # those behind it are, too
            is_dense = before - place_of(first) == was_end - first
            if before != start and is_dense:
                found[before] = [message.sequence - first for message in held]
        return found

    def end(self, source_end: int) -> Iterator[Chunk]:
        """No more of known chunks will come: what is held, and nothing is known. ``source_end``: as of
        ``flush``."""
        yield from self.flush(source_end)
        self._known.clear()

    def _pass_by(self, message: Message) -> Iterator[Chunk]:
        while self._known and message.sequence >= sequence_of(self._known[0][1]):
            if self._held:
                yield from self.flush()
            else:
                self._known.popleft()
        while self._known and not self._held and self._is_lost(message, *self._known[0]):
            self._known.popleft()

    def _is_lost(self, message: Message, start: int, end: int, mark: int) -> bool:
        """Whether this came in the place of the whole chunk. Those that are known since are to be cut."""
        return mark != 0 and message.sequence >= sequence_of(start) and self._is_later(message.mark, mark)

    def _chunk(self, messages: Messages, size_bytes: int = 0) -> Chunk:
        """``size_bytes``: of the messages, where that is known."""
        columns = messages if isinstance(messages, MessageColumns) else None
        events = columns.payloads if columns else [message.payload for message in messages]
        unreadable: dict[int, str] = {}
        heads: Messages = messages
        counts: Sequence[int] = ()
        if self._read is not whole or not all(events):
            events, heads, counts = self._take_apart(messages, unreadable)
        numbers = columns.sequences if columns and not counts else ()  # else nothing keeps the payloads
        origins: list[tuple[Message, int]] | None = None

        def origin(index: int) -> tuple[Message, int]:
            nonlocal origins
            if not counts:
                return heads[index], 0
            if origins is None:
                origins = [(head, n) for head, count in zip(heads, counts, strict=True) for n in range(count)]
            return origins[index]

        def place(index: int) -> tuple[int, int]:
            if numbers:
                return numbers[index], 1
            head, number = origin(index)
            return head.sequence, number + 1

        first, last = messages[0], messages[-1]
        held = together(events)
        if held is not events and not counts:  # a copy
            heads = columns.heads() if columns else [one._replace(payload=b"") for one in messages]
        chunk = Chunk(
            held,
            source=self._source,
            start=place_of(first.sequence, len(messages)),
            end=place_of(last.sequence + 1),
            place=place,
            unreadable=unreadable,
            about=lambda index: self._about(origin(index)[0]),
            last_mark=last.mark,
            until=partial(_events_until, heads, counts, self._is_later),
        )
        chunk.mark = (last.mark, b"")
        chunk.size_bytes = size_bytes if size_bytes and not counts else sum(map(len, events))
        return chunk

    def _take_apart(
        self, messages: Iterable[Message], unreadable: dict[int, str]
    ) -> tuple[list[bytes], list[Message], list[int]]:
        """Their events, the messages without their payloads, and how many events each has."""
        events: list[bytes] = []
        heads: list[Message] = []
        counts: list[int] = []
        for message in messages:
            try:
                found = self._read(message.payload, message.headers)
            except Unreadable as error:
                unreadable[len(events)] = str(error)
                found = [message.payload]
            events += found
            counts.append(len(found))
            heads.append(message._replace(payload=b""))
        return events, heads, counts

    def _about(self, message: Message) -> str:
        headers = ", ".join(f"{name}: {value}" for name, value in message.headers.items())
        shown = f"{HEADERS}{headers[:_MAX_SHOWN]}" if headers else "no headers"
        return f"{self._where(message)}, {shown}"


def _events_until(messages: Messages, counts: Sequence[int], is_later: IsLater, mark: int) -> int:
    """Events of the messages before the first one that has a later mark. Where that is known in part: up to
    the last message that has this part, too."""
    numbers = range(len(messages))
    if mark < 0:
        same = (
            at + 1
            for at in reversed(numbers)
            if not (is_later(its := messages[at].mark, mark) or is_later(mark, its))
        )
        index = next(same, 0)
    else:
        index = next((at for at in numbers if is_later(messages[at].mark, mark)), len(numbers))
    return sum(counts[:index]) if counts else index
