"""Dead letters on their second way: as the batch they were where that may matter, behind all else."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.clock import SystemClock
from ingestd.core.reasons import Reason
from ingestd.delivery.sink_runner import RetryWorker, rebuild
from tests.each import each
from tests.ids import new_id
from tests.integration.delivery.support import Rig, batches, event, key_of, numbers_of, refusal, rig, until
from tests.receiver import Action, Reply, Request, in_turn

NOW = 1_800_000_000.0


@dataclass(frozen=True)
class Letter:
    id: int
    payload: bytes
    batch: str = "batch-1"
    batch_index: int = 0
    batch_size: int = 1
    ambiguous: int = 1
    first_sent: float = NOW - 60
    key_released: int = 0
    obstacle: str = ""
    digest: bytes | None = None
    place: tuple[int, int, int] = (0, 0, 0)


def letters_of(numbers: Sequence[int], batch: str = "batch-1", **options: float) -> list[Letter]:
    """All events of one batch; the letters' ids are 1000 + the event's number."""
    count = len(numbers)
    return [
        replace(Letter(1000 + n, event(n), batch, index, count), **options)  # type: ignore[arg-type]
        for index, n in enumerate(numbers)
    ]


@dataclass
class MemoryStore:
    """Gives each of its retries once."""

    retries: list[list[Letter]]

    async def lease(self) -> list[Letter]:
        await asyncio.sleep(0)
        return self.retries.pop(0) if self.retries else []


async def work(r: Rig, store: MemoryStore) -> None:
    """Send everything that is due, and nothing else, to the end."""
    worker = RetryWorker(store, r.lane, clock=SystemClock())
    async with r.running():
        await worker.run(once=True)
        assert worker.first_pass.is_set()
        r.lane.close()


# which batch it is


def test_the_whole_of_an_unanswered_batch_keeps_its_id_and_its_order() -> None:
    letters = letters_of(range(5))
    batch = rebuild(list(letters), new_id)
    assert batch.id == "batch-1"
    assert batch.events == [event(n) for n in range(5)]
    assert batch.letters == (1000, 1001, 1002, 1003, 1004)
    assert batch.ambiguous
    assert batch.first_sent_wall == NOW - 60


def test_a_key_that_is_too_old_is_used_again_where_a_person_wants_that_and_its_age_begins_anew() -> None:
    """Another key would be a second event for an API that still knows this one."""
    letters = letters_of(range(3), obstacle="more than 24 hours ago")  # type: ignore[arg-type]
    batch = rebuild(list(letters), new_id)
    assert (batch.id, batch.ambiguous, batch.first_sent_wall, batch.noted) == ("batch-1", True, 0.0, False)


OTHERS = {
    "one is missing at the end": letters_of(range(5))[:-1],
    "one is missing in between": [*letters_of(range(5))[:2], *letters_of(range(5))[3:]],
    "one comes twice for another": [*letters_of(range(5))[:4], letters_of(range(5))[3]],
    "not in order": letters_of(range(5))[::-1],
    "of two batches": [*letters_of(range(5))[:4], replace(letters_of(range(5))[4], batch="batch-2")],
    "answered": letters_of(range(5), ambiguous=0),
    "edited: no longer the payload that was sent": letters_of(range(5), ambiguous=0, batch_size=0),
}


@each("letters", OTHERS.values(), ids=OTHERS.keys())
def test_whatever_is_not_that_batch_goes_out_under_a_key_of_its_own(letters: list[Letter]) -> None:
    batch = rebuild(list(letters), new_id)
    assert batch.id not in ("batch-1", "batch-2")
    assert batch.events == [letter.payload for letter in letters]
    assert not batch.ambiguous
    again = rebuild(list(letters), new_id)
    assert again.id != batch.id


@given(st.integers(1, 8), st.data())
def test_an_old_key_is_used_for_nothing_but_the_events_it_was_used_for(
    size: int, data: st.DataObject
) -> None:
    whole = letters_of(range(size))
    letters = data.draw(st.lists(st.sampled_from(whole), min_size=1, max_size=size + 1))
    batch = rebuild(list(letters), new_id)
    assert (batch.id == "batch-1") == (letters == whole)


# sending them


@pytest.mark.anyio
async def test_an_unanswered_batch_is_repeated_with_the_same_key_and_bytes_as_before() -> None:
    async with rig(in_turn(Reply(500), Reply()), max_attempts=1) as r:
        (batch,) = first = batches(1, size=3)
        await r.deliver(first)
        assert r.book.buried[0].reason is Reason.GAVE_UP
    async with rig(Reply()) as again:
        await work(again, MemoryStore([list(letters_of(range(3), batch.id))]))
        assert [(key_of(post), post.body) for post in again.posts] == [(batch.id, r.posts[0].body)]
        assert again.book.delivered == [0, 1, 2]


@pytest.mark.anyio
async def test_letters_are_sent_behind_live_traffic() -> None:
    hold = asyncio.Event()

    async def script(_: Request) -> Action:
        await hold.wait()
        return Reply()

    async with rig(script, max_in_flight=1, max_queued=20) as r, r.running():
        await r.lane.submit(batches(10))
        worker = RetryWorker(MemoryStore([letters_of([900])]), r.lane, clock=SystemClock())
        retrying = asyncio.create_task(worker.run(once=True))
        await until(lambda: r.lane.queued == 10)
        assert not worker.first_pass.is_set()
        hold.set()
        await retrying
        r.lane.close()
    assert [numbers_of(post) for post in r.posts] == [[n] for n in [*range(10), 900]]


@pytest.mark.anyio
async def test_letters_that_fail_again_go_back_after_one_attempt() -> None:
    async with rig(Reply(500)) as r:
        await work(r, MemoryStore([list(letters_of(range(2)))]))
        assert len(r.posts) == 1
        assert {end.reason for end in r.book.buried.values()} == {Reason.GAVE_UP}
        assert all(end.ambiguous for end in r.book.buried.values())


@pytest.mark.anyio
async def test_refused_letters_keep_their_numbers_when_their_batch_is_taken_apart() -> None:
    def script(request: Request) -> Action:
        bad = [index for index, number in enumerate(numbers_of(request)) if number == 1]
        return refusal(400, *bad) if bad else Reply()

    async with rig(script) as r:
        await work(r, MemoryStore([list(letters_of(range(3)))]))
        assert (r.book.delivered, list(r.book.buried)) == ([0, 2], [1])
        assert {n: end.letter for n, end in r.book.buried.items()} == {1: 1001}
        assert r.book.delivered_letters == [1000, 1002]


@pytest.mark.anyio
async def test_a_lane_that_drains_is_given_no_more_letters() -> None:
    store = MemoryStore([letters_of([n], f"batch-{n}") for n in range(50)])
    async with rig(Reply()) as r:
        worker = RetryWorker(store, r.lane, clock=SystemClock())
        async with r.running():
            r.lane.drain()
            await worker.run()
            r.lane.close()
        assert len(store.retries) == 50, "they wait in their store"
        assert r.posts == []
