"""The life of ``ingestd replay``: build, run, signals, and the order of shutting down.

Shutting down, in this order, because each step needs the next one alive: sources stop taking; what
was admitted is flushed; the lane sends all of it once more; what cannot be read again becomes dead
letters; the stores commit and close; metrics close last.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.abc

from ingestd.config import Login, Settings, state_directory
from ingestd.core.audit import Entry
from ingestd.core.batch import Batch
from ingestd.core.clock import Clock, SystemClock
from ingestd.core.errors import UserError
from ingestd.core.reasons import Reason
from ingestd.delivery.outcome import Burial
from ingestd.intake.files import Intake, Stages
from ingestd.pipeline import Pipeline, Warn, make_recovery, open_pipeline
from ingestd.service.housekeeping import compare_api, first_error, keep_house
from ingestd.sources.jsonl import JsonSource
from ingestd.sources.progress import Progress
from ingestd.sources.streams import fingerprint

EXIT_OK, EXIT_UNDELIVERED, EXIT_INTERRUPTED = 0, 3, 130


@dataclass(slots=True)
class OpenSource:
    """A source and where this run begins with it."""

    source: JsonSource
    progress: Progress
    start: int
    line: int


@dataclass(slots=True)
class Replay:
    """One run of ``ingestd replay``. ``ledger`` and ``sources`` may be read while it runs."""

    pipeline: Pipeline
    from_start: bool = False
    sources: list[OpenSource] = field(default_factory=list)
    damage: list[str] = field(default_factory=list)
    interrupted: bool = False
    error: UserError | None = None
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        ledger = self.pipeline.ledger
        if self.interrupted:
            return EXIT_INTERRUPTED
        if self.error:
            return self.error.exit_code
        lost = ledger.rejected or ledger.dead_lettered or ledger.in_flight or self.damage
        return EXIT_UNDELIVERED if lost else EXIT_OK

    def report(self) -> dict[str, Any]:
        """What ``--report`` writes."""
        ledger, seconds = self.pipeline.ledger, self.seconds
        return {
            "accepted": ledger.accepted,
            "delivered": ledger.delivered,
            "duplicate": ledger.duplicate,
            "rejected": ledger.rejected,
            "dead_lettered": ledger.dead_lettered,
            "in_flight": ledger.in_flight,
            "batches": ledger.batches,
            "requests": ledger.requests,
            "retries": ledger.retries,
            "bytes": ledger.bytes,
            "seconds": round(seconds, 3),
            "events_per_second": round(ledger.accepted / seconds, 1) if seconds > 0 else 0.0,
            "retried_delivered": ledger.retried_delivered,
            "dead_letters_by_reason": {reason.value: count for reason, count in ledger.by_reason.items()},
            "unmatched_item_errors": ledger.unmatched_item_errors,
            "sources": [
                {"path": s.source.name, "bytes_read": s.source.bytes_read, "damage": s.source.damage or None}
                for s in self.sources
            ],
            "interrupted": self.interrupted,
            "error": str(self.error) if self.error else None,
            "exit_code": self.exit_code,
        }


@asynccontextmanager
async def open_replay(
    settings: Settings,
    login: Login,
    paths: Sequence[str],
    *,
    from_start: bool = False,
    warn: Warn,
    clock: Clock | None = None,
) -> AsyncIterator[Replay]:
    """Open sources, stores and lane; nothing is sent before ``run``. Raises UserError."""
    clock = clock or SystemClock()
    async with AsyncExitStack() as stack:
        sources: list[JsonSource] = []
        for path in paths:
            source = JsonSource(path, max_event_bytes=settings.source.max_event_bytes)
            stack.callback(source.close)
            if source.rereadable and any(source.identity == other.identity for other in sources):
                warn(f"{path}: named twice, read once")
            else:
                sources.append(source)
        directory = state_directory(settings.state, login.api)
        pipeline = await stack.enter_async_context(
            open_pipeline(settings, login, directory, clock=clock, warn=warn)
        )
        if settings.metrics.port is not None:
            from ingestd.admin.metrics_server import serve_metrics  # a web server: only for those who want it

            await stack.enter_async_context(
                serve_metrics(pipeline.metrics.registry, settings.metrics.host, settings.metrics.port)
            )
        await compare_api(pipeline, login, warn)
        replay = Replay(pipeline, from_start)
        for source in sources:
            replay.sources.append(await _open_source(pipeline, source, from_start=from_start))
        _wire_ages(replay)
        yield replay


async def run(replay: Replay, *, warn: Warn, on_second_signal: Callable[[], None] | None = None) -> None:
    """The whole replay: to the end of its sources, an interrupt, or an error (in ``replay.error``)."""
    pipeline = replay.pipeline
    started = pipeline.clock.monotonic()
    pipeline.audit(
        Entry.RUN_STARTED,
        sources=", ".join(opened.source.name for opened in replay.sources),
        api=pipeline.sink.url,
        schema=pipeline.settings.schema_.name,
    )
    try:
        await _run_tasks(replay, warn, on_second_signal)
        await _bury_leftovers(replay)
        await pipeline.journal.commit()
    except* UserError as group:
        replay.error = replay.error or first_error(group)
    for opened in replay.sources:
        if opened.source.damage:
            replay.damage.append(f"{opened.source.name}: {opened.source.damage}")
    replay.seconds = pipeline.clock.monotonic() - started
    ledger = pipeline.ledger
    pipeline.audit(
        Entry.RUN_FINISHED,
        accepted=ledger.accepted,
        delivered=ledger.delivered,
        duplicate=ledger.duplicate,
        rejected=ledger.rejected,
        dead_lettered=ledger.dead_lettered,
        in_flight=ledger.in_flight,
        seconds=round(replay.seconds, 3),
        exit_code=replay.exit_code,
        error=str(replay.error) if replay.error else None,
    )
    pipeline.audit.flush()


async def _run_tasks(replay: Replay, warn: Warn, on_second_signal: Callable[[], None] | None) -> None:
    pipeline = replay.pipeline
    intake = await _make_intake(replay, warn)
    fed = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_watch_signals, replay, intake, on_second_signal)
        tasks.start_soon(keep_house, pipeline)
        worker_scope = anyio.CancelScope()
        if pipeline.settings.letters.retry:
            tasks.start_soon(_retry_letters, pipeline, worker_scope)
        else:
            pipeline.worker.first_pass.set()
        tasks.start_soon(_feed, replay, intake, fed)
        try:
            await pipeline.lane.run()
        except UserError as error:
            replay.error = error
            intake.stop()
            pipeline.lane.drain()
            pipeline.worker.first_pass.set()
            await fed.wait()
        tasks.cancel_scope.cancel()


async def _feed(replay: Replay, intake: Intake, fed: anyio.Event) -> None:
    """All sources in order, then the end of intake."""
    pipeline = replay.pipeline
    before: OpenSource | None = None
    for opened in replay.sources:
        if before and before.source.rereadable != opened.source.rereadable:
            await intake.flush()  # a batch is rebuilt from files, or from what was kept: not from both
        before = opened
        await intake.feed(opened.source, opened.progress, start=opened.start, line=opened.line)
        if intake.stopped:
            break
    else:
        await intake.finish_recovery()
    await intake.flush()
    await pipeline.worker.first_pass.wait()
    pipeline.lane.close()
    fed.set()


async def _retry_letters(pipeline: Pipeline, scope: anyio.CancelScope) -> None:
    with scope:
        await pipeline.worker.run()


async def _watch_signals(replay: Replay, intake: Intake, on_second_signal: Callable[[], None] | None) -> None:
    """The first signal drains within the shutdown timeout, the second ends at once."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            if replay.interrupted:
                if on_second_signal:
                    on_second_signal()
                os._exit(EXIT_INTERRUPTED)  # all that was acknowledged is on disk
            replay.interrupted = True
            intake.stop()
            replay.pipeline.lane.drain()
            replay.pipeline.worker.first_pass.set()
            timeout_s = replay.pipeline.settings.delivery.shutdown_timeout
            asyncio.get_running_loop().call_later(timeout_s, replay.pipeline.lane.abandon)


