"""The parts of a running edge or worker, and what ``/v1/status``, ``/readyz`` and the gauges show of it."""

import os
import secrets
import socket
from collections.abc import AsyncIterator, Callable
from functools import partial
from signal import Signals
from typing import Any

import anyio
import msgspec
from msgspec.structs import asdict

from ingestd import __version__
from ingestd.app.cluster.sink_states import describe_sinks
from ingestd.app.service_parts import Load, describe_reloads
from ingestd.cluster.edge_admission import EdgeAdmission
from ingestd.cluster.link import JetStreamLink
from ingestd.cluster.membership import Member
from ingestd.cluster.names import StreamNames
from ingestd.cluster.tap_source import TapSource
from ingestd.cluster.worker import Worker
from ingestd.config import Settings
from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.core.ledger import Ledger
from ingestd.core.redaction import redact_tree
from ingestd.httpd.server import Server
from ingestd.httpd.tls import Certificates
from ingestd.recording.event_recorder import EventTrace
from ingestd.sources.http.endpoint import Endpoint
from ingestd.telemetry import log
from ingestd.telemetry.audit_file import AuditLog
from ingestd.telemetry.cluster_metrics import OUTCOMES, ClusterCensus, ClusterGauges, ShareGauges
from ingestd.telemetry.health import Readiness
from ingestd.telemetry.metrics import Metrics, ServiceGauges, ServiceMetrics
from ingestd.telemetry.refusals import Refusals
from ingestd.telemetry.state_watch import StateWatch
from ingestd.telemetry.systemd import Systemd
from ingestd.telemetry.tap import Tap
from ingestd.telemetry.watchdog import Watchdog
from ingestd.transport.watched_file import Watch
from ingestd.wiring.factories import redacted_paths

_BEAT_S = 0.5
"""Of the watchdog: there are many edges and workers, and most of them have nothing to do."""


class Handed(msgspec.Struct, frozen=True):
    """By the supervisor of several processes on one machine, which share the address for producers.
    ``opened`` is called with the port of the admin address when all is open; ``configured``: the settings as
    they stand in the file."""

    opened: Callable[[int], None]
    configured: Settings


class ClusterService:
    """``edge`` and ``worker``: None where this process is none. ``refusals``: of an edge; ``audit``: of
    the supervisor, if there is one."""

    edge: EdgeAdmission | None = None
    link: JetStreamLink | None = None
    server: Server | None = None
    certificates: Certificates | None = None
    endpoint: Endpoint
    worker: Worker | None = None
    refusals: Refusals | None = None
    audit: AuditLog | None = None
    signals: AsyncIterator[Signals]
    admin_port = 0
    error: UserError | None = None

    def __init__(
        self, load: Load, settings: Settings, clock: Clock, *, kind: str, handed: Handed | None = None
    ) -> None:
        self.load = load
        self.handed = handed
        self.settings = settings
        self.configured = handed.configured if handed else settings
        self.reload_error = ""
        self.needs_restart: list[str] = []
        self.watch = Watch(log.warning)
        self.clock = clock
        self.started = clock.monotonic()
        self.metrics = Metrics(Ledger())
        self.own_metrics = ServiceMetrics(self.metrics.registry, partial(read_gauges, self))
        self.metrics.registry.register(ClusterCensus(partial(read_cluster, self)))
        self.trace = EventTrace(Tap(clock, redacted_paths(settings)))
        self.states = StateWatch(log.warning, clock, report=log.change)
        self.states.add_check("spool", self._full)
        self.readiness = Readiness()
        self.watchdog = Watchdog(log.warning, beat_s=_BEAT_S)
        self.systemd = Systemd()
        self.opened = False
        self.closed = anyio.Event()
        # Chunks are known by it: no process may have had it before.
        host = "".join(one if one.isalnum() else "-" for one in socket.gethostname())[:40]
        self.member = Member(
            name=f"{host}-{os.getpid()}-{secrets.token_hex(4)}",
            kind=kind,
            host=host,
            pid=os.getpid(),
            version=__version__,
            since=clock.wall(),
        )
        names = StreamNames(settings.spool.name)
        self.tap_source = TapSource(names, self.trace.tap, os.getpid(), self.member.name, clock)
        add = self.readiness.add
        add("service", self._phase)
        add("spool", self._out_of_reach)
        self.readiness.full = self._full

    @property
    def closing(self) -> bool:
        return self.closed.is_set()

    @property
    def exit_code(self) -> int:
        return self.error.exit_code if self.error else 0

    def _phase(self) -> str | None:
        if self.opened and not self.closing:
            return None
        return "is shutting down" if self.closing else "is starting"

    def _full(self) -> str | None:
        return self.edge.room.words if self.edge and self.edge.room.full else None

    def _out_of_reach(self) -> str | None:
        if self.link is not None and self.link.connection is None:
            return self.link.problem or "there is no connection to NATS"
        if full := self._full():
            return full
        if self.worker and not self.edge and not self.worker.connected:
            return self.worker.problem
        return None


