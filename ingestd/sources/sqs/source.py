"""A queue of Amazon SQS as a source of events. A message is deleted once its events are settled on disk here.

SQS gives a message again that was not deleted in time, and in any order. One that this process still has is
known by its id, and takes the newer handle; one of an earlier process is a duplicate by its events' keys.
"""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from ingestd.core.backoff import Backoff
from ingestd.core.chunk import Chunk, Keeper
from ingestd.core.clock import Clock
from ingestd.core.receipt import Receipt
from ingestd.sources.broker.chunks import MAX_CHUNK_MESSAGES, Cutter
from ingestd.sources.broker.formats import reader_of
from ingestd.sources.broker.messages import Message, sequence_of
from ingestd.sources.broker.source import BrokerAway, Outage, SourceCounts, raise_failure, watch_tasks
from ingestd.sources.source import Position
from ingestd.sources.sqs.queue import MAX_ENTRIES, Failed, SqsError, SqsMessage, SqsQueue, is_denied, tens
from ingestd.sources.sqs.settings import SqsConfig
from ingestd.store.connection import StoreFailed
from ingestd.store.journal import Journal

_RETRY = Backoff(base_s=0.2, cap_s=10.0)
_READ_AHEAD, _READ_AHEAD_BYTES = 100, 4 * 1024 * 1024
"""What nobody has asked for yet: with so many messages, or bytes of them, SQS is asked for no more."""
_DELETE_EVERY_S, _DELETE_AGAIN_S = 0.02, 1.0
_MEASURE_EVERY_S = 15.0
_CLOSE_S = 5.0
_AT_ONCE = 8
"""Requests that delete or extend at the same time."""
_EXTEND_AT = 0.7
"""Share of its visibility that a message has left when it is extended."""


@dataclass(slots=True)
class _Held:
    """A message that is not deleted. ``until``: when SQS gives it again, by the monotonic clock. ``settled``:
    it is to be deleted."""

    handle: str
    until: float
    sent_ms: int
    settled: bool = False


