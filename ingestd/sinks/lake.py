"""Where an event goes in a data lake: its folder, from its time and type. Used by ``ingestd/lake/``.

Folders are named as Hive does, ``date=2026-11-21/hour=09/type=order.created``: DuckDB, Spark, Athena and
pyarrow read them as columns. What is made of the events is in ``lake/file_format.py``.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from ingestd.core.answer import Answer
from ingestd.core.errors import UserError
from ingestd.core.regex import regex
from ingestd.core.setting_types import EventPath, Matching, Seconds, SecretFile, SecretUrl, Size, Url, field
from ingestd.schemas.key_paths import KeyPaths
from ingestd.sinks import answers
from ingestd.sinks.settings import TYPE, AwsConfig, SinkConfigBase

MAX_FOLDERS = 256
"""In one load. Types come from events: they must not make folders without end."""
MAX_VALUE = 100
"""Characters of a value in a folder's name."""

_REMEMBERED = 4096

PARTS = ("date", "hour", "type")
UNKNOWN, OTHER = "unknown", "other"

_UNSAFE = regex(r"[^A-Za-z0-9._-]")
_PLAIN = regex(r"[A-Za-z_][A-Za-z0-9_-]*")
_text = msgspec.json.Decoder(str).decode


@dataclass(frozen=True, slots=True)
class LakeLayout:
    """The shape of a lake's files; kept with the rows of a load, see ``encode`` and ``decode``.

    ``partition``: of PARTS, in any order; none: one folder. ``time``, ``event_type``: paths in the event;
    empty: the usual names. Raises UserError.
    """

    format: Literal["ndjson", "parquet"] = "ndjson"
    partition: str = "date/hour/type"
    time: str = ""
    event_type: str = ""

    def __post_init__(self) -> None:
        parts = self.parts
        if not set(parts) <= set(PARTS) or len(set(parts)) < len(parts):
            raise UserError(f"partition {self.partition!r}: expected some of {'/'.join(PARTS)}, each once")
        for path in filter(None, (self.time, self.event_type)):
            if len(KeyPaths.parse(path).paths) != 1:
                raise UserError(f"{path!r}: expected one path")

    @property
    def parts(self) -> tuple[str, ...]:
        return tuple(filter(None, self.partition.split("/")))

    def encode(self) -> bytes:
        return msgspec.json.encode(self)

    @classmethod
    def decode(cls, data: bytes) -> "LakeLayout":
        return msgspec.json.decode(data, type=cls)


class EventFolder(NamedTuple):
    """What an event's folder follows from; ``time`` is in UTC. None: it has none that can be read."""

    time: datetime | None
    type: str | None


class Partitioner:
    """Sorts events into folders, by their layout. Deterministic."""

    def __init__(self, layout: LakeLayout) -> None:
        self._parts = layout.parts
        self._folders: dict[tuple[object, ...], str] = {}
        self._fields = _fields_of(
            (layout.time,) if layout.time else ("time", "eventTime"),
            (layout.event_type,) if layout.event_type else ("type", "eventType"),
        )

    def place(self, event: bytes) -> EventFolder:
        """Never raises, for any event."""
        time, event_type = self._fields(event)
        return EventFolder(_moment(time), event_type)

    def folder(self, place: EventFolder) -> str:
        """As ``date=2026-11-21/hour=09/type=order.created``; empty without a partition."""
        time, event_type = place
        key = (time.toordinal(), time.hour, event_type) if time else (event_type,)
        folder = self._folders.get(key)
        if folder is None:
            folder = "/".join([f"{part}={_VALUES[part](place)}" for part in self._parts])
            if len(self._folders) < _REMEMBERED and len(event_type or "") <= MAX_VALUE:
                self._folders[key] = folder
        return folder

    @property
    def overflow(self) -> str:
        """Where the events go that would open more than MAX_FOLDERS."""
        return "/".join([f"{part}={OTHER}" for part in self._parts])


def safe(value: str) -> str:
    """A value as a part of a folder's name: ``[A-Za-z0-9._-]``, no leading dot, at most MAX_VALUE long."""
    text = _UNSAFE.sub("_", value[:MAX_VALUE])
    return "_" * (len(text) - len(text.lstrip("."))) + text.lstrip(".") or UNKNOWN


