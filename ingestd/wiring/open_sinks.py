"""Opens the runners of a pipeline: for each sink its client, credentials, lane and retry worker."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from ingestd.core.backoff import Backoff
from ingestd.core.chunk import batch_ids
from ingestd.delivery.lane import Lane
from ingestd.delivery.lane_settings import LaneSettings
from ingestd.delivery.queues import Batcher
from ingestd.delivery.recorder import PendingConfirmations
from ingestd.delivery.sink_runner import RetryWorker, SinkRunner
from ingestd.processing.routes import Routes
from ingestd.recording.outcome_journal import ToLake
from ingestd.recording.sink_recorder import SinkRecorder
from ingestd.sinks.settings import HttpSinkConfig
from ingestd.sinks.sink import Sink
from ingestd.store.letter_queue import LetterQueue
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.transport.auth import NoAuth
from ingestd.transport.client import Auth, Client, Sender
from ingestd.transport.url_guard import UrlGuard
from ingestd.wiring.factories import make_sink, order_key, sections_of, waiting_words, watch_url
from ingestd.wiring.http_clients import OnRefresh, api_auth, make_client, own_auth
from ingestd.wiring.open_tracing import traced
from ingestd.wiring.sink_context import PipelineContext, SinkContext

if TYPE_CHECKING:
    from ingestd.delivery.batch_transport import BatchTransport
    from ingestd.processing.transforms.program import Program


async def open_runners(
    stack: AsyncExitStack, context: PipelineContext, routes: Routes, *, keep: Callable[[str], ToLake | None]
) -> list[SinkRunner]:
    """One for each sink; what they open is closed by ``stack``. ``keep``: what lakes write with the end of a
    sink's batches. Raises UserError."""
    sections = sections_of(context.settings)
    shared = await open_api_login(stack, context, sections.values())
    opened = []
    for name, section in sections.items():
        sink = make_sink(name, section, context.login, context.settings.batch, context.clock.wall)
        watch_url(sink, section, context.watch, context.clock)
        opened.append(await _open(stack, context, sink, section, shared, routes.sinks_of, keep=keep(name)))
    return opened


async def _open(
    stack: AsyncExitStack,
    context: PipelineContext,
    sink: Sink,
    section: HttpSinkConfig,
    api_login: Auth,
    sinks_of: Callable[[Sequence[bytes]], list[list[str]]],
    *,
    keep: ToLake | None,
) -> SinkRunner:
    settings, clock = context.settings, context.clock
    confirm = section.confirms
    lane_of = lane_settings(context, sink, section, confirms=confirm is not None)
    guard = UrlGuard(allow_private=section.allow_private)
    client = await stack.enter_async_context(
        sink_client(context, max_connections=lane_of.max_in_flight + 2, guard=guard)
    )
    auth = sink_auth(stack, context, section, client, api_login)
    sender: BatchTransport = (direct := Sender(client, auth))
    if section.handshake_origin:
        from ingestd.transport.webhook_handshake import WebhookHandshake

        sender = handshake = WebhookHandshake(
            direct,
            client,
            origin=section.handshake_origin,
            clock=clock,
            requests_per_minute=section.requests_per_minute,
            on_allowed=lambda requests_per_minute: lane.allow(requests_per_minute),
        )
        stack.push_async_callback(handshake.aclose)
    batcher = make_batcher(context, sink, section)
    transforms = await _transforms(context, sink.name, section, batcher.max_event_bytes)
    pending = PendingConfirmations(confirm.max_pending) if confirm else None
    recorder = SinkRecorder(
        sink.name,
        context.recorder,
        journal=context.journal,
        audit=context.audit,
        metrics=context.metrics,
        states=context.states,
        waiting=lambda: waiting_words(context.spool, context.metrics.ledger, recorder.ledger, sink.name),
        clock=clock,
        warn=context.warn,
        learn=batcher.learn,
        keep=keep,
        pending=pending,
        trace=context.trace,
        initial_delay_s=confirm.initial_delay if confirm else 1.0,
        transforms=transforms is not None,
    )
    sending, writing = traced(stack, context.trace, sink, sender, recorder)
    lane = Lane(
        sink,
        sending,
        writing,
        settings=lane_of,
        clock=clock,
        rng=context.rng,
        hold_back=(lambda: pending.full) if pending else None,
    )
    letters = LetterQueue(
        context.database,
        sink=sink.name,
        sinks_of=sinks_of,
        max_events=min(sink.max_events, section.max_events or settings.batch.max_events),
        max_bytes=max(1, batcher.max_event_bytes),
        requested_only=context.requested_letters_only or not settings.letters.retry,
        clock=clock,
        warn=context.warn,
        on_aside=recorder.put_aside,
        transform=transforms.run if transforms else None,
    )
    worker = RetryWorker(letters, lane, clock=clock, poll_s=settings.letters.poll_interval)
    runner = SinkRunner(sink, batcher, lane, recorder, worker, letters, transforms)
    runner.order_watch = lane_of.order_watch
    if confirm and pending:
        from ingestd.wiring.open_status_poller import open_status_poller

        runner.status_poller = await open_status_poller(
            context,
            recorder,
            confirm,
            client,
            auth,
            pending,
            keep=keep,
            transforms=transforms is not None,
            on_room=lane.wake,
        )
        runner.confirm_timeout_s = confirm.timeout + settings.delivery.startup_timeout
    context.metrics.by_sink.sinks[sink.name] = runner.gauges
    return runner


