"""What waits in the streams of a spool, and for which sink: counted by reading them."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ingestd.cluster.chunk_message import EVENTS
from ingestd.cluster.membership import shares_of
from ingestd.cluster.names import ALL, Share, StreamNames
from ingestd.cluster.share_log import Reached, Record, last_record
from ingestd.core.clock import SystemClock, wait_until_set
from ingestd.sources.nats.connection import NatsConnection
from ingestd.telemetry.cluster_metrics import OUTCOMES

_SILENT_S = 5.0


class ChunkHead(NamedTuple):
    """Of a chunk; ``size``: of its body."""

    sequence: int
    partition: int
    events: int
    size: int


async def read_heads(connection: NatsConnection, names: StreamNames) -> list[ChunkHead]:
    """Of all chunks. Read by a consumer of its own, which is gone then."""
    came: list[ChunkHead] = []
    news = asyncio.Event()
    last = int((await connection.ask(f"STREAM.INFO.{names.events}"))["state"]["last_seq"])
    reached = 0

    def on_message(one: Any) -> None:
        nonlocal reached
        if one.reply.startswith("$JS.ACK."):
            parts = one.reply.split(".")
            numbers = parts[5:9] if len(parts) < 11 else parts[7:11]
            sequence, pending = int(numbers[0]), int(numbers[3])
            headers = one.headers or {}
            count, size = int(headers.get(EVENTS, 1)), int(headers.get("Nats-Msg-Size", 0))
            came.append(ChunkHead(sequence, int(one.subject.rpartition(".")[2]), count, size))
            reached = last if not pending else sequence
            news.set()

    if not int((await connection.ask(f"STREAM.INFO.{names.events}"))["state"]["messages"]):
        return came
    inbox = await connection.listen(on_message)
    config = {
        "deliver_subject": inbox,
        "deliver_policy": "all",
        "ack_policy": "none",
        "headers_only": True,
        "mem_storage": True,
        "num_replicas": 1,
        "inactive_threshold": 5 * 10**9,
    }
    made = await connection.ask(
        f"CONSUMER.CREATE.{names.events}", {"stream_name": names.events, "config": config}
    )
    while reached < last:
        news.clear()
        if not await wait_until_set(news, _SILENT_S, SystemClock()):
            break
    await connection.unlisten(inbox)
    await connection.ask(f"CONSUMER.DELETE.{names.events}.{made['name']}")
    return came


class WaitingEvents(NamedTuple):
    """For one sink. ``gone``: chunks that no other sink waits for."""

    chunks: int
    events: int
    gone: int


async def count_waiting(
    connection: NatsConnection, names: StreamNames, sinks: Mapping[str, bool], partitions: Sequence[int]
) -> dict[str, WaitingEvents]:
    """By sink; ``sinks``: all that wait for events, by name whether one worker owns all ``partitions``. Reads
    the heads of all chunks. Raises JetStreamError, BrokerAway."""
    records = await read_records(connection, names, sinks, partitions)
    heads = await read_heads(connection, names)
    unsettled = {sink: set[int]() for sink in sinks}
    for share, record in records.items():
        floor = record.reached.floor if record else 0
        unsettled[share.sink] |= {
            one.sequence for one in heads if share.partition in (ALL, one.partition) and one.sequence > floor
        }
    found = {}
    for sink, mine in unsettled.items():
        others = set[int]().union(*(theirs for name, theirs in unsettled.items() if name != sink))
        events = ledger_of(sink, {share: one for share, one in records.items() if share.sink == sink}, heads)
        found[sink] = WaitingEvents(len(mine), events["in_flight"], len(mine - others))
    return found


async def read_records(
    connection: NatsConnection, names: StreamNames, sinks: Mapping[str, bool], partitions: Sequence[int]
) -> dict[Share, Record | None]:
    """The last one of each share. Raises JetStreamError, BrokerAway."""
    return {share: await last_record(connection, names, share) for share in shares_of(sinks, partitions)}


def ledger_of(
    sink: str, records: Mapping[Share, Record | None], heads: Sequence[ChunkHead]
) -> dict[str, Any]:
    """Of a sink, by names, as ``spool stat`` shows it. ``accepted`` is counted by chunks,
    ``in_flight`` by what owners wait for: that they balance with the outcomes is a statement that can be
    wrong. ``bytes_waiting``: of chunks that it is not done with."""
    ledger = dict.fromkeys(OUTCOMES, 0)
    accepted = in_flight = behind = retried = held = 0
    for share, record in records.items():
        reached = record.reached if record else Reached()
        for name in ledger:
            ledger[name] += getattr(record.counts, name) if record else 0
        retried += record.counts.retried if record else 0
        mine = [one for one in heads if share.partition in (ALL, one.partition)]
        unread = [one.events for one in mine if one.sequence > reached.read]
        held += sum(one.size for one in mine if one.sequence > reached.floor)
        accepted += reached.at_floor + reached.events + sum(unread)
        in_flight += reached.in_flight - reached.ahead + sum(unread)
        behind += len(unread)
    found = {"name": sink, "accepted": accepted, **ledger, "in_flight": in_flight}
    return found | {"retried": retried, "chunks_behind": behind, "bytes_waiting": held}
