"""What all edges and workers of one spool share: made once by ``ingestd spool init``, never changed.

Two that hash keys with different secrets, split events differently or hold different events for valid would
lose copies and order without a word. So each compares before it begins, and is refused.
"""

import base64
import hashlib
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ingestd.cluster.names import ALL, Share, StreamNames
from ingestd.config import Settings
from ingestd.core.errors import UserError
from ingestd.sources.nats.connection import NOT_FOUND, JetStreamError, NatsConnection

FORMAT = 1
"""Of chunks, records and letters in the streams. Who reads another one is refused."""
_KEY = "installation"
_NO_MESSAGE = 10037
_WRONG_SEQUENCE = 10071
_IN_USE = 10058
DUPLICATE_WINDOW_S = 120
"""How long the server knows a chunk that an edge sends again for want of an answer."""


class Installation(msgspec.Struct, frozen=True):
    """``schema``, ``dedup_key``: what events are and which are copies; ``order_by``: what they are split by,
    empty: by what makes copies."""

    format: int
    secret: str
    partitions: int
    schema: str
    dedup_key: list[str]
    order_by: list[str]


def schema_tag(name: str) -> str:
    """A schema's name; of a file what is in it, since each machine has its own."""
    path = Path(name)
    if not path.is_file():
        return name
    return f"file:{hashlib.blake2b(path.read_bytes(), digest_size=12).hexdigest()}"


def wanted(settings: Settings, secret: str) -> Installation:
    spool, schema = settings.spool, settings.schema_
    return Installation(
        FORMAT,
        secret,
        spool.partitions,
        schema_tag(schema.name),
        _paths(schema.dedup_key),
        _paths(settings.delivery.order_by),
    )


def _paths(setting: str) -> list[str]:
    return [path.strip() for path in setting.split(",") if path.strip()]


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


async def create(connection: NatsConnection, settings: Settings, rng: random.Random) -> bool:
    """Make the streams and the installation. False: all of it was there. Raises UserError, BrokerAway."""
    for config in stream_configs(settings):
        try:
            await _make(connection, config)
        except JetStreamError as error:
            raise UserError(f"stream {config['name']} cannot be made: {error}") from None
    secret = f"{rng.getrandbits(128):032x}"
    data = msgspec.json.encode(wanted(settings, secret))
    try:
        headers = {"Nats-Expected-Last-Subject-Sequence": "0"}
        await connection.append(StreamNames(settings.spool.name).entry(_KEY), data, headers)
    except JetStreamError as error:
        if error.code != _WRONG_SEQUENCE:
            raise UserError(f"the installation cannot be written: {error}") from None
        check(await load(connection, settings), settings)
        return False
    return True


async def _make(connection: NatsConnection, config: dict[str, Any]) -> None:
    """One that is there gets what has changed: its size, its replicas."""
    try:
        await connection.ask(f"STREAM.CREATE.{config['name']}", config)
    except JetStreamError as error:
        if error.code != _IN_USE:
            raise
        await connection.ask(f"STREAM.UPDATE.{config['name']}", config)


async def keep_all_versions(connection: NatsConnection, names: StreamNames) -> None:
    """A stream of dead letters that an older ingestd made does not drop versions by itself any more: see
    ``letter_stream.change``. Raises JetStreamError, BrokerAway."""
    config = (await connection.ask(f"STREAM.INFO.{names.dead}"))["config"]
    if config.get("max_msgs_per_subject", -1) != -1:
        await connection.ask(f"STREAM.UPDATE.{names.dead}", config | {"max_msgs_per_subject": -1})


async def load(connection: NatsConnection, settings: Settings) -> Installation:
    """Raises UserError where there is none, BrokerAway."""
    found = await read_installation(connection, StreamNames(settings.spool.name))
    if found is None:
        raise UserError(
            f"there is no spool {settings.spool.name} at {connection.shown}: `ingestd spool init` makes one"
        )
    return found


