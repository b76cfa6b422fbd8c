"""Time that the test owns: a loop in which waiting costs nothing, and a clock that can be put forward."""

import asyncio
import selectors
from collections.abc import Mapping
from typing import Any

import pytest

from ingestd.core.clock import SystemClock
from tests.machine import patience


class _Selector(selectors.DefaultSelector):  # type: ignore[valid-type,misc]
    """Passes the time at once for which the loop would wait."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


class _LocalSelector(_Selector):
    """Before time passes, all that is on its way between two sockets of this process has come."""

    way_s = patience(0.01)

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        looks_s = timeout if timeout is None else min(timeout, self.way_s)
        ready = selectors.DefaultSelector.select(self, looks_s)
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """For code that waits for nothing outside the process: no sockets, no threads. ``owns_time``: limits of a
    test (``tests/limits.py``) are not in its seconds."""

    owns_time = True
    selector: type[_Selector] = _Selector

    def __init__(self) -> None:
        self._own = self.selector()
        super().__init__(self._own)

    def time(self) -> float:
        return self._own.now


class LocalLoop(VirtualLoop):
    """The same with sockets, both ends of which are in this process."""

    selector = _LocalSelector


class LoopClock(SystemClock):
    """The time of the running loop."""

    @staticmethod
    def monotonic() -> float:  # type: ignore[override]
        return asyncio.get_running_loop().time()


class JumpClock(SystemClock):
    """The running loop's, and ``ahead_s`` seconds more."""

    ahead_s = 0.0

    def monotonic(self) -> float:  # type: ignore[override]
        return asyncio.get_running_loop().time() + self.ahead_s


VIRTUAL: tuple[str, Mapping[str, Any]] = ("asyncio", {"loop_factory": VirtualLoop})
"""As ``anyio_backend``."""
local_time = pytest.mark.parametrize(
    "anyio_backend", [("asyncio", {"loop_factory": LocalLoop})], ids=["local time"]
)
"""Mark of a test, or of a file."""
