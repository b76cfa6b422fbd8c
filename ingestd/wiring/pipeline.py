"""THE MAP: how everything hangs together. Read this first.

    replay:  files ─▶ window ─▶ validation ─▶ routes ─┬▶ batcher ─▶ lane ─▶ event API
                                    │ refused         ├▶ batcher ─▶ lane ─▶ another       │ gave up
                                    ▼                                                     ▼
                               dead letters (state.db) ◀───────────────────────────────────┘
                                    └──▶ retry worker ──▶ lane

    run:     HTTP ─▶ admission: validation ─▶ window ─▶ spool (state.db) ─▶ 202
                                                          ├──▶ feed ─▶ batcher ─▶ lane ─▶ event API
                                                          └──▶ feed ─▶ batcher ─▶ lane ─▶ another

    lake:    what was accepted, or what a lane has delivered ─▶ outbox (state.db) ─▶ files

A sink with its batcher, lane, recorder and retry worker is a runner (``open_sinks.py``). A lane writes its
outcomes down with one call, ``recorder.resolve``: the ledger is counted, keys are confirmed or released, the
journal is noted, and the receipt of the chunk settled.
"""

import os
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ingestd.config import Login, Settings
from ingestd.core.bounds import DEFAULT_BOUNDS, Bounds
from ingestd.core.clock import Clock, system_rng
from ingestd.core.ledger import Ledger
from ingestd.core.units import counted
from ingestd.delivery.sink_runner import SinkRunner
from ingestd.intake.recovery import Recovery, restore_window
from ingestd.intake.submission_group import DeliveryWaits
from ingestd.processing import routes
from ingestd.processing.dedup import Window
from ingestd.processing.validate import Validator
from ingestd.recording.event_recorder import EventRecorder
from ingestd.recording.unconfirmed_events import UnconfirmedEvents
from ingestd.schemas.key_paths import KeyWatch
from ingestd.store.connection import PARTS_NAME, StoreFailed
from ingestd.store.database import Database
from ingestd.store.dead_letters import LOST, UNREADABLE, find_lost
from ingestd.store.frozen_batches import FrozenBatch
from ingestd.store.journal import Journal
from ingestd.store.key_log import KeyLog
from ingestd.store.letter_leases import release_leases
from ingestd.store.lock import DirectoryLock
from ingestd.store.spool import Spool
from ingestd.store.writer_host import WriterHost
from ingestd.telemetry.audit_file import AuditLog
from ingestd.telemetry.metrics import Gauges, Metrics
from ingestd.telemetry.state_watch import LogState, StateWatch
from ingestd.transport.engine import Engine
from ingestd.transport.file_system import FileSystem
from ingestd.transport.watched_file import Watch
from ingestd.wiring.factories import (
    damaged_chunk,
    make_validator,
    mend_later,
    open_audit,
    patterns_of,
    report_mended,
    sections_of,
)
from ingestd.wiring.open_sinks import open_runners
from ingestd.wiring.sink_context import PipelineContext

if TYPE_CHECKING:
    from ingestd.recording.event_recorder import EventTrace
    from ingestd.recording.outcome_journal import ToLake
    from ingestd.wiring.open_lakes import OpenLake

Warn = Callable[[str], None]


class Pipeline(msgspec.Struct):
    """All parts of one running process, wired."""

    settings: Settings
    ledger: Ledger
    metrics: Metrics
    audit: AuditLog
    states: StateWatch
    lock: DirectoryLock
    database: Database
    spool: Spool
    waiting: DeliveryWaits
    journal: Journal
    keys: KeyLog
    window: Window
    validator: Validator
    routes: routes.Routes
    recorder: EventRecorder
    runners: Sequence[SinkRunner]
    lakes: "Sequence[OpenLake]"
    clock: Clock
    watch: Watch
    bounds: Bounds

    @property
    def watches(self) -> list[KeyWatch]:
        """Who counts the events that have the keys that were asked for."""
        watches = [self.validator.watch, *(runner.order_watch for runner in self.runners)]
        return [watch for watch in watches if watch]

    def gauges(self, oldest_s: float) -> Gauges:
        """For a scrape. ``oldest_s``: the age of the oldest event that is not resolved."""
        return Gauges(oldest_s, len(self.window), self.window.pending, self.validator.without_key)

    @property
    def targets(self) -> str:
        """Where events go, for people."""
        return ", ".join(runner.sink.shown_url for runner in self.runners)


def _has_parts(directory: Path) -> bool:
    """Where nobody may look it has none: that is said with the lock."""
    return os.path.exists(directory / PARTS_NAME)


