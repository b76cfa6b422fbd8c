"""How the sinks of a worker are doing, over all shares of each that it owns: a part of ``/v1/status``."""

from typing import Any

from ingestd.cluster.sink_parts import SinkParts
from ingestd.cluster.worker import Worker
from ingestd.core.redaction import redact
from ingestd.delivery.circuit_breaker import BreakerState
from ingestd.delivery.lane import Lane

_WORST = (BreakerState.CLOSED, BreakerState.OPEN, BreakerState.PAUSED)


def describe_sinks(worker: Worker, answered: dict[str, list[int]]) -> list[dict[str, Any]]:
    """``answered``: by sink how many requests took how long, see ``telemetry/metrics.py``. Times are wall
    times."""
    return [_sink(worker, name, parts, answered.get(name, [])) for name, parts in worker.parts.items()]


def _sink(worker: Worker, name: str, parts: SinkParts, answered: list[int]) -> dict[str, Any]:
    lanes = worker.owned.active_lanes(name)
    ledger, clock = worker.owned.ledger_of(name), parts.clock
    now, wall = clock.monotonic(), clock.wall()
    worst = max(lanes, key=lambda lane: _rank(lane), default=None)
    closed = worst is None or worst.circuit.state is BreakerState.CLOSED
    last = max((lane.last_success for lane in lanes), default=float("-inf"))
    return {
        "name": name,
        "type": parts.sink.kind,
        "url": parts.sink.shown_url,
        "state": str(worst.circuit.state) if worst else str(BreakerState.CLOSED),
        "since": wall - (now - worst.circuit.since) if worst and not closed else None,
        "parked": parked.at if (parked := worker.parking.parked.get(name)) else None,
        "why": redact(worst.circuit.why) if worst else "",
        "next_probe": max(0.0, round(worst.circuit.probe_at - now, 1)) if worst and not closed else None,
        "last_success": None if last == float("-inf") else wall - (now - last),
        "active_requests": worker.owned.out(name),
        "concurrency_limit": sum(lane.limiter.limit for lane in lanes),
        "delivered": ledger.delivered + ledger.retried_delivered,
        "dead_lettered": ledger.dead_lettered,
        "answered": [*answered],
    }


def _rank(lane: Lane) -> int:
    state = lane.circuit.state
    return _WORST.index(state) if state in _WORST else 1
