"""Reads messages of a subject, without a consumer."""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ingestd.cluster.stream_errors import NO_MESSAGE
from ingestd.core.clock import Clock, wait_until_set
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.nats.connection import NOT_FOUND, JetStreamError, NatsConnection

_AT_ONCE = 200
_BYTES = 8 * 1024 * 1024
_SILENT_S = 10.0

SequencedMessage = tuple[int, bytes]
"""(sequence in its stream, data)."""


class FoundMessage(NamedTuple):
    """``headers``: also those that the server adds."""

    subject: str
    sequence: int
    data: bytes
    headers: Mapping[str, str]


async def read_whole(
    connection: NatsConnection, stream: str, subject: str, clock: Clock, *, first: int = 1
) -> AsyncIterator[list[FoundMessage]]:
    """By groups, from a sequence on, to the end. ``subject`` may have wildcards. Raises BrokerAway."""
    left = 1
    while left > 0:
        asked = {"seq": first, "next_by_subj": subject, "batch": _AT_ONCE, "max_bytes": _BYTES}
        found, left = await _get(connection, stream, asked, clock)
        if not found:
            return
        yield found
        first = found[-1].sequence + 1


async def read_messages(
    connection: NatsConnection, stream: str, subject: str, clock: Clock, *, first: int = 1
) -> AsyncIterator[list[SequencedMessage]]:
    """The same, without subjects and headers. Raises BrokerAway."""
    async for found in read_whole(connection, stream, subject, clock, first=first):
        yield [(one.sequence, one.data) for one in found]


async def read_last(
    connection: NatsConnection, stream: str, subjects: Sequence[str], clock: Clock
) -> dict[str, SequencedMessage]:
    """By subject the youngest message; those that have none are left out. Raises BrokerAway."""
    last: dict[str, SequencedMessage] = {}
    for at in range(0, len(subjects), _AT_ONCE):
        some = [*subjects[at : at + _AT_ONCE]]
        asked: dict[str, Any] = {"multi_last": some, "batch": len(some)}
        found, _ = await _get(connection, stream, asked, clock)
        last |= {one.subject: (one.sequence, one.data) for one in found}
    return last


async def _get(
    connection: NatsConnection, stream: str, asked: Mapping[str, Any], clock: Clock
) -> tuple[list[FoundMessage], int]:
    """And how many are left."""
    messages: list[FoundMessage] = []
    ended, left = asyncio.Event(), 0

    def on_message(one: Any) -> None:
        nonlocal left
        headers = _plain(one.headers or {})
        if headers.get("Status"):
            left = int(headers.get("Nats-Num-Pending", 0))
            ended.set()
        else:
            sequence = int(headers["Nats-Sequence"])
            messages.append(FoundMessage(headers["Nats-Subject"], sequence, one.data, headers))

    inbox = await connection.listen(on_message)
    try:
        where = f"{connection.api_prefix}.DIRECT.GET.{stream}"
        await connection.publish(where, msgspec.json.encode(asked), inbox)
        if not await wait_until_set(ended, _SILENT_S, clock):
            raise BrokerAway(f"{stream}: the server does not give its messages")
    finally:
        await connection.unlisten(inbox)
    return messages, left


def _plain(headers: Mapping[Any, str]) -> dict[str, str]:
    return {str(getattr(name, "value", name)): value for name, value in headers.items()}


async def last_message(connection: NatsConnection, stream: str, subject: str) -> bytes | None:
    """The youngest message of a subject. Raises BrokerAway."""
    try:
        found = await connection.ask(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
    except JetStreamError as error:
        if error.code in (NO_MESSAGE, *NOT_FOUND):
            return None
        raise
    return base64.b64decode(found["message"].get("data", ""))
