"""What ``benchmarks.run`` prints: the machine, a Markdown table of medians, and the ratios."""

import os
import platform
import sqlite3
from collections.abc import Iterable
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from statistics import median
from typing import Any

from benchmarks.scenarios import Run

_PACKAGES = ("ingestd", "httpx", "httpx-aiohttp", "aiohttp", "pydantic", "msgspec", "uvloop")
_MB = 1_000_000
_HEADINGS = (
    "scenario",
    "events",
    "runs",
    "events/s",
    "µs CPU/event",
    "events/CPU s",
    "peak RSS, MB",
    "requests",
    "wall, s",
    "spread",
    "counts",
)


def describe_machine() -> dict[str, str]:
    """What the numbers depend on. The load average tells whether somebody else was at work."""
    versions = {"Python": platform.python_version(), "SQLite": sqlite3.sqlite_version}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "missing"
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "CPU": f"{_cpu_model()}, {len(os.sched_getaffinity(0))} cores usable",
        "memory": f"{memory_bytes / 2**30:.1f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "versions": ", ".join(f"{name} {number}" for name, number in versions.items()),
    }


def _cpu_model() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def spread(values: list[float]) -> float:
    """(largest - smallest) / median: the noise of like runs. 0 for one run."""
    return (max(values) - min(values)) / median(values)


class Summary:
    """The medians of the like runs of one scenario."""

    def __init__(self, runs: list[Run]) -> None:
        self.runs = runs
        self.scenario = runs[0].scenario
        self.events = runs[0].events
        self.wall_s = median(run.wall_s for run in runs)
        self.cpu_s = median(run.cpu_s for run in runs)
        self.peak_rss_bytes = median(run.peak_rss_bytes for run in runs)
        self.faults = [fault for run in runs for fault in run.faults]

    @property
    def cpu_per_event_us(self) -> float:
        return self.cpu_s / self.events * 1e6

    @property
    def events_per_s(self) -> float:
        return self.events / self.wall_s

    def cells(self) -> Iterable[str]:
        noise = (
            f"±{spread([run.cpu_s for run in self.runs]) / 2:.0%} CPU" if len(self.runs) > 1 else "one run"
        )
        return (
            self.scenario,
            f"{self.events:,}",
            str(len(self.runs)),
            f"{self.events_per_s:,.0f}",
            f"{self.cpu_per_event_us:.2f}",
            f"{self.events / self.cpu_s:,.0f}",
            f"{self.peak_rss_bytes / _MB:.0f}",
            f"{median(run.requests for run in self.runs):,.0f}",
            f"{self.wall_s:.2f}",
            noise,
            "WRONG" if self.faults else "right",
        )

    def as_json(self) -> dict[str, Any]:
        return {
            "scenario": self.scenario,
            "events": self.events,
            "median_wall_s": self.wall_s,
            "median_cpu_s": self.cpu_s,
            "median_peak_rss_bytes": self.peak_rss_bytes,
            "runs": [asdict(run) for run in self.runs],
        }


def table(summaries: Iterable[Summary]) -> str:
    lines = ["| " + " | ".join(_HEADINGS) + " |", "|---" + "|---:" * (len(_HEADINGS) - 1) + "|"]
    lines += ["| " + " | ".join(summary.cells()) + " |" for summary in summaries]
    return "\n".join(lines)


def ratios(summaries: Iterable[Summary]) -> dict[str, float]:
    """Comparisons within this run, the only numbers that mean something on another machine."""
    by_name = {summary.scenario: summary for summary in summaries if not summary.faults}
    found: dict[str, float] = {}
    floor, naive, replay = (by_name.get(name) for name in ("baseline", "naive", "replay"))
    if floor:
        for name, one in by_name.items():
            # start-up is a part of every run: only like inputs compare
            if name != "baseline" and one.events == floor.events:
                found[f"CPU per event, {name} / baseline"] = one.cpu_per_event_us / floor.cpu_per_event_us
    if naive and replay:
        scaled = "" if naive.events == replay.events else f" (naive: {naive.events:,} events, scaled)"
        found[f"CPU per event, naive / replay{scaled}"] = naive.cpu_per_event_us / replay.cpu_per_event_us
        found[f"events/s, replay / naive{scaled}"] = replay.events_per_s / naive.events_per_s
        found["peak RSS, replay / naive"] = replay.peak_rss_bytes / naive.peak_rss_bytes
    twice = by_name.get("two-sinks")
    if replay and twice:
        found["CPU per event, two sinks / one"] = twice.cpu_per_event_us / replay.cpu_per_event_us
    if replay:
        for name, one in by_name.items():
            if name.startswith(("memory", "outage")):
                found[f"peak RSS, {name} / replay"] = one.peak_rss_bytes / replay.peak_rss_bytes
    return found
