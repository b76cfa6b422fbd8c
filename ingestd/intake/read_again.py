"""How much of a chunk that is read again is what it was: what is known of its positions holds as far."""

from ingestd.core.chunk import Chunk
from ingestd.store.frozen_batches import PackedSegment


def known_until(chunk: Chunk, known: PackedSegment) -> int:
    """How many of its first events are still those of the chunk that was read here before. Where a broker has
    lost its end others have come at the numbers of the rest."""
    everything, is_shorter = len(chunk.events), 0 < chunk.source_end < known.end
    if not chunk.until:
        return 0 if is_shorter else everything
    if known.last_mark in (0, chunk.last_mark) and known.end == chunk.end:
        return everything
    until = chunk.until(known.last_mark) if known.last_mark else everything
    is_doubtful = known.last_mark >= 0 and (is_shorter or known.end == chunk.end)
    if is_doubtful and (until == everything or chunk.last_mark < known.last_mark):
        return 0  # there are others, or may be, and it is unknown which: a clock was set back, too
    if known.start == chunk.start and (until < everything or known.end != chunk.end):
        return _to_the_first_gap(chunk, until)
    return until


def _to_the_first_gap(chunk: Chunk, until: int) -> int:
    """It has as many messages as it had, but not the same ones: some are gone, by compaction, and as many
    came in the place of others, or behind them. Which are gone is not known; none where there is no gap."""
    numbers = [chunk.place(at)[0] for at in range(until)]
    return next((at for at in range(1, until) if numbers[at] > numbers[at - 1] + 1), until)
