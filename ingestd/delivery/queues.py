"""What goes to a lane, and what waits in it: the batcher cuts events into requests, the queues order these.

A request is full by bytes, by count or by age. In a lane go due retries, then new batches, then dead letters.
With a ``KeyOrder`` only what that lets go; what it held goes before new batches. Dead letters are out of
order by nature, and pass it by.
"""

import asyncio
import heapq
import math
import sys
from bisect import bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from copy import copy
from itertools import accumulate, count
from typing import NamedTuple, Protocol

from ingestd.core.chunk import Batch, Chunk, NewId, Segment
from ingestd.core.clock import Clock
from ingestd.core.receipt import Digests, Positions
from ingestd.core.sequences import COMPILED, joined
from ingestd.delivery.bisection import Bisection
from ingestd.delivery.key_order import KeyOrder

_AT_ONCE = -math.inf
"""Due whatever the time is, and whatever may be repeated."""

Withdraw = Callable[[Batch], Batch | None]
"""What is left of a batch of dead letters that is about to be sent; None: nothing."""


class Send(NamedTuple):
    """``repeat``: the API could not take these events before, so this request burdens it."""

    batch: Batch
    repeat: bool


class _Waiting(NamedTuple):
    due: float
    number: int  # in the order they came
    batch: Batch
    repeat: bool


