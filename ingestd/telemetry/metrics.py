"""The metrics of a pipeline; ``catalogue.py`` has their meaning.

Counters of events are not kept here: ``Census`` reads the ledger at scrape time, so that what is
exported always balances and costs nothing per event. ``prometheus_client`` is loaded with the first registry:
a process that nobody scrapes does without.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

import msgspec

from ingestd import __version__
from ingestd.core.ledger import Ledger
from ingestd.core.reasons import Reason
from ingestd.telemetry.catalogue import help_of
from ingestd.telemetry.instruments import BatchSizes, Buckets, ProducerEvents
from ingestd.telemetry.sink_metrics import SinkCensus

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )


class Gauges(msgspec.Struct):
    """Values of a pipeline at the moment of the scrape; zeros while there is none."""

    oldest_s: float = 0.0
    window_known: int = 0
    window_pending: int = 0
    without_dedup_key: int = 0


ATTEMPT_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, float("inf"))
"""Seconds: the buckets of ``ingestd_attempt_seconds``."""


class Metrics:
    """One registry, with everything of the catalogue in it. ``read`` is asked at each scrape; ``letters``:
    how many there are, by state; ``attempt_seconds``: by sink and class of answer; ``token_requests``: by
    result."""

    def __init__(self, ledger: Ledger, read: Callable[[], Gauges] = Gauges) -> None:
        self.ledger = ledger
        self.letters: Mapping[str, int] = {}
        self.read = read
        self.attempt_seconds: dict[tuple[str, str], Buckets] = {}
        self.batch_sizes = BatchSizes()
        self.token_requests = {"ok": 0, "failed": 0}  # there from the start: a first increase must show
        self.by_sink = SinkCensus()

    @cached_property
    def registry(self) -> "CollectorRegistry":
        from prometheus_client import CollectorRegistry

        registry = CollectorRegistry()
        registry.register(Census(self))
        registry.register(self.by_sink)
        return registry

    @property
    def answered(self) -> dict[str, list[int]]:
        """Of each sink: how many of its requests got an answer, by the bound that it came within."""
        found: dict[str, list[int]] = {}
        for (sink, answer), buckets in self.attempt_seconds.items():
            before = found.setdefault(sink, [0] * len(ATTEMPT_BOUNDS))
            if answer != "none":
                found[sink] = [one + other for one, other in zip(before, buckets.counts, strict=True)]
        return found

    def seconds_of(self, sink: str) -> dict[str, Buckets]:
        """Of its attempts, by class of answer: all of them are there from the start."""
        made = {known: Buckets(ATTEMPT_BOUNDS[:-1]) for known in ANSWER_CLASSES}
        return {known: self.attempt_seconds.setdefault((sink, known), one) for known, one in made.items()}


ANSWER_CLASSES = ("2xx", "3xx", "4xx", "429", "5xx", "none")
"""The closed set of values of ``ingestd_attempt_seconds{answer=…}``."""
ANSWER_CLASS = {status: "429" if status == 429 else f"{status // 100}xx" for status in range(200, 600)}
"""Of a status; any other is ``none``."""


class Census:
    """Reads ledger and gauges at the moment of the scrape."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> "Iterator[Metric]":
        return iter(())

    def collect(self) -> "Iterator[Metric]":
        ledger, gauges = self._metrics.ledger, self._metrics.read()
        yield counter("ingestd_accepted_events", {"": ledger.accepted})
        outcomes = ("delivered", "duplicate", "rejected", "dead_lettered", "unmatched", "dropped")
        yield counter("ingestd_events", {o: getattr(ledger, o) for o in outcomes}, "outcome")
        reasons = {reason.value: ledger.by_reason.get(reason, 0) for reason in Reason}
        yield counter("ingestd_dead_letters", reasons, "reason", name="ingestd_dead_letters_total")
        yield counter("ingestd_retried_delivered", {"": ledger.retried_delivered})
        yield counter("ingestd_retried_duplicate", {"": ledger.retried_duplicate})
        yield counter("ingestd_retried_failed", {"": ledger.retried_failed})
        yield counter("ingestd_unmatched_item_errors", {"": ledger.unmatched_item_errors})
        yield gauge("ingestd_in_flight_events", {"": ledger.in_flight})
        yield gauge("ingestd_oldest_undelivered_seconds", {"": gauges.oldest_s})
        keys = {"known": gauges.window_known, "pending": gauges.window_pending}
        yield gauge("ingestd_window_keys", keys, "state")
        yield counter("ingestd_events_without_dedup_key", {"": gauges.without_dedup_key})
        states = {state: self._metrics.letters.get(state, 0) for state in ("waiting", "leased", "delivered")}
        yield gauge("ingestd_dead_letters", states, "state")
        attempts = self._metrics.attempt_seconds
        yield histogram("ingestd_attempt_seconds", attempts, "sink", "answer")
        yield histogram("ingestd_batch_events", {(): self._metrics.batch_sizes.events})
        yield histogram("ingestd_batch_bytes", {(): self._metrics.batch_sizes.bytes})
        yield counter("ingestd_token_requests", self._metrics.token_requests, "result")


