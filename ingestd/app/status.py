"""What ``/v1/status``, ``/readyz`` and the gauges show of a running service; all read from memory."""

import os
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import asdict

from ingestd import __version__
from ingestd.app.service_parts import Service, describe_reloads
from ingestd.core import accelerator
from ingestd.core.ledger import Ledger
from ingestd.delivery.sink_runner import SinkRunner
from ingestd.store.connection import kept_files
from ingestd.store.spool import Spool
from ingestd.telemetry.metrics import Gauges, ServiceGauges
from ingestd.wiring.broker_feed import BrokerSource

if TYPE_CHECKING:
    from ingestd.wiring.open_lakes import OpenLake


def describe(service: Service) -> dict[str, Any]:
    """``/v1/status``: what an operator needs to see in a minute. No secrets, no payloads."""
    status: dict[str, Any] = {
        "version": __version__,
        "accelerator": accelerator.STATE,
        "state": "stopping" if service.closing else "running" if service.opened else "starting",
        "uptime_seconds": round(service.clock.monotonic() - service.started, 1),
        "ready": service.readiness.ready,
        "reasons": service.readiness.reasons(),
        "ledger": describe_ledger(service.metrics.ledger),
        "config": describe_reloads(service),
    }
    if service.opened:
        status |= {
            "spool": _spool(service),
            "store": _store(service),
            "lanes": [_lane(runner, service.pipeline.spool) for runner in service.pipeline.runners],
            "lakes": [_lake(lake) for lake in service.pipeline.lakes],
            "sources": [_source(service, feed.source) for feed in service.brokers.feeds],
            "window": _window(service),
            "keys": [watch.describe() for watch in service.pipeline.watches],
            "dead_letters": service.metrics.letters,
            "http": _http(service),
            "refused": msgspec.to_builtins(list(service.refusals.recent)),
            "loop": {"lag_seconds": round(service.watchdog.lag_s, 3), "blocked": service.watchdog.blocked},
        }
    return status


def describe_ledger(ledger: Ledger) -> dict[str, Any]:
    fields = asdict(ledger)
    fields["by_reason"] = {reason.value: count for reason, count in ledger.by_reason.items()}
    return fields


def _spool(service: Service) -> dict[str, Any]:
    ingest = service.ingest
    spool = ingest.spool
    blocked = service.pipeline.database.blocked
    return {
        "events": spool.events,
        "bytes": spool.bytes,
        "max_bytes": ingest.pressure.max_bytes,
        "chunks": spool.chunks,
        "parked_bytes": ingest.pressure.parked_bytes,
        "oldest_seconds": round(read_gauges(service).oldest_s, 3),
        "reading_from_disk": any(feed.source.behind for feed in ingest.feeds),
        "blocked": str(blocked) if blocked else None,
        "damage": [damage._asdict() for damage in spool.damage[-20:]],
    }


def _store(service: Service) -> dict[str, Any]:
    database = service.pipeline.database
    return {
        "directory": str(database.path.parent),
        "repaired": database.repaired or None,
        "damaged": [str(kept) for kept in kept_files(database.path.parent)],
    }


def _lane(runner: SinkRunner, spool: Spool) -> dict[str, Any]:
    lane, ledger, cursor = runner.lane, runner.ledger, spool.cursors[runner.name]
    return {
        "name": runner.name,
        "type": runner.sink.kind,
        "url": runner.sink.shown_url,
        "circuit": str(lane.circuit.state),
        "why": lane.circuit.why or None,
        "parked": runner.parked or None,
        "backlog_events": cursor.events,
        "backlog_bytes": cursor.bytes,
        "active_requests": lane.active,
        "concurrency_limit": lane.limiter.limit,
        "queued_batches": lane.queued,
        "waiting_batches": lane.waiting,
        "held_events": lane.held,
        "ledger": asdict(ledger),
    }


def _lake(open_lake: "OpenLake") -> dict[str, Any]:
    lake = open_lake.lake
    return {
        "name": open_lake.name,
        "waiting_events": lake.outbox.events,
        "waiting_bytes": lake.outbox.bytes,
        "oldest_seconds": round(lake.oldest_age_s, 3),
        "files": lake.files_written,
        "skipped_events": lake.outbox.skipped_events,
        "trouble": lake.problem or None,
    }


