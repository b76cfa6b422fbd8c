"""Opens an edge and a worker of a spool on JetStream, from the settings. Called by ``app/cluster/``."""

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from msgspec.structs import replace

from ingestd.cluster import installation
from ingestd.cluster.edge_admission import EdgeAdmission
from ingestd.cluster.event_splitter import EventSplitter, OrderOf
from ingestd.cluster.limits import check_edge, check_order, check_worker
from ingestd.cluster.link import JetStreamLink
from ingestd.cluster.names import StreamNames
from ingestd.cluster.rate_entry import SharedLimit
from ingestd.cluster.share_letters import LetterLimits
from ingestd.cluster.sink_parts import SinkParts
from ingestd.config import Login, Settings
from ingestd.core.bounds import DEFAULT_BOUNDS, Bounds
from ingestd.core.clock import Clock
from ingestd.core.receipt import Positions
from ingestd.delivery.lane_settings import LaneSettings
from ingestd.processing import routes
from ingestd.recording.event_recorder import EventTrace
from ingestd.schemas.key_doubts import key_of
from ingestd.sinks.settings import HttpSinkConfig
from ingestd.sinks.sink import Sink
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.nats.connection import NatsConnection
from ingestd.telemetry.audit_entry import no_audit
from ingestd.telemetry.metrics import Metrics
from ingestd.telemetry.state_watch import StateWatch
from ingestd.transport.auth import NoAuth
from ingestd.transport.client import Auth, Sender
from ingestd.transport.url_guard import UrlGuard
from ingestd.transport.watched_file import Watch
from ingestd.wiring.factories import make_sink, make_validator, sections_of, watch_url
from ingestd.wiring.open_sinks import lane_settings, make_batcher, open_api_login, sink_auth, sink_client
from ingestd.wiring.sink_context import SinkContext

Warn = Callable[[str], None]
_LEADER_S, _AGAIN_S = 30.0, 0.2


