"""A spool whose number of partitions was changed: which shares may be owned now.

Events of a key are in another partition since. So for each sink the partitions of one generation are drained
before those of the next are begun: a sink that is away holds up itself alone.
"""

import asyncio
from collections.abc import Mapping
from typing import Any

from ingestd.cluster import installation, provisioning
from ingestd.cluster.installation import Installation
from ingestd.cluster.membership import shares_of
from ingestd.cluster.names import ALL, Share, StreamNames
from ingestd.cluster.share_log import LoggedRecord, ShareLog, last_record
from ingestd.cluster.share_state import restore
from ingestd.cluster.shared_spool import SharedSpool
from ingestd.cluster.stream_window import StreamWindow
from ingestd.core.clock import Clock, wait_until_set
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.nats.connection import NOT_FOUND, JetStreamError, NatsConnection

_LOOK_S = 0.5
_CHANGED_S = 5.0
"""How often it is asked whether the partitions are others, in case that nobody was heard to say so."""
_FENCE_S = 3.0
"""So long edges have, to hear of the change, before the server refuses the older partitions."""
_SLACK_S = 3_600.0
"""Clocks of workers and of the server may differ by so much."""


class Generations:
    """``look``, then ``run``; ``shares``: that may be owned at this moment."""

    def __init__(
        self,
        spool: SharedSpool,
        sinks: Mapping[str, bool],
        clock: Clock,
        *,
        max_count: int,
        max_age_s: float,
    ) -> None:
        self._spool = spool
        self._sinks = sinks
        self._clock = clock
        self._window = max_count, max_age_s
        self._all = spool.installation.generations
        self._reached = dict.fromkeys((name for name, whole in sinks.items() if not whole), 0)
        self._fenced = len(self._all) == 1
        self._fence_at = clock.monotonic() + _FENCE_S

    @property
    def shares(self) -> list[Share]:
        whole = {name: True for name, is_whole in self._sinks.items() if is_whole}
        found = shares_of(whole, ())
        for sink, number in self._reached.items():
            found += shares_of({sink: False}, self._all[number])
        return sorted(found)

    @property
    def done(self) -> bool:
        return self._fenced and all(number == len(self._all) - 1 for number in self._reached.values())

    async def run(self) -> None:
        """Until every sink is at the last generation. Raises BrokerAway, JetStreamError."""
        while not self.done:
            await self._clock.sleep(_LOOK_S)
            await self.look()

    async def look(self) -> None:
        """Raises BrokerAway, JetStreamError."""
        spool = self._spool
        if not self._fenced:
            connection, names, found = spool.connection, spool.names, spool.installation
            self._fenced = await provisioning.is_fenced(connection, names, found)
            if not self._fenced and self._clock.monotonic() >= self._fence_at:
                await provisioning.fence(connection, names, found)  # who began it may have died
        if self._fenced:
            for sink, number in self._reached.items():
                reached = number
                while reached < len(self._all) - 1 and await self._is_drained(sink, self._all[reached]):
                    reached += 1
                self._reached[sink] = reached

    async def _is_drained(self, sink: str, partitions: range) -> bool:
        for number in partitions:
            if not await self._is_done(Share(sink, number)):
                return False
        return True

    async def _is_done(self, share: Share) -> bool:
        """Nothing waits, nothing is on its way, and what became of it is where it belongs."""
        spool, (max_count, max_age_s) = self._spool, self._window
        try:
            info = await spool.connection.ask(f"CONSUMER.INFO.{spool.names.events}.{share.consumer}")
        except JetStreamError as error:
            if error.code in NOT_FOUND:
                return False
            raise
        if info["num_pending"] or info["num_ack_pending"]:
            return False
        window = StreamWindow(spool.secret, max_count=max_count, max_age_s=max_age_s)
        records = await ShareLog(spool.connection, spool.names, share, self._clock).read()
        state = restore(records, window, share.sink)
        return not (state.open or state.again or state.letters or state.changes)


async def watch_partitions(spool: SharedSpool, clock: Clock) -> None:
    """Raises BrokerAway when they are changed: then all is begun again with those that are."""
    changed = asyncio.Event()

    def on_message(message: Any) -> None:
        if (found := installation.decode(message.data)) and found != spool.installation:
            changed.set()

    await spool.connection.listen(on_message, spool.names.entry("installation"))
    while not await wait_until_set(changed, _CHANGED_S, clock):
        if await installation.read_installation(spool.connection, spool.names) != spool.installation:
            break
    raise BrokerAway(f"the spool {spool.names.spool} has other partitions now")


async def learn_older(
    connection: NatsConnection,
    names: StreamNames,
    found: Installation,
    share: Share,
    window: StreamWindow,
    max_age_s: float,
    clock: Clock,
) -> float:
    """The first owners of a share know the keys of older ones: a copy may come in another partition than its
    event did. Gives the time of the youngest chunk there, 0: there is none. Raises BrokerAway."""
    if share.partition == ALL or not found.older:
        return 0.0
    records: list[LoggedRecord] = []
    before = [number for some in found.generations if share.partition not in some for number in some]
    for number in before:
        older = Share(share.sink, number)
        last = await last_record(connection, names, older) if number < share.partition else None
        if last and last.upto > clock.wall() - max_age_s - _SLACK_S:
            records += await ShareLog(connection, names, older, clock).read()
    records.sort(key=lambda one: one.record.upto)
    restore(records, window, share.sink)
    return max((one.record.upto for one in records), default=0.0)
