"""Sources at brokers: each is opened when its broker is there, and feeds the lanes from then on.

Nothing else waits for a broker that is away. Called by ``app/run.py``, after the spool is open and before
anything is sent: what an earlier process had frozen is read once.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Protocol

from ingestd.config import IngestConfig, Login
from ingestd.core.backoff import Backoff
from ingestd.core.clock import Tasks, wait_until_set
from ingestd.core.errors import UserError
from ingestd.delivery.source_batchers import SourceBatchers
from ingestd.intake.admission import Admission
from ingestd.intake.broker_intake import BrokerIntake
from ingestd.intake.recovery import ProcessedEvents
from ingestd.intake.spooled_intake import SpooledIntake
from ingestd.intake.stages import Stages
from ingestd.processing.validate import Validator
from ingestd.sources.broker.chunks import Cut
from ingestd.sources.broker.source import BrokerAway, SourceCounts
from ingestd.sources.genesys.channel import Channel
from ingestd.sources.genesys.source import MakeChannel, NotificationsSource
from ingestd.sources.kafka.source import KafkaSource
from ingestd.sources.nats.source import NatsSource
from ingestd.sources.source import Source
from ingestd.sources.sqs.queue import MAX_ANSWER_BYTES, TIMEOUT_S, SqsQueue
from ingestd.sources.sqs.settings import SqsConfig
from ingestd.sources.sqs.source import SqsSource
from ingestd.store.frozen_batches import FrozenBatch
from ingestd.store.journal import DISMISSED, EVERYWHERE
from ingestd.telemetry.source_metrics import SourceCensus
from ingestd.transport.api_client import ApiClient
from ingestd.transport.websocket import WebSocketClient
from ingestd.wiring.http_clients import api_auth, make_client
from ingestd.wiring.pipeline import Pipeline, Warn, make_recovery

_API_S = 15.0
_RETRY = Backoff(base_s=0.5, cap_s=10.0)


class BrokerSource(Source, Protocol):
    """``starts``: by number of the source, or of its partitions that were ever read here, the first sequence
    that is not known to be resolved, from ``open`` on. ``numbers``: all by now."""

    starts: dict[int, int]

    @property
    def counts(self) -> SourceCounts: ...
    @property
    def numbers(self) -> Collection[int]: ...
    @property
    def oldest_s(self) -> float: ...
    async def nothing_before(self, number: int, place: int, reached: int) -> bool: ...


class BrokerFeed:
    """One source on its way to the lanes. ``frozen``: of earlier processes, of all sources.
    ``admission``: its events go into the spool; None: they do not. ``until_delivered``: what is in the spool
    is settled only when it is delivered, or a dead letter."""

    def __init__(
        self,
        source: BrokerSource,
        pipeline: Pipeline,
        frozen: Sequence[FrozenBatch],
        admission: Admission | None,
        rng: random.Random,
        warn: Warn,
        *,
        until_delivered: bool = False,
    ) -> None:
        self.source = source
        self._until_delivered = until_delivered
        self._admission = admission
        self._pipeline = pipeline
        self._frozen = frozen
        self._rng = rng
        self._warn = warn
        self._stop = asyncio.Event()
        self._ended = asyncio.Event()
        self.intake: BrokerIntake | SpooledIntake | None = None
        self.is_spooled = admission is not None

    async def run(self) -> None:
        """Until ``stop``. Raises UserError for what will not get better by itself, StoreFailed."""
        try:
            if await self._open():
                self.intake = self._into_spool() if self._admission else await self._make_intake()
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
                self.source.counts.trouble = str(error)
                if failures in (1, 10, 100):
                    self._warn(f"{self.source.name}: {error}; it is tried again")
                await wait_until_set(self._stop, _RETRY.delay(failures, rng=self._rng), self._pipeline.clock)
            else:
                return True
        return False

    def _into_spool(self) -> SpooledIntake:
        """Raises UserError where batches of an earlier process are on their way that name its messages."""
        numbers = self.source.starts.keys()
        named = [{segment[0] for segment in b.segments} for b in self._frozen if not b.settled]
        if any(not numbers.isdisjoint(sources) for sources in named):
            raise UserError(
                f"{self.source.name}: batches that were made without the spool are still on their way: run it"
                " once more with spool = false, and stop it when all is delivered"
            )
        assert self._admission
        return SpooledIntake(
            self._admission,
            self._pipeline.journal,
            self._pipeline.clock,
            until_delivered=self._until_delivered,
        )

    async def _make_intake(self) -> BrokerIntake:
        """With batchers of its own: a batch is rebuilt from one source."""
        pipeline, numbers = self._pipeline, set(self.source.starts)
        frozen = [batch for batch in self._frozen if batch.kept is None and batch.is_of(*numbers)]
        for number, first in self.source.starts.items():
            lost = await pipeline.journal.lost_places(number, first=first)
            pipeline.recorder.unconfirmed.lost(number, lost)
        kafka = self.source if isinstance(self.source, KafkaSource) else None
        runners = [
            one.beside(SourceBatchers(one.batcher) if kafka and kafka.takeover else one.batcher.sibling())
            for one in pipeline.runners
        ]
        outboxes = {lake.name: lake.accepted for lake in pipeline.lakes if lake.accepted}
        last_known: dict[int, int] = {}
        for source, _, end, _ in (segment for batch in frozen for segment in batch.segments):
            last_known[source] = max(end, last_known.get(source, 0))
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
            warn=self._warn,
            bounds=pipeline.bounds,
            last_known=last_known,
            nothing_before=self.source.nothing_before,
            numbers=lambda: self.source.numbers,
            is_mixed=_is_mixed(frozen),
            in_order=isinstance(self.source, KafkaSource | NatsSource),
        )
        if kafka:
            kafka.heirs.found(intake)
        return intake


class Brokers:
    """All of them; none where none is configured."""

    def __init__(self, feeds: Sequence[BrokerFeed]) -> None:
        self.feeds = feeds

    @property
    def names(self) -> list[str]:
        return [feed.source.name for feed in self.feeds]

    async def stop(self, within_s: float) -> None:
        async with Tasks() as tasks:
            for feed in self.feeds:
                tasks.start_soon(feed.stop, within_s)

    def change_validator(self, validator: Validator) -> None:
        for feed in self.feeds:
            if isinstance(feed.intake, BrokerIntake):
                feed.intake.change_validator(validator)


@asynccontextmanager
async def open_brokers(
    pipeline: Pipeline, admission: Admission, login: Login | None, *, rng: random.Random, warn: Warn
) -> AsyncIterator[Brokers]:
    """Closed when the lanes have ended: what is settled by then is acknowledged. Raises UserError."""
    settings = pipeline.settings.ingest
    named = settings.nats or settings.kafka or settings.files
    frozen = await pipeline.journal.frozen_batches() if named else []
    feeds = [
        BrokerFeed(source, pipeline, frozen, admission if is_spooled else None, rng, warn)
        for source, is_spooled in _sources(settings, pipeline, frozen, rng, warn)
    ]
    async with AsyncExitStack() as stack:
        for name, one in settings.sqs.items():
            queue = await _open_queue(one, pipeline, stack)
            source = SqsSource(name, one, queue, pipeline.journal, clock=pipeline.clock, rng=rng, warn=warn)
            feeds.append(
                BrokerFeed(source, pipeline, (), admission, rng, warn, until_delivered=not one.spool)
            )
        for name, topics in settings.genesys_notifications.items():
            listener = NotificationsSource(
                name,
                topics,
                pipeline.journal,
                channel=await _open_channels(pipeline, login, stack, rng),
                clock=pipeline.clock,
                rng=rng,
                warn=warn,
                audit=pipeline.audit,
            )
            feeds.append(BrokerFeed(listener, pipeline, (), admission, rng, warn))
        if feeds:
            pipeline.metrics.registry.register(SourceCensus({one.source.name: one.source for one in feeds}))
        try:
            yield Brokers(feeds)
        finally:
            for feed in feeds:
                with suppress(BrokerAway):
                    await feed.source.close()


async def _open_channels(
    pipeline: Pipeline, login: Login | None, stack: AsyncExitStack, rng: random.Random
) -> MakeChannel:
    """With the login of [api]."""
    assert login  # find_login
    clock, section = pipeline.clock, pipeline.settings.api
    client = await stack.enter_async_context(
        make_client(pipeline.settings, max_connections=4, timeout_s=_API_S, clock=clock)
    )
    auth = api_auth(login, client, clock=clock, rng=rng, login_timeout_s=_API_S)
    stack.push_async_callback(auth.aclose)
    api = ApiClient(client, auth, base_url=login.api, clock=clock, rng=rng, deadline_s=2 * _API_S)
    sockets = await stack.enter_async_context(
        WebSocketClient(ca_file=section.ca_file or None, trust_env=section.trust_env, clock=clock)
    )
    return lambda: Channel(api, sockets, clock)


async def _open_queue(settings: SqsConfig, pipeline: Pipeline, stack: AsyncExitStack) -> SqsQueue:
    client = make_client(
        pipeline.settings,
        max_connections=settings.pollers + 32,
        clock=pipeline.clock,
        timeout_s=TIMEOUT_S,
        max_body_bytes=MAX_ANSWER_BYTES,
    )
    wait_s = pipeline.bounds.sqs_wait_s
    return SqsQueue(settings, await stack.enter_async_context(client), pipeline.clock, wait_s=wait_s)


def _sources(
    settings: IngestConfig,
    pipeline: Pipeline,
    frozen: Sequence[FrozenBatch],
    rng: random.Random,
    warn: Warn,
) -> list[tuple[BrokerSource, bool]]:
    """Each, and whether its events go into the spool."""
    cuts = _cuts_of(frozen)
    more: dict[str, Any] = {"cuts": cuts, "clock": pipeline.clock, "rng": rng, "warn": warn}
    drain_s = pipeline.settings.delivery.shutdown_timeout
    found: list[tuple[BrokerSource, bool]] = [
        (NatsSource(name, one, pipeline.journal, **more), one.spool) for name, one in settings.nats.items()
    ]
    for name, topics in settings.kafka.items():
        source = KafkaSource(
            name,
            topics,
            pipeline.journal,
            drain_s=drain_s,
            frozen=lambda number: [one for one in frozen if one.kept is None and one.is_of(number)],
            is_mixed=_is_mixed(frozen),
            unowned_s=pipeline.bounds.unowned_s,
            **more,
        )
        found.append((source, topics.spool))
    if settings.files:
        from ingestd.wiring.open_files import files_sources

        found += files_sources(pipeline, cuts, warn)
    return found


def _is_mixed(frozen: Sequence[FrozenBatch]) -> bool:
    """Whether some batch has events of several sources, as partitions are to the journal."""
    return any(len({segment[0] for segment in batch.segments}) > 1 for batch in frozen)


def _cuts_of(frozen: Sequence[FrozenBatch]) -> Callable[[int], Sequence[Cut]]:
    def cuts(number: int) -> list[Cut]:
        segments = (segment for batch in frozen for segment in batch.segments)
        return [(start, end) for source, start, end, _ in segments if source == number]

    return cuts
