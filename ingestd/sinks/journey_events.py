"""Genesys Cloud journey external events: ``POST …/journey/externalevents/configurations/{id}/events``.

Source: models ``ExternalEvent`` and ``ExternalEventsResponse`` of the SDK, in ``schemas/genesys_models``.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from ingestd.core.address import show_url
from ingestd.core.answer import Answer
from ingestd.core.chunk import frame
from ingestd.core.errors import UserError
from ingestd.core.setting_types import field
from ingestd.core.shared_body import Frame
from ingestd.core.text import cut
from ingestd.core.verdict import Meaning, Verdict
from ingestd.schemas.genesys_models import model
from ingestd.schemas.grammar import is_utf8
from ingestd.sinks.answer_body import Found
from ingestd.sinks.answers import DEFAULT, AnswerReader
from ingestd.sinks.genesys_events import MAX_BODY_BYTES, name_context
from ingestd.sinks.item_paths import ItemPaths
from ingestd.sinks.settings import TYPE, EmptyRequest, HttpSinkConfig, SinkBasis
from ingestd.sinks.sink import Sink, Unencodable, system_wall

MAX_EVENTS = 100
_CONFIGURATION_ID = re.compile(r"[A-Za-z0-9-]{1,64}", re.ASCII)  # a UUID is one, too
_ITEMS = AnswerReader(
    paths=ItemPaths(
        items="unprocessedEntities",
        index="originalRequestIndex",
        id="event.id",
        event_id="id",
        message="errorMessage",
        retryable="isRetryable",
    )
)
_FRAME = Frame(b'{"entities":[', b",", b"]}")


class _Object(msgspec.Struct, gc=False):
    """Any JSON object."""


class _Event(msgspec.Struct, gc=False, rename="camel"):
    id: str
    date_created: str
    identifiers: _Object
    attributes: _Object


_decode = msgspec.json.Decoder(_Event).decode


class JourneyEventsSink:
    """Body ``{"entities":[…]}`` with the events' own bytes; any 2xx may name those it did not process.

    ``api``: base URL. Raises UserError for a ``configuration_id`` that can be none.
    """

    kind = "journey_events"
    overhead_bytes = _FRAME.overhead_bytes
    separator_bytes = len(_FRAME.separator)

    def __init__(
        self,
        *,
        name: str,
        api: str,
        configuration_id: str,
        strict: bool = False,
        max_events: int = MAX_EVENTS,
        max_bytes: int = MAX_BODY_BYTES,
        reading: AnswerReader = DEFAULT,
        wall: Callable[[], float] | None = None,
    ) -> None:
        if not _CONFIGURATION_ID.fullmatch(configuration_id):
            raise UserError(
                f"sinks.{name}.configuration_id: expected a UUID, or up to 64 letters, digits and hyphens"
            )
        self.name = name
        configuration = quote(configuration_id, safe="")
        path = f"/api/v2/journey/externalevents/configurations/{configuration}/events"
        self.url = api.rstrip("/") + path
        self.shown_url = show_url(self.url)
        self._strict = strict
        self.max_events = max_events
        self.max_bytes = max_bytes
        self._reading = reading
        self._wall = wall or system_wall()

    def sizes(self, events: Sequence[bytes]) -> None:
        """Events go as the bytes they came in as."""

    def encode(self, events: Sequence[bytes]) -> bytes:
        """Events need ``id``, ``dateCreated``, ``identifiers`` and ``attributes``; with ``strict`` they are
        such as the API's model takes."""
        find = self._find_fault
        unfit = {index: fault for index, event in enumerate(events) if (fault := find(event))}
        if unfit:
            raise Unencodable(unfit)
        return frame(*_FRAME, events)

    def _find_fault(self, event: bytes) -> str | None:
        fault = _find_fault(event)
        return model("ExternalEvent").find_fault(event) if self._strict and not fault else fault

    def headers(self, batch_id: str, events: Sequence[bytes]) -> dict[str, str]:
        return {"Content-Type": "application/json", "X-Request-Id": batch_id}

    def interpret(self, answer: Answer, events: Sequence[bytes]) -> Verdict:
        """``unprocessedEntities[{originalRequestIndex, isRetryable, errorMessage, statusCode, event}]``."""
        found, strange = Found(), ""
        meaning = self._reading.meaning_of(answer.status)
        if answer.body.strip() and meaning in (Meaning.ACCEPTED, Meaning.REJECTED):
            reading = self._reading if self._reading.paths else _ITEMS
            # if none was taken, one by one will tell whom a shared id meant
            found = reading.errors(answer.body, events, shared_ids=meaning is Meaning.ACCEPTED)
            strange = "" if self._reading.paths or meaning is Meaning.REJECTED else _strange(answer.body)
        if answer.truncated and meaning is Meaning.ACCEPTED:
            # it may have named events in what was cut off
            found = found._replace(unmatched=max(1, found.unmatched))
        now_wall = self._wall()
        verdict = self._reading.judge(answer, found, now_wall=now_wall, count=len(events), strange=strange)
        return name_context(verdict, answer)


class _Response(msgspec.Struct, gc=False, rename="camel"):
    """``ExternalEventsResponse``: the list is required."""

    unprocessed_entities: list[msgspec.Raw]


_decode_response = msgspec.json.Decoder(_Response).decode


def _strange(body: bytes) -> str:
    """Why it is no ``ExternalEventsResponse`` although it is an object."""
    try:
        _decode_response(body if is_utf8(body) else body.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return "it has no list unprocessedEntities, as the answer of Genesys Cloud has"
    return ""


def _find_fault(event: bytes) -> str | None:
    try:
        seen: Any = _decode(event)
    except RecursionError:
        return "it is nested too deeply"
    except ValueError as error:
        return cut(str(error))
    if not seen.id or not seen.date_created:
        return "id is empty" if not seen.id else "dateCreated is empty"
    return None if is_utf8(event) else "it is not UTF-8"


class JourneyEventsConfig(HttpSinkConfig):
    """Genesys Cloud journey external events."""

    type: Literal["journey_events"] = field(description=TYPE)
    configuration_id: str = field(description="id of the external event configuration")
    strict: bool = field(
        True, description="events that the API's model refuses become dead letters and are not sent"
    )
    requests_per_minute: int = field(
        300, ge=0, description="most requests in a minute; 0: as the API's own headers say"
    )

    @property
    def empty_request(self) -> EmptyRequest:
        return EmptyRequest(b'{"events":[]}', "journey:externalEventsEvent:add")

    def make(self, basis: SinkBasis) -> Sink:
        return JourneyEventsSink(
            name=basis.name,
            api=basis.url(),
            configuration_id=self.configuration_id,
            strict=self.strict,
            max_events=basis.max_events if self.max_events else min(basis.max_events, MAX_EVENTS),
            max_bytes=min(basis.max_bytes, MAX_BODY_BYTES),
            reading=basis.reader,
            wall=basis.wall,
        )