async def _bury_leftovers(replay: Replay) -> None:
    """What was not sent stays with its file; what cannot be read again becomes dead letters."""
    streams = {opened.source.number for opened in replay.sources if not opened.source.rereadable}
    for batch in replay.pipeline.lane.leftovers():
        if not batch.letters and any(s.chunk.source in streams for s in batch.segments):
            _bury(replay.pipeline, batch)


def _bury(pipeline: Pipeline, batch: Batch) -> None:
    detail = f"the run ended before it was delivered: {batch.last_answer or 'not sent yet'}"
    burials = [Burial(index, Reason.INTERRUPTED, detail) for index in range(len(batch))]
    pipeline.book.settled(batch, delivered=(), buried=burials, parts=())


async def _make_intake(replay: Replay, warn: Warn) -> Intake:
    """With what an earlier process left already in the lane."""
    pipeline = replay.pipeline
    files = {opened.source.number for opened in replay.sources if opened.source.rereadable}
    frozen = await pipeline.journal.frozen_batches()
    if replay.from_start:  # also what was settled beyond the checkpoint
        again = {b.id for b in frozen if b.settled and all(source in files for source, *_ in b.segments)}
        pipeline.journal.drop(list(again))
        frozen = [batch for batch in frozen if batch.id not in again]
    recovery = make_recovery(pipeline, frozen, files)
    stages = Stages(pipeline.window, pipeline.validator, pipeline.batcher, pipeline.book, pipeline.lane)
    intake = Intake(stages, recovery=recovery, journal=pipeline.journal, clock=pipeline.clock, warn=warn)
    intake.resume_kept()
    return intake


async def _open_source(pipeline: Pipeline, source: JsonSource, *, from_start: bool) -> OpenSource:
    now = pipeline.clock.wall()
    if source.rereadable:
        state = await pipeline.journal.find_file(
            source.path,
            identity=source.identity,
            heads=lambda length: fingerprint(source.path, length),
            size=source.plain_size,
            from_start=from_start,
            now=now,
        )
    else:
        state = await pipeline.journal.new_stream(source.name, now=now)
    source.number = state.number
    progress = Progress(state.number, pipeline.journal.moved)
    return OpenSource(source, progress, state.position, state.line)


def _wire_ages(replay: Replay) -> None:
    clock = replay.pipeline.clock

    def oldest_s() -> float:
        starts = [since for o in replay.sources if (since := o.progress.oldest_since) is not None]
        return clock.monotonic() - min(starts) if starts else 0.0

    replay.pipeline.metrics.gauges.oldest_s = oldest_s
