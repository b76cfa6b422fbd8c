"""Time that the simulation owns: a loop in which waiting costs nothing, that can be stopped dead."""

import asyncio
import heapq
import random
from asyncio import base_events
from collections.abc import Callable, Iterable
from inspect import CORO_CREATED, getcoroutinestate
from types import CoroutineType
from typing import Any

from ingestd.store.writer_host import WriterHost

_ALIKE_S = 1e-9
_MOST_STEPS_AT_ONCE, _MOST_STEPS = 1_000, 1_000_000
"""Before time goes on although somebody is busy, as anyio is while what it cancels waits for a thread; in a
life."""


class Crash(BaseException):
    """The process has ended: nothing of it runs any more."""


class Stuck(Exception):
    """A task waits for something that never comes, or never waits."""


class _Timer(asyncio.TimerHandle):
    """Another one is never the same, whatever it calls."""

    __slots__ = ()
    __eq__, __hash__ = object.__eq__, object.__hash__


class VirtualLoop(base_events.BaseEventLoop):
    """No thread, no socket, no real time. ``on_jump`` is called each time that nothing is ready, before the
    time goes on; ``on_kill`` at the step that was asked for. ``dead``: nothing is run any more."""

    def __init__(
        self,
        rng: random.Random,
        *,
        starts_at: float,
        thread_s: float,
        on_jump: Callable[[], None],
        on_kill: Callable[[], None],
    ) -> None:
        super().__init__()
        self.now = starts_at
        self.steps = self._steps_at_once = 0
        self.dead = False
        self._thread_s = thread_s  # what a thread does takes up to this long, at least
        self._kill_at: int | None = None
        self._on_kill, self._on_jump = on_kill, on_jump
        self._rng = rng
        self._ready: Any
        self._scheduled: list[tuple[float, _Timer]]  # a heap

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        timers, ready = self._scheduled, self._ready
        while timers and timers[0][1].cancelled():
            heapq.heappop(timers)
        if not ready or self._steps_at_once > _MOST_STEPS_AT_ONCE:
            self._steps_at_once = 0
            self._on_jump()
            if not timers:
                raise Stuck("nobody will ever do anything any more")
            self.now = max(self.now, timers[0][0])
        due = self.now + _ALIKE_S
        while timers and timers[0][0] <= due:
            ready.append(heapq.heappop(timers)[1])
        for _ in range(len(ready)):
            handle = ready.popleft()
            if handle._cancelled:  # noqa: SLF001 - as asyncio does
                continue
            handle._run()  # noqa: SLF001
            self.steps += 1
            self._steps_at_once += 1
            if self.steps > _MOST_STEPS:
                raise Stuck(f"it goes round in circles: {handle}")
            if self.steps == self._kill_at:
                self._on_kill()
            if self.dead:
                raise Crash

    def unwind(self, hosts: Iterable[WriterHost]) -> None:
        """What is left ends, and ``hosts``: nothing that it does has an effect."""
        self.dead, self._kill_at = False, None
        self.call_soon(self.stop)
        self.run_forever()  # it may have been killed between the end of its main task and the stop for it
        for _ in range(100):
            if not (tasks := asyncio.all_tasks(self)):
                break
            begun = [task for task in tasks if _has_begun(task)]  # anyio's wrapper never awaits its own else
            for task in begun:
                task.cancel()
            self.run_until_complete(asyncio.wait(tasks, timeout=60.0 if len(begun) == len(tasks) else 0.0))
        for host in hosts:
            host.end(now=False)
        self.run_until_complete(asyncio.sleep(60.0))  # nobody waits for one that was opening its file

    def kill_after(self, steps: int) -> None:
        self._kill_at = self.steps + 1 + steps

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """At some time soon, in one go."""
        del executor
        done: asyncio.Future[Any] = self.create_future()

        def work() -> None:
            if done.cancelled():
                return
            try:
                result = func(*args)
            except Exception as error:
                done.set_exception(error)
            else:
                done.set_result(result)

        self.call_later(self._rng.random() * max(0.01, self._thread_s), work)
        return done

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:  # type: ignore[override]
        return self.call_at(self.now + delay, callback, *args, context=context)

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:  # type: ignore[override]
        if self.is_closed():
            raise RuntimeError("the loop is closed")
        timer = _Timer(when, callback, args, self, context)
        heapq.heappush(self._scheduled, (when, timer))
        return timer

    def _write_to_self(self) -> None:
        """No task can be woken."""

    def _process_events(self, event_list: Any) -> None:
        """There are none."""


def _has_begun(task: "asyncio.Task[Any]") -> bool:
    coroutine = task.get_coro()  # or what closes a generator
    return not isinstance(coroutine, CoroutineType) or getcoroutinestate(coroutine) != CORO_CREATED


class VirtualClock:
    """The loop's time; the clock on the wall may be put forward and back."""

    def __init__(self, wall_s: float) -> None:
        self.wall_s = wall_s  # when the loop's time was ``_since``
        self._loop: VirtualLoop
        self._since = 0.0

    def start(self, loop: VirtualLoop) -> None:
        """A new life. Between two, only ``wall_s`` goes on."""
        self._loop, self._since = loop, loop.now

    def stop(self) -> None:
        self.wall_s, self._since = self.wall(), self._loop.now

    def jump(self, seconds: float) -> None:
        self.wall_s += seconds

    def monotonic(self) -> float:
        return self._loop.now

    def wall(self) -> float:
        return self.wall_s + self._loop.now - self._since

    sleep = staticmethod(asyncio.sleep)
    timeout = staticmethod(asyncio.timeout)

    def call_later(self, seconds: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        return self._loop.call_later(seconds, callback, *args)
