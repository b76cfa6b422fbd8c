"""Many lives of one process whose API refuses, breaks off and lies in between: dead letters are sent again,
by themselves and for a person, while the process is killed, drained or left. No event gets a second key."""

import asyncio
import json
import random
from collections import Counter
from pathlib import Path

import pytest

from ingestd.store.dead_letters import Filter
from ingestd.store.letter_changes import LetterChanges
from tests.each import each
from tests.effort import seeds
from tests.integration.intake.support import DEADLINE_S, Life, QuickWall, event, key_of, numbers_of, running
from tests.receiver import Action, Cut, Hang, Receiver, Reply, Request

pytestmark = pytest.mark.anyio

NO_WAIT = {"Retry-After": "0"}
BEFORE: list[Action] = [Reply(503, NO_WAIT), Reply(500), Reply(429, NO_WAIT), Cut(), Cut("rst")]
AFTER: list[Action] = [Reply(502), Cut(), Cut("rst")]


class Api:
    """Strict: remembers every key with its bytes, and takes each once. Refuses much until it is healthy."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.failures = 0.4
        self.healthy = False
        self.may_hang = False  # takes a request, and never answers
        self.bodies: dict[str, bytes] = {}
        self.taken: dict[str, list[int]] = {}

    def __call__(self, request: Request) -> Action:
        key, numbers = key_of(request), numbers_of(request)
        assert self.bodies.setdefault(key, request.body) == request.body, "other bytes under a used key"
        if key not in self.taken:
            if self.rng.random() < self.failures:
                return self.rng.choice(BEFORE)
            if refusal := self._refusal(numbers):
                return refusal
            self.taken[key] = numbers
            if self.may_hang and self.rng.random() < self.failures / 2:
                return Hang()
        return self.rng.choice(AFTER) if self.rng.random() < self.failures else Reply()

    def _refusal(self, numbers: list[int]) -> Reply | None:
        if self.healthy:
            return None
        if len(numbers) > 6:
            return Reply(413)
        bad = [index for index, number in enumerate(numbers) if number % 4 == 0 and self.rng.random() < 0.6]
        if not bad:
            return None
        named = [{"index": index, "message": "no"} for index in bad]
        return Reply(422, body=json.dumps({"errors": named}).encode() if numbers[0] % 2 else b"{}")

    def doubles(self) -> list[int]:
        counts = Counter(number for numbers in self.taken.values() for number in numbers)
        return [number for number, count in counts.items() if count > 1]


def work_on_letters(life: Life) -> None:
    life.tasks += [asyncio.ensure_future(runner.worker.run()) for runner in life.pipeline.runners]


def ask_for(life: Life, rng: random.Random | None = None) -> None:
    """A person wants letters sent: all of them, or some."""
    with LetterChanges.open(life.directory) as changes:
        for piece in changes.pieces(Filter(), life.pipeline.clock.wall()):
            numbers = [letter.id for letter in piece]
            chosen = rng.sample(numbers, rng.randint(0, len(numbers))) if rng else numbers
            changes.request(chosen, now=life.pipeline.clock.wall())


async def live(life: Life, rng: random.Random, first: int) -> int:
    """Some requests, all of them accepted; meanwhile a person asks for letters. Gives the next number."""
    for _ in range(rng.randint(2, 6)):
        count = rng.choice([1, 3, 12])
        await life.take(*(event(number) for number in range(first, first + count)))
        first += count
        await asyncio.sleep(rng.choice([0, 0, 0.01, 0.05]))
        if rng.random() < 0.4:
            ask_for(life, rng)
    return first


@each("seed", seeds(2, 30))
async def test_whatever_happens_a_letter_arrives_once(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    api, made, directory = Api(random.Random(seed + 1)), 0, tmp_path / "0"
    async with Receiver(api) as receiver:
        sections = {
            "batch": {"max_events": rng.choice([3, 10]), "max_age": 0},
            "delivery": {"max_attempts": rng.choice([1, 2]), "max_in_flight": 8},
            "letters": {"poll_interval": 0.01, "retry": rng.random() < 0.6},
        }
        for number in range(1, 7):
            how = rng.choice(["crash", "crash", "drain", "leave"])
            api.may_hang = how != "drain"
            async with running(directory, receiver, clock=QuickWall(), **sections) as life:
                work_on_letters(life)
                made = await live(life, rng, made)
                if how == "crash":  # while all that are left are on their way
                    ask_for(life)
                    await asyncio.sleep(0.05)
                if how == "crash":
                    directory = tmp_path / str(number)
                    await life.crash(directory)
                elif how == "drain":
                    await life.drain()
        api.failures, api.healthy, api.may_hang = 0.0, True, False
        async with running(directory, receiver, clock=QuickWall(), **sections) as life:
            work_on_letters(life)
            await life.until_empty()
            async with asyncio.timeout(DEADLINE_S):
                while life.rows("SELECT 1 FROM letters WHERE state <> 'delivered' LIMIT 1"):
                    life.assert_alive()
                    ask_for(life)
                    await asyncio.sleep(0.02)
            (risky,) = life.rows("SELECT count(*) FROM letters WHERE obstacle <> ''")[0]
            counted = dict(life.rows("SELECT state, letters FROM letter_counts"))
            assert counted["delivered"] == life.rows("SELECT count(*) FROM letters")[0][0]
    assert risky == 0
    assert api.doubles() == []
    assert sorted({number for numbers in api.taken.values() for number in numbers}) == list(range(made))
