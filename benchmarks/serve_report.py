"""What ``benchmarks.serve`` prints: a table of medians, the ratios to the bare server, memory over time."""

from collections.abc import Sequence
from statistics import linear_regression, median
from typing import Protocol

from benchmarks.report import spread
from benchmarks.serve_load import Loaded

_HEADINGS = (
    *("scenario", "runs", "events/s", "p50, ms", "p99, ms", "max, ms"),
    *("µs CPU/event", "of it main thread", "delivered meanwhile", "peak RSS, MB", "spread", "counts"),
)
_MB = 1_000_000


class Run(Protocol):
    """What is shown of a run; see ``serve.ServeRun``."""

    @property
    def scenario(self) -> str: ...
    @property
    def loads(self) -> list[Loaded]: ...
    @property
    def peak_rss_bytes(self) -> int: ...
    @property
    def delivered_meanwhile(self) -> float | None: ...
    @property
    def spool_bytes(self) -> int | None: ...
    @property
    def rss_bytes(self) -> list[int]: ...
    @property
    def faults(self) -> list[str]: ...
    @property
    def events_per_s(self) -> float: ...
    @property
    def cpu_per_event_us(self) -> float: ...
    @property
    def main_per_event_us(self) -> float: ...


def write(runs: Sequence[Run]) -> str:
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        by_name.setdefault(run.scenario, []).append(run)
    lines = ["| " + " | ".join(_HEADINGS) + " |", "|---" + "|---:" * (len(_HEADINGS) - 1) + "|"]
    lines += ["| " + " | ".join(_cells(like)) + " |" for like in by_name.values()]
    lines += ["", *(f"- {name}: {ratio:.2f}" for name, ratio in ratios(runs).items())]
    return "\n".join(lines + [f"- {_over_time(run)}" for run in runs if run.rss_bytes])


def ratios(runs: Sequence[Run]) -> dict[str, float]:
    """The service to the bare server of the same kind of load."""
    found: dict[str, float] = {}
    for kind in ("single", "ndjson"):
        service, bare = (
            [run for run in runs if run.scenario == f"{server}-{kind}" and not run.faults]
            for server in ("serve", "bare")
        )
        if service and bare:
            rates = (median(run.events_per_s for run in side) for side in (service, bare))
            found[f"events/s, serve-{kind} / bare-{kind}"] = next(rates) / next(rates)
            costs = (median(run.cpu_per_event_us for run in side) for side in (service, bare))
            found[f"CPU per event, serve-{kind} / bare-{kind}"] = next(costs) / next(costs)
    return found


def slope_per_min(samples: Sequence[float]) -> float:
    """Least squares over the second half of samples that are a second apart; 0 for fewer than four."""
    half = samples[len(samples) // 2 :]
    return linear_regression(range(len(half)), half).slope * 60 if len(half) > 1 else 0.0


def _cells(runs: Sequence[Run]) -> list[str]:
    def of(loads: Sequence[Loaded], name: str) -> float:
        return max(float(getattr(loaded, name)) for loaded in loads)  # two loads at once: the worse

    meanwhile = [run.delivered_meanwhile for run in runs if run.delivered_meanwhile is not None]
    return [
        runs[0].scenario,
        str(len(runs)),
        f"{median(run.events_per_s for run in runs):,.0f}",
        *(f"{median(of(run.loads, name) for run in runs):.1f}" for name in ("p50_ms", "p99_ms", "max_ms")),
        f"{median(run.cpu_per_event_us for run in runs):.2f}",
        f"{median(run.main_per_event_us for run in runs):.2f}",
        f"{median(meanwhile):.0%}" if meanwhile else "",
        f"{median(run.peak_rss_bytes for run in runs) / _MB:.0f}",
        f"±{spread([run.events_per_s for run in runs]) / 2:.0%}" if len(runs) > 1 else "one run",
        "WRONG" if any(run.faults for run in runs) else "right",
    ]


def _over_time(run: Run) -> str:
    megabytes = [size / _MB for size in run.rss_bytes]
    return (
        f"{run.scenario}: resident {megabytes[0]:.0f} MB at first, {megabytes[-1]:.0f} MB at the end, "
        f"{slope_per_min(megabytes):+.1f} MB/min over the second half, "
        f"peak {run.peak_rss_bytes / _MB:.0f} MB; spool at the end {(run.spool_bytes or 0) / _MB:.1f} MB"
    )
