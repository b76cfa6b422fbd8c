"""A sick API gets little more than its usual requests; nothing waits for ever because of that."""

import asyncio
import random

import pytest

from ingestd.core.answer import Answer
from ingestd.core.backoff import Backoff
from ingestd.core.clock import SystemClock
from ingestd.delivery.flow_control import RetryBudget
from ingestd.delivery.lane import Lane
from ingestd.delivery.lane_settings import LaneSettings
from ingestd.sinks.ingest_api import IngestApi
from tests.each import each
from tests.integration.delivery.support import MemoryBook, batches, make_batch, refusal, rig, until
from tests.machine import patience
from tests.receiver import Action, Reply, Request


def test_first_requests_bring_their_share_and_a_good_time_does_not_pay_for_a_storm() -> None:
    budget = RetryBudget(share=0.2, floor=10, per_s=1.0, now=0.0)
    for _ in range(10):
        assert budget.next_at(0.0) == 0.0
        budget.repeat_sent(0.0)
    assert budget.next_at(0.0) == 1.0
    for _ in range(5):
        budget.first_sent()
    assert budget.next_at(0.0) == 0.0
    for _ in range(100_000):
        budget.first_sent()
    for _ in range(100):
        budget.repeat_sent(0.0)
    assert budget.next_at(0.0) > 0.0


def test_time_alone_fills_it_up_to_its_floor_and_no_further() -> None:
    budget = RetryBudget(share=0.2, floor=3, per_s=0.5, now=0.0)
    sent, now = 0, 0.0
    while now < 100.0:
        now = max(now, budget.next_at(now))
        budget.repeat_sent(now)
        sent += 1
    assert sent == pytest.approx(3 + 50, abs=1)
    budget.next_at(1e9)
    for _ in range(3):
        budget.repeat_sent(1e9)
    assert budget.next_at(1e9) > 1e9


PER_S = 300.0


class Sick:
    """Implements ``lane.BatchTransport``: takes a share of the requests, by chance."""

    def __init__(self, share: float) -> None:
        self.rng, self.share = random.Random(5), share
        self.keys: set[str] = set()
        self.requests = 0

    async def send(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[Answer, int]:
        self.requests += 1
        self.keys.add(headers["Idempotency-Key"])
        return Answer(503 if self.rng.random() < self.share else 200), 0

    refusal = ""

    def drop_token(self, generation: int) -> None: ...


@pytest.mark.anyio
@each("share", [0.1, 0.5, 0.8])
async def test_requests_are_never_more_than_a_fifth_above_first_ones(share: float) -> None:
    api, book, clock = Sick(share), MemoryBook(), SystemClock()
    settings = LaneSettings(
        backoff=Backoff(base_s=0.001, cap_s=0.01), circuit_threshold=10**6, retry_per_s=PER_S
    )
    given = batches(50)
    lane = Lane(
        IngestApi("http://127.0.0.1"), api, book, settings=settings, clock=clock, rng=random.Random(6)
    )
    worst, started = 0.0, clock.monotonic()

    async def feed() -> None:
        nonlocal worst
        for batch in given:
            await lane.submit([batch])
            waited = clock.monotonic() - started
            worst = max(worst, api.requests - (1.2 * len(api.keys) + 10 + waited * PER_S))

    async with asyncio.timeout(patience(20)), asyncio.TaskGroup() as tasks:
        tasks.create_task(lane.run())
        await feed()
        lane.close()
    book.assert_balanced(given)
    assert book.delivered == list(range(50)), "the end of a replay does not wait for ever"
    assert worst <= 1.0


@pytest.mark.anyio
async def test_new_batches_go_while_repeats_wait_for_their_budget() -> None:
    def script(request: Request) -> Action:
        return Reply(503) if b'"i-0"' in request.body else Reply()

    async with (
        rig(script, retry_floor=1, retry_per_s=0.01, retry_ratio=0.0, max_in_flight=1, max_queued=9) as r,
        r.running(),
    ):
        feed = asyncio.create_task(r.feed(batches(6)))
        await until(lambda: r.book.delivered == [1, 2, 3, 4, 5])
        await feed
        assert len(r.posts) <= 5 + 2
        r.lane.drain()  # its end is not held up by any budget
    assert [len(batch) for batch in r.lane.leftovers()] == [1]


@pytest.mark.anyio
async def test_a_search_for_bad_events_and_a_new_login_are_no_burden_to_a_sick_api() -> None:
    def script(request: Request) -> Action:
        return Reply(400, body=b"no") if b'"i-13"' in request.body else Reply()

    async with rig(script, retry_floor=1, retry_per_s=0.0001) as r:
        await r.deliver([make_batch(range(32))])
        assert list(r.book.buried) == [13]


@pytest.mark.anyio
async def test_events_that_are_to_be_sent_again_draw_from_the_budget_too() -> None:
    again = refusal(207, 0, retryable=True)
    async with rig(again, retry_floor=2, retry_ratio=0.0, retry_per_s=0.0001) as r, r.running():
        await r.feed(batches(1))
        await until(lambda: len(r.posts) == 3 and r.lane.waiting == 1 and r.lane.active == 0)
        r.lane.drain()
    assert len(r.posts) == 4
