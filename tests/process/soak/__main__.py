"""``python -m tests.process.soak``: a line a round and one for all; exit 1 if any round is not good."""

import argparse
import asyncio
import itertools
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

from tests import machine
from tests.process.soak.judge import Verdict
from tests.process.soak.rounds import SHAPES, play


def main(words: list[str] | None = None) -> int:
    options = _options(words)
    machine.measure(1)
    print(f"seed {options.seed}", flush=True)
    total, ends = Verdict(), time.monotonic() + options.seconds
    shapes = itertools.cycle(shape for shape in SHAPES if options.only in shape)
    for played in itertools.count():
        if played == options.rounds if options.rounds else time.monotonic() > ends:
            break
        total.add(_round(next(shapes), options.seed + played, options.lives))
    good = total.good and total.lives > 0
    print(f"{'good' if good else 'NOT GOOD'}: {total}")
    return 0 if good else 1


def _round(shape: str, seed: int, lives: int) -> Verdict:
    """Of one that is not good everything is kept."""
    directory = Path(tempfile.mkdtemp(prefix="ingestd-soak-"))
    verdict = asyncio.run(play(directory, shape, seed, lives=lives))
    print(f"seed {seed}, {shape}: {verdict}", flush=True)
    if verdict.good:
        shutil.rmtree(directory)
    else:
        print(f'  again: --seed {seed} --rounds 1 --only "{shape}"; its files: {directory}', flush=True)
    return verdict


def _options(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.process.soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="no round begins after them")
    parser.add_argument("--rounds", type=int, default=0, help="so many, however long they take")
    parser.add_argument("--lives", type=int, default=8, help="of a round, that end by a kill")
    parser.add_argument("--seed", type=int, default=random.randrange(10**9), help="of the first round")
    parser.add_argument("--only", default="", help=f"shapes with these words, of: {', '.join(SHAPES)}")
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
