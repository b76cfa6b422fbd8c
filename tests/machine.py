"""How slow the machine is that runs the tests: every limit of time in them follows it.

    async with asyncio.timeout(patience(10)): ...

``patience(s)`` is what takes up to ``s`` seconds on the machine that the limits were written on (2 cores,
CPython 3.11, nothing else to do). A limit is there to end what would never end, so it is many times what
the thing needs; a test of how long something takes owns its clock, or compares with what happens otherwise.
The machine is measured once, when the run starts, and the processes of the run share the figure.

A wait that hangs is told after five minutes at most, a test after fifteen, however slow the machine is said
to be: on two cores that sixteen processes wanted, the longest test of all took under three minutes.
"""

import json
import os
import subprocess
import sys
import tempfile
import time

VARIABLE = "TESTS_SLOWNESS"
"""May be given: ``TESTS_SLOWNESS=20 make test`` for a machine that will be busy with other things."""

WORK_S, DISK_S = 0.045, 0.03  # what ``_work`` and ``_sync`` take on that machine
MOST = 16.0
MOST_WAIT_S, MOST_TEST_S = 300.0, 900.0

_slowness = 1.0


def patience(seconds: float) -> float:
    """``seconds``, as long as they are on this machine; never less. Of a wait, in a test."""
    return min(seconds * _slowness, max(seconds, MOST_WAIT_S))


def patience_of_test(seconds: float) -> float:
    """The same, of a whole test, with all its waits."""
    return min(seconds * _slowness, max(seconds, MOST_TEST_S))


def slowness() -> float:
    return _slowness


def measure(workers: int) -> float:
    """Once for the run, in the process that starts it: 1.0, or how many times slower this machine is.

    ``workers``: processes that run tests beside each other, which share its cores.
    """
    if VARIABLE not in os.environ:
        slower = max(_work() / WORK_S, _sync() / DISK_S, 1.0)
        shared = max(workers / (os.cpu_count() or 1), 1.0)
        os.environ[VARIABLE] = f"{min(slower * shared, MOST):.2f}"
    return recall()


def recall() -> float:
    """What was measured, in a process that the run has started."""
    global _slowness
    _slowness = max(float(os.environ.get(VARIABLE, "1")), 1.0)
    return _slowness


def _work() -> float:
    """What tests do: a loop, objects, a process."""
    started = time.perf_counter()
    for _ in range(4):
        rows = [{"number": n, "text": str(n)} for n in range(4000)]
        json.loads(json.dumps(rows))
    subprocess.run([sys.executable, "-c", "import json"], check=True)
    return time.perf_counter() - started


def _sync() -> float:
    """What a store does before it answers, where the tests run: see ``tests/directories.py``."""
    with tempfile.TemporaryFile(dir=os.environ.get("PYTEST_DEBUG_TEMPROOT")) as file:
        started = time.perf_counter()
        for _ in range(4):
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
        return time.perf_counter() - started


recall()
