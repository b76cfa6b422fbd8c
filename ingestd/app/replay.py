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
from functools import partial

import msgspec

from ingestd.app.maintenance import compare_api, maintain, warn_keys, warn_restored, watch_states
from ingestd.app.outside import OpenSignals, Outside, open_signals
from ingestd.app.replay_sources import close_files, hint_of, oldest_s, open_files
from ingestd.app.replay_start import make_intake
from ingestd.config import Login, Settings, state_directory
from ingestd.core.bounds import DEFAULT_BOUNDS, Bounds
from ingestd.core.chunk import Keeper
from ingestd.core.clock import Tasks, wait_until_set
from ingestd.core.errors import UserError, first_cause
from ingestd.core.ledger import MaxRejected
from ingestd.delivery.sink_runner import SinkRunner
from ingestd.intake.fan_out import dead_letter
from ingestd.intake.part import Part
from ingestd.intake.replay_intake import ReplayIntake
from ingestd.processing.validate import FirstEvents
from ingestd.sources.files.jsonl import FileSource
from ingestd.store.connection import StoreFailed
from ingestd.store.parts import refuse_part
from ingestd.telemetry import log
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.wiring.pipeline import Pipeline, Warn, open_pipeline

_LOOK_AGAIN_S = 0.2
_LAKE_S = 60.0
"""How long the end of a replay waits for a lake's files; what is left then is safe, for the next run."""

EXIT_OK, EXIT_UNDELIVERED, EXIT_INTERRUPTED = 0, 3, 130


class Replay(msgspec.Struct):
    """One run of ``ingestd replay``. ``ledger`` and ``sources`` may be read while it runs.

    ``lost``: sinks that were given up for this run, and why; ``error`` is the first of them. ``hints``: of a
    part, by source: what may be unexpected if it is so for all of them.
    """

    pipeline: Pipeline
    sources: Sequence[FileSource]
    signals: OpenSignals = open_signals
    from_start: bool = False
    part: Part | None = None
    intake: ReplayIntake | None = None
    hints: dict[str, str] = msgspec.field(default_factory=dict)
    damage: list[str] = msgspec.field(default_factory=list)
    lost: dict[str, UserError] = msgspec.field(default_factory=dict)
    interrupted: bool = False
    error: UserError | None = None
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        if self.interrupted:
            return EXIT_INTERRUPTED
        if self.error:
            return self.error.exit_code
        lost = (
            MaxRejected.parse(self.pipeline.settings.source.max_rejected).exceeded_by(self.pipeline.ledger),
            self.undelivered,
            any(watch.found_none for watch in self.pipeline.watches),  # no dedup, or no order
        )
        return EXIT_UNDELIVERED if any(lost) else EXIT_OK

    @property
    def undelivered(self) -> bool:
        """Whether something is not delivered, or not known to be, besides what was rejected."""
        ledger, runners = self.pipeline.ledger, self.pipeline.runners
        lost = (
            ledger.dead_lettered or ledger.in_flight or self.damage,
            ledger.retried_failed or ledger.retried_aside,  # letters of earlier runs
            any(runner.ledger.dead_lettered or runner.ledger.in_flight for runner in runners),
            ledger.unmatched_item_errors,  # something was refused, and nobody knows what
        )
        return any(lost)


