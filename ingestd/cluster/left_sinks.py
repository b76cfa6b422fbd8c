"""Sinks that were taken out of the configuration: their events are kept until a person forgets them."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from ingestd.cluster.shared_spool import SharedSpool
from ingestd.cluster.sink_registry import known_sinks
from ingestd.cluster.stock import count_waiting
from ingestd.core.clock import Clock, until_turn
from ingestd.sources.nats.connection import JetStreamError

_LOOK_S = 2.5
"""A worker that is started again is back by the second look."""


class LeftSinks:
    """Warns of each sink once. ``workers``: by name the sinks that each of those who are there sends to, this
    one (``name``) among them."""

    def __init__(
        self,
        name: str,
        workers: Callable[[], Mapping[str, Sequence[str]]],
        *,
        clock: Clock,
        warn: Callable[[str], None],
        look_s: float = _LOOK_S,
    ) -> None:
        self._name = name
        self._workers = workers
        self._clock = clock
        self._warn = warn
        self._look_s = look_s
        self._reported: set[str] = set()

    async def run(self, spool: SharedSpool) -> None:
        """Until it is cancelled. Raises BrokerAway."""
        before: set[str] = set()
        while True:
            await self._clock.sleep(until_turn(self._look_s, self._clock.monotonic()))
            left = self._left(spool)
            if news := (left & before) - self._reported:
                with suppress(JetStreamError):  # no leader at this moment
                    await self._report(spool, news)
            before = left

    def _left(self, spool: SharedSpool) -> set[str]:
        """Those that nobody sends to; of several workers one looks."""
        workers = self._workers()
        if self._name != min(workers):
            return set()
        return spool.sinks.keys() - {sink for sinks in workers.values() for sink in sinks}

    async def _report(self, spool: SharedSpool, news: set[str]) -> None:
        sinks = await known_sinks(spool.connection, spool.names)
        if not news & sinks.keys():
            return  # they were forgotten meanwhile
        found = await count_waiting(spool.connection, spool.names, sinks, spool.installation.numbers)
        for sink in sorted(news & sinks.keys()):
            self._reported.add(sink)
            self._warn(
                f"{found[sink].events:,} events wait for {sink}, and what comes waits for it, too, though no"
                f" worker sends to it: put it back, or `ingestd spool forget {sink} --config FILE` drops them"
            )
