"""The metrics catalogue: every metric there is, with its meaning. Read by README's table and a test.

Counters of events are not kept here: ``Census`` reads the ledger at scrape time, so that what is
exported always balances and costs nothing per event.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingestd.core.ledger import Ledger
from ingestd.core.reasons import Reason

Kind = Literal["counter", "gauge", "histogram"]

PIPELINE_CATALOGUE: dict[str, tuple[Kind, str]] = {
    "ingestd_accepted_events_total": ("counter", "Events taken over from sources"),
    "ingestd_events_total": ("counter", "Events that had their end, by outcome"),
    "ingestd_dead_letters_total": ("counter", "Events that became dead letters, by reason"),
    "ingestd_in_flight_events": ("gauge", "Events accepted that have not had their end"),
    "ingestd_oldest_undelivered_seconds": ("gauge", "Age of the oldest event that has not had its end"),
    "ingestd_retried_delivered_total": ("counter", "Dead letters that were delivered by a retry"),
    "ingestd_unmatched_item_errors_total": ("counter", "Errors in answers that no event could be found for"),
    "ingestd_requests_total": ("counter", "Requests sent, retries included"),
    "ingestd_retries_total": ("counter", "Requests that repeated an earlier one"),
    "ingestd_sent_bytes_total": ("counter", "Bytes of request bodies sent, retries included"),
    "ingestd_attempt_seconds": ("histogram", "Duration of attempts, by class of answer"),
    "ingestd_batch_events": ("histogram", "Events in a batch at its first send"),
    "ingestd_batch_bytes": ("histogram", "Bytes of a batch's body at its first send"),
    "ingestd_active_requests": ("gauge", "Requests that are out now"),
    "ingestd_concurrency_limit": ("gauge", "Requests that may be out at once, by what the API answers"),
    "ingestd_queued_batches": ("gauge", "Batches in the lane, by whether they are new or wait for a retry"),
    "ingestd_held_events": ("gauge", "Events that wait for an earlier one of their order key"),
    "ingestd_circuit_closed": ("gauge", "1 while the lane sends freely, 0 while it only probes"),
    "ingestd_window_keys": ("gauge", "Keys in the deduplication window, by state"),
    "ingestd_dead_letters": ("gauge", "Letters in the dead-letter store, by state"),
    "ingestd_token_requests_total": ("counter", "Requests for an access token, by result"),
}
"""Name -> (kind, help), of what every pipeline has."""

SERVICE_CATALOGUE: dict[str, tuple[Kind, str]] = {
    "ingestd_http_requests_total": ("counter", "Requests of producers answered, by status code"),
    "ingestd_http_connections": ("gauge", "Connections of producers that are open"),
    "ingestd_http_refused_connections_total": ("counter", "Connections refused because too many were open"),
    "ingestd_intake_deferred_events_total": ("counter", "Events that were to be sent again, by status code"),
    "ingestd_producer_events_total": ("counter", "Events accepted, by configured producer"),
    "ingestd_spool_bytes": ("gauge", "Bytes of accepted events that wait on disk"),
    "ingestd_spool_max_bytes": ("gauge", "Bytes at which producers are told to wait"),
    "ingestd_spool_events": ("gauge", "Accepted events that wait on disk"),
    "ingestd_spool_chunks": ("gauge", "Chunks of accepted events on disk"),
    "ingestd_spool_quarantined_chunks": ("gauge", "Chunks that were found damaged and set aside"),
    "ingestd_disk_full": ("gauge", "1 while the disk takes no more"),
    "ingestd_state_file_bytes": ("gauge", "Size of the state database, by file"),
    "ingestd_commit_seconds": ("histogram", "Duration of group commits to disk"),
    "ingestd_config_reloads_total": ("counter", "Times the configuration was read again, by result"),
    "ingestd_config_last_reload_success_timestamp_seconds": ("gauge", "Time of the last reload that worked"),
    "ingestd_config_last_reload_successful": ("gauge", "1 if the last configuration that was read is in use"),
    "ingestd_loop_lag_seconds": ("gauge", "Worst delay of the event loop in the last 10 s"),
    "ingestd_loop_blocked_total": ("counter", "Times the event loop stood still for longer than allowed"),
    "ingestd_ready": ("gauge", "1 while producers are welcome, as /readyz says"),
    "ingestd_build_info": ("gauge", "1, with the version that runs"),
}
"""Of what only the long-running service has: ``service_metrics.py``."""

CATALOGUE = PIPELINE_CATALOGUE | SERVICE_CATALOGUE


@dataclass(slots=True)
class Gauges:
    """Values read at scrape time; the pipeline fills in where from."""

    oldest_s: Callable[[], float] = lambda: 0.0
    active: Callable[[], int] = lambda: 0
    limit: Callable[[], int] = lambda: 0
    queued: Callable[[], int] = lambda: 0
    waiting: Callable[[], int] = lambda: 0
    held: Callable[[], int] = lambda: 0
    circuit_closed: Callable[[], bool] = lambda: True
    window_known: Callable[[], int] = lambda: 0
    window_pending: Callable[[], int] = lambda: 0
    letters: dict[str, int] = field(default_factory=dict)


def help_of(name: str) -> str:
    return CATALOGUE[name][1]


class Metrics:
    """One registry, with everything of the catalogue in it."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.registry = CollectorRegistry()
        self.gauges = Gauges()
        self.attempt_seconds = self._histogram(
            "ingestd_attempt_seconds",
            (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            ["answer"],
        )
        self.batch_events = self._histogram(
            "ingestd_batch_events", (1, 10, 50, 100, 250, 500, 1000, 2500, 5000)
        )
        self.batch_bytes = self._histogram(
            "ingestd_batch_bytes", (1e3, 1e4, 5e4, 1e5, 2e5, 3e5, 4e5, 5e5, 1e6, 5e6)
        )
        self.token_requests = Counter(
            "ingestd_token_requests",
            help_of("ingestd_token_requests_total"),
            ["result"],
            registry=self.registry,
        )
        for result in ("ok", "failed"):  # there from the start: a counter's first increase must show
            self.token_requests.labels(result)
        self.registry.register(Census(ledger, self.gauges))

    def _histogram(self, name: str, buckets: tuple[float, ...], labels: list[str] | None = None) -> Histogram:
        return Histogram(name, help_of(name), labels or [], buckets=buckets, registry=self.registry)


ANSWER_CLASSES = ("2xx", "3xx", "4xx", "429", "5xx", "none")
"""The closed set of values of ``ingestd_attempt_seconds{answer=…}``."""


def answer_class(status: int) -> str:
    if status == 429:
        return "429"
    return f"{status // 100}xx" if 200 <= status < 600 else "none"


class Census(Collector):
    """Reads ledger and gauges at the moment of the scrape."""

    def __init__(self, ledger: Ledger, gauges: Gauges) -> None:
        self._ledger = ledger
        self._gauges = gauges

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        ledger, gauges = self._ledger, self._gauges
        yield counter("ingestd_accepted_events", {"": ledger.accepted})
        outcomes = ("delivered", "duplicate", "rejected", "dead_lettered")
        yield counter("ingestd_events", {o: getattr(ledger, o) for o in outcomes}, "outcome")
        reasons = {reason.value: ledger.by_reason.get(reason, 0) for reason in Reason}
        yield counter("ingestd_dead_letters", reasons, "reason", name="ingestd_dead_letters_total")
        yield counter("ingestd_retried_delivered", {"": ledger.retried_delivered})
        yield counter("ingestd_unmatched_item_errors", {"": ledger.unmatched_item_errors})
        yield counter("ingestd_requests", {"": ledger.requests})
        yield counter("ingestd_retries", {"": ledger.retries})
        yield counter("ingestd_sent_bytes", {"": ledger.bytes})
        yield gauge("ingestd_in_flight_events", {"": ledger.in_flight})
        yield gauge("ingestd_oldest_undelivered_seconds", {"": gauges.oldest_s()})
        yield gauge("ingestd_active_requests", {"": gauges.active()})
        yield gauge("ingestd_concurrency_limit", {"": gauges.limit()})
        queued = {"new": gauges.queued(), "retry": gauges.waiting()}
        yield gauge("ingestd_queued_batches", queued, "kind")
        yield gauge("ingestd_held_events", {"": gauges.held()})
        yield gauge("ingestd_circuit_closed", {"": int(gauges.circuit_closed())})
        keys = {"known": gauges.window_known(), "pending": gauges.window_pending()}
        yield gauge("ingestd_window_keys", keys, "state")
        states = {state: gauges.letters.get(state, 0) for state in ("waiting", "leased", "delivered")}
        yield gauge("ingestd_dead_letters", states, "state")


def counter(
    base: str, values: Mapping[str, float], label: str = "", *, name: str = ""
) -> CounterMetricFamily:
    family = CounterMetricFamily(base, help_of(name or base + "_total"), labels=[label] if label else [])
    for value, number in values.items():
        family.add_metric([value] if label else [], number)
    return family


def gauge(name: str, values: Mapping[str, float], label: str = "") -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, help_of(name), labels=[label] if label else [])
    for value, number in values.items():
        family.add_metric([value] if label else [], number)
    return family
