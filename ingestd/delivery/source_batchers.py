"""Batchers of which each has events of one source, or of one partition, only: what is frozen can then go to
its partition's next owner. Pure."""

import math
from collections.abc import Iterator, Sequence

from ingestd.core.chunk import Batch, Chunk
from ingestd.core.receipt import Digests, Positions
from ingestd.delivery.queues import Batcher

MAX_OPEN = 64
"""Batches that are open at once; beyond it the oldest goes as it is."""


class SourceBatchers:
    """As a ``Batcher``, but events of two sources are never in one batch."""

    def __init__(self, like: "Batcher | SourceBatchers", max_open: int = MAX_OPEN) -> None:
        self._like = like
        self._max_open = max_open
        self._by_source: dict[int, Batcher] = {}
        self._spare: list[Batcher] = []

    @property
    def max_event_bytes(self) -> int:
        return self._like.max_event_bytes

    @property
    def deadline(self) -> float | None:
        """When the first batch is due by age; None while all are empty."""
        return min((d for one in self._by_source.values() if (d := one.deadline) is not None), default=None)

    def __len__(self) -> int:
        return sum(map(len, self._by_source.values()))

    def sibling(self) -> Batcher:
        return self._like.sibling()

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
        """See ``Batcher.add``."""
        one = self._by_source.get(chunk.source)
        if one is None:
            while len(self._by_source) >= self._max_open:
                yield self.flush()
            one = self._by_source[chunk.source] = self._spare.pop() if self._spare else self._like.sibling()
        yield from one.add(chunk, events, digests, positions, now, sizes=sizes)
        if one.deadline is None:
            self._put_back(chunk.source)

    def flush(self) -> Batch:
        """The oldest of the open batches. Only while there is one."""
        source = min(self._by_source, key=lambda source: self._by_source[source].deadline or math.inf)
        batch = self._by_source[source].flush()
        self._put_back(source)
        return batch

    def _put_back(self, source: int) -> None:
        self._spare.append(self._by_source.pop(source))
