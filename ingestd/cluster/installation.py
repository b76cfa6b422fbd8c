"""What all edges and workers of one spool share: made once by ``ingestd spool init``, never changed.

Two that hash keys with different secrets, split events differently or hold different events for valid would
lose copies and order without a word. So each compares before it begins, and is refused.
"""

import base64
import hashlib
import random
from collections.abc import Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import Any

import msgspec

from ingestd.cluster.names import ALL, Share, StreamNames
from ingestd.config import Settings
from ingestd.core.errors import UserError
from ingestd.sources.nats.connection import NOT_FOUND, JetStreamError, NatsConnection

FORMAT = 1
"""Of chunks, records and letters in the streams. Who reads another one is refused."""
RESIZED_FORMAT = 2
"""Of a spool whose partitions were changed: an older ingestd would split by the number of now from 0 on."""
MAX_GENERATIONS = 32
_KEY = "installation"
NO_MESSAGE = 10037
WRONG_SEQUENCE = 10071
IN_USE = 10058
DUPLICATE_WINDOW_S = 120
"""How long the server knows a chunk that an edge sends again for want of an answer."""


class Installation(msgspec.Struct, frozen=True):
    """``schema``, ``dedup_key``: what events are and which are copies; ``order_by``: what they are split by,
    empty: by what makes copies. ``older``: how many partitions there were in each generation before this one;
    they are numbered on, so a generation is a range of numbers."""

    format: int
    secret: str
    partitions: int
    schema: str
    dedup_key: list[str]
    order_by: list[str]
    older: list[int] = []

    @property
    def first(self) -> int:
        """Of the partitions that events are put into."""
        return sum(self.older)

    @property
    def numbers(self) -> range:
        """Of all partitions of all generations."""
        return range(self.first + self.partitions)

    @property
    def generations(self) -> list[range]:
        """The oldest first."""
        ends = [*accumulate([*self.older, self.partitions])]
        return [
            range(end - count, end) for end, count in zip(ends, [*self.older, self.partitions], strict=True)
        ]


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


async def create(
    connection: NatsConnection, settings: Settings, rng: random.Random, *, more_bytes: int = 0
) -> bool:
    """Make the streams and the installation. ``more_bytes``: that events may take while a sink is parked, if
    the server has so much. False: all of it was there. Raises UserError, BrokerAway."""
    there = await read_installation(connection, StreamNames(settings.spool.name))
    for config in stream_configs(settings):
        if there and config["name"] == StreamNames(settings.spool.name).events:
            config["subjects"] = subjects_of(StreamNames(settings.spool.name), there)
            if more_bytes:
                with suppress(JetStreamError):
                    await _make(connection, config | {"max_bytes": config["max_bytes"] + more_bytes})
                    continue
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
        if error.code != WRONG_SEQUENCE:
            raise UserError(f"the installation cannot be written: {error}") from None
        check(await load(connection, settings), settings)
        return False
    return True


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


async def load(connection: NatsConnection, settings: Settings) -> Installation:
    """Raises UserError where there is none, BrokerAway."""
    found = await read_installation(connection, StreamNames(settings.spool.name))
    if found is None:
        raise UserError(
            f"there is no spool {settings.spool.name} at {connection.shown}:"
            " `ingestd spool init --config FILE` makes one"
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
    if found.older:
        was = mine.partitions in found.older  # its configuration is of before
        partitions = found.partitions if was else mine.partitions
        mine = msgspec.structs.replace(mine, format=RESIZED_FORMAT, older=found.older, partitions=partitions)
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
    only_partitions = msgspec.structs.replace(mine, partitions=found.partitions) == found
    change = (
        f"with {found.partitions} in FILE `ingestd spool resize {mine.partitions} --config FILE` changes it"
        " while events come"
        if only_partitions
        else "to change it let it run empty and make another, with a new spool.name"
    )
    raise UserError(
        f"the spool {settings.spool.name} was made otherwise: {'; '.join(differences)}. All edges and workers"
        f" of a spool need the same; {change}"
    )


async def begin_generation(
    connection: NatsConnection, names: StreamNames, found: Installation, partitions: int
) -> Installation:
    """Events are put into this many new partitions from now on; all who are there hear of it. Raises
    UserError, JetStreamError, BrokerAway."""
    if len(found.older) + 1 >= MAX_GENERATIONS:
        raise UserError(f"the partitions were changed {MAX_GENERATIONS - 1} times: make a new spool")
    new = msgspec.structs.replace(
        found, format=RESIZED_FORMAT, older=[*found.older, found.partitions], partitions=partitions
    )
    stored = await connection.ask(f"STREAM.MSG.GET.{names.state}", {"last_by_subj": names.entry(_KEY)})
    if msgspec.json.decode(base64.b64decode(stored["message"]["data"]), type=Installation) != found:
        raise UserError("somebody else has changed the partitions at this moment")
    expected = {"Nats-Expected-Last-Subject-Sequence": str(stored["message"]["seq"])}
    await connection.append(names.entry(_KEY), msgspec.json.encode(new), expected)
    return new


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


def decode(data: bytes) -> Installation | None:
    """None: it is something else."""
    try:
        return msgspec.json.decode(data, type=Installation)
    except msgspec.DecodeError:
        return None


def is_resized(before: Installation, after: Installation) -> bool:
    """Whether nothing but the partitions has changed, and these by ``begin_generation``."""
    same = msgspec.structs.replace(
        after, format=before.format, older=before.older, partitions=before.partitions
    )
    begun = [*before.older, before.partitions]
    return same == before and after.format == RESIZED_FORMAT and after.older[: len(begun)] == begun


async def read_entry(connection: NatsConnection, names: StreamNames, key: str) -> bytes | None:
    """None: there is no such entry. Raises BrokerAway."""
    return await last_message(connection, names.state, names.entry(key))


async def last_message(connection: NatsConnection, stream: str, subject: str) -> bytes | None:
    """The youngest message of a subject. Raises BrokerAway."""
    try:
        found = await connection.ask(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
    except JetStreamError as error:
        if error.code in (NO_MESSAGE, *NOT_FOUND):
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
        if data := await read_entry(connection, names, f"sink.{sink}"):
            sinks[sink] = data == b"all"
    return sinks
