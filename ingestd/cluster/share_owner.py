"""A worker's hold on one share: take it over, deliver its chunks to the sink, let it go.

    log ─▶ state, window ─▶ consumer ─▶ chunk ─▶ window ─▶ batcher ─▶ lane ─▶ event API
                               ▲                                       │ freeze, outcomes
                               └──── acknowledged ◀──── log ◀──────────┘

Whatever goes wrong ends it, with nothing lost: what is not in the log comes again to the next owner, and what
is there goes out as the same bytes under the same key.
"""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio

from ingestd.cluster.chunk_retention import ChunkRetention
from ingestd.cluster.generations import learn_older
from ingestd.cluster.letter_mirror import LetterMirror
from ingestd.cluster.letter_stream import StreamLetter
from ingestd.cluster.names import ALL, Share
from ingestd.cluster.share_consumer import ShareConsumer
from ingestd.cluster.share_feed import ShareFeed
from ingestd.cluster.share_log import ShareLog
from ingestd.cluster.share_state import ShareState, begin_at, restore
from ingestd.cluster.shared_spool import SharedSpool
from ingestd.cluster.sink_parts import SinkParts
from ingestd.cluster.stream_identity import look_at_stream
from ingestd.cluster.stream_journal import StreamJournal
from ingestd.cluster.stream_window import StreamWindow
from ingestd.core.ledger import Ledger
from ingestd.delivery.queues import flush_by_age
from ingestd.recording.event_recorder import EventRecorder
from ingestd.recording.unconfirmed_events import UnconfirmedEvents

if TYPE_CHECKING:
    from ingestd.delivery.lane import Lane
    from ingestd.delivery.sink_runner import RetryWorker
    from ingestd.recording.sink_recorder import SinkRecorder

_SETTLE_S = 0.1
_PURGE_EVERY = 20
_LOOK_EVERY = 5


