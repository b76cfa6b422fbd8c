"""Metrics of sources that are read, by source; ``catalogue.py`` has their meaning."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from ingestd.telemetry.metrics import counter, gauge

if TYPE_CHECKING:
    from prometheus_client.core import Metric


class _Counts(Protocol):
    connected: bool
    messages: int
    redelivered: int
    pending: int
    unacked: int
    stranded: int
    lost: int
    unnamed: int
    partitions: int
    gaps: int
    gap_seconds: float


@runtime_checkable
class _OfFiles(Protocol):
    files: int
    open_files: int
    unread_bytes: int
    rotated_files: int
    unfinished_files: int
    refused_files: int
    files_done: int
    truncated: int
    lost_bytes: int


class _Source(Protocol):
    @property
    def counts(self) -> _Counts: ...
    @property
    def oldest_s(self) -> float: ...


class SourceCensus:
    """Reads everything at the moment of the scrape; what only the broker knows is some seconds old."""

    def __init__(self, sources: Mapping[str, _Source]) -> None:
        self._sources = sources

    def describe(self) -> "Iterator[Metric]":
        return iter(())

    def collect(self) -> "Iterator[Metric]":
        of = {name: source.counts for name, source in self._sources.items()}
        yield gauge("ingestd_source_connected", {n: int(c.connected) for n, c in of.items()}, "source")
        yield counter("ingestd_source_messages", {n: c.messages for n, c in of.items()}, "source")
        yield counter("ingestd_source_redelivered", {n: c.redelivered for n, c in of.items()}, "source")
        yield counter("ingestd_source_lost_messages", {n: c.lost for n, c in of.items()}, "source")
        yield gauge("ingestd_source_partitions", {n: c.partitions for n, c in of.items()}, "source")
        yield counter("ingestd_source_unnamed_batches", {n: c.unnamed for n, c in of.items()}, "source")
        yield from _of_files({n: c for n, c in of.items() if isinstance(c, _OfFiles)})
        lag = {n: c.pending + c.unacked for n, c in of.items() if not isinstance(c, _OfFiles)}
        yield gauge("ingestd_source_lag_messages", lag, "source")
        oldest = {name: source.oldest_s for name, source in self._sources.items()}
        yield gauge("ingestd_source_lag_seconds", oldest, "source")
        yield gauge("ingestd_source_stranded_messages", {n: c.stranded for n, c in of.items()}, "source")
        yield counter("ingestd_source_gaps", {n: c.gaps for n, c in of.items()}, "source")
        yield counter("ingestd_source_gap_seconds", {n: c.gap_seconds for n, c in of.items()}, "source")


def _of_files(of: Mapping[str, _OfFiles]) -> "Iterator[Metric]":
    if not of:
        return
    yield gauge("ingestd_source_lag_bytes", {n: c.unread_bytes for n, c in of.items()}, "source")
    yield gauge("ingestd_source_files", {n: c.files for n, c in of.items()}, "source")
    yield gauge("ingestd_source_open_files", {n: c.open_files for n, c in of.items()}, "source")
    yield gauge("ingestd_source_rotated_files", {n: c.rotated_files for n, c in of.items()}, "source")
    yield gauge("ingestd_source_unfinished_files", {n: c.unfinished_files for n, c in of.items()}, "source")
    yield gauge("ingestd_source_refused_files", {n: c.refused_files for n, c in of.items()}, "source")
    yield counter("ingestd_source_files_done", {n: c.files_done for n, c in of.items()}, "source")
    yield counter("ingestd_source_truncated_files", {n: c.truncated for n, c in of.items()}, "source")
    yield counter("ingestd_source_lost_bytes", {n: c.lost_bytes for n, c in of.items()}, "source")
