"""The watchdog tells a blocked event loop, and who blocks it."""

import asyncio
import ctypes
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from ingestd.telemetry import watchdog as module
from ingestd.telemetry.watchdog import MAX_FRAMES, Watchdog
from tests.machine import patience

pytestmark = pytest.mark.anyio

THRESHOLD_S = 0.4
DEADLINE_S = patience(10.0)


@pytest.fixture(params=[("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return request.param


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - there is nothing to be woken by
            await asyncio.sleep(0.01)


def block(seconds: float) -> None:
    time.sleep(seconds)


async def test_one_warning_says_for_how_long_and_in_which_function() -> None:
    said: list[str] = []
    health: list[str | None] = []

    def warn(message: str) -> None:
        said.append(message)
        health.append(dog.problem())

    dog = Watchdog(warn, threshold_s=THRESHOLD_S)
    with dog.watch():
        assert dog.problem() is None
        block(4 * THRESHOLD_S)
        await until(lambda: len(said) == 2)
        blocked, again = said
        assert blocked.startswith("the event loop has been blocked for 0.")
        assert "test_watchdog.py:" in blocked
        assert " block < " in blocked
        assert again.startswith("the event loop runs again; it was blocked for ")
        assert str(health[0]).startswith("the event loop has been blocked for"), "said while it stood"
        assert health[1] is None
        assert dog.blocked == 1
        assert dog.lag_s >= 4 * THRESHOLD_S - 1.125 * module.BEAT_S  # the longest time to the next beat


async def test_each_time_is_counted_anew() -> None:
    said: list[str] = []
    dog = Watchdog(said.append, threshold_s=THRESHOLD_S)
    with dog.watch():
        for times in (1, 2):
            block(3 * THRESHOLD_S)
            await until(lambda times=times: len(said) == 2 * times)  # type: ignore[misc]
            assert dog.blocked == times


async def test_a_delay_below_the_threshold_only_shows_as_lag() -> None:
    said: list[str] = []
    dog = Watchdog(said.append, threshold_s=patience(5.0))
    with dog.watch():
        await until(lambda: len(dog._lags) > 0)
        block(0.6)
        await until(lambda: dog.lag_s >= 0.3)
    assert said == []
    assert dog.blocked == 0


async def test_lag_is_forgotten_after_a_while() -> None:
    dog = Watchdog(lambda message: None, threshold_s=patience(5.0), memory_s=0.5)
    with dog.watch():
        block(0.7)
        await until(lambda: dog.lag_s >= 0.4)
        await until(lambda: dog.lag_s < 0.2)


async def test_code_that_stops_every_thread_is_counted_without_accusing_anybody() -> None:
    said: list[str] = []
    dog = Watchdog(said.append, threshold_s=THRESHOLD_S)
    with dog.watch():
        started = time.monotonic()
        ctypes.PyDLL(None).usleep(int(3 * THRESHOLD_S * 1e6 / 2))  # keeps the interpreter to itself
        stood_s = time.monotonic() - started  # a busy machine adds to it
        await until(lambda: bool(said))
        await asyncio.sleep(2 * module.BEAT_S)  # time for a second, false one
    (only,) = said
    told = re.match(r"the whole process stood still for ([\d.]+) s", only)
    assert told, only
    assert stood_s - module.BEAT_S < float(told[1]) < stood_s + patience(1.0), stood_s
    assert dog.blocked == 1


async def test_a_deep_stack_is_cut_to_its_innermost_frames() -> None:
    said: list[str] = []

    def deep(levels: int) -> None:
        if levels:
            deep(levels - 1)
        else:
            block(3 * THRESHOLD_S)

    dog = Watchdog(said.append, threshold_s=THRESHOLD_S)
    with dog.watch():
        deep(200)
        await until(lambda: len(said) == 2)
    assert said[0].count(" < ") == MAX_FRAMES - 1
    assert len(said[0]) < 2_000


async def test_a_loop_that_is_not_watched_is_not_called_blocked() -> None:
    threshold_s = patience(0.2)  # to begin to watch starts a thread, and a busy machine takes its time
    dog = Watchdog(lambda message: None, threshold_s=threshold_s)
    block(2 * threshold_s)
    assert (dog.problem(), dog.lag_s) == (None, 0.0)
    with dog.watch():
        assert dog.problem() is None
    block(2 * threshold_s)
    assert (dog.problem(), dog.lag_s) == (None, 0.0)


async def test_it_leaves_no_thread_behind() -> None:
    before = set(threading.enumerate())
    dog = Watchdog(lambda message: None)
    with dog.watch():
        assert len(set(threading.enumerate()) - before) == 1
    assert set(threading.enumerate()) <= before
    assert dog._timer.cancelled()
