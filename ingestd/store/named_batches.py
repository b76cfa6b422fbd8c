"""What of one partition's batches its next owner has to know, as the journal has it: kept in memory, and told
to others by its source, which knows where to write it. See docs/decisions/015."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from functools import partial

from ingestd.core.chunk import Chunk, Segment
from ingestd.core.clock import Clock, wait_until_set
from ingestd.core.receipt import Positions
from ingestd.store.frozen_batches import FrozenBatch, unpack_positions

Bits = int
"""Positions in a chunk, one bit for each."""

ChunkPlace = tuple[int, int, int]
"""(start, end, last mark) of a chunk: where a broker has lost its end, another one has its place."""


UntilAnnounced = Callable[[], Awaitable[None]]
"""Returns when who owns the partition next will find a batch."""


class NamedBatch:
    """One that may have been sent. ``is_announced``: who owns the partition next will find it. ``is_late``:
    it was sent though it was not told in time. ``packed``: as its source writes it."""

    __slots__ = ("digest", "frozen_at", "is_announced", "is_late", "key", "packed", "segments", "sink")

    def __init__(
        self, key: str, sink: str, digest: bytes, frozen_at: float, segments: Mapping[ChunkPlace, Bits]
    ) -> None:
        self.key = key
        self.sink = sink
        self.digest = digest
        self.frozen_at = frozen_at
        self.segments = segments
        self.is_announced = self.is_late = False
        self.packed = b""

    def is_all(self, segments: Sequence[Segment]) -> bool:
        """Whether these, of its events, are all of them."""
        count = sum([len(positions) for _, positions in segments])
        return count == sum([bits.bit_count() for bits in self.segments.values()])


class NamedBatches:
    """Of one partition. ``changed`` is called with True when a batch waits to be told. A batch is told before
    its first request, or after ``within_s`` sent all the same, and counted by ``unannounced``.

    ``open``: batches by id. ``settled``: events of chunks that are not settled as a whole, by their sink, or
    as in ``Journal.processed``.
    """

    def __init__(
        self,
        changed: Callable[[bool], None],
        *,
        unannounced: Callable[[int], None],
        clock: Clock,
        within_s: float,
    ) -> None:
        self.open: dict[str, NamedBatch] = {}
        self.settled: dict[str, dict[ChunkPlace, Bits]] = {}
        self.is_owned = True
        """Whether more can be named: the partition is this process's."""
        self._changed = changed
        self._unannounced = unannounced
        self._clock = clock
        self._within_s = within_s
        self._news = asyncio.Event()

    # --- what the journal notes ---

    def froze(
        self,
        batch_id: str,
        sink: str,
        digest: bytes,
        segments: Sequence[Segment],
        now: float,
        *,
        can_be_made: bool = True,
    ) -> UntilAnnounced | None:
        """``can_be_made``: from what its source holds alone. Gives what is waited for before it is sent."""
        if not can_be_made:
            self._unannounced(1)
            return None
        self.open[batch_id] = NamedBatch(batch_id, sink, digest, now, _named(segments))
        return self.waits(batch_id)

    def waits(self, batch_id: str) -> UntilAnnounced | None:
        """What is waited for before it is sent, also by a batch of an earlier process: that may have ended
        before anybody was told."""
        if batch_id not in self.open or self.open[batch_id].is_announced:
            return None
        self._changed(True)
        return partial(self.until_announced, batch_id)

    def resolved(self, batch_id: str, sink: str, segments: Sequence[Segment]) -> None:
        """These of its events; the others go on in batches of their own."""
        one = self.open.pop(batch_id, None)
        self._settle(sink, one.segments if one and one.is_all(segments) else _named(segments))
        self._news.set()
        self._changed(False)

    def processed(self, by: str, chunk: Chunk, positions: Positions) -> None:
        self._settle(by, {place_of(chunk): bits_of(positions)})

    def gone(self, batch_ids: Iterable[str]) -> None:
        for batch_id in batch_ids:
            self.open.pop(batch_id, None)

    def done(self, spans: Sequence[tuple[int, int]]) -> None:
        """Whole chunks between these places are settled: the next owner passes them over."""
        for chunks in self.settled.values() if spans else ():
            for place in [
                place for place in chunks if any(a <= place[0] and place[1] <= b for a, b in spans)
            ]:
                del chunks[place]

    def known(self, batches: Iterable[FrozenBatch], announced: Collection[str]) -> None:
        """Of an earlier process, or another owner. ``announced``: ids of those that any owner finds."""
        for one in batches:
            segments = {
                (at.start, at.end, at.last_mark): bits_of(unpack_positions(at.positions))
                for at in one.segments
            }
            if one.settled:
                self._settle(one.sink, segments)
            else:
                named = NamedBatch(one.id, one.sink, one.body_digest, one.frozen_at, segments)
                named.is_announced = one.id in announced
                self.open[one.id] = named

    def _settle(self, by: str, segments: Mapping[ChunkPlace, Bits]) -> None:
        chunks = self.settled.setdefault(by, {})
        for place, bits in segments.items():
            chunks[place] = chunks.get(place, 0) | bits

    # --- what its source has written ---

    def announced(self, batch_ids: Iterable[str]) -> None:
        for batch_id in batch_ids:
            if one := self.open.get(batch_id):
                one.is_announced = True
        self._news.set()

    def close(self) -> None:
        self.is_owned = False
        self._news.set()

    async def until_announced(self, batch_id: str) -> None:
        """Returns at once where it is told, or need not be."""
        until: float | None = None
        while (one := self.open.get(batch_id)) is not None and not (one.is_announced or one.is_late):
            now = self._clock.monotonic()
            until = until or now + self._within_s
            if not self.is_owned or now >= until:
                one.is_late = True
                self._unannounced(1)
                return
            self._news.clear()
            await wait_until_set(self._news, until - now, self._clock)


def place_of(chunk: Chunk) -> ChunkPlace:
    return chunk.start, chunk.end, chunk.last_mark


def bits_of(positions: Positions) -> Bits:
    if isinstance(positions, range) or (positions and positions[-1] - positions[0] + 1 == len(positions)):
        return ((1 << len(positions)) - 1) << positions[0] if positions else 0
    if not positions:
        return 0
    digits = bytearray(b"0") * (positions[-1] + 1)
    for position in positions:
        digits[-1 - position] = 49  # b"1"
    return int(digits, 2)


def positions_of(bits: Bits) -> Positions:
    """Ascending."""
    if not bits:
        return ()
    first = (bits & -bits).bit_length() - 1
    if not (bits >> first) & ((bits >> first) + 1):
        return range(first, bits.bit_length())
    return [at for at, digit in enumerate(f"{bits:b}"[::-1]) if digit == "1"]


def _named(segments: Sequence[Segment]) -> dict[ChunkPlace, Bits]:
    named: dict[ChunkPlace, Bits] = {}
    for chunk, positions in segments:
        place = place_of(chunk)
        named[place] = named.get(place, 0) | bits_of(positions)
    return named
