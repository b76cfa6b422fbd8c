"""How a service is doing, with its last hour; from memory."""

import os
from collections.abc import Iterator
from itertools import accumulate

from ingestd import __version__
from ingestd.admin.read_model import Charts, Overview, ProducerView, Rates, SinkView, SpoolView
from ingestd.app.service_parts import Service
from ingestd.app.status import describe_ledger, read_gauges
from ingestd.core.redaction import redact, redact_tree
from ingestd.delivery.circuit_breaker import BreakerState
from ingestd.delivery.sink_runner import SinkRunner
from ingestd.telemetry.history import History, quantile
from ingestd.telemetry.metrics import ATTEMPT_BOUNDS

_NOW_S, _TREND_S, _FEW_MINUTES_S, _HOUR_S = 10.0, 30.0, 300.0, 3600.0


def sample(service: Service) -> None:
    """To be called about once a second: notes what has changed for rates and charts."""
    history, now = service.history, service.clock.monotonic()
    if not service.opened or not history.due(now):
        return
    values: dict[str, float] = {
        "accepted": service.metrics.ledger.accepted,
        "delivered": service.metrics.ledger.delivered,
        "spool": service.ingest.spool.bytes,
        "held": service.ingest.spool.bytes - service.ingest.pressure.parked_bytes,
    }
    for runner in service.pipeline.runners:
        values[f"sink {runner.name}"] = runner.ledger.delivered
    for producer, events in _counts(service).items():
        if events:
            values[f"producer {producer}"] = events
    for name, counts in service.metrics.answered.items():
        for bound, count in zip(ATTEMPT_BOUNDS, accumulate(counts), strict=True):
            values[f"seconds {name} {bound}"] = count
    history.add(now, service.clock.wall(), values)


def overview(service: Service) -> Overview:
    now, wall = service.clock.monotonic(), service.clock.wall()
    history = service.history
    return Overview(
        version=__version__,
        pid=os.getpid(),
        state="stopping" if service.closing else "running" if service.opened else "starting",
        started=wall - (now - service.started),
        now=wall,
        ready=service.readiness.ready,
        reasons=redact_tree(service.readiness.reasons()),
        directory=str(service.pipeline.database.path.parent),
        accepted=_rates(history, "accepted"),
        delivered=_rates(history, "delivered"),
        ledger=describe_ledger(service.metrics.ledger),
        spool=_spool(service),
        sinks=[_sink(service, runner, now, wall) for runner in service.pipeline.runners],
        producers=[_producer(service, *one) for one in _producers(service)],
        letters=dict(service.metrics.letters),
        needs_restart=list(service.needs_restart),
        reload_error=redact(service.reload_error) or None,
    )


def charts(service: Service) -> Charts:
    history = service.history
    names = [runner.name for runner in service.pipeline.runners]
    return Charts(
        times=history.times(),
        accepted=history.rates("accepted"),
        delivered={name: history.rates(f"sink {name}") for name in names},
        spool_bytes=history.values("spool"),
    )


def _rates(history: History, name: str) -> Rates:
    return Rates(
        now=round(history.rate(name, _NOW_S), 2),
        five_minutes=round(history.rate(name, _FEW_MINUTES_S), 2),
        hour=round(history.rate(name, _HOUR_S), 2),
    )


def _counts(service: Service) -> dict[str, int]:
    """Events by producer. A broker is one, by the name of its source."""
    counts = dict(service.own_metrics.producers.counts)
    for feed in service.brokers.feeds:
        if not feed.is_spooled:  # else its events are counted where they are accepted
            counts[feed.source.name] = counts.get(feed.source.name, 0) + feed.source.counts.messages
    return counts


def _producers(service: Service) -> Iterator[tuple[str, int]]:
    """Those that are configured, and others that have sent something, or were refused."""
    known = {*service.settings.ingest.producers, *service.brokers.names}
    refused = {name or "anonymous" for name in service.refusals.counts}
    for name, events in _counts(service).items():
        if events or name in known or name in refused:
            yield name, events


def _producer(service: Service, name: str, events: int) -> ProducerView:
    found = service.refusals.counts.get("" if name == "anonymous" else name)
    return ProducerView(
        name=name,
        accepted=events,
        refused=found.refused if found else 0,
        throttled=found.throttled if found else 0,
        rates=_rates(service.history, f"producer {name}"),
    )


def _spool(service: Service) -> SpoolView:
    """What only parked sinks wait for fills nothing: see ``intake/parking.py``."""
    spool, pressure = service.ingest.spool, service.ingest.pressure
    growth = service.history.slope("held", _TREND_S)
    left = pressure.max_bytes - (spool.bytes - pressure.parked_bytes)
    waits = {one.name: spool.cursors[one.name].bytes for one in service.pipeline.runners if not one.parked}
    fullest = max(waits, key=lambda name: waits[name], default=None)
    blocked = service.pipeline.database.blocked
    return SpoolView(
        events=spool.events,
        bytes=spool.bytes,
        parked_bytes=pressure.parked_bytes,
        max_bytes=pressure.max_bytes,
        oldest=round(read_gauges(service).oldest_s, 1),
        full_in=round(max(0.0, left / growth)) if growth > 0 else None,
        filled_by=fullest if fullest and waits[fullest] else None,
        blocked=str(blocked) if blocked else None,
    )


def _sink(service: Service, runner: SinkRunner, now: float, wall: float) -> SinkView:
    lane, ledger = runner.lane, runner.ledger
    circuit, spool = lane.circuit, service.ingest.spool
    closed = circuit.state is BreakerState.CLOSED
    accepted_at = spool.oldest_of(runner.name)
    never = lane.last_success == float("-inf")
    middle, slow = _seconds(service.history, runner.name)
    return SinkView(
        name=runner.name,
        type=runner.sink.kind,
        url=runner.sink.shown_url,
        state="parked" if runner.parked else str(circuit.state),
        since=wall - (now - max(circuit.since, service.started)),
        why=redact(circuit.why),
        parked=runner.parked or None,
        last_success=None if never else wall - (now - lane.last_success),
        next_probe=None if closed else max(0.0, round(circuit.probe_at - now, 1)),
        active_requests=lane.active,
        concurrency_limit=lane.limiter.limit,
        in_flight=ledger.in_flight,
        behind_chunks=next(
            f.source.behind_chunks for f in service.ingest.feeds if f.source.sink == runner.name
        ),
        oldest=None if accepted_at is None else round(max(0.0, wall - accepted_at), 1),
        delivered=ledger.delivered,
        dead_lettered=ledger.dead_lettered,
        dropped=ledger.dropped,
        rates=_rates(service.history, f"sink {runner.name}"),
        p50=middle,
        p99=slow,
    )


def _seconds(history: History, sink: str) -> tuple[float | None, float | None]:
    """p50 and p99 of the last five minutes."""
    rises = [history.rate(f"seconds {sink} {bound}", _FEW_MINUTES_S) for bound in ATTEMPT_BOUNDS]
    middle, slow = quantile(0.5, ATTEMPT_BOUNDS, rises), quantile(0.99, ATTEMPT_BOUNDS, rises)
    return None if middle is None else round(middle, 4), None if slow is None else round(slow, 4)
