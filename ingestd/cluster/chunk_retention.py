"""Which chunks of a share's partitions are kept: those that a sink is not done with."""

from collections.abc import Sequence

from ingestd.cluster.names import ALL, Share
from ingestd.cluster.share_consumer import floors
from ingestd.cluster.share_log import durable_floor
from ingestd.cluster.shared_spool import SharedSpool
from ingestd.cluster.sink_registry import known_sinks
from ingestd.core.clock import Clock


class ChunkRetention:
    """``is_due``: chunks may have been settled, or a sink forgotten, since ``purge`` looked."""

    def __init__(self, share: Share, spool: SharedSpool, clock: Clock) -> None:
        self.is_due = True  # the owner before may have ended in between
        self._share = share
        self._spool = spool
        self._clock = clock
        self._sinks = spool.sinks

    async def purge(self) -> bool:
        """Delete chunks that every sink is done with. False: sinks came or went meanwhile, and nothing is
        deleted before the next look. Raises BrokerAway, JetStreamError.

        Whether a sink has come is asked behind the floors: what was accepted since it came is kept for it.
        """
        self.is_due = False
        spool = self._spool
        done = {number: await self._floor(number) for number in self._partitions()}
        if (sinks := await known_sinks(spool.connection, spool.names)) != self._sinks:
            self._sinks, self.is_due = sinks, True
            return False
        for number, floor in done.items():
            if floor:
                body = {"filter": spool.names.partition(number), "seq": floor + 1}
                await spool.connection.ask(f"STREAM.PURGE.{spool.names.events}", body)
        return True

    def _partitions(self) -> Sequence[int]:
        installation = self._spool.installation
        if self._share.partition == ALL:
            return installation.numbers
        if self._share.partition == installation.first:  # what the last owners of older ones left
            return range(self._share.partition + 1)
        return (self._share.partition,)

    async def _floor(self, partition: int) -> int:
        """The chunk up to which every sink is done with the partition. The logs are asked, too: where a chunk
        on its way is deleted, the server takes all before it for settled."""
        spool = self._spool
        shares = [Share(name, ALL if whole else partition) for name, whole in self._sinks.items()]
        given = await floors(spool.connection, spool.names, [one.consumer for one in shares]) or 0
        settled = await durable_floor(spool.connection, spool.names, shares, self._clock) if given else 0
        return min(given, settled)
