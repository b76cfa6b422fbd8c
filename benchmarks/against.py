"""Two commits side by side: ``python -m benchmarks.against REV [OTHER]``. OTHER: what is checked out here.

Each row is one kind of work, done by both in turns; what counts is its ratio, the median of the rounds' own,
new / old, because absolute times belong to the machine and its hour. Every run's counts are checked.
"""

import argparse
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

from benchmarks import scenarios, serve
from benchmarks.events import DATA, prepare
from benchmarks.processes import Receiver, run_measured
from benchmarks.serve_load import prepare_load

HERE = Path(__file__).resolve().parent.parent
_TIMEOUT_S = 1800.0
_HEADINGS = (
    *("work", "CPU, new / old", "lowest-highest", "rounds"),
    *("old, µs/event", "new", "old peak, MB", "new", "new, CPU s / wall s"),
)
_COMMANDS = {"dlq list": ("dlq", "list"), "spool stat": ("spool", "stat"), "config show": ("config", "show")}


class Cost(NamedTuple):
    """CPU an event, of the whole process with its start. ``cores``: CPU s / wall s, of what is no service."""

    cpu_us: float
    peak_bytes: float
    cores: float = 0.0


Command = list[str]
"""Words that start ``ingestd`` of one commit."""


def _cost(run: scenarios.Run) -> Cost:
    if run.faults:
        raise RuntimeError(f"{run.scenario}: {'; '.join(run.faults)}")
    return Cost(run.cpu_s / run.events * 1e6, run.peak_rss_bytes, run.cpu_s / run.wall_s)


def replay(count: int, check: scenarios.Check, *receiver: str, sinks: str = "") -> Callable[[Command], Cost]:
    def run(command: Command) -> Cost:
        given = prepare(count)
        found = scenarios.run_replay(
            "replay",
            given,
            command=command,
            receiver=receiver or ("--count",),
            check=check,
            timeout_s=_TIMEOUT_S,
            sinks=sinks,
        )
        return _cost(found)

    return run


def served(kind: str, seconds: float, command: Command) -> Cost:
    prepare_load()
    run = serve.run_service(kind, serve.LOADS[kind], seconds=seconds, command=command)
    if run.faults:
        raise RuntimeError(f"{kind}: {'; '.join(run.faults)}")
    return Cost(run.cpu_per_event_us, run.peak_rss_bytes)


def start(command: Command) -> Cost:
    """A replay of one line."""
    line = prepare(100).path.read_bytes().partition(b"\n")[0]
    with tempfile.TemporaryDirectory(dir=DATA) as scratch, Receiver() as api:
        source = Path(scratch, "one.jsonl")
        source.write_bytes(line + b"\n")
        words = ["replay", str(source), "--api", api.api, "--no-auth", "--quiet", "--state-dir", scratch]
        return _timed([*command, *words])


def asked(words: tuple[str, ...], command: Command) -> Cost:
    """A command that looks into the state that a replay has left."""
    with tempfile.TemporaryDirectory(dir=DATA) as scratch, Receiver() as api:
        left = ["replay", str(prepare(100).path), "--api", api.api, "--no-auth", "--quiet"]
        run_measured([*command, *left, "--state-dir", scratch], timeout_s=60)
        return _timed([*command, *words, "--state-dir", scratch])


def _timed(command: Command) -> Cost:
    done = run_measured(command, timeout_s=60)
    if done.exit_code:
        raise RuntimeError(f"{command}: exit {done.exit_code}: {done.complaint()}")
    return Cost(done.cpu_s * 1e6, done.peak_rss_bytes, done.cpu_s / done.wall_s)