async def _transforms(
    context: PipelineContext, name: str, section: HttpSinkConfig, max_event_bytes: int
) -> "Program | None":
    if not (context.settings.transforms or section.transforms):
        return None
    from ingestd.wiring.transforms import open_transforms

    return await open_transforms(context.settings, name, section, context.database, max_event_bytes)


def lane_settings(
    context: SinkContext, sink: Sink, section: HttpSinkConfig, *, confirms: bool
) -> LaneSettings:
    settings = context.settings
    delivery, batch = settings.delivery, settings.batch
    max_in_flight = section.max_in_flight or delivery.max_in_flight
    max_queued = 2 if sink.max_events > 1 else 2 * max_in_flight
    order = order_key(settings, section, sink, warn=context.warn)
    return LaneSettings(
        max_in_flight=max_in_flight,
        max_queued=max_queued,
        max_waiting=max(16, max_in_flight),
        give_up_after_s=delivery.give_up_after,
        max_attempts=delivery.max_attempts,
        backoff=Backoff(base_s=delivery.backoff_base, cap_s=delivery.backoff_cap),
        circuit_threshold=delivery.circuit_threshold,
        startup_timeout_s=delivery.startup_timeout,
        outage_timeout_s=max(30.0, delivery.give_up_after),
        stop_on_outage=not context.patient,
        order_by=order.of,
        order_watch=order.watch,
        held_batch_events=min(sink.max_events, section.max_events or batch.max_events),
        held_batch_bytes=min(sink.max_bytes, section.max_bytes or batch.max_bytes),
        one_per_key=getattr(sink, "one_per_key", False),
        requests_per_minute=section.requests_per_minute,
        events_per_second=section.events_per_second,
        retry_ratio=delivery.retry_ratio,
        retry_per_s=delivery.min_retries_per_second,
        confirms=confirms,
        outage_look_s=context.bounds.outage_look_s,
    )


def make_batcher(context: SinkContext, sink: Sink, section: HttpSinkConfig) -> Batcher:
    batch = context.settings.batch
    return Batcher(
        max_bytes=min(sink.max_bytes, section.max_bytes or batch.max_bytes),
        max_events=min(sink.max_events, section.max_events or batch.max_events),
        max_age_s=batch.max_age if section.max_age is None else section.max_age,
        overhead_bytes=sink.overhead_bytes,
        sep_bytes=sink.separator_bytes,
        new_id=batch_ids(context.rng),
    )


def sink_client(context: SinkContext, *, max_connections: int, guard: UrlGuard | None = None) -> Client:
    return make_client(
        context.settings,
        max_connections=max_connections,
        guard=guard,
        watch=context.watch,
        clock=context.clock,
        rng=context.rng,
        engine=context.engine,
    )


def sink_auth(
    stack: AsyncExitStack, context: SinkContext, section: HttpSinkConfig, client: Client, api_login: Auth
) -> Auth:
    if section.auth_kind == "api":
        return api_login
    auth = own_auth(
        section,
        client,
        clock=context.clock,
        rng=context.rng,
        login_timeout_s=context.settings.delivery.startup_timeout,
        watch=context.watch,
        on_refresh=_on_refresh(context),
    )
    stack.push_async_callback(auth.aclose)
    return auth


async def open_api_login(
    stack: AsyncExitStack, context: SinkContext, sections: Iterable[HttpSinkConfig]
) -> Auth:
    """The login of [api], one for all sinks that use it."""
    login = context.login
    if login is None or login.token_url is None or all(one.auth_kind != "api" for one in sections):
        return NoAuth()
    client = sink_client(context, max_connections=3)
    auth = api_auth(
        login,
        await stack.enter_async_context(client),
        clock=context.clock,
        rng=context.rng,
        login_timeout_s=context.settings.delivery.startup_timeout,
        watch=context.watch,
        on_refresh=_on_refresh(context),
    )
    stack.push_async_callback(auth.aclose)
    return auth


def _on_refresh(context: SinkContext) -> OnRefresh:
    def refreshed(ok: bool, seconds: float) -> None:
        context.metrics.token_requests["ok" if ok else "failed"] += 1
        if ok:
            context.audit(AuditEntry.TOKEN_REFRESHED, latency_ms=round(seconds * 1000, 1))

    return refreshed
