"""Tests in processes beside each other, as a plugin of pytest: ``pytest --workers 6``.

One process imports and collects everything, once, and forks those that run the tests: a worker costs next to
nothing, so there may be more of them than cores while many tests wait. pytest-xdist starts an interpreter for
each worker, which imports and collects all for itself.

The first process runs no test. It gives each worker a few at a time, the longest alone, and tells what comes
back as if it had run them. A worker that dies takes the test with it that it ran: that one has failed,
another worker is forked, and the others are run. Servers that they share are started before them; not with
``--slow``, which tells what each test costs with its own.
"""

import multiprocessing
import os
import sys
from collections import deque
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any

import pytest
from _pytest._io import TerminalWriter

from tests.ends import end

LONG = (
    *("admin/test_console.py", "sqs/test_sqs.py", "simulation/test_mutants.py"),
    *(
        "process/test_limits.py",
        "process/soak/",
        "process/cluster/",
        "test_run_hostile.py",
        "nats/test_spool.py",
        "test_lint.py",
    ),
    *("cli/test_secrets.py", "test_prometheus.py", "test_control_plan.py", "test_added_sink.py"),
    *("test_run_sinks.py", "test_way_of_one_event.py", "test_run_kill.py", "test_run_watching.py"),
)
"""Files with a test that takes seconds, most of them waiting: the longest first."""
SERVERS = {"tests.warm": "warm", "tests.aws": "server"}
"""Module -> its function that starts one, which they all use; started if a test has imported it."""
MOST = 12  # tests given at once: those of a file share its fixtures
VARIABLE = "TESTS_WORKER"

_long = pytest.StashKey[int]()  # how many of the first tests are given out alone
_fork = multiprocessing.get_context("fork")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--workers", type=int, default=0, metavar="N", help="run the tests in N processes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What takes longest starts first: nobody waits for it in the end."""
    long = [item for name in LONG for item in items if name in item.nodeid]
    config.stash[_long] = len(dict.fromkeys(long))
    items[:] = dict.fromkeys([*long, *items])


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> bool | None:
    count = session.config.getoption("workers")
    unwanted = session.testsfailed and not session.config.option.continue_on_collection_errors
    if not count or unwanted or session.config.option.collectonly:
        return None
    run = _Run(session)
    try:
        run.go(count)
    finally:
        run.end()
    return True


@dataclass
class _Worker:
    process: ForkProcess
    conn: Connection
    given: deque[int] = field(default_factory=deque)  # tests, the first of which it runs now


class _Run:
    """In the process that collected."""

    def __init__(self, session: pytest.Session) -> None:
        self._session = session
        self._hook = session.config.hook
        self._left = deque(range(len(session.items)))
        self._alone = session.config.stash[_long]
        self._workers: dict[Connection, _Worker] = {}
        self._started = 0
        self._count = 1

    def go(self, count: int) -> None:
        self._count = count
        self._session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # one for all
        for module, start in SERVERS.items():
            if module in sys.modules and not self._session.config.getoption("slow", 0):
                getattr(sys.modules[module], start)()
        for _ in range(min(count, len(self._left))):
            self._start()
        while self._workers:
            for conn in wait(list(self._workers)):
                assert isinstance(conn, Connection)
                self._hear(self._workers[conn])
                if self._session.shouldfail:
                    raise self._session.Failed(self._session.shouldfail)
                if self._session.shouldstop:
                    raise self._session.Interrupted(self._session.shouldstop)

    def end(self) -> None:
        for worker in self._workers.values():
            worker.process.terminate()
        for worker in self._workers.values():
            worker.process.join(1)
            worker.process.kill()

    def _start(self) -> None:
        here, there = _fork.Pipe()
        others = [here, *self._workers]
        self._started += 1
        name = f"w{self._started}"
        process = _fork.Process(target=_work, args=(self._session, there, others, name))
        process.start()
        there.close()
        self._workers[here] = _Worker(process, here)

    def _hear(self, worker: _Worker) -> None:
        try:
            told = worker.conn.recv()
        except (EOFError, ConnectionError):
            return self._bury(worker)
        if told is None:
            given = self._some()
            worker.given += given
            worker.conn.send(given)
        else:
            self._tell(worker.given.popleft(), told)
        return None

    def _some(self) -> list[int]:
        if not self._left:
            return []
        fair = len(self._left) // (4 * self._count)
        many = 1 if self._left[0] < self._alone else max(1, min(fair, MOST))
        return [self._left.popleft() for _ in range(many)]

    def _tell(self, number: int, reports: list[dict[str, Any]]) -> None:
        item, config = self._session.items[number], self._session.config
        self._hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for data in reports:
            report = self._hook.pytest_report_from_serializable(config=config, data=data)
            self._hook.pytest_runtest_logreport(report=report)
        self._hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)

    def _bury(self, worker: _Worker) -> None:
        del self._workers[worker.conn]
        worker.conn.close()
        worker.process.join()
        if not worker.given:
            if worker.process.exitcode:
                raise RuntimeError(f"a worker ended with {worker.process.exitcode} after its last test")
            return
        number = worker.given.popleft()
        item = self._session.items[number]
        words = f"the worker that ran {item.nodeid} ended with {worker.process.exitcode}"
        report = pytest.TestReport(
            item.nodeid, item.location, dict.fromkeys(item.keywords, 1), "failed", words, "call"
        )
        self._hook.pytest_runtest_logreport(report=report)
        self._left.extendleft(reversed(worker.given))
        if self._left:
            self._start()


# --- in a worker ---


class _Reports:
    """Takes what its process tells of a test."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self.found: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        self.found.append(data)

    def take(self) -> list[dict[str, Any]]:
        found, self.found = self.found, []
        return found


def _work(session: pytest.Session, conn: Connection, others: list[Connection], name: str) -> None:
    for other in others:
        other.close()
    os.environ[VARIABLE] = name
    _become_quiet(session.config, name)
    reports = _Reports(session.config)
    session.config.pluginmanager.register(reports)
    given: deque[int] = deque()

    def next_item() -> pytest.Item | None:
        if not given:
            conn.send(None)
            given.extend(conn.recv())
        return session.items[given.popleft()] if given else None

    item = next_item()
    while item is not None:
        after = next_item()
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        conn.send(reports.take())
        item = after
    end()


def _become_quiet(config: pytest.Config, name: str) -> None:
    """Output and temporary files of its own."""
    capture: Any = config.pluginmanager.getplugin("capturemanager")
    capture.stop_global_capturing()
    capture.start_global_capturing()
    capture.suspend_global_capture(in_=True)
    terminal: Any = config.pluginmanager.getplugin("terminalreporter")
    terminal._tw = TerminalWriter(open(os.devnull, "w"))  # noqa: SIM115
    factory: Any = config._tmp_path_factory  # type: ignore[attr-defined]
    factory._basetemp = factory.getbasetemp() / name
    factory._basetemp.mkdir(mode=0o700)
