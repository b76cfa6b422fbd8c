"""THE MAP: how everything hangs together. Read this first.

    replay:  files ─▶ window ─▶ validation ─▶ batcher ─▶ lane ─▶ event API
                                    │ refused              │ gave up
                                    ▼                      ▼
                               dead letters (state.db) ◀───┘
                                    └──▶ retry worker ──▶ lane

    run:     HTTP ─▶ reception: validation ─▶ window ─▶ spool (state.db) ─▶ 202
                                                          └──▶ feed ─▶ batcher ─▶ lane ─▶ event API

Everything that happens to an event is written down in one place, ``bookkeeping.py``: the ledger is
counted, its key confirmed or released, the journal noted, its chunk's receipt settled.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ingestd.bookkeeping import Bookkeeping
from ingestd.config import Login, Settings
from ingestd.core.audit import Audit, Entry
from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.core.ledger import Ledger
from ingestd.core.metrics import Metrics
from ingestd.delivery.backoff import Backoff
from ingestd.delivery.circuit import State
from ingestd.delivery.lane import Lane
from ingestd.delivery.retry_worker import RetryWorker
from ingestd.delivery.settings import LaneSettings
from ingestd.intake.pressure import Pressure
from ingestd.intake.reception import Reception
from ingestd.intake.spool_feed import SpoolFeed
from ingestd.intake.waiting import Waiting
from ingestd.letter_desk import LetterDesk
from ingestd.recovery import Recovery
from ingestd.schemas.key_paths import KeyPaths
from ingestd.schemas.load import load as load_schema
from ingestd.sinks.ingest_api import IngestApi
from ingestd.stages.batcher import Batcher
from ingestd.stages.dedup import Window
from ingestd.stages.validate import Validator
from ingestd.store.audit_log import AuditLog
from ingestd.store.connection import StoreFailed
from ingestd.store.database import Database
from ingestd.store.dead_letters import IDEMPOTENCY_WINDOW_S, purge_delivered, release_leases
from ingestd.store.journal import FrozenBatch, Journal
from ingestd.store.key_log import KeyLog
from ingestd.store.lock import DirectoryLock
from ingestd.store.spool import Spool
from ingestd.store.spool_rows import Damage
from ingestd.transport.client import Client
from ingestd.transport.oauth import NoAuth, TokenSource
from ingestd.transport.sender import Sender

Warn = Callable[[str], None]


@dataclass(slots=True)
class Pipeline:
    """All parts of one running process, wired."""

    settings: Settings
    ledger: Ledger
    metrics: Metrics
    audit: AuditLog
    database: Database
    journal: Journal
    keys: KeyLog
    window: Window
    validator: Validator
    batcher: Batcher
    book: Bookkeeping
    sink: IngestApi
    lane: Lane
    worker: RetryWorker
    letters: LetterDesk
    clock: Clock


@asynccontextmanager
async def open_pipeline(
    settings: Settings,
    login: Login,
    directory: Path,
    *,
    clock: Clock,
    warn: Warn,
    requested_letters_only: bool = False,
    spooled: bool = False,
    metrics: Metrics | None = None,
) -> AsyncIterator[Pipeline]:
    """Wire a pipeline on a state directory. Raises UserError (also StoreFailed) before anything is sent.

    ``spooled``: events come from the spool of ``ingestd run``, which outlives a full disk, and whose keys
    are known as soon as it has them. On the way out the stores are committed and closed; the client goes
    first.
    """
    async with AsyncExitStack() as stack:
        validator, order_by = make_validator(settings), make_order_key(settings)
        stack.callback(DirectoryLock(directory).release)

        database = Database(directory, patient=spooled, ballast_bytes=settings.spool.ballast)
        await database.open()
        stack.push_async_callback(database.close)
        if database.warning:
            warn(database.warning)
        journal = Journal(database)
        keys = KeyLog(database)
        window = await _restore_window(settings, keys, clock)
        retention_s = settings.letters.retention
        database.note(release_leases)
        database.note(lambda connection: purge_delivered(connection, clock.wall() - retention_s))

        metrics = metrics or Metrics(Ledger())
        ledger = metrics.ledger
        audit = _open_audit(settings, directory)
        stack.callback(audit.close)
        book = Bookkeeping(
            ledger=ledger,
            window=window,
            journal=journal,
            audit=audit,
            metrics=metrics,
            clock=clock,
            warn=warn,
            freed=keys.released if spooled else None,
        )

        sink = IngestApi(login.api, wall=clock.wall)
        delivery = settings.delivery
        client = await stack.enter_async_context(
            Client(
                timeout_s=delivery.request_timeout,
                read_timeout_s=delivery.request_timeout,
                connect_timeout_s=min(10.0, delivery.request_timeout),
                max_connections=delivery.max_in_flight + 2,
                ca_file=settings.api.ca_file or None,
                trust_env=settings.api.trust_env,
            )
        )
        tokens = _make_tokens(login, client, clock, metrics, audit, delivery.startup_patience)
        stack.push_async_callback(tokens.aclose)
        sender = Sender(client, tokens)
        lane_settings = LaneSettings(
            max_in_flight=delivery.max_in_flight,
            max_waiting=max(16, delivery.max_in_flight),
            give_up_after_s=delivery.give_up_after,
            max_attempts=delivery.max_attempts,
            backoff=Backoff(base_s=delivery.backoff_base, cap_s=delivery.backoff_cap),
            circuit_threshold=delivery.circuit_threshold,
            startup_patience_s=delivery.startup_patience,
            outage_patience_s=max(30.0, delivery.give_up_after),
            stop_on_outage=not spooled,
            order_by=order_by,
            held_batch_events=settings.batch.max_events,
            held_batch_bytes=settings.batch.max_bytes,
        )
        lane = Lane(sink, sender, book, settings=lane_settings, clock=clock)
        batcher = Batcher(
            max_bytes=settings.batch.max_bytes,
            max_events=settings.batch.max_events,
            max_age_s=settings.batch.max_age,
            overhead_bytes=sink.overhead_bytes,
            sep_bytes=sink.separator_bytes,
        )
        book.on_learned = batcher.learn
        desk = LetterDesk(
            database,
            max_events=settings.batch.max_events,
            max_bytes=settings.batch.max_bytes - sink.overhead_bytes,
            requested_only=requested_letters_only or not settings.letters.retry,
            clock=clock,
        )
        worker = RetryWorker(desk, lane, clock=clock, window_s=IDEMPOTENCY_WINDOW_S)

        _wire_gauges(metrics, lane, window)
        yield Pipeline(
            settings,
            ledger,
            metrics,
            audit,
            database,
            journal,
            keys,
            window,
            validator,
            batcher,
            book,
            sink,
            lane,
            worker,
            desk,
            clock,
        )
        with suppress(StoreFailed):  # then it has been said already
            await journal.commit()


@dataclass(slots=True)
class Front:
    """What stands before the lane in ``ingestd run``."""

    spool: Spool
    pressure: Pressure
    waiting: Waiting
    reception: Reception
    feed: SpoolFeed


@asynccontextmanager
async def open_front(pipeline: Pipeline, *, warn: Warn) -> AsyncIterator[Front]:
    """The spool, with what an earlier process left of it already in the lane. Raises StoreFailed."""
    settings, clock, journal = pipeline.settings, pipeline.clock, pipeline.journal
    spool = Spool(pipeline.database, await journal.spool_source())
    await spool.open(now=clock.wall())
    try:
        journal.watch_spool(spool.is_open)
        spool.on_damage = partial(_damaged, pipeline.book, warn)
        waiting = Waiting(spool)
        spool.on_settled = waiting.settled
        feed = SpoolFeed(spool, batcher=pipeline.batcher, lane=pipeline.lane, book=pipeline.book, clock=clock)
        frozen = await journal.frozen_batches()
        if changed := await feed.recover(frozen, make_recovery(pipeline, frozen, {spool.source})):
            journal.drop(changed)
            warn(f"{len(changed)} unfinished batches cannot be sent as they were: they go out under new keys")
        pressure = Pressure(spool, pipeline.database, max_bytes=settings.spool.max_bytes, clock=clock)
        reception = Reception(
            window=pipeline.window,
            validator=pipeline.validator,
            spool=spool,
            database=pipeline.database,
            book=pipeline.book,
            pressure=pressure,
            waiting=waiting,
            offer=feed.offer,
            max_event_bytes=pipeline.batcher.max_event_bytes,
            keep_rejected=settings.ingest.keep_rejected,
            clock=clock,
        )
        yield Front(spool, pressure, waiting, reception, feed)
    finally:
        await spool.close()


def _damaged(book: Bookkeeping, warn: Warn, damage: Damage) -> None:
    book.damaged(damage.events or 0)
    warn(
        f"chunk {damage.first} of the spool is damaged: {damage.what}; its {damage.events} events are put"
        " aside, see `ingestd spool check`"
    )


def make_recovery(pipeline: Pipeline, frozen: Sequence[FrozenBatch], sources: set[int]) -> Recovery:
    """Of batches that an earlier process had frozen; ``sources``: those that are read again."""
    return Recovery(
        frozen,
        sources,
        encode=pipeline.sink.encode,
        digests=lambda events: pipeline.window.digests(pipeline.validator.check(events).keys),
    )


def make_validator(settings: Settings) -> Validator:
    """Raises UserError for a schema that cannot be loaded or key paths that make no sense."""
    schema = load_schema(settings.schema_.name)
    paths = settings.schema_.dedup_key
    return Validator(schema, KeyPaths.parse(paths) if paths else None)


def make_order_key(settings: Settings) -> Callable[[bytes], str | None] | None:
    """The key by which events keep their order; None if none is asked for. Raises UserError."""
    if not settings.delivery.order_by:
        return None
    try:
        return KeyPaths.parse(settings.delivery.order_by).of
    except UserError as error:
        raise UserError(f"delivery.order_by: {error}") from None


async def _restore_window(settings: Settings, keys: KeyLog, clock: Clock) -> Window:
    max_count, max_age_s = settings.window.max_count, settings.window.max_age
    window = Window(await keys.secret(), max_count=max_count, max_age_s=max_age_s)
    now, wall = clock.monotonic(), clock.wall()
    for row in await keys.read(not_before=wall - max_age_s, max_count=max_count):
        if row.released:
            window.forget(row.keys)
        else:
            window.restore(row.keys, confirmed_at=now - max(0.0, wall - row.at), now=now)
    return window


def _open_audit(settings: Settings, directory: Path) -> AuditLog:
    path = Path(settings.audit.file) if settings.audit.file else directory / "audit.jsonl"
    return AuditLog(path, max_bytes=settings.audit.max_bytes, keep=settings.audit.keep)


def _make_tokens(
    login: Login, client: Client, clock: Clock, metrics: Metrics, audit: Audit, patience_s: float
) -> TokenSource | NoAuth:
    if login.token_url is None:
        return NoAuth()

    def refreshed(ok: bool, seconds: float) -> None:
        metrics.token_requests.labels("ok" if ok else "failed").inc()
        if ok:
            audit(Entry.TOKEN_REFRESHED, latency_ms=round(seconds * 1000, 1))

    return TokenSource(
        client,
        token_url=login.token_url,
        client_id=login.client_id,
        client_secret=login.client_secret.get_secret_value(),
        clock=clock,
        patience_s=patience_s,
        on_refresh=refreshed,
    )


def _wire_gauges(metrics: Metrics, lane: Lane, window: Window) -> None:
    gauges = metrics.gauges
    gauges.active = lambda: lane.active
    gauges.limit = lambda: lane.limiter.limit
    gauges.queued = lambda: lane.queued
    gauges.waiting = lambda: lane.waiting
    gauges.held = lambda: lane.held
    gauges.circuit_closed = lambda: lane.circuit.state is State.CLOSED
    gauges.window_known = lambda: len(window)
    gauges.window_pending = lambda: window.pending
