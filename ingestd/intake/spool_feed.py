"""From the spool to the lane, in the order of acceptance.

Chunks that were accepted just now are still in memory, up to a limit; past it they are read back from
the disk. What an earlier process left comes first: batches that may or may not have arrived go out
again as they were.
"""

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import anyio

from ingestd.core.batch import Batch
from ingestd.core.clock import Clock, wait_until_set
from ingestd.core.ledger import SinkLedger
from ingestd.core.receipt import Positions, Routed
from ingestd.delivery.batcher import Batcher
from ingestd.delivery.lane import Lane
from ingestd.intake.recovery import RecoveredChunk, Recovery
from ingestd.recording.event_recorder import EventRecorder
from ingestd.store.frozen_batches import FrozenBatch, unpack_positions
from ingestd.store.spool import Spool, SpooledChunk

_FEEDING = 0.5
"""Of the time of a drain; the rest is for requests, which otherwise would end unanswered."""


Route = Callable[[list[bytes]], Routed]
Sizes = Callable[[list[bytes]], Sequence[int] | None]


class _Rest(NamedTuple):
    """Events of a chunk that are to be sent; the chunk has its receipt."""

    spooled: SpooledChunk
    positions: Positions


class SpoolFeed:
    """``recover`` once, then ``run`` until ``drain`` or ``stop``. ``offer`` is told of chunks that are safe.

    One for each sink: a sink that is slow or away falls behind in the spool, and the others do not wait.
    """

    def __init__(
        self,
        sink: str,
        spool: Spool,
        *,
        route: Route,
        sizes: Sizes,
        batcher: Batcher,
        lane: Lane,
        recorder: EventRecorder,
        ledger: SinkLedger,
        clock: Clock,
        max_memory_bytes: int,
    ) -> None:
        self.sink = sink
        self._spool = spool
        self._cursor = spool.cursors[sink]
        self._route = route
        self._sizes = sizes
        self._batcher = batcher
        self._lane = lane
        self._recorder = recorder
        self._ledger = ledger
        self._clock = clock
        self._memory: deque[tuple[SpooledChunk, Routed]] = deque()
        self._memory_bytes, self._max_memory_bytes = 0, max_memory_bytes
        self._behind = True  # there may be chunks on disk before those in memory
        self._last_offered = spool.end - 1
        self._rests: dict[int, _Rest] = {}
        self._settled: dict[int, set[int]] = {}  # of chunks that an earlier process sent a part of: positions
        self._news = anyio.Event()
        self._stopped = self._draining = False
        self._ended = anyio.Event()

    @property
    def behind(self) -> bool:
        """Whether chunks are read back from the disk."""
        return self._behind

    @property
    def behind_chunks(self) -> int:
        """Chunks that it has not taken up."""
        return max(0, self._spool.end - self._cursor.unread)

    def offer(self, spooled: SpooledChunk, routed: Routed) -> None:
        """This chunk is on disk; it comes after all that were offered before."""
        number = self._last_offered = spooled.chunk.start
        size_bytes = sum(map(len, spooled.chunk.events))
        if not self._behind and number >= self._cursor.unread:
            if self._memory_bytes + size_bytes <= self._max_memory_bytes:
                self._memory.append((spooled, routed))
                self._memory_bytes += size_bytes
            else:
                self._behind = True
        self._news.set()

    def stop(self) -> None:
        """Take up no more chunks; the spool keeps them."""
        self._stopped = True
        self._news.set()

    async def drain(self, within_s: float) -> None:
        """No more will be offered and the process is to end: bring all that was to the lane, as long as that
        takes it, and close the lane. ``within_s``: until the lane is abandoned; the spool keeps what is not
        taken up in the first part of it."""
        self._draining = True
        self._news.set()
        self._lane.drain(within_s, feeding=True)
        await wait_until_set(self._ended, within_s * _FEEDING, self._clock)
        self.stop()
        self._lane.add(self._remainder())
        self._lane.close()

    # --- what an earlier process left ---

    async def recover(self, frozen: Sequence[FrozenBatch], recovery: Recovery) -> list[str]:
        """Batches that were on their way go to the lane, as they were. Gives the ids of those that cannot.

        Only the chunks that such batches touch are read, so memory is bounded by what may be on its way. Of
        those before the cursor nothing is left to send, although other sinks may still wait for them.
        """
        source = self._spool.source
        segments = [
            (start, packed, batch.settled)
            for batch in frozen
            for s, start, _, packed in batch.segments
            if s == source and start >= self._cursor.unread
        ]
        numbers = {start for start, _, settled in segments if not settled}
        for start, packed, settled in segments:
            if settled and start not in numbers:
                self._settled.setdefault(start, set()).update(unpack_positions(packed))
        batches: list[Batch] = []
        for number in sorted(numbers):
            chunks, _ = await self._spool.read(first=number, before=number + 1, limit=1)
            for spooled in chunks:
                batches += self._take_up(spooled, recovery)
        batches += recovery.incomplete()
        kept = recovery.kept_batches()  # of a replay: they are in the journal, not in the spool
        self._recorder.accepted(sum(map(len, kept)))
        self._ledger.taken_up(sum(map(len, kept)))
        for batch in [*kept, *batches]:
            self._lane.resubmit(batch)
        changed = recovery.take_changed()
        told = {*changed, *(batch.id for batch in batches)}
        # What is left are batches whose chunks are all damaged: nothing of them can be sent.
        spooled_ids = [b.id for b in frozen if not b.settled and all(s == source for s, *_ in b.segments)]
        return changed + [batch_id for batch_id in spooled_ids if batch_id not in told]

    def _take_up(self, spooled: SpooledChunk, recovery: Recovery) -> list[Batch]:
        found = recovery.look(spooled.chunk)
        if found is None:
            return []
        self._rests[spooled.chunk.start] = self._open(spooled, None, found)
        return found.batches

    def _open(self, spooled: SpooledChunk, routed: Routed | None, found: RecoveredChunk | None) -> _Rest:
        """Take up what of a chunk goes to this sink, and is not resolved there."""
        chunk = spooled.chunk
        routed = self._spool.routed(chunk.start) or routed or self._route(chunk.events)
        mine: Positions = routed[self.sink]
        taken = settled = 0
        if found:
            known = found.settled | found.taken
            mine = [position for position in mine if position not in known]
            taken, settled = len(found.taken), len(found.settled)
        expected = len(mine) + taken
        unmatched = len(chunk.events) - expected - settled
        is_new = self._spool.open_chunk(self.sink, spooled, routed)
        self._recorder.taken_up(
            self.sink, chunk, expected, resolved=settled, unmatched=unmatched, is_new=is_new
        )
        self._ledger.taken_up(expected)
        return _Rest(spooled, mine)

    # --- the way to the lane ---

    async def run(self) -> None:
        """Until ``stop``; in a drain until all has been taken up, or the lane does not take it. Raises
        StoreFailed."""
        while not self._is_stopped():
            if self._memory:
                spooled, routed = self._memory.popleft()
                self._memory_bytes -= sum(map(len, spooled.chunk.events))
                await self._lane.submit(self._admit(spooled, routed))
            elif self._behind:
                await self._catch_up()
            elif self._draining:
                break
            else:
                await self._wait()
            await self._flush_if_due()
        self._ended.set()

    async def _catch_up(self) -> None:
        """Read on from the disk; when all that was offered has been read, memory is enough from here on."""
        before = self._last_offered + 1
        chunks, following = await self._spool.read(first=self._cursor.unread, before=before)
        for spooled in chunks:
            if self._is_stopped():
                return
            await self._lane.submit(self._admit(spooled, None))
            await self._flush_if_due()
        self._cursor.unread = following
        self._behind = following <= self._last_offered

    def _is_stopped(self) -> bool:
        return self._stopped or (self._draining and not self._lane.takes_more)

    def _remainder(self) -> list[Batch]:
        """What the batcher holds, whatever its size."""
        return [self._batcher.flush()] if len(self._batcher) else []

    async def _flush_if_due(self) -> None:
        deadline = self._batcher.deadline
        if deadline is not None and self._clock.monotonic() >= deadline:
            await self._lane.submit(self._remainder())

    async def _wait(self) -> None:
        """Until a chunk is offered, or the batcher's deadline."""
        self._news = anyio.Event()
        deadline = self._batcher.deadline
        left_s = None if deadline is None else deadline - self._clock.monotonic()
        await wait_until_set(self._news, left_s, self._clock)

    def _admit(self, spooled: SpooledChunk, routed: Routed | None) -> list[Batch]:
        """Gives the batches that are full with this chunk."""
        number = spooled.chunk.start
        rest = self._rests.pop(number, None)
        if rest is None:
            settled = self._settled.pop(number, None)
            rest = self._open(spooled, routed, RecoveredChunk(settled, set(), []) if settled else None)
        self._spool.taken_up(self.sink, number)
        chunk, digests, positions = rest.spooled.chunk, rest.spooled.digests, rest.positions
        events = chunk.events
        if not positions:
            return []
        if len(positions) < len(events):
            events = [events[position] for position in positions]
            digests = [digests[position] for position in positions]
        now = self._clock.monotonic()
        sizes = self._sizes(events)
        return list(self._batcher.add(chunk, events, digests, positions, now, sizes=sizes))
