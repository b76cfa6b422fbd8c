"""``ingestd run`` under kill -9, and clients that go before they have their answer."""

import asyncio
import random
from collections import Counter

import pytest

from tests.effort import FUZZ, seeds
from tests.event_api import INVALID, event, events, key, once_each
from tests.machine import patience, patience_of_test
from tests.process.cli.run_support import (
    LOST,
    Keeper,
    Serving,
    numbers,
    post,
    producer,
    serve,
    told,
)
from tests.process.cli.support import Place
from tests.process.soak.producers import Address
from tests.receiver import Action, Cut, Reply, Request

pytestmark = pytest.mark.anyio

ROUNDS = 20 if FUZZ else 3
IN_FLIGHT = 3
CLIENTS = 4 if FUZZ else 2
POISON = b"poison"


class Client:
    """Posts events nobody else posts, one request after the other; what was not answered it posts again."""

    def __init__(self, number: int, rng: random.Random) -> None:
        self.taken: list[bytes] = []  # answered with 202
        self.duplicates = self.resent = self.rejected = 0
        self._rng = rng
        self._next = number * 1_000_000

    async def work(self, place: Address, stop: asyncio.Event) -> None:
        batch = self._batch()
        again = False
        while batch:
            port = await place.port()
            try:
                async with producer(port) as one:
                    while batch:
                        answer = await one.post([*batch, INVALID])
                        if answer.status == 202:
                            self._answered(batch, told(answer), again=again)
                            batch, again = [] if stop.is_set() else self._batch(), False
                        else:
                            assert answer.status in (429, 503), answer
                            await asyncio.sleep(0.01)
            except LOST:
                again = True
                await asyncio.sleep(0.01)

    def _batch(self) -> list[bytes]:
        size = self._rng.choice([1, 3, 40])
        first, self._next = self._next, self._next + size
        made = events(size, first=first, note="n" * self._rng.choice([0, 300]))
        if self._rng.random() < 0.02:
            made[0] = event(first, note=POISON.decode())
        return made

    def _answered(self, batch: list[bytes], answer: dict[str, object], *, again: bool) -> None:
        assert answer["accepted"] == len(batch) - int(str(answer["duplicates"])), answer
        assert [one["index"] for one in answer["rejected"]] == [len(batch)]  # type: ignore[attr-defined]
        if again:
            self.resent += 1
            assert answer["duplicates"] in (0, len(batch)), "half of a request was taken"
        else:
            assert answer["duplicates"] == 0, answer
        self.duplicates += int(str(answer["duplicates"]))
        self.taken += batch


class FaultyApi(Keeper):
    """Refuses batches with poison in them, and fails now and then. ``came``: (life, key) of every attempt."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(self._fault, most_s=0.02)
        self.rng = rng
        self.came: list[tuple[int, str]] = []
        self.refused: set[str] = set()

    def _fault(self, request: Request) -> Action | None:
        self.came.append((self.life, key(request)))
        if POISON in request.body:
            self.refused.add(key(request))
            return Reply(400)
        if self.rng.random() < 0.02:
            return Reply(503) if self.rng.random() < 0.5 else Cut("rst")
        return None

    def taken_again(self, life: int) -> set[str]:
        """Batches taken in a life before and sent once more in this one."""
        before = {key(request) for at, request in self.taken if at < life}
        return before & {name for at, name in self.came if at == life}


async def _a_life(serving: Serving, api: FaultyApi, rng: random.Random) -> None:
    """Until some batches were delivered, and a random moment more; then kill -9."""
    enough = len(api.taken) + rng.randrange(2, 15)
    await api.until(lambda _: len(api.taken) >= enough, timeout_s=patience(30))
    await asyncio.sleep(rng.uniform(0, 0.03))
    await serving.kill()


@pytest.mark.parametrize("seed", seeds(1, 10))
@pytest.mark.timeout(patience_of_test(60 + 10 * ROUNDS))
async def test_what_was_answered_202_arrives_once_whatever_is_killed_when(place: Place, seed: int) -> None:
    rng = random.Random(seed)
    clients = [Client(number, random.Random(seed + number)) for number in range(CLIENTS)]
    address, stop = Address(), asyncio.Event()
    place.env = {"INGESTD_BATCH_MAX_EVENTS": "60", "INGESTD_DELIVERY_MAX_IN_FLIGHT": str(IN_FLIGHT)}
    async with FaultyApi(rng) as api, asyncio.TaskGroup() as tasks:
        posting = [tasks.create_task(client.work(address, stop)) for client in clients]
        for _ in range(ROUNDS):
            async with serve(place, api) as serving:
                address.now(serving.ingest_port)
                await _a_life(serving, api, rng)
                address.gone()
            api.life += 1
        async with serve(place, api) as serving:
            address.now(serving.ingest_port)
            stop.set()
            await asyncio.wait(posting)
            final = await serving.until_empty()
            await serving.stop()

    assert final["spool"]["chunks"] == final["spool"]["bytes"] == 0
    assert final["spool"]["damage"] == []
    posted = Counter(one for client in clients for one in client.taken)
    assert max(posted.values()) == 1
    delivered = once_each([request for _, request in api.taken])
    arrived = [one for batch in delivered.values() for one in batch]
    buried = [letter["payload"] for letter in place.letters()]
    assert Counter(arrived) + Counter(buried) == posted
    assert all(POISON in one for one in buried)
    for life in range(2, api.life + 1):
        assert len(api.taken_again(life)) <= IN_FLIGHT, f"more than was in flight at the kill, in life {life}"
    assert sum(client.resent for client in clients) > 0


async def test_a_client_that_left_before_its_answer_finds_its_events_to_be_duplicates(place: Place) -> None:
    mine = events(30)
    async with Keeper() as api, serve(place, api) as serving:
        api.open_gate.clear()
        async with producer(serving.ingest_port) as leaving:
            leaving.send(b"\n".join(mine), query=b"?wait=delivered")
            await serving.until(lambda told: told["http"]["waiting_for_delivery"] == 1)
            leaving.client.writer.transport.abort()
        async with producer(serving.ingest_port) as leaving:
            leaving.send(event(100))
        await serving.until(lambda told: told["spool"]["events"] == 31)
        for given in (mine, [event(100)]):
            answer = await post(serving.ingest_port, given)
            assert (answer.status, told(answer)["duplicates"]) == (202, len(given))
        api.open_gate.set()
        done = await serving.until_empty()
    assert sorted(numbers(api.kept)) == [*range(30), 100]
    assert (done["ledger"]["delivered"], done["ledger"]["duplicate"]) == (31, 31)


async def test_of_a_request_that_was_cut_in_its_body_nothing_is_taken(place: Place) -> None:
    mine = events(30)
    async with Keeper() as api, serve(place, api) as serving:
        async with producer(serving.ingest_port) as leaving:
            body = b"\n".join(mine)
            leaving.client.send(
                b"POST /v1/events HTTP/1.1\r\nHost: ingest\r\nContent-Type: application/x-ndjson\r\n"
                b"Content-Length: %d\r\n\r\n" % len(body) + body[: len(body) // 2]
            )
            await serving.until(lambda told: told["http"]["connections"] == 1)
        await serving.until(lambda told: told["http"]["connections"] == 0)
        async with producer(serving.ingest_port) as one:
            await one.give(mine)
        done = await serving.until_empty()
    assert sorted(numbers(api.kept)) == list(range(30))
    assert (done["ledger"]["delivered"], done["ledger"]["duplicate"]) == (30, 0)
