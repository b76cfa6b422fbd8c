"""What of a chunk that is read again an earlier process has brought to its end."""

from collections.abc import Iterable

from ingestd.core.chunk import Chunk
from ingestd.intake.read_again import known_until
from ingestd.store.frozen_batches import FrozenBatch, PackedSegment, unpack_positions


class ProcessedEvents:
    """Re-read events that a consumer has already processed (``Journal.processed``)."""

    def __init__(self, frozen: Iterable[FrozenBatch]) -> None:
        self._segments: dict[tuple[int, int], PackedSegment] = {}
        self.know(frozen)

    def know(self, frozen: Iterable[FrozenBatch]) -> None:
        """Of another process that had the source before, too."""
        self._segments |= {(one.source, one.start): one for batch in frozen for one in batch.segments}

    def __bool__(self) -> bool:
        return bool(self._segments)

    def of(self, chunk: Chunk) -> frozenset[int]:
        """Positions in the chunk. Asked once; none if the file is not what it was."""
        found, until = self._take(chunk, chunk.start)
        if until == len(chunk.events) and max(found, default=-1) >= until:
            found = frozenset()
        found = frozenset(at for at in found if at < until)
        for start, positions in chunk.earlier.items():
            before, until = self._take(chunk, start)
            found |= {at for at, position in enumerate(positions[:until]) if position in before}
        return found

    def _take(self, chunk: Chunk, start: int) -> tuple[frozenset[int], int]:
        """Positions as they were, and how many events of the chunk are those from then."""
        known = self._segments.pop((chunk.source, start), None)
        if known is None:
            return frozenset(), 0
        return frozenset(unpack_positions(known.positions)), known_until(chunk, known)
