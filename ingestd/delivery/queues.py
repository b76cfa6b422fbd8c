"""What waits in a lane, and in which order it goes: due retries, then new batches, then dead letters."""

import heapq
from collections import deque
from collections.abc import Iterable
from itertools import count

from ingestd.core.batch import Batch
from ingestd.delivery.bisection import Bisection


class Queues:
    """Three queues and what is left over from them. Bounded by the lane, which makes intake wait."""

    def __init__(self) -> None:
        self._waiting: list[tuple[float, int, Batch]] = []  # heap of (when, order, batch)
        self._fresh: deque[Batch] = deque()
        self._letters: deque[Batch] = deque()
        self._left: list[Batch] = []
        self._order = count()

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
        return bool(self._waiting or self._fresh or self._letters)

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
        heapq.heappush(self._waiting, (until, next(self._order), batch))

    def leave(self, batch: Batch) -> None:
        """It is not sent again by this process."""
        self._left.append(batch)

    def take(self, now: float, *, probing: bool) -> Batch | None:
        """The batch to send now; a probe does not wait for its time."""
        if self._waiting and (probing or self._waiting[0][0] <= now):
            return heapq.heappop(self._waiting)[2]
        if self._fresh:
            return self._fresh.popleft()
        return self._letters.popleft() if self._letters else None

    def hurry(self) -> None:
        """The process is to end: nothing waits for its time, and dead letters stay in their store."""
        self._waiting = [(0.0, order, batch) for _, order, batch in self._waiting]
        heapq.heapify(self._waiting)
        self._left += self._letters
        self._letters.clear()

    def leftovers(self) -> list[Batch]:
        """Take out everything, in the order it would have gone."""
        waiting = [batch for _, _, batch in sorted(self._waiting, key=lambda entry: entry[1])]
        left = [*waiting, *self._fresh, *self._letters, *self._left]
        for inquiry in {batch.inquiry for batch in left if isinstance(batch.inquiry, Bisection)}:
            left += inquiry.take_held()  # parts that wait for the answer to one that is left over
        self._waiting, self._fresh, self._letters, self._left = [], deque(), deque(), []
        return left
