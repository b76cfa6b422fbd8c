"""What stands before the lanes in ``ingestd run``: the spool, its feeds and the admission of requests."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial

import msgspec

from ingestd.core.errors import UserError
from ingestd.intake.admission import Admission, Backpressure
from ingestd.intake.admission_queue import Accepted
from ingestd.intake.parking import BacklogBound, Parking
from ingestd.intake.spool_feed import SpoolFeed, SpoolSource
from ingestd.intake.submission_group import DeliveryWaits
from ingestd.recording.event_recorder import EventTrace
from ingestd.recording.unconfirmed_events import restore_unconfirmed
from ingestd.sinks.settings import HttpSinkConfig
from ingestd.store.spool import Spool
from ingestd.store.spool_rows import place_of, words_of_left_behind
from ingestd.wiring.factories import sections_of
from ingestd.wiring.pipeline import Pipeline, Warn, make_recovery


class IngestService(msgspec.Struct):
    """What stands before the lanes in ``ingestd run``."""

    spool: Spool
    pressure: Backpressure
    parking: Parking
    waiting: DeliveryWaits
    admission: Admission
    feeds: Sequence[SpoolFeed]


@asynccontextmanager
async def open_ingest(
    pipeline: Pipeline,
    *,
    warn: Warn,
    accepted: Accepted = lambda producer, events: None,
    trace: EventTrace | None = None,
) -> AsyncIterator[IngestService]:
    """The spool, with what an earlier process left of it already in the lanes. Raises UserError."""
    settings, clock, spool = pipeline.settings, pipeline.clock, pipeline.spool
    await spool.open(now=clock.wall())
    sources = [
        SpoolSource(
            spool,
            runner.name,
            route=lambda events: pipeline.routes.route(events).positions,
            max_memory_bytes=pipeline.bounds.spool_memory_bytes,
        )
        for runner in pipeline.runners
    ]
    try:
        for sink, chunks in spool.left_behind.items():
            raise UserError(words_of_left_behind(sink, chunks, pipeline.database.path.parent))
        if positions := spool.positions():
            first, _ = place_of(min(positions.values()), 0)
            await restore_unconfirmed(
                pipeline.journal, pipeline.recorder.unconfirmed, {spool.source: first}, spool=spool.source
            )
        for source in sources:
            await source.open()
            pipeline.metrics.by_sink.behind[source.sink] = partial(getattr, source, "behind_chunks")
            pipeline.metrics.by_sink.backlog[source.sink] = partial(
                getattr, spool.cursors[source.sink], "bytes"
            )
        feeds = [
            SpoolFeed(source, runner, recorder=pipeline.recorder, clock=clock)
            for source, runner in zip(sources, pipeline.runners, strict=True)
        ]
        await _recover(pipeline, spool, feeds, warn)
        pressure = Backpressure(spool, pipeline.database, max_bytes=settings.spool.max_bytes, clock=clock)
        bounds = _bounds_of(sections_of(settings))
        parking = Parking(
            pipeline.runners, spool, pipeline.database, pressure, pipeline.states, bounds, clock
        )
        parking.look_s = pipeline.bounds.look_at_backlog_s
        parking.max_parked_bytes = settings.spool.max_parked
        await parking.look()
        admission = Admission(
            window=pipeline.window,
            validator=pipeline.validator,
            spool=spool,
            recorder=pipeline.recorder,
            pressure=pressure,
            waiting=pipeline.waiting,
            routes=pipeline.routes,
            sources=sources,
            outboxes=[lake.accepted for lake in pipeline.lakes if lake.accepted],
            max_unanswered_bytes=pipeline.bounds.unanswered_bytes,
            max_event_bytes=max(runner.batcher.max_event_bytes for runner in pipeline.runners),
            keep_rejected=settings.ingest.keep_rejected,
            accepted=accepted,
            trace=trace,
            clock=clock,
        )
        yield IngestService(spool, pressure, parking, pipeline.waiting, admission, feeds)
    finally:
        for source in sources:
            await source.close()
        await spool.close()


def _bounds_of(sections: Mapping[str, HttpSinkConfig]) -> dict[str, BacklogBound]:
    """Of the sinks that have a bound of their own."""
    return {
        name: BacklogBound(one.max_backlog, one.max_backlog_age, one.when_full == "park")
        for name, one in sections.items()
        if one.max_backlog is not None or one.max_backlog_age is not None
    }


async def _recover(pipeline: Pipeline, spool: Spool, feeds: Sequence[SpoolFeed], warn: Warn) -> None:
    """What an earlier process had on its way goes out again as it was."""
    frozen = await pipeline.journal.frozen_batches()
    names = {feed.source.sink for feed in feeds}
    if len(feeds) == 1:  # then there was one before, whatever it was called
        frozen = [b._replace(sink=feeds[0].source.sink) if b.is_of(spool.source) else b for b in frozen]
    changed = [b.id for b in frozen if b.sink not in names and b.is_of(spool.source)]
    pipeline.recorder.accepted(spool.events)
    for feed, runner in zip(feeds, pipeline.runners, strict=True):
        mine = [batch for batch in frozen if batch.sink == runner.name]
        changed += await feed.recover(mine, make_recovery(pipeline, runner, mine, {spool.source}))
    if changed:
        pipeline.journal.drop(changed)
        warn(
            f"{len(changed)} unfinished batches cannot be rebuilt: their events are sent under new"
            " idempotency keys"
        )
