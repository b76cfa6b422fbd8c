"""Batches that had their end, until a restart need not know of them any more. Used by ``journal.py``."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

Place = tuple[int, int, int]
"""(source, start, end) of a chunk."""

IsPassed = Callable[[str, Place], bool]
"""(sink, chunk): nothing of it will be read again for this sink."""

_Settled = tuple[int, str, Sequence[Place]]
"""(end of its last chunk, id, places): what has to be passed before it is forgotten."""

_SWEEP_LEAST = 256
"""Settled batches of a sink, from which on those behind one that is not passed are looked for."""

_SWEEP_SHARE = 16
"""So many of them are looked at, on average, each time that they are asked for."""


class SettledBatches:
    """By sink and source, those first that end first."""

    def __init__(self) -> None:
        self._heaps: defaultdict[tuple[str, int], list[_Settled]] = defaultdict(list)
        self._looks: Counter[tuple[str, int]] = Counter()  # since a heap was swept

    def add(self, sink: str, batch_id: str, places: Sequence[Place]) -> None:
        last = max(end for _, _, end in places)
        heapq.heappush(self._heaps[sink, places[0][0]], (last, batch_id, places))

    def take_passed(self, is_passed: IsPassed) -> list[str]:
        """Ids of those that can be forgotten. Only the first of each heap is looked at: for a sink of one
        event to a request there are thousands. All of them now and then: one event that is tried for hours
        must not keep what comes after it."""
        passed: list[str] = []
        for key, heap in self._heaps.items():
            sink = key[0]
            while heap and all(is_passed(sink, place) for place in heap[0][2]):
                passed.append(heapq.heappop(heap)[1])
            self._looks[key] += 1
            if len(heap) >= _SWEEP_LEAST and self._looks[key] >= len(heap) // _SWEEP_SHARE:
                self._looks[key] = 0
                kept = [one for one in heap if not all(is_passed(sink, place) for place in one[2])]
                passed += {one[1] for one in heap} - {one[1] for one in kept}
                heap[:] = kept
                heapq.heapify(heap)
        return passed
