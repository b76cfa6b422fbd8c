"""``python -m tests.process.cluster``: a line a run, one for each kind of run, and one for all; exit 1 if any
run is not good. A kind that this machine cannot play is left out, with words."""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path

from tests import machine, power
from tests.process.cluster import letter_rounds, rate_rounds
from tests.process.cluster.brokers import KINDS, Kind
from tests.process.cluster.rounds import play
from tests.process.soak.judge import Verdict

_OWN_ROUNDS = {"rate": rate_rounds.play, "letters": letter_rounds.play}
SIZES, ILL = (1, 3, 40, 400), 0.001
"""Of requests; and the share of events that the APIs refuse, each of which costs several requests."""


def main(words: list[str] | None = None) -> int:
    options = _options(words)
    machine.measure(1)
    kinds = _playable([KINDS[name] for name in options.kinds.split(",") if name])
    print(f"seed {options.seed}", flush=True)
    totals: defaultdict[str, Verdict] = defaultdict(Verdict)
    runs, done = Counter[str](), defaultdict[str, Counter[str]](Counter)
    began, number = time.monotonic(), 0
    while (
        kinds and (time.monotonic() - began < options.seconds) and (not options.runs or number < options.runs)
    ):
        kind, seed = kinds[number % len(kinds)], options.seed + number
        verdict, found = _run(kind, seed, options.round)
        runs[kind.name] += 1
        totals[kind.name].add(verdict)
        done[kind.name] += found
        number += 1
    total = Verdict()
    for name, verdict in totals.items():
        print(f"{name}, {runs[name]} runs: {verdict} {dict(done[name])}")
        total.add(verdict)
    good = total.good and total.acknowledged > 0
    print(f"{'good' if good else 'NOT GOOD'}, {number} runs: {total}")
    return 0 if good else 1


def _run(kind: Kind, seed: int, seconds: float) -> tuple[Verdict, Counter[str]]:
    """What ends with an error is not good either."""
    directory, done = Path(tempfile.mkdtemp(prefix="ingestd-cluster-")), Counter[str]()
    began = time.monotonic()
    try:
        if kind.name in _OWN_ROUNDS:
            verdict, done = asyncio.run(_OWN_ROUNDS[kind.name](directory, seed, seconds))
        else:
            resize = kind.name == "resize"
            run = play(directory, seed, seconds, kind=kind, sizes=SIZES, ill=ILL, resize=resize)
            verdict, done = asyncio.run(run)
    except Exception as error:  # the next run goes on
        verdict = Verdict(problems=[f"{kind.name}, seed {seed}: {type(error).__name__}: {error}"])
    took_s = time.monotonic() - began
    print(f"{kind.name}, seed {seed}, {took_s:.0f} s: {verdict} {dict(done)}", flush=True)
    if verdict.good:
        shutil.rmtree(directory)
    else:
        print(f"  its files: {directory}", flush=True)
    return verdict, done


def _playable(kinds: list[Kind]) -> list[Kind]:
    if not any(kind.fault == "cut power" for kind in kinds):
        return kinds
    with tempfile.TemporaryDirectory(prefix="ingestd-power-") as directory:
        why = power.why_not(Path(directory))
    if why:
        print(f"the power is not cut here: it needs root and loop devices ({why})", flush=True)
        return [kind for kind in kinds if kind.fault != "cut power"]
    return kinds


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.process.cluster", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="no run begins after them")
    parser.add_argument("--runs", type=int, default=0, help="no more than so many")
    parser.add_argument("--round", type=float, default=20.0, help="seconds of faults in a run")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"in turns, of {', '.join(KINDS)}")
    parser.add_argument("--seed", type=int, default=random.randrange(10**9), help="of the first run")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
