"""The batcher: collects events until a request is full by bytes, by count or by age. ``Batcher`` is pure."""

import asyncio
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Iterator, Sequence
from copy import copy
from itertools import accumulate
from typing import Protocol

from ingestd.core.batch import Batch, NewId
from ingestd.core.chunk import Chunk, Segment
from ingestd.core.clock import Clock
from ingestd.core.receipt import Positions


class Batcher:
    """Cuts the stream of events into batches whose encoded body stays within ``max_bytes``.

    The body is ``prefix + sep.join(events) + suffix`` (``overhead_bytes`` = prefix and suffix,
    ``sep_bytes`` = the separator), so its size is known exactly before it is made.
    """

    def __init__(
        self,
        *,
        max_bytes: int,
        max_events: int,
        max_age_s: float,
        overhead_bytes: int,
        sep_bytes: int = 1,
        new_id: NewId,
    ) -> None:
        self._new_id = new_id
        self._room = max_bytes - overhead_bytes + sep_bytes  # every event is counted with one separator
        self._max_events = max_events
        self._max_age_s = max_age_s
        self._overhead_bytes = overhead_bytes
        self._sep_bytes = sep_bytes
        self._events: list[bytes] = []
        self._digests: list[bytes | None] = []
        self._segments: list[Segment] = []
        self._bytes = 0
        self._since = 0.0
        self._siblings: list[Batcher] = []

    def sibling(self) -> "Batcher":
        """An empty one with the same limits, also with those that are learned later."""
        one = copy(self)
        one.__dict__ |= {"_events": [], "_digests": [], "_segments": [], "_bytes": 0, "_siblings": []}
        self._siblings.append(one)
        return one

    def __len__(self) -> int:
        return len(self._events)

    @property
    def deadline(self) -> float | None:
        """When the open batch is due by age, on the clock of ``add``; None while it is empty."""
        return self._since + self._max_age_s if self._events else None

    @property
    def max_event_bytes(self) -> int:
        """The longest event that fits a request of its own."""
        return self._room - self._sep_bytes

    def learn(self, max_bytes: int) -> None:
        """The API takes no more than ``max_bytes`` a request: the limit only ever shrinks."""
        self._room = min(self._room, max(2, max_bytes - self._overhead_bytes + self._sep_bytes))
        for one in self._siblings:
            one.learn(max_bytes)

    def add(
        self,
        chunk: Chunk,
        events: list[bytes],
        digests: list[bytes | None],
        positions: Positions,
        now: float,
        *,
        sizes: Sequence[int] | None = None,
    ) -> Iterator[Batch]:
        """Take events of one chunk (``positions`` in it, parallel lists); yield every batch that fills.

        ``sizes``: bytes that each of them takes in a body, where that is not its own length.

        The caller keeps out events longer than ``max_event_bytes``; should the limit have been
        learned since, such an event goes alone and the API decides.
        """
        if self._max_events == 1:
            yield from self._one_by_one(chunk, events, digests, positions)
            return
        sep = self._sep_bytes
        ends = list(accumulate(map(len, events) if sizes is None else sizes))  # without separators
        first, taken = 0, 0
        while first < len(events):
            if not self._events:
                self._since = now
            room = self._room - self._bytes + taken + (first - 1) * sep
            last = first + bisect_right(range(first, len(events)), room, key=lambda i: ends[i] + i * sep)
            last = min(last, first + self._max_events - len(self._events))
            if last == first and not self._events:
                last = first + 1
            if last > first:
                self._append(chunk, events, digests, positions, first, last)
                self._bytes += ends[last - 1] - taken + (last - first) * sep
                taken = ends[last - 1]
            full = last < len(events) or len(self._events) >= self._max_events
            first = last
            if full:
                yield self.flush()

    def flush(self) -> Batch:
        """The open batch, whatever its size; the next one starts empty."""
        batch = Batch(self._events, self._digests, self._segments, self._new_id)
        self._events, self._digests, self._segments, self._bytes = [], [], [], 0
        return batch

    def _append(
        self,
        chunk: Chunk,
        events: list[bytes],
        digests: list[bytes | None],
        positions: Positions,
        first: int,
        last: int,
    ) -> None:
        whole = first == 0 and last == len(events)
        self._events += events if whole else events[first:last]
        self._digests += digests if whole else digests[first:last]
        self._segments.append(Segment(chunk, positions if whole else positions[first:last]))

    def _one_by_one(
        self, chunk: Chunk, events: list[bytes], digests: list[bytes | None], positions: Positions
    ) -> Iterator[Batch]:
        """For APIs that take one event to a request."""
        for index, (event, digest) in enumerate(zip(events, digests, strict=True)):
            yield Batch([event], [digest], [Segment(chunk, positions[index : index + 1])], self._new_id)


class Aging(Protocol):
    @property
    def deadline(self) -> float | None:
        """When the first event in it may wait no longer; None: there is none."""
        ...


async def flush_by_age(
    batcher: Aging, begun: asyncio.Event, flush: Callable[[], Awaitable[None]], clock: Clock
) -> None:
    """``flush`` what has been in the batcher for as long as it may, until cancelled. Who adds to it sets
    ``begun``."""
    while True:
        await begun.wait()
        deadline = batcher.deadline
        if deadline is None:
            begun.clear()
        elif (left_s := deadline - clock.monotonic()) > 0:
            await clock.sleep(left_s)
        else:
            await flush()
