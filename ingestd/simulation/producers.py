"""Who posts: they believe nothing but 202, and send again until they have heard it."""

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from ingestd.httpd.request import Request
from ingestd.httpd.response import Response
from ingestd.simulation.plan import TYPES
from ingestd.simulation.trace import Trace
from ingestd.sources.http.endpoint import PATH, Endpoint

QUEUES = 4
_SUFFIXES = ("", "", "", "é", "\u2028", '"', "\\", " x", "😀", "-" + "i" * 200)


class Post(NamedTuple):
    numbers: list[int]
    query: str


class _Answer(msgspec.Struct):
    accepted: int
    duplicates: int
    rejected: list[dict[str, Any]]
    delivered: int = 0
    dead_lettered: int = 0
    pending: int = 0


class Producers:
    """Each queue's events come from one producer, which waits for its answer before it sends on. ``safe``:
    numbers that were acknowledged. ``sinks``: that there are in this life; ``owed``: by number, those that
    there were each time that it was sent. ``on_delivered``: is called with answers to a producer."""

    def __init__(self, rng: random.Random, trace: Trace) -> None:
        self.rng, self.trace = rng, trace
        self.payloads: list[bytes] = []
        self.safe: dict[int, None] = {}
        self.sent: Counter[int] = Counter()
        self.sinks: frozenset[str] = frozenset()
        self.owed: dict[int, frozenset[str]] = {}
        self.on_delivered: Callable[[list[int]], None] = lambda numbers: None
        self._waiting: list[list[Post]] = [[] for _ in range(QUEUES)]  # by queue, oldest first
        self._out: list[bool] = [False] * QUEUES
        self._endpoint: Endpoint | None = None
        self._later: Callable[[float, Callable[[], None]], object]

    @property
    def content(self) -> bool:
        """Every request was answered."""
        return not any(self._waiting)

    def connect(self, endpoint: Endpoint, later: Callable[[float, Callable[[], None]], object]) -> None:
        """A process listens. What was out before was never answered."""
        self._endpoint, self._later = endpoint, later
        self._out = [False] * QUEUES
        for queue in range(QUEUES):
            self._next(queue)

    def disconnect(self) -> None:
        self._endpoint = None

    def post(self, count: int, query: str) -> None:
        queue = self.rng.randrange(QUEUES)
        self._waiting[queue].append(Post([self.make(queue) for _ in range(count)], query))
        self._next(queue)

    def make(self, queue: int) -> int:
        """The number of a new event."""
        self.payloads.append(self._event(len(self.payloads), queue))
        return len(self.payloads) - 1

    def owe(self, numbers: list[int]) -> None:
        """They go to the sinks that there are now, and were before."""
        for number in numbers:
            self.owed[number] = self.owed.get(number, self.sinks) & self.sinks

    def copy(self) -> None:
        """A producer sends acknowledged events again."""
        if self.safe:
            known = list(self.safe)
            number = known[self.rng.randrange(len(known))]
            queue = number_queue(self.payloads[number]) % QUEUES  # it may have come in a file
            self._waiting[queue].append(Post([number], ""))
            self._next(queue)

    def post_invalid(self, how: str) -> None:
        good = self._event(-1, 0)  # no other event has its key
        body = {
            "json": b'{"interactionId":',
            "field": good.replace(b'"ANSWER"', b'"SING"'),
            "huge": good.replace(b'"pad":"', b'"pad":"' + b"x" * 700_000),
            "control": good.replace(b'"interactionId":"i', b'"interactionId":"i\\u0000'),
        }[how]

        def on_response(response: Response) -> None:
            if response.status < 400:
                self.trace.breach(f"an invalid event ({how}) was answered {response.status}")

        self._send(body, "", on_response)

    def _event(self, number: int, queue: int) -> bytes:
        return msgspec.json.encode(
            {
                "interactionId": f"i-{number}{_SUFFIXES[number % len(_SUFFIXES)]}",
                "eventType": TYPES[number % 3],
                "eventTime": "2026-01-01T10:00:00Z",
                "routingMetadata": {"queueId": f"q{queue}", "skill": "s", "actionType": "ANSWER"},
                "attributes": {"n": number, "pad": "x" * ((abs(number) * 37) % 300)},
                "schemaVersion": 1,
            }
        )

    def _next(self, queue: int) -> None:
        if self._out[queue] or not self._waiting[queue] or self._endpoint is None:
            return
        post, endpoint = self._waiting[queue][0], self._endpoint
        self._out[queue] = True

        def on_response(response: Response) -> None:
            if endpoint is not self._endpoint:
                return  # it came too late: that process has ended
            self._out[queue] = False
            if self._judge(post, response):
                self._waiting[queue].pop(0)
                self._next(queue)
            else:
                wait_s = float(dict(response.headers).get("Retry-After", "1"))
                self._later(wait_s * (1 + self.rng.random()), lambda: self._next(queue))

        self.sent.update(post.numbers)
        self.owe(post.numbers)
        self._send(b"[" + b",".join(self.payloads[n] for n in post.numbers) + b"]", post.query, on_response)

    def _send(self, body: bytes, query: str, on_response: Callable[[Response], None]) -> None:
        if self._endpoint is None:
            return
        headers = {"content-type": "application/json", "content-length": str(len(body))}
        target = f"{PATH}?{query}" if query else PATH
        request = Request("POST", target, PATH, query, headers, on_response)
        if early := self._endpoint.check_head(request):
            request.respond(*early)
            return
        request.body = body
        self._endpoint.handle(request)

    def _judge(self, post: Post, response: Response) -> bool:
        """Whether it need not be sent again."""
        numbers = post.numbers
        self.trace.note(f"producer hears {response.status} of {numbers} {post.query}")
        if response.status != 202:
            if response.status not in (429, 503):
                self.trace.breach(f"events {numbers} were answered {response.status}: {response.body!r}")
            return False
        answer = msgspec.json.decode(response.body, type=_Answer)
        if answer.rejected or answer.accepted + answer.duplicates != len(numbers):
            self.trace.breach(f"of {numbers} the producer was told {response.body!r}")
        self.safe.update(dict.fromkeys(numbers))
        if answer.delivered and answer.delivered == len(numbers):
            self.on_delivered(numbers)
        return True


def number_queue(payload: bytes) -> int:
    at = payload.index(b'"queueId":"q') + len(b'"queueId":"q')
    return payload[at] - ord("0")
