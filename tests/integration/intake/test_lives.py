"""Many lives of one process on one directory, by chance: producers, faults, crashes, a spool larger than
memory. Every accepted event reaches the API, under one key, and every ledger balances."""

import asyncio
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from ingestd.core.bounds import Bounds
from ingestd.core.submission import AcceptedSubmission, Result
from tests.integration.intake.support import Life, event, key_of, numbers_of, running
from tests.receiver import Action, Cut, Receiver, Reply, Request

pytestmark = pytest.mark.anyio

BEFORE: list[Action] = [
    *(Reply(status, {"Retry-After": "0"}) for status in (429, 500, 503)),
    Cut(),
    Cut("rst"),
]
AFTER: list[Action] = [Reply(502, {"Retry-After": "0"}), Cut(), Cut("rst")]


def is_bad(number: int) -> bool:
    """An event that the API refuses for good."""
    return number % 13 == 5


class Api:
    """Honours idempotency keys. Some requests fail before it took them, some when it has; with a bad
    event in it a request is refused as a whole, and the bad ones are named."""

    def __init__(self, rng: random.Random, *, failures: float) -> None:
        self.rng = rng
        self.failures = failures
        self.bodies: dict[str, bytes] = {}  # of every key that was ever seen
        self.taken: dict[str, list[int]] = {}  # by key

    def __call__(self, request: Request) -> Action:
        key = key_of(request)
        assert self.bodies.setdefault(key, request.body) == request.body, "other bytes under a used key"
        if self.rng.random() < self.failures:
            return self.rng.choice(BEFORE)
        numbers = numbers_of(request)
        if any(map(is_bad, numbers)):
            named = [{"index": index, "message": "no"} for index, n in enumerate(numbers) if is_bad(n)]
            return Reply(422, body=json.dumps({"errors": named}).encode())
        self.taken.setdefault(key, numbers)
        if self.rng.random() < self.failures:
            return self.rng.choice(AFTER)
        return Reply()

    def counts(self) -> Counter[int]:
        """How many requests (by key) each event was taken with."""
        return Counter(number for numbers in self.taken.values() for number in numbers)


class Producers:
    """They send until they are told that it was taken, and now and then once more."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.made = 0
        self.unsure: list[list[int]] = []  # requests that were not answered
        self.accepted: Counter[int] = Counter()
        self.safe: set[int] = set()  # accepted, or told to be duplicates

    def next_request(self) -> list[int]:
        rng = self.rng
        if self.unsure and rng.random() < 0.5:
            return self.unsure.pop()
        if self.safe and rng.random() < 0.15:
            return rng.sample(sorted(self.safe), min(len(self.safe), 3))
        first, self.made = self.made, self.made + rng.choice([1, 1, 2, 7, 40])
        return list(range(first, self.made))

    def send(self, life: Life) -> tuple[list[int], "asyncio.Future[Result]"]:
        numbers = self.next_request()
        # The padding depends on the number alone: an event that is sent again is the same event.
        raw = [event(number, pad=(number * 37) % 700) for number in numbers]
        return numbers, life.submit(*raw, wait_s=self.rng.choice([0, 0, 0.01]))

    def hear(self, sent: list[tuple[list[int], "asyncio.Future[Result]"]]) -> None:
        for numbers, told in sent:
            if not told.done():
                self.unsure.append(numbers)
                continue
            result = told.result()
            assert isinstance(result, AcceptedSubmission)
            assert result.accepted + result.duplicates == len(numbers)
            if result.duplicates == 0:
                self.accepted.update(numbers)
            self.safe.update(numbers)


async def live(life: Life, producers: Producers, rng: random.Random) -> None:
    """Some requests, in bursts; most are waited for."""
    sent = []
    for _ in range(rng.randint(5, 30)):
        sent += [producers.send(life) for _ in range(rng.choice([1, 1, 3]))]
        if rng.random() < 0.7:
            await asyncio.wait([sent[-1][1]])
        life.assert_balanced()
    if rng.random() < 0.5:
        await life.front.reception.finished()
    producers.hear(sent)


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_happens_every_accepted_event_arrives_under_one_key(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    bounds = Bounds(spool_memory_bytes=rng.choice([0, 5_000, 50_000]))
    api = Api(random.Random(seed + 1000), failures=rng.choice([0.0, 0.1, 0.3]))
    producers = Producers(random.Random(seed + 2000))
    directory = tmp_path / "0"
    sections: dict[str, Any] = {
        "batch": {"max_events": rng.choice([3, 10, 100]), "max_age": rng.choice([0, 0.01])},
        "delivery": {"max_in_flight": rng.choice([1, 5]), "give_up_after": 600},
    }
    async with Receiver(api) as receiver:
        for number in range(1, 6):
            async with running(
                directory, receiver, deliver=rng.random() < 0.8, **sections, bounds=bounds
            ) as life:
                await live(life, producers, rng)
                how = rng.choice(["crash", "drain", "leave"])
                if how == "crash":
                    directory = tmp_path / str(number)
                    await life.crash(directory)
                elif how == "drain" and life.tasks:
                    await life.drain()
        async with running(directory, receiver, **sections, bounds=bounds) as life:
            while producers.unsure:
                sent = producers.send(life)
                await sent[1]
                producers.hear([sent])
            await life.until_empty()
            assert life.ledger.in_flight == 0
            await life.pipeline.journal.commit()
            assert life.rows("SELECT count(*) FROM batches") == [(0,)]
            assert life.rows("SELECT count(*) FROM spool") == [(0,)]
            assert life.rows("SELECT chunks, events, bytes FROM spool_totals") == [(0, 0, 0)]
            assert not life.front.spool.damage
            assert not life.warnings
            letters = life.rows("SELECT payload FROM letters")
    counts = api.counts()
    buried = {int(json.loads(payload)["interactionId"][2:]) for (payload,) in letters}
    assert buried == {number for number in producers.safe if is_bad(number)}
    assert set(counts) | buried >= producers.safe, "an event was lost"
    assert not {number: count for number, count in counts.items() if count > 1}, "an event has two keys"
    twice = {number for number, count in producers.accepted.items() if count > 1}
    assert all(map(is_bad, twice)), "only what became a dead letter may be accepted again"
