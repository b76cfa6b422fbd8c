"""``make simulate``: histories from seeds, until one breaks a promise."""

import argparse
import hashlib
import os
import re
import sys
import time

from ingestd.simulation.history import Simulator, shrink, simulator
from ingestd.simulation.plan import HistoryPlan, draw

_REPORT_EVERY_S = 5.0
_TRACE_LINES = 400


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m ingestd.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=10_000, help="how many, from 0 on (10000)")
    parser.add_argument("--first", type=int, default=0, help="the first of them")
    parser.add_argument("--seed", type=int, help="only this one, with its trace")
    parser.add_argument("--quick", action="store_true", help="tell the first failure in a line, and end")
    parser.add_argument("--keep-going", action="store_true", help="tell failures in a line each, and go on")
    given = parser.parse_args()
    with simulator() as simulated:
        if given.seed is not None:
            return _run_one(simulated, given.seed)
        seeds = range(given.first, given.first + given.seeds)
        return _run_all(simulated, seeds, keep_going=given.keep_going, quick=given.quick)


def _run_one(simulated: Simulator, seed: int) -> int:
    plan = draw(seed)
    outcome = simulated.run(plan)
    if outcome.broken:
        return _report_broken(simulated, plan, outcome.broken)
    print(plan)
    print("\n".join(outcome.trace))
    print(f"seed {seed}: nothing is broken; trace {_digest(outcome.trace)}")
    return 0


def _run_all(simulated: Simulator, seeds: range, *, keep_going: bool, quick: bool) -> int:
    started = reported_at = time.monotonic()
    lives, failures = 0, list[int]()
    for count, seed in enumerate(seeds, 1):
        plan = draw(seed)
        outcome = simulated.run(plan)
        lives += outcome.lives
        if outcome.broken:
            failures.append(seed)
            if not (keep_going or quick):
                return _report_broken(simulated, plan, outcome.broken)
            print(f"seed {seed}: {outcome.broken}", flush=True)
            if quick:
                return 1
        now = time.monotonic()
        if now - reported_at > _REPORT_EVERY_S or count == len(seeds):
            reported_at, passed_s = now, now - started
            print(
                f"{count} of {len(seeds)} seeds, {lives} lives, {lives / passed_s:.1f} lives/s,"
                f" {len(failures)} broken",
                file=sys.stderr,
                flush=True,
            )
    print(f"{len(seeds)} seeds, {lives} lives, {len(failures)} broken: {failures[:20]}")
    return 1 if failures else 0


def _report_broken(simulated: Simulator, plan: HistoryPlan, broken: str) -> int:
    """The seed, the shortest history that still fails, and what happened in it."""
    print(f"seed {plan.seed}: {broken}\nshrinking a history of {plan.size} parts ...", flush=True)
    words = _without_numbers(broken)  # a shorter history may be broken otherwise: a sink that is no more, …
    smallest = shrink(plan, lambda one: _without_numbers(simulated.run(one).broken) == words)
    outcome = simulated.run(smallest)
    print(f"the shortest history that fails ({smallest.size} parts): {outcome.broken}\n{smallest}")
    print("\n".join(outcome.trace[-_TRACE_LINES:]))
    print(f"again: make simulate SEED={plan.seed}")
    return 1


def _without_numbers(words: str) -> str:
    return re.sub(r"\d+", "", words)


def _digest(trace: list[str]) -> str:
    return hashlib.sha256("\n".join(trace).encode()).hexdigest()[:12]


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of text have their order from it
        os.execve(  # noqa: S606 - this program again
            sys.executable,
            [sys.executable, "-m", "ingestd.simulation", *sys.argv[1:]],
            {**os.environ, "PYTHONHASHSEED": "0"},
        )
    sys.exit(main())
