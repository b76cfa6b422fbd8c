"""What of a chunk that is read again an earlier process has brought to its end."""

from collections.abc import Iterable

from ingestd.core.chunk import Chunk
from ingestd.store.frozen_batches import FrozenBatch, unpack_positions


class ProcessedEvents:
    """Re-read events that a consumer has already processed (``Journal.processed``)."""

    def __init__(self, frozen: Iterable[FrozenBatch]) -> None:
        self._positions: dict[tuple[int, int], frozenset[int]] = {}
        self.know(frozen)

    def know(self, frozen: Iterable[FrozenBatch]) -> None:
        """Of another process that had the source before, too."""
        self._positions |= {
            (source, start): frozenset(unpack_positions(packed))
            for batch in frozen
            for source, start, _, packed in batch.segments
        }

    def __bool__(self) -> bool:
        return bool(self._positions)

    def of(self, chunk: Chunk) -> frozenset[int]:
        """Positions in the chunk. Asked once; none if the file is not what it was."""
        found = self._positions.pop((chunk.source, chunk.start), frozenset[int]())
        if max(found, default=-1) >= len(chunk.events):
            found = frozenset()
        for start, positions in chunk.earlier.items():
            before = self._positions.pop((chunk.source, start), frozenset[int]())
            found |= {at for at, position in enumerate(positions) if position in before}
        return found
