"""Sources at brokers: each is opened when its broker is there, and feeds the lanes from then on.

Nothing else waits for a broker that is away. Called by ``app/open_service.py``, after the spool is open and
before anything is sent: what an earlier process had frozen is read once.
"""

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress

from ingestd.config import Login
from ingestd.core.clock import Tasks
from ingestd.intake.admission import Admission
from ingestd.intake.broker_intake import BrokerIntake
from ingestd.processing.validate import Validator
from ingestd.sources.broker.source import BrokerAway
from ingestd.telemetry.source_metrics import SourceCensus
from ingestd.wiring.broker_feed import BrokerFeed, Feeding, FeedingContext
from ingestd.wiring.pipeline import Pipeline, Warn


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
    async with AsyncExitStack() as stack:
        context = FeedingContext(pipeline, login, frozen, stack, rng, warn)
        feeds = [BrokerFeed(one, context, admission) async for one in _sources(context)]
        if feeds:
            pipeline.metrics.registry.register(SourceCensus({one.source.name: one.source for one in feeds}))
        try:
            yield Brokers(feeds)
        finally:
            for feed in feeds:
                with suppress(BrokerAway):
                    await feed.source.close()


async def _sources(context: FeedingContext) -> AsyncIterator[Feeding]:
    """A kind is imported where one is configured."""
    settings = context.pipeline.settings.ingest
    if settings.nats:
        from ingestd.wiring.open_nats import nats_sources

        for one in nats_sources(context):
            yield one
    if settings.kafka:
        from ingestd.wiring.open_kafka import kafka_sources

        for one in kafka_sources(context):
            yield one
    if settings.files:
        from ingestd.wiring.open_files import files_sources

        for one in files_sources(context):
            yield one
    if settings.sqs:
        from ingestd.wiring.open_sqs import sqs_sources

        async for one in sqs_sources(context):
            yield one
    if settings.genesys_notifications:
        from ingestd.wiring.open_notifications import notifications_sources

        async for one in notifications_sources(context):
            yield one
