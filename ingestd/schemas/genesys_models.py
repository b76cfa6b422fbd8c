"""What the models of Genesys Cloud's own SDKs require: fields, types, enums, UUIDs, times.

The table, ``genesys_models.json``, is made from the public SDKs by ``make models`` and says which. It is read
when the first model is asked for. Used by the sinks, which mark what cannot be taken before it costs a
request, and by the sandbox, which refuses it. What a model does not know is taken: it may be newer.
"""

import functools
import re
from collections.abc import Mapping
from importlib import resources
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from ingestd.core.text import cut
from ingestd.schemas.grammar import is_utf8
from ingestd.schemas.rfc3339 import is_timestamp

_UUID = r"^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\Z"
_TYPES: dict[str, Any] = {
    "text": str,
    "uuid": Annotated[str, msgspec.Meta(pattern=_UUID)],
    "time": str,
    "boolean": bool,
    "integer": int,
    "number": int | float,
    "any": Any,
}
_TIME = "a time with an offset, as 2026-01-01T10:00:00Z"
_WORDS = {
    "uuid": "a V4 UUID",
    "text": "a text",
    "time": _TIME,
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
}
_PATH = re.compile(r" - at `\$\.?(.*)`$")
_MISSING = re.compile(r"Object missing required field `(.*?)`")


class Model:
    """One of the SDK's. ``fields``: by name what each may be, as the table has it."""

    def __init__(self, name: str) -> None:
        self.fields: Mapping[str, Any] = _table()["models"][name]
        self._times = [field for field, spec in self.fields.items() if spec["type"] == "time"]
        self._struct = _struct(name)
        self._decode = msgspec.json.Decoder(self._struct).decode

    def find_fault(self, body: bytes) -> str | None:
        """What is wrong with an object, as ``finalState: one of Completed, Canceled, Failed expected``."""
        if not is_utf8(body):
            return "it is not UTF-8"
        try:
            read = self._decode(body)
            return self._find_wrong_time(read)
        except msgspec.ValidationError as error:
            return self._explain(str(error))
        except (msgspec.DecodeError, RecursionError) as error:
            return f"it is not JSON: {cut(str(error))}"

    def find_fault_of(self, value: Any) -> str | None:
        """The same, of an object that is decoded already."""
        try:
            return self._find_wrong_time(msgspec.convert(value, self._struct))
        except msgspec.ValidationError as error:
            return self._explain(str(error))

    def _find_wrong_time(self, read: Any) -> str | None:
        for field in self._times:
            text = getattr(read, _attribute(field))
            if text is not None and not is_timestamp(text):
                return f"{field}: {_TIME} expected"
        return None

    def _explain(self, message: str) -> str:
        at = _PATH.search(message)
        place = at[1] if at else ""
        if missing := _MISSING.match(message):
            place = f"{place}.{missing[1]}".strip(".")
        spec = self._spec_at(place)
        if spec.get("enum"):
            wanted = f"one of {', '.join(spec['enum'])}"
        else:
            wanted = _WORDS.get(spec.get("type", "").strip("[]"), "")
        wanted = wanted or ("a list" if spec.get("type", "").startswith("[") else "an object")
        if message.startswith("Expected `array`"):
            wanted = "a list"
        return f"{place}: {wanted} expected" if place else f"{wanted} expected"

    def _spec_at(self, place: str) -> Mapping[str, Any]:
        """Of a path as ``initialConfiguration.audioState`` or ``skillIds[0]``."""
        fields, spec = self.fields, {}
        for step in place.split("."):
            spec = fields.get(step.partition("[")[0], {})
            inner = spec.get("type", "").strip("[]{}")
            fields = _table()["models"].get(inner, {})
            if spec.get("type", "").startswith("{"):
                return {"type": inner}
        return spec


@functools.cache
def model(name: str) -> Model:
    """Raises KeyError for one that is not in the table."""
    return Model(name)


class EventApi(NamedTuple):
    """One of ``POST /api/v2/events/…``. ``arrays``: of its request, with the model of their entries.
    ``subject``: the field that says whose event it is, and keeps its order."""

    path: str
    arrays: Mapping[str, str]
    subject: str


class _Request(NamedTuple):
    path: str
    model: str
    subject: str


_REQUESTS = {
    "conversations": _Request("conversations", "BatchConversationEventRequest", "conversationId"),
    "presence": _Request("users/presence", "BatchUserPresenceEventRequest", "userId"),
    "routingstatus": _Request("users/routingstatus", "BatchUserRoutingStatusEventRequest", "agentId"),
    "customkpiattributions": _Request(
        "routing/customkpiattributions", "BatchPredictiveRoutingCustomKpiAttributionEventRequest", "agentId"
    ),
}
EVENT_APIS = tuple(_REQUESTS)


@functools.cache
def event_api(name: str) -> EventApi:
    """``name``: one of EVENT_APIS."""
    path, request, subject = _REQUESTS[name]
    arrays = {field: spec["type"].strip("[]") for field, spec in model(request).fields.items()}
    return EventApi(f"/api/v2/events/{path}", arrays, subject)


def read_from() -> Mapping[str, str]:
    """The packages and versions that the table was read from, and when."""
    found: Mapping[str, str] = _table()["readFrom"]
    return found


@functools.cache
def _table() -> Mapping[str, Any]:
    text = resources.files(__package__).joinpath("genesys_models.json").read_bytes()
    table: Mapping[str, Any] = msgspec.json.decode(text)
    return table


@functools.cache
def _struct(name: str) -> type[msgspec.Struct]:
    fields: list[Any] = []
    names: dict[str, str] = {}
    for field, spec in _table()["models"][name].items():
        kind = Literal[tuple(spec["enum"])] if spec.get("enum") else _type(spec["type"])
        required = spec.get("required", False)
        if required and kind is str and field.lower().endswith("id"):
            kind = Annotated[str, msgspec.Meta(min_length=1)]
        names[_attribute(field)] = field
        fields.append((_attribute(field), kind) if required else (_attribute(field), kind | None, None))
    return msgspec.defstruct(name, fields, rename=names, kw_only=True, gc=False)


def _type(text: str) -> Any:
    if text.startswith("["):
        return list[_type(text[1:-1])]  # type: ignore[misc]
    if text.startswith("{"):
        return dict[str, _type(text[1:-1])]  # type: ignore[misc]
    return _TYPES[text] if text in _TYPES else _struct(text)


def _attribute(field: str) -> str:
    """A field's name as one of Python: some are ``from`` or ``$schema``."""
    return f"f_{field.strip('$')}"
