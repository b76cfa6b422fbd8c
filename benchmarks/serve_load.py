"""The producers of a benchmark of the service: ``load.c``, compiled on demand, and the events it sends.

Called by ``serve.py``.
"""

import json
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.events import DATA, lines

SOURCE = Path(__file__).with_name("load.c")
EVENTS = 200_000
"""Different events in the file; ``load.c`` makes new ones of them lap after lap."""
_END_S = 90  # after the time a load was asked to run for


class Load(NamedTuple):
    """``batch`` events a request; 1: JSON, else NDJSON. ``rate``: events/s, 0 for as fast as answered."""

    connections: int
    batch: int
    rate: float = 0.0
    lap: int = 0


class Loaded(NamedTuple):
    """``events``: of the requests that were answered 202. Latency of a paced request is counted from when
    it was due."""

    requests: int
    events: int
    seconds: float
    statuses: dict[str, int]
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    cpu_seconds: float
    next_lap: int


def build() -> Path:
    """The load generator, compiled unless it is newer than its source. Raises CalledProcessError, OSError."""
    program = DATA / "load"
    if not program.exists() or program.stat().st_mtime < SOURCE.stat().st_mtime:
        DATA.mkdir(parents=True, exist_ok=True)
        command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", f"{program}.new", str(SOURCE)]
        subprocess.run(command, check=True)
        os.replace(f"{program}.new", program)
    return program


def prepare_load() -> Path:
    """A file of ``EVENTS`` valid events with distinct keys."""
    path = DATA / f"load-{EVENTS}-v1.jsonl"
    if not path.exists():
        DATA.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        with unfinished.open("wb", buffering=1 << 20) as out:
            # of 100 lines 97 are neither copies nor invalid
            events = (line for fate, line in lines(EVENTS * 100 // 97 + 100) if fate == "delivered")
            for _, line in zip(range(EVENTS), events, strict=False):
                out.write(line + b"\n")
        os.replace(unfinished, path)
    return path


class Running:
    """A load that is under way: ``wait`` for what it found."""

    def __init__(self, load: Load, *, port: int, seconds: float) -> None:
        command = [str(build()), "-c", str(load.connections), "-b", str(load.batch), "-t", f"{seconds:g}"]
        command += ["-r", f"{load.rate:g}", "-l", str(load.lap), str(prepare_load()), str(port)]
        self._seconds = seconds
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def has_ended(self, *, timeout_s: float) -> bool:
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def wait(self) -> Loaded:
        """Raises RuntimeError with what it complained about."""
        try:
            out, complaint = self._process.communicate(timeout=self._seconds + _END_S)
        finally:
            self._process.kill()
        if self._process.returncode:
            raise RuntimeError(f"the load failed: {complaint.decode(errors='replace').strip()[-200:]}")
        found: dict[str, Any] = json.loads(out)
        return Loaded(**found)