def counter(
    base: str, values: Mapping[str, float], label: str = "", *, name: str = ""
) -> "CounterMetricFamily":
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(base, help_of(name or base + "_total"), labels=[label] if label else [])
    for value, number in values.items():
        family.add_metric([value] if label else [], number)
    return family


def gauge(name: str, values: Mapping[str, float], label: str = "") -> "GaugeMetricFamily":
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily(name, help_of(name), labels=[label] if label else [])
    for value, number in values.items():
        family.add_metric([value] if label else [], number)
    return family


def histogram(
    name: str, values: Mapping[tuple[str, str], Buckets] | Mapping[tuple[()], Buckets], *labels: str
) -> "HistogramMetricFamily":
    from prometheus_client.core import Exemplar, HistogramMetricFamily

    family = HistogramMetricFamily(name, help_of(name), labels=labels)
    for of, buckets in values.items():
        rows: list[tuple[str, float] | tuple[str, float, Exemplar]] = []
        for at, (bound, count) in enumerate(buckets.cumulative()):
            row = "+Inf" if bound == float("inf") else str(float(bound)), float(count)
            example = buckets.examples.get(at)
            rows.append((*row, Exemplar(dict(example[1]), example[0])) if example else row)
        family.add_metric(of, rows, sum_value=buckets.total)
    return family


HTTP_CODES = (
    *(200, 202, 204, 400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 417, 422, 429, 431),
    *(500, 501, 503, 505),
)
"""The closed set of values of ``ingestd_http_requests_total{code=…}``; any other is ``other``."""
DEFERRED_CODES = (429, 503)
STATE_FILES = ("db", "wal")
SPAN_RESULTS = ("exported", "failed", "dropped")


class Reloads(msgspec.Struct):
    """Of the configuration. The one at the start is none, but it gives the first time of success."""

    ok: int = 0
    failed: int = 0
    last_success: float = 0.0
    """Seconds since the epoch."""
    last_ok: bool = True

    def note(self, ok: bool, *, wall: float) -> None:
        self.last_ok = ok
        if ok:
            self.ok += 1
            self.last_success = wall
        else:
            self.failed += 1


class ServiceGauges(msgspec.Struct):
    """Values of a service at the moment of the scrape; zeros before it is open.

    The mappings go from status code to a number that never falls; ``state_file_bytes`` from
    STATE_FILES, ``spans`` from SPAN_RESULTS.
    """

    spool_bytes: int = 0
    spool_max_bytes: int = 0
    spool_events: int = 0
    spool_chunks: int = 0
    spool_quarantined_chunks: int = 0
    damaged_state_files: int = 0
    disk_full: bool = False
    state_file_bytes: Mapping[str, int] = msgspec.field(default_factory=dict)
    http_requests: Mapping[int, int] = msgspec.field(default_factory=dict)
    http_connections: int = 0
    http_refused_connections: int = 0
    deferred_events: Mapping[int, int] = msgspec.field(default_factory=dict)
    loop_lag_s: float = 0.0
    loop_blocked: int = 0
    ready: bool = False
    spans: Mapping[str, int] = msgspec.field(default_factory=dict)