async def read_installation(connection: NatsConnection, names: StreamNames) -> Installation | None:
    """None: there is none. Raises UserError for something else in its place, BrokerAway, JetStreamError."""
    data = await read_entry(connection, names, _KEY)
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=Installation)
    except msgspec.DecodeError:
        raise UserError(f"{names.entry(_KEY)} at {connection.shown} is not ours: {data[:100]!r}") from None


def check(found: Installation, settings: Settings) -> None:
    """Raises UserError that names what differs."""
    mine = wanted(settings, found.secret)
    if mine == found:
        return
    settings_of = {
        "format": "the version of ingestd",
        "partitions": "spool.partitions",
        "schema": "schema.name",
        "dedup_key": "schema.dedup_key",
        "order_by": "delivery.order_by",
    }
    differences = [
        f"{name} is {getattr(mine, field)!r} here and {getattr(found, field)!r} there"
        for field, name in settings_of.items()
        if getattr(mine, field) != getattr(found, field)
    ]
    raise UserError(
        f"the spool {settings.spool.name} was made otherwise: {'; '.join(differences)}. All edges and workers"
        " of a spool need the same; to change it let it run empty and make another, with a new spool.name"
    )


async def change_partitions(
    connection: NatsConnection, names: StreamNames, found: Installation, partitions: int
) -> None:
    """Nobody may be there. Raises JetStreamError, BrokerAway."""
    data = msgspec.json.encode(msgspec.structs.replace(found, partitions=partitions))
    await connection.append(names.entry(_KEY), data, {})


async def read_entry(connection: NatsConnection, names: StreamNames, key: str) -> bytes | None:
    """None: there is no such entry. Raises BrokerAway."""
    return await last_message(connection, names.state, names.entry(key))


async def last_message(connection: NatsConnection, stream: str, subject: str) -> bytes | None:
    """The youngest message of a subject. Raises BrokerAway."""
    try:
        found = await connection.ask(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
    except JetStreamError as error:
        if error.code in (_NO_MESSAGE, *NOT_FOUND):
            return None
        raise
    return base64.b64decode(found["message"].get("data", ""))


async def register_sinks(
    connection: NatsConnection, names: StreamNames, shares: Sequence[Share]
) -> dict[str, bool]:
    """Sinks that wait for events, those of ``shares`` among them: whether one worker owns all partitions of
    it. Raises UserError for a sink that was known otherwise, JetStreamError, BrokerAway."""
    mine = {share.sink: share.partition == ALL for share in shares}
    for sink, is_whole in mine.items():
        data = await read_entry(connection, names, f"sink.{sink}")
        if data is None:
            await connection.append(names.entry(f"sink.{sink}"), b"all" if is_whole else b"each", {})
        elif (data == b"all") != is_whole:
            raise UserError(
                f"sink {sink} has {'now' if is_whole else 'no longer'} a limit of requests_per_minute or"
                " events_per_second without shared_rate, and then a single worker owns all its partitions:"
                " give it another name, let the old one run empty, and then `ingestd spool forget` it"
            )
    return await known_sinks(connection, names) | mine


async def known_sinks(connection: NatsConnection, names: StreamNames) -> dict[str, bool]:
    """By name whether one worker owns all partitions of it. Raises JetStreamError, BrokerAway."""
    sinks: dict[str, bool] = {}
    for sink in await sink_names(connection, names):
        if data := await read_entry(connection, names, f"sink.{sink}"):
            sinks[sink] = data == b"all"
    return sinks


async def sink_names(connection: NatsConnection, names: StreamNames) -> list[str]:
    """Of all sinks that wait for events, in their order. Raises JetStreamError, BrokerAway."""
    found = await connection.ask(f"STREAM.INFO.{names.state}", {"subjects_filter": names.entry("sink.*")})
    return sorted(subject.rpartition(".")[2] for subject in found["state"].get("subjects") or ())
