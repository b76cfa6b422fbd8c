"""Whether the stream of events is still the one that a share's log speaks of."""

from typing import NamedTuple

from ingestd.cluster.names import StreamNames
from ingestd.cluster.share_state import ShareState
from ingestd.cluster.stream_errors import NO_MESSAGE
from ingestd.sources.nats.connection import JetStreamError, NatsConnection
from ingestd.sources.nats.stream_state import nanoseconds

_CLOSE_S = 0.001
"""Times are kept in floats: two that differ by less are the same."""


class FoundStream(NamedTuple):
    """``created``: when; ``problem``: why it is not the one, in words, or empty; ``first``: then the first
    chunk of the share that was not read."""

    created: str
    problem: str = ""
    first: int = 1


async def look_at_stream(
    connection: NatsConnection, names: StreamNames, partition: int, state: ShareState
) -> FoundStream:
    """A stream that lost its end gives numbers that a share has read to other chunks. Those are younger than
    all that was read. What stands at such a number may be of another partition, or deleted already: only the
    share's own chunks tell. Raises BrokerAway, JetStreamError."""
    info = await connection.ask(f"STREAM.INFO.{names.events}")
    created, last = str(info["created"]), int(info["state"]["last_seq"])
    if state.stream and state.stream != created:
        return FoundStream(created, f"the stream {names.events} was made again")
    reached = max(state.reached.floor, state.reached.read)
    if not reached or not state.stream:
        return FoundStream(created)
    subject = names.partition(partition)
    first = await _first_after(connection, names, subject, state.upto + _CLOSE_S, last)
    if first > reached:
        return FoundStream(created)
    return FoundStream(created, f"the stream {names.events} lost its end", first)


async def _first_after(
    connection: NatsConnection, names: StreamNames, subject: str, at: float, last: int
) -> int:
    """The first chunk of these that was stored after that time; the next to come where there is none."""
    low, high, found = 1, last + 1, last + 1
    step = 1
    while low < high:
        # mostly it is near the end, or all is younger
        middle = max(low, high - step) if found == last + 1 else (low + high) // 2
        step *= 4
        one = await _next(connection, names, subject, middle)
        if one is None:
            high = middle
        elif one[1] > at:
            high, found = middle, one[0]
        else:
            low = one[0] + 1
    return found


async def _next(
    connection: NatsConnection, names: StreamNames, subject: str, sequence: int
) -> tuple[int, float] | None:
    """The first chunk of these from a sequence on, and when it was stored."""
    body = {"seq": sequence, "next_by_subj": subject}
    try:
        message = (await connection.ask(f"STREAM.MSG.GET.{names.events}", body))["message"]
    except JetStreamError as error:
        if error.code != NO_MESSAGE:
            raise
        return None
    return int(message["seq"]), nanoseconds(message["time"]) / 1e9
