"""Metrics of several processes as those of one: what a supervisor shows.

Counters, histograms and most gauges are added up. What a process had counted when it died is kept, so that a
sum never falls; what happened between the last look at it and its death is not in it.
"""

from collections.abc import Iterator, Mapping, Sequence

import msgspec
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

_LARGEST = frozenset(
    {
        "ingestd_build_info",
        "ingestd_loop_lag_seconds",
        "ingestd_oldest_undelivered_seconds",
        "ingestd_share_oldest_seconds",
        "ingestd_sink_parked",
        "ingestd_workers",
        "process_max_fds",
        "python_info",
    }
)
_SMALLEST = frozenset({"ingestd_circuit_closed", "ingestd_nats_connected", "process_start_time_seconds"})
_READY = "ingestd_ready"
_DURABLE = "ingestd_share_"
"""What a share counts is in its log: its next owner goes on from there."""

_Name = tuple[str, tuple[tuple[str, str], ...]]
ProcessLife = tuple[str, int]
"""A process by its name, and for the how many-th time it was started."""


class SumsState(msgspec.Struct):
    """``before``: by series what processes had counted that have died; ``last``: by process, for the how
    many-th time it was started, and what it said last."""

    before: dict[_Name, float] = {}
    last: dict[str, tuple[int, dict[_Name, float]]] = {}


class SumOfMetrics:
    """``add_up`` is called for each scrape. ``state``: what to go on from."""

    def __init__(self, state: SumsState | None = None) -> None:
        self._state = state or SumsState()

    def add_up(self, texts: Mapping[ProcessLife, str], *, ready: bool) -> list[Metric]:
        """``texts``: what each process answers at ``/metrics``; ``ready``: all of it together."""
        families: dict[str, Metric] = {}
        sums: dict[_Name, float] = {}
        for (process, life), text in texts.items():
            counted: dict[_Name, float] = {}
            for family in text_string_to_metric_families(text):
                if family.name.endswith("_created"):
                    continue
                families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    name = (sample.name, tuple(sorted(sample.labels.items())))
                    sums[name] = _together(family.name, sums.get(name), sample.value)
                    if family.type != "gauge" and not family.name.startswith(_DURABLE):
                        counted[name] = sample.value
            self._remember(process, life, counted)
        alive = {process for process, _ in texts}
        dead = [counted for process, (_, counted) in self._state.last.items() if process not in alive]
        for counted in (self._state.before, *dead):
            for name, value in counted.items():
                if name in sums:
                    sums[name] += value
        for family in families.values():
            family.samples = []
        for (sample_name, labels), value in sums.items():
            family_of = families.get(sample_name) or families[_family(sample_name, families)]
            shown = float(ready) if sample_name == _READY else value
            family_of.samples.append(Sample(sample_name, dict(labels), shown))
        return [*families.values()]

    def _remember(self, process: str, life: int, counted: dict[_Name, float]) -> None:
        state = self._state
        before = state.last.get(process)
        if before and before[0] != life:
            for name, value in before[1].items():
                state.before[name] = state.before.get(name, 0.0) + value
        state.last[process] = (life, counted)


def _together(family: str, one: float | None, other: float) -> float:
    if one is None:
        return other
    if family in _LARGEST:
        return max(one, other)
    return min(one, other) if family in _SMALLEST else one + other


def _family(sample: str, families: Mapping[str, Metric]) -> str:
    """``x`` of ``x_total``, ``x_bucket``, ``x_sum``, ``x_count``, ``x_info``."""
    stem = sample.rpartition("_")[0]
    return stem if stem in families else sample


class Summed(Collector):
    def __init__(self, families: Sequence[Metric]) -> None:
        self._families = families

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        return iter(self._families)
