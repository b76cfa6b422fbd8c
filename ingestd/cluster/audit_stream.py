"""What persons did to a spool by commands, where no supervisor has an audit file for it: lines like those of
the file, in a stream of their own.

It is made with the first of them, and holds so many; the oldest go. Nothing chains them: who may write to the
server may forge them.
"""

from collections.abc import Sequence

from ingestd.cluster.direct_read import read_messages
from ingestd.cluster.names import StreamNames
from ingestd.cluster.stream_errors import IN_USE
from ingestd.core.clock import Clock
from ingestd.sources.nats.connection import NOT_FOUND, JetStreamError, NatsConnection

_MAX_LINES = 100_000
_MAX_BYTES = 64 * 1024 * 1024


async def store(
    connection: NatsConnection, names: StreamNames, lines: Sequence[bytes], *, replicas: int
) -> None:
    """Raises JetStreamError, BrokerAway."""
    config = {
        "name": names.audit,
        "description": "who did what to the spool by commands",
        "subjects": [names.audit_line],
        "retention": "limits",
        "storage": "file",
        "num_replicas": replicas,
        "allow_direct": True,
        "discard": "old",
        "max_msgs": _MAX_LINES,
        "max_bytes": _MAX_BYTES,
    }
    try:
        await connection.ask(f"STREAM.CREATE.{names.audit}", config)
    except JetStreamError as error:
        if error.code != IN_USE:  # it is there, and somebody gave it other limits
            raise
    for line in lines:
        await connection.append(names.audit_line, line, {})


async def read(connection: NatsConnection, names: StreamNames, clock: Clock) -> list[bytes]:
    """All of them, oldest first. Raises JetStreamError, BrokerAway."""
    try:
        await connection.ask(f"STREAM.INFO.{names.audit}")
    except JetStreamError as error:
        if error.code in NOT_FOUND:
            return []
        raise
    found: list[bytes] = []
    async for messages in read_messages(connection, names.audit, names.audit_line, clock):
        found += [data for _, data in messages]
    return found
