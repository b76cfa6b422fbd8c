"""Topics of Kafka as a source of events, read as a member of a consumer group.

The journal knows how far each partition is settled, as it does of a file, and what is committed follows it:
the lowest offset that is not settled. A commit has a note that says whose it is, so that a partition is told
apart that another member has read on, or that somebody has reset. See docs/decisions/015.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import suppress

from ingestd.core.backoff import Backoff
from ingestd.core.bounds import DEFAULT_BOUNDS
from ingestd.core.chunk import Chunk, Keeper
from ingestd.core.clock import Clock, wait_until_set
from ingestd.core.errors import UserError
from ingestd.core.receipt import Receipt
from ingestd.sources.broker.chunks import Cutter, KnownCut
from ingestd.sources.broker.formats import reader_of
from ingestd.sources.broker.messages import Message, sequence_of
from ingestd.sources.broker.source import BrokerAway, Outage, SourceCounts
from ingestd.sources.kafka.admin import Admin
from ingestd.sources.kafka.commits import Commits
from ingestd.sources.kafka.group import MESSAGES, Group
from ingestd.sources.kafka.heirs import Heirs, Nobody
from ingestd.sources.kafka.lag import Measuring
from ingestd.sources.kafka.partition import OtherMessages, Partition
from ingestd.sources.kafka.partitions import Partitions
from ingestd.sources.kafka.run_queue import RunQueue
from ingestd.sources.kafka.runs import LogCutter, Run
from ingestd.sources.kafka.settings import KafkaConfig
from ingestd.sources.kafka.takeover import NAMED_WITHIN_S, Takeover
from ingestd.sources.kafka.unowned import Unowned
from ingestd.sources.source import Position
from ingestd.store.connection import StoreFailed
from ingestd.store.frozen_batches import FrozenBatch
from ingestd.store.journal import Journal

_RETRY = Backoff(base_s=0.2, cap_s=10.0)
_LOOK_S = 1.0


class KafkaSource:
    """``cuts``: by the number of a partition the chunks that an earlier process had cut and may have sent.
    ``frozen``: by that number, the batches; ``is_mixed``: some of them have events of several partitions.
    ``drain_s``: how long what is on its way of a partition is waited for when it is given back.
    ``named_within_s``: see ``takeover``."""

    keeper = Keeper.SOURCE

    def __init__(
        self,
        name: str,
        settings: KafkaConfig,
        journal: Journal,
        *,
        cuts: Callable[[int], Sequence[KnownCut]],
        frozen: Callable[[int], Sequence[FrozenBatch]] = lambda number: (),
        is_mixed: bool = True,
        clock: Clock,
        rng: random.Random,
        warn: Callable[[str], None],
        drain_s: float = 5.0,
        named_within_s: float = NAMED_WITHIN_S,
        unowned_s: float = DEFAULT_BOUNDS.unowned_s,
        chunk_messages: int = MESSAGES,
    ) -> None:
        self.name = f"kafka.{name}"
        self.counts = SourceCounts()
        self.starts: dict[int, int] = {}
        self._read = reader_of(settings.format, prefix="ce_")
        self._chunk_messages = chunk_messages
        self._skips_tombstones = settings.tombstones == "skip"
        self._settings = settings
        self._journal = journal
        self._clock = clock
        self._rng = rng
        self._warn = warn
        self._drain_s = drain_s
        self._admin: Admin | None = None
        self._group: Group | None = None
        self._error: UserError | None = None
        self._is_mixed = is_mixed
        self._commits = Commits(journal, clock)
        self.heirs = Heirs()
        if settings.spool:
            self.heirs.found(Nobody())
        self.takeover: Takeover | None = None
        """Tells the next owner of a partition what is on its way; None: it is not told."""
        if settings.exact_takeover and not settings.spool:
            self.takeover = Takeover(
                journal,
                changed=self._commits.changed,
                frozen=frozen,
                heirs=self.heirs,
                counts=self.counts,
                clock=clock,
                warn=self._warn_named,
                within_s=named_within_s,
            )
        self._partitions = Partitions(
            journal,
            starts_at_end=settings.start == "new",
            cuts=cuts,
            make_cutter=self._cutter,
            moved=self._commits.moved,
            changed=self._changed,
            counts=self.counts,
            clock=clock,
            warn=self._warn_named,
            drain_s=drain_s,
            heirs=self.heirs,
            takeover=self.takeover,
        )
        self._commits.partitions = self._partitions
        self._measuring = Measuring(
            lambda: (self._group, self._admin) if self._group and self._admin else None,
            self._partitions,
            self.counts,
            unowned=Unowned(settings, clock, drain_s=drain_s, for_s=unowned_s, warn=self._warn_named),
            on_problem=self.on_problem,
            clock=clock,
        )
        self._runs = RunQueue()
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._stopped = False
        self._failures = 0
        self.outage = Outage(self.name, self.counts, warn, clock)

    async def open(self) -> None:
        """Raises BrokerAway where it cannot be opened now, UserError where it never can."""
        if not self._partitions.note:
            new = f"ingestd {self._rng.getrandbits(64):016x}"
            self._partitions.note = await self._journal.remember("kafka_member", new) or new
            await self._journal.remember("kafka_member", self._partitions.note)
        await self._begin()
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(work()) for work in (self._commits.run, self._measuring.run)]

    @property
    def number(self) -> int:
        return next(iter(self.numbers), 0)

    @property
    def numbers(self) -> Collection[int]:
        return [one.number for one in self._partitions]

    async def chunks(self) -> AsyncIterator[tuple[Chunk, Receipt]]:
        while not self._stopped:
            try:
                if self._group is None:
                    await self._begin()
                if not self._runs and not self._error:
                    await wait_until_set(self._news, _LOOK_S, self._clock)
                self._news.clear()
                if self._error and not self._runs:
                    raise self._error
            except BrokerAway as error:
                await self._pause(error)
                continue
            for chunk, receipt in self._take():
                yield chunk, receipt

    def ack(self, position: Position) -> None:
        """Of the only partition; receipts know theirs."""
        (one,) = self._partitions
        one.ack(position)

    def stop(self) -> None:
        self._stopped = True
        self._runs.clear()
        if self._group:
            self._group.has_room(False)
        self._news.set()

    async def close(self) -> None:
        """What is settled by now is committed, if the brokers are there."""
        self.stop()
        for task in self._tasks:
            task.cancel()
        for one in self._partitions:  # a commit that was cut short may have had some
            self._commits.moved(one.place)
        with suppress(StoreFailed):
            await self._commits.commit()
        await self._let_go()

    async def nothing_before(self, number: int, place: int, reached: int) -> bool:
        """See ``NothingBefore``."""
        one = next((one for one in self._partitions if one.number == number), None)
        if one is None:
            return number not in self._partitions.awaited
        if not one.is_assigned:
            return self._partitions.is_impatient
        known = one.cutter.known_to or one.cutter.is_waiting or one.given > reached
        return not known and (one.ended_at >= one.consumed or one.consumed >= sequence_of(place))

    @property
    def oldest_s(self) -> float:
        """Age of the oldest message that was taken and is not settled."""
        times = [at for one in self._partitions if (at := one.oldest_stored_at)]
        return max(0.0, self._clock.wall() - min(times)) if times else 0.0

    # --- a session ---

    async def _begin(self) -> None:
        """Raises BrokerAway, UserError."""
        self._error = None
        settings, is_first = self._settings, self._admin is None
        admin = self._admin or Admin(settings)
        cluster = await asyncio.to_thread(admin.cluster)
        if words := await asyncio.to_thread(admin.several_clusters, self._clock.monotonic()):
            raise BrokerAway(words)
        if is_first:
            prefix = f"Kafka cluster {cluster}, group {settings.group}, topic "
            self.starts = await self._partitions.know(prefix)
        self._admin = admin
        note, drain_s, clock = self._partitions.note, self._drain_s, self._clock
        self._group = group = Group(
            settings, self, self._partitions, admin, self._commits, note=note, drain_s=drain_s, clock=clock
        )
        self._commits.group = group
        group.start()

    async def _pause(self, error: BrokerAway) -> None:
        if self._stopped:
            return
        self._failures += 1
        self.on_problem(str(error))
        await self._let_go()
        self._news.clear()
        if not self._stopped:
            await wait_until_set(self._news, _RETRY.delay(self._failures, rng=self._rng), self._clock)

    async def _let_go(self) -> None:
        self.counts.connected, self.counts.partitions = False, 0
        group, self._group = self._group, None
        self._commits.group = None
        if group:
            await asyncio.to_thread(group.close)
        for one in self._partitions:
            one.is_assigned = False
        self._runs.clear()

    # --- called by the group ---

    def _changed(self) -> None:
        """Partitions came or went."""
        mine = {one.place for one in self._partitions if one.is_assigned}
        self.counts.partitions = len(mine)
        self._runs.keep_only(mine)
        if mine:
            self._failures = 0
            self.outage.ends()
        self._steer()
        self._news.set()

    def came(self, runs: list[Run]) -> None:
        self.outage.ends()
        if self._stopped:
            return
        self._runs.add(runs)
        self._steer()
        self._news.set()

    def _warn_named(self, text: str) -> None:
        self._warn(f"{self.name}: {text}")

    def on_problem(self, text: str) -> None:
        if text:
            self.outage.goes_on(text, reported=text != self.counts.problem and not self._stopped)
        else:
            self.outage.ends()

    def on_away(self, text: str) -> None:
        self._measuring.on_away(text)

    def ended(self, error: UserError) -> None:
        self._error = error
        self._news.set()

    def _cutter(self, number: int, cuts: Sequence[KnownCut], where: Callable[[Message], str]) -> Cutter:
        most, most_bytes = self._chunk_messages, self._settings.chunk_bytes
        return LogCutter(number, self._read, cuts, where=where, max_messages=most, max_bytes=most_bytes)

    # --- chunks ---

    def _take(self) -> Iterator[tuple[Chunk, Receipt]]:
        """Of all that has come."""
        while self._runs and not self._stopped:
            run = self._runs.next(self._chunk_messages, self._settings.chunk_bytes)
            one = self._partitions.by_place.get(run.place)
            if one is None or not one.is_assigned:
                continue
            for chunk in self._cut(one, run):
                one.given = chunk.end
                end = Position(chunk.end, chunk.next_line, chunk.mark)
                chunk.receipt = one.acks.receipt(len(chunk.events), end, self._clock.monotonic())
                one.noted(chunk, run.stored_at)
                yield chunk, chunk.receipt
            one.cut_to = one.consumed
            self._steer()
        self._steer()

    def _cut(self, one: Partition, run: Run) -> Iterator[Chunk]:
        if run.messages is None:
            yield from one.end(run.end)
            self._commits.moved(one.place)
            return
        self.counts.messages += len(run.messages)
        self.counts.last_message = self._clock.wall()
        try:
            fresh, again = one.take(run.messages, skip_tombstones=self._skips_tombstones)
        except OtherMessages:
            one.is_assigned = False  # the group gives it again
            if self._group:
                self._group.has_changed(one.place, one.consumed)
            return
        self.counts.redelivered += again
        if fresh:
            yield from one.cut(fresh)

    def _steer(self) -> None:
        if self._group and not self._stopped:
            self._group.has_room(self._runs.has_room)
            known = [one.place for one in self._partitions if one.cutter.known_to]
            self._group.want(frozenset(known) if self._partitions.is_recovering and self._is_mixed else None)
            self._group.is_busy = self.takeover is not None and not all(
                one.is_settled for one in self._partitions if one.is_assigned
            )
