"""The inbound event APIs of Genesys Cloud: ``POST /api/v2/events/…`` with typed arrays of entries.

Without a mapping an event is an entry as it is sent: ``{"<array>": {entry}}`` for conversations, the plain
entry for the others. ``genesys_mapping`` makes entries of interaction events. Source: models
``Batch*EventRequest`` and ``BatchEventResponse`` of the SDK, in ``schemas/genesys_models``.
"""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec

from ingestd.core.address import show_url
from ingestd.core.answer import Answer
from ingestd.core.errors import UserError
from ingestd.core.setting_types import field
from ingestd.core.text import cut
from ingestd.core.verdict import Meaning, Verdict
from ingestd.schemas.genesys_models import EventApi, event_api, model
from ingestd.schemas.grammar import is_utf8
from ingestd.sinks.answer_body import Found, NamedErrors, has_name, read_json, refusal_in, safe_text
from ingestd.sinks.answers import DEFAULT, AnswerReader
from ingestd.sinks.genesys_mapping import MAX_ENTRIES, GenesysEntry, InteractionMapping
from ingestd.sinks.settings import TYPE, EmptyRequest, HttpSinkConfig, SinkBasis
from ingestd.sinks.sink import Sink, Unencodable, system_wall

MAX_BODY_BYTES = 512_000
MAX_REQUEST_ENTRIES = 100
""""A maximum of 100 events are allowed per request"."""
_NAMED = re.compile(rb'[ \t\r\n]*\{[ \t\r\n]*"([A-Za-z]{1,80})"[ \t\r\n]*:')
_BLANKS = b" \t\r\n"
_CONTEXT_ID = re.compile(r"[A-Za-z0-9-]{8,64}", re.ASCII)
_ARRAY_FRAME_BYTES = len('"":[]')
_TEXTS = ("text", "uuid", "time")
_NO_ERRORS = "it has no list of errors, as the answer of Genesys Cloud has"


_PERMISSIONS = {
    "conversations": "conversation:conversation:inject",
    "presence": "presence:userPresence:inject",
    "routingstatus": "routing:routingstatus:inject",
    "customkpiattributions": "routing:customKpiAttribution:inject",
}
"""By API; source: the SDK, as docs/sinks/genesys.md says."""
_APIS = tuple(_PERMISSIONS)


