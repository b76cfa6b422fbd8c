"""Any CloudEvents receiver over HTTP; by default ``POST {api}/api/v2/eventbridge/events``.

Rules: CloudEvents HTTP binding 1.0.2 and JSON format 1.0.2; the API of the seed "Publishing Custom Events".
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import msgspec
from msgspec.structs import replace

from ingestd.core.address import show_url
from ingestd.core.answer import Answer
from ingestd.core.chunk import frame
from ingestd.core.section import Section
from ingestd.core.setting_types import EventPath, field
from ingestd.core.verdict import Meaning, Verdict
from ingestd.sinks import answer_body, answers, cloudevents_formats
from ingestd.sinks.answers import DEFAULT, AnswerReader
from ingestd.sinks.cloudevents_formats import Wrapping
from ingestd.sinks.settings import TYPE, ConfirmConfig, HttpSinkConfig, SinkBasis
from ingestd.sinks.sink import Sink, Unencodable, content_id, system_wall

PATH = "/api/v2/eventbridge/events"
MAX_ID_CHARS = 256
_LONG_HEADERS_BYTES = 2_000
_WITH_ID = frozenset({200, 201, 202, 409})
_MEDIA_TYPES = {
    "structured": "application/cloudevents+json; charset=utf-8",
    "batch": "application/cloudevents-batch+json; charset=utf-8",
}


class CloudEventsSink:
    """``mode``: structured (the event is the body), binary (attributes are headers, data is the body) or
    batch (a JSON array; only where the receiver asks for it, HTTP binding 3.3).

    ``wrap``: makes CloudEvents of all events; without it they are sent as the bytes they came in as.
    The idempotency key of a single event is made from its bytes, as they are sent: it is the same after
    a restart, from the dead-letter store and on another machine, and another once the event is edited.
    """

    kind = "cloudevents"

    def __init__(
        self,
        *,
        url: str,
        name: str = "cloudevents",
        mode: Literal["structured", "binary", "batch"] = "structured",
        wrap: Wrapping | None = None,
        max_bytes: int = 1_000_000,
        max_events: int = 100,
        reading: AnswerReader = DEFAULT,
        wall: Callable[[], float] | None = None,
    ) -> None:
        self.name = name
        self.url, self.shown_url = url, show_url(url)
        self.mode = mode
        self.max_bytes = max_bytes
        self.max_events = max_events if mode == "batch" else 1
        self.overhead_bytes, self.separator_bytes = (2, 1) if mode == "batch" else (0, 0)
        self._wrap = wrap
        self._reading = reading
        self._wall = wall or system_wall()
        self._last_answered: tuple[object, ...] = ()
        self._meant = Verdict(Meaning.ACCEPTED)

    def sizes(self, events: Sequence[bytes]) -> list[int] | None:
        """Exact for wrapped events; None for others (in binary mode their data is shorter than they are)."""
        if self._wrap is None:
            return None
        return [self._size(event) for event in events]

    def encode(self, events: Sequence[bytes]) -> bytes:
        if self._wrap is None and self.mode == "structured" and len(events) == 1:
            return events[0]
        parts: list[bytes] = []
        unfit: dict[int, str] = {}
        for index, event in enumerate(events):
            try:
                parts.append(self._part(event))
            except ValueError as error:
                unfit[index] = str(error)
        if unfit:
            raise Unencodable(unfit)
        if self.mode == "batch":
            return frame(b"[", b",", b"]", parts)
        (body,) = parts
        return body

    def headers(self, batch_id: str, events: Sequence[bytes]) -> dict[str, str]:
        if self.mode == "batch":
            return {
                "Content-Type": _MEDIA_TYPES["batch"],
                "X-Request-Id": batch_id,
                "Idempotency-Key": batch_id,
            }
        event = events[0] if self._wrap is None else self._wrap(events[0])
        headers = {"X-Request-Id": batch_id, "Idempotency-Key": content_id(event)}
        if self.mode == "binary":
            headers |= cloudevents_formats.split(event).headers
        else:
            headers["Content-Type"] = _MEDIA_TYPES["structured"]
        return headers

    def interpret(self, answer: Answer, events: Sequence[bytes]) -> Verdict:
        """Of a single event the status decides, unless paths into the body are set. Most APIs say the same of
        each event that they take: that is read once."""
        kind = answer.headers.get("content-type")
        answered = answer.status, answer.body, kind, answer.truncated, answer.unreadable
        if answered == self._last_answered:
            return self._meant
        verdict = self._read(answer, events)
        of_one = self.mode != "batch" and self._reading.paths is None
        if of_one and verdict == Verdict(Meaning.ACCEPTED, verdict.detail):
            self._last_answered, self._meant = answered, verdict
        return verdict

    def _read(self, answer: Answer, events: Sequence[bytes]) -> Verdict:
        now_wall = self._wall()
        if self.mode == "batch" and answer.status == 409 and self._reading.meaning_of(409) is None:
            verdict = self._read_originals(answer, events, now_wall=now_wall)
        elif self.mode == "batch" or self._reading.paths is not None:
            verdict = self._reading.read(answer, events, now_wall=now_wall)
        else:
            verdict = self._reading.verdict(answer, now_wall=now_wall)
            if verdict.unmatched and self._reading.expect_json:  # errors, perhaps, and it is whose they are
                verdict = self._reading.read(answer, events, now_wall=now_wall)
        if answer.status == 431 and verdict.meaning is Meaning.PAUSED and self._has_long_headers(events):
            return verdict.but(meaning=Meaning.PERMANENT)
        if self.mode == "batch" or answer.status not in _WITH_ID:
            return verdict
        accepted = _read_accepted(answer.body)
        if accepted is None:
            return verdict
        if answer.status == 409 and verdict.meaning is Meaning.RETRY and accepted.is_event:
            # "deliveryStatus":"pending" is the original event's, not a request's that is in progress
            verdict = self._reading.verdict(replace(answer, body=b""), now_wall=now_wall)
        if verdict.meaning is not Meaning.ACCEPTED or verdict.items:
            return verdict
        return verdict.but(remote_ids=((0, accepted.id),))

    def _read_originals(self, answer: Answer, events: Sequence[bytes], *, now_wall: float) -> Verdict:
        """Of a batch under a key that is known: what was said of its events when they were taken, some
        perhaps refused one by one; or no more than that they are being worked on."""
        if not _lists_events(answer.body):
            return self._reading.read(answer, events, now_wall=now_wall)
        verdict = self._reading.read(replace(answer, status=200), events, now_wall=now_wall)
        return verdict.but(detail=answers.words(answer))

    def _size(self, event: bytes) -> int:
        try:
            return len(self._part(event))
        except ValueError:
            return 0

    def _part(self, event: bytes) -> bytes:
        """What stands in the body for ``event``. Raises ValueError, in words, for one that does not fit."""
        if self._wrap is not None:
            event = self._wrap(event)
        return cloudevents_formats.split(event).body if self.mode == "binary" else event

    def _has_long_headers(self, events: Sequence[bytes]) -> bool:
        """Whether "headers too large" is about this event: its attributes must not stop all others."""
        if self.mode != "binary":
            return False
        size = sum(len(name) + len(value) for name, value in self.headers("", events).items())
        return size > _LONG_HEADERS_BYTES


class _Accepted(msgspec.Struct, gc=False, rename="camel"):
    """The answer's body: the event as the API keeps it, or an error about it."""

    id: str
    specversion: Any = None
    delivery_status: Any = None
    status: Any = None

    @property
    def is_event(self) -> bool:
        if self.specversion is not None or self.delivery_status is not None:
            return True
        return isinstance(self.status, str) and (answer_body.is_okay(self.status) or self.status == "failed")


