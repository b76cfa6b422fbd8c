"""What all edges and workers of one spool share: made once by ``ingestd spool init``, never changed.

Two that hash keys with different secrets, split events differently or hold different events for valid would
lose copies and order without a word. So each compares before it begins, and is refused.
"""

import base64
import hashlib
from itertools import accumulate
from pathlib import Path

import msgspec

from ingestd.cluster.direct_read import last_message
from ingestd.cluster.names import StreamNames
from ingestd.cluster.stream_errors import WRONG_SEQUENCE
from ingestd.config import Settings
from ingestd.core.errors import UserError
from ingestd.sources.nats.connection import JetStreamError, NatsConnection

FORMAT = 1
"""Of chunks, records and letters in the streams. Who reads another one is refused."""
RESIZED_FORMAT = 2
"""Of a spool whose partitions were changed: an older ingestd would split by the number of now from 0 on."""
MAX_GENERATIONS = 32
_KEY = "installation"


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


async def store(connection: NatsConnection, names: StreamNames, made: Installation) -> bool:
    """False: there is one. Raises UserError, BrokerAway."""
    try:
        headers = {"Nats-Expected-Last-Subject-Sequence": "0"}
        await connection.append(names.entry(_KEY), msgspec.json.encode(made), headers)
    except JetStreamError as error:
        if error.code != WRONG_SEQUENCE:
            raise UserError(f"the installation cannot be written: {error}") from None
        return False
    return True


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
    data = await last_message(connection, names.state, names.entry(_KEY))
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
