"""Many lives of one process, by chance: producers, crashes, drains, a spool larger than memory, and sinks
that are flaky or away for whole lives. Every accepted event reaches every sink whose pattern takes it, under
one key, and no other; every ledger balances."""

import asyncio
import json
import random
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ingestd.core.bounds import Bounds
from ingestd.core.submission import AcceptedSubmission, Result
from tests.each import each
from tests.effort import seeds
from tests.integration.intake.support import Life, event, key_of, numbers_of, posted, running, webhook
from tests.receiver import Action, Cut, Receiver, Reply, Request

pytestmark = pytest.mark.anyio

BEFORE: list[Action] = [*(Reply(status, {"Retry-After": "0"}) for status in (429, 503)), Cut(), Cut("rst")]
AFTER: list[Action] = [Reply(502, {"Retry-After": "0"}), Cut()]
TYPES = ("call", "chat", "email")


class Kind(NamedTuple):
    """What a sink takes: events of ``types``; it refuses every one that ``number % 13`` is ``bad`` of.

    ``body``: of a webhook; without one it is the event API.
    """

    types: tuple[str, ...]
    body: str
    bad: int

    def section(self, receiver: Receiver) -> dict[str, Any]:
        if not self.body:
            return {"type": "ingest_api", "url": receiver.url}
        when = {} if self.types == TYPES else {"eventType": list(self.types)}
        return webhook(receiver, body=self.body, when=when)

    def numbers(self, request: Request) -> list[int]:
        return posted(request) if self.body else numbers_of(request)

    def takes(self, number: int) -> bool:
        return type_of(number) in self.types

    def refuses(self, number: int) -> bool:
        return number % 13 == self.bad


HOUSES = (
    {"api": Kind(TYPES, "", 5)},
    {"main": Kind(TYPES, "array", 5), "calls": Kind(("call",), "event", 5)},
    {"calls": Kind(("call",), "array", 5), "chats": Kind(("chat",), "event", 4)},  # nobody takes emails
    {
        "main": Kind(TYPES, "array", 5),
        "both": Kind(("call", "chat"), "event", 6),
        "chats": Kind(("chat",), "array", 5),
    },
)


def type_of(number: int) -> str:
    return TYPES[number % 3]


class Api:
    """One sink's remote side. Honours idempotency keys; some requests fail before it took them, some when
    it has; bad events are named."""

    def __init__(self, kind: Kind, rng: random.Random, *, failures: float) -> None:
        self.kind = kind
        self.rng = rng
        self.failures = failures
        self.away = False
        self.bodies: dict[str, bytes] = {}  # of every key that was ever seen
        self.taken: dict[str, list[int]] = {}  # by key

    def __call__(self, request: Request) -> Action:
        key, numbers = key_of(request), self.kind.numbers(request)
        assert self.bodies.setdefault(key, request.body) == request.body, "other bytes under a used key"
        assert all(map(self.kind.takes, numbers)), "an event that its pattern does not take"
        if self.away or self.rng.random() < self.failures:
            return self.rng.choice(BEFORE)
        named = [{"index": i, "message": "no"} for i, n in enumerate(numbers) if self.kind.refuses(n)]
        if named:
            return Reply(422, body=json.dumps({"errors": named}).encode())
        self.taken.setdefault(key, numbers)
        return self.rng.choice(AFTER) if self.rng.random() < self.failures else Reply()

    def counts(self) -> Counter[int]:
        """How many keys each event was taken under."""
        return Counter(number for numbers in self.taken.values() for number in numbers)


