"""The parts of a running service, and how its HTTP side is made from the settings."""

from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from functools import partial
from signal import Signals
from typing import TYPE_CHECKING, Any, Protocol

from ingestd.admin.access import Access
from ingestd.app.console.looks import Looks
from ingestd.app.outside import Outside
from ingestd.config import IngestConfig, Settings
from ingestd.core import redaction
from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.core.ledger import Ledger
from ingestd.core.units import rfc3339
from ingestd.httpd.request import ServerLimits
from ingestd.httpd.server import Server
from ingestd.httpd.tls import Certificates
from ingestd.recording.event_recorder import EventTrace
from ingestd.sources.http.access_tokens import FailedAttempts
from ingestd.sources.http.auth import Authenticator
from ingestd.sources.http.client_address import TrustedProxies
from ingestd.sources.http.endpoint import Endpoint, EndpointSettings
from ingestd.telemetry import log
from ingestd.telemetry.health import Readiness
from ingestd.telemetry.history import History
from ingestd.telemetry.metrics import Gauges, Metrics, ServiceGauges, ServiceMetrics
from ingestd.telemetry.refusals import Refusals
from ingestd.telemetry.systemd import Systemd
from ingestd.telemetry.watchdog import Watchdog
from ingestd.wiring.open_brokers import Brokers
from ingestd.wiring.open_ingest import IngestService
from ingestd.wiring.pipeline import Pipeline
from ingestd.wiring.producer_keys import console_tokens, producer_keys

if TYPE_CHECKING:
    from ingestd.telemetry.tracing import Spans

Load = Callable[[], Settings]
"""Reads the settings, at the start and on SIGHUP. Raises UserError."""


class Service:
    """What ``run.py`` builds and ends. Until ``opened`` only the first half of the fields is there."""

    pipeline: Pipeline
    refusals: Refusals
    ingest: IngestService
    brokers: Brokers
    endpoint: Endpoint
    server: Server
    certificates: Certificates | None
    admin_port: int
    trace: EventTrace
    signals: AsyncIterator[Signals]
    spans: "Spans | None" = None
    deadline: float = 0.0
    error: UserError | None = None

    def __init__(
        self,
        load: Load,
        settings: Settings,
        outside: Outside,
        *,
        read_gauges: Callable[["Service"], Gauges],
        read_service_gauges: Callable[["Service"], ServiceGauges],
    ) -> None:
        self.load = load
        self.settings = settings
        self.outside = outside
        self.clock = outside.clock
        self.started = self.clock.monotonic()
        self.metrics = Metrics(Ledger(), partial(read_gauges, self))
        self.own_metrics = ServiceMetrics(self.metrics.registry, partial(read_service_gauges, self))
        self.readiness = Readiness()
        self.watchdog = outside.watchdog or Watchdog(log.warning)
        self.systemd = Systemd()
        self.history = History()
        self.access = Access(self.clock)
        self.looks = Looks()
        self.opened = False
        self.closing = False
        self.reload_error = ""
        self.needs_restart: list[str] = []

    @property
    def exit_code(self) -> int:
        """0 after a drain, whatever the spool still holds."""
        return self.error.exit_code if self.error else 0


def authenticator(
    ingest: IngestConfig, clock: Clock, attempts: FailedAttempts | None = None
) -> Authenticator:
    """Reads the files of tokens and secrets, and hides them from the log. ``attempts``: those that failed so
    far. Raises UserError."""
    producers = producer_keys(ingest.producers)
    for keys in producers.values():
        for token in (*keys.tokens, *keys.passwords, *keys.api_keys, *keys.client_secrets):
            redaction.hide(token)
        for secret in keys.webhook_secrets:
            redaction.hide(b64encode(secret).decode())
    return Authenticator(producers, clock=clock, token_lifetime_s=ingest.token_lifetime, attempts=attempts)


def open_console(service: "Service", settings: Settings) -> None:
    """Who may use the console, as configured now. Raises UserError."""
    tokens = console_tokens(settings.admin.tokens)
    for one in tokens:
        redaction.hide(one.token)
    service.access.configure(tokens)


def open_certificates(ingest: IngestConfig) -> Certificates | None:
    """None: plain HTTP. Raises UserError that names the file."""
    tls = ingest.tls
    if not tls.cert_file:
        return None
    return Certificates(tls.cert_file, tls.key_file, client_ca_file=tls.client_ca_file)


def endpoint_settings(ingest: IngestConfig) -> EndpointSettings:
    return EndpointSettings(
        max_events=ingest.max_events,
        max_body_bytes=ingest.max_body,
        max_expansion=ingest.max_expansion,
        wait_timeout_s=ingest.wait_timeout,
        webhook_origins=tuple(ingest.webhook_origins),
        webhook_rate=ingest.webhook_rate,
        access_token_in_query=ingest.access_token_in_query,
        unwrap=ingest.unwrapper,
        trusted_proxies=TrustedProxies(ingest.trusted_proxies) if ingest.trusted_proxies else None,
    )


def limits(ingest: IngestConfig) -> ServerLimits:
    return ServerLimits(
        max_head_bytes=ingest.max_head,
        max_body_bytes=ingest.max_body,
        head_timeout_s=ingest.head_timeout,
        body_timeout_s=ingest.body_timeout,
        idle_timeout_s=ingest.idle_timeout,
        max_connections=ingest.max_connections,
    )


class Reloadable(Protocol):
    """What reads its configuration again at SIGHUP: a service, an edge, a worker."""

    load: Load
    own_metrics: ServiceMetrics
    systemd: Systemd
    reload_error: str
    needs_restart: list[str]

    @property
    def clock(self) -> Clock: ...


def describe_reloads(service: Reloadable) -> dict[str, Any]:
    reloads = service.own_metrics.reloads
    return {
        "reloads": reloads.ok,
        "failed_reloads": reloads.failed,
        "last_ok": reloads.last_ok,
        "last_success": rfc3339(reloads.last_success) if reloads.last_success else None,
        "last_error": service.reload_error or None,
        "needs_restart": service.needs_restart,
    }
