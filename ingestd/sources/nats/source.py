"""A stream of NATS JetStream as a source of events. What is resolved is acknowledged, once that is on disk.

The journal knows how far the stream is resolved, as it does of a file, and the consumer's acknowledgements
follow it. A message that comes again although it is resolved, or is on its way in this process, is passed
over and counted.
"""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial

from ingestd.core.backoff import Backoff
from ingestd.core.chunk import Chunk, Keeper
from ingestd.core.clock import Clock, wait_until_set
from ingestd.core.receipt import Receipt
from ingestd.core.text import printable
from ingestd.sources.broker.chunks import MAX_CHUNK_MESSAGES, Cutter, KnownCut
from ingestd.sources.broker.formats import reader_of
from ingestd.sources.broker.messages import Message, place_of, sequence_of
from ingestd.sources.broker.source import BrokerAway, Outage, SourceCounts
from ingestd.sources.nats.acknowledgements import Acknowledgements
from ingestd.sources.nats.connection import JetStreamError, NatsConnection
from ingestd.sources.nats.consumer import Consumer, Delivery
from ingestd.sources.nats.held_back import HeldBack
from ingestd.sources.nats.settings import NatsConfig
from ingestd.sources.nats.stream_life import StreamLife, another_words, keeps_all, lost_words, other_words
from ingestd.sources.nats.stream_state import StreamState, read_stream, timestamp_of
from ingestd.sources.source import Position
from ingestd.store.connection import StoreFailed
from ingestd.store.journal import Journal

_RETRY = Backoff(base_s=0.2, cap_s=10.0)
_LAG_EVERY_S = 5.0
_CLOSE_S = 5.0