_decode_accepted = msgspec.json.Decoder(_Accepted).decode


class _AcceptedBatch(msgspec.Struct, gc=False):
    """The answer's body to a batch."""

    events: list[_Accepted]


_decode_batch = msgspec.json.Decoder(_AcceptedBatch).decode


def _lists_events(body: bytes) -> bool:
    """Whether it has the events of a batch as the API keeps them."""
    try:
        kept = _decode_batch(body).events
    except (ValueError, RecursionError):
        return False
    return bool(kept) and all(one.is_event for one in kept)


def _read_accepted(body: bytes) -> _Accepted | None:
    """None for a body without an id that can be asked about: text, printable, of a sane length."""
    try:
        accepted = _decode_accepted(body)
    except (ValueError, RecursionError):
        return None
    return accepted if 0 < len(accepted.id) <= MAX_ID_CHARS and accepted.id.isprintable() else None


class WrapConfig(Section):
    """Makes a CloudEvent of ordinary JSON. Values that begin with $. or $[ are paths into the event."""

    type: str = field("", description="type of the CloudEvent; empty: events are CloudEvents already")
    source: str = field("", description="source of the CloudEvent")
    id: EventPath = field(
        "", description="a path; empty: made from the event's bytes, so that copies share it"
    )
    time: EventPath = field("", description="a path; empty: the CloudEvent has none")
    subject: str = field("", description="empty: the CloudEvent has none")
    data: EventPath = field("$", description="a path to what becomes data; $: all of the event")


class CloudEventsConfig(HttpSinkConfig):
    """Any CloudEvents receiver; by default ``POST {api}/api/v2/eventbridge/events``."""

    type: Literal["cloudevents"] = field(description=TYPE)
    mode: Literal["structured", "binary", "batch"] = field(
        "structured", description="how events are sent; batch: only where the receiver asks for it"
    )
    wrap: WrapConfig = WrapConfig()
    confirm: ConfirmConfig = ConfirmConfig()

    def make(self, basis: SinkBasis) -> Sink:
        return CloudEventsSink(
            url=basis.url(PATH),
            name=basis.name,
            mode=self.mode,
            wrap=Wrapping(**self.wrap.model_dump()) if self.wrap.type else None,
            max_bytes=basis.max_bytes,
            max_events=basis.max_events,
            reading=basis.reader,
            wall=basis.wall,
        )

    @property
    def needs_api(self) -> bool:
        return super().needs_api or self.confirm.url == "auto"

    @property
    def expects_json(self) -> bool:
        """Elsewhere than at [api] the binding says nothing of an answer's body."""
        return not self.url

    @property
    def is_single(self) -> bool:
        return self.mode != "batch"

    @property
    def confirms(self) -> ConfirmConfig | None:
        return self.confirm if self.confirm.url else None

    def check(self, place: str) -> None:
        if self.confirm.url not in ("", "auto") and "{id}" not in self.confirm.url:
            raise ValueError(f"{place}.confirm.url: where does the event's id go? write {{id}} there")
