"""Notifications of Genesys Cloud as a source of events, which go into the spool.

What is sent while nobody listens cannot be read again. So a channel is replaced before it ends, and both are
listened to for a while; and where there was none, that is told as a gap, from when to when: in the log, the
audit file, the metrics and the status, also after a crash.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from ingestd.core.backoff import Backoff
from ingestd.core.chunk import Chunk, Keeper
from ingestd.core.clock import Clock, wait_until_set
from ingestd.core.receipt import OrderedAcks, Receipt
from ingestd.core.text import printable
from ingestd.core.units import rfc3339
from ingestd.sources.broker.chunks import Cutter
from ingestd.sources.broker.formats import reader_of
from ingestd.sources.broker.messages import Message, place_of, sequence_of
from ingestd.sources.broker.source import BrokerAway, Outage, SourceCounts, raise_failure, watch_tasks
from ingestd.sources.genesys.channel import MAX_TOPICS, Channel, Ended, Notification, digest_of
from ingestd.sources.genesys.settings import NotificationsConfig
from ingestd.sources.source import Position
from ingestd.store.connection import StoreFailed
from ingestd.store.journal import Journal
from ingestd.telemetry.audit_entry import Audit, AuditEntry

_RETRY = Backoff(base_s=0.2, cap_s=15.0)
_READ_AHEAD, _READ_AHEAD_BYTES = 2_000, 8 * 1024 * 1024
"""What nobody has asked for yet: with so many events, or bytes of them, the sockets are not read."""
LINGER_S = 5.0
"""How long a channel that was replaced is still listened to."""

MakeChannel = Callable[[], Channel]


class NotificationsSource:
    """``channel`` makes one that is not open yet. Nothing is read again from a place here: ``starts`` stays
    empty."""

    keeper = Keeper.SOURCE

    def __init__(
        self,
        name: str,
        settings: NotificationsConfig,
        journal: Journal,
        *,
        channel: MakeChannel,
        clock: Clock,
        rng: random.Random,
        warn: Callable[[str], None],
        audit: Audit,
    ) -> None:
        self.name = f"genesys_notifications.{name}"
        self.number, self.numbers = 0, [0]
        self.starts: dict[int, int] = {}
        self.counts = SourceCounts()
        self._settings = settings
        self._journal = journal
        self._make = channel
        self._clock = clock
        self._rng = rng
        self._warn = warn
        self.outage = Outage(self.name, self.counts, warn, clock)
        self._audit = audit
        topics = [*dict.fromkeys(settings.topics)]
        parts = [topics[at : at + MAX_TOPICS] for at in range(0, len(topics), MAX_TOPICS)]
        self._lanes = [_Lane(part) for part in parts]
        self._arrived: list[Message] = []
        self._arrived_bytes = self._last_number = 0
        self._news = asyncio.Event()
        self._room: asyncio.Future[None] | None = None
        self._stopped = False
        self._tasks: list[asyncio.Task[None]] = []
        self._acks = OrderedAcks(self.ack)
        self._ended_at = place_of(1)

    async def open(self) -> None:
        """Raises BrokerAway where not all topics can be listened to now."""
        path = f"Genesys notifications {self.name}"
        state = await self._journal.find_stream(path, b"notifications", now=self._clock.wall())
        self.number, self.numbers = state.number, [state.number]
        self._last_number = max(0, sequence_of(state.position) - 1)
        self._ended_at = place_of(self._last_number + 1)
        read = reader_of("event", unwrap=self._settings.unwrapper)
        self._cutter = Cutter(self.number, read, where=lambda one: one.subject)
        received_ns = state.mark[0]
        for lane in self._lanes:
            if not lane.channel:
                lane.gap_since = received_ns / 1e9
                lane.channel = await self._opened(lane)
        self._note_time()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._keep(lane)) for lane in self._lanes]
        watch_tasks(self._tasks, self._news)

    async def chunks(self) -> AsyncIterator[tuple[Chunk, Receipt]]:
        while not self._stopped:
            await self._news.wait()
            self._news.clear()
            raise_failure(self._tasks)
            messages, self._arrived, self._arrived_bytes = self._arrived, [], 0
            room, self._room = self._room, None
            if room and not room.done():
                room.set_result(None)
            for chunk in self._cutter.cut(messages):
                chunk.mark = (min(chunk.mark[0], self._whole_until_ns()), b"")
                end = Position(chunk.end, chunk.next_line, chunk.mark)
                chunk.receipt = self._acks.receipt(len(chunk.events), end, self._clock.monotonic())
                yield chunk, chunk.receipt

    def ack(self, position: Position) -> None:
        self._ended_at = position.offset
        self._journal.moved(self.number, position.offset, position.next_line, position.mark)

    def stop(self) -> None:
        self._stopped = True
        self._news.set()

    async def close(self) -> None:
        """What came and is not in the spool is part of the gap that the next start tells."""
        self.stop()
        tasks: list[asyncio.Task[Any]] = [*self._tasks]
        tasks += [task for lane in self._lanes for task in (lane.reading, lane.ending) if task]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for lane in self._lanes:
            for channel in filter(None, (lane.channel, lane.before)):
                with suppress(Exception):
                    await channel.close(forget=True)
        self.counts.connected = False

    async def nothing_before(self, number: int, place: int, reached: int) -> bool:
        """Nothing of it is sent without the spool."""
        return True

    @property
    def oldest_s(self) -> float:
        since = self._acks.oldest_since
        return 0.0 if since is None else self._clock.monotonic() - since

    # --- channels ---

    async def _keep(self, lane: "_Lane") -> None:
        """Listen; replace the channel in time; where it is lost, open another as soon as that can be done."""
        failures = 0
        while True:
            assert lane.channel
            if await self._read(lane, lane.channel) is Ended.LOST:
                self._lost(lane)
            while True:
                try:
                    fresh = await self._opened(lane)
                    break
                except BrokerAway as error:
                    failures += 1
                    self.counts.problem = str(error)
                    if failures in (1, 10, 100):
                        self._warn(f"{self.name}: {error}; it is tried again")
                    await self._clock.sleep(_RETRY.delay(failures, rng=self._rng))
                    if lane.reading and lane.reading.done() and not lane.gap_since:
                        self._lost(lane)  # the old one did not last
            failures = 0
            self._replace(lane, fresh)

    async def _opened(self, lane: "_Lane") -> Channel:
        channel = self._make()
        await channel.open(lane.topics)
        if lane.gap_since:
            self._report_gap(lane)
        if channel.rejected and not lane.reported_rejected:
            lane.reported_rejected = True
            shown = ", ".join(printable(one)[:200] for one in channel.rejected[:5])
            self._warn(
                f"{self.name}: {len(channel.rejected)} topics are not allowed, as {shown}: give the client's"
                " role their permissions"
            )
        self.counts.connected = not any(other.gap_since for other in self._lanes)
        if self.counts.connected:
            self.outage.ends()
        return channel

    async def _read(self, lane: "_Lane", channel: Channel) -> Ended:
        """Until it should be replaced; it is read on meanwhile."""
        lane.reading = asyncio.create_task(channel.read(partial(self._take, lane)))
        left_s = self._settings.renew_after - (self._clock.monotonic() - channel.opened_at)
        ended = asyncio.Event()
        lane.reading.add_done_callback(lambda _: ended.set())
        if not await wait_until_set(ended, left_s, self._clock):
            return Ended.OLD
        why = lane.reading.result()
        if why is Ended.CLOSING:
            self._warn(f"{self.name}: Genesys will close a WebSocket: another one is opened")
            lane.reading = asyncio.create_task(channel.read(partial(self._take, lane), to_its_end=True))
        return why

    def _replace(self, lane: "_Lane", fresh: Channel) -> None:
        old, reading = lane.channel, lane.reading
        lane.before, lane.channel, lane.reading = old, fresh, None
        lane.ending = asyncio.create_task(self._let_go(lane, old, reading))

    async def _let_go(
        self, lane: "_Lane", old: Channel | None, reading: "asyncio.Task[Ended] | None"
    ) -> None:
        if reading and not reading.done():
            await self._clock.sleep(LINGER_S)
            reading.cancel()
        if old:
            await old.close(forget=True)
        if lane.before is old:
            lane.before = None

    # --- gaps ---

    def _lost(self, lane: "_Lane") -> None:
        if not lane.gap_since and lane.channel:
            lane.gap_since = lane.channel.received_at
            self.counts.problem = "a WebSocket is lost"
            self._warn(
                f"{self.name}: a WebSocket is lost; what is sent since {rfc3339(lane.gap_since)} is missed"
            )
        self.counts.connected = False

    def _report_gap(self, lane: "_Lane") -> None:
        now = self._clock.wall()
        since, lane.gap_since = lane.gap_since, 0.0
        self.counts.gaps += 1
        self.counts.gap_seconds += max(0.0, now - since)
        self.counts.last_gap = f"{rfc3339(since)} to {rfc3339(now)}"
        self._warn(
            f"{self.name}: gap: notifications from {self.counts.last_gap} were not received, and cannot be"
            f" read again ({len(lane.topics)} topics)"
        )
        self._audit(
            AuditEntry.SOURCE_GAP,
            source=self.name,
            since=rfc3339(since, "milliseconds"),
            until=rfc3339(now, "milliseconds"),
            topics=len(lane.topics),
        )

    def _whole_until_ns(self) -> int:
        """The last moment before which nothing was missed."""
        gaps = [lane.gap_since for lane in self._lanes if lane.gap_since]
        return int(min([*gaps, self._clock.wall()]) * 1e9)

    # --- messages ---

    def _take(
        self, lane: "_Lane", channel: Channel, text: str, envelope: Notification
    ) -> "asyncio.Future[None] | None":
        if not text:
            self._note_time()
            return None
        digest = digest_of(text)
        self.counts.messages += 1
        self.counts.last_message = self._clock.wall()
        other = lane.before if channel is lane.channel else lane.channel
        if other and other is not channel and other.knows(digest):
            self.counts.redelivered += 1
            return None
        channel.remember(digest)
        self._last_number += 1
        payload = text.encode("utf-8", "surrogatepass")
        correlation = str((envelope.metadata or {}).get("CorrelationId", ""))[:100]
        where = f"topic {envelope.topicName[:300]}, correlation id {printable(correlation) or 'none'}"
        self._arrived.append(
            Message(self._last_number, int(self._clock.wall() * 1e9), payload, {}, printable(where))
        )
        self._arrived_bytes += len(payload)
        self._news.set()
        if len(self._arrived) < _READ_AHEAD and self._arrived_bytes < _READ_AHEAD_BYTES:
            return None
        self._room = self._room or asyncio.get_running_loop().create_future()
        return self._room

    def _note_time(self) -> None:
        """A heartbeat: until here all is on disk. So the next start knows how long nobody listened."""
        if self._arrived or self._acks.oldest_since is not None:
            return
        self._journal.moved(self.number, self._ended_at, 1, (self._whole_until_ns(), b""))
        committing = asyncio.ensure_future(self._journal.commit())
        committing.add_done_callback(_ignore_store)


class _Lane:
    """A part of the topics, and its channel. ``before``: the one that was replaced, while it is read on.
    ``gap_since``: wall time since when nobody listens; 0: somebody does."""

    def __init__(self, topics: Sequence[str]) -> None:
        self.topics = topics
        self.channel: Channel | None = None
        self.before: Channel | None = None
        self.reading: asyncio.Task[Ended] | None = None
        self.ending: asyncio.Task[None] | None = None
        self.gap_since = 0.0
        self.reported_rejected = False


def _ignore_store(committing: "asyncio.Future[None]") -> None:
    if not committing.cancelled():
        with suppress(StoreFailed):
            committing.result()
