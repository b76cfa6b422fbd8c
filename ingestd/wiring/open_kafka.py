"""Sources of Kafka."""

from collections.abc import Iterator

from ingestd.sources.kafka.source import KafkaSource
from ingestd.store.frozen_batches import FrozenBatch
from ingestd.wiring.broker_feed import Feeding, FeedingContext, is_mixed


def kafka_sources(context: FeedingContext) -> Iterator[Feeding]:
    pipeline = context.pipeline
    for name, settings in pipeline.settings.ingest.kafka.items():
        source = KafkaSource(
            name,
            settings,
            pipeline.journal,
            cuts=context.cuts,
            frozen=lambda number: _without_events(context, number),
            is_mixed=is_mixed(context.frozen),
            clock=pipeline.clock,
            rng=context.rng,
            warn=context.warn,
            drain_s=pipeline.settings.delivery.shutdown_timeout,
            unowned_s=pipeline.bounds.unowned_s,
        )
        named = source.takeover is not None
        yield Feeding(source, settings.spool, in_order=True, names_batches=named, heirs=source.heirs)


def _without_events(context: FeedingContext, number: int) -> list[FrozenBatch]:
    """The batches of a partition whose events only the topic has."""
    return [one for one in context.frozen if one.kept is None and one.is_of(number)]
