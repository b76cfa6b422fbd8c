"""What waits in a lane, and in which order it goes: due retries, then new batches, then dead letters.

With an ``Order`` only what that lets go; what it held goes before new batches. Dead letters are out of
order by nature and pass it by.
"""

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import count

from ingestd.core.batch import Batch
from ingestd.delivery.bisection import Bisection
from ingestd.delivery.order import Order


class Queues:
    """Three queues and what is left over from them. Bounded by the lane, which makes intake wait."""

    def __init__(self, order: Order | None = None) -> None:
        self._by_key = order
        self._waiting: list[tuple[float, int, Batch]] = []  # heap of (when, order, batch)
        self._fresh: deque[Batch] = deque()
        self._letters: deque[Batch] = deque()
        self._left: list[Batch] = []
        self._order = count()
        self._probed: Batch | None = None

    @property
    def fresh(self) -> int:
        return len(self._fresh)

    @property
    def waiting(self) -> int:
        """Batches between two attempts."""
        return len(self._waiting)

    @property
    def letters(self) -> int:
        return len(self._letters)

    def __bool__(self) -> bool:
        """Whether there is something to send. What is held by order is not, before others had their end."""
        held = self._by_key is not None and self._by_key.ready
        return bool(self._waiting or self._fresh or self._letters or held)

    @property
    def next_due(self) -> float | None:
        """When the first waiting batch may go."""
        return self._waiting[0][0] if self._waiting else None

    @property
    def first_waiting(self) -> Batch | None:
        return self._waiting[0][2] if self._waiting else None

    def add(self, batches: Iterable[Batch]) -> None:
        self._fresh.extend(batches)

    def add_letters(self, batch: Batch) -> None:
        self._letters.append(batch)

    def wait(self, batch: Batch, until: float) -> None:
        if self._by_key is None or batch.letters or self._by_key.may_go(batch):
            heapq.heappush(self._waiting, (until, next(self._order), batch))

    def leave(self, batch: Batch) -> None:
        """It is not sent again by this process; with order, neither is what comes after it."""
        if self._by_key is not None and not batch.letters:
            self._by_key.enter(batch)
        self._left.append(batch)

    def settled(self, batch: Batch, parts: Sequence[Batch]) -> None:
        """The batch had its end but for its parts: what waited only for it may go now."""
        if self._by_key is not None:
            for freed in self._by_key.settled(batch, parts):
                freed.first_sent = None  # waiting for its turn was no trying: its age counts from here
                heapq.heappush(self._waiting, (0.0, next(self._order), freed))

    def take(self, now: float, *, probing: bool) -> Batch | None:
        """The batch to send now. A probe does not wait for its time, and is not the same batch twice in a
        row if that was answered: it could be the one that no API takes."""
        if probing and self._waiting and (first := self._waiting[0][2]) is self._probed and first.last_status:
            self._probed = None
            if batch := self._take_new():
                return batch
        if self._waiting and (probing or self._waiting[0][0] <= now):
            batch = heapq.heappop(self._waiting)[2]
            self._probed = batch if probing else None
            return batch
        batch = self._take_new()
        if batch is None and self._letters:
            batch = self._letters.popleft()
        return batch

    def _take_new(self) -> Batch | None:
        if self._by_key is None:
            return self._fresh.popleft() if self._fresh else None
        batch = self._by_key.take()
        while batch is None and self._fresh:
            batch = self._by_key.admit(self._fresh.popleft())
        return batch

    def hurry(self) -> None:
        """The process is to end: nothing waits for its time, and dead letters stay in their store."""
        self._waiting = [(0.0, order, batch) for _, order, batch in self._waiting]
        heapq.heapify(self._waiting)
        self._left += self._letters
        self._letters.clear()

    def leftovers(self) -> list[Batch]:
        """Take out everything, in the order it would have gone."""
        waiting = [batch for _, _, batch in sorted(self._waiting, key=lambda entry: entry[1])]
        held = self._by_key.leftovers() if self._by_key else []
        left = [*waiting, *self._left, *held, *self._fresh, *self._letters]
        for inquiry in {batch.inquiry for batch in left if isinstance(batch.inquiry, Bisection)}:
            left += inquiry.take_held()  # parts that wait for the answer to one that is left over
        self._waiting, self._fresh, self._letters, self._left = [], deque(), deque(), []
        return left