class Producers:
    """They send until they are told that it was taken, and now and then once more."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.made = 0
        self.unsure: list[list[int]] = []  # requests that were not answered
        self.safe: set[int] = set()  # accepted, or told to be duplicates
        self.accepted: Counter[int] = Counter()

    def send(self, life: Life) -> "tuple[list[int], asyncio.Future[Result]]":
        rng = self.rng
        if self.unsure and rng.random() < 0.5:
            numbers = self.unsure.pop()
        elif self.safe and rng.random() < 0.15:
            numbers = rng.sample(sorted(self.safe), min(len(self.safe), 3))
        else:
            first, self.made = self.made, self.made + rng.choice([1, 1, 2, 7, 40])
            numbers = list(range(first, self.made))
        raw = [event(number, pad=(number * 37) % 700, eventType=type_of(number)) for number in numbers]
        return numbers, life.submit(*raw, wait_s=rng.choice([0, 0, 0.01]))

    def hear(self, sent: "list[tuple[list[int], asyncio.Future[Result]]]") -> None:
        for numbers, told in sent:
            if told.done():
                result = told.result()
                assert isinstance(result, AcceptedSubmission)
                assert result.accepted + result.duplicates == len(numbers)
                if result.duplicates == 0:
                    self.accepted.update(numbers)
                self.safe.update(numbers)
            else:
                self.unsure.append(numbers)


async def live(life: Life, producers: Producers, rng: random.Random) -> None:
    """Some requests, in bursts; most are waited for."""
    sent = []
    for _ in range(rng.randint(3, 25)):
        sent += [producers.send(life) for _ in range(rng.choice([1, 1, 3]))]
        if rng.random() < 0.7:
            await asyncio.wait([sent[-1][1]])
        life.assert_balanced()
    if rng.random() < 0.5:
        await life.ingest.admission.finished()
    producers.hear(sent)


async def finish(life: Life, producers: Producers) -> None:
    """Everything that anybody was told is safe goes out."""
    while producers.unsure:
        sent = producers.send(life)
        await sent[1]
        producers.hear([sent])
    await life.until_empty()
    life.assert_balanced()
    assert life.ledger.in_flight == 0
    assert not any(runner.ledger.in_flight for runner in life.pipeline.runners)
    await life.pipeline.journal.commit()
    for table in ("batches", "spool", "confirmations"):
        assert life.rows(f"SELECT count(*) FROM {table}") == [(0,)], table
    assert life.rows("SELECT chunks, events, bytes FROM spool_totals") == [(0, 0, 0)]
    ends = {position for (position,) in life.rows("SELECT position FROM cursors")}
    assert ends == {life.ingest.spool.end} or (not ends and len(life.pipeline.runners) == 1)
    assert not life.ingest.spool.damage
    assert not life.warnings


@each("seed", seeds(2, 60))
async def test_whatever_happens_every_accepted_event_arrives_once_at_every_sink_that_takes_it(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    bounds = Bounds(spool_memory_bytes=rng.choice([0, 5_000, 50_000]))
    house = HOUSES[seed % len(HOUSES)]
    apis = {
        name: Api(kind, random.Random(seed + 1000), failures=rng.choice([0.0, 0.1, 0.3]))
        for name, kind in house.items()
    }
    producers = Producers(random.Random(seed + 2000))
    directory = tmp_path / "0"
    async with AsyncExitStack() as stack:
        receivers = {name: await stack.enter_async_context(Receiver(api)) for name, api in apis.items()}
        sections: dict[str, Any] = {
            "sinks": {name: kind.section(receivers[name]) for name, kind in house.items()},
            "batch": {"max_events": rng.choice([3, 10, 100]), "max_age": rng.choice([0, 0.01])},
            "delivery": {"max_in_flight": rng.choice([1, 5]), "give_up_after": 600},
        }
        for number in range(1, 6):
            for api in apis.values():
                api.away = rng.random() < 0.3
            async with running(directory, deliver=rng.random() < 0.8, **sections, bounds=bounds) as life:
                await live(life, producers, rng)
                how = rng.choice(["crash", "drain", "leave"])
                if how == "crash":
                    directory = tmp_path / str(number)
                    await life.crash(directory)
                elif how == "drain" and life.tasks:
                    await life.drain()
                assert not life.warnings
        for api in apis.values():
            api.away = False
        async with running(directory, **sections, bounds=bounds) as life:
            await finish(life, producers)
            letters = life.rows("SELECT sink, payload FROM letters")
    for name, kind in house.items():
        counts = apis[name].counts()
        mine = {number for number in producers.safe if kind.takes(number)}
        buried = {int(json.loads(payload)["interactionId"][2:]) for sink, payload in letters if sink == name}
        assert buried == {number for number in mine if kind.refuses(number)}
        assert set(counts) == mine - buried, "an event was lost"
        assert not {number for number, count in counts.items() if count > 1}, "an event has two keys"
    twice = {number for number, count in producers.accepted.items() if count > 1}
    refused = {n for n in twice if any(kind.takes(n) and kind.refuses(n) for kind in house.values())}
    assert twice == refused, "only what became a dead letter may be accepted again"
