"""What waits for each sink of a spool: all share its room, and the one that is furthest behind fills it."""

from collections.abc import Collection, Mapping
from typing import NamedTuple

from ingestd.cluster import installation, sink_registry
from ingestd.cluster.membership import shares_of
from ingestd.cluster.names import StreamNames
from ingestd.cluster.parked_sinks import read_parked
from ingestd.sources.nats.connection import NOT_FOUND, JetStreamError, NatsConnection


class Backlogs(NamedTuple):
    """``chunks``: by sink, those that it is not done with; ``held``: all that the stream has; ``parked``:
    sinks that a person has set aside."""

    chunks: Mapping[str, int]
    held: int
    parked: Collection[str]

    @property
    def fullest(self) -> str:
        """For which sink most of it waits, in words; empty: for none."""
        sink = self._sink
        return f"{sink}, which is parked" if sink in self.parked else sink

    @property
    def words(self) -> str:
        """How much of it that is."""
        if not (sink := self._sink):
            return ""
        return f"{self.chunks[sink]} of {self.held} chunks wait for {self.fullest}"

    @property
    def _sink(self) -> str:
        sink = max(sorted(self.chunks), key=self.chunks.__getitem__, default="")
        return sink if self.chunks.get(sink) else ""


async def read_backlogs(connection: NatsConnection, names: StreamNames) -> Backlogs:
    """Asks for every share. Raises JetStreamError, BrokerAway."""
    found = await installation.read_installation(connection, names)
    sinks = await sink_registry.known_sinks(connection, names)
    chunks = dict.fromkeys(sinks, 0)
    for share in shares_of(sinks, found.numbers if found else ()):
        try:
            info = await connection.ask(f"CONSUMER.INFO.{names.events}.{share.consumer}")
        except JetStreamError as error:
            if error.code not in NOT_FOUND:
                raise
            continue
        chunks[share.sink] += int(info["num_pending"]) + int(info["num_ack_pending"])
    held = int((await connection.ask(f"STREAM.INFO.{names.events}"))["state"]["messages"])
    return Backlogs(chunks, held, (await read_parked(connection, names)).keys())
