"""From the spool to the lane, in the order of acceptance.

Chunks that were accepted just now are still in memory, up to a limit; past it they are read back from
the disk. What an earlier process left comes first: batches that may or may not have arrived go out
again as they were.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import anyio

from ingestd.core.batch import Batch
from ingestd.core.chunk import Positions
from ingestd.core.clock import Clock
from ingestd.delivery.lane import Lane
from ingestd.recovery import Recovery
from ingestd.stages.batcher import Batcher
from ingestd.store.journal import FrozenBatch
from ingestd.store.spool import Spool, SpooledChunk

MAX_MEMORY_BYTES = 16 * 1024 * 1024
"""Of events that wait in memory for the lane; the spool has them all the same."""


class Book(Protocol):
    """The ledger's side; see ``bookkeeping``."""

    def accepted(self, count: int) -> None: ...


@dataclass(frozen=True, slots=True)
class _Rest:
    """Events of a chunk that are to be sent; the chunk has its receipt."""

    spooled: SpooledChunk
    positions: Positions


class SpoolFeed:
    """``recover`` once, then ``run`` until ``stop``; ``offer`` is told of every chunk that is safe."""

    def __init__(self, spool: Spool, *, batcher: Batcher, lane: Lane, book: Book, clock: Clock) -> None:
        self._spool = spool
        self._batcher = batcher
        self._lane = lane
        self._book = book
        self._clock = clock
        self._memory: deque[SpooledChunk] = deque()
        self._memory_bytes = 0
        self._behind = True  # there may be chunks on disk before those in memory
        self._last_offered = spool.end - 1
        self._rests: dict[int, _Rest] = {}
        self._news = anyio.Event()
        self._stopped = False

    @property
    def behind(self) -> bool:
        """Whether chunks are read back from the disk."""
        return self._behind

    def offer(self, spooled: SpooledChunk) -> None:
        """This chunk is on disk; it comes after all that were offered before."""
        number = self._last_offered = spooled.chunk.start
        size_bytes = sum(map(len, spooled.chunk.events))
        if not self._behind and number >= self._spool.unread:
            if self._memory_bytes + size_bytes <= MAX_MEMORY_BYTES:
                self._memory.append(spooled)
                self._memory_bytes += size_bytes
            else:
                self._behind = True
        self._news.set()

    def stop(self) -> None:
        """Take up no more chunks; the spool keeps them."""
        self._stopped = True
        self._news.set()

    # --- what an earlier process left ---

    async def recover(self, frozen: Sequence[FrozenBatch], recovery: Recovery) -> list[str]:
        """Batches that were on their way go to the lane, as they were. Gives the ids of those that cannot.

        Only the chunks that such batches touch are read, so memory is bounded by what may be on its way.
        """
        self._book.accepted(self._spool.events)
        source = self._spool.source
        numbers = {start for batch in frozen for s, start, *_ in batch.segments if s == source}
        batches: list[Batch] = []
        for number in sorted(numbers):
            chunks, _ = await self._spool.read(first=number, before=number + 1, limit=1)
            for spooled in chunks:
                batches += self._take_up(spooled, recovery)
        batches += recovery.incomplete()
        kept = recovery.kept_batches()
        self._book.accepted(sum(map(len, kept)))  # of a replay: they are in the journal, not in the spool
        for batch in [*kept, *batches]:
            self._lane.resubmit(batch)
        changed = recovery.take_changed()
        told = {*changed, *(batch.id for batch in batches)}
        # What is left are batches whose chunks are all damaged: nothing of them can be sent.
        spooled_ids = [b.id for b in frozen if not b.settled and all(s == source for s, *_ in b.segments)]
        return changed + [batch_id for batch_id in spooled_ids if batch_id not in told]

    def _take_up(self, spooled: SpooledChunk, recovery: Recovery) -> list[Batch]:
        chunk = spooled.chunk
        found = recovery.look(chunk)
        if found is None:
            return []
        self._book.accepted(-len(found.settled))
        known = found.settled | found.taken
        left = [position for position in range(len(chunk.events)) if position not in known]
        self._rests[chunk.start] = _Rest(spooled, left)
        self._spool.opened(spooled, len(chunk.events) - len(found.settled))
        return found.batches

    # --- the way to the lane ---

    async def run(self) -> None:
        """Until ``stop``. Raises StoreFailed."""
        while not self._is_stopped():
            if self._memory:
                spooled = self._memory.popleft()
                self._memory_bytes -= sum(map(len, spooled.chunk.events))
                await self._hand_over(spooled)
            elif self._behind:
                await self._catch_up()
            else:
                await self._wait()
            await self._flush_if_due()

    async def _catch_up(self) -> None:
        """Read on from the disk; when all that was offered has been read, memory is enough from here on."""
        before = self._last_offered + 1
        chunks, following = await self._spool.read(first=self._spool.unread, before=before)
        for spooled in chunks:
            if self._is_stopped():
                return
            await self._hand_over(spooled)
            await self._flush_if_due()
        self._spool.unread = following
        self._behind = following <= self._last_offered

    async def _hand_over(self, spooled: SpooledChunk) -> None:
        await self._lane.submit(self._admit(spooled))

    def _is_stopped(self) -> bool:
        return self._stopped

    async def flush(self) -> None:
        """Send what the batcher holds, whatever its size."""
        if len(self._batcher):
            await self._lane.submit([self._batcher.flush()])

    async def _flush_if_due(self) -> None:
        deadline = self._batcher.deadline
        if deadline is not None and self._clock.monotonic() >= deadline:
            await self.flush()

    async def _wait(self) -> None:
        """Until a chunk is offered, or the batcher's deadline."""
        self._news = anyio.Event()
        deadline = self._batcher.deadline
        with anyio.move_on_after(None if deadline is None else max(0.0, deadline - self._clock.monotonic())):
            await self._news.wait()

    def _admit(self, spooled: SpooledChunk) -> list[Batch]:
        """Gives the batches that are full with this chunk."""
        number = spooled.chunk.start
        self._spool.unread = number + 1
        rest = self._rests.pop(number, None)
        if rest is None:
            self._spool.opened(spooled, len(spooled.chunk.events))
            rest = _Rest(spooled, range(len(spooled.chunk.events)))
            events, digests = spooled.chunk.events, spooled.digests
        else:
            events = [rest.spooled.chunk.events[position] for position in rest.positions]
            digests = [rest.spooled.digests[position] for position in rest.positions]
        if not events:
            return []
        now = self._clock.monotonic()
        return list(self._batcher.add(rest.spooled.chunk, events, digests, rest.positions, now))
