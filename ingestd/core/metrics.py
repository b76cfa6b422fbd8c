"""The metrics catalogue: every metric there is, with its meaning. Read by README's table and a test.

Counters of events are not kept here: ``Census`` reads the ledger at scrape time, so that what is
exported always balances and costs nothing per event.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingestd.core.ledger import Ledger
from ingestd.core.reasons import Reason

Kind = Literal["counter", "gauge", "histogram"]

CATALOGUE: dict[str, tuple[Kind, str]] = {
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
    "ingestd_circuit_closed": ("gauge", "1 while the lane sends freely, 0 while it only probes"),
    "ingestd_window_keys": ("gauge", "Keys in the deduplication window, by state"),
    "ingestd_dead_letters": ("gauge", "Letters in the dead-letter store, by state"),
    "ingestd_token_requests_total": ("counter", "Requests for an access token, by result"),
}
"""Name -> (kind, help)."""


@dataclass(slots=True)
class Gauges:
    """Values read at scrape time; the pipeline fills in where from."""

    oldest_s: Callable[[], float] = lambda: 0.0
    active: Callable[[], int] = lambda: 0
    limit: Callable[[], int] = lambda: 0
    queued: Callable[[], int] = lambda: 0
    waiting: Callable[[], int] = lambda: 0
    circuit_closed: Callable[[], bool] = lambda: True
    window_known: Callable[[], int] = lambda: 0
    window_pending: Callable[[], int] = lambda: 0
    letters: dict[str, int] = field(default_factory=dict)


def _help(name: str) -> str:
    return CATALOGUE[name][1]


class Metrics:
    """One registry, with everything of the catalogue in it."""

    def __init__(self, ledger: Ledger) -> None:
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
            _help("ingestd_token_requests_total"),
            ["result"],
            registry=self.registry,
        )
        self.registry.register(Census(ledger, self.gauges))

    def _histogram(self, name: str, buckets: tuple[float, ...], labels: list[str] | None = None) -> Histogram:
        return Histogram(name, _help(name), labels or [], buckets=buckets, registry=self.registry)


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
        yield _counter("ingestd_accepted_events", {"": ledger.accepted})
        outcomes = ("delivered", "duplicate", "rejected", "dead_lettered")
        yield _counter("ingestd_events", {o: getattr(ledger, o) for o in outcomes}, "outcome")
        reasons = {reason.value: ledger.by_reason.get(reason, 0) for reason in Reason}
        yield _counter("ingestd_dead_letters", reasons, "reason", name="ingestd_dead_letters_total")
        yield _counter("ingestd_retried_delivered", {"": ledger.retried_delivered})
        yield _counter("ingestd_unmatched_item_errors", {"": ledger.unmatched_item_errors})
        yield _counter("ingestd_requests", {"": ledger.requests})
        yield _counter("ingestd_retries", {"": ledger.retries})
        yield _counter("ingestd_sent_bytes", {"": ledger.bytes})
        yield _gauge("ingestd_in_flight_events", {"": ledger.in_flight})
        yield _gauge("ingestd_oldest_undelivered_seconds", {"": gauges.oldest_s()})
        yield _gauge("ingestd_active_requests", {"": gauges.active()})
        yield _gauge("ingestd_concurrency_limit", {"": gauges.limit()})
        queued = {"new": gauges.queued(), "retry": gauges.waiting()}
        yield _gauge("ingestd_queued_batches", queued, "kind")
        yield _gauge("ingestd_circuit_closed", {"": int(gauges.circuit_closed())})
        keys = {"known": gauges.window_known(), "pending": gauges.window_pending()}
        yield _gauge("ingestd_window_keys", keys, "state")
        states = {state: gauges.letters.get(state, 0) for state in ("waiting", "leased", "delivered")}
        yield _gauge("ingestd_dead_letters", states, "state")


def _counter(base: str, values: dict[str, int], label: str = "", *, name: str = "") -> CounterMetricFamily:
    family = CounterMetricFamily(base, _help(name or base + "_total"), labels=[label] if label else [])
    for value, number in values.items():
        family.add_metric([value] if label else [], number)
    return family


def _gauge(name: str, values: dict[str, float] | dict[str, int], label: str = "") -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, _help(name), labels=[label] if label else [])
    for value, number in values.items():
        family.add_metric([value] if label else [], number)
    return family
