"""The other side: APIs that honour idempotency keys, and fail by script in every way that was ever seen."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec
import yarl

from ingestd.simulation.loop import VirtualClock
from ingestd.simulation.trace import Trace
from ingestd.transport.engine import Engine, Exchanged, Timeout
from ingestd.transport.network_errors import CutWhileSending, NoAnswer, Unsent

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
    failed."""

    types: tuple[str, ...]
    body: str
    bad: int
    refuses: str

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
    """One sink's remote side. ``taken``: by key, the events that it has for good."""

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
    taken: dict[str, list[Seen]] = field(default_factory=dict)
    order: list[Seen] = field(default_factory=list)
    requests: int = 0
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
        self.trace.say(f"{self.name} gets {key[:8]}: {[event.number for event in events]}")
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
        self.taken[key] = mine
        self.order += mine
        self.trace.say(f"{self.name} takes {key[:8]}: {[event.number for event in mine]}")
        errors = [{"index": i, "message": "no", "retryable": i in later} for i in sorted(out)]
        if self.kind.body == "event" and refused:
            self._answers[key] = ApiReply(422, b'{"message":"no"}')
        else:
            self._answers[key] = ApiReply(202, json.dumps({"errors": errors} if errors else {}).encode())
        return self._answers[key]

    def _accept(self, key: str, event: Seen) -> ApiReply:
        """It is asked later what became of the event."""
        self.taken[key] = [event]
        self.order.append(event)
        self.trace.say(f"{self.name} accepts {key[:8]}: {event.number}")
        self.ends[key] = "pending"
        told = {"id": key, "specversion": "1.0", "deliveryStatus": "pending"}
        self._answers[key] = ApiReply(202, json.dumps(told).encode())
        return self._answers[key]

    def status(self, key: str) -> ApiReply:
        """What became of an event. An end is one for ever."""
        if key not in self.ends:
            self.trace.breach(f"{self.name} is asked about {key}, which it never named")
            return ApiReply(404)
        if self.ends[key] == "pending" and self.rng.random() < 0.5:
            (event,) = self.taken[key]
            self.ends[key] = "failed" if self.kind.refused(event) else "delivered"
            self.trace.say(f"{self.name} says of {event.number}: {self.ends[key]}")
        return ApiReply(200, json.dumps({"id": key, "status": self.ends[key]}).encode())

    def counts(self) -> Counter[int]:
        """How many keys each event was taken under. What it said to have failed is not there."""
        good = (events for key, events in self.taken.items() if self.ends.get(key) != "failed")
        return Counter(event.number for events in good for event in events)

    def accepted(self) -> set[int]:
        """Numbers of events that it took, whatever it said of them later: their letters are delivered."""
        return {event.number for events in self.taken.values() for event in events}

    def has(self, *, told: bool = False) -> set[int]:
        """Numbers of events that it has. ``told``: and has said so, where it is asked."""
        if self.kind.body != "confirmed":
            return {event.number for event in self.order}
        good = {"delivered"} if told else {"delivered", "pending"}
        return {self.taken[key][0].number for key, end in self.ends.items() if end in good}


_REFUSALS = {"401": 401, "403": 403, "404": 404, "500": 500, "503": 503, "429": 429, "409 busy": 409}


def _early(fault: str, clock: VirtualClock, rng: random.Random) -> ApiReply | None:
    """Replys of an API that has not even looked."""
    if fault == "html":
        return ApiReply(200, HTML, ((b"Content-Type", b"text/html"),))
    if fault.endswith(" wait"):
        return ApiReply(int(fault[:3]), headers=(*JSON, (b"Retry-After", b"%d" % rng.choice((0, 1, 7, 40)))))
    if fault == "503 date":
        from email.utils import formatdate

        when = formatdate(clock.wall() + 5, usegmt=True).encode()
        return ApiReply(503, headers=(*JSON, (b"Retry-After", when)))
    if fault == "409 busy":
        return ApiReply(409, b'{"message":"a request with this key is still being processed"}')
    if fault in _REFUSALS:
        return ApiReply(_REFUSALS[fault], b'{"message":"not now"}')
    return None


_NOTICED_S = 5.0
"""After this nothing is sent to a sink that a person has parked."""


