"""One life of ``ingestd run``: from opening its stores to its end, by a signal, a crash or a cut of power."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from signal import Signals
from typing import Any

from ingestd.app.open_service import open_service
from ingestd.app.outside import Outside
from ingestd.app.replay import open_replay
from ingestd.app.replay import run as run_replay
from ingestd.app.run import run
from ingestd.app.service_parts import Service
from ingestd.config import Settings
from ingestd.core.bounds import Bounds
from ingestd.core.errors import Unreachable, UserError
from ingestd.simulation.disk import SimulatedHost
from ingestd.simulation.invariants import check_invariants, what_is_left
from ingestd.simulation.loop import Crash, VirtualLoop
from ingestd.simulation.network import Network
from ingestd.simulation.people import People
from ingestd.simulation.plan import Deed, LifePlan
from ingestd.simulation.surroundings import PlayedServer, QuietWatchdog, SignalQueue, no_admin
from ingestd.simulation.world import SimulatedWorld
from ingestd.sources.http.endpoint import Endpoint
from ingestd.wiring.pipeline import Pipeline

_LAST_WRITE_S = 30.0
"""For a write to come that the life ends with."""
_SOON_S, _SETTLE_S, _ASKED_S = 60.0, 1800.0, 5400.0
"""Once everything works again, all accepted events are resolved within this time. An API may be asked later
about one, after a clock that was ahead was put right: see ``confirmations.MAX_DUE_AHEAD_S``."""


@dataclass(slots=True)
class Life:
    """``last``: everything is well, and it ends when all is delivered."""

    world: SimulatedWorld
    plan: LifePlan
    last: bool = False
    signals: SignalQueue = field(init=False)
    loop: VirtualLoop = field(init=False)
    network: Network = field(init=False)
    people: People = field(init=False)
    service: Service | None = None
    pipeline: Pipeline | None = None
    over: bool = False  # what is left of it only lets go
    may_fail: bool = False  # its disk was full or locked: it may end with an error
    lockers: list[sqlite3.Connection] = field(default_factory=list)
    hosts: list[SimulatedHost] = field(default_factory=list)

    def live(self) -> None:
        """Raises Violation."""
        world = self.world
        world.trace.note(f"{world.disk.log_bytes} bytes are in the log")
        self.loop = loop = VirtualLoop(
            world.rng,
            starts_at=world.rng.random() * 1e5,
            thread_s=self.plan.disk_s,
            on_jump=self._look,
            on_kill=self._crash,
        )
        loop.set_exception_handler(self._failed)
        world.clock.start(loop)
        for receiver in world.receivers.values():
            receiver.parked_at = None
        self.network = Network(world.receivers, world.clock, world.rng)
        self.people = People(world)
        asyncio.set_event_loop(loop)
        main = loop.create_task(self._main())
        try:
            loop.run_until_complete(main)
            world.disk.end_life(power_cut=False)
        except Crash:
            pass  # the disk was left as it was in that moment
        except RuntimeError:
            world.trace.judge()  # then the loop was stopped for it
            raise
        finally:
            world.clock.stop()
            self._tear_down(main)
        world.trace.judge()

    def _tear_down(self, main: "asyncio.Task[None]") -> None:
        """Files and connections are closed; what is done meanwhile has no effect."""
        loop, self.over = self.loop, True
        loop.set_exception_handler(lambda loop, context: None)
        for locker in self.lockers:
            locker.close()
        loop.unwind(self.hosts)
        if main.done() and not main.cancelled():
            main.exception()
        asyncio.set_event_loop(None)
        loop.close()
        self.world.producers.disconnect()

    def _open_host(self) -> SimulatedHost:
        self.hosts.append(SimulatedHost(self.loop, self.world.disk, self._disk_delay))
        return self.hosts[-1]

    async def _main(self) -> None:
        world, plan = self.world, self.plan
        self.signals = SignalQueue()
        settings = world.settings(plan)
        outside = Outside(
            clock=world.clock,
            rng=world.rng,
            engine=self.network,
            file_system=world.disk.lake,
            store_host=self._open_host,
            signals=self._open_signals,
            serve=self._serve,
            serve_admin=no_admin,
            watchdog=QuietWatchdog(lambda what: None),
            bounds=Bounds(
                chunk_bytes=world.plan.chunk_bytes,
                spool_memory_bytes=plan.memory_bytes,
                outage_look_s=60.0,
                maintenance_s=5.0,
                look_at_states_s=60.0,
                measure_s=15.0,
                look_at_backlog_s=20.0 if self.last else 4.0,
                count_letters_s=600.0,
            ),
        )
        if world.disk.full:  # since the life before
            self.may_fail = True
            self.loop.call_later(1.0, self._free_disk)
        try:
            await (self._replay if plan.lines else self._serve_producers)(settings, outside)
        except UserError as error:
            self._ended(error)

    async def _serve_producers(self, settings: Settings, outside: Outside) -> None:
        self._arrange()
        if self.last:
            self.loop.create_task(self._until_settled())
        async with open_service(lambda: settings, outside) as service:
            self.service, self.pipeline = service, service.pipeline
            await run(service)
        self._ended(service.error)

    async def _replay(self, settings: Settings, outside: Outside) -> None:
        world = self.world
        world.write_lines(self.plan.lines)
        if not self.last:
            self._arrange()
        async with open_replay(
            settings,
            None,
            [str(world.file)],
            warn=lambda message: None,
            outside=outside,
            bounds=outside.bounds,
        ) as replay:
            self.pipeline = replay.pipeline
            await run_replay(replay, warn=lambda message: None)
        self._ended(replay.error)
        if replay.damage and not self.over:
            world.trace.breach(f"the file is said to be damaged: {replay.damage}")
        if not (replay.error or replay.interrupted or self.over):
            world.replayed()

    def _ended(self, error: UserError | None) -> None:
        words = str(error or "as asked").replace(str(self.world.disk.directory), "…")
        self.world.trace.note(f"the process ends: {words}")
        gave_up = isinstance(error, Unreachable) and self.plan.lines and not self.last
        left_out = self.plan.without and "is no longer configured" in words
        if error and not (self.may_fail or gave_up or left_out or self.over):
            self.world.trace.breach(f"it ended with an error: {error}")

    def _disk_delay(self) -> float:
        return self.plan.disk_s * self.world.rng.random()

    def _arrange(self) -> None:
        """What happens when; the signal or the crash at last."""
        loop, plan = self.loop, self.plan
        self._note_parked()
        for deed in plan.deeds:
            loop.call_later(deed.at_s, self._do, deed)
        if not self.last:
            loop.call_later(plan.end_s, self._end)

    def _end(self) -> None:
        loop, disk, end = self.loop, self.world.disk, self.plan.end
        if self.over:
            return
        if end == "term":
            self.signals.send(Signals.SIGTERM)
            return
        if "write" in end:
            disk.crash_after(self.plan.steps, self._crash)
            loop.call_later(_LAST_WRITE_S, self._crash)
        else:
            loop.kill_after(self.plan.steps)

    def _crash(self) -> None:
        if self.over or self.loop.dead:
            return
        power_cut = "power" in self.plan.end
        self.world.trace.note("power cut" if power_cut else "kill -9")
        self.loop.dead = True
        self.network.process_ended()
        self.world.producers.disconnect()
        self.world.disk.end_life(power_cut=power_cut)

    async def _until_settled(self) -> None:
        """Everything that was acknowledged is delivered."""
        world, clock = self.world, self.world.clock
        started = asked = clock.monotonic()
        while left := what_is_left(self.service, world):
            await clock.sleep(1.0 if clock.monotonic() < started + _SOON_S else 10.0)
            if left == "questions":
                asked = clock.monotonic()  # what follows from the last answer has its own time
            if clock.monotonic() > (started + _ASKED_S if left == "questions" else asked + _SETTLE_S):
                world.trace.breach(f"what was accepted is not delivered in time: {left}")
                break
        self.signals.send(Signals.SIGTERM)

    # --- what stands around the process ---

    @contextmanager
    def _open_signals(self, *numbers: Signals) -> Iterator[SignalQueue]:
        yield self.signals

    @asynccontextmanager
    async def _serve(self, endpoint: Endpoint, *rest: Any, **options: Any) -> AsyncIterator[PlayedServer]:
        producers = self.world.producers
        if not self.over:  # of one that was still starting when it was killed, nothing is heard
            producers.connect(endpoint, self.world.clock.call_later)
        try:
            yield PlayedServer(lambda: None)
        finally:
            if not self.loop.dead:
                producers.disconnect()

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if not self.loop.dead:
            error = context.get("exception")
            self.world.trace.breach(f"nobody took care of it: {context['message']}: {error!r}")

    # --- what happens meanwhile ---

    def _do(self, deed: Deed) -> None:
        world, (_, what, of) = self.world, deed
        if self.over:
            return
        world.trace.note(f"{what} {' '.join(map(str, of))}")
        deeds: dict[str, Callable[..., object]] = {
            "post": world.producers.post,
            "copy": lambda chance: world.producers.copy(),
            "invalid": world.producers.post_invalid,
            "mood": self._change_mood,
            "full": self._fill_disk,
            "locked": self._lock,
            "hup": lambda chance: self.signals.send(Signals.SIGHUP) if self.service else None,
            "jump": world.clock.jump,
        }
        if what in deeds:
            deeds[what](*of)
        elif not (world.disk.full or self.lockers):
            getattr(self.people, what)(*of)
            self._note_parked()

    def _change_mood(self, name: str, mood: str, slow_s: float) -> None:
        if receiver := self.world.receivers.get(name):
            receiver.mood, receiver.slow_s = mood, slow_s

    def _fill_disk(self, seconds: float) -> None:
        self.may_fail = self.world.disk.full = True
        self._note_parked()
        self.loop.call_later(seconds, self._free_disk)

    def _note_parked(self) -> None:
        """Since when they are to get nothing; what waits for a disk in trouble may go out much later."""
        for name, receiver in self.world.receivers.items():
            is_parked = name in self.world.parked and not (self.may_fail or self.plan.lines)
            since = self.world.clock.monotonic() if receiver.parked_at is None else receiver.parked_at
            receiver.parked_at = since if is_parked else None

    def _free_disk(self) -> None:
        if not self.over:
            self.world.disk.full = False

    def _lock(self, seconds: float) -> None:
        """Another program has the database for a while."""
        path = self.world.disk.directory / "state.db"
        if not path.exists() or self.lockers:
            return
        locker = sqlite3.connect(path, isolation_level=None)
        try:
            locker.execute("BEGIN IMMEDIATE")
        except sqlite3.Error:
            locker.close()
            return
        self.may_fail = True
        self._note_parked()
        self.lockers.append(locker)
        self.loop.call_later(seconds, self._unlock)

    def _unlock(self) -> None:
        while self.lockers:
            locker = self.lockers.pop()
            with suppress(sqlite3.Error):
                locker.execute("ROLLBACK")
            locker.close()

    # --- at every step ---

    def _look(self) -> None:
        """Nothing is ready: time will advance."""
        trace = self.world.trace
        trace.now = self.loop.now
        pipeline = self.pipeline
        if pipeline is None or self.over:
            return
        check_invariants(pipeline, trace)
        if trace.broken:
            self.loop.stop()
