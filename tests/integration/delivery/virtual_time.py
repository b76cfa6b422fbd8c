"""Time that the test owns: a loop in which waiting costs nothing, and a clock that can be put forward."""

import asyncio
import selectors
import time
from collections.abc import Mapping
from typing import Any

from ingestd.core.clock import SystemClock


class _Selector(selectors.DefaultSelector):  # type: ignore[valid-type,misc]
    """Passes the time at once for which the loop would wait."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """For code that waits for nothing outside the process: no sockets, no threads. ``owns_time``: limits of a
    test (``tests/limits.py``) are not in its seconds."""

    owns_time = True

    def __init__(self) -> None:
        self._own = _Selector()
        super().__init__(self._own)

    def time(self) -> float:
        return self._own.now


class LoopClock(SystemClock):
    """The time of the running loop."""

    @staticmethod
    def monotonic() -> float:  # type: ignore[override]
        return asyncio.get_running_loop().time()


class JumpClock(SystemClock):
    """The system's, and ``ahead_s`` seconds more."""

    ahead_s = 0.0

    def monotonic(self) -> float:  # type: ignore[override]
        return time.monotonic() + self.ahead_s


VIRTUAL: tuple[str, Mapping[str, Any]] = ("asyncio", {"loop_factory": VirtualLoop})
"""As ``anyio_backend``."""
