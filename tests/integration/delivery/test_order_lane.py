"""P5 at the lane: whatever the API answers, events of one key reach it in the order they were accepted."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.core.answer import Answer
from ingestd.core.backoff import Backoff
from ingestd.core.chunk import Batch
from ingestd.core.clock import SystemClock
from ingestd.delivery.lane import Lane
from ingestd.delivery.lane_settings import LaneSettings
from ingestd.sinks.ingest_api import IngestApi
from tests.each import each
from tests.effort import examples, seeds
from tests.integration.delivery.order_support import OrderBook, OrderedApi, keyed, keyed_batches, order_by
from tests.integration.delivery.support import key_of, numbers_of, refusal, rig, until
from tests.machine import patience
from tests.receiver import Action, Reply, Request

pytestmark = pytest.mark.anyio

QUICK = Backoff(base_s=0.0001, cap_s=0.001)


class Scripted:
    """Implements ``lane.BatchTransport`` without a network: answers come in any order."""

    def __init__(self, api: OrderedApi) -> None:
        self.api = api

    async def send(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[Answer, int]:
        for _ in range(self.api.rng.randrange(4)):
            await asyncio.sleep(0)
        action = self.api.answer(headers["Idempotency-Key"], body)
        for _ in range(self.api.rng.randrange(4)):
            await asyncio.sleep(0)
        if isinstance(action, Reply):
            return Answer(action.status, {k.lower(): v for k, v in action.headers.items()}, action.body), 0
        return Answer(0, error="cut"), 0

    refusal = ""

    def drop_token(self, generation: int) -> None: ...


async def feed(lane: Lane, given: list[Batch], resent: int) -> None:
    """The first ``resent`` batches are an earlier process's, and come back as they were."""
    for batch in given[:resent]:
        batch.freeze(IngestApi("http://127.0.0.1").encode(batch.events))
        batch.ambiguous = True
        lane.resubmit(batch)
    for batch in given[resent:]:
        await lane.submit([batch])
    lane.close()


@settings(max_examples=examples(60))
@given(
    st.lists(st.lists(st.sampled_from(["", "a", "b", "c", "d"]), min_size=1, max_size=40), max_size=12),
    st.sampled_from([0.0, 0.03, 0.3, 1.0]),
    st.sampled_from([1, 3, 10, 1000]),
    st.integers(1, 6),
    st.integers(0, 3),
    st.booleans(),
    st.integers(0, 2**32),
)
def test_every_key_is_taken_in_its_order_nothing_is_lost_doubled_or_stuck(
    keys: list[list[str]], bad: float, most_events: int, slots: int, resent: int, alone: bool, seed: int
) -> None:
    rng = random.Random(seed)
    given = keyed_batches(keys)
    api = OrderedApi(rng, {n for n in range(sum(map(len, keys))) if rng.random() < bad}, most_events)
    book, known = OrderBook(), {batch.id for batch in given[:resent]}
    lane_settings = LaneSettings(
        one_per_key=alone,
        order_by=order_by,
        max_in_flight=slots,
        backoff=QUICK,
        circuit_threshold=10**6,
        max_held_events=30,
        held_batch_events=25,
        retry_floor=100_000,
    )

    async def deliver() -> None:
        lane = Lane(
            IngestApi("http://127.0.0.1"),
            Scripted(api),
            book,
            settings=lane_settings,
            clock=SystemClock(),
            rng=rng,
        )
        async with asyncio.timeout(patience(20)):
            await asyncio.gather(lane.run(), feed(lane, given, resent))
        assert lane.held == 0
        assert lane.leftovers() == []

    asyncio.run(deliver())
    book.assert_balanced(given)
    api.assert_in_order()
    assert sorted(number for _, number in api.taken) == book.delivered
    assert not api.bad & set(book.delivered)
    for batch_id, events in book.events.items():
        if alone and not known:
            sent = [key for event in events if (key := order_by(event))]
            assert len(sent) == len(set(sent)), f"two events of one key in {batch_id}"
    assert all(batch.segments[0].chunk.receipt.open == 0 for batch in given)


@each("seed", seeds(3, 40))
async def test_order_survives_a_real_api_that_cuts_refuses_halves_and_slows_down(seed: int) -> None:
    rng = random.Random(seed)
    few_or_many = [f"k{n}" for n in range(rng.choice([2, 20, 300]))] + [""]
    keys = [rng.choices(few_or_many, k=rng.choice([1, 5, 40])) for _ in range(40)]
    given = keyed_batches(keys)
    bad = {n for n in range(sum(map(len, keys))) if rng.random() < 0.02}
    api, book = OrderedApi(rng, bad, rng.choice([3, 8, 100])), OrderBook()

    def script(request: Request) -> Action:
        return api.answer(key_of(request), request.body)

    async with (
        rig(
            script,
            book=book,
            order_by=order_by,
            max_in_flight=rng.choice([1, 5]),
            backoff=Backoff(base_s=0.001, cap_s=0.005),
            circuit_threshold=1000,
        ) as r,
        r.running(),
    ):
        await r.feed(given)
    book.assert_balanced(given)
    api.assert_in_order()
    assert sorted(number for _, number in api.taken) == book.delivered
    assert set(book.buried) == bad
    r.assert_resends_identical()


