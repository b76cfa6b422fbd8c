"""A run with several sinks ends, the next takes up for each of them what it had not had; also where sinks
came, went or were renamed meanwhile."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ingestd.core.chunk import Batch, Chunk, Keeper, Segment
from ingestd.core.errors import UserError
from ingestd.store.spool_rows import forget_sink
from tests.each import each
from tests.ids import new_id
from tests.integration.delivery.support import until
from tests.integration.intake.support import Life, all_posted, event, events, key_of, posted, running, webhook
from tests.receiver import Action, Hang, Receiver, Reply, Request, in_turn

pytestmark = pytest.mark.anyio

IN_ORDER = {"max_in_flight": 1}


async def test_what_one_sink_has_had_is_not_sent_there_again_and_the_other_loses_nothing(
    tmp_path: Path,
) -> None:
    """The request that was answered ends within a chunk: what goes before it lies before the cursor."""
    async with Receiver(in_turn(Reply(), Hang())) as one, Receiver(lambda _: Hang()) as other:
        sinks = {"one": webhook(one, max_events=4, **IN_ORDER), "other": webhook(other, **IN_ORDER)}
        batch = {"max_events": 9, "max_age": 60}
        async with running(tmp_path / "state", sinks=sinks, batch=batch) as life:
            for first in (0, 3, 6):
                await life.take(*events(range(first, first + 3)))
            await one.until(lambda r: len(r.requests) == 2)
            await other.until(lambda r: len(r.requests) == 1)
            await life.pipeline.journal.commit()
            await life.crash(tmp_path / "image")
        before = {key_of(request): request.body for request in (one.requests[1], other.requests[0])}
        for receiver in (one, other):
            receiver.requests.clear()
            receiver.script = in_turn(Reply())
        async with running(tmp_path / "image", sinks=sinks) as life:
            assert life.ledger.in_flight == 9
            await life.until_empty()
            assert all_posted(one) == [4, 5, 6, 7, 8]
            assert all_posted(other) == list(range(9))
            again = {key_of(request): request.body for request in (*one.requests, *other.requests)}
            assert again.items() > before.items()
            assert not life.warnings
            assert life.ledger.delivered == 9


async def test_a_crash_between_the_last_sinks_end_of_a_chunk_and_the_cursors_costs_nothing(
    tmp_path: Path,
) -> None:
    """The commits of producers carry what was noted, without the cursors."""

    async def when_both_have_it(_: Request) -> Action:
        for receiver in (one, other):  # a batch that is frozen later would write the cursor of the first
            await receiver.until(lambda r: len(r.requests) > 0)
        return Reply()

    async with Receiver(when_both_have_it) as one, Receiver(when_both_have_it) as other:
        sinks = {"one": webhook(one), "other": webhook(other)}
        async with running(tmp_path / "state", sinks=sinks, deliver=False) as life:
            life.deliver(upkeep=False)  # which would write the cursors
            await life.take(*events(range(5)))
            await until(lambda: life.ingest.spool.events == 0)
            for feed in life.ingest.feeds:
                feed.source.stop()
            await life.take(event(5))
            await life.crash(tmp_path / "image")
        async with running(tmp_path / "image", sinks=sinks, deliver=False) as life:
            assert life.rows("SELECT id FROM spool") == [(2,)]
            assert life.rows("SELECT count(*) FROM cursors WHERE position > 1") == [(0,)]
            assert life.rows("SELECT count(*) FROM batches") == [(2,)]
        async with running(tmp_path / "image", sinks=sinks) as life:
            await life.until_empty()
            for receiver in (one, other):
                assert [posted(request) for request in receiver.requests] == [[0, 1, 2, 3, 4], [5]]
            assert life.rows("SELECT count(*) FROM batches") == [(0,)]


async def test_a_restart_holds_no_chunks_of_which_nothing_is_on_its_way(
    tmp_path: Path, alive: Callable[..., int]
) -> None:
    stuck = lambda request: Reply(503) if 0 in posted(request) else Reply()  # noqa: E731
    async with Receiver(stuck) as one, Receiver(lambda _: Hang()) as other:
        sinks = {"one": webhook(one, body="event"), "other": webhook(other, body="event", **IN_ORDER)}
        async with running(tmp_path / "state", sinks=sinks) as life:
            for number in range(80):
                await life.take(event(number))
            await until(lambda: life.sink("one").delivered == 79)
        async with running(tmp_path / "state", sinks=sinks, deliver=False) as life:
            assert alive(Chunk) <= 2 * 2
            one.script = other.script = in_turn(Reply())
            life.deliver()
            await life.until_empty()
        assert sorted(n for n in all_posted(one) if n) == list(range(1, 80))
        assert set(all_posted(other)) == set(range(80))


async def test_a_sink_that_is_added_gets_what_is_still_in_the_spool_and_one_alone_goes_on(
    tmp_path: Path,
) -> None:
    async with Receiver(in_turn(Reply(), Hang())) as one, Receiver() as other:
        alone = {"one": webhook(one, **IN_ORDER)}
        both = alone | {"other": webhook(other)}
        state = tmp_path / "state"
        async with running(state, sinks=alone) as life:
            await life.take(*events(range(3)))
            await until(lambda: life.ledger.delivered == 3)
            await life.take(*events(range(3, 6)))
            await one.until(lambda r: len(r.requests) == 2)
        hung = one.requests.pop()
        one.script = in_turn(Reply())
        async with running(state, sinks=both) as life:
            await life.take(event(6))
            await life.until_empty()
            assert all_posted(one) == list(range(7))
            assert key_of(hung) in {key_of(request) for request in one.requests}
            assert sorted(all_posted(other)) == [3, 4, 5, 6]
            assert not life.warnings
        async with running(state, sinks=alone, deliver=False) as life:  # nothing waits for the other
            await life.take(event(7))
        renamed = {"single": alone["one"]}
        async with running(state, sinks=renamed) as life:  # nor for who was alone, whatever its name
            await life.until_empty()
        async with running(state, sinks=both) as life:
            await life.take(event(8))
            await life.until_empty()
        assert all_posted(one) == list(range(9))
        assert sorted(all_posted(other)) == [3, 4, 5, 6, 8]


async def test_a_start_without_a_sink_that_chunks_wait_for_is_refused_until_they_are_given_up(
    tmp_path: Path,
) -> None:
    async with Receiver() as one, Receiver(lambda _: Hang()) as other:
        sinks = {"one": webhook(one), "other": webhook(other)}
        state = tmp_path / "state"
        async with running(state, sinks=sinks) as life:
            for number in range(4):
                await life.take(event(number))
            await until(lambda: life.sink("one").delivered == 4)
        del sinks["other"]
        with pytest.raises(UserError) as refused:
            async with running(state, sinks=sinks):
                pass
        assert str(refused.value) == (
            "sink other is no longer configured, but 4 chunks of the spool wait for it: configure it again,"
            f" or give them up with `ingestd spool forget other --state-dir {state}`"
        )
        with closing(sqlite3.connect(state / "state.db")) as connection, connection:
            forget_sink(connection, "other")
        async with running(state, sinks=sinks) as life:
            await life.take(event(4))
            await life.until_empty()
        assert sorted(all_posted(one)) == list(range(5))


async def test_a_single_sink_that_is_renamed_goes_on_under_the_same_ids(tmp_path: Path) -> None:
    async with Receiver(in_turn(Reply(), Hang())) as receiver:
        batch = {"max_events": 3, "max_age": 60}
        section = webhook(receiver, **IN_ORDER)
        async with running(tmp_path / "state", sinks={"before": section}, batch=batch) as life:
            await life.take(*events(range(8)))
            await receiver.until(lambda r: len(r.requests) == 2)
            await life.pipeline.journal.commit()
        hung = receiver.requests.pop()
        receiver.script = in_turn(Reply())
        async with running(tmp_path / "state", sinks={"after": section}) as life:
            await life.until_empty()
            assert not life.warnings
            assert life.rows("SELECT count(*) FROM batches") == [(0,)]
        assert [posted(request) for request in receiver.requests] == [[0, 1, 2], [3, 4, 5], [6, 7]]
        assert key_of(receiver.requests[1]) == key_of(hung)


async def test_what_a_replay_of_standard_input_left_for_a_sink_that_is_not_there_is_kept(
    tmp_path: Path,
) -> None:
    async with Receiver() as one, Receiver() as other:
        state = tmp_path / "state"
        async with running(state, sinks={"gone": webhook(one), "other": webhook(other)}) as life:
            await leave_a_batch_of_a_stream(life, "gone", events(range(3)))
        async with running(state, sinks={"one": webhook(one), "other": webhook(other)}) as life:
            await life.take(event(3))
            await life.until_empty()
            assert life.rows("SELECT sink FROM batches") == [("gone",)]
            assert not life.warnings
        async with running(state, sinks={"gone": webhook(one), "other": webhook(other)}) as life:
            await until(lambda: life.sink("gone").delivered == 3)
            await life.pipeline.journal.commit()
            assert life.rows("SELECT count(*) FROM batches") == [(0,)]


async def leave_a_batch_of_a_stream(life: Life, sink: str, raw: list[bytes]) -> None:
    """As `ingestd replay -` leaves it when it is killed after the freeze."""
    journal = life.pipeline.journal
    runner = next(runner for runner in life.pipeline.runners if runner.name == sink)
    stream = await journal.new_stream("-", now=0.0)
    chunk = Chunk(raw, source=stream.number, start=0, end=1, keeper=Keeper.JOURNAL)
    batch = Batch(raw, [None] * len(raw), [Segment(chunk, range(len(raw)))], new_id=new_id)
    batch.freeze(runner.sink.encode(raw))
    journal.freeze(batch, sink=sink, now=0.0)
    await journal.commit()


class EventApi:
    """Takes an event to a request and gives it an id; says ``standing`` of each when it is asked."""

    def __init__(self) -> None:
        self.standing = "accepted"
        self.posts = self.questions = 0

    def __call__(self, request: Request) -> Action:
        if request.method == "POST":
            self.posts += 1
            return Reply(202, body=b'{"id":"remote-%d","status":"accepted"}' % self.posts)
        self.questions += 1
        return Reply(body=b'{"status":"%s"}' % self.standing.encode())

    def section(self, receiver: Receiver) -> dict[str, Any]:
        return {
            "type": "cloudevents",
            "url": receiver.url + "/events",
            "wrap": {"type": "test.event", "source": "/test"},
            "confirm": {
                "url": receiver.url + "/events/{id}",
                "initial_delay": 0.01,
                "requests_per_minute": 60_000,
            },
        }


@each("end", ["delivered", "failed"])
async def test_what_the_only_sink_has_yet_to_confirm_is_in_flight_also_after_a_restart(
    tmp_path: Path, end: str
) -> None:
    api = EventApi()
    async with Receiver(api) as receiver:
        sinks = {"cloud": api.section(receiver)}
        async with running(tmp_path / "state", sinks=sinks) as life:
            await life.take(*events(range(4)))
            await until(lambda: life.sink("cloud").confirming == 4 and api.questions > 4)
            assert (life.ledger.in_flight, life.ledger.delivered, life.ingest.spool.events) == (4, 0, 0)
            await life.crash(tmp_path / "image")
        async with running(tmp_path / "image", sinks=sinks, deliver=False) as life:
            assert (life.ledger.accepted, life.ledger.in_flight, life.sink("cloud").confirming) == (4, 4, 4)
            api.standing = end
            life.deliver()
            await until(lambda: life.ledger.in_flight == 0)
            delivered = 4 if end == "delivered" else 0
            assert (life.ledger.delivered, life.ledger.dead_lettered) == (delivered, 4 - delivered)
            assert life.sink("cloud").confirming == 0
            await life.pipeline.journal.commit()
            assert life.rows("SELECT count(*) FROM confirmations") == [(0,)]
            assert (await life.take(event(0))).accepted == (end == "failed")  # then its key is free again
        assert api.posts <= 5


async def test_among_several_sinks_one_goes_on_asking_after_a_restart_for_what_all_have_taken(
    tmp_path: Path,
) -> None:
    api = EventApi()
    async with Receiver(api) as receiver, Receiver() as other:
        sinks = {"cloud": api.section(receiver), "other": webhook(other)}
        async with running(tmp_path / "state", sinks=sinks) as life:
            await life.take(*events(range(4)))
            await life.until_empty()
            assert (life.sink("cloud").confirming, life.sink("cloud").in_flight) == (4, 4)
            assert (life.ledger.delivered, life.ledger.in_flight) == (0, 4)
            await life.crash(tmp_path / "image")
        async with running(tmp_path / "image", sinks=sinks) as life:
            assert (life.ledger.accepted, life.ledger.in_flight, life.sink("cloud").routed) == (4, 4, 4)
            await leave_a_batch_of_a_stream(life, "cloud", [event(9)])
            api.standing = "failed"
            await until(lambda: life.sink("cloud").dead_lettered == 4)
            await life.pipeline.journal.commit()
            assert life.rows("SELECT DISTINCT sink, reason FROM letters") == [("cloud", "failed")]
            assert (life.ledger.delivered, life.ledger.dead_lettered) == (0, 4)
        api.standing = "delivered"
        async with running(tmp_path / "image", sinks=sinks) as life:  # what a replay left has one sink only
            await until(lambda: life.sink("cloud").delivered == 1)
            assert (life.ledger.accepted, life.ledger.delivered, life.ledger.in_flight) == (1, 1, 0)
        assert api.posts == 5
