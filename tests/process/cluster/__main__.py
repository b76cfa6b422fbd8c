"""``python -m tests.process.cluster``: a line a round and one for all; exit 1 if any round is not good."""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests import machine
from tests.process.cluster.rounds import play
from tests.process.soak.judge import Verdict


def main(words: list[str] | None = None) -> int:
    options = _options(words)
    machine.measure(1)
    print(f"seed {options.seed}", flush=True)
    total, all_done, seed = Verdict(), Counter[str](), options.seed
    ends = time.monotonic() + options.seconds
    while time.monotonic() < ends:
        directory = Path(tempfile.mkdtemp(prefix="ingestd-cluster-"))
        seconds = min(options.round, ends - time.monotonic())
        verdict, done = asyncio.run(play(directory, seed, seconds, servers=options.servers))
        print(f"seed {seed}: {verdict} {dict(done)}", flush=True)
        if verdict.good:
            shutil.rmtree(directory)
        else:
            print(f"  its files: {directory}", flush=True)
        total.add(verdict)
        all_done += done
        seed += 1
    good = total.good and total.acknowledged > 0
    print(f"{'good' if good else 'NOT GOOD'}: {total} {dict(all_done)}")
    return 0 if good else 1


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.process.cluster", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="no round begins after them")
    parser.add_argument("--round", type=float, default=20.0, help="seconds of faults in a round")
    parser.add_argument("--servers", type=int, default=1, help="of NATS; 3: each stream on all of them")
    parser.add_argument("--seed", type=int, default=random.randrange(10**9), help="of the first round")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
