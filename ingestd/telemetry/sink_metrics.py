"""The metrics of each sink, by its name in the configuration: a closed set, at most 16 of them.

``Metrics`` holds the registry; the pipeline adds the sinks. Everything is read at scrape time.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import msgspec

from ingestd.core.ledger import SinkLedger
from ingestd.telemetry.catalogue import help_of

if TYPE_CHECKING:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

_CONFIRMATIONS = ("confirmed", "failed", "timed_out")


def _none() -> int:
    return 0


class SinkGauges(msgspec.Struct):
    """Where values are read at scrape time."""

    ledger: Callable[[], SinkLedger] = SinkLedger
    active: Callable[[], int] = _none
    limit: Callable[[], int] = _none
    queued: Callable[[], int] = _none
    waiting: Callable[[], int] = _none
    held: Callable[[], int] = _none
    circuit_closed: Callable[[], bool] = lambda: True
    is_parked: Callable[[], bool] = lambda: False
    without_order_key: Callable[[], int] = _none
    confirmations: Callable[[], Mapping[str, int]] = dict


class LakeGauges(msgspec.Struct):
    """Values read at scrape time."""

    waiting_events: Callable[[], int] = _none
    waiting_bytes: Callable[[], int] = _none
    oldest_s: Callable[[], float] = lambda: 0.0
    files: Callable[[], int] = _none
    failures: Callable[[], int] = _none
    skipped_events: Callable[[], int] = _none


class SinkCensus:
    """Reads what sinks and lakes (by name) have at the moment of the scrape. ``behind``: how many chunks of
    the spool a sink has not read, ``backlog`` how many bytes wait for it."""

    def __init__(self) -> None:
        self.sinks: dict[str, SinkGauges] = {}
        self.lakes: dict[str, LakeGauges] = {}
        self.behind: dict[str, Callable[[], int]] = {}
        self.backlog: dict[str, Callable[[], int]] = {}

    def describe(self) -> "Iterator[Metric]":
        return iter(())

    def collect(self) -> "Iterator[Metric]":
        sinks, lakes = self.sinks.items(), self.lakes.items()
        ends = [
            (name, end, getattr(one.ledger(), end))
            for name, one in sinks
            for end in ("delivered", "dead_lettered", "dropped")
        ]
        yield _counter("ingestd_sink_events", ends, "outcome")
        yield _counter("ingestd_routed_events", [(name, one.ledger().routed) for name, one in sinks])
        yield _counter("ingestd_requests", [(name, one.ledger().requests) for name, one in sinks])
        yield _counter("ingestd_retries", [(name, one.ledger().retries) for name, one in sinks])
        yield _counter("ingestd_sent_bytes", [(name, one.ledger().bytes) for name, one in sinks])
        yield _gauge("ingestd_sink_in_flight_events", [(name, one.ledger().in_flight) for name, one in sinks])
        yield _gauge(
            "ingestd_sink_behind_chunks", [(name, self.behind.get(name, _none)()) for name, _ in sinks]
        )
        backlog = [(name, self.backlog.get(name, _none)()) for name, _ in sinks]
        yield _gauge("ingestd_sink_backlog_bytes", backlog)
        yield _gauge("ingestd_sink_parked", [(name, int(one.is_parked())) for name, one in sinks])
        yield _gauge("ingestd_active_requests", [(name, one.active()) for name, one in sinks])
        yield _gauge("ingestd_concurrency_limit", [(name, one.limit()) for name, one in sinks])
        queued = [(name, "new", one.queued()) for name, one in sinks]
        queued += [(name, "retry", one.waiting()) for name, one in sinks]
        yield _gauge("ingestd_queued_batches", queued, "kind")
        yield _gauge("ingestd_held_events", [(name, one.held()) for name, one in sinks])
        without = [(name, one.without_order_key()) for name, one in sinks]
        yield _counter("ingestd_events_without_order_key", without)
        yield _gauge("ingestd_circuit_closed", [(name, int(one.circuit_closed())) for name, one in sinks])
        yield _gauge("ingestd_confirming_events", [(name, one.ledger().confirming) for name, one in sinks])
        samples = [
            (name, end, one.confirmations().get(end, 0)) for name, one in sinks for end in _CONFIRMATIONS
        ]
        yield _counter("ingestd_confirmations", samples, "outcome")
        yield _gauge("ingestd_lake_waiting_events", [(name, one.waiting_events()) for name, one in lakes])
        yield _gauge("ingestd_lake_waiting_bytes", [(name, one.waiting_bytes()) for name, one in lakes])
        yield _gauge("ingestd_lake_oldest_seconds", [(name, one.oldest_s()) for name, one in lakes])
        yield _counter("ingestd_lake_files", [(name, one.files()) for name, one in lakes])
        yield _counter("ingestd_lake_failures", [(name, one.failures()) for name, one in lakes])
        yield _counter("ingestd_lake_skipped_events", [(name, one.skipped_events()) for name, one in lakes])


def _counter(base: str, values: Iterable[tuple[object, ...]], *labels: str) -> "CounterMetricFamily":
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(base, help_of(base + "_total"), labels=["sink", *labels])
    for *names, number in values:
        family.add_metric([str(name) for name in names], float(number))  # type: ignore[arg-type]
    return family


def _gauge(name: str, values: Iterable[tuple[object, ...]], *labels: str) -> "GaugeMetricFamily":
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(name, help_of(name), labels=["sink", *labels])
    for *names, number in values:
        family.add_metric([str(value) for value in names], float(number))  # type: ignore[arg-type]
    return family
