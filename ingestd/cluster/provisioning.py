"""The streams of a spool: made, brought up to date, and fenced against edges of older partitions."""

import random
from contextlib import suppress
from typing import Any

from ingestd.cluster.installation import Installation, check, load, read_installation, store, wanted
from ingestd.cluster.names import ALL, StreamNames
from ingestd.cluster.stream_errors import IN_USE
from ingestd.config import Settings
from ingestd.core.errors import UserError
from ingestd.sources.nats.connection import JetStreamError, NatsConnection

DUPLICATE_WINDOW_S = 120
"""How long the server knows a chunk that an edge sends again for want of an answer."""


def stream_configs(settings: Settings) -> list[dict[str, Any]]:
    """Of all streams, as JetStream's API has it."""
    spool = settings.spool
    names = StreamNames(spool.name)
    usual = {"retention": "limits", "storage": "file", "num_replicas": spool.replicas, "allow_direct": True}
    prefix = f"ingestd.{spool.name}"
    return [
        {
            "name": names.events,
            "description": "events that edges have accepted, until every sink has them",
            "subjects": [names.partition(ALL)],
            "discard": "new",
            "max_bytes": spool.max_bytes,
            "duplicate_window": DUPLICATE_WINDOW_S * 10**9,
            **usual,
        },
        {
            "name": names.frozen,
            "description": "frozen batches and what became of them, by sink and partition",
            "subjects": [f"{prefix}.f.*.*"],
            "discard": "new",
            **usual,
        },
        {
            "name": names.dead,
            "description": "dead letters: sink, reason, id",
            "subjects": [f"{prefix}.d.*.*.*"],
            "discard": "new",
            **usual,
        },
        {
            "name": names.state,
            "description": "what all edges and workers have in common",
            "subjects": [names.entry(">")],
            "discard": "new",
            "max_msgs_per_subject": 1,
            "allow_rollup_hdrs": True,
            "deny_delete": True,
            **usual,
        },
    ]


async def create(
    connection: NatsConnection, settings: Settings, rng: random.Random, *, more_bytes: int = 0
) -> bool:
    """Make the streams and the installation. ``more_bytes``: that events may take while a sink is parked, if
    the server has so much. False: all of it was there. Raises UserError, BrokerAway."""
    names = StreamNames(settings.spool.name)
    there = await read_installation(connection, names)
    for config in stream_configs(settings):
        if there and config["name"] == names.events:
            config["subjects"] = subjects_of(names, there)
            if more_bytes:
                with suppress(JetStreamError):
                    await _make(connection, config | {"max_bytes": config["max_bytes"] + more_bytes})
                    continue
        try:
            await _make(connection, config)
        except JetStreamError as error:
            raise UserError(f"stream {config['name']} cannot be made: {error}") from None
    secret = f"{rng.getrandbits(128):032x}"
    if await store(connection, names, wanted(settings, secret)):
        return True
    check(await load(connection, settings), settings)
    return False


async def _make(connection: NatsConnection, config: dict[str, Any]) -> None:
    """One that is there gets what has changed: its size, its replicas."""
    try:
        await connection.ask(f"STREAM.CREATE.{config['name']}", config)
    except JetStreamError as error:
        if error.code != IN_USE:
            raise
        await connection.ask(f"STREAM.UPDATE.{config['name']}", config)


async def keep_all_versions(connection: NatsConnection, names: StreamNames) -> None:
    """A stream of dead letters that an older ingestd made does not drop versions by itself any more: see
    ``letter_stream.change``. Raises JetStreamError, BrokerAway."""
    config = (await connection.ask(f"STREAM.INFO.{names.dead}"))["config"]
    if config.get("max_msgs_per_subject", -1) != -1:
        await connection.ask(f"STREAM.UPDATE.{names.dead}", config | {"max_msgs_per_subject": -1})


def subjects_of(names: StreamNames, found: Installation) -> list[str]:
    """Of the stream of events: nobody may write into partitions of older generations any more."""
    if not found.older:
        return [names.partition(ALL)]
    return [names.partition(number) for number in found.generations[-1]]


async def is_fenced(connection: NatsConnection, names: StreamNames, found: Installation) -> bool:
    """Raises JetStreamError, BrokerAway."""
    config = (await connection.ask(f"STREAM.INFO.{names.events}"))["config"]
    return sorted(config["subjects"]) == sorted(subjects_of(names, found))


async def fence(connection: NatsConnection, names: StreamNames, found: Installation) -> None:
    """The server refuses what an edge puts into an older partition, however long it stood still. Raises
    JetStreamError, BrokerAway."""
    config = (await connection.ask(f"STREAM.INFO.{names.events}"))["config"]
    config["subjects"] = subjects_of(names, found)
    await connection.ask(f"STREAM.UPDATE.{names.events}", config)