def rows(events: int, seconds: float) -> dict[str, Callable[[Command], Cost]]:
    sound = scenarios.check_delivered
    found: dict[str, Callable[[Command], Cost]] = {
        "replay": replay(events, sound),
        "two sinks": replay(events, scenarios.check_twice, sinks=scenarios.TWO_SINKS),
        "run, NDJSON of 100": partial(served, "ndjson", seconds),
        "run, single events": partial(served, "single", seconds),
        "cloudevents, one request an event": replay(
            max(100, events // 10), sound, sinks=scenarios.SINGLE_EVENTS
        ),
        "refused by name": replay(max(100, events // 5), scenarios.check_refused, "--mode", "refuse"),
        "replay of one line": start,
    }
    found |= {name: partial(asked, words) for name, words in _COMMANDS.items()}
    found["ten times the input"] = replay(10 * events, sound)
    return found


@contextmanager
def tree(revision: str) -> Iterator[Path]:
    """The files of a commit, for as long as they are needed; "": those that are here."""
    if not revision:
        yield HERE
        return
    git = ["git", "-C", str(HERE), "worktree"]
    with tempfile.TemporaryDirectory(prefix="against-") as scratch:
        folder = Path(scratch, "tree")
        subprocess.run([*git, "add", "--quiet", "--detach", str(folder), revision], check=True)
        try:
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], check=True)


@contextmanager
def interpreter() -> Iterator[str]:
    """With this environment's libraries, and not what an editable installation runs at each start: a finder
    that costs a third of what ``config show`` does."""
    with tempfile.TemporaryDirectory(prefix="against-") as scratch:
        venv.create(scratch, symlinks=True)
        (site,) = Path(scratch).glob("lib/python*/site-packages")
        libraries = [path for path in sys.path if path.endswith("-packages")]
        Path(site, "libraries.pth").write_text("\n".join(libraries))
        yield str(Path(scratch, "bin", "python"))


def command_of(folder: Path, python: str) -> Command:
    """Its package, compiled beforehand, as an installed one is."""
    subprocess.run([python, "-m", "compileall", "-q", str(folder / "ingestd")], check=True)
    main = "from ingestd.cli.main import main; main()"
    return ["/usr/bin/env", f"PYTHONPATH={folder}", python, "-P", "-c", main]


class Pair(NamedTuple):
    old: Cost
    new: Cost


def compare(work: Callable[[Command], Cost], old: Command, new: Command, rounds: int) -> list[Pair]:
    pairs = []
    for number in range(rounds):
        if number % 2:
            then = work(new)
            pairs.append(Pair(work(old), then))
        else:
            then = work(old)
            pairs.append(Pair(then, work(new)))
    return pairs


def line(name: str, pairs: list[Pair]) -> str:
    ratios = [pair.new.cpu_us / pair.old.cpu_us for pair in pairs]
    old, new = ([getattr(pair, side) for pair in pairs] for side in ("old", "new"))
    cells = [name, f"**{median(ratios):.3f}**", f"{min(ratios):.3f}-{max(ratios):.3f}", str(len(pairs))]
    cells += [f"{median(cost.cpu_us for cost in side):,.2f}" for side in (old, new)]
    cells += [f"{median(cost.peak_bytes for cost in side) / 1e6:.0f}" for side in (old, new)]
    cells.append(f"{median(cost.cores for cost in new):.2f}")
    return "| " + " | ".join(cells) + " |"


def within(found: dict[str, list[Pair]]) -> Iterator[str]:
    """What compares two rows of one and the same commit, round by round."""
    for name in ("two sinks", "ten times the input"):
        if name in found and "replay" in found:
            of = zip(found[name], found["replay"], strict=False)
            sides = [(one.old.cpu_us / base.old.cpu_us, one.new.cpu_us / base.new.cpu_us) for one, base in of]
            old, new = (median(side) for side in zip(*sides, strict=True))
            yield f"- {name} / replay: {new:.3f} (old: {old:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.against", description=__doc__)
    parser.add_argument("old", metavar="REV")
    parser.add_argument("new", metavar="OTHER", nargs="?", default="")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="of each row (default: 5)")
    parser.add_argument("--events", type=int, default=1_000_000, metavar="N", help="(default: 1,000,000)")
    parser.add_argument("--seconds", type=float, default=5, metavar="S", help="of each load (default: 5)")
    parser.add_argument("--only", action="append", metavar="ROW", choices=rows(100, 1), help="repeatable")
    chosen = parser.parse_args()
    print("| " + " | ".join(_HEADINGS) + " |\n" + "|---" * len(_HEADINGS) + "|")
    found: dict[str, list[Pair]] = {}
    with tree(chosen.old) as old, tree(chosen.new) as new, interpreter() as python:
        commands = command_of(old, python), command_of(new, python)
        for name, work in rows(chosen.events, chosen.seconds).items():
            if not chosen.only or name in chosen.only:
                found[name] = compare(work, *commands, chosen.rounds)
                print(line(name, found[name]), flush=True)
    print("", *within(found), sep="\n")


if __name__ == "__main__":
    main()
