"""``python -m benchmarks.run``: all scenarios in turns, and a report. Called by ``make bench``.

Exits with 1 if a run failed or its counts are wrong. Speed never fails a run: ratios compare, not seconds.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from benchmarks import report, scenarios, serve, serve_report
from benchmarks.events import prepare
from benchmarks.processes import smallest_peak_bytes
from benchmarks.scenarios import Run

# every round runs each of these once, so that noise falls on all
IN_TURNS = ("naive", "baseline", "replay", "two-sinks")
ONCE = ("single", "memory", "outage", "refuse", "refuse-silent")
SINGLE_SHARE = 10  # a tenth: every event is a request
REFUSED_SHARE = 5  # the input is a fifth: every event becomes a row in the dead-letter store
SILENT_SHARE = 50  # a fiftieth: looking for the culprits costs about two requests per event


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, metavar="N")
    parser.add_argument(
        "--naive-events", type=int, metavar="N", help="a smaller input for naive (default: the same)"
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of " + ", ".join(IN_TURNS))
    parser.add_argument(
        "--only", action="append", choices=IN_TURNS + ONCE + serve.NAMES, metavar="NAME", help="repeatable"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="every run, for machines")
    parser.add_argument("--full", action="store_true", help="ten times the input, longer outage and load")
    parser.add_argument("--memory-factor", type=int, metavar="N", help="times the input (default: 3, or 10)")
    parser.add_argument("--outage", type=float, metavar="S", help="seconds of 503 (default: 10, or 60)")
    parser.add_argument("--seconds", type=float, default=5, metavar="S", help="of each load (default: 5)")
    parser.add_argument("--steady", type=float, metavar="S", help="of serve-steady (default: 30, or 300)")
    parser.add_argument(
        "--timeout", type=float, default=1800, metavar="S", help="for one run (default: 1800)"
    )
    chosen = parser.parse_args()
    chosen.memory_factor = chosen.memory_factor or (10 if chosen.full else 3)
    chosen.outage = chosen.outage or (60.0 if chosen.full else 10.0)
    chosen.steady = chosen.steady or (300.0 if chosen.full else 30.0)
    if chosen.events < 100 or chosen.rounds < 1:
        parser.error("--events has to be 100 or more, --rounds 1 or more")
    return chosen


class Plan(NamedTuple):
    """One scenario, ready to be run ``rounds`` times."""

    label: str
    start: Callable[[], Run]


def plan(chosen: argparse.Namespace, name: str) -> Plan:
    events: int = chosen.events
    timeout_s: float = chosen.timeout

    def script(count: int, check: scenarios.Check) -> Plan:
        return Plan(
            name, lambda: scenarios.run_script(name, prepare(count), check=check, timeout_s=timeout_s)
        )

    def replay(label: str, count: int, *options: str, check: scenarios.Check, sinks: str = "") -> Plan:
        return Plan(
            label,
            lambda: scenarios.run_replay(
                label, prepare(count), receiver=options, check=check, timeout_s=timeout_s, sinks=sinks
            ),
        )

    delivered, refused = scenarios.check_delivered, scenarios.check_refused
    match name:
        case "naive":
            return script(chosen.naive_events or events, scenarios.check_naive)
        case "baseline":
            return script(events, scenarios.check_baseline)
        case "replay":
            return replay("replay", events, "--count", check=delivered)
        case "two-sinks":
            return replay(name, events, "--count", check=scenarios.check_twice, sinks=scenarios.TWO_SINKS)
        case "single":
            count = max(100, events // SINGLE_SHARE)
            return replay(name, count, "--count", check=delivered, sinks=scenarios.SINGLE_EVENTS)
        case "memory":
            factor = chosen.memory_factor
            return replay(f"memory {factor}x", events * factor, "--count", check=delivered)
        case "outage":
            outage = f"{chosen.outage:g}"
            return replay(f"outage {outage} s", events, "--count", "--outage", outage, check=delivered)
        case "refuse":
            return replay(name, max(100, events // REFUSED_SHARE), "--mode", name, check=refused)
        case _:
            return replay(name, max(100, events // SILENT_SHARE), "--mode", name, check=refused)


def measure(chosen: argparse.Namespace, names: list[str]) -> tuple[list[Run], list[str]]:
    """All runs in order, and what went wrong. A failed scenario is not tried again; the others go on."""
    turns = [name for name in IN_TURNS if name in names] * chosen.rounds
    turns += [name for name in ONCE if name in names]
    runs: list[Run] = []
    wrong: list[str] = []
    given_up: set[str] = set()
    missing = scenarios.why_no_replay() if set(names) - {"naive", "baseline"} else ""
    for name in turns:
        if name in given_up:
            continue
        if missing and name not in ("naive", "baseline"):
            given_up.add(name)
            wrong.append(f"{name}: not run: {missing}")
            continue
        chosen_plan = plan(chosen, name)
        print(f"running {chosen_plan.label} …", file=sys.stderr, flush=True)
        run = chosen_plan.start()
        runs.append(run)
        if run.faults:
            given_up.add(name)
            wrong += [f"{run.scenario}: {fault}" for fault in run.faults]
    return runs, wrong


def main() -> int:
    chosen = parse()
    machine = report.describe_machine()
    names = chosen.only or [*IN_TURNS, *ONCE, *serve.NAMES]
    runs, wrong = measure(chosen, [name for name in names if name not in serve.NAMES])
    served = serve.measure(names, rounds=chosen.rounds, seconds=chosen.seconds, steady_s=chosen.steady)
    wrong += [f"{run.scenario}: {fault}" for run in served for fault in run.faults]
    floor_bytes = smallest_peak_bytes()  # afterwards: what this process lends is its own peak
    labels = list(dict.fromkeys(run.scenario for run in runs))
    summaries = [report.Summary([run for run in runs if run.scenario == label]) for label in labels]
    wrong += [
        f"{run.scenario}: peak RSS is no more than what it has of its parent: not measured"
        for run in runs
        if run.peak_rss_bytes <= floor_bytes
    ]
    for what, value in machine.items():
        print(f"{what}: {value}")
    print(f"peak RSS is exact above {floor_bytes / 1e6:.0f} MB; CPU and wall time include start-up\n")
    if runs:
        print(report.table(summaries))
    ratios = report.ratios(summaries)
    if ratios:
        print()
    for pair, ratio in ratios.items():
        print(f"- {pair}: {ratio:.2f}")
    if served:
        print("\n" + serve_report.write(served))
    if chosen.json:
        found = {
            "machine": machine,
            "floor_peak_rss_bytes": floor_bytes,
            "scenarios": [summary.as_json() for summary in summaries],
            "served": [asdict(run) for run in served],
            "ratios": ratios | serve_report.ratios(served),
            "wrong": wrong,
        }
        chosen.json.write_text(json.dumps(found, indent=2, ensure_ascii=False) + "\n")
    for fault in wrong:
        print(f"WRONG {fault}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
