"""THE MAP: how everything hangs together. Read this first.

    source ─▶ intake: window ─▶ validation ─▶ batcher ─▶ lane ─▶ event API
                                  │ refused                │ gave up
                                  ▼                        ▼
                             dead letters (state.db) ◀─────┘
                                  └──▶ retry worker ──▶ lane

Everything that happens to an event is written down in one place, ``bookkeeping.py``: the ledger is
counted, its key confirmed or released, the journal noted, its chunk's receipt settled.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ingestd.bookkeeping import Bookkeeping
from ingestd.config import Login, Settings
from ingestd.core.audit import Audit, Entry
from ingestd.core.clock import Clock
from ingestd.core.ledger import Ledger
from ingestd.core.metrics import Metrics
from ingestd.delivery.backoff import Backoff
from ingestd.delivery.circuit import State
from ingestd.delivery.lane import Lane
from ingestd.delivery.retry_worker import RetryWorker
from ingestd.delivery.settings import LaneSettings
from ingestd.letter_desk import LetterDesk
from ingestd.schemas.key_paths import KeyPaths
from ingestd.schemas.load import load as load_schema
from ingestd.sinks.ingest_api import IngestApi
from ingestd.stages.batcher import Batcher
from ingestd.stages.dedup import Window
from ingestd.stages.validate import Validator
from ingestd.store.audit_log import AuditLog
from ingestd.store.database import Database, StoreFailed
from ingestd.store.dead_letters import IDEMPOTENCY_WINDOW_S, purge_delivered, release_leases
from ingestd.store.journal import Journal
from ingestd.store.lock import DirectoryLock
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
    stop_on_outage: bool = True,
    requested_letters_only: bool = False,
) -> AsyncIterator[Pipeline]:
    """Wire a pipeline on a state directory. Raises UserError (also StoreFailed) before anything is sent.

    On the way out the stores are committed and closed; the client goes first.
    """
    async with AsyncExitStack() as stack:
        validator = make_validator(settings)
        stack.callback(DirectoryLock(directory).release)

        database = Database(directory)
        await database.open()
        stack.push_async_callback(database.close)
        if database.warning:
            warn(database.warning)
        journal = Journal(database)
        window = await _restore_window(settings, journal, clock)
        retention_s = settings.letters.retention
        database.note(release_leases)
        database.note(lambda connection: purge_delivered(connection, clock.wall() - retention_s))

        ledger = Ledger()
        metrics = Metrics(ledger)
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
            stop_on_outage=stop_on_outage,
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
            requested_only=requested_letters_only,
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


def make_validator(settings: Settings) -> Validator:
    """Raises UserError for a schema that cannot be loaded or key paths that make no sense."""
    schema = load_schema(settings.schema_.name)
    paths = settings.schema_.dedup_key
    return Validator(schema, KeyPaths.parse(paths) if paths else None)


async def _restore_window(settings: Settings, journal: Journal, clock: Clock) -> Window:
    max_count, max_age_s = settings.window.max_count, settings.window.max_age
    window = Window(await journal.secret(), max_count=max_count, max_age_s=max_age_s)
    now, wall = clock.monotonic(), clock.wall()
    for confirmed_at, digests in await journal.window(not_before=wall - max_age_s, max_count=max_count):
        window.restore(digests, confirmed_at=now - max(0.0, wall - confirmed_at), now=now)
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
    gauges.circuit_closed = lambda: lane.circuit.state is State.CLOSED
    gauges.window_known = lambda: len(window)
    gauges.window_pending = lambda: window.pending
