"""The metrics of a pipeline; ``catalogue.py`` has their meaning.

Counters of events are not kept here: ``Census`` reads the ledger at scrape time, so that what is
exported always balances and costs nothing per event.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingestd.core.ledger import Ledger
from ingestd.core.reasons import Reason
from ingestd.telemetry.catalogue import help_of
from ingestd.telemetry.sink_metrics import SinkCensus


@dataclass(slots=True)
class Gauges:
    """Values read at scrape time; the pipeline fills in where from."""

    oldest_s: Callable[[], float] = lambda: 0.0
    window_known: Callable[[], int] = lambda: 0
    window_pending: Callable[[], int] = lambda: 0
    without_dedup_key: Callable[[], int] = lambda: 0
    letters: dict[str, int] = field(default_factory=dict)


class Metrics:
    """One registry, with everything of the catalogue in it."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.registry = CollectorRegistry()
        self.gauges = Gauges()
        self.attempt_seconds = self._histogram(
            "ingestd_attempt_seconds",
            (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            ["sink", "answer"],
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
        self.by_sink = SinkCensus()
        self.registry.register(Census(ledger, self.gauges))
        self.registry.register(self.by_sink)

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
        outcomes = ("delivered", "duplicate", "rejected", "dead_lettered", "unmatched")
        yield counter("ingestd_events", {o: getattr(ledger, o) for o in outcomes}, "outcome")
        reasons = {reason.value: ledger.by_reason.get(reason, 0) for reason in Reason}
        yield counter("ingestd_dead_letters", reasons, "reason", name="ingestd_dead_letters_total")
        yield counter("ingestd_retried_delivered", {"": ledger.retried_delivered})
        yield counter("ingestd_retried_duplicate", {"": ledger.retried_duplicate})
        yield counter("ingestd_retried_failed", {"": ledger.retried_failed})
        yield counter("ingestd_unmatched_item_errors", {"": ledger.unmatched_item_errors})
        yield gauge("ingestd_in_flight_events", {"": ledger.in_flight})
        yield gauge("ingestd_oldest_undelivered_seconds", {"": gauges.oldest_s()})
        keys = {"known": gauges.window_known(), "pending": gauges.window_pending()}
        yield gauge("ingestd_window_keys", keys, "state")
        yield counter("ingestd_events_without_dedup_key", {"": gauges.without_dedup_key()})
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
