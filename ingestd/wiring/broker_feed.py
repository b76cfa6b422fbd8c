"""A source at a broker on its way to the lanes, or to the spool. Made by ``open_brokers.py``."""

import asyncio
import random
from collections.abc import Collection, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ingestd.config import Login
from ingestd.core.backoff import Backoff
from ingestd.core.clock import wait_until_set
from ingestd.core.errors import UserError
from ingestd.delivery.source_batchers import SourceBatchers
from ingestd.intake.admission import Admission
from ingestd.intake.broker_intake import BrokerIntake
from ingestd.intake.processed_events import ProcessedEvents
from ingestd.intake.spooled_intake import SpooledIntake
from ingestd.intake.stages import Stages
from ingestd.sources.broker.chunks import KnownCut
from ingestd.sources.broker.source import BrokerAway, Outage, SourceCounts
from ingestd.sources.source import Source
from ingestd.store.frozen_batches import FrozenBatch
from ingestd.store.journal import DISMISSED, EVERYWHERE
from ingestd.wiring.pipeline import Pipeline, Warn, make_recovery

if TYPE_CHECKING:
    from ingestd.sources.kafka.heirs import Heirs

_RETRY = Backoff(base_s=0.5, cap_s=10.0)


class BrokerSource(Source, Protocol):
    """``starts``: by number of the source, or of its partitions that were ever read here, the first sequence
    that is not known to be resolved, from ``open`` on. ``numbers``: all by now."""

    starts: dict[int, int]

    @property
    def counts(self) -> SourceCounts: ...
    @property
    def outage(self) -> Outage: ...
    @property
    def numbers(self) -> Collection[int]: ...
    @property
    def oldest_s(self) -> float: ...
    async def nothing_before(self, number: int, place: int, reached: int) -> bool:
        """Whether nothing between ``reached`` and ``place`` of that number can come any more."""
        ...


class Feeding(NamedTuple):
    """A source, and how its events go on. ``is_spooled``: into the spool. ``until_delivered``: what is in the
    spool is settled only when it is delivered, or a dead letter. ``in_order``: what others had on their way
    goes before what comes now. ``names_batches``: each batch is of one partition, so that it can be told to
    the next owner. ``heirs``: what the source tells about what others had."""

    source: BrokerSource
    is_spooled: bool
    until_delivered: bool = False
    in_order: bool = False
    names_batches: bool = False
    heirs: "Heirs | None" = None


class FeedingContext(NamedTuple):
    """What sources and their feeds are made of. ``frozen``: batches of earlier processes, of all sources;
    ``stack``: closes what they need besides."""

    pipeline: Pipeline
    login: Login | None
    frozen: Sequence[FrozenBatch]
    stack: AsyncExitStack
    rng: random.Random
    warn: Warn

    def cuts(self, number: int) -> list[KnownCut]:
        """Chunks of the source with this number that frozen batches name."""
        segments = (segment for batch in self.frozen for segment in batch.segments)
        return [(one.start, one.end, one.last_mark) for one in segments if one.source == number]


class BrokerFeed:
    """One source on its way to the lanes. ``admission``: the way into the spool, for those that go there."""

    def __init__(self, feeding: Feeding, context: FeedingContext, admission: Admission) -> None:
        self.source = feeding.source
        self.is_spooled = feeding.is_spooled
        self._how = feeding
        self._admission = admission
        self._context = context
        self._pipeline = context.pipeline
        self._stop = asyncio.Event()
        self._ended = asyncio.Event()
        self.intake: BrokerIntake | SpooledIntake | None = None

    async def run(self) -> None:
        """Until ``stop``. Raises UserError for what will not get better by itself, StoreFailed."""
        try:
            if await self._open():
                self.intake = self._into_spool() if self.is_spooled else await self._make_intake()
                if not self._stop.is_set():
                    await self.intake.run(self.source)
        finally:
            self._ended.set()

    async def stop(self, within_s: float) -> None:
        """No more is read; returns when what was is in the lanes."""
        self._stop.set()
        if self.intake:
            self.intake.stop()
        self.source.stop()
        await wait_until_set(self._ended, within_s, self._pipeline.clock)

    async def _open(self) -> bool:
        """False: it was stopped before its broker was there."""
        failures = 0
        while not self._stop.is_set():
            try:
                await self.source.open()
            except BrokerAway as error:
                failures += 1
                self.source.outage.goes_on(str(error), reported=failures in (1, 10, 100))
                await wait_until_set(
                    self._stop, _RETRY.delay(failures, rng=self._context.rng), self._pipeline.clock
                )
            else:
                return True
        return False

    def _into_spool(self) -> SpooledIntake:
        """Raises UserError where batches of an earlier process are on their way that name its messages."""
        numbers = self.source.starts.keys()
        named = [{segment.source for segment in b.segments} for b in self._context.frozen if not b.settled]
        if any(not numbers.isdisjoint(sources) for sources in named):
            raise UserError(
                f"{self.source.name}: batches that were made without the spool are still on their way: run it"
                " once more with spool = false, and stop it when all is delivered"
            )
        return SpooledIntake(
            self._admission,
            self._pipeline.journal,
            self._pipeline.clock,
            until_delivered=self._how.until_delivered,
        )

    async def _make_intake(self) -> BrokerIntake:
        """With batchers of its own: a batch is rebuilt from one source."""
        pipeline, numbers = self._pipeline, set(self.source.starts)
        frozen = [batch for batch in self._context.frozen if batch.kept is None and batch.is_of(*numbers)]
        for number, first in self.source.starts.items():
            lost = await pipeline.journal.lost_places(number, first=first)
            pipeline.recorder.unconfirmed.lost(number, lost)
        runners = [
            one.beside(SourceBatchers(one.batcher) if self._how.names_batches else one.batcher.sibling())
            for one in pipeline.runners
        ]
        outboxes = {lake.name: lake.accepted for lake in pipeline.lakes if lake.accepted}
        last_known: dict[int, int] = {}
        for one in (segment for batch in frozen for segment in batch.segments):
            last_known[one.source] = max(one.end, last_known.get(one.source, 0))
        intake = BrokerIntake(
            Stages(
                pipeline.window,
                pipeline.validator,
                pipeline.routes,
                pipeline.recorder,
                runners,
                outboxes=outboxes,
            ),
            recoveries={
                one.name: make_recovery(pipeline, one, [b for b in frozen if b.sink == one.name], numbers)
                for one in runners
            },
            processed={
                by: ProcessedEvents(b for b in frozen if b.sink == by)
                for by in (EVERYWHERE, DISMISSED, *outboxes)
            },
            journal=pipeline.journal,
            clock=pipeline.clock,
            warn=self._context.warn,
            bounds=pipeline.bounds,
            last_known=last_known,
            nothing_before=self.source.nothing_before,
            numbers=lambda: self.source.numbers,
            is_mixed=is_mixed(frozen),
            in_order=self._how.in_order,
        )
        if self._how.heirs:
            self._how.heirs.found(intake)
        return intake


def is_mixed(frozen: Sequence[FrozenBatch]) -> bool:
    """Whether some batch has events of several sources, as partitions are to the journal."""
    return any(len({segment[0] for segment in batch.segments}) > 1 for batch in frozen)
