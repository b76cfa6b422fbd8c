"""Where the service's CPU goes: ``python -m benchmarks.serve_profile single`` (or ``ndjson``).

The service runs with a sampler in it: every millisecond of CPU a signal handler notes which line of ours the
main thread is at, weighted with the CPU that this thread has used since the last time. That slows it down by
a few per cent, unlike a tracing profiler, whose cost falls on small functions.
"""

import argparse
import json
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path
from types import FrameType

from benchmarks.events import DATA
from benchmarks.processes import Receiver
from benchmarks.serve import LOADS
from benchmarks.serve_load import Running, prepare_load
from benchmarks.serve_process import Service, Used

EVERY_S = 0.001
_OURS = "/ingestd/"
_START = signal.SIGUSR1  # the service has started: what it does from here on is of interest
_INSIDE = "--inside"  # the rest of the words is the service's command
_LINES = 40  # that are printed

PARTS = {
    "httpd/": "wire",
    "sources/http/": "endpoint",
    "schemas/": "validation",
    "processing/validate": "validation",
    "processing/dedup": "window",
    "intake/": "admission and feed",
    "store/": "spool, journal",
    "core/chunk": "spool, journal",
    "recording/": "recording",
}
"""By the beginning of a module's path; what is not here is delivery."""


class Sampler:
    """``seconds`` of the main thread by (module and function, line)."""

    def __init__(self) -> None:
        self.seconds: Counter[tuple[str, int]] = Counter()
        self._last = time.thread_time()

    def start(self) -> None:
        self.seconds.clear()
        self._last = time.thread_time()
        signal.signal(signal.SIGPROF, self._note)
        signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.thread_time()
        self.seconds[_place(frame)] += now - self._last  # type: ignore[assignment]
        self._last = time.thread_time()


def _place(frame: FrameType | None) -> tuple[str, int]:
    """The innermost line of ours. A function's first line: what came before Python had its turn, such as
    the loop's reading of sockets."""
    while frame is not None:
        code = frame.f_code
        _, ours, path = code.co_filename.rpartition(_OURS)
        if ours and not path.startswith("cli/"):
            if frame.f_lineno == code.co_firstlineno:
                return "event loop", 0
            return f"{path.removesuffix('.py')}:{code.co_name}", frame.f_lineno
        frame = frame.f_back
    return "event loop", 0


def part_of(place: str) -> str:
    if place == "event loop":
        return place
    return next((part for beginning, part in PARTS.items() if place.startswith(beginning)), "delivery")


def run_inside(out: Path, command: list[str]) -> None:
    """Be the service, and leave the samples in ``out``."""
    from ingestd.cli.main import main

    sampler = Sampler()
    sys.argv = command
    signal.signal(_START, lambda number, frame: sampler.start())
    os._exit = sys.exit  # type: ignore[assignment]  # else the end of it is the end of the process
    try:
        main()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        out.write_text(json.dumps([[*place, seconds] for place, seconds in sampler.seconds.items()]))


def run_load(kind: str, *, seconds: float) -> None:
    prepare_load()
    out = DATA / "samples.json"
    wrapper = (sys.executable, "-m", "benchmarks.serve_profile", _INSIDE, str(out))
    with Receiver("--count") as api, Service(api.api, wrapper=wrapper) as service:
        service.tell(_START)
        before = service.used()
        loaded = Running(LOADS[kind], port=service.port, seconds=seconds).wait()
        service.settle(timeout_s=60)
        used = service.used().since(before)
        service.stop()
    print(f"{loaded.events / loaded.seconds:,.0f} events/s while sampled\n")
    print(table(json.loads(out.read_text()), used, events=loaded.events))


def table(samples: list[tuple[str, int, float]], used: Used, *, events: int) -> str:
    """The main thread's seconds, shared out by the samples."""
    whole = sum(seconds for _, _, seconds in samples)
    scale = used.main_s / whole / events * 1e6
    parts: Counter[str] = Counter()
    for place, _, seconds in samples:
        parts[part_of(place)] += seconds * scale  # type: ignore[assignment]
    parts["other threads"] = (used.user_s + used.system_s - used.main_s) / events * 1e6  # type: ignore[assignment]
    lines = ["| part | µs CPU/event |", "|---|---:|"]
    lines += [f"| {part} | {cost:.2f} |" for part, cost in parts.most_common()]
    lines += ["", "Lines of the main thread:", ""]
    for place, line, seconds in sorted(samples, key=lambda sample: -sample[2])[:_LINES]:
        lines.append(f"{seconds * scale:8.3f}  {place}:{line}")
    return "\n".join(lines)


def main() -> None:
    if sys.argv[1:2] == [_INSIDE]:
        run_inside(Path(sys.argv[2]), sys.argv[3:])
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serve_profile", description=__doc__)
    parser.add_argument("kind", nargs="?", choices=tuple(LOADS), default="single")
    parser.add_argument("--seconds", type=float, default=10, metavar="S")
    chosen = parser.parse_args()
    run_load(chosen.kind, seconds=chosen.seconds)


if __name__ == "__main__":
    main()
