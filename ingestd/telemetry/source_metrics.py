"""Metrics of sources at brokers, by source; ``catalogue.py`` has their meaning."""

from collections.abc import Iterator, Mapping
from typing import Protocol

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from ingestd.telemetry.metrics import counter, gauge


class _Counts(Protocol):
    connected: bool
    messages: int
    redelivered: int
    pending: int
    unacked: int
    stranded: int
    lost: int
    gaps: int
    gap_seconds: float


class _Source(Protocol):
    @property
    def counts(self) -> _Counts: ...
    @property
    def oldest_s(self) -> float: ...


class SourceCensus(Collector):
    """Reads everything at the moment of the scrape; what only the broker knows is some seconds old."""

    def __init__(self, sources: Mapping[str, _Source]) -> None:
        self._sources = sources

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        of = {name: source.counts for name, source in self._sources.items()}
        yield gauge("ingestd_source_connected", {n: int(c.connected) for n, c in of.items()}, "source")
        yield counter("ingestd_source_messages", {n: c.messages for n, c in of.items()}, "source")
        yield counter("ingestd_source_redelivered", {n: c.redelivered for n, c in of.items()}, "source")
        yield counter("ingestd_source_lost_messages", {n: c.lost for n, c in of.items()}, "source")
        lag = {n: c.pending + c.unacked for n, c in of.items()}
        yield gauge("ingestd_source_lag_messages", lag, "source")
        oldest = {name: source.oldest_s for name, source in self._sources.items()}
        yield gauge("ingestd_source_lag_seconds", oldest, "source")
        yield gauge("ingestd_source_stranded_messages", {n: c.stranded for n, c in of.items()}, "source")
        yield counter("ingestd_source_gaps", {n: c.gaps for n, c in of.items()}, "source")
        yield counter("ingestd_source_gap_seconds", {n: c.gap_seconds for n, c in of.items()}, "source")
