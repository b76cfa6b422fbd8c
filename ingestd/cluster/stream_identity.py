"""Whether the stream of events is still the one that a share's log speaks of."""

from typing import NamedTuple

from ingestd.cluster.names import StreamNames
from ingestd.cluster.share_state import ShareState
from ingestd.sources.nats.connection import JetStreamError, NatsConnection
from ingestd.sources.nats.consumer import nanoseconds

_CLOSE_S = 0.001
"""Times are kept in floats: two that differ by less are the same."""


class FoundStream(NamedTuple):
    """``created``: when; ``trouble``: why it is not the one, in words, or empty; ``first``: then the first
    chunk that was not read."""

    created: str
    trouble: str = ""
    first: int = 1


async def look_at_stream(connection: NatsConnection, names: StreamNames, state: ShareState) -> FoundStream:
    """Raises BrokerAway, JetStreamError."""
    info = await connection.ask(f"STREAM.INFO.{names.events}")
    created, last = str(info["created"]), int(info["state"]["last_seq"])
    if state.stream and state.stream != created:
        return FoundStream(created, f"the stream {names.events} was made again")
    reached = max(state.reached.floor, state.reached.read)
    if not reached or not state.stream:
        return FoundStream(created)
    at = await _stored_at(connection, names, reached)
    if last >= reached and (at is None or at <= state.upto + _CLOSE_S):
        return FoundStream(created)
    first = await _first_after(connection, names, state.upto, last)
    return FoundStream(created, f"the stream {names.events} lost its end", first)


async def _stored_at(connection: NatsConnection, names: StreamNames, sequence: int) -> float | None:
    """None: there is no such chunk, or not any more."""
    try:
        found = await connection.ask(f"STREAM.MSG.GET.{names.events}", {"seq": sequence})
    except JetStreamError:
        return None
    return nanoseconds(found["message"]["time"]) / 1e9


async def _first_after(connection: NatsConnection, names: StreamNames, at: float, last: int) -> int:
    """The first chunk that was stored after that time, looked for from behind: it is not far."""
    first = last + 1
    while first > 1:
        stored = await _stored_at(connection, names, first - 1)
        if stored is None or stored <= at + _CLOSE_S:
            break
        first -= 1
    return first