@asynccontextmanager
async def open_replay(
    settings: Settings,
    login: Login | None,
    paths: Sequence[str],
    *,
    from_start: bool = False,
    part: Part | None = None,
    warn: Warn,
    outside: Outside | None = None,
    bounds: Bounds = DEFAULT_BOUNDS,
) -> AsyncIterator[Replay]:
    """Open sources, stores and lane; nothing is sent before ``run``. ``part``: of the events, None: all.
    ``outside``: None is the real one. Raises UserError."""
    outside = outside or Outside()
    clock = outside.clock
    sources: list[FileSource] = []
    async with AsyncExitStack() as stack:
        readers = open_files(
            paths, settings.source, warn, schema=settings.schema_.name, chunk_bytes=bounds.chunk_bytes
        )
        stack.push_async_callback(close_files, readers, sources)
        directory = state_directory(settings, login)
        if not part:
            refuse_part(directory)
        pipeline = await stack.enter_async_context(
            open_pipeline(
                settings,
                login,
                directory,
                clock=clock,
                rng=outside.rng,
                engine=outside.engine,
                file_system=outside.file_system,
                store_host=outside.store_host(),
                warn=warn,
                bounds=bounds,
                oldest_s=partial(oldest_s, sources, clock),
            )
        )
        if settings.metrics.port is not None:
            from ingestd.admin.metrics_server import serve_metrics  # a web server: only for those who want it

            await stack.enter_async_context(
                serve_metrics(pipeline.metrics.registry, settings.metrics.host, settings.metrics.port)
            )
        warn_restored(pipeline, warn)
        await compare_api(pipeline, login, warn)
        ahead = pipeline.validator.look_ahead(pipeline.window.secret, part.by_key if part else None)
        for reader in readers:
            source = FileSource(
                reader, pipeline.journal, clock=clock, warn=warn, from_start=from_start, ahead=ahead
            )
            await source.open()
            sources.append(source)
        yield Replay(pipeline, sources, outside.signals, from_start, part)


async def run(replay: Replay, *, warn: Warn, on_second_signal: Callable[[], None] | None = None) -> None:
    """The whole replay: to the end of its sources, an interrupt, or an error (in ``replay.error``)."""
    pipeline = replay.pipeline
    started = pipeline.clock.monotonic()
    pipeline.audit(
        AuditEntry.RUN_STARTED,
        sources=", ".join(source.name for source in replay.sources),
        api=pipeline.targets,
        schema=pipeline.settings.schema_.name,
    )
    try:
        await _run_tasks(replay, warn, on_second_signal)
        for runner in pipeline.runners:
            _give_up_leftovers(replay, runner)
        await pipeline.journal.commit()
    except* UserError as group:
        replay.error = replay.error or first_cause(group)
    for source in replay.sources:
        if source.reader.foreign:
            replay.error = replay.error or UserError(f"{source.name}: {source.reader.foreign}")
        elif source.reader.damage:
            replay.damage.append(f"{source.name}: {source.reader.damage}")
    if not replay.part:  # a part is not all of them
        warn_keys(pipeline, warn)
    replay.seconds = pipeline.clock.monotonic() - started
    ledger = pipeline.ledger
    pipeline.audit(
        AuditEntry.RUN_FINISHED,
        accepted=ledger.accepted,
        delivered=ledger.delivered,
        duplicate=ledger.duplicate,
        rejected=ledger.rejected,
        dead_lettered=ledger.dead_lettered,
        dropped=ledger.dropped or None,
        in_flight=ledger.in_flight,
        seconds=round(replay.seconds, 3),
        exit_code=None if replay.part else replay.exit_code,  # which is that of all parts
        error=str(replay.error) if replay.error else None,
    )
    pipeline.audit.flush()


async def _run_tasks(replay: Replay, warn: Warn, on_second_signal: Callable[[], None] | None) -> None:
    pipeline = replay.pipeline
    intake = replay.intake = await make_intake(
        pipeline, replay.sources, from_start=replay.from_start, part=replay.part, warn=warn
    )
    fed = asyncio.Event()
    async with Tasks() as tasks:
        tasks.start_soon(_watch_signals, replay, intake, on_second_signal)
        tasks.start_soon(maintain, pipeline)
        tasks.start_soon(watch_states, pipeline)
        for runner in pipeline.runners:
            if pipeline.settings.letters.retry:
                tasks.start_soon(runner.worker.run)
            else:
                runner.worker.first_pass.set()
            if runner.status_poller:
                tasks.start_soon(runner.status_poller.run)
        for lake in pipeline.lakes:
            tasks.start_soon(lake.lake.run)
        tasks.start_soon(_feed, replay, intake, fed, warn)
        async with Tasks() as lanes:
            for runner in pipeline.runners:
                lanes.start_soon(_run_lane, replay, intake, runner)
        await fed.wait()
        async with Tasks() as waits:
            for runner in pipeline.runners:
                waits.start_soon(_wait_for_confirmations, replay, runner)
        await pipeline.journal.commit()
        for lake in pipeline.lakes:
            await lake.lake.drain(_LAKE_S)
        tasks.cancel()


