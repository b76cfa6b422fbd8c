"""From the spool to one sink's lane: what producers have posted, in the order of acceptance.

``SpoolSource`` gives the chunks: those that were accepted just now are still in memory, up to a limit; past
it they are read from the disk. ``SpoolFeed`` brings them to the lane. What an earlier process left comes
first: batches that may or may not have arrived go out again as they were.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Sequence

from ingestd.core.chunk import Batch, Chunk, Keeper
from ingestd.core.clock import Clock, Tasks, wait_until_set
from ingestd.core.receipt import Positions, Receipt
from ingestd.core.sequences import pick
from ingestd.delivery.queues import flush_by_age
from ingestd.delivery.sink_runner import SinkRunner
from ingestd.intake.recovery import RecoveredChunk, Recovery
from ingestd.intake.transforming import transform
from ingestd.recording.event_recorder import EventRecorder
from ingestd.sources.source import Position
from ingestd.store.frozen_batches import FrozenBatch, unpack_positions
from ingestd.store.spool import Route, Spool

_FEEDING = 0.5
"""Of the time of a drain; the rest is for requests, which otherwise would end unanswered."""


class SpoolSource:
    """``offer`` is called with chunks that are on disk. ``resume``, before ``chunks``, is for those of which
    an earlier process has sent a part. ``end``: no more will be offered.

    One for each sink, since a sink that is slow or away falls behind, and the others do not wait.
    """

    keeper = Keeper.SPOOL

    def __init__(self, spool: Spool, sink: str, *, route: Route, max_memory_bytes: int) -> None:
        self.sink = sink
        self._spool = spool
        self._cursor = spool.cursors[sink]
        self._route = route
        self._memory: deque[Chunk] = deque()
        self._memory_bytes, self._max_memory_bytes = 0, max_memory_bytes
        self._last_offered = 0
        self._resumed: dict[int, Chunk] = {}
        self._news = asyncio.Event()
        self._stopped = self._ending = False
        self.behind = True
        """There may be chunks on disk before those in memory."""

    @property
    def name(self) -> str:
        return f"the spool, for {self.sink}"

    @property
    def number(self) -> int:
        return self._spool.source

    @property
    def unread(self) -> int:
        """The number of the first chunk that was not read."""
        return self._cursor.unread

    @property
    def behind_chunks(self) -> int:
        """How many chunks were not read."""
        return max(0, self._spool.end - self._cursor.unread)

    async def open(self) -> None:
        """The spool is open, and has the sink's cursor."""
        self._last_offered = self._spool.end - 1

    async def resume(self, numbers: Iterable[int]) -> list[Chunk]:
        """These chunks before their turn, but damaged ones. Raises StoreFailed."""
        for number in numbers:
            chunks, _ = await self._spool.read(first=number, before=number + 1, limit=1)
            for chunk in chunks:
                self._spool.open_chunk(self.sink, chunk, self._route)
                self._resumed[number] = chunk
        return list(self._resumed.values())

    def offer(self, chunk: Chunk) -> None:
        """This chunk is on disk; it comes after all that were offered before."""
        number = self._last_offered = chunk.start
        size_bytes = chunk.size_bytes
        if not self.behind and number >= self._cursor.unread:
            if self._memory_bytes + size_bytes <= self._max_memory_bytes:
                self._memory.append(chunk)
                self._memory_bytes += size_bytes
            else:
                self.behind = True
        self._news.set()

    async def chunks(self) -> AsyncIterator[tuple[Chunk, Receipt]]:
        """Until ``stop``; after ``end`` until there are no more. Raises StoreFailed."""
        while not self._is_stopped():
            if self._memory:
                self._memory_bytes -= self._memory[0].size_bytes
                yield self._next(self._memory.popleft())
            elif self.behind:
                before = self._last_offered + 1
                found, following = await self._spool.read(first=self._cursor.unread, before=before)
                found.reverse()
                while found:
                    if self._is_stopped():
                        return
                    yield self._next(found.pop())  # nothing of it is kept while this waits for more
                self._cursor.unread = following
                self.behind = following <= self._last_offered
            elif self._ending:
                return
            else:
                self._news = asyncio.Event()
                await self._news.wait()

    def _next(self, chunk: Chunk) -> tuple[Chunk, Receipt]:
        if resumed := self._resumed.pop(chunk.start, None):
            self._spool.was_read(self.sink, chunk.start)
            return resumed, resumed.receipt
        self._spool.open_chunk(self.sink, chunk, self._route)
        self._cursor.unread = chunk.end
        return chunk, chunk.receipt

    def _is_stopped(self) -> bool:
        return self._stopped

    def ack(self, position: Position) -> None:
        """The receipts of its chunks tell the spool, each on its own: a chunk leaves it in whatever order."""

    def end(self) -> None:
        self._ending = True
        self._news.set()

    def stop(self) -> None:
        """The spool keeps what was not read."""
        self._stopped = True
        self._news.set()

    async def close(self) -> None:
        """The part that opened the spool closes it."""


