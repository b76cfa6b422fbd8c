"""Sources of SQS."""

from collections.abc import AsyncIterator

from ingestd.sources.sqs.queue import MAX_ANSWER_BYTES, TIMEOUT_S, SqsQueue
from ingestd.sources.sqs.source import SqsSource
from ingestd.wiring.broker_feed import Feeding, FeedingContext
from ingestd.wiring.http_clients import make_client


async def sqs_sources(context: FeedingContext) -> AsyncIterator[Feeding]:
    """Each with a client of its own."""
    pipeline, clock = context.pipeline, context.pipeline.clock
    for name, settings in pipeline.settings.ingest.sqs.items():
        client = make_client(
            pipeline.settings,
            max_connections=settings.pollers + 32,
            clock=clock,
            timeout_s=TIMEOUT_S,
            max_body_bytes=MAX_ANSWER_BYTES,
        )
        await context.stack.enter_async_context(client)
        queue = SqsQueue(settings, client, clock, wait_s=pipeline.bounds.sqs_wait_s)
        source = SqsSource(
            name, settings, queue, pipeline.journal, clock=clock, rng=context.rng, warn=context.warn
        )
        yield Feeding(source, is_spooled=True, until_delivered=not settings.spool)
