"""The servers that a load is sent to, each a process of its own, watched through /proc.

Called by ``serve.py`` and ``serve_profile.py``.
"""

import http.client
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from benchmarks.events import DATA

_START_S = 90  # on a busy machine
_STOP_S = 40  # shutdown_timeout is 25
_POLL_S = 0.05
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Used(NamedTuple):
    """Of a process since its start. ``main_s``: its main thread alone; all threads are in ``user_s`` and
    ``system_s``."""

    user_s: float
    system_s: float
    main_s: float

    def since(self, before: "Used") -> "Used":
        return Used._make(now - then for now, then in zip(self, before, strict=True))


def used_by(pid: int) -> Used:
    user_s, system_s = _cpu(f"/proc/{pid}/stat")
    return Used(user_s, system_s, sum(_cpu(f"/proc/{pid}/task/{pid}/stat")))


class Watched:
    """A running process: what it uses."""

    port: int

    def __init__(self, command: list[str], **streams: Any) -> None:
        self._process = subprocess.Popen(command, **streams)

    def used(self) -> Used:
        return used_by(self._process.pid)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def resident_bytes(self) -> int:
        return int(Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]) * _PAGE_BYTES

    def peak_bytes(self) -> int:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmHWM:", 1)[1].split()[0]) * 1024

    def tell(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def _end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()


class Bare(Watched):
    """``benchmarks.serve_bare`` for one ``with`` block."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "benchmarks.serve_bare"]
        super().__init__(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def __enter__(self) -> "Bare":
        out = self._process.stdout
        assert out is not None
        line = out.readline() if select.select([out], [], [], _START_S)[0] else b""
        if not line:
            self._end()
            raise RuntimeError("the bare server did not start")
        self.port = int(json.loads(line)["port"])
        return self

    def _end(self) -> None:
        super()._end()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()


class Service(Watched):
    """``ingestd run``, its state on the disk that holds the data, for one ``with`` block.

    ``ingestd``: the words that start it; none: what is installed. ``wrapper``: words before these, for a
    profiler.
    """

    def __init__(self, api: str, *, wrapper: tuple[str, ...] = (), ingestd: Sequence[str] = ()) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="state-", dir=DATA)
        self.log = Path(self._scratch.name) / "log.jsonl"
        ingestd = ingestd or [str(Path(sys.executable).with_name("ingestd"))]
        command = [*wrapper, *ingestd, "run", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
        command += ["--api", api, "--no-auth", "--state-dir", f"{self._scratch.name}/state"]
        with self.log.open("wb") as log:
            super().__init__(command, stdin=subprocess.DEVNULL, stderr=log)

    def __enter__(self) -> "Service":
        deadline = time.monotonic() + _START_S
        while (listening := told_in(self.log, '"listening"')) is None:
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__(None, None, None)
                raise RuntimeError(f"the service did not start: {self.complaint()}")
            time.sleep(_POLL_S)
        self.port, self._admin_port = (port_of(listening[name]) for name in ("ingest", "admin"))
        return self

    def status(self) -> dict[str, Any]:
        return status_at(self._admin_port)

    def settle(self, *, timeout_s: float) -> dict[str, Any]:
        """The status when everything has had its end, or when the time is over."""
        deadline = time.monotonic() + timeout_s
        while (status := self.status())["ledger"]["in_flight"] and time.monotonic() < deadline:
            time.sleep(_POLL_S)
        return status

    def stop(self) -> int:
        """SIGTERM; the exit code, or -9 where it had to be killed."""
        self.tell(signal.SIGTERM)
        try:
            return self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._end()
            return -signal.SIGKILL

    def complaint(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return lines[-1][:300] if lines else "it said nothing"

    def _end(self) -> None:
        super()._end()
        self._scratch.cleanup()


def status_at(admin_port: int) -> dict[str, Any]:
    """``/v1/status``."""
    connection = http.client.HTTPConnection("127.0.0.1", admin_port, timeout=30)
    try:
        connection.request("GET", "/v1/status")
        status: dict[str, Any] = json.load(connection.getresponse())
        return status
    finally:
        connection.close()


def told_in(log: Path, words: str) -> dict[str, Any] | None:
    """The first whole line of a log with these words, if there is one."""
    for line in log.read_text().splitlines(keepends=True):
        if line.endswith("\n") and words in line:
            told: dict[str, Any] = json.loads(line)
            return told
    return None


def port_of(address: str) -> int:
    return int(address.rpartition(":")[2])


def _cpu(path: str) -> tuple[float, float]:
    """(user, system) seconds; proc_pid_stat(5), fields 14 and 15, behind the name in parentheses."""
    fields = Path(path).read_text().rpartition(")")[2].split()
    return int(fields[11]) / _TICKS_PER_S, int(fields[12]) / _TICKS_PER_S