class GenesysEventsSink:
    """An entry's error in the answer is its event's. Raises UserError for settings that make no sense.

    ``api``: base URL. ``family``: which of the APIs. ``mapping``: none or interaction. ``strict``: what their
    models refuse does not fit. ``max_events`` above what the API allows counts as that: 100.
    """

    kind = "genesys_events"
    one_per_key = True
    """The API keeps a state for each conversation, and does not say in which order it takes its arrays:
    a request holds at most one entry of each. An event of several entries has a step for each of them."""
    separator_bytes = 1

    def __init__(
        self,
        *,
        name: str,
        api: str,
        family: str = "conversations",
        mapping: str = "none",
        source_id: str = "",
        namespace: str = "",
        strict: bool = False,
        max_events: int = MAX_REQUEST_ENTRIES,
        max_bytes: int = MAX_BODY_BYTES,
        reading: AnswerReader = DEFAULT,
        wall: Callable[[], float] | None = None,
    ) -> None:
        if family not in _APIS:
            raise UserError(f"sinks.{name}: expected one of {', '.join(_APIS)} as its api")
        self._api = event_api(family)
        self._array = "" if len(self._api.arrays) > 1 else next(iter(self._api.arrays))
        self._strict = strict
        self._mapping = _make_mapping(name, family, mapping, source_id, namespace)
        self.name = name
        self.url = api.rstrip("/") + self._api.path
        self.shown_url = show_url(self.url)
        self.steps = MAX_ENTRIES if self._mapping else 1
        self.max_events = min(max_events, MAX_REQUEST_ENTRIES)
        self.max_bytes = max_bytes
        self.overhead_bytes = len("{}") + (len(self._array) + _ARRAY_FRAME_BYTES if self._array else 0)
        has_source = self._array and "sourceId" in model(self._api.arrays[self._array]).fields
        self._source = msgspec.json.encode(source_id) if source_id and has_source else b""
        kept = frozenset({"sourceId"} if self._source else ())
        self._decode = msgspec.json.Decoder(_entry_type(self._api, optional=kept)).decode
        self._reading = reading
        self._wall = wall or system_wall()

    def order_key(self, event: bytes) -> str | None:
        """What events keep their order by: the conversation's, or the user's id. None if there is none.

        Where an event stands under its array's name, no path of a setting could find it.
        """
        try:
            if self._mapping:
                return self._mapping.conversation_id(event)
            _, body = self._split(event)
            return getattr(self._decode(body), self._api.subject) or None
        except (ValueError, RecursionError):
            return None

    def sizes(self, events: Sequence[bytes]) -> list[int]:
        """An upper bound: of an event's longest entry, as if it were alone in its array."""
        made, unfit = self._entries(events)
        return [0 if index in unfit else max(map(self._size, entries)) for index, entries in enumerate(made)]

    def encode(self, events: Sequence[bytes]) -> bytes:
        """``{"<array>":[…],…}``, the arrays in the order in which the events first need them."""
        return self.encode_step(events, 0)

    def encode_step(self, events: Sequence[bytes], step: int) -> bytes:
        made, unfit = self._entries(events)
        if unfit:
            raise Unencodable(unfit)
        arrays: dict[str, list[bytes]] = {}
        for entries in made:
            entry = entries[step]
            arrays.setdefault(entry.array, []).append(entry.body)
        framed = (b'"%b":[%b]' % (array.encode(), b",".join(bodies)) for array, bodies in arrays.items())
        return b"{%b}" % b",".join(framed)

    def go_on(self, events: Sequence[bytes], step: int) -> tuple[int, ...]:
        made, _ = self._entries(events)
        return tuple(index for index, entries in enumerate(made) if len(entries) > step + 1)

    def headers(self, batch_id: str, events: Sequence[bytes]) -> dict[str, str]:
        return {"Content-Type": "application/json", "X-Request-Id": batch_id}

    def interpret(self, answer: Answer, events: Sequence[bytes]) -> Verdict:
        """``errors[{eventId, message, retryable}]`` of a ``BatchEventResponse``, by the entries' eventIds."""
        if self._reading.paths:
            return name_context(self._reading.read(answer, events, now_wall=self._wall()), answer)
        found, strange = Found(), ""
        meaning = self._reading.meaning_of(answer.status)
        if len(answer.body) > 2 and meaning in (Meaning.ACCEPTED, Meaning.REJECTED):
            found, strange = self._errors(answer.body, events, accepted=meaning is Meaning.ACCEPTED)
        if answer.truncated and meaning is Meaning.ACCEPTED:
            found = found._replace(unmatched=found.unmatched + 1)  # in what was cut off
        now_wall = self._wall()
        verdict = self._reading.judge(answer, found, now_wall=now_wall, count=len(events), strange=strange)
        return name_context(verdict, answer)

    def _errors(self, body: bytes, events: Sequence[bytes], *, accepted: bool) -> tuple[Found, str]:
        """The errors, and why it is no ``BatchEventResponse`` although it may be JSON."""
        try:
            content = read_json(body)
        except (ValueError, RecursionError):
            # it may have named events
            return Found(unmatched=int(accepted and body.lstrip()[:1] == b"{")), ""
        content = content if isinstance(content, dict) else {}
        errors = content.get("errors")
        if not isinstance(errors, list) or not errors:
            other = content if "errors" not in content else errors or refusal_in(body)
            return Found(), _NO_ERRORS if other and accepted else ""
        ids = functools.cache(lambda: self._ids(events))
        # if none was taken, one by one will tell whom a shared id meant
        found = NamedErrors(shared_ids=accepted)
        for error in errors:
            fields = error if isinstance(error, dict) else {}
            event_id = fields.get("eventId")
            if event_id is None and not accepted:
                continue  # of a request refused as a whole, ``errors`` are ErrorBodies: they name no event
            indices = ids().get(event_id.lower(), []) if isinstance(event_id, str) else []
            retryable = fields.get("retryable") is True
            found.add(indices, _words(fields), retryable=retryable, names=has_name(event_id))
        return found.result, ""

    def _ids(self, events: Sequence[bytes]) -> dict[str, list[int]]:
        """eventId of each entry -> the events that have it."""
        by_id: dict[str, list[int]] = {}
        for index, entries in enumerate(self._entries(events)[0]):
            for event_id in dict.fromkeys(entry.event_id.lower() for entry in entries):
                by_id.setdefault(event_id, []).append(index)
        return by_id

    def _entries(self, events: Sequence[bytes]) -> tuple[list[list[GenesysEntry]], dict[int, str]]:
        """The entries of each event, and of those that do not fit what is wrong with them."""
        made: list[list[GenesysEntry]] = []
        unfit: dict[int, str] = {}
        for index, event in enumerate(events):
            try:
                entries = self._mapping.entries(event) if self._mapping else [self._entry(event)]
                self._check(entries)
                made.append(entries)
            except RecursionError:
                unfit[index] = "it is nested too deeply"
                made.append([])
            except ValueError as error:
                unfit[index] = cut(str(error))
                made.append([])
        return made, unfit

    def _entry(self, event: bytes) -> GenesysEntry:
        array, body = self._split(event)
        entry: Any = self._decode(body)
        for name in entry.__struct_fields__:
            if getattr(entry, name) == "":
                raise ValueError(f"{name} is empty")
        if not is_utf8(body):
            raise ValueError("it is not UTF-8")
        if self._source and entry.sourceId is None:
            body = b'{"sourceId":%b,%b' % (self._source, body[1:].lstrip(_BLANKS))
        return GenesysEntry(array, body, entry.eventId)

    def _check(self, entries: Sequence[GenesysEntry]) -> None:
        """Raises ValueError for what the API's model refuses: a request is dear, there are 300 a minute."""
        if not self._strict:
            return
        for entry in entries:
            if fault := model(self._api.arrays[entry.array]).find_fault(entry.body):
                raise ValueError(f"{entry.array}.{fault}" if self._mapping else fault)

    def _split(self, event: bytes) -> tuple[str, bytes]:
        """Array and entry. Whatever follows the entry but one brace stays with it, and is not JSON there."""
        if self._array:
            return self._array, event.strip(_BLANKS)
        match = _NAMED.match(event)
        array = match[1].decode() if match else ""
        if match is None or array not in self._api.arrays:
            raise ValueError(
                'expected {"<array>": {…}} with an array of POST /api/v2/events/conversations,'
                " as communicationEndedEvents"
            )
        inner = event[match.end() :].strip(_BLANKS)
        if inner[-1:] != b"}":
            raise ValueError("it is not JSON")
        return array, inner[:-1].strip(_BLANKS)

    def _size(self, entry: GenesysEntry) -> int:
        return len(entry.body) + (0 if self._array else len(entry.array) + _ARRAY_FRAME_BYTES)


