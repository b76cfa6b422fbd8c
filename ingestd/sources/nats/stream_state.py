"""What a stream of JetStream is, and what is in it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.nats.connection import NOT_FOUND, JetStreamError, NatsConnection
from ingestd.sources.nats.settings import NatsConfig


class StreamState(NamedTuple):
    """``created``: it has the same name and is another one if that differs. ``first``, ``last``: sequences of
    messages; of an empty one ``first`` is the next. ``subjects``: that it takes; ``is_fed``: its messages may
    have others. ``is_part``: a mirror of some messages of a stream, with the sequences of there."""

    created: str
    retention: str
    first: int
    last: int
    messages: int
    subjects: tuple[str, ...] = ()
    is_fed: bool = False
    is_part: bool = False


async def read_stream(connection: NatsConnection, settings: NatsConfig) -> StreamState:
    """Raises BrokerAway, also where there is none of this name."""
    try:
        info = await connection.ask(f"STREAM.INFO.{settings.stream}")
    except JetStreamError as error:
        raise BrokerAway(
            f"there is no stream {settings.stream} at {connection.shown}"
            if error.code in NOT_FOUND
            else f"stream {settings.stream}: {error}"
        ) from None
    return stream_of(info)


def stream_of(info: Mapping[str, Any]) -> StreamState:
    """``info``: what JetStream answers of a stream."""
    state, config = info["state"], info["config"]
    mirror = config.get("mirror") or {}
    return StreamState(
        str(info["created"]),
        str(config["retention"]),
        int(state["first_seq"]),
        int(state["last_seq"]),
        int(state["messages"]),
        tuple(config.get("subjects") or ()),
        is_fed=bool(mirror or config.get("sources") or config.get("subject_transform")),
        is_part=bool(mirror.get("filter_subject") or mirror.get("subject_transforms")),
    )


async def timestamp_of(connection: NatsConnection, settings: NatsConfig, sequence: int) -> int:
    """When a message was stored, in nanoseconds; 0: it is not in the stream any more."""
    try:
        found = await connection.ask(f"STREAM.MSG.GET.{settings.stream}", {"seq": sequence})
    except JetStreamError:
        return 0
    return nanoseconds(found["message"]["time"])


def nanoseconds(text: str) -> int:
    """Of a time as JetStream writes it: 2026-11-28T19:57:44.136112131Z."""
    whole, _, fraction = text.removesuffix("Z").partition(".")
    return int(datetime.fromisoformat(whole + "+00:00").timestamp()) * 10**9 + int(
        fraction.ljust(9, "0") or 0
    )
