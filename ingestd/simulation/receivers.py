"""The other side: APIs that honour idempotency keys, and fail by script in every way that was ever seen."""

import json
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from ingestd.simulation.trace import Trace

TOKEN_PATH = "/token"  # noqa: S105 - an address
JSON = ((b"Content-Type", b"application/json"),)
HTML = b"<html><head><title>Sign in</title></head><body>Please sign in to go on.</body></html>"

MOODS: dict[str, dict[str, float]] = {
    "well": {},
    "flaky": {"503": 1, "502 after": 1, "cut": 1, "cut after": 1, "429": 1, "500": 1, "none": 6},
    "dead": {"no connection": 1},
    "hanging": {"silent": 2, "silent after": 1, "none": 1},
    "throttling": {"429": 3, "429 wait": 2, "none": 3},
    "unavailable": {"503": 2, "503 wait": 2, "503 date": 1, "none": 1},
    "login": {"401": 2, "none": 1},
    "sign-in page": {"html": 2, "none": 1},
    "forbidding": {"403": 3, "404": 1, "none": 1},
    "cutting": {"cut": 1, "cut half": 1, "cut after": 2, "short answer": 1, "none": 3},
    "partial": {"some later": 2, "none": 2},
    "small": {"413": 2, "none": 2},
    "doubting": {"empty": 1, "202 unnamed": 1, "409 busy": 1, "none": 2},
}
"""What happens to a request, and how often in proportion; ``none``: nothing. ``after``: once it was taken."""


class Kind(NamedTuple):
    """What a sink takes. ``body``: of a webhook; api: of the event API; confirmed: CloudEvents, one by one,
    about which it is asked later. ``refuses``: how it refuses the event whose number ends so, by thirteens:
    named, silent or item (a 2xx with an error in it). One that is asked takes it, and says later that it
    failed. ``login``: it wants a token."""

    types: tuple[str, ...]
    body: str
    bad: int
    refuses: str
    login: bool

    def takes(self, event: "Seen") -> bool:
        return event.type in self.types

    def refused(self, event: "Seen") -> bool:
        return self.bad >= 0 and event.number % 13 == self.bad and not event.edited


class _Attributes(msgspec.Struct):
    n: int
    edited: bool = False


class _Routing(msgspec.Struct):
    queueId: str  # noqa: N815 - as it is written


class _Event(msgspec.Struct):
    eventType: str  # noqa: N815
    attributes: _Attributes
    routingMetadata: _Routing  # noqa: N815


class Seen(NamedTuple):
    """An event as it arrived."""

    number: int
    type: str
    queue: str
    edited: bool
    payload: bytes


def read_event(payload: bytes) -> Seen:
    event = msgspec.json.decode(payload, type=_Event)
    own = event.attributes
    return Seen(own.n, event.eventType, event.routingMetadata.queueId, own.edited, bytes(payload))


class _Events(msgspec.Struct):
    events: list[msgspec.Raw]


class ApiReply(NamedTuple):
    status: int
    body: bytes = b"{}"
    headers: tuple[tuple[bytes, bytes], ...] = JSON


