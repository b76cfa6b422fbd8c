"""The service under load: ``ingestd run`` that acknowledges durably and delivers at the same time.

``python -m benchmarks.serve`` runs it alone, ``benchmarks.run`` with all else. Every accepted event has to
reach the receiver once, and the ledger to balance; anything else is a fault of the run, in words.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks import serve_report
from benchmarks.processes import Receiver
from benchmarks.scenarios import differences
from benchmarks.serve_load import Load, Loaded, Running, prepare_load
from benchmarks.serve_process import Bare, Service, Used

IN_TURNS = ("bare-single", "serve-single", "bare-ndjson", "serve-ndjson")
ONCE = ("serve-steady",)
NAMES = IN_TURNS + ONCE
LOADS = {"single": Load(connections=64, batch=1), "ndjson": Load(connections=16, batch=100)}

STEADY_LOADS = (Load(connections=16, batch=1), Load(connections=16, batch=100))
STEADY_SHARE = 0.8  # of what it took and delivered at its fastest, so that noise does not fill the spool
_CALIBRATION_S = 5.0
_SECOND_MIX_LAP = 1 << 30  # two loads at once must not make the same events
_SETTLE_S = 120.0
_SAMPLE_S = 1.0


@dataclass(frozen=True, slots=True)
class ServeRun:
    """One run. CPU is of the server, from the first request until everything was delivered.

    ``delivered_meanwhile``: share of the events that was delivered when the last was accepted.
    """

    scenario: str
    loads: list[Loaded]
    used: Used
    peak_rss_bytes: int
    delivered_meanwhile: float | None = None
    spool_bytes: int | None = None
    """When the load ended."""
    rss_bytes: list[int] = field(default_factory=list)
    """Sampled each second, of a steady run."""
    faults: list[str] = field(default_factory=list)

    @property
    def events(self) -> int:
        return sum(loaded.events for loaded in self.loads)

    @property
    def events_per_s(self) -> float:
        return sum(loaded.events / loaded.seconds for loaded in self.loads)

    @property
    def cpu_per_event_us(self) -> float:
        return (self.used.user_s + self.used.system_s) / max(1, self.events) * 1e6

    @property
    def main_per_event_us(self) -> float:
        return self.used.main_s / max(1, self.events) * 1e6


def run_bare(scenario: str, load: Load, *, seconds: float) -> ServeRun:
    with Bare() as server:
        before = server.used()
        loaded = Running(load, port=server.port, seconds=seconds).wait()
        used, peak_bytes = server.used().since(before), server.peak_bytes()
    return ServeRun(scenario, [loaded], used, peak_bytes, faults=_refusals([loaded]))


def run_service(scenario: str, load: Load, *, seconds: float, command: Sequence[str] = ()) -> ServeRun:
    """``command``: what starts ``ingestd``; none: the one that is installed."""
    with Receiver("--count") as api, Service(api.api, ingestd=command) as service:
        before = service.used()
        loaded = Running(load, port=service.port, seconds=seconds).wait()
        return _finish(scenario, [loaded], service, api, before=before)


def run_steady(*, seconds: float) -> ServeRun:
    """Single events and NDJSON at once, as fast as the service takes *and* delivers them."""
    with Receiver("--count") as api, Service(api.api) as service:
        paced, earlier = _calibrate(service)
        before = service.used()
        running = [Running(load, port=service.port, seconds=seconds) for load in paced]
        rss_bytes = []
        while not running[0].has_ended(timeout_s=_SAMPLE_S):
            rss_bytes.append(service.resident_bytes())
        loads = [one.wait() for one in running]
        return _finish(
            f"serve-steady {seconds:g} s", loads, service, api, before=before, rss=rss_bytes, earlier=earlier
        )


def _calibrate(service: Service) -> tuple[list[Load], int]:
    """The loads at a steady rate, and how many events it took to find that. The window is full then: until
    it is, memory has to grow."""
    lap = earlier = 0
    while True:
        running = [Running(load, port=service.port, seconds=_CALIBRATION_S) for load in _mixed(lap)]
        fastest = [one.wait() for one in running]
        delivered = service.status()["ledger"]["delivered"] - earlier
        window = service.settle(timeout_s=_SETTLE_S)["window"]
        accepted = sum(loaded.events for loaded in fastest)
        earlier += accepted
        lap = fastest[1].next_lap - _SECOND_MIX_LAP
        if earlier >= window["max_count"]:
            break
    share = STEADY_SHARE * min(1.0, delivered / accepted)
    rates = [share * loaded.events / loaded.seconds for loaded in fastest]
    return [load._replace(rate=rate) for load, rate in zip(_mixed(lap), rates, strict=True)], earlier


def _mixed(first_lap: int) -> list[Load]:
    return [
        load._replace(lap=first_lap + number * _SECOND_MIX_LAP) for number, load in enumerate(STEADY_LOADS)
    ]


def _finish(
    scenario: str,
    loads: list[Loaded],
    service: Service,
    api: Receiver,
    *,
    before: Used,
    rss: Iterable[int] = (),
    earlier: int = 0,
) -> ServeRun:
    """Let everything be delivered, end the service, compare the counts. ``earlier``: events before."""
    at_end = service.status()
    settled = service.settle(timeout_s=_SETTLE_S)
    used, peak_bytes = service.used().since(before), service.peak_bytes()
    exit_code = service.stop()
    events = sum(loaded.events for loaded in loads)
    faults = _refusals(loads) + check(settled, api.stats(), events=earlier + events)
    if exit_code:
        faults.append(f"exit {exit_code} after SIGTERM, 0 expected: {service.complaint()}")
    return ServeRun(
        scenario,
        loads,
        used,
        peak_bytes,
        delivered_meanwhile=(at_end["ledger"]["delivered"] - earlier) / max(1, events),
        spool_bytes=at_end["spool"]["bytes"],
        rss_bytes=list(rss),
        faults=faults,
    )


def _refusals(loads: list[Loaded]) -> list[str]:
    return [
        f"{count} requests were answered {status}"
        for loaded in loads
        for status, count in loaded.statuses.items()
        if status != "202"
    ]


def check(status: dict[str, Any], received: dict[str, Any], *, events: int) -> list[str]:
    """Every event that was answered with 202 was delivered, once, and nothing else was."""
    ledger = status["ledger"]
    ends = {"duplicate": 0, "rejected": 0, "dead_lettered": 0, "in_flight": 0}
    faults = differences(ledger, accepted=events, delivered=events, **ends)
    faults += differences(status["spool"], events=0, chunks=0)
    return faults + differences(received, taken_events=events, requests=ledger["requests"])


def measure(names: Iterable[str], *, rounds: int, seconds: float, steady_s: float) -> list[ServeRun]:
    """Those that compare take turns. A scenario with a fault is not run again."""
    turns = [name for name in IN_TURNS if name in names] * rounds + [name for name in ONCE if name in names]
    if turns:
        prepare_load()
    runs: list[ServeRun] = []
    for name in turns:
        if any(run.faults for run in runs if run.scenario == name):
            continue
        print(f"running {name} …", file=sys.stderr, flush=True)
        server, _, kind = name.partition("-")
        if kind == "steady":
            runs.append(run_steady(seconds=steady_s))
        elif server == "bare":
            runs.append(run_bare(name, LOADS[kind], seconds=seconds))
        else:
            runs.append(run_service(name, LOADS[kind], seconds=seconds))
    return runs


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve", description=__doc__)
    parser.add_argument("--only", action="append", choices=NAMES, metavar="NAME", help="may be repeated")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--seconds", type=float, default=5, metavar="S", help="of each load (default: 5)")
    parser.add_argument("--steady", type=float, default=30, metavar="S", help="of serve-steady (30)")
    chosen = parser.parse_args()
    runs = measure(chosen.only or NAMES, rounds=chosen.rounds, seconds=chosen.seconds, steady_s=chosen.steady)
    print(serve_report.write(runs))
    faults = [f"{run.scenario}: {fault}" for run in runs for fault in run.faults]
    for fault in faults:
        print(f"WRONG {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