class NatsSource:
    """``cuts``: by the number of a source the chunks that an earlier process had cut and may have sent.

    Number and position are those of the stream that has the name now: one that was deleted and made again,
    or has lost its end, is another source to the journal.
    """

    keeper = Keeper.SOURCE

    def __init__(
        self,
        name: str,
        settings: NatsConfig,
        journal: Journal,
        *,
        cuts: Callable[[int], Sequence[KnownCut]],
        clock: Clock,
        rng: random.Random,
        warn: Callable[[str], None],
        chunk_messages: int = MAX_CHUNK_MESSAGES,
    ) -> None:
        read = reader_of(settings.format)
        self._cutter_of = partial(Cutter, read=read, where=self._where, max_messages=chunk_messages)
        self.name = f"nats.{name}"
        self.number, self.numbers = 0, [0]
        self.counts = SourceCounts()
        self.starts: dict[int, int] = {}
        self._settings = settings
        self._journal = journal
        self._cuts = cuts
        self._clock = clock
        self._rng = rng
        self._warn = warn
        self._news = asyncio.Event()
        self._stopped = False
        self._connection: NatsConnection | None = None
        self._consumer: Consumer | None = None
        self._acknowledgements = Acknowledgements(journal, clock, self._ended)
        self._life = StreamLife(b"", 0, self._ack_of(0))
        self._stream = StreamState("", "", 0, 0, 0)
        self._cutter = self._cutter_of(0)
        self._begun = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._owner = f"{rng.getrandbits(128):032x}"
        self._failures = 0
        self._begun_at = 0.0
        self.outage = Outage(self.name, self.counts, warn, clock)
        named = f"{self.name}: consumer {settings.consumer} of {settings.stream}"
        self._held_back = HeldBack(named, self.counts, warn, clock)
        self._given = 0

    async def open(self) -> None:
        """Raises BrokerAway where it cannot be opened now, UserError where it never can."""
        await self._begin()
        self.starts = {self.number: self._life.resolved + 1}
        loop = asyncio.get_running_loop()
        works = (self._acknowledgements.run, self._acknowledgements.renew, self._measure)
        self._tasks = [loop.create_task(work()) for work in works]

    async def chunks(self) -> AsyncIterator[tuple[Chunk, Receipt]]:
        while not self._stopped:
            try:
                if self._consumer is None:
                    await self._begin()
                assert self._consumer is not None
                deliveries = await self._consumer.deliveries()
                if self.outage.is_on:  # not over before the new session has lasted a while
                    self._failures = 0
                    self.outage.ends(self._begun_at)
                if gaps := self._life.gaps(one.message.sequence for one in deliveries):
                    await self._look_for_deleted(gaps)
                overdue = await self._held_back.overdue(self._cutter, self._consumer, idle=not deliveries)
            except BrokerAway as error:
                await self._pause(error)
                continue
            self.counts.last_message = self._clock.wall() if deliveries else self.counts.last_message
            self._acknowledgements.add(deliveries)
            fresh = [one for delivery in deliveries if (one := self._take(delivery))]
            for chunk in [*self._cutter.cut(fresh), *overdue]:
                self._given = chunk.end
                end = Position(chunk.end, chunk.next_line, chunk.mark)
                chunk.receipt = self._life.acks.receipt(len(chunk.events), end, self._clock.monotonic())
                yield chunk, chunk.receipt

    def ack(self, position: Position) -> None:
        self._ack_of(self.number)(position)

    def stop(self) -> None:
        self._stopped = True
        self._news.set()

    async def close(self) -> None:
        """What is resolved by now is acknowledged, if the broker is there."""
        self.stop()
        await _end(self._tasks)
        with suppress(BrokerAway, TimeoutError, StoreFailed):
            async with self._clock.timeout(_CLOSE_S):
                await self._acknowledgements.send()
        await self._let_go("closed")

    async def nothing_before(self, number: int, place: int, reached: int) -> bool:
        """See ``NothingBefore``."""
        consumer, life = self._consumer, self._life
        if not consumer or self._given > reached:
            return False
        try:
            lag = await consumer.lag()
        except (BrokerAway, JetStreamError):
            return False
        all_consumed = lag.pending == 0 and lag.all_came and consumer.received <= life.consumed
        all_consumed = all_consumed and not self._cutter.is_waiting  # what came while we asked may be held
        return all_consumed and life.consumed < sequence_of(place) and self._given <= reached

    @property
    def oldest_s(self) -> float:
        """Age of the oldest message that was taken and is not settled."""
        oldest = self._acknowledgements.oldest_stored_at
        return 0.0 if oldest is None else max(0.0, self._clock.wall() - oldest)

    # --- a session ---

    async def _begin(self) -> None:
        lost = partial(self._ended, "the connection is lost")
        connection = NatsConnection(self._settings, self._clock, lost)
        await connection.open()
        self._connection = connection
        try:
            stream = await read_stream(connection, self._settings)
            await self._recognise(connection, stream)
            consumer = Consumer(connection, self._settings, self._clock, self._news, owner=self._owner)
            life = self._life
            self._stream = stream
            self._report_lost(life.pass_deleted(stream, self._settings.subjects))
            stands = await consumer.begin(stream, after=None if life.is_new else life.resolved)
            if life.is_new:
                life.begin(stands)
                self._journal.moved(life.number, place_of(stands + 1), 1)
                await self._journal.commit()
        except BaseException:
            await self._let_go("it was not opened")
            raise
        self._consumer = consumer
        self._acknowledgements.begin(consumer, self._life)
        self.counts.connected, self.counts.problem, self.counts.unacked = True, "", 0
        self._begun_at = self._clock.monotonic()
        self._begun.set()

    async def _look_for_deleted(self, gaps: Sequence[tuple[int, int]]) -> None:
        """The stream may have deleted what was to come next. Raises BrokerAway."""
        connection, consumer, settings = self._connection, self._consumer, self._settings
        if not connection or not consumer or not self._notices_deleted(consumer):
            return
        stream = await read_stream(connection, settings)
        for after, before in gaps:
            self._report_lost(self._life.pass_deleted(stream, settings.subjects, after=after, before=before))

    def _notices_deleted(self, consumer: Consumer) -> bool:
        """Whether it gives out all that the stream has: then what it leaves out was deleted."""
        subjects = self._settings.subjects
        is_all = bool(subjects) or not consumer.is_filtered
        return is_all and not self._life.is_over and keeps_all(self._stream, subjects)

    def _report_lost(self, deleted: range) -> None:
        if deleted:
            self.counts.lost += len(deleted)
            self._warn(f"{self.name}: {lost_words(self._settings.stream, deleted)}")

    async def _recognise(self, connection: NatsConnection, stream: StreamState) -> None:
        """Whether it is the stream that was read before, and still has what was read of it."""
        identity = hashlib.blake2b(stream.created.encode(), digest_size=16).digest()
        if identity == self._life.identity and not self._life.is_over:
            return
        settings = self._settings
        path = f"NATS stream {settings.stream}, consumer {settings.consumer}"
        state = await self._journal.find_stream(
            path, identity, now=self._clock.wall(), as_new=self._life.is_over
        )
        position, (read_at, _) = sequence_of(state.position), state.mark
        if position > 1 and not await self._still_has(connection, stream, position - 1, read_at):
            self._warn(f"{self.name}: {other_words(settings.stream)}")
            state = await self._journal.find_stream(path, identity, now=self._clock.wall(), as_new=True)
            position, read_at = 0, 0
        elif self._life.identity not in (b"", identity):
            self._warn(f"{self.name}: {another_words(settings.stream, position - 1)}")
        self.number, self.numbers = state.number, [state.number]
        self._life = StreamLife(
            identity, state.number, self._ack_of(state.number), max(0, position - 1), read_at
        )
        self._life.is_new = not state.position
        self._cutter = self._cutter_of(state.number, known=self._cuts(state.number))

    async def _still_has(
        self, connection: NatsConnection, stream: StreamState, last: int, read_at: int
    ) -> bool:
        """False: it has lost its end, as with a power cut before it was synced, or is an older copy."""
        if stream.last < last:
            return False
        stored = await timestamp_of(connection, self._settings, last)
        return not stored or not read_at or stored == read_at

    async def _pause(self, error: BrokerAway) -> None:
        if self._stopped:
            return
        self._failures += 1
        self.outage.goes_on(str(error), reported=self._failures in (1, 10, 100))
        await self._let_go(str(error))
        self._news.clear()
        if not self._stopped:
            await wait_until_set(self._news, _RETRY.delay(self._failures, rng=self._rng), self._clock)

    async def _let_go(self, why: str) -> None:
        self._ended(why)
        connection, self._connection, self._consumer = self._connection, None, None
        self._acknowledgements.end()
        if connection:
            await connection.close()

    def _ended(self, why: str) -> None:
        self.counts.connected = False
        if self._consumer:
            self._consumer.end(why)

    # --- messages ---

    def _where(self, message: Message) -> str:
        stream, subject = self._settings.stream, printable(message.subject)
        return f"stream {stream}, sequence {message.sequence}, subject {subject}"

    def _take(self, delivery: Delivery) -> Message | None:
        """None: it was taken before."""
        message, life = delivery.message, self._life
        sequence = message.sequence
        self.counts.messages += 1
        assert self._consumer is not None
        if sequence <= max(life.consumed, self._consumer.delivered_before):
            self.counts.redelivered += 1
        if sequence > life.consumed:
            if not life.is_over:
                life.consumed, life.consumed_at = sequence, message.mark
                return message
        elif message.mark > life.consumed_at:
            life.is_over = True
            self._warn(f"{self.name}: {other_words(self._settings.stream)}")
            self._consumer.end("its stream is to be recognised")
        elif sequence <= life.resolved:
            self._acknowledgements.resolved()
        return None

    # --- what is resolved, and what is yet to come ---

    def _ack_of(self, number: int) -> Callable[[Position], None]:
        def ack(position: Position) -> None:
            self._journal.moved(number, position.offset, position.next_line, position.mark)
            if number == self._life.number:
                self._life.resolved = sequence_of(position.offset) - 1
                self._acknowledgements.resolved()

        return ack

    async def _measure(self) -> None:
        while True:
            self._begun.clear()
            if consumer := self._consumer:
                with suppress(BrokerAway, JetStreamError):
                    lag, counts = await consumer.lag(), self.counts
                    counts.pending, counts.unacked, counts.stranded = lag[:3]
                    self._held_back.note(lag)
                    # Where all that waits was deleted no gap tells of it.
                    idle = lag.all_came and consumer.received <= self._life.consumed
                    if lag.stream and idle and self._notices_deleted(consumer):
                        self._report_lost(self._life.pass_deleted(lag.stream, self._settings.subjects))
            await wait_until_set(self._begun, _LAG_EVERY_S, self._clock)


async def _end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel them until they are done: nats-py's ``publish`` takes a cancellation for nothing."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.1)
