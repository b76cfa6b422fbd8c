"""The metrics that only the long-running service has: exported beside those of ``metrics.py``.

What the parts count for themselves is read at scrape time, so that it costs nothing per event or request.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from ingestd import __version__
from ingestd.telemetry.catalogue import help_of
from ingestd.telemetry.metrics import counter, gauge

HTTP_CODES = (
    *(200, 202, 204, 400, 401, 403, 404, 405, 408, 411, 413, 414, 415, 417, 422, 429, 431),
    *(500, 501, 503, 505, 507),
)
"""The closed set of values of ``ingestd_http_requests_total{code=…}``; any other is ``other``."""
DEFERRED_CODES = (429, 503, 507)
STATE_FILES = ("db", "wal")
MAX_PRODUCERS = 200


class ProducerEvents:
    """Counts events by producer. Only configured names become labels, and no more than MAX_PRODUCERS.

    Everybody else is ``other``, or ``anonymous`` without a name.
    """

    def __init__(self, names: Iterable[str] = ()) -> None:
        self.counts: dict[str, int] = {"anonymous": 0, "other": 0}
        self.configure(names)

    def configure(self, names: Iterable[str]) -> None:
        """Also after a reload: names that are gone keep their counts, or the counter would go back."""
        for name in names:
            if len(self.counts) < MAX_PRODUCERS + 2:
                self.counts.setdefault(name, 0)

    def add(self, producer: str, events: int) -> None:
        label = producer or "anonymous"
        self.counts[label if label in self.counts else "other"] += events


@dataclass(slots=True)
class Reloads:
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


@dataclass(slots=True)
class ServiceGauges:
    """Values read at scrape time, from memory; the service fills in where from.

    The mappings go from status code to a number that never falls; ``state_file_bytes`` from STATE_FILES.
    """

    spool_bytes: Callable[[], int] = lambda: 0
    spool_max_bytes: Callable[[], int] = lambda: 0
    spool_events: Callable[[], int] = lambda: 0
    spool_chunks: Callable[[], int] = lambda: 0
    spool_quarantined_chunks: Callable[[], int] = lambda: 0
    disk_full: Callable[[], bool] = lambda: False
    state_file_bytes: Callable[[], Mapping[str, int]] = dict
    http_requests: Callable[[], Mapping[int, int]] = dict
    http_connections: Callable[[], int] = lambda: 0
    http_refused_connections: Callable[[], int] = lambda: 0
    deferred_events: Callable[[], Mapping[int, int]] = dict
    loop_lag_s: Callable[[], float] = lambda: 0.0
    loop_blocked: Callable[[], int] = lambda: 0
    ready: Callable[[], bool] = lambda: False


@dataclass(slots=True)
class ServiceMetrics:
    """What the service counts into; made once, on the registry of ``Metrics``."""

    registry: CollectorRegistry
    gauges: ServiceGauges = field(default_factory=ServiceGauges)
    producers: ProducerEvents = field(default_factory=ProducerEvents)
    reloads: Reloads = field(default_factory=Reloads)
    commit_seconds: Histogram = field(init=False)

    def __post_init__(self) -> None:
        name = "ingestd_commit_seconds"
        buckets = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1)
        self.commit_seconds = Histogram(name, help_of(name), buckets=buckets, registry=self.registry)
        self.registry.register(ServiceCensus(self))
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)


class ServiceCensus(Collector):
    """Reads everything at the moment of the scrape."""

    def __init__(self, metrics: ServiceMetrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        yield from self._intake()
        yield from self._storage()
        yield from self._process()

    def _intake(self) -> Iterator[Metric]:
        gauges = self._metrics.gauges
        yield counter("ingestd_http_requests", _by_code(gauges.http_requests(), HTTP_CODES), "code")
        yield gauge("ingestd_http_connections", {"": gauges.http_connections()})
        yield counter("ingestd_http_refused_connections", {"": gauges.http_refused_connections()})
        deferred = _by_code(gauges.deferred_events(), DEFERRED_CODES)
        yield counter("ingestd_intake_deferred_events", deferred, "status")
        yield counter("ingestd_producer_events", self._metrics.producers.counts, "producer")

    def _storage(self) -> Iterator[Metric]:
        gauges = self._metrics.gauges
        yield gauge("ingestd_spool_bytes", {"": gauges.spool_bytes()})
        yield gauge("ingestd_spool_max_bytes", {"": gauges.spool_max_bytes()})
        yield gauge("ingestd_spool_events", {"": gauges.spool_events()})
        yield gauge("ingestd_spool_chunks", {"": gauges.spool_chunks()})
        yield gauge("ingestd_spool_quarantined_chunks", {"": gauges.spool_quarantined_chunks()})
        yield gauge("ingestd_disk_full", {"": int(gauges.disk_full())})
        sizes = gauges.state_file_bytes()
        yield gauge("ingestd_state_file_bytes", {name: sizes.get(name, 0) for name in STATE_FILES}, "file")

    def _process(self) -> Iterator[Metric]:
        gauges, reloads = self._metrics.gauges, self._metrics.reloads
        yield counter("ingestd_config_reloads", {"ok": reloads.ok, "failed": reloads.failed}, "result")
        since = {"": reloads.last_success}
        yield gauge("ingestd_config_last_reload_success_timestamp_seconds", since)
        yield gauge("ingestd_config_last_reload_successful", {"": int(reloads.last_ok)})
        yield gauge("ingestd_loop_lag_seconds", {"": gauges.loop_lag_s()})
        yield counter("ingestd_loop_blocked", {"": gauges.loop_blocked()})
        yield gauge("ingestd_ready", {"": int(gauges.ready())})
        yield gauge("ingestd_build_info", {__version__: 1}, "version")


def _by_code(counts: Mapping[int, int], codes: tuple[int, ...]) -> dict[str, int]:
    values = {str(code): counts.get(code, 0) for code in codes}
    other = sum(count for code, count in counts.items() if code not in codes)
    return values | {"other": other} if other else values