class Queues:
    """``fresh`` batches, those ``waiting`` between two attempts, ``letters``, and what is left over of them.

    The lane bounds them: it makes intake wait.
    """

    def __init__(self, order: KeyOrder | None, withdraw: Withdraw) -> None:
        self._order = order
        self._withdraw = withdraw
        self.waiting: list[_Waiting] = []  # a heap
        self.fresh: deque[Batch] = deque()
        self.letters: deque[Batch] = deque()
        self._left: list[Batch] = []
        self._numbers = count()
        self._probed: Batch | None = None

    @property
    def next_due(self) -> float | None:
        """When the first waiting batch may go."""
        return self.waiting[0].due if self.waiting else None

    @property
    def next_repeats(self) -> bool:
        """Whether the first waiting batch is a repeat: those need more than their time."""
        first = self.waiting[0] if self.waiting else None
        return first is not None and first.repeat and first.due > _AT_ONCE

    @property
    def only_repeats(self) -> bool:
        """Whether nothing can go before a repeat."""
        return self.next_repeats and not (self.fresh or self.letters or (self._order and self._order.ready))

    @property
    def first_waiting(self) -> Batch | None:
        return self.waiting[0].batch if self.waiting else None

    def add(self, batches: Iterable[Batch]) -> None:
        self.fresh.extend(batches)

    def add_letters(self, batch: Batch) -> None:
        self.letters.append(batch)

    def wait(self, batch: Batch, until: float, *, repeat: bool = False) -> None:
        if self._order is None or batch.letters or self._order.may_go(batch):
            self._push(batch, until, repeat=repeat)

    def leave(self, batch: Batch) -> None:
        """It is not sent again by this process; with order, neither is what comes after it."""
        if self._order is not None and not batch.letters:
            self._order.enter(batch)
        self._left.append(batch)

    def resolved(self, batch: Batch, parts: Sequence[Batch]) -> None:
        """What waited only for this batch may go now."""
        assert self._order is not None
        for freed in self._order.resolved(batch, parts):
            freed.first_sent = None  # waiting for its turn was no trying: its age counts from here
            self._push(freed, 0.0, repeat=freed.attempts > 0)

    def take(self, now: float, *, probing: bool, repeats_from: Callable[[float], float]) -> Send | None:
        """The batch to send now. ``repeats_from``: when a repeat may go, asked if one is next.

        A probe does not wait for its time. After one of a batch that had failed, and was answered, the next
        is a new one: those that failed may be ones that no API takes, and however many they are, others
        must be tried.
        """
        while (found := self._take(now, probing, repeats_from)) is not None:
            if not found.batch.letters:
                return found
            if (left := self._withdraw(found.batch)) is not None:
                return found._replace(batch=left)
        return None

    def _take(self, now: float, probing: bool, repeats_from: Callable[[float], float]) -> Send | None:
        first = self.waiting[0] if self.waiting else None
        if probing and self._probed is not None and self._probed.last_status:
            self._probed = None
            if batch := self._take_new():
                return Send(batch, repeat=False)
        due = first is not None and first.due <= now and (not self.next_repeats or repeats_from(now) <= now)
        if first and (probing or due):
            heapq.heappop(self.waiting)
            self._probed = first.batch if probing else None
            return Send(first.batch, first.repeat)
        batch = self._take_new()
        if batch is None and self.letters:
            batch = self.letters.popleft()
        return None if batch is None else Send(batch, repeat=False)

    def _take_new(self) -> Batch | None:
        if self._order is None:
            return self.fresh.popleft() if self.fresh else None
        batch = self._order.take()
        while batch is None and self.fresh:
            batch = self._order.admit(self.fresh.popleft())
            if rest := self._order.take_rest():
                self.fresh.appendleft(rest)
        return batch

    def _push(self, batch: Batch, due: float, *, repeat: bool) -> None:
        heapq.heappush(self.waiting, _Waiting(due, next(self._numbers), batch, repeat))

    def hurry(self) -> None:
        """The process is to end: nothing waits for its turn, and dead letters stay in their store."""
        self.waiting = [entry._replace(due=_AT_ONCE) for entry in self.waiting]
        heapq.heapify(self.waiting)
        self._left += self.letters
        self.letters.clear()

    def leftovers(self) -> list[Batch]:
        """Take out everything, in the order it would have gone."""
        waiting = [entry.batch for entry in sorted(self.waiting, key=lambda entry: entry.number)]
        held = self._order.leftovers() if self._order else []
        left = [*waiting, *self._left, *held, *self.fresh, *self.letters]
        for bisection in {batch.bisection for batch in left if isinstance(batch.bisection, Bisection)}:
            left += bisection.take_held()  # parts that wait for the answer to one that is left over
        self.waiting, self.fresh, self.letters, self._left = [], deque(), deque(), []
        return left


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
        self._events: list[Sequence[bytes]] = []  # one for each segment
        self._digests: list[Digests] = []
        self._segments: list[Segment] = []
        self._bytes = self._count = 0
        self.deadline: float | None = None
        """When the open batch is due by age, on the clock of ``add``; None while it is empty."""
        self._siblings: list[Batcher] = []

    def sibling(self) -> "Batcher":
        """An empty one with the same limits, also with those that are learned later."""
        one = copy(self)
        one.__dict__ |= {
            "_events": [],
            "_digests": [],
            "_segments": [],
            "_bytes": 0,
            "_count": 0,
            "_siblings": [],
            "deadline": None,
        }
        self._siblings.append(one)
        return one

    def __len__(self) -> int:
        return self._count

    @property
    def max_event_bytes(self) -> int:
        """The longest event that fits a request of its own."""
        return self._room - self._sep_bytes

    @property
    def limits(self) -> tuple[int, int, float, int]:
        """Bytes and events of a request, seconds, bytes of a separator. Who has the same cuts the same."""
        return self._room + self._overhead_bytes, self._max_events, self._max_age_s, self._sep_bytes

    def same_as(self, other: Batch) -> Batch:
        """A batch of these events under an id of its own."""
        return Batch(other.events, other.digests, [*other.segments], self._new_id)

    def learn(self, max_bytes: int) -> None:
        """The API takes no more than ``max_bytes`` a request: the limit only ever shrinks."""
        self._room = min(self._room, max(2, max_bytes - self._overhead_bytes + self._sep_bytes))
        for one in self._siblings:
            one.learn(max_bytes)

    def add(
        self,
        chunk: Chunk,
        events: Sequence[bytes],
        digests: Digests,
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
        fit, first = _fit_of(events, sizes), 0
        while first < len(events):
            if not self._count:
                self.deadline = now + self._max_age_s
            room, most = self._room - self._bytes, self._max_events - self._count
            count, size = fit(first, room, self._sep_bytes, most)
            if not (count or self._count):
                count, size = fit(first, sys.maxsize, self._sep_bytes, 1)
            last = first + count
            if count:
                self._append(chunk, events, digests, positions, first, last)
                self._bytes += size
            full = last < len(events) or self._count >= self._max_events
            first = last
            if full:
                yield self.flush()

    def flush(self) -> Batch:
        """The open batch, whatever its size; the next one starts empty."""
        events, digests = self._events, self._digests
        one = len(events) == 1
        batch = Batch(
            events[0] if one else joined(events),
            digests[0] if one else joined(digests),
            self._segments,
            self._new_id,
        )
        self._events, self._digests, self._segments = [], [], []
        self._bytes = self._count = 0
        self.deadline = None
        return batch

    def _append(
        self,
        chunk: Chunk,
        events: Sequence[bytes],
        digests: Digests,
        positions: Positions,
        first: int,
        last: int,
    ) -> None:
        whole = first == 0 and last == len(events)
        self._events.append(events if whole else events[first:last])
        self._digests.append(digests if whole else digests[first:last])
        self._count += last - first
        self._segments.append(Segment(chunk, positions if whole else positions[first:last]))

    def _one_by_one(
        self, chunk: Chunk, events: Sequence[bytes], digests: Digests, positions: Positions
    ) -> Iterator[Batch]:
        """For APIs that take one event to a request."""
        for index, (event, digest) in enumerate(zip(events, digests, strict=True)):
            yield Batch([event], [digest], [Segment(chunk, positions[index : index + 1])], self._new_id)


def _fit_of(
    events: Sequence[bytes], sizes: Sequence[int] | None
) -> Callable[[int, int, int, int], tuple[int, int]]:
    """``fit(first, room, separator, most)``: how many of the events from ``first`` on, ``most`` at most, take
    ``room`` bytes, each with those of a separator; and the bytes that they take."""
    if sizes is None and isinstance(events, COMPILED):
        return events.fit  # type: ignore[attr-defined,no-any-return]
    ends = [0, *accumulate(map(len, events) if sizes is None else sizes)]  # without separators

    def fit(first: int, room: int, separator: int, most: int) -> tuple[int, int]:
        lasts = range(first + 1, min(len(events), first + most) + 1)
        before = ends[first] + first * separator
        count = bisect_right(lasts, room + before, key=lambda last: ends[last] + last * separator)
        return count, ends[first + count] + (first + count) * separator - before

    return fit


class Aging(Protocol):
    @property
    def deadline(self) -> float | None:
        """When the first event in it may wait no longer; None: there is none."""
        ...


async def flush_by_age(
    batcher: Aging, begun: asyncio.Event, flush: Callable[[], Awaitable[None]], clock: Clock
) -> None:
    """``flush`` what has been in the batcher for as long as it may, until cancelled. The caller that adds to
    it sets ``begun``."""
    while True:
        await begun.wait()
        deadline = batcher.deadline
        if deadline is None:
            begun.clear()
        elif (left_s := deadline - clock.monotonic()) > 0:
            await clock.sleep(left_s)
        else:
            await flush()
