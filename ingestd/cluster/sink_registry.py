"""The sinks of a spool that events wait for, as its workers have registered them."""

from collections.abc import Sequence

from ingestd.cluster.direct_read import last_message
from ingestd.cluster.names import ALL, Share, StreamNames
from ingestd.core.errors import UserError
from ingestd.sources.nats.connection import NatsConnection


async def register_sinks(
    connection: NatsConnection, names: StreamNames, shares: Sequence[Share]
) -> dict[str, bool]:
    """Sinks that wait for events, those of ``shares`` among them: whether one worker owns all partitions of
    it. Raises UserError for a sink that was known otherwise, JetStreamError, BrokerAway."""
    mine = {share.sink: share.partition == ALL for share in shares}
    for sink, is_whole in mine.items():
        data = await last_message(connection, names.state, names.entry(f"sink.{sink}"))
        if not data:
            await connection.append(names.entry(f"sink.{sink}"), b"all" if is_whole else b"each", {})
        elif (data == b"all") != is_whole:
            raise UserError(
                f"sink {sink} has {'now' if is_whole else 'no longer'} a limit of requests_per_minute or"
                " events_per_second without shared_rate, and then a single worker owns all its partitions:"
                " give it another name, let the old one run empty, and then"
                f" `ingestd spool forget {sink} --config FILE`"
            )
    return await known_sinks(connection, names) | mine


async def withdraw_sink(connection: NatsConnection, names: StreamNames, sink: str) -> None:
    """No events wait for it from now on. The entry stays, empty: after a purge nats-server 2.15.1 gives an
    entry back that a second worker had replaced, when it is killed. Then nobody is ever done with the chunks
    (``findings/nats-server-replaced-message-back-after-kill.sh``). Raises JetStreamError, BrokerAway."""
    await connection.append(names.entry(f"sink.{sink}"), b"", {})


async def known_sinks(connection: NatsConnection, names: StreamNames) -> dict[str, bool]:
    """By name whether one worker owns all partitions of it. Raises JetStreamError, BrokerAway."""
    found = await connection.ask(f"STREAM.INFO.{names.state}", {"subjects_filter": names.entry("sink.*")})
    sinks: dict[str, bool] = {}
    for sink in sorted(subject.rpartition(".")[2] for subject in found["state"].get("subjects") or ()):
        if data := await last_message(connection, names.state, names.entry(f"sink.{sink}")):
            sinks[sink] = data == b"all"
    return sinks