@dataclass(slots=True, eq=False)
class Receiver:
    """One sink's remote side. ``events_by_key``: by key, the events that it has for good."""

    name: str
    kind: Kind
    rng: random.Random
    trace: Trace
    mood: str = "well"
    slow_s: float = 0.0
    most_at_once: int = 1_000
    at_once: int = 0
    parked_at: float | None = None  # by a person, in this life (monotonic)
    most_bytes: int = 2_000
    bodies: dict[str, bytes] = field(default_factory=dict)
    events_by_key: dict[str, list[Seen]] = field(default_factory=dict)
    order: list[Seen] = field(default_factory=list)
    requests: int = 0
    tokens: dict[str, float] = field(default_factory=dict)  # that are good, and until when
    ends: dict[str, str] = field(default_factory=dict)  # by id, what it says when it is asked
    put_off: set[int] = field(default_factory=set)  # taken later than others of their request
    _answers: dict[str, ApiReply] = field(default_factory=dict)

    def fault(self) -> str:
        weights = MOODS[self.mood]
        return self.rng.choices(list(weights), list(weights.values()))[0] if weights else "none"

    def events(self, body: bytes) -> list[Seen]:
        if self.kind.body in ("event", "confirmed"):
            raw: list[Any] = [body]
        elif self.kind.body == "array":
            raw = msgspec.json.decode(body, type=list[msgspec.Raw])
        elif self.kind.body == "ndjson":
            raw = body.splitlines()
        else:
            raw = msgspec.json.decode(body, type=_Events).events
        return [read_event(bytes(one)) for one in raw]

    def look(self, key: str, body: bytes) -> None:
        """What must hold of whatever arrives."""
        if self.bodies.setdefault(key, body) != body:
            self.trace.breach(f"{self.name}: other bytes under the used key {key}")
        events = self.events(body)
        self.trace.note(f"{self.name} gets {key[:8]}: {[event.number for event in events]}")
        for event in events:
            if not self.kind.takes(event):
                self.trace.breach(f"{self.name}: event {event.number} is not of its pattern")

    def take(self, key: str, body: bytes, fault: str) -> ApiReply:
        """The API looks at a whole request."""
        if known := self._answers.get(key):
            return known
        events = self.events(body)
        refused = [index for index, event in enumerate(events) if self.kind.refused(event)]
        if fault == "413" and len(body) > self.most_bytes:
            return ApiReply(413)
        later: list[int] = []
        if self.kind.body == "confirmed":
            return self._accept(key, events[0])
        if refused and self.kind.refuses != "item":
            errors = [{"index": index, "message": "no"} for index in refused]
            named = {"errors": errors} if self.kind.refuses == "named" else {"message": "something is wrong"}
            return ApiReply(422 if self.kind.refuses == "named" else 400, json.dumps(named).encode())
        if fault == "some later" and self.kind.body != "event":
            later = [i for i in range(len(events)) if i not in refused and self.rng.random() < 0.4]
        out = {*refused, *later}
        self.put_off.update(events[index].number for index in later)
        mine = [event for index, event in enumerate(events) if index not in out]
        self.events_by_key[key] = mine
        self.order += mine
        self.trace.note(f"{self.name} takes {key[:8]}: {[event.number for event in mine]}")
        errors = [{"index": i, "message": "no", "retryable": i in later} for i in sorted(out)]
        if self.kind.body == "event" and refused:
            self._answers[key] = ApiReply(422, b'{"message":"no"}')
        else:
            self._answers[key] = ApiReply(202, json.dumps({"errors": errors} if errors else {}).encode())
        return self._answers[key]

    def _accept(self, key: str, event: Seen) -> ApiReply:
        """It is asked later what became of the event."""
        self.events_by_key[key] = [event]
        self.order.append(event)
        self.trace.note(f"{self.name} accepts {key[:8]}: {event.number}")
        self.ends[key] = "pending"
        answer = {"id": key, "specversion": "1.0", "deliveryStatus": "pending"}
        self._answers[key] = ApiReply(202, json.dumps(answer).encode())
        return self._answers[key]

    def status(self, key: str) -> ApiReply:
        """What became of an event. An end is one for ever."""
        if key not in self.ends:
            self.trace.breach(f"{self.name} is asked about {key}, which it never named")
            return ApiReply(404)
        if self.ends[key] == "pending" and self.rng.random() < 0.5:
            (event,) = self.events_by_key[key]
            self.ends[key] = "failed" if self.kind.refused(event) else "delivered"
            self.trace.note(f"{self.name} says of {event.number}: {self.ends[key]}")
        return ApiReply(200, json.dumps({"id": key, "status": self.ends[key]}).encode())

    def counts(self) -> Counter[int]:
        """How many keys each event was taken under. What it said to have failed is not there."""
        good = (events for key, events in self.events_by_key.items() if self.ends.get(key) != "failed")
        return Counter(event.number for events in good for event in events)

    def accepted(self) -> set[int]:
        """Numbers of events that it took, whatever it said of them later: their letters are delivered."""
        return {event.number for events in self.events_by_key.values() for event in events}

    def has(self, *, reported: bool = False) -> set[int]:
        """Numbers of events that it has. ``reported``: and has said so, where it is asked."""
        if self.kind.body != "confirmed":
            return {event.number for event in self.order}
        good = {"delivered"} if reported else {"delivered", "pending"}
        return {self.events_by_key[key][0].number for key, end in self.ends.items() if end in good}
