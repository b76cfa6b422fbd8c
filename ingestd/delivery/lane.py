"""A lane: queue, slots, retries and circuit of one sink. The one place from which requests go out.

One loop asks ``FlowControl.next`` what to do. An attempt holds a slot while its request is out, in a task
that goes on with the next one. ``VerdictHandler.decide`` says what an answer leads to. A full queue makes
``submit`` wait.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from typing import cast

from ingestd.core.chunk import Batch, NewId, batch_ids
from ingestd.core.clock import Clock, ungrouped
from ingestd.core.errors import Held, Unreachable
from ingestd.core.verdict import Meaning
from ingestd.delivery.batch_transport import BatchTransport
from ingestd.delivery.flow_control import DRAIN_S, Done, FlowControl, Wait
from ingestd.delivery.key_order import make_order
from ingestd.delivery.lane_settings import LaneSettings
from ingestd.delivery.queues import Send
from ingestd.delivery.recorder import Recorder
from ingestd.delivery.verdict_handler import (
    Attempt,
    DropToken,
    LaneAction,
    LearnSize,
    ReportState,
    Resolve,
    Resubmit,
    VerdictHandler,
    understand,
)
from ingestd.sinks.sink import Sink, SteppedSink, Unencodable
from ingestd.transport.auth import LoginRefused


class Lane:
    """``submit`` batches, ``close`` when there are no more; ``run`` returns when all are resolved.

    Nothing is sent while ``hold_back()``; ``wake``: that has changed. ``rooms``: set when there is room."""

    def __init__(
        self,
        sink: Sink,
        transport: BatchTransport,
        recorder: Recorder,
        *,
        settings: LaneSettings,
        clock: Clock,
        rng: random.Random,
        hold_back: Callable[[], bool] | None = None,
    ) -> None:
        self._sink = sink
        self.stepped = cast("SteppedSink", sink) if getattr(sink, "steps", 1) > 1 else None
        self._transport = transport
        self._recorder = recorder
        self._settings = settings
        self._clock = clock
        self._hold_back = hold_back
        self.new_id: NewId = batch_ids(rng)
        self._order = make_order(settings, sink, self.new_id)
        self._flow = FlowControl(
            settings, self._order, withdraw=recorder.withdraw, url=sink.shown_url, now=clock.monotonic()
        )
        self._queues = self._flow.queues
        self.circuit, self.limiter = self._flow.circuit, self._flow.limiter
        self._verdicts = VerdictHandler(
            self._flow,
            keys_of=self._order.keys_of if self._order else None,
            refusal=lambda: transport.refusal,
            confirms=settings.confirms,
            rng=rng,
        )
        self._changed, self.rooms = asyncio.Event(), [asyncio.Event()]
        self._attempts: set[asyncio.Task[None]] = set()

    # --- for those who hand over work ---

    async def submit(self, batches: Sequence[Batch]) -> None:
        """Hand over batches, then wait while the lane is full. They are the lane's even if cancelled."""
        self.add(batches)
        await self.room()

    def add(self, batches: Sequence[Batch]) -> None:
        """Hand over batches, however full the lane is: the caller bounds them."""
        self._queues.add(batches)
        self._changed.set()

    async def room(self) -> None:
        """Wait while the lane is full."""
        while self._flow.full and (not self.draining or (self._flow.feeding and self.takes_more)):
            self.rooms[0].clear()
            await self.rooms[0].wait()

    async def submit_letters(self, batch: Batch) -> None:
        """Hand over dead letters: they go when nothing else wants to. Waits until they are sent."""
        (self._queues.leave if self.draining else self._queues.add_letters)(batch)
        self._changed.set()
        while self._queues.letters and not self.draining:
            self.rooms[0].clear()
            await self.rooms[0].wait()

    def resubmit(self, batch: Batch) -> None:
        """A batch of an earlier process, which goes before all new ones. Never waits."""
        self._carry_out((Resubmit(batch),))
        self._changed.set()

    def wake(self) -> None:
        """Look again whether something may be sent."""
        self._changed.set()

    def allow(self, requests_per_minute: int | None) -> None:
        """Requests a minute that the receiver allows; None: no limit."""
        self._flow.rates.allow(requests_per_minute, self._clock.monotonic())

    def close(self) -> None:
        """No more batches will be submitted."""
        self._flow.closed, self._flow.feeding = True, False
        self._make_room()

    def drain(self, within_s: float = DRAIN_S, *, feeding: bool = False) -> None:
        """The process is to end: see ``FlowControl.drain``. ``close`` still says when the last batch is in.
        Nobody waits for room any more, but with ``feeding`` while the lane ``takes_more``."""
        self._flow.drain(self._clock.monotonic(), within_s, feeding=feeding)
        self._make_room()

    def abandon(self) -> None:
        """The drain is over: ``run`` ends now, its requests unanswered; their batches are left over."""
        self._flow.abandoned = True
        for task in self._attempts:
            task.cancel()
        self._changed.set()

    def leftovers(self) -> list[Batch]:
        """After ``run``: the batches that are not resolved."""
        return self._queues.leftovers()

    @property
    def draining(self) -> bool:
        return self._flow.draining

    @property
    def full(self) -> bool:
        return self._flow.full

    @property
    def takes_more(self) -> bool:
        """Whether more batches will probably be sent in this drain."""
        return self._flow.takes_more(self._clock.monotonic(), held_back=self._held_back)

    @property
    def active(self) -> int:
        """Requests that are out."""
        return self._flow.active

    @property
    def queued(self) -> int:
        return len(self._queues.fresh) + len(self._queues.letters)

    @property
    def waiting(self) -> int:
        """Batches between two attempts."""
        return len(self._queues.waiting)

    @property
    def held(self) -> int:
        """Events that wait for earlier ones of their key."""
        return self._order.held_events if self._order else 0

    @property
    def idle(self) -> bool:
        return self._flow.idle

    @property
    def last_success(self) -> float:
        """On the monotonic clock: when the API took something; ``-inf``: it has not yet."""
        return self._flow.last_accepted

    def hold(self, on: bool) -> None:
        """While it is ``on`` nothing more is sent; what is out is waited for."""
        self._transport.hold(on)
        (self.circuit.hold if on else self.circuit.release)(self._clock.monotonic())
        self._changed.set()

    def probe_now(self) -> bool:
        """A person does not want to wait for the next probe. False: nothing waits for one."""
        self._changed.set()
        return self.circuit.probe_now(self._clock.monotonic())

    def _make_room(self) -> None:
        for event in (*self.rooms, self._changed):  # who waits looks again
            event.set()

    # --- the loop ---

    async def run(self) -> None:
        """Until closed and empty. Raises Unreachable, StoreFailed; see ``leftovers`` then."""
        with ungrouped(Exception):
            async with asyncio.TaskGroup() as attempts:
                while not isinstance(step := self._next(), Done):
                    if isinstance(step, Wait):
                        await self._wait(step.until)
                    elif self._fits(step.batch):
                        self._start(step, attempts)
        if step.error:
            raise step.error

    def _next(self) -> Send | Wait | Done:
        """What is to be done now; who waits for room looks again after it."""
        for room in self.rooms:
            room.set()
        return self._flow.next(self._clock.monotonic(), held_back=self._held_back)

    @property
    def _held_back(self) -> bool:
        return self._flow.circuit.held or (self._hold_back is not None and self._hold_back())

    async def _wait(self, until: float) -> None:
        """Until something changes or a time is reached."""
        self._changed.clear()
        in_s = until - self._clock.monotonic()  # where many are out it is mostly never
        with suppress(TimeoutError):
            async with self._clock.timeout(max(0.001, in_s)) if in_s < float("inf") else nullcontext():
                await self._changed.wait()

    def _fits(self, batch: Batch) -> bool:
        """Encode the batch before its first request. False: it cannot be sent as it is, and is dealt with."""
        try:
            self._freeze(batch)
        except Unencodable as error:
            self._carry_out(self._verdicts.not_encodable(batch, error.events))
            return False
        known = batch.attempts or batch.ambiguous  # then the API may have it under its key, as it is
        if known or len(batch.body) <= self._sink.max_bytes:
            return True
        self._carry_out(self._verdicts.too_long(batch, self._sink.max_bytes))
        return False

    def _freeze(self, batch: Batch) -> None:
        """Give the batch its bytes, once and for good."""
        if batch.shared:
            batch.freeze(*batch.shared.take(batch.events))
        elif not batch.body:
            stepped = self.stepped if batch.step else None
            events = batch.events
            batch.freeze(stepped.encode_step(events, batch.step) if stepped else self._sink.encode(events))

    def _start(self, sending: Send, attempts: asyncio.TaskGroup) -> None:
        out = [sending.batch]
        task = attempts.create_task(self._attempt_in_turn(out, self._sent(sending)))
        self._attempts.add(task)
        task.add_done_callback(partial(self._ended, out))

    async def _attempt_in_turn(self, out: list[Batch], until: float | None) -> None:
        """An attempt, then others while the API takes them and one may be made at once: a task for each event
        would cost more than its journal does. ``out``: the batch that it is out with."""
        while out:
            accepted = await self._attempt(out[0], until)
            out.clear()
            self._flow.active -= 1
            while accepted and not out and isinstance(step := self._next(), Send):
                if self._fits(step.batch):
                    out.append(step.batch)
                    until = self._sent(step)
                    if self._flow.active < self.limiter.limit:
                        self._changed.set()  # ``run`` sees to further slots, and to all else

    def _sent(self, sending: Send) -> float | None:
        """It goes out now. Gives until when it may: see ``FlowControl.sent``."""
        sending.batch.first_sent_wall = sending.batch.first_sent_wall or self._clock.wall()
        return self._flow.sent(self._clock.monotonic(), sending)

    async def _attempt(self, batch: Batch, until: float | None) -> bool:
        """Whether the API has taken it."""
        sink, clock = self._sink, self._clock
        await self._recorder.freeze(batch)
        headers, started = sink.headers(batch.id, batch.events), clock.monotonic()
        try:
            if until is not None and not self._flow.rates.may_go(started, until):
                raise Held
            answer, generation = await self._transport.send(sink.url, batch.body, headers)
        except asyncio.CancelledError:
            batch.ambiguous = True
            raise
        except Held:
            self._carry_out([Resubmit(batch)])
            return False
        except Unreachable as error:
            self._no_login(batch, error)
            return False
        verdict = understand(sink, answer, batch.events)
        if self.stepped and verdict.meaning is Meaning.ACCEPTED:
            verdict = verdict.but(goes_on=self.stepped.go_on(batch.events, batch.step))
        batch.attempts += 1
        batch.last_answer, batch.last_status = verdict.detail, answer.status
        batch.ambiguous = batch.ambiguous or verdict.ambiguous
        self._recorder.attempted(batch, answer, verdict)
        now = clock.monotonic()
        if answer.status:
            self._flow.answered(now, answer.headers, after_s=verdict.after_s, throttled=verdict.throttled)
        self._carry_out(
            self._verdicts.decide(batch, verdict, Attempt(started, answer.seconds, generation), now)
        )
        return verdict.meaning is Meaning.ACCEPTED

    def _ended(self, out: list[Batch], task: asyncio.Task[None]) -> None:
        self._attempts.discard(task)
        for batch in out:  # it was cut off, or failed
            self._flow.active -= 1
            if task.cancelled() and self._flow.cut(self._clock.monotonic()):
                self._queues.leave(batch)
        self._changed.set()

    def _no_login(self, batch: Batch, error: Unreachable) -> None:
        """No token to be had: the end of the run, unless it worked before and may work again."""
        now, why = self._clock.monotonic(), str(error)
        refused, somebody_waits = isinstance(error, LoginRefused), self._settings.stop_on_outage
        actions: list[LaneAction] = []
        if somebody_waits and (refused or not self._flow.ever_accepted):
            self._flow.error = error
        elif refused or not somebody_waits:  # then nothing at all can be sent
            actions = self._verdicts.pause(why, now)
        else:
            actions = self._verdicts.failed(batch, why, now)
        self._carry_out([*actions, Resubmit(batch, self._verdicts.delay_s(batch))])

    def _carry_out(self, actions: Iterable[LaneAction]) -> None:
        """Synchronous: an outcome is noted before its slot is free again, and ``_ended`` tells the loop."""
        now = self._clock.monotonic()
        for action in actions:
            match action:
                case Resolve(batch, outcomes):
                    for part in outcomes.parts:  # a restart must be able to tell them, by their bytes
                        self._freeze(part)
                    self._recorder.resolve(batch, outcomes)
                    self._flow.resolved(now, batch, outcomes.parts)
                case Resubmit(batch, delay_s, repeat):
                    self._flow.resubmit(now, batch, delay_s=delay_s, repeat=repeat)
                case LearnSize(max_bytes):
                    if self._order is not None:
                        self._order.learn(max_bytes - self._sink.overhead_bytes)
                    self._recorder.learned(max_bytes)
                case ReportState(state, why):
                    self._recorder.lane_changed(state, why)
                case DropToken(generation):
                    self._transport.drop_token(generation)
