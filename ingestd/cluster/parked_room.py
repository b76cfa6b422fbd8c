"""What waits for a parked sink takes no room from the others: while one is parked the stream of events may be
larger, by ``spool.max_parked``.

A stream that is made smaller than what is in it loses nothing: producers have to wait until it has drained.
"""

from typing import Any

from ingestd.cluster import installation, provisioning
from ingestd.cluster.names import StreamNames
from ingestd.cluster.parked_sinks import read_parked
from ingestd.config import Settings
from ingestd.core.units import human_size
from ingestd.sources.nats.connection import NOT_FOUND, JetStreamError, NatsConnection

NO_STORAGE = 10047
"""Error code of JetStream: its disk, or what it may use of it, is smaller."""
_TRIES = 5


async def more_bytes(connection: NatsConnection, settings: Settings) -> int:
    """By how much the stream may be larger than ``spool.max_bytes``. Raises JetStreamError, BrokerAway."""
    try:
        parked = await read_parked(connection, StreamNames(settings.spool.name))
    except JetStreamError as error:
        if error.code in NOT_FOUND:
            return 0
        raise
    return settings.spool.max_parked if parked else 0


async def make_room(connection: NatsConnection, settings: Settings) -> str:
    """After a sink was parked or resumed. Gives what a person has to know: why there is no room, or empty.
    Raises UserError, JetStreamError, BrokerAway."""
    spool, names = settings.spool, StreamNames(settings.spool.name)
    for _ in range(_TRIES):  # somebody else may park or resume at this moment
        most = spool.max_bytes + await more_bytes(connection, settings)
        config: dict[str, Any] = (await connection.ask(f"STREAM.INFO.{names.events}"))["config"]
        if config["max_bytes"] == most:
            return ""
        if config["max_bytes"] not in (spool.max_bytes, spool.max_bytes + spool.max_parked):
            return f"{names.events} has a max_bytes that is not spool.max_bytes: it stays as it is"
        found = await installation.load(connection, settings)
        subjects = provisioning.subjects_of(names, found)  # not as they were read: partitions may change now
        try:
            await connection.ask(
                f"STREAM.UPDATE.{names.events}", config | {"max_bytes": most, "subjects": subjects}
            )
        except JetStreamError as error:
            if error.code == NO_STORAGE:
                return (
                    f"the NATS server has no room for {human_size(spool.max_parked)} more (spool.max_parked):"
                    " what waits for parked sinks counts against spool.max_bytes"
                )
            raise
    return ""