class Network(Engine):
    """Instead of sockets. ``receivers``: by the first label of the host."""

    def __init__(self, receivers: Mapping[str, Receiver], clock: VirtualClock, rng: random.Random) -> None:
        self._receivers = receivers
        self._virtual, self._rng = clock, rng
        self._max_body_bytes = 1024 * 1024
        self._on_the_way: dict[object, tuple[Receiver, str, bytes]] = {}
        self._down = False

    async def aclose(self) -> None:
        """Nothing is open."""

    def process_ended(self) -> None:
        """What was on its way arrives all the same, or not."""
        for receiver, key, body in list(self._on_the_way.values()):
            if self._rng.random() < 0.5:
                receiver.take(key, body, "none")
        self._down = True

    async def exchange(
        self, method: str, url: yarl.URL, headers: Mapping[str, str], body: bytes, *, timeout: Timeout
    ) -> Exchanged:
        receiver = self._receivers[(url.host or "").partition(".")[0]]
        if self._down:
            raise Unsent("the process has ended")
        if method == "GET":
            return await self._ask(receiver, url.path.rpartition("/")[2])
        if receiver.parked_at is not None and self._virtual.monotonic() > receiver.parked_at + _NOTICED_S:
            receiver.trace.breach(f"{receiver.name} is parked, and gets requests")
        if receiver.at_once >= receiver.most_at_once:
            receiver.trace.breach(f"{receiver.name}: more than {receiver.most_at_once} requests at once")
        receiver.at_once += 1
        receiver.requests += 1
        try:
            async with self._virtual.timeout(timeout.total):
                return await self._exchange(receiver, headers["idempotency-key"], body)
        except TimeoutError:
            raise NoAnswer("no complete answer in time") from None
        finally:
            receiver.at_once -= 1

    async def _ask(self, receiver: Receiver, key: str) -> Exchanged:
        fault = receiver.fault()
        await self._virtual.sleep(self._rng.choice((0.001, 0.1)))
        if fault == "no connection":
            raise Unsent("cannot connect: Connection refused")
        if early := _early(fault, self._virtual, self._rng):
            return _exchanged(early)
        if fault in ("cut", "silent", "cut half"):
            raise NoAnswer("connection closed before an answer came")
        return _exchanged(receiver.status(key))

    async def _exchange(self, receiver: Receiver, key: str, body: bytes) -> Exchanged:
        rng, fault, ticket = self._rng, receiver.fault(), object()
        if fault == "no connection":
            await self._virtual.sleep(rng.choice((0.001, 1.0)))
            raise Unsent("cannot connect: Connection refused")
        receiver.look(key, body)
        self._on_the_way[ticket] = receiver, key, body
        try:
            await self._virtual.sleep(receiver.slow_s * rng.random() + rng.choice((0.001, 0.02, 0.3)))
        finally:
            del self._on_the_way[ticket]
        if fault == "cut half":
            raise CutWhileSending("connection lost: before all of the request was sent")
        if fault == "silent":
            await asyncio.get_running_loop().create_future()
        if fault == "cut":
            raise NoAnswer("connection closed before an answer came")
        if early := _early(fault, self._virtual, rng):
            receiver.trace.say(f"{receiver.name} answers {key[:8]}: {fault}")
            return _exchanged(early)
        answer = receiver.take(key, body, fault)
        await self._virtual.sleep(rng.choice((0.0, 0.001, 0.05)))
        receiver.trace.say(f"{receiver.name} answers {key[:8]}: {answer.status} ({fault})")
        return await self._late(answer, fault)

    async def _late(self, answer: ApiReply, fault: str) -> Exchanged:
        if fault == "silent after":
            await asyncio.get_running_loop().create_future()
        if fault == "cut after":
            raise NoAnswer("connection closed before an answer came")
        if fault == "502 after":
            return _exchanged(ApiReply(502, b'{"message":"bad gateway"}'))
        if fault == "short answer":
            return _exchanged(answer)._replace(body=answer.body[:3], truncated=True)
        if fault == "empty" and answer.body == b"{}":
            return _exchanged(ApiReply(200, b""))
        if fault == "202 unnamed" and answer.body == b"{}":
            return _exchanged(ApiReply(202, b'{"accepted":true}'))
        return _exchanged(answer)


def _exchanged(answer: ApiReply) -> Exchanged:
    return Exchanged(answer.status, answer.headers, answer.body, truncated=False)