def _source(service: Service, source: BrokerSource) -> dict[str, Any]:
    """``problem``: why its broker gives nothing; ``held_up_by``: sinks that take nothing meanwhile."""
    return {
        "name": source.name,
        **msgspec.to_builtins(source.counts),
        "oldest_seconds": round(source.oldest_s, 3),
        "held_up_by": [one.name for one in service.pipeline.runners if one.lane.circuit.why],
    }


def _window(service: Service) -> dict[str, int]:
    window = service.pipeline.window
    return {
        "known": len(window),
        "pending": window.pending,
        "max_count": service.settings.window.max_count,
    }


def _http(service: Service) -> dict[str, Any]:
    server = service.server
    return {
        "listen": service.settings.ingest.listen,
        "port": server.port,
        "connections": server.connections,
        "requests": {str(status): count for status, count in server.requests_by_status.items()},
        "waiting_for_delivery": len(service.ingest.waiting),
    }


def add_conditions(service: Service) -> None:
    """What has to hold for producers to be sent here."""
    add = service.readiness.add
    add("service", lambda: None if service.opened and not service.closing else _phase(service))
    add("store", lambda: _blocked(service))
    add("spool", lambda: _full(service))


def watch_readiness(service: Service) -> None:
    """The log says why producers have to wait, each time that it changes."""
    states = service.pipeline.states
    states.add_check("store", lambda: _blocked(service))
    states.add_check("spool", lambda: _full(service), lambda: _waiting(service.ingest.spool.events))


def _waiting(events: int) -> str:
    return f"{events:,} events wait"


def _phase(service: Service) -> str:
    return "is shutting down" if service.closing else "is starting"


def _blocked(service: Service) -> str | None:
    blocked = service.pipeline.database.blocked if service.opened else None
    return str(blocked) if blocked else None


def _full(service: Service) -> str | None:
    if not service.opened:
        return None
    ingest = service.ingest
    if not ingest.pressure.full:
        return None
    if behind := ingest.pressure.behind(0):
        return f"a sink is behind, {behind}"
    spool = ingest.spool
    runner = next(one for one in service.pipeline.runners if one.name == spool.fullest)
    why = f": {runner.lane.circuit.why}" if runner.lane.circuit.why else ""
    behind = f"{spool.cursors[runner.name].bytes} of them wait for {runner.name}{why}"
    return f"holds {spool.bytes} of {ingest.pressure.max_bytes} bytes; {behind}"


def read_gauges(service: Service) -> Gauges:
    """For a scrape; ``oldest_s``: the age of the oldest event that is not resolved."""
    if not service.opened:
        return Gauges()
    accepted_at = service.ingest.spool.oldest_accepted_at
    oldest_s = 0.0 if accepted_at is None else max(0.0, service.clock.wall() - accepted_at)
    return service.pipeline.gauges(oldest_s)


def read_service_gauges(service: Service) -> ServiceGauges:
    watchdog = service.watchdog
    if not service.opened:
        return ServiceGauges(loop_lag_s=watchdog.lag_s, loop_blocked=watchdog.blocked)
    spool, server, database = service.ingest.spool, service.server, service.pipeline.database
    return ServiceGauges(
        spool_bytes=spool.bytes,
        spool_max_bytes=service.ingest.pressure.max_bytes,
        spool_events=spool.events,
        spool_chunks=spool.chunks,
        spool_quarantined_chunks=sum(d.last - d.first + 1 for d in spool.damage),
        damaged_state_files=len(kept_files(database.path.parent)),
        disk_full=bool(database.blocked and database.blocked.full),
        state_file_bytes={"db": _size(f"{database.path}"), "wal": _size(f"{database.path}-wal")},
        http_requests=server.requests_by_status,
        http_connections=server.connections,
        http_refused_connections=server.refused_connections,
        deferred_events=service.ingest.admission.deferred,
        loop_lag_s=watchdog.lag_s,
        loop_blocked=watchdog.blocked,
        ready=service.readiness.ready,
        spans=service.spans.counts if service.spans else {},
    )


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
