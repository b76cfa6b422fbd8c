"""A lane: the queue, slots, retries and circuit of one sink. The one place from which requests go out.

One dispatcher decides (``_pick``, synchronous); each attempt is a task that holds a slot only while
its request is out. Waiting for the next attempt holds none. Batches that wait to be retried go before
new ones, dead letters last; each queue is bounded, and a full one makes ``submit`` wait.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from functools import partial

from ingestd.core.batch import Batch
from ingestd.core.clock import Clock
from ingestd.core.errors import Unreachable
from ingestd.delivery import attempt
from ingestd.delivery.attempt import BatchTransport
from ingestd.delivery.batch_splitting import KeysOf
from ingestd.delivery.circuit_breaker import BreakerState
from ingestd.delivery.drain import WITHIN_S, Drain
from ingestd.delivery.flow_control import FlowControl
from ingestd.delivery.key_order import make_order
from ingestd.delivery.lane_settings import LaneSettings
from ingestd.delivery.outage_deadline import OutageDeadline, is_exhausted, nothing_taken
from ingestd.delivery.poison_detector import PoisonDetector
from ingestd.delivery.queues import Queues
from ingestd.delivery.recorder import Recorder
from ingestd.delivery.verdict_handler import VerdictHandler
from ingestd.sinks.sink import Sink
from ingestd.transport.oauth import LoginRefused

_LOOK_AGAIN_S = 1.0  # how often the outage deadline is checked while nothing happens


class Lane:
    """``submit`` batches, ``close`` when there are no more; ``run`` returns when all have had their end.

    While ``hold_back()`` nothing is sent; ``wake`` says that this has changed.
    """

    def __init__(
        self,
        sink: Sink,
        transport: BatchTransport,
        book: Recorder,
        *,
        settings: LaneSettings,
        clock: Clock,
        hold_back: Callable[[], bool] = lambda: False,
    ) -> None:
        self.settings = settings
        self.gate = FlowControl(settings, clock.monotonic())
        self.limiter, self.circuit = self.gate.limiter, self.gate.circuit
        self.active = 0
        self._hold_back = hold_back
        self._sink = sink
        self.transport = transport
        self._book = book
        self._clock = clock
        self._random = random.Random()
        self._by_key = make_order(settings, sink)
        self._queues = Queues(self._by_key, book.withdraw)
        self._changed, self._room = asyncio.Event(), asyncio.Event()
        self._closed = self._abandoned = False
        self._attempts: set[asyncio.Task[None]] = set()
        self._fatal: Unreachable | None = None
        self._blame = PoisonDetector(patient=not settings.stop_on_outage)
        self._drain = Drain()
        self._patience = OutageDeadline(settings, clock.monotonic())
        self._outcomes = VerdictHandler(self, book)

    # --- for those who hand over work ---

    async def submit(self, batches: Sequence[Batch]) -> None:
        """Hand over batches, then wait while the lane is full. They are the lane's even if cancelled."""
        self.add(batches)
        await self.room()

    def add(self, batches: Sequence[Batch]) -> None:  # however full the lane is: who does that bounds them
        self._queues.add(batches)
        self._changed.set()

    async def room(self) -> None:
        """Wait while the lane is full."""
        while self._full and (not self.draining or (self._drain.feeding and self.takes_more)):
            self._room.clear()
            await self._room.wait()

    async def submit_letters(self, batch: Batch) -> None:
        """Hand over dead letters: they go when nothing else wants to. Waits until they are sent."""
        hand_over = self._queues.leave if self.draining else self._queues.add_letters
        hand_over(batch)
        self._changed.set()
        while self._queues.letters and not self.draining:
            self._room.clear()
            await self._room.wait()

    def resubmit(self, batch: Batch, *, delay_s: float = 0.0, repeat: bool = False) -> None:
        """A batch that goes before all new ones, after ``delay_s``; never waits. ``repeat``: the API could
        not take these events before; of such there are few, see ``retry_budget.py``."""
        now = self.now()
        if self.draining and not self._drain.tries_again(batch, now, delay_s=delay_s):
            self._queues.leave(batch)
        else:
            self._queues.wait(batch, now + delay_s, repeat=repeat)
        self._changed.set()

    def wake(self) -> None:  # look again whether something may be sent
        self._changed.set()

    def close(self) -> None:
        """No more batches will be submitted."""
        self._closed, self._drain.feeding = True, False
        self._room.set()
        self._changed.set()

    def drain(self, within_s: float = WITHIN_S, *, feeding: bool = False) -> None:
        """The process is to end: send all that is here, now. What fails is tried again as ``drain.py`` says,
        then left over; an outage ends it. ``close`` still says when the last batch is in. Nobody waits for
        room any more, but with ``feeding`` while the lane ``takes_more``."""
        self._drain.begin(self.now(), within_s, feeding=feeding)
        self._queues.hurry()
        self._room.set()
        self._changed.set()

    def abandon(self) -> None:
        """The time to drain is over: ``run`` ends now. Requests that are out end unanswered; their batches
        are left over, and in the journal."""
        self._abandoned = True
        for task in self._attempts:
            task.cancel()
        self._changed.set()

    def leftovers(self) -> list[Batch]:  # after ``run``: the batches that had no end
        return self._queues.leftovers()

    @property
    def draining(self) -> bool:
        return self._drain.begun

    @property
    def takes_more(self) -> bool:
        """Whether more batches would be sent in this drain, as far as can be told."""
        most_left = 1 if self._by_key else self.settings.max_waiting  # of a key that is left all is held
        return not (self._abandoned or self._drain.left >= most_left or self._is_hopeless())

    @property
    def queued(self) -> int:
        return self._queues.fresh + self._queues.letters

    @property
    def idle(self) -> bool:  # nothing to send, and nothing out
        return not self.active and not self._queues

    @property
    def waiting(self) -> int:  # batches between two attempts
        return self._queues.waiting

    @property
    def held(self) -> int:  # events that wait for earlier ones of their key
        return self._by_key.held_events if self._by_key else 0

    @property
    def _full(self) -> bool:
        queued = self._queues.fresh > self.settings.max_queued
        held = self._by_key is not None and self._by_key.full
        return queued or held or self._queues.waiting >= self.settings.max_waiting

    # --- the dispatcher ---

    async def run(self) -> None:
        """Until closed and empty. Raises Unreachable, StoreFailed; see ``leftovers`` then."""
        self._patience.progressed(self.now())
        try:
            async with asyncio.TaskGroup() as attempts:
                while not self._is_done():
                    batch = self._pick(self.now())
                    if batch is None:
                        if not self._is_done():  # the last new batches may just have been held
                            await self._wait()
                    elif misfit := attempt.find_misfit(batch, self._sink):
                        self._outcomes.misfit(batch, misfit)
                    else:
                        self._count(batch)
                        task = attempts.create_task(
                            self._attempt(batch), name=f"{self._sink.name} attempt {batch.id}"
                        )
                        self._attempts.add(task)
                        task.add_done_callback(partial(self._ended, batch))
        except* Exception as group:
            raise attempt.first_cause(group) from None
        if self._fatal:
            raise self._fatal

    def _pick(self, now: float) -> Batch | None:
        """The batch to send now, if any: due retries, then new batches, then dead letters."""
        self._check_patience(now)
        if self._fatal or self._is_busy() or not self.gate.may_send(now, active=self.active):
            return None
        repeats = not self._queues.next_repeats or self.gate.repeats_from(now) <= now
        batch = self._queues.take(now, probing=self.gate.is_probing, repeats=repeats)
        # new batches may all have been held, and letters withdrawn
        if batch is not None or self._by_key is not None or self._queues.withdrew:
            self._room.set()
        return batch

    def _is_busy(self) -> bool:  # whoever ends that wakes us
        return self.active >= self.limiter.limit or self._hold_back()

    def _count(self, batch: Batch) -> None:
        """A request goes out."""
        self.active += 1
        repeat = self._queues.took_repeat
        self.gate.sent(self.now(), events=len(batch), new=not batch.tries, repeat=repeat)
        if batch.first_sent is None:
            batch.first_sent = self.budget_clock()
            batch.first_sent_wall = batch.first_sent_wall or self._clock.wall()

    def _is_done(self) -> bool:
        if self.active:
            return False
        closed = self._closed and (not self._queues or self._is_hopeless())
        return closed or self._abandoned or self._fatal is not None

    def _is_hopeless(self) -> bool:
        return self._drain.is_hopeless(self.now(), self.gate, self._queues, held_back=self._hold_back())

    async def _wait(self) -> None:
        """Until something changes or a time is reached."""
        idle = not self._queues and not self.active
        self._changed.clear()
        now = self.now()
        try:
            async with asyncio.timeout(max(0.001, self._look_again_at(now) - now)):
                await self._changed.wait()
        except TimeoutError:
            pass
        if self.draining:
            self._room.set()  # who waits for it asks whether there will be any
        if idle:
            self._patience.progressed(self.now())

    def _look_again_at(self, now: float) -> float:
        latest = now + _LOOK_AGAIN_S
        if self._is_busy():
            return latest
        queues = self._queues
        return min(latest, self.gate.next_at(now, queues.next_due, repeat=queues.next_repeats))

    async def _attempt(self, batch: Batch) -> None:
        try:
            verdict, answer, started, generation = await attempt.send(
                batch, sink=self._sink, transport=self.transport, book=self._book, clock=self._clock
            )
        except Unreachable as error:
            self._no_login(batch, error)
            return
        self._patience.ever_answered |= answer.status > 0
        self.gate.answered(self.now(), answer.headers, after_s=verdict.after_s)
        self._outcomes.act(batch, verdict, started=started, seconds=answer.seconds, generation=generation)

    def _ended(self, batch: Batch, task: asyncio.Task[None]) -> None:
        self._attempts.discard(task)
        self.active -= 1
        if self._abandoned and task.cancelled():
            self._queues.leave(batch)
        self._changed.set()

    def _no_login(self, batch: Batch, error: Unreachable) -> None:
        """No token to be had: the end of the run, unless it worked before and may work again."""
        refused = isinstance(error, LoginRefused)
        if self.settings.stop_on_outage and (refused or not self._patience.ever_taken):
            self._fatal = error
        elif refused or not self.settings.stop_on_outage:  # then nothing at all can be sent
            self.pause(str(error))
        else:
            self.failed(batch, str(error))
        self.resubmit(batch, delay_s=self.delay(batch))

    def _check_patience(self, now: float) -> None:
        if not self.settings.stop_on_outage or self.active or not self._queues:
            return
        paused = self.circuit.state is BreakerState.PAUSED
        waited_s = self._patience.exceeded_s(now, held_back=self.gate.is_away(now), paused=paused)
        if waited_s is not None:
            first = self._queues.first_waiting
            why = self.circuit.why or (first.last_answer if first else "") or "no answer"
            self._fatal = nothing_taken(self._sink.shown_url, waited_s, why)

    # --- for VerdictHandler ---

    @property
    def keys_of(self) -> KeysOf | None:  # what must stay together when a batch is cut
        return self._by_key.keys_of if self._by_key else None

    def settled(self, batch: Batch, parts: Sequence[Batch]) -> None:
        """The events of ``batch`` had their end, but for those that go on in ``parts``."""
        self._patience.progressed(self.now())
        self._queues.settled(batch, parts)

    def taken(self) -> None:
        """The API took something."""
        self._patience.ever_taken = True
        self._blame.taken(self.now())

    def learned(self, max_bytes: int) -> None:
        """The API takes no body longer than this."""
        if self._by_key is not None:
            self._by_key.learn(max_bytes - self._sink.overhead_bytes)
        self._book.learned(max_bytes)

    def now(self) -> float:
        return self._clock.monotonic()

    def freeze(self, batch: Batch) -> None:
        """Give the batch its bytes, once and for good."""
        if not batch.body:
            batch.freeze(self._sink.encode(batch.events))

    def budget_clock(self) -> float:
        """Seconds that do not pass during an outage."""
        now = self.now()
        return now - self.circuit.outage_s(now)

    def exhausted(self, batch: Batch) -> bool:
        """Tried too often or for too long. Never during an outage, nor while the process ends."""
        if self.circuit.state is not BreakerState.CLOSED or self.draining:
            return False
        return is_exhausted(batch, self.settings, self.budget_clock())

    def delay(self, batch: Batch, after_s: float | None = None) -> float:
        backoff = self._drain.backoff(self.settings.backoff)
        return backoff.delay(batch.tries, at_least_s=after_s, rng=self._random)

    def answered(self) -> None:
        self._blame.answered()
        if self.circuit.succeeded(self.now()):
            self._book.lane_changed(BreakerState.CLOSED, "the API answers again")

    def failed(self, batch: Batch, why: str, *, at_least_s: float = 0.0) -> None:
        """An attempt came to nothing; the circuit hears of it unless it is the batch's own fault."""
        now, jitter = self.now(), self._random.random()
        if self.circuit.state is BreakerState.CLOSED and self._blame.is_the_batchs(batch, now):
            return
        if self.circuit.failed(now, why, jitter=jitter, at_least_s=at_least_s):
            self._book.lane_changed(BreakerState.OPEN, why)

    def pause(self, why: str) -> None:
        if self.circuit.pause(self.now(), why, jitter=self._random.random()):
            self._book.lane_changed(BreakerState.PAUSED, why)