def describe(service: ClusterService) -> dict[str, Any]:
    """``/v1/status``: no secrets, no payloads."""
    status: dict[str, Any] = {
        "version": __version__,
        "name": service.member.name,
        "kind": service.member.kind,
        "state": "stopping" if service.closing else "running" if service.opened else "starting",
        "uptime_seconds": round(service.clock.monotonic() - service.started, 1),
        "ready": service.readiness.ready,
        "reasons": service.readiness.reasons(),
        "full": service.readiness.full(),
        "config": describe_reloads(service),
        "spool": {"name": service.settings.spool.name, "servers": [*service.settings.spool.servers]},
    }
    if edge := service.edge:
        status["edge"] = {name: getattr(edge.counts, name) for name in edge.counts.__struct_fields__}
        producers = service.own_metrics.producers.counts
        status["producers"] = {name: count for name, count in producers.items() if count}
    if refusals := service.refusals:
        status["refused"] = msgspec.to_builtins(list(refusals.recent))
        status["refused_requests"] = {name: asdict(one) for name, one in refusals.counts.items()}
    if server := service.server:
        status["http"] = {
            "port": server.port,
            "connections": server.connections,
            "requests": {str(status): count for status, count in server.requests_by_status.items()},
        }
    if worker := service.worker:
        status["worker"] = {
            "connected": worker.connected,
            "trouble": worker.problem or None,
            "others": [one.name for one in worker.membership.others if one.kind != "edge"],
        }
        status["sinks"] = describe_sinks(worker, service.metrics.answered)
        status["shares"] = [_share(one) for one in shares(service)]
        status["lanes"] = [
            {"name": name, "ledger": asdict(worker.owned.ledger_of(name))} for name in worker.parts
        ]
    found: dict[str, Any] = redact_tree(status)
    return found


def _share(one: ShareGauges) -> dict[str, Any]:
    resolved = sum(one.events.values())
    return {
        "sink": one.sink,
        "partition": one.partition,
        "ledger": {"accepted": resolved + one.in_flight, **one.events, "in_flight": one.in_flight},
        "lag_chunks": one.lag_chunks,
        "oldest_seconds": round(one.oldest_s, 3),
    }


def shares(service: ClusterService) -> list[ShareGauges]:
    """Those that this worker owns."""
    if service.worker is None:
        return []
    now = service.clock.monotonic()
    found = []
    for share, owner in service.worker.owned.owners.items():
        if not owner.is_active:
            continue
        since = owner.oldest_since
        found.append(
            ShareGauges(
                share.sink,
                share.where,
                {outcome: getattr(owner.ledger, outcome) for outcome in OUTCOMES},
                owner.ledger.in_flight,
                owner.lag,
                0.0 if since is None else now - since,
            )
        )
    return found


def read_cluster(service: ClusterService) -> ClusterGauges:
    edge, worker = service.edge, service.worker
    connected = service.link.connection is not None if service.link else bool(worker and worker.connected)
    gauges = ClusterGauges(connected=connected, shares=shares(service))
    if edge:
        counts = edge.counts
        gauges.edge_events = {
            "stored": counts.stored,
            "duplicate": counts.duplicate,
            "rejected": counts.rejected,
        }
        gauges.edge_chunks = counts.chunks
    if worker:
        gauges.workers = 1 + sum(one.kind != "edge" for one in worker.membership.others)
    return gauges


def read_gauges(service: ClusterService) -> ServiceGauges:
    watchdog, server = service.watchdog, service.server
    gauges = ServiceGauges(
        loop_lag_s=watchdog.lag_s, loop_blocked=watchdog.blocked, ready=service.readiness.ready
    )
    if server:
        gauges.http_requests = server.requests_by_status
        gauges.http_connections = server.connections
        gauges.http_refused_connections = server.refused_connections
    if service.edge:
        gauges.deferred_events = service.edge.deferred
    return gauges