class SpoolFeed:
    """``recover`` once, then ``run`` until ``drain``."""

    def __init__(
        self, source: SpoolSource, runner: SinkRunner, *, recorder: EventRecorder, clock: Clock
    ) -> None:
        self.source = source
        self._runner = runner
        self._batcher, self._lane = runner.batcher, runner.lane
        self._recorder = recorder
        self._clock = clock
        self._left: dict[int, Positions] = {}  # of chunks that were resumed: what is still to be sent
        self._settled: dict[int, set[int]] = {}  # of chunks that an earlier process sent a part of: positions
        self._begun = asyncio.Event()
        self._turn = asyncio.Lock()  # to hand something to the lane, and wait until it has room again
        self._ended, self._draining = asyncio.Event(), False

    # --- what an earlier process left ---

    async def recover(self, frozen: Sequence[FrozenBatch], recovery: Recovery) -> list[str]:
        """Batches that were on their way go to the lane, as they were. Gives the ids of those that cannot.

        Only the chunks that such batches touch are read, so memory is bounded by what may be on its way. Of
        those before the cursor nothing is left to send, although other sinks may still wait for them.
        """
        source = self.source.number
        segments = [
            (one.start, one.positions, batch.settled)
            for batch in frozen
            for one in batch.segments
            if one.source == source and one.start >= self.source.unread
        ]
        numbers = {start for start, _, settled in segments if not settled}
        for start, packed, settled in segments:
            if settled and start not in numbers:
                self._settled.setdefault(start, set()).update(unpack_positions(packed))
        batches = list[Batch]()
        for chunk in await self.source.resume(sorted(numbers)):
            if found := recovery.look(chunk):
                self._left[chunk.start] = self._expect(chunk, found)
                batches += found.batches
        batches += recovery.incomplete()
        kept = recovery.kept_batches()  # of a replay: they are in the journal, not in the spool
        self._recorder.accepted(sum(map(len, kept)))
        self._runner.recorder.started(sum(map(len, kept)))
        for batch in [*kept, *batches]:
            self._lane.resubmit(batch)
        changed = recovery.take_changed()
        ids = {*changed, *(batch.id for batch in batches)}
        # What is left are batches whose chunks are all damaged: nothing of them can be sent.
        spooled_ids = [b.id for b in frozen if not b.settled and all(s == source for s, *_ in b.segments)]
        return changed + [batch_id for batch_id in spooled_ids if batch_id not in ids]

    # --- the way to the lane ---

    async def run(self) -> None:
        """Until the source ends. Raises StoreFailed."""
        async with Tasks() as tasks:
            tasks.start_soon(flush_by_age, self._batcher, self._begun, self._flush, self._clock)
            async for chunk, _ in self.source.chunks():
                async with self._turn:
                    filled = self._admit(chunk)
                    self._begun.set()
                    if filled:
                        await self._lane.room()
                self._stop_if_useless()
            tasks.cancel()
        self._ended.set()

    def _stop_if_useless(self) -> None:
        """In a drain only what the lane takes is read."""
        if self._draining and not self._lane.takes_more:
            self.source.stop()

    async def drain(self, within_s: float) -> None:
        """No more will be offered and the process is to end: bring all that was to the lane, as long as that
        takes it, and close the lane. ``within_s``: until the lane is abandoned; the spool keeps what is not
        read in the first part of it."""
        self._draining = True
        self.source.end()
        self._lane.drain(within_s, feeding=True)
        self._stop_if_useless()
        await wait_until_set(self._ended, within_s * _FEEDING, self._clock)
        self.source.stop()
        if len(self._batcher):
            self._lane.add([self._batcher.flush()])
        self._lane.close()

    async def _flush(self) -> None:
        """What is old enough, whatever its size."""
        async with self._turn:
            deadline = self._batcher.deadline
            if deadline is not None and self._clock.monotonic() >= deadline:
                await self._lane.submit([self._batcher.flush()])

    def _admit(self, chunk: Chunk) -> bool:
        """Whether the lane got a batch: else nobody need ask it for room."""
        positions = self._left.pop(chunk.start, None)
        if positions is None:
            settled = self._settled.pop(chunk.start, None)
            positions = self._expect(chunk, RecoveredChunk(settled, set(), []) if settled else None)
        events, digests = chunk.events, chunk.digests
        if not positions:
            return False
        if len(positions) < len(events):
            events, digests = pick(events, positions), pick(digests, positions)
        if self._runner.transforms:
            events, digests, positions = transform(
                self._runner.transforms, self._runner, chunk, events, digests, positions
            )
            if not events:
                return False
        sizes, now = self._runner.sink.sizes(events), self._clock.monotonic()
        if full := list(self._batcher.add(chunk, events, digests, positions, now, sizes=sizes)):
            self._lane.add(full)
        return bool(full)

    def _expect(self, chunk: Chunk, found: RecoveredChunk | None) -> Positions:
        """What of a chunk goes to this sink, and is neither resolved there nor in a batch."""
        positions = chunk.routed[self._runner.name]
        in_batches = resolved = 0
        if found:
            known = found.settled | found.in_batches
            positions = [position for position in positions if position not in known]
            in_batches, resolved = len(found.in_batches), len(found.settled)
        expected = len(positions) + in_batches
        unmatched = len(chunk.events) - expected - resolved
        self._runner.recorder.expect(chunk, expected, resolved=resolved, unmatched=unmatched)
        return positions