class ShareOwner:
    """``run`` until it raises, or after ``leave``. ``max_count``, ``max_age_s``: of the window."""

    def __init__(
        self, share: Share, spool: SharedSpool, parts: SinkParts, *, max_count: int, max_age_s: float
    ) -> None:
        self.share = share
        self._spool = spool
        self._parts = parts
        self._clock = parts.clock
        self._max_age_s = max_age_s
        self.retention = ChunkRetention(share, spool, parts.clock)
        self._window = StreamWindow(spool.secret, max_count=max_count, max_age_s=max_age_s)
        self._log = ShareLog(spool.connection, spool.names, share, parts.clock)
        self._consumer = ShareConsumer(
            spool.connection, spool.names, share, parts.clock, max_bytes=spool.held_bytes
        )
        self.ledger = Ledger()
        self.is_active = False
        self.since = 0.0
        self._journal: StreamJournal
        self.recorder: SinkRecorder
        self.lane: Lane
        self._letters: LetterMirror
        self._retry: RetryWorker
        self._chunks: ShareFeed
        self._batcher = parts.make_batcher()
        self._turn = asyncio.Lock()
        self._begun = asyncio.Event()
        self._admitted = 0
        self._leaving = anyio.Event()

    @property
    def lag(self) -> int:
        """Chunks that did not come yet."""
        return self._consumer.pending

    @property
    def oldest_since(self) -> float | None:
        return self._chunks.oldest_since if self.is_active else None

    # --- its life ---

    async def run(self) -> None:
        """Returns after ``leave``. Raises LogFenced, LetGo, BrokerAway, JetStreamError: the share is not
        ours any more."""
        await self._take()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._consumer.run)
                tasks.start_soon(self._settle)
                tasks.start_soon(flush_by_age, self._batcher, self._begun, self._flush, self._clock)
                feeding = anyio.CancelScope()
                tasks.start_soon(self._feed, feeding)
                tasks.start_soon(self._stop_feeding, feeding)
                tasks.start_soon(self._retry.run)
                await self.lane.run()
                tasks.cancel_scope.cancel()
            await self._journal.commit()
            await self._consumer.settled(self._journal.durable_floor)
            await self._consumer.unpin()
        finally:
            self.is_active = False
            with anyio.CancelScope(shield=True):
                await self._consumer.close()

    def leave(self, within_s: float) -> None:
        """What is on its way is finished, as far as that works in time; the rest is for the next owner."""
        if not self._leaving.is_set():
            self._leaving.set()
            if self.is_active:
                self.lane.drain(within_s)
                self._clock.call_later(within_s, self.lane.abandon)

    def hold(self, on: bool) -> None:
        """While it is ``on`` nothing more is sent: a person has parked the sink."""
        lane: Lane | None = getattr(self, "lane", None)
        if lane and lane.circuit.held != on:
            lane.hold(on)

    async def _stop_feeding(self, feeding: anyio.CancelScope) -> None:
        await self._leaving.wait()
        feeding.cancel()
        async with self._turn:
            self.lane.close()

    async def _take(self) -> None:
        """From here on an owner before this one can write nothing more."""
        spool = self._spool
        known_upto = await learn_older(
            spool.connection,
            spool.names,
            spool.installation,
            self.share,
            self._window,
            self._max_age_s,
            self._clock,
        )
        state = restore(await self._log.read(), self._window, self.share.sink)
        self._window.upto = max(state.upto, known_upto)
        lost = await self._compare_stream(state)
        counts = state.counts
        ledger = self.ledger = Ledger(
            accepted=counts.total,
            delivered=counts.delivered,
            duplicate=counts.duplicate,
            dead_lettered=counts.dead_lettered,
            rejected=counts.rejected,
            unmatched=counts.unmatched,
            retried_delivered=counts.retried,
        )
        parts = self._parts
        letters = self._letters = LetterMirror(
            spool.connection,
            spool.names,
            self.share,
            is_mine=self._is_mine,
            only_sent=self.share.partition not in (ALL, *spool.installation.generations[-1]),
            most_bytes=spool.held_bytes,
            clock=parts.clock,
        )
        self._journal = StreamJournal(
            spool.connection,
            spool.names,
            self.share,
            self._log,
            owner=spool.owner,
            window=self._window,
            ledger=ledger,
            state=state,
            letters=letters,
            clock=parts.clock,
            rng=parts.rng,
        )
        self.since = self._journal.since
        self._journal.drop(lost)
        await self._journal.begin()
        if state.letters:
            await self._journal.store_letters(state.letters)
        await letters.store(state.changes)
        self._journal.stored()
        await letters.take_over(state.again)
        events = EventRecorder(
            ledger=ledger,
            window=self._window,
            journal=self._journal,
            audit=parts.audit,
            clock=parts.clock,
            released=_nobody,
            unconfirmed=UnconfirmedEvents(ledger, [self.share.sink]),
            saw_copies=parts.show_duplicates,
        )
        self.recorder = parts.make_recorder(events, self._journal, self._batcher.learn, self._waiting)
        self.lane = parts.make_lane(self.recorder, spool.rates.get(self.share.sink))
        self.hold(spool.is_parked(self.share.sink))
        self._retry = parts.make_retry_worker(letters, self.lane, self.recorder)
        self._chunks = ShareFeed(
            self.share,
            parts,
            state,
            window=self._window,
            journal=self._journal,
            events=events,
            recorder=self.recorder,
            lane=self.lane,
            batcher=self._batcher,
        )
        self._consumer.unbounded = self._chunks.recovering
        await self._consumer.begin(state.reached.floor)
        self.is_active = True
        if self._leaving.is_set():
            self.lane.close()

    def _is_mine(self, letter: StreamLetter) -> bool:
        if self.share.partition == ALL:
            return True
        return self.share.partition in self._spool.splitter.split([letter.payload], [letter.digest or None])

    def look_at_letters(self) -> None:
        """A person did something with some of them."""
        if self.is_active:
            self._letters.news.set()

    def look_at_sinks(self) -> None:
        """One came, or was forgotten: of a full stream nothing else tells that chunks can go."""
        if self.is_active:
            self.retention.is_due = True
            self._journal.news.set()

    async def _compare_stream(self, state: ShareState) -> list[str]:
        """Whether the log is of what is in the stream: one that was made again, or lost its end in a power
        cut, gives its numbers to other chunks, and to pass these over would lose events without a word. Gives
        batches that cannot be whole any more."""
        spool = self._spool
        found = await look_at_stream(spool.connection, spool.names, self.share.partition, state)
        before, state.stream = state.stream, found.created
        if not before or not found.problem:
            return []
        lost = begin_at(state, self._window, found.first)
        self._parts.warn(
            f"{self.share}: {found.problem}; what it holds from {found.first} on is taken for new, and"
            f" {len(lost)} batches that held other chunks are given up: the rest of their events is sent"
            " under new idempotency keys"
        )
        return lost

    def _waiting(self) -> str:
        return f"{self.ledger.in_flight:,} events and {self.lag:,} chunks of {self.share} wait"

    # --- the way to the lane ---

    async def _feed(self, scope: anyio.CancelScope) -> None:
        with scope:
            while True:
                for delivery in await self._consumer.deliveries():
                    async with self._turn:
                        self._chunks.admit(delivery)
                        self._admitted += 1
                        self._consumer.unbounded = self._chunks.recovering
                        self._begun.set()
                    await self.lane.room()

    async def _flush(self) -> None:
        async with self._turn:
            deadline = self._batcher.deadline
            if deadline is not None and self._clock.monotonic() >= deadline:
                self.lane.add([self._batcher.flush()])

    # --- what is settled ---

    async def _settle(self) -> None:
        """What was noted becomes durable although nothing is sent; then it is acknowledged, and forgotten. It
        sleeps while there is nothing: a worker has many shares."""
        turn = 0
        while True:
            if not (self.retention.is_due or self._chunks.waits_for_chunks):
                await self._journal.news.wait()
            self._journal.news.clear()
            await self._clock.sleep(_SETTLE_S)
            turn += 1
            if turn % _LOOK_EVERY == 0 and self._chunks.waits_for_chunks:
                await self._look_for_more()
            await self._journal.commit()
            if await self._consumer.settled(self._journal.durable_floor):
                self.retention.is_due = True
            if turn % _PURGE_EVERY == 0 and self.retention.is_due and await self.retention.purge():
                await self._journal.forget(self._max_age_s)

    async def _look_for_more(self) -> None:
        """Chunks that the log speaks of may have been deleted, and none comes behind them that would tell."""
        if await self._consumer.all_came(self._admitted):
            async with self._turn:
                self._chunks.nothing_follows()
                self._consumer.unbounded = False


def _nobody(digests: Sequence[bytes], *, now: float) -> None:
    """Keys that are free again are noted with the letters of their events."""