class SqsSource:
    """``queue`` is closed with it. Nothing is read again from a place here: ``starts`` stays empty."""

    keeper = Keeper.SOURCE

    def __init__(
        self,
        name: str,
        settings: SqsConfig,
        queue: SqsQueue,
        journal: Journal,
        *,
        clock: Clock,
        rng: random.Random,
        warn: Callable[[str], None],
        chunk_messages: int = MAX_CHUNK_MESSAGES,
    ) -> None:
        self._chunk_messages = chunk_messages
        self.name = f"sqs.{name}"
        self.number, self.numbers = 0, [0]
        self.starts: dict[int, int] = {}
        self.counts = SourceCounts()
        self._settings = settings
        self._queue = queue
        self._journal = journal
        self._clock = clock
        self._rng = rng
        self._warn = warn
        self._held: dict[str, _Held] = {}  # by id, in the order in which they came
        self._to_delete: dict[str, None] = {}
        self._arrived: list[Message] = []
        self._arrived_bytes = self._asked = 0
        self._ids: dict[int, str] = {}  # by the number of a message that is not in a receipt yet
        self._last_number = 0
        self._changed = asyncio.Event()
        self._news = asyncio.Event()
        self._settled = asyncio.Event()
        self._is_busy = False
        self._stopped = False
        self._failures = 0
        self.outage = Outage(self.name, self.counts, warn, clock)
        self._tasks: list[asyncio.Task[None]] = []

    async def open(self) -> None:
        """Raises BrokerAway where there is no such queue, or no way to it."""
        try:
            await self._measure_once()
        except SqsError as error:
            if not is_denied(error):
                raise
        path = f"SQS queue {self._queue.url}"
        identity = hashlib.blake2b(path.encode(), digest_size=16).digest()
        state = await self._journal.find_stream(path, identity, now=self._clock.wall())
        self.number, self.numbers = state.number, [state.number]
        self._last_number = max(0, sequence_of(state.position) - 1)
        read = reader_of(self._settings.format, unwrap=self._settings.unwrapper)
        self._cutter = Cutter(
            self.number, read, where=lambda one: one.subject, max_messages=self._chunk_messages
        )
        loop = asyncio.get_running_loop()
        pollers = [partial(self._poll, is_first=not n) for n in range(self._settings.pollers)]
        works: list[Callable[[], Coroutine[Any, Any, None]]] = [*pollers, self._delete, self._extend]
        self._tasks = [loop.create_task(work()) for work in (*works, self._measure)]
        watch_tasks(self._tasks, self._news)

    async def chunks(self) -> AsyncIterator[tuple[Chunk, Receipt]]:
        while not self._stopped:
            await self._news.wait()
            self._news.clear()
            raise_failure(self._tasks)
            messages, self._arrived, self._arrived_bytes = self._arrived, [], 0
            self._changed.set()
            for chunk in self._cutter.cut(messages):
                first, end = sequence_of(chunk.start), sequence_of(chunk.end)
                ids = [self._ids.pop(number) for number in range(first, end)]
                position = Position(chunk.end, chunk.next_line, chunk.mark)
                chunk.receipt = Receipt(len(chunk.events), partial(self._is_settled, ids, position))
                yield chunk, chunk.receipt
                if not chunk.events:
                    self._is_settled(ids, position)

    def ack(self, position: Position) -> None:
        self._journal.moved(self.number, position.offset, position.next_line, position.mark)

    def stop(self) -> None:
        self._stopped = True
        self._news.set()
        self._changed.set()

    async def close(self) -> None:
        """What is settled by now is deleted, and what is not can be had by others at once."""
        self.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(BrokerAway, TimeoutError, StoreFailed):
            async with self._clock.timeout(_CLOSE_S):
                await self._delete_settled()
                left = {id_: one.handle for id_, one in self._held.items() if not one.settled}
                await self._in_tens(left, partial(self._queue.extend, seconds=0))
        await self._queue.aclose()
        self.counts.connected = False

    async def nothing_before(self, number: int, place: int, reached: int) -> bool:
        """Nothing of it is sent without the spool."""
        return True

    @property
    def oldest_s(self) -> float:
        """Age of the message that was taken first and is not settled."""
        for one in self._held.values():
            if not one.settled:
                return max(0.0, self._clock.wall() - one.sent_ms / 1000)
        return 0.0

    # --- messages ---

    async def _poll(self, *, is_first: bool) -> None:
        """One asks all the time, while there is room; others only while all that is asked for comes."""
        while not self._stopped:
            if not (most := self._room()) or not (is_first or self._is_busy):
                self._changed.clear()
                await self._changed.wait()
                continue
            self._asked += most
            try:
                messages = await self._queue.receive(most)
            except BrokerAway as error:
                await self._pause(error)
                continue
            finally:
                self._asked -= most
            self.outage.ends()
            self._failures = 0
            self._is_busy = len(messages) == most
            for message in messages:
                self._take(message)
            self._changed.set()
            if self._arrived:
                self._news.set()

    def _room(self) -> int:
        if len(self._arrived) >= _READ_AHEAD or self._arrived_bytes >= _READ_AHEAD_BYTES:
            return 0
        return min(MAX_ENTRIES, max(0, self._settings.max_in_flight - len(self._held) - self._asked))

    def _take(self, message: SqsMessage) -> None:
        self.counts.messages += 1
        self.counts.last_message = self._clock.wall()
        until = self._clock.monotonic() + self._settings.visibility
        if (one := self._held.get(message.id)) or message.received > 1:
            self.counts.redelivered += 1
        if one:
            one.handle, one.until = message.handle, until
            if one.settled:
                self._to_be_deleted([message.id])
            return
        self._last_number += 1
        self._held[message.id] = _Held(message.handle, until, message.sent_ms)
        self.counts.unacked = len(self._held)
        self._ids[self._last_number] = message.id
        where = f"message {message.id} of {self._queue.url}"
        payload = message.body.encode("utf-8", "surrogatepass")
        now_ns = int(self._clock.wall() * 1e9)
        self._arrived_bytes += len(payload)
        self._arrived.append(Message(self._last_number, now_ns, payload, message.headers, where))

    async def _pause(self, error: BrokerAway) -> None:
        self._failures += 1
        self.outage.goes_on(str(error), reported=self._failures in (1, 10, 100))
        await self._clock.sleep(_RETRY.delay(self._failures, rng=self._rng))

    # --- what is settled, and what is on its way ---

    def _is_settled(self, ids: Iterable[str], position: Position) -> None:
        self.ack(position)
        for id_ in ids:
            self._held[id_].settled = True
        self._to_be_deleted(ids)

    def _to_be_deleted(self, ids: Iterable[str]) -> None:
        self._to_delete.update(dict.fromkeys(ids))
        self._settled.set()

    async def _delete(self) -> None:
        while True:
            await self._settled.wait()
            self._settled.clear()
            try:
                await self._delete_settled()
            except BrokerAway as error:
                await self._pause(error)
            except StoreFailed:
                return
            if self._to_delete:
                self._settled.set()
            await self._clock.sleep(_DELETE_AGAIN_S if self._to_delete else _DELETE_EVERY_S)

    async def _delete_settled(self) -> None:
        """What is settled becomes durable here first: a dead letter, and that an event was delivered."""
        if not self._to_delete:
            return
        await self._journal.commit()
        handles = {id_: self._held[id_].handle for id_ in self._to_delete}
        await self._in_tens(handles, self._delete_ten)

    async def _delete_ten(self, handles: Mapping[str, str]) -> list[Failed]:
        """What failed for a passing reason stays to be deleted; with a handle that is too old, until the
        message comes again, or its time at SQS is over."""
        failed = {one.id: one for one in await self._queue.delete(handles)}
        for id_, handle in handles.items():
            one = failed.get(id_)
            if self._held[id_].handle != handle:
                continue  # it came again meanwhile
            if one is None:
                del self._held[id_], self._to_delete[id_]
            elif one.ours:
                del self._to_delete[id_]
        self.counts.unacked = len(self._held)
        self._changed.set()
        return list(failed.values())

    async def _extend(self) -> None:
        """What is on its way is not to be given out again meanwhile. What is settled and cannot be deleted is
        forgotten when it has not come again."""
        visibility_s = self._settings.visibility
        while True:
            await self._clock.sleep(visibility_s / 3)
            now = self._clock.monotonic()
            for id_, one in [*self._held.items()]:
                if one.settled and id_ not in self._to_delete and now > one.until + 2 * visibility_s:
                    del self._held[id_]
            self.counts.unacked = len(self._held)
            due = {
                id_: one.handle
                for id_, one in self._held.items()
                if not one.settled and now <= one.until <= now + visibility_s * _EXTEND_AT
            }
            with suppress(BrokerAway):
                await self._in_tens(due, partial(self._extend_ten, until=now + visibility_s))

    async def _extend_ten(self, handles: Mapping[str, str], *, until: float) -> list[Failed]:
        failed = await self._queue.extend(handles)
        for id_ in handles.keys() - {one.id for one in failed}:
            if one := self._held.get(id_):
                one.until = until
        return failed

    async def _in_tens(
        self, handles: Mapping[str, str], call: Callable[[Mapping[str, str]], Awaitable[list[Failed]]]
    ) -> None:
        """Raises the BrokerAway of one that failed as a whole, after all of them."""
        turns = tens(handles)
        away: list[BrokerAway] = []

        async def work() -> None:
            for ten in turns:
                try:
                    await call(ten)
                except BrokerAway as error:
                    away.append(error)
                    return

        await asyncio.gather(*(work() for _ in range(min(_AT_ONCE, len(handles)))))
        if away:
            raise away[0]

    async def _measure(self) -> None:
        while True:
            await self._clock.sleep(_MEASURE_EVERY_S)
            with suppress(BrokerAway):
                await self._measure_once()

    async def _measure_once(self) -> None:
        found = await self._queue.attributes()
        pending = found.get("ApproximateNumberOfMessages", "0")
        self.counts.pending = int(pending) if pending.isdigit() else 0