@asynccontextmanager
async def open_pipeline(
    settings: Settings,
    login: Login | None,
    directory: Path,
    *,
    clock: Clock,
    rng: random.Random | None = None,
    warn: Warn,
    report: LogState | None = None,
    requested_letters_only: bool = False,
    patient: bool = False,
    metrics: Metrics | None = None,
    oldest_s: Callable[[], float] = lambda: 0.0,
    on_commit: Callable[[float], None] | None = None,
    on_block: Warn | None = None,
    bounds: Bounds = DEFAULT_BOUNDS,
    engine: Engine | None = None,
    file_system: FileSystem | None = None,
    store_host: WriterHost | None = None,
    trace: "EventTrace | None" = None,
) -> AsyncIterator[Pipeline]:
    """Wire a pipeline on a state directory. Raises UserError (also StoreFailed) before anything is sent.

    ``rng``: jitter and ids; ``engine``: the network; ``store_host``: the writer's thread; ``file_system``:
    of lakes; None: the real one.
    ``report``: called with states; None: ``warn``. ``login``: of [api]. ``patient``: it waits out every
    outage, of an API or of the disk. The stores close at the end, the clients before.
    """
    if "'ref:" in str(settings.sinks):  # few refer to what the API has
        from ingestd.wiring.references import look_up

        settings = await look_up(settings, login, clock=clock)
    async with AsyncExitStack() as stack:
        if _has_parts(directory):
            from ingestd.store.parts import refuse_parts  # which is rare

            refuse_parts(directory)
        validator, router = make_validator(settings, warn=warn), routes.compile(patterns_of(settings))
        stack.callback((lock := DirectoryLock(directory)).release)
        database = Database(
            directory,
            patient=patient,
            ballast_bytes=settings.spool.ballast,
            on_commit=on_commit,
            on_repair=warn,
            on_block=on_block or warn,
            host=store_host,
            mend=mend_later(clock.wall),
        )
        keys, window = await _open_store(stack, database, settings, clock, warn)
        metrics = metrics or Metrics(Ledger(), lambda: pipeline.gauges(oldest_s()))
        sinks = [*sections_of(settings)]
        unconfirmed = UnconfirmedEvents(metrics.ledger, sinks)
        waiting = DeliveryWaits(clock, most=bounds.waiting_requests)
        spool = Spool(
            database,
            sinks=sinks,
            on_resolved=waiting.resolved,
            shared=unconfirmed.adopt,
            damaged=partial(damaged_chunk, metrics.ledger, directory, warn),
        )
        journal = Journal(database, spool)
        audit = open_audit(settings.audit, directory)
        stack.callback(audit.close)
        if database.mended:
            report_mended(database.mended, directory, audit, warn)
        states = StateWatch(warn, clock, report=report, audit=audit)
        recorder = EventRecorder(
            ledger=metrics.ledger,
            window=window,
            journal=journal,
            audit=audit,
            clock=clock,
            released=keys.released,
            unconfirmed=unconfirmed,
        )
        watch = Watch(warn)
        context = PipelineContext(
            settings=settings,
            login=login,
            database=database,
            journal=journal,
            recorder=recorder,
            spool=spool,
            metrics=metrics,
            audit=audit,
            states=states,
            clock=clock,
            rng=rng or system_rng(),
            warn=warn,
            watch=watch,
            trace=trace,
            patient=patient,
            requested_letters_only=requested_letters_only,
            bounds=bounds,
            engine=engine,
            file_system=file_system,
        )
        lakes: list[OpenLake] = []
        keep: Callable[[str], ToLake | None] = dict[str, "ToLake"]().get
        if any(getattr(section, "type", "") == "lake" for section in settings.sinks.values()):
            from ingestd.wiring.open_lakes import keep_delivered, open_lakes

            lakes = await open_lakes(stack, context)
            keep = partial(keep_delivered, lakes)
        runners = await open_runners(stack, context, router, keep=keep)
        journal.remember_sinks([runner.name for runner in runners], window.is_known)
        pipeline = Pipeline(
            settings=settings,
            ledger=metrics.ledger,
            metrics=metrics,
            audit=audit,
            states=states,
            lock=lock,
            database=database,
            spool=spool,
            waiting=waiting,
            journal=journal,
            keys=keys,
            window=window,
            validator=validator,
            routes=router,
            recorder=recorder,
            runners=runners,
            lakes=lakes,
            clock=clock,
            watch=watch,
            bounds=bounds,
        )
        yield pipeline
        with suppress(StoreFailed):  # then it has been said already
            await journal.commit()


async def _open_store(
    stack: AsyncExitStack, database: Database, settings: Settings, clock: Clock, warn: Warn
) -> tuple[KeyLog, Window]:
    """Open the state file, and read back which keys are known. What is damaged in it is told."""
    await database.open()
    stack.push_async_callback(database.close)
    if database.writer.warning:
        warn(database.writer.warning)
    keys, kept = KeyLog(database), settings.window
    window = await restore_window(keys, clock, max_count=kept.max_count, max_age_s=kept.max_age)
    database.note(release_leases)
    _warn_of_lost_letters(database, clock, warn)
    return keys, window


def _warn_of_lost_letters(database: Database, clock: Clock, warn: Warn) -> None:
    try:
        lost = find_lost(database.path, clock.wall()) if _may_have_lost(database) else 0
    except sqlite3.Error:  # the disk is full, or the file is locked: the next start looks again
        return
    if lost == UNREADABLE:
        warn(
            "the state file is damaged, where it has what dead letters share: `ingestd dlq` cannot show"
            " all of them. Restore a copy, or move the file away when all else is delivered"
        )
    elif lost:
        warn(
            f"of {counted(lost, 'dead letter')} sink, request and reason are lost: the state file is"
            " damaged. Their events are there: see `ingestd dlq list --reason damaged`"
        )


def _may_have_lost(database: Database) -> bool:
    try:
        return bool(database.reads.rows(LOST))
    except sqlite3.Error:
        return True  # who looks closely says what it is


def make_recovery(
    pipeline: Pipeline, runner: SinkRunner, frozen: Sequence[FrozenBatch], sources: set[int]
) -> Recovery:
    """Of a sink's batches that an earlier process had frozen; ``sources``: those that are read again."""
    return Recovery(
        frozen,
        sources,
        encode=runner.sink.encode,
        stepped=runner.lane.stepped,
        new_id=runner.lane.new_id,
        digests=lambda events: pipeline.window.digests(pipeline.validator.check(events, again=True).keys),
        claims_keys=len(pipeline.runners) == 1,
    )
