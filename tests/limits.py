"""A test that takes too long fails under its name, and the run goes on: a plugin of pytest, see conftest.py.

``timeout`` in pyproject.toml, or ``@pytest.mark.timeout``, says how long a test may take; the former follows
the machine. Three things end a test, each for what the one before cannot end:

1. In the loop, a little earlier: the test is cancelled where it waits, and tidies up as after any failure.
2. pytest-timeout raises in the main thread, inside the test only (``timeout_func_only``). Around all that
   pytest does for a test it raised now and then while a report was written: INTERNALERROR, and no name of
   any test that had failed.
3. A thread, for what hears no signal (uvloop waiting, a fixture that does not end): it shows where all
   threads stand, kills the test's processes and ends the worker. pytest-xdist then calls the test failed and
   starts another worker.
"""

import asyncio
import contextlib
import faulthandler
import functools
import inspect
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from time import monotonic, sleep  # themselves, whatever a test does to the module
from typing import Any

import pytest
from pytest_timeout import is_debugging

from tests import machine

SOONER, LATER = 0.9, 2.0  # of the limit: where a test is cancelled in its loop, and where its process ends
_stderr = pytest.StashKey[int]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Before pytest-timeout reads its option. A limit given on the command line stays as it is."""
    if not hasattr(config, "workerinput"):
        machine.measure(getattr(config.option, "numprocesses", None) or 1)
    if config.option.timeout is None:
        config.option.timeout = machine.patience_of_test(float(config.getini("timeout")))
    config.stash[_stderr] = os.dup(2)  # while a test runs, 2 is a file of pytest's that nobody would see


def pytest_unconfigure(config: pytest.Config) -> None:
    os.close(config.stash[_stderr])


def pytest_report_header() -> str:
    return f"machine: limits of time are {machine.slowness():.1f} times those of the reference machine"


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    test, limit = pyfuncitem.obj, _limit(pyfuncitem)
    if not limit or not inspect.iscoroutinefunction(test):
        return (yield)
    pyfuncitem.obj = _within(test, SOONER * limit)
    try:
        return (yield)
    finally:
        pyfuncitem.obj = test


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    limit = LATER * _limit(item)
    if not limit:
        return (yield)
    _watchdog.watch(item, limit)
    try:
        return (yield)
    finally:
        _watchdog.watch(None, limit)


class _Watchdog:
    """One thread for all tests: to start and to join one takes longer than most of them."""

    def __init__(self) -> None:
        self._watched: tuple[pytest.Item | None, float, float] = (None, 0.0, 0.0)
        self._thread: threading.Thread | None = None

    def watch(self, item: pytest.Item | None, limit: float) -> None:
        """Until the next call; None: nothing."""
        self._watched = (item, limit, monotonic() + limit)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="watchdog of the tests", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            sleep(_LOOKS_S)
            item, limit, end = self._watched
            if item and monotonic() > end:
                _end(item, limit)


_LOOKS_S = 0.25
_watchdog = _Watchdog()


def _limit(item: pytest.Item) -> float:
    """Seconds; 0: none."""
    marker = item.get_closest_marker("timeout")
    return float(marker.args[0] if marker else item.config.option.timeout)


def _within(test: Callable[..., Awaitable[None]], limit: float) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def limited(*arguments: object, **named: object) -> None:
        if getattr(asyncio.get_running_loop(), "owns_time", False):  # an hour of it may take no time
            return await test(*arguments, **named)
        try:
            async with asyncio.timeout(limit) as given:
                await test(*arguments, **named)
        except TimeoutError as error:
            if given.expired():
                raise TimeoutError(f"the test took longer than {limit:.1f} s") from error
            raise

    return limited


def _end(item: pytest.Item, limit: float) -> None:
    if is_debugging():
        return
    stderr = item.config.stash[_stderr]
    os.write(stderr, f"\n{item.nodeid} did not end within {limit:.1f} s, whatever was tried:\n".encode())
    faulthandler.dump_traceback(stderr)
    for child in children():
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    os._exit(1)


def children() -> list[int]:
    """The processes that this one has started; none where the system does not tell."""
    found: list[int] = []
    for path in Path(f"/proc/{os.getpid()}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # a thread that has ended meanwhile
            found += map(int, path.read_text().split())
    return found
