"""Notices an event loop that something blocks, and says what. Started by the service, read by health.

A thread beside the loop watches the loop's heartbeat, because the loop itself cannot tell while it stands.
"""

import asyncio
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import PurePath
from types import FrameType

from ingestd.core.clock import until_turn

MAX_FRAMES = 20
BEAT_S = 0.25
MEMORY_S = 10.0
"""How far back ``lag_s`` looks."""


class Watchdog:
    """Warns once for each time that the loop does not beat for ``threshold_s``, with its thread's stack.

    ``blocked`` counts these times. Shorter delays only show in ``lag_s``.
    """

    def __init__(
        self,
        warn: Callable[[str], None],
        *,
        threshold_s: float = 2.0,
        memory_s: float = MEMORY_S,
        beat_s: float = BEAT_S,
    ) -> None:
        self._beat_s = beat_s
        self.blocked = 0
        self._warn = warn
        self._threshold_s = threshold_s
        self._memory_s = memory_s
        self._lock = threading.Lock()  # around what loop and thread both decide by
        self._beat_at = time.monotonic()
        self._reported = False
        self._watching = False
        self._lags: deque[tuple[float, float]] = deque(maxlen=int(memory_s / beat_s) + 2)
        self._stop = threading.Event()
        self._loop_thread = 0
        self._loop: asyncio.AbstractEventLoop
        self._timer: asyncio.TimerHandle
        self._wait_s = beat_s

    @contextmanager
    def watch(self) -> Iterator[None]:
        """From within the running loop, for as long as it is to be watched."""
        self._loop = asyncio.get_running_loop()
        self._loop_thread = threading.get_ident()
        self._beat_at = time.monotonic()
        self._set_timer()
        thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._stop.clear()
        self._watching = True
        thread.start()
        try:
            yield
        finally:
            self._watching = False
            self._timer.cancel()
            self._stop.set()
            thread.join(timeout=1.0)

    @property
    def lag_s(self) -> float:
        """By how much the loop was late at worst in the last ten seconds."""
        now = time.monotonic()
        lags = [lag for at, lag in self._lags if now - at <= self._memory_s]
        return max(0.0, self._silent_s() - self._wait_s, *lags)

    def problem(self) -> str | None:
        """For ``/healthz``. It can only be answered once the loop runs again, so it seldom says anything."""
        silent_s = self._silent_s()
        if silent_s <= self._threshold_s:
            return None
        return f"the event loop has been blocked for {silent_s:.1f} s"

    def _silent_s(self) -> float:
        """Nothing beats before ``watch`` and after it: while the service opens and closes its stores."""
        return time.monotonic() - self._beat_at if self._watching else 0.0

    def _set_timer(self) -> None:
        self._wait_s = until_turn(self._beat_s, time.monotonic())
        self._timer = self._loop.call_later(self._wait_s, self._beat)

    def _beat(self) -> None:
        waited_s = self._wait_s
        self._set_timer()
        with self._lock:
            now = time.monotonic()
            silent_s, self._beat_at = now - self._beat_at, now
            reported, self._reported = self._reported, False
            unseen = silent_s > self._threshold_s and not reported
            self.blocked += unseen
        self._lags.append((now, max(0.0, silent_s - waited_s)))
        if reported:
            self._warn(f"the event loop runs again; it was blocked for {silent_s:.1f} s")
        elif unseen:  # the thread stood too: compiled code that keeps the interpreter, or a stopped process
            self._warn(f"the whole process stood still for {silent_s:.1f} s")

    def _run(self) -> None:
        """Wakes when it would be too long for the loop, which beats meanwhile."""
        looked_at = time.monotonic()
        while True:
            wait_s = max(self._beat_s, self._threshold_s - self._silent_s())
            if self._stop.wait(wait_s):
                return
            before, looked_at = looked_at, time.monotonic()
            if looked_at - before > wait_s + min(self._beat_s, self._threshold_s / 4):
                continue  # this thread stood as well: the loop's stack would accuse the wrong one
            with self._lock:
                silent_s = looked_at - self._beat_at
                report = silent_s > self._threshold_s and not self._reported
                self._reported = self._reported or report
                self.blocked += report
            if report:
                stack = _stack(sys._current_frames().get(self._loop_thread))  # noqa: SLF001 - no other way
                self._warn(f"the event loop has been blocked for {silent_s:.1f} s, innermost first: {stack}")


def _stack(frame: FrameType | None) -> str:
    """``module.py:12 function < caller.py:34 function …``: no source text, no values, no whole paths."""
    frames = islice(traceback.walk_stack(frame), MAX_FRAMES) if frame else ()
    return " < ".join(
        f"{'/'.join(PurePath(f.f_code.co_filename).parts[-2:])}:{line} {f.f_code.co_qualname}"
        for f, line in frames
    )
