"""A lane on a real receiver, and a Book in memory that refuses every second end of an event."""

import asyncio
import json
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ingestd.core.answer import Answer
from ingestd.core.backoff import Backoff
from ingestd.core.chunk import Batch, Chunk, Segment
from ingestd.core.clock import Clock
from ingestd.core.ledger import SinkLedger
from ingestd.core.reasons import Reason
from ingestd.core.receipt import Receipt
from ingestd.core.verdict import Verdict
from ingestd.delivery.circuit_breaker import BreakerState
from ingestd.delivery.lane import Lane
from ingestd.delivery.lane_settings import LaneSettings
from ingestd.delivery.recorder import Outcomes, Recorder
from ingestd.sinks.ingest_api import PATH, IngestApi
from ingestd.sinks.sink import Sink
from ingestd.transport.client import Client, Sender
from ingestd.transport.oauth import NoAuth, TokenSource
from tests.ids import new_id
from tests.integration.delivery.virtual_time import LoopClock
from tests.machine import patience
from tests.receiver import Action, Receiver, Reply, Request, Script

TOKEN_PATH = "/oauth/token"
DEADLINE_S = patience(60.0)


def event(number: int, note: str = "") -> bytes:
    return b'{"interactionId": "i-%d","n":%d, "note":"%b"}' % (number, number, note.encode())


def make_batch(numbers: Sequence[int], note: str = "", **options: Any) -> Batch:
    """A batch of ``event(n)``s, all of one chunk, whose receipt counts them."""
    events = [event(number, note) for number in numbers]
    chunk = Chunk(list(events), source=1, start=0, end=sum(map(len, events)))
    chunk.receipt = Receipt(len(events), lambda: None)
    digests: list[bytes | None] = [b"%016d" % number for number in numbers]
    return Batch(events, digests, [Segment(chunk, range(len(events)))], **options, new_id=new_id)


def batches(count: int, size: int = 1) -> list[Batch]:
    return [make_batch(range(first, first + size)) for first in range(0, count * size, size)]


class _Body(msgspec.Struct):
    events: list[msgspec.Raw]


def sent_events(request: Request) -> list[bytes]:
    return [bytes(raw) for raw in msgspec.json.decode(request.body, type=_Body).events]


def numbers_of(request: Request) -> list[int]:
    return [json.loads(sent)["n"] for sent in sent_events(request)]


def key_of(request: Request) -> str:
    return request.headers["idempotency-key"]


def refusal(status: int = 400, *indices: int, **more: Any) -> Reply:
    """An answer that names these events by index."""
    errors = [{"index": index, "message": "bad"} | more for index in indices]
    return Reply(status, body=json.dumps({"errors": errors}).encode())


def grant(value: str, expires_in: float = 3600) -> Reply:
    return Reply(body=json.dumps({"access_token": value, "expires_in": expires_in}).encode())


@dataclass(frozen=True)
class End:
    """``reason`` is None for a delivered event."""

    batch: str
    reason: Reason | None = None
    detail: str = ""
    ambiguous: bool = False
    letter: int = 0  # its number, if it was sent as a dead letter


@dataclass
class MemoryBook:
    """Implements ``delivery.recorder.Recorder``."""

    ledger: SinkLedger = field(default_factory=SinkLedger)
    ends: dict[bytes, End] = field(default_factory=dict)
    bodies: dict[str, bytes] = field(default_factory=dict)  # of frozen batches, by id
    attempts: list[tuple[str, Answer, Verdict]] = field(default_factory=list)
    limits: list[int] = field(default_factory=list)
    changes: list[tuple[BreakerState, str]] = field(default_factory=list)
    remote_ids: list[tuple[int, str]] = field(default_factory=list)
    settled_ids: set[str] = field(default_factory=set)
    events: dict[str, list[bytes]] = field(default_factory=dict)  # by id of the batch

    async def freeze(self, batch: Batch) -> None:
        assert batch.body
        assert self.bodies.setdefault(batch.id, batch.body) == batch.body
        self.events[batch.id] = list(batch.events)
        await asyncio.sleep(0)

    def withdraw(self, batch: Batch) -> Batch | None:
        return batch

    def attempted(self, batch: Batch, answer: Answer, verdict: Verdict) -> None:
        assert self.bodies[batch.id] == batch.body
        self.attempts.append((batch.id, answer, verdict))

    def resolve(self, batch: Batch, outcomes: Outcomes) -> None:
        delivered, buried, parts = outcomes.delivered, outcomes.failed, outcomes.parts
        self.remote_ids += outcomes.remote_ids
        assert batch.id not in self.settled_ids, "a batch was settled twice"
        self.settled_ids.add(batch.id)
        here = [batch.events[index] for index in [*delivered, *(burial.index for burial in buried)]]
        gone_on = [event for part in parts for event in part.events]
        assert Counter(here + gone_on) == Counter(batch.events), "an event was lost, or made"
        for index in delivered:
            self._end(batch, index, End(batch.id, letter=_letter(batch, index)))
        for burial in buried:
            letter = _letter(batch, burial.index)
            end = End(batch.id, burial.reason, burial.detail, batch.ambiguous, letter)
            self._end(batch, burial.index, end)

    def _end(self, batch: Batch, index: int, end: End) -> None:
        event = batch.events[index]
        assert event not in self.ends, "an event had two ends"
        self.ends[event] = end
        if batch.segments:
            batch.segments[0].chunk.receipt.settle(1)

    def learned(self, max_bytes: int) -> None:
        self.limits.append(max_bytes)

    def lane_changed(self, state: BreakerState, why: str) -> None:
        self.changes.append((state, why))

    # --- for the tests ---

    @property
    def states(self) -> list[BreakerState]:
        return [state for state, _ in self.changes]

    @property
    def delivered(self) -> list[int]:
        return sorted(json.loads(event)["n"] for event, end in self.ends.items() if end.reason is None)

    @property
    def buried(self) -> dict[int, End]:
        return {json.loads(event)["n"]: end for event, end in self.ends.items() if end.reason}

    @property
    def delivered_letters(self) -> list[int]:
        return sorted(end.letter for end in self.ends.values() if end.reason is None and end.letter)

    def assert_balanced(self, given: Sequence[Batch], left: Sequence[Batch] = ()) -> None:
        """Every event of the ``given`` batches has one end, or is in one of ``left``."""
        accounted = Counter([*self.ends, *(event for batch in left for event in batch.events)])
        assert accounted == Counter(event for batch in given for event in batch.events)