async def test_a_key_that_always_fails_holds_up_nobody_else() -> None:
    """Its first event fails until all others are there; then its events come, in order, in few requests."""
    given = [keyed(["bad"]), *keyed_batches([["bad", *"abcde"]] * 30)[1:]]
    others = {n for batch in given[1:] for n in numbers(batch)[1:]}
    taken: list[int] = []

    def script(request: Request) -> Action:
        here = numbers_of(request)
        if 0 in here and not others <= set(taken):
            return Reply(503, {"Retry-After": "0"})
        taken.extend(here)
        return Reply()

    book = OrderBook()
    async with rig(script, book=book, order_by=order_by, max_in_flight=3) as r, r.running():
        await r.feed(given)
    book.assert_balanced(given)
    assert others <= set(taken[: len(others)])
    assert taken[len(others) :] == [n for batch in given for n in numbers(batch)[:1]]
    assert numbers_of(r.posts[-1]) == taken[len(others) + 1 :], "what was held goes in one batch"


async def test_without_order_by_nothing_is_held() -> None:
    def script(request: Request) -> Action:
        return Reply() if 1 in seen(r.posts) else Reply(503, {"Retry-After": "0"})

    async with rig(script, max_in_flight=2) as r:
        await r.deliver([keyed(["a"]), keyed(["a"], first=1)])
        assert r.lane.held == 0


async def test_intake_waits_when_too_much_is_held_and_goes_on_when_it_went() -> None:
    given = keyed_batches([["a"]] * 20)
    fed = asyncio.Event()
    api_up = asyncio.Event()

    async def script(request: Request) -> Action:
        await api_up.wait()
        return Reply()

    book = OrderBook()
    async with rig(script, book=book, order_by=order_by, max_held_events=5, held_batch_events=2) as r:
        async with r.running():
            feeding = asyncio.create_task(r.feed(given))
            feeding.add_done_callback(lambda _: fed.set())
            await until(lambda: r.lane.held >= 5)
            for _ in range(100):  # as often as it would take to feed them all
                await asyncio.sleep(0)
            assert not fed.is_set()
            assert r.lane.held == 5
            api_up.set()
            await fed.wait()
        assert r.lane.held == 0
        assert [n for request in r.posts for n in numbers_of(request)] == list(range(20))
        assert max(len(numbers_of(request)) for request in r.posts) == 2


async def test_the_end_of_a_lane_leaves_what_is_held_and_sends_nothing_out_of_turn() -> None:
    """A drain sends what is there; behind a batch that fails, its keys stay."""

    def script(request: Request) -> Action:
        return Reply(500, {"Retry-After": "60"}) if 0 in numbers_of(request) else Reply()

    given = [keyed(["a"]), keyed(["a", "b"], first=1), keyed(["a"], first=3)]
    book = OrderBook()
    async with rig(script, book=book, order_by=order_by, max_in_flight=1, circuit_threshold=100) as r:
        async with r.running():
            r.lane.resubmit(given[0])
            await until(lambda: r.lane.waiting == 1)
            r.lane.drain()
            await r.feed(given[1:])
        left = r.lane.leftovers()
        book.assert_balanced(given, left)
        assert book.delivered == [2]
        assert [n for batch in left for n in numbers(batch)] == [0, 1, 3]


async def test_a_part_of_one_key_waits_for_the_part_before_it() -> None:
    """413 halves a batch of one key; the first half fails for a while."""
    failures = iter([Reply(413), *[Reply(503, {"Retry-After": "0"})] * 3])
    async with rig(lambda _: next(failures, Reply()), book=(book := OrderBook()), order_by=order_by) as r:
        async with r.running():
            await r.feed([keyed("aaaa")])
        assert [numbers_of(request) for request in r.posts] == [
            [0, 1, 2, 3],
            *[[0, 1]] * 4,
            [2, 3],
        ]
        assert book.delivered == [0, 1, 2, 3]


async def test_an_event_that_is_to_be_sent_again_alone_keeps_its_key_busy() -> None:
    """207: later events of its key in the same request were taken; those of later requests wait."""
    answers = iter([refusal(207, 0, retryable=True), Reply(503, {"Retry-After": "0"})])
    async with (
        rig(lambda _: next(answers, Reply()), book=OrderBook(), order_by=order_by, max_in_flight=1) as r,
        r.running(),
    ):
        await r.feed([keyed("aab"), keyed("ab", first=3)])
    posts = [numbers_of(request) for request in r.posts]
    assert posts[0] == [0, 1, 2]
    alone = [at for at, numbers in enumerate(posts) if numbers == [0]]
    [later] = [at for at, numbers in enumerate(posts) if 3 in numbers]
    assert alone
    assert alone[-1] < later


def numbers(batch: Batch) -> list[int]:
    return [int(digest) for digest in batch.digests if digest]


def seen(posts: list[Request]) -> set[int]:
    return {n for request in posts for n in numbers_of(request)}