def _entry_type(api: EventApi, *, optional: frozenset[str]) -> type[msgspec.Struct]:
    """What each entry has to have: the texts that all models of the API require, and whose event it is."""
    models = [model(name).fields for name in api.arrays.values()]
    required = [
        field
        for field, spec in models[0].items()
        if field not in optional
        and spec["type"] in _TEXTS
        and all(one.get(field, {}).get("required") for one in models)
    ]
    kinds: list[Any] = [(field, str) for field in required]
    others = [field for field in (api.subject, *sorted(optional)) if field not in required]
    kinds += [(field, str | None, None) for field in others]
    return msgspec.defstruct("Entry", kinds, gc=False)


def _make_mapping(
    name: str, family: str, mapping: str, source_id: str, namespace: str
) -> InteractionMapping | None:
    if mapping == "none":
        return None
    if mapping != "interaction":
        raise UserError(f"sinks.{name}: expected none or interaction as its map")
    if family != "conversations":
        raise UserError(f'sinks.{name}: map = "interaction" makes conversations, not {family}: set its api')
    if not source_id:
        raise UserError(
            f'sinks.{name}: map = "interaction" needs source_id, the platform the events come from'
        )
    return InteractionMapping(source_id, namespace=namespace)


def _words(error: dict[str, Any]) -> str:
    message = error.get("message")
    return safe_text(message, 300) if isinstance(message, str) and message else "no reason given"


class _ErrorBody(msgspec.Struct, gc=False, rename="camel"):
    context_id: Any = None


_decode_error = msgspec.json.Decoder(_ErrorBody).decode


def name_context(verdict: Verdict, answer: Answer) -> Verdict:
    """The verdict with the id by which Genesys support finds a refused request.

    ``ErrorBody.contextId`` of the body equals the header ``ININ-Correlation-Id``.
    """
    if answer.status < 400:
        return verdict
    try:
        context_id = _decode_error(answer.body).context_id
    except (ValueError, RecursionError):
        context_id = None
    if context_id is None:
        context_id = answer.headers.get("inin-correlation-id")
    if not isinstance(context_id, str) or not _CONTEXT_ID.fullmatch(context_id):
        return verdict
    if context_id in verdict.detail:
        return verdict
    return verdict.but(detail=f"{verdict.detail} (contextId {context_id})")


class GenesysEventsConfig(HttpSinkConfig):
    """The inbound event APIs of Genesys Cloud."""

    type: Literal["genesys_events"] = field(description=TYPE)
    api: Literal["conversations", "presence", "routingstatus", "customkpiattributions"] = field(
        "conversations", description="which event API of Genesys Cloud"
    )
    map: Literal["none", "interaction"] = field(
        "none", description="none: events are entries of that API, under their array's name"
    )
    source_id: str = field(
        "", description="sourceConfiguration.sourceId of mapped events; sourceId of entries that have none"
    )
    namespace: str = field(
        "", description="makes UUIDs of foreign ids different from those of other platforms; empty: source_id"
    )
    strict: bool = field(
        True, description="events that the API's models refuse become dead letters and are not sent"
    )
    requests_per_minute: int = field(
        300, ge=0, description="most requests in a minute; 0: as the API's own headers say"
    )

    @property
    def empty_request(self) -> EmptyRequest:
        return EmptyRequest(b"{}", _PERMISSIONS[self.api])

    def make(self, basis: SinkBasis) -> Sink:
        return GenesysEventsSink(
            name=basis.name,
            api=basis.url(),
            family=self.api,
            mapping=self.map,
            source_id=self.source_id,
            namespace=self.namespace,
            strict=self.strict,
            max_events=basis.max_events,
            max_bytes=min(basis.max_bytes, MAX_BODY_BYTES),
            reading=basis.reader,
            wall=basis.wall,
        )
