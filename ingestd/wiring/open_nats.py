"""Sources of NATS JetStream."""

from collections.abc import Iterator

from ingestd.sources.nats.source import NatsSource
from ingestd.wiring.broker_feed import Feeding, FeedingContext


def nats_sources(context: FeedingContext) -> Iterator[Feeding]:
    pipeline = context.pipeline
    for name, settings in pipeline.settings.ingest.nats.items():
        source = NatsSource(
            name,
            settings,
            pipeline.journal,
            cuts=context.cuts,
            clock=pipeline.clock,
            rng=context.rng,
            warn=context.warn,
        )
        yield Feeding(source, settings.spool, in_order=True)