_VALUES: dict[str, Callable[[EventFolder], str]] = {
    "date": lambda place: place.time.date().isoformat() if place.time else UNKNOWN,
    "hour": lambda place: f"{place.time.hour:02}" if place.time else UNKNOWN,
    "type": lambda place: safe(place.type) if place.type else UNKNOWN,
}


def _moment(text: str | None) -> datetime | None:
    """ISO 8601 in UTC; without an offset it is taken for UTC."""
    if not text or len(text) > 40:
        return None
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is UTC:
            return moment
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _fields_of(
    times: Sequence[str], types: Sequence[str]
) -> Callable[[bytes], tuple[str | None, str | None]]:
    """(time, type) of an event, by the first of the paths that it has."""
    keys = [KeyPaths.parse(path) for path in (*times, *types)]
    walks = [key.of for key in keys]

    def walk(event: bytes) -> tuple[str | None, str | None]:
        values = [_of_key(of(event)) for of in walks]
        return _first(values[: len(times)]), _first(values[len(times) :])

    paths = [key.paths[0] for key in keys]
    if not all(len(path) == 1 and _PLAIN.fullmatch(path[0]) for path in paths):
        return walk
    names = {f"f{index}": path[0] for index, path in enumerate(paths)}
    fields: list[tuple[str, Any, Any]] = [(name, str | None, None) for name in names]
    decode = msgspec.json.Decoder(msgspec.defstruct("Fields", fields, rename=names, gc=False)).decode
    count = len(times)
    as_tuple = msgspec.structs.astuple

    def pick(event: bytes) -> tuple[str | None, str | None]:
        try:
            values = as_tuple(decode(event))
        except (ValueError, RecursionError):
            return walk(event)  # one of them is a number, or it is not JSON
        return _first(values[:count]), _first(values[count:])

    return pick


def _of_key(key: str | None) -> str | None:
    """A key's text as a value: what is no string begins with U+0001, see ``schemas/key_paths.py``.
    Numbers and truth values will do; an object or a list is neither a time nor a type."""
    return None if key is None or key.startswith(("\1={", "\1=[")) else key.removeprefix("\1=")


def _first(values: Iterable[str | None]) -> str | None:
    for value in values:
        if value:
            return value
    return None


def is_written(answer: Answer) -> bool:
    """Whether the file is in the lake. 412: it was already, under a name that only the same rows have
    (the answer to ``If-None-Match: *``, RFC 9110 13.1.2)."""
    return 200 <= answer.status < 300 or answer.status == 412


def is_configuration(answer: Answer) -> bool:
    """Whether trying again soon is of no use: access, names, settings. A conflict (409), a timeout and the
    speed limits of S3 are not."""
    return 300 <= answer.status < 500 and answer.status not in (408, 409, 425, 429)


def words(answer: Answer) -> str:
    """The answer in one line, without secrets."""
    return answers.words(answer)


FileMode = Annotated[str, Matching(r"^0?[67][0-7]{2}$")]
"""The owner must be able to read the files."""


class LakeConfig(AwsConfig, SinkConfigBase):
    """Files in a folder or on S3 (``pip install ingestd[lake]``)."""

    type: Literal["lake"] = field(description=TYPE)
    of: str = field("accepted", description="accepted, or the name of a sink: what that has delivered")
    format: Literal["ndjson", "parquet"] = field("ndjson", description="ndjson is compressed by zstd")
    partition: str = field("date/hour/type", description="folders: date, hour, type, in any order")
    time: EventPath = field("", description="path of an event's time; empty: time or eventTime")
    event_type: EventPath = field("", description="path of an event's type; empty: type or eventType")
    file_bytes: Size = field(64 * 1024**2, ge=1024, description="bytes of events at which a file is written")
    file_age: Seconds = field(300.0, gt=0, description="how long events wait for their file to fill")
    max_backlog: Size = field(
        1024**3, ge=1024**2, description="most bytes that wait while the lake cannot be written"
    )
    file_mode: FileMode = field(
        "0600", description="permissions of files, in octal; folders also get x where there is r"
    )
    callback_url: SecretUrl = field("", description="gets the manifest of each file (POST)")
    callback_secret_file: SecretFile = field(
        "", description="signs the callback (Standard Webhooks): a file with one secret on each line"
    )
    endpoint_url: Url = field("", description="S3 server, if it is not AWS")

    def check(self, place: str) -> None:
        if not self.url:
            raise ValueError(f"{place} has no destination: set url to file:///folder or s3://bucket/prefix")