async def open_edge(
    settings: Settings,
    link: JetStreamLink,
    *,
    edge: str,
    accepted: Callable[[str, int], None],
    clock: Clock,
    warn: Warn,
    trace: EventTrace | None = None,
    bounds: Bounds = DEFAULT_BOUNDS,
) -> EdgeAdmission:
    """With a link that is not open yet. Raises UserError, BrokerAway."""
    check_edge(settings)
    validator = make_validator(settings, warn=warn)
    order_by = settings.delivery.order_by
    order = key_of("delivery.order_by", order_by, settings.schema_.name, warn=warn) if order_by else None
    connection = await link.open()
    try:
        found = await _load(connection, settings, clock)
        installation.check(found, settings)
    except BaseException:
        await link.close()
        raise
    link.expected = StreamNames(settings.spool.name), found
    await link.follow(connection)
    return EdgeAdmission(
        link,
        StreamNames(settings.spool.name),
        edge=edge,
        secret=bytes.fromhex(found.secret),
        splitter=CurrentSplitter(link, order.of if order else None),
        validator=validator,
        max_event_bytes=min(settings.batch.max_bytes, connection.max_payload // 2),
        max_unanswered_bytes=bounds.unanswered_bytes,
        keep_rejected=settings.ingest.keep_rejected,
        accepted=accepted,
        clock=clock,
        trace=trace,
    )


class CurrentSplitter:
    """As the spool's partitions are now: another one for what arrives after ``spool resize``."""

    def __init__(self, link: JetStreamLink, order_of: OrderOf | None) -> None:
        self._link, self._order_of = link, order_of
        self._made: tuple[installation.Installation, EventSplitter] | None = None

    def __call__(self) -> EventSplitter:
        assert self._link.expected
        found = self._link.expected[1]
        if self._made is None or self._made[0] is not found:
            self._made = found, EventSplitter(found.partitions, self._order_of, first=found.first)
        return self._made[1]


async def _load(connection: NatsConnection, settings: Settings, clock: Clock) -> installation.Installation:
    """Of several servers there may be no leader for some seconds. Raises UserError, BrokerAway."""
    until = clock.monotonic() + _LEADER_S
    while True:
        try:
            return await installation.load(connection, settings)
        except BrokerAway:
            if not connection.is_open or clock.monotonic() > until:
                raise
            await clock.sleep(_AGAIN_S)


@asynccontextmanager
async def open_sink_parts(
    settings: Settings,
    login: Login | None,
    *,
    metrics: Metrics,
    states: StateWatch,
    trace: EventTrace,
    watch: Watch,
    clock: Clock,
    rng: random.Random,
    warn: Warn,
    bounds: Bounds = DEFAULT_BOUNDS,
) -> AsyncIterator[dict[str, SinkParts]]:
    """What a worker sends with, by sink; its clients are closed when it is left. Raises UserError."""
    check_worker(settings)
    if "'ref:" in str(settings.sinks):  # few refer to what the API has
        from ingestd.wiring.references import look_up

        settings = await look_up(settings, login, clock=clock)
    context = SinkContext(
        settings=settings,
        login=login,
        metrics=metrics,
        audit=no_audit,
        states=states,
        clock=clock,
        rng=rng,
        warn=warn,
        watch=watch,
        patient=True,
        bounds=bounds,
    )
    sections = sections_of(settings)
    validator = make_validator(settings, warn=warn)
    async with AsyncExitStack() as stack:
        shared = await open_api_login(stack, context, sections.values())
        found: dict[str, SinkParts] = {}
        for name, section in sections.items():
            sink = make_sink(name, section, login, settings.batch, clock.wall)
            watch_url(sink, section, watch, clock)
            lane = lane_settings(context, sink, section, confirms=False)
            check_order(name, own_order=lane.order_by is not None, settings=settings)
            limited = bool(section.requests_per_minute or section.events_per_second)
            found[name] = SinkParts(
                sink=sink,
                sender=await _sender(stack, context, section, shared, lane.max_in_flight),
                settings=replace(lane, follows_another=True),
                whole=limited and not section.shared_rate,
                make_batcher=partial(make_batcher, context, sink, section),
                matching=_matching(name, section.when),
                validator=validator,
                letters=_letter_limits(context, sink, section),
                limit=_shared_limit(section, lane) if section.shared_rate else None,
                metrics=metrics,
                audit=no_audit,
                states=states,
                trace=trace,
                clock=clock,
                rng=rng,
                warn=warn,
            )
        yield found


def _shared_limit(section: HttpSinkConfig, lane: LaneSettings) -> SharedLimit:
    return SharedLimit(section.requests_per_minute, section.events_per_second, lane.max_in_flight)


def _letter_limits(context: SinkContext, sink: Sink, section: HttpSinkConfig) -> LetterLimits:
    settings = context.settings
    return LetterLimits(
        requested_only=not settings.letters.retry,
        poll_s=settings.letters.poll_interval,
        max_events=min(sink.max_events, section.max_events or settings.batch.max_events),
        max_bytes=max(1, make_batcher(context, sink, section).max_event_bytes),
    )


async def _sender(
    stack: AsyncExitStack, context: SinkContext, section: HttpSinkConfig, shared: Auth, most: int
) -> Sender:
    """One for all shares of a sink: so many requests of each may be out."""
    guard = UrlGuard(allow_private=section.allow_private)
    shares = context.settings.spool.partitions
    client = await stack.enter_async_context(
        sink_client(context, max_connections=most * shares + 2, guard=guard)
    )
    return Sender(client, sink_auth(stack, context, section, client, shared or NoAuth()))


def _matching(name: str, when: Mapping[str, object]) -> Callable[[Sequence[bytes]], Positions]:
    compiled = routes.compile({name: when})

    def matching(events: Sequence[bytes]) -> Positions:
        return compiled.route(events).positions[name]

    return matching
