"""Child processes of the benchmarks: one that is measured, and the receiver it talks to.

Imports stay small: before exec a child counts as big as its parent, and ``ru_maxrss`` remembers it.
``smallest_peak_bytes`` is that floor; a measured peak says something only above it.
"""

import http.client
import json
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from types import TracebackType
from typing import Any, NamedTuple

_START_TIMEOUT_S = 20
_STDERR_BYTES = 2_000


class Finished(NamedTuple):
    """A process that ended. ``cpu_s``: user and system time of all its threads and reaped children."""

    exit_code: int
    wall_s: float
    cpu_s: float
    peak_rss_bytes: int
    stdout: str
    stderr: str
    timed_out: bool

    def complaint(self) -> str:
        """The last line it wrote to standard error; for a failure's one line."""
        lines = self.stderr.strip().splitlines()
        return lines[-1][:200] if lines else "it said nothing on standard error"


def run_measured(command: list[str], *, timeout_s: float) -> Finished:
    """Runs ``command`` to its end, or kills it after ``timeout_s``. Raises OSError if it cannot start."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        timed_out = threading.Event()

        def end() -> None:
            timed_out.set()
            child.kill()

        timer = threading.Timer(timeout_s, end)
        timer.start()
        try:
            _, status, usage = os.wait4(child.pid, 0)
        except BaseException:
            child.kill()
            child.wait()
            raise
        finally:
            timer.cancel()
        wall_s = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)  # wait4 took it from under Popen
        out.seek(0)
        err.seek(max(0, err.seek(0, os.SEEK_END) - _STDERR_BYTES))
        return Finished(
            exit_code=child.returncode,
            wall_s=wall_s,
            cpu_s=usage.ru_utime + usage.ru_stime,
            peak_rss_bytes=usage.ru_maxrss * 1024,
            stdout=out.read().decode(errors="replace"),
            stderr=err.read().decode(errors="replace"),
            timed_out=timed_out.is_set(),
        )


def smallest_peak_bytes() -> int:
    """The ``ru_maxrss`` of a process that does nothing: what this process lends to its children."""
    return run_measured(["/bin/true"], timeout_s=10).peak_rss_bytes


class Receiver:
    """``benchmarks.receiver`` in a process of its own, on a free port, for one ``with`` block."""

    def __init__(self, *options: str) -> None:
        self._options = options

    def __enter__(self) -> "Receiver":
        command = [sys.executable, "-m", "benchmarks.receiver", *self._options]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], _START_TIMEOUT_S)
        line = self._process.stdout.readline() if ready else b""
        if not line:
            self.__exit__(None, None, None)
            raise RuntimeError("the receiver did not start")
        self._port = int(json.loads(line)["port"])
        self.api = f"http://127.0.0.1:{self._port}"
        return self

    @property
    def pid(self) -> int:
        return self._process.pid

    def stats(self) -> dict[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", "/stats")
            stats: dict[str, Any] = json.load(connection.getresponse())
            return stats
        finally:
            connection.close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
