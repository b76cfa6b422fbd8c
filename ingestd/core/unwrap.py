"""An event taken out of the envelope that something on its way had put it into.

EventBridge has it in ``detail``, SNS as text in ``Message``, Genesys notifications in ``eventBody``. OTLP has
log records below three lists: ``resourceLogs.scopeLogs.logRecords.body.stringValue``.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated

from ingestd.core import json_path
from ingestd.core.json_path import INDEX, Path
from ingestd.core.section import Section
from ingestd.core.setting_types import JsonPath, as_object, field

MAX_ADDED_BYTES = 16 * 1024 * 1024
"""To all elements of a list together: a long value of the envelope comes into each."""


class NotWrapped(ValueError):
    """There is no event where it should be; the text says so."""


class Unwrapper:
    """``path``: where the event is; a string on the way, or there, is JSON as text. ``fields``: members that
    the event gets from the envelope, name -> path, where it has none of the name."""

    def __init__(self, path: Path, fields: Mapping[str, Path]) -> None:
        import json

        self._path = path
        self._fields = [(name, json.dumps(name).encode(), where) for name, where in fields.items()]

    @property
    def name(self) -> str:
        """Of the member that holds the event, where it is one of the envelope's own and nothing is added."""
        return self._path[0] if len(self._path) == 1 and not self._fields else ""

    def __call__(self, envelope: bytes) -> bytes:
        """The event, as it stands there byte by byte. Raises NotWrapped."""
        event = self._read(envelope, self._path)
        if event is None:
            raise self._nothing()
        return _with(self._values(envelope), event) if self._fields else event

    def each(
        self, envelope: bytes, split: Callable[[bytes], Iterable[bytes]], most: int = sys.maxsize
    ) -> list[tuple[bytes, str]]:
        """(event, why it is none). Of a list at the path its elements, which ``split`` gives and may refuse.
        Of a list on the way what stands at the rest of the path in each element; one without it stays as it
        is. Of more than ``most`` not all. Raises NotWrapped where there is nothing."""
        found: list[tuple[bytes, str]] = []
        self._collect(envelope, self._path, split, most, found)
        if not self._fields:
            return found
        values = self._values(envelope)
        if len(found) * sum(len(key) + len(value) for _, key, value in values) > MAX_ADDED_BYTES:
            raise NotWrapped(f"unwrap_fields would make {len(found)} events too long together")
        return [(one if why else _with(values, one), why) for one, why in found]

    def _collect(
        self,
        value: bytes,
        path: Path,
        split: Callable[[bytes], Iterable[bytes]],
        most: int,
        found: list[tuple[bytes, str]],
    ) -> None:
        if (event := self._read(value, path)) is not None:  # nearly always
            found += [(one, "") for one in split(event)] if event[:1] == b"[" else [(event, "")]
            return
        inner: bytes | None = value
        for at, part in enumerate(path):
            if inner is None:
                raise self._nothing()
            value = _opened(inner)  # once: text in JSON in a string is no JSON
            # not at 0: a list that is itself an element of one is no envelope
            if at and value[:1] == b"[" and not INDEX.fullmatch(part):
                break
            inner = json_path.raw_at(value, (part,))
        else:
            raise self._nothing()
        for element in split(value):
            if len(found) > most:
                return
            try:
                self._collect(element, path[at:], split, most, found)
            except NotWrapped as error:
                found.append((element, str(error)))

    def _read(self, value: bytes, path: Path) -> bytes | None:
        """None where the path leads nowhere."""
        try:
            return _at(value, path)
        except (ValueError, RecursionError):
            raise NotWrapped(f"no JSON on the way to {json_path.names(self._path)}") from None

    def _nothing(self) -> NotWrapped:
        return NotWrapped(f"nothing is at {json_path.names(self._path)}, where unwrap looks for it")

    def _values(self, envelope: bytes) -> list[tuple[str, bytes, bytes]]:
        """(name, the same as JSON, value) of the members that are there."""
        try:
            found = [(name, key, json_path.raw_at(envelope, where)) for name, key, where in self._fields]
        except (ValueError, RecursionError):
            raise NotWrapped("the envelope is not JSON") from None
        return [(name, key, value) for name, key, value in found if value is not None]


def _with(values: Sequence[tuple[str, bytes, bytes]], event: bytes) -> bytes:
    """An object with the members that it lacks; else as it is."""
    if event[:1] != b"{":
        return event
    try:
        there = json_path.members(event)
    except (ValueError, RecursionError):
        return event  # the schema says what is wrong with it
    added = b",".join(b"%b:%b" % (key, value) for name, key, value in values if name not in there)
    if not added:
        return event
    return b"{%b,%b" % (added, event[1:]) if there else b"{%b}" % added


def _at(envelope: bytes, path: Path) -> bytes | None:
    """None where the path leads nowhere."""
    found: bytes | None = envelope
    for part in path:
        found = json_path.raw_at(_opened(found), (part,)) if found is not None else None
    return None if found is None else _opened(found)


def _opened(value: bytes) -> bytes:
    return json_path.text(value).encode().strip(b" \t\r\n") if value[:1] == b'"' else value


UnwrapFields = Annotated[dict[str, JsonPath], as_object(dict[str, str])]


class UnwrapSection(Section):
    """The settings of whatever receives events in envelopes."""

    unwrap: JsonPath = field(
        "",
        description="path to the event in its envelope, as detail (EventBridge), Message (SNS); empty: none",
    )
    unwrap_fields: UnwrapFields = field(
        {},
        max_length=20,
        description='fields that the event takes from its envelope if it has none: { eventId = "id" }',
    )

    @property
    def unwrapper(self) -> Unwrapper | None:
        """None: events come as they are."""
        if not self.unwrap:
            return None
        fields = {name: json_path.parse(path) for name, path in self.unwrap_fields.items()}
        return Unwrapper(json_path.parse(self.unwrap), fields)