class ServiceMetrics:
    """What the service counts into; made once, on the registry of ``Metrics``."""

    def __init__(
        self, registry: "CollectorRegistry", read: Callable[[], ServiceGauges] = ServiceGauges
    ) -> None:
        from prometheus_client import PlatformCollector, ProcessCollector

        self.registry = registry
        self.read = read
        self.producers = ProducerEvents()
        self.reloads = Reloads()
        self.commit_seconds = Buckets((0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1))
        registry.register(ServiceCensus(self))
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)


class ServiceCensus:
    """Reads everything at the moment of the scrape."""

    def __init__(self, metrics: ServiceMetrics) -> None:
        self._metrics = metrics

    def describe(self) -> "Iterator[Metric]":
        return iter(())

    def collect(self) -> "Iterator[Metric]":
        gauges = self._metrics.read()
        yield from self._intake(gauges)
        yield from self._storage(gauges)
        yield from self._process(gauges)

    def _intake(self, gauges: ServiceGauges) -> "Iterator[Metric]":
        yield counter("ingestd_http_requests", _by_code(gauges.http_requests, HTTP_CODES), "code")
        yield gauge("ingestd_http_connections", {"": gauges.http_connections})
        yield counter("ingestd_http_refused_connections", {"": gauges.http_refused_connections})
        deferred = _by_code(gauges.deferred_events, DEFERRED_CODES)
        yield counter("ingestd_intake_deferred_events", deferred, "status")
        yield counter("ingestd_producer_events", self._metrics.producers.counts, "producer")

    def _storage(self, gauges: ServiceGauges) -> "Iterator[Metric]":
        yield gauge("ingestd_spool_bytes", {"": gauges.spool_bytes})
        yield gauge("ingestd_spool_max_bytes", {"": gauges.spool_max_bytes})
        yield gauge("ingestd_spool_events", {"": gauges.spool_events})
        yield gauge("ingestd_spool_chunks", {"": gauges.spool_chunks})
        yield gauge("ingestd_spool_quarantined_chunks", {"": gauges.spool_quarantined_chunks})
        yield gauge("ingestd_damaged_state_files", {"": gauges.damaged_state_files})
        yield histogram("ingestd_commit_seconds", {(): self._metrics.commit_seconds})
        yield gauge("ingestd_disk_full", {"": int(gauges.disk_full)})
        sizes = gauges.state_file_bytes
        yield gauge("ingestd_state_file_bytes", {name: sizes.get(name, 0) for name in STATE_FILES}, "file")

    def _process(self, gauges: ServiceGauges) -> "Iterator[Metric]":
        reloads = self._metrics.reloads
        yield counter("ingestd_config_reloads", {"ok": reloads.ok, "failed": reloads.failed}, "result")
        since = {"": reloads.last_success}
        yield gauge("ingestd_config_last_reload_success_timestamp_seconds", since)
        yield gauge("ingestd_config_last_reload_successful", {"": int(reloads.last_ok)})
        yield gauge("ingestd_loop_lag_seconds", {"": gauges.loop_lag_s})
        yield counter("ingestd_loop_blocked", {"": gauges.loop_blocked})
        yield gauge("ingestd_ready", {"": int(gauges.ready)})
        spans = {result: gauges.spans.get(result, 0) for result in SPAN_RESULTS}
        yield counter("ingestd_spans", spans, "result")
        yield gauge("ingestd_build_info", {__version__: 1}, "version")


def _by_code(counts: Mapping[int, int], codes: tuple[int, ...]) -> dict[str, int]:
    values = {str(code): counts.get(code, 0) for code in codes}
    other = sum(count for code, count in counts.items() if code not in codes)
    return values | {"other": other} if other else values
