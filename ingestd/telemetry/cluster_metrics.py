"""Metrics of edges and workers of a spool on JetStream; ``catalogue.py`` has their meaning."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ingestd.telemetry.catalogue import help_of
from ingestd.telemetry.metrics import counter, gauge

OUTCOMES = ("delivered", "duplicate", "dead_lettered", "rejected", "unmatched")


class ShareGauges(msgspec.Struct):
    """Of one share at the moment of the scrape. ``events``: by outcome."""

    sink: str
    partition: str
    events: Mapping[str, int]
    in_flight: int
    lag_chunks: int
    oldest_s: float


class ClusterGauges(msgspec.Struct):
    """``edge_events``: by outcome, of a process that is an edge; ``shares``, ``workers``: of a worker."""

    connected: bool = False
    edge_events: Mapping[str, int] = msgspec.field(default_factory=dict)
    edge_chunks: int = 0
    shares: Sequence[ShareGauges] = ()
    workers: int = 0


class ClusterCensus(Collector):
    """Reads everything at the moment of the scrape."""

    def __init__(self, read: Callable[[], ClusterGauges]) -> None:
        self._read = read

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        found = self._read()
        yield gauge("ingestd_nats_connected", {"": int(found.connected)})
        yield counter("ingestd_edge_events", found.edge_events, "outcome")
        yield counter("ingestd_edge_chunks", {"": found.edge_chunks})
        yield gauge("ingestd_shares_owned", {"": len(found.shares)})
        yield gauge("ingestd_workers", {"": found.workers})
        events = CounterMetricFamily(
            "ingestd_share_events",
            help_of("ingestd_share_events_total"),
            labels=["sink", "partition", "outcome"],
        )
        gauges = {
            name: GaugeMetricFamily(name, help_of(name), labels=["sink", "partition"])
            for name in (
                "ingestd_share_in_flight_events",
                "ingestd_share_lag_chunks",
                "ingestd_share_oldest_seconds",
            )
        }
        for share in found.shares:
            place = [share.sink, share.partition]
            for outcome in OUTCOMES:
                events.add_metric([*place, outcome], share.events.get(outcome, 0))
            values = (share.in_flight, share.lag_chunks, share.oldest_s)
            for family, value in zip(gauges.values(), values, strict=True):
                family.add_metric(place, value)
        yield events
        yield from gauges.values()