def _letter(batch: Batch, index: int) -> int:
    return batch.letters[index] if batch.letters else 0


@dataclass
class Rig:
    receiver: Receiver
    lane: Lane
    book: MemoryBook
    client: Client

    async def feed(self, given: Sequence[Batch]) -> None:
        """Submit one by one, as the intake does, then close."""
        for batch in given:
            await self.lane.submit([batch])
        self.lane.close()

    async def deliver(self, given: Sequence[Batch]) -> None:
        """Feed the lane and run it to its end; every event must have had one then."""
        async with asyncio.timeout(DEADLINE_S):
            feed = asyncio.create_task(self.feed(given))
            try:
                await self.lane.run()
            finally:
                feed.cancel()
                await asyncio.wait([feed])
        self.book.assert_balanced(given)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[asyncio.Task[None]]:
        """The lane runs meanwhile; it must have been made to end by the end of the block."""
        async with asyncio.timeout(DEADLINE_S):
            run = asyncio.create_task(self.lane.run())
            try:
                yield run
                await asyncio.wait([run])
            finally:
                run.cancel()
                await asyncio.wait([run])
            run.result()

    @property
    def posts(self) -> list[Request]:
        """What came to the ingestion path."""
        return [request for request in self.receiver.requests if request.path == PATH]

    @property
    def attempts_by_key(self) -> dict[str, list[Request]]:
        by_key = defaultdict(list)
        for request in self.posts:
            by_key[key_of(request)].append(request)
        return dict(by_key)

    def assert_resends_identical(self) -> None:
        for key, requests in self.attempts_by_key.items():
            assert len({request.body for request in requests}) == 1
            assert {request.headers["x-request-id"] for request in requests} == {key}


@asynccontextmanager
async def rig(
    script: Script | Action,
    *,
    login: bool = False,
    url: str = "",
    sink: Sink | None = None,
    book: Recorder | None = None,
    clock: Clock | None = None,
    timeout_s: float = patience(30.0),
    read_timeout_s: float = patience(10.0),
    hold_back: Callable[[], bool] | None = None,
    **settings: Any,
) -> AsyncIterator[Rig]:
    """A lane that sends to a receiver with this script; times are short unless ``settings`` say more.

    ``sink``: instead of an event API at the receiver, or at ``url``. ``book``: instead of one in memory.
    ``login``: with tokens, from TOKEN_PATH of the same receiver.
    No task and no connection is left.
    """
    before = asyncio.all_tasks()
    short = {
        "backoff": Backoff(base_s=0.01, cap_s=0.05),
        "startup_timeout_s": patience(5.0),
        "retry_floor": 100_000,  # else faulty APIs would be spared: see test_retry_budget.py
    }
    act = script if callable(script) else lambda _: script
    async with (
        Receiver(act, now=asyncio.get_running_loop().time) as receiver,
        Client(
            timeout_s=timeout_s, read_timeout_s=read_timeout_s, max_connections=8, clock=LoopClock()
        ) as client,
    ):
        clock = clock or LoopClock()
        tokens: TokenSource | NoAuth = NoAuth()
        if login:
            tokens = TokenSource(
                client,
                token_url=receiver.url + TOKEN_PATH,
                client_id="id-0000",
                client_secret="CANARY-secret",
                clock=clock,
                timeout_s=patience(5.0),
            )
        memory = MemoryBook()
        lane = Lane(
            sink or IngestApi(url or receiver.url),
            Sender(client, tokens),
            book or memory,
            settings=LaneSettings(**(short | settings)),
            clock=clock,
            rng=random.Random(7),
            hold_back=hold_back,
        )
        yield Rig(receiver, lane, memory, client)
        await tokens.aclose()
    await until(lambda: asyncio.all_tasks() == before)  # a receiver learns a little later that we are gone


async def until(condition: Callable[[], bool], timeout_s: float = patience(30.0)) -> None:
    """Wait until ``condition()``; looks after every turn of the event loop that did something."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - what is looked at has no event to wait for
            await asyncio.sleep(0.002)


def faulty(seed: int, chances: Sequence[tuple[float, Callable[[], Action]]]) -> Script:
    """Faults by chance, the same ones for the same seed; 200 where none of them comes up."""
    rng = random.Random(seed)

    def act(_: Request) -> Action:
        dice = rng.random()
        for chance, fault in chances:
            if (dice := dice - chance) < 0:
                return fault()
        return Reply()

    return act
