"""Messages that wait in a stream and do not come, since their consumer holds them back."""

from collections.abc import Callable

from ingestd.core.chunk import Chunk
from ingestd.core.clock import Clock
from ingestd.sources.broker.chunks import Cutter
from ingestd.sources.broker.source import SourceCounts
from ingestd.sources.nats.connection import JetStreamError
from ingestd.sources.nats.consumer import Consumer, Lag

_HELD_S = 5.0
"""How long to wait, while nothing comes, for the rest of a chunk that an earlier process had cut."""


class HeldBack:
    """``named``: the consumer, in words."""

    def __init__(self, named: str, counts: SourceCounts, warn: Callable[[str], None], clock: Clock) -> None:
        self._named = named
        self._counts = counts
        self._warn = warn
        self._clock = clock
        self._since = 0.0
        self._problem = self._paused = ""

    def note(self, lag: Lag) -> None:
        """It was measured."""
        if lag.paused:
            self._paused = f"{self._named} is paused at the server: nothing comes until {lag.paused}"
            self._report(self._paused)
        elif self._problem == self._paused:
            self._report("")

    async def overdue(self, cutter: Cutter, consumer: Consumer, *, idle: bool) -> list[Chunk]:
        """What need not wait for more messages of the chunk that an earlier process had cut, and may have
        sent, since they are gone: the stream has no more to give. ``idle``: none came. Raises BrokerAway."""
        now = self._clock.monotonic()
        if not idle:
            self._report("")
        if not idle or not cutter.known_to:
            self._since = now
        if now - self._since <= _HELD_S:
            return []
        try:
            lag = await consumer.lag()
        except JetStreamError:
            return []
        if not lag.pending:
            is_on_its_way = not lag.all_came or consumer.has_some
            end = lag.stream.last + 1 if lag.stream else None
            return [] if is_on_its_way else list(cutter.flush(end))
        self.note(lag)
        if lag.is_full:
            self._report(
                f"{self._named} gives fewer messages at a time than the last process had on its way"
                " (max_ack_pending): its batches cannot be sent again as they were, and wait, and so does"
                " what is behind them; set it back to what it was until they are delivered"
            )
        return []

    def _report(self, problem: str) -> None:
        before, self._problem = self._problem, problem
        if problem and problem != before:
            self._warn(problem)
        if problem or self._counts.problem == before:
            self._counts.problem = problem