async def _run_lane(replay: Replay, intake: ReplayIntake, runner: SinkRunner) -> None:
    """Until all has been sent. A sink that has to be given up costs the others nothing."""
    try:
        await asyncio.create_task(runner.lane.run())  # resumed for each batch: without a way through here
    except StoreFailed:
        raise
    except UserError as error:
        runners = replay.pipeline.runners
        error = type(error)(f"sink {runner.name}: {error}") if len(runners) > 1 else error
        replay.lost[runner.name] = error
        replay.error = replay.error or error
        runner.worker.first_pass.set()
        intake.lose(runner)
        _give_up_leftovers(replay, runner)
        if all(other.lost for other in runners):
            intake.stop()
            for other in runners:
                other.lane.drain()
        else:
            log.warning(f"{error}: it is given up for this run, the others go on")


async def _wait_for_confirmations(replay: Replay, runner: SinkRunner) -> None:
    """What the API has accepted, until it has said what became of it. An interrupt ends that, or silence:
    then it stays for the next run to ask about."""
    poller, clock = runner.status_poller, replay.pipeline.clock
    if not poller or runner.lost:
        return
    pending, since = poller.pending.count, clock.monotonic()
    while not (poller.pending.none_left.is_set() or replay.interrupted):
        await wait_until_set(poller.pending.none_left, _LOOK_AGAIN_S, clock)
        if poller.pending.count != pending:
            pending, since = poller.pending.count, clock.monotonic()
        elif clock.monotonic() - since >= runner.confirm_timeout_s:
            log.warning(
                f"sink {runner.name}: the API has accepted {pending} events and does not say what became of"
                " them: the next run asks again"
            )
            return


async def _feed(replay: Replay, intake: ReplayIntake, fed: asyncio.Event, warn: Warn) -> None:
    """All sources in order, then the end of intake."""
    pipeline = replay.pipeline
    keeper: Keeper | None = None
    for source in replay.sources:
        if keeper is not source.keeper:
            await intake.flush()  # a batch is rebuilt from files, or from what was kept: not from both
        keeper = source.keeper
        ledger = pipeline.ledger
        accepted, rejected, of_others = ledger.accepted, ledger.rejected, intake.of_others
        judged = not (source.start or pipeline.settings.source.keep_going)
        await asyncio.create_task(intake.feed(source, FirstEvents(source.name) if judged else None))
        replay.error = replay.error or intake.error
        if intake.stopped:
            break
        passed = intake.of_others - of_others
        hint = hint_of(source, ledger.accepted - accepted + passed, ledger.rejected - rejected + passed)
        if hint and replay.part:
            replay.hints[source.name] = hint
        elif hint:
            warn(hint)
    else:
        await intake.finish_recovery()
    await intake.flush()
    for runner in pipeline.runners:
        await runner.worker.first_pass.wait()
        runner.lane.close()
    fed.set()


async def _watch_signals(
    replay: Replay, intake: ReplayIntake, on_second_signal: Callable[[], None] | None
) -> None:
    """The first signal drains within the shutdown timeout, the second ends at once."""
    with replay.signals(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            if replay.interrupted:
                if on_second_signal:
                    on_second_signal()
                os._exit(EXIT_INTERRUPTED)  # all that was acknowledged is on disk
            replay.interrupted = True
            intake.stop()
            timeout_s = replay.pipeline.settings.delivery.shutdown_timeout
            for runner in replay.pipeline.runners:
                runner.lane.drain(timeout_s)
                runner.worker.first_pass.set()
                replay.pipeline.clock.call_later(timeout_s, runner.lane.abandon)


def _give_up_leftovers(replay: Replay, runner: SinkRunner) -> None:
    """What was not sent stays with its file; what cannot be read again becomes dead letters."""
    streams = {source.number for source in replay.sources if source.keeper is Keeper.JOURNAL}
    for batch in runner.lane.leftovers():
        if not batch.letters and any(s.chunk.source in streams for s in batch.segments):
            dead_letter(
                runner, batch, f"the run ended before it was delivered: {batch.last_answer or 'not sent yet'}"
            )
