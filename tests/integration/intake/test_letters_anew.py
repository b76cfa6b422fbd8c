"""An event that became a dead letter is sent again by its producer: it arrives once all the same."""

import asyncio
import json
import re
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ingestd.core.submission import AcceptedSubmission
from ingestd.store import letter_leases
from ingestd.store.dead_letters import Filter
from ingestd.store.letter_changes import LetterChanges
from ingestd.store.spool_rows import forget_sink
from tests.each import each
from tests.integration.intake.support import (
    DEADLINE_S,
    Life,
    QuickWall,
    event,
    key_of,
    numbers_of,
    running,
    sent,
    webhook,
)
from tests.receiver import Action, Receiver, Reply, Request

pytestmark = pytest.mark.anyio

ONE_TRY: dict[str, dict[str, Any]] = {"delivery": {"max_attempts": 1}, "letters": {"poll_interval": 0.01}}


def work_on_letters(life: Life) -> None:
    life.tasks += [asyncio.ensure_future(runner.worker.run()) for runner in life.pipeline.runners]


def ask_for(life: Life) -> None:
    """A person wants all letters sent."""
    with LetterChanges.open(life.directory) as changes:
        for piece in changes.pages(Filter(), now := life.pipeline.clock.wall()):
            changes.request([letter.id for letter in piece], now=now)


class Switch:
    """Answers 500 until it is ``good``. ``taken``: numbers of the events of every key that it took."""

    def __init__(self) -> None:
        self.good = False
        self.keys: set[str] = set()
        self.taken: Counter[int] = Counter()

    def __call__(self, request: Request) -> Action:
        if not self.good:
            return Reply(500)
        if key_of(request) in self.keys:
            return Reply()
        self.keys.add(key_of(request))
        body = request.json()
        events = body if isinstance(body, list) else body["events"]
        self.taken.update(int(one["interactionId"][2:]) for one in events)
        return Reply()


async def until_letters(life: Life, state: str, count: int) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while life.rows(f"SELECT count(*) FROM letters WHERE state = '{state}'") != [(count,)]:
            life.assert_alive()
            await asyncio.sleep(0.01)


async def give(life: Life, *numbers: int) -> AcceptedSubmission:
    """To the end: delivered, or dead letters."""
    return await life.take(*map(event, numbers), wait_s=DEADLINE_S)


@each("restart", [False, True])
async def test_a_letter_of_an_event_that_was_accepted_anew_is_settled_and_not_sent(
    tmp_path: Path, *, restart: bool
) -> None:
    api, directory = Switch(), tmp_path / "0"
    async with Receiver(api) as receiver:
        async with running(directory, receiver, **ONE_TRY) as life:
            await give(life, 1)
            api.good = True
            again = await give(life, 1)
            assert (again.accepted, again.duplicates) == (1, 0)
            if restart:
                directory = tmp_path / "1"
                await life.crash(directory)
            else:
                await check_settled(life, api)
        if restart:
            async with running(directory, receiver, **ONE_TRY) as life:
                await check_settled(life, api)


async def check_settled(life: Life, api: Switch) -> None:
    await until_letters(life, "waiting", 1)
    work_on_letters(life)
    ask_for(life)
    await until_letters(life, "delivered", 1)
    assert life.ledger.retried_duplicate == life.sink("ingest_api").retried_duplicate == 1
    assert life.ledger.retried_delivered == 0
    assert life.rows("SELECT obstacle FROM letters") == [(letter_leases.SUPERSEDED,)]
    assert api.taken == {1: 1}
    life.pipeline.audit.flush()
    lines = (life.directory / "audit.jsonl").read_text().splitlines()
    told = [entry for line in lines if (entry := json.loads(line))["event"] == "RETRIED_DUPLICATE"]
    assert [entry["count"] for entry in told] == [1]


async def test_two_letters_of_one_event_are_one_event(tmp_path: Path) -> None:
    """Its producer sent it again while the API was still away."""
    api = Switch()
    async with Receiver(api) as receiver, running(tmp_path, receiver, **ONE_TRY) as life:
        await give(life, 1)
        await give(life, 1)
        await give(life, 2)
        api.good = True
        work_on_letters(life)
        async with asyncio.timeout(DEADLINE_S):
            while life.rows("SELECT 1 FROM letters WHERE state <> 'delivered'"):
                ask_for(life)
                await asyncio.sleep(0.05)
        assert api.taken == {1: 1, 2: 1}
        assert (life.ledger.retried_delivered, life.ledger.retried_duplicate) == (2, 1)


async def test_the_others_of_a_request_that_may_have_been_taken_wait_for_a_person(tmp_path: Path) -> None:
    api = Switch()
    async with Receiver(api) as receiver, running(tmp_path, receiver, **ONE_TRY) as life:
        await give(life, 1, 2, 3)
        api.good = True
        await give(life, 2)
        await until_letters(life, "waiting", 3)
        work_on_letters(life)
        ask_for(life)
        await until_letters(life, "delivered", 1)
        assert api.taken == {2: 1}
        found = life.rows("SELECT state, due, obstacle FROM letters ORDER BY id")
        aside = ("waiting", None, letter_leases.MATES_SUPERSEDED)
        assert found == [aside, ("delivered", None, letter_leases.SUPERSEDED), aside]
        assert any("2 dead letters wait for a person" in warning for warning in life.warnings)
        life.warnings.clear()


async def test_while_a_letter_is_on_its_way_its_event_is_a_copy(tmp_path: Path) -> None:
    held, api = asyncio.Event(), Switch()

    async def hold(request: Request) -> Action:
        await held.wait()
        return Reply(422) if numbers_of(request) == [1] else Reply()

    async with Receiver(api) as receiver, running(tmp_path, receiver, **ONE_TRY) as life:
        await give(life, 1)
        await until_letters(life, "waiting", 1)
        receiver.script, count = hold, len(receiver.requests)
        work_on_letters(life)
        ask_for(life)
        await receiver.until(lambda _: len(receiver.requests) > count)
        copy = await life.take(event(1))
        assert (copy.accepted, copy.duplicates) == (0, 1), "it is safe as a letter, whatever comes of that"
        held.set()
        await until_letters(life, "waiting", 1)
        free = await life.take(event(1))
        assert (free.accepted, free.duplicates) == (1, 0), "the letter failed: its producer is heard again"
        await until_letters(life, "waiting", 2)


async def test_a_sink_that_lacks_an_event_gets_it_though_another_has_it(tmp_path: Path) -> None:
    """Its key is known all the time: that is no sign that it was accepted anew."""
    api = Switch()
    async with Receiver(api) as one, Receiver() as other:
        sinks = {"one": webhook(one), "other": webhook(other)}
        async with running(tmp_path, sinks=sinks, **ONE_TRY) as life:
            await give(life, 1)
            await until_letters(life, "waiting", 1)
            api.good = True
            work_on_letters(life)
            ask_for(life)
            await until_letters(life, "delivered", 1)
            assert (api.taken, life.ledger.retried_delivered) == ({1: 1}, 1)


async def test_an_event_that_all_sinks_gave_up_and_that_was_accepted_anew_is_sent_to_each_once(
    tmp_path: Path,
) -> None:
    first, second = Switch(), Switch()
    async with Receiver(first) as one, Receiver(second) as other:
        sinks = {"one": webhook(one), "other": webhook(other)}
        async with running(tmp_path, sinks=sinks, **ONE_TRY) as life:
            await give(life, 1)
            await until_letters(life, "waiting", 2)
            first.good = second.good = True
            await give(life, 1)
            work_on_letters(life)
            ask_for(life)
            await until_letters(life, "delivered", 2)
            assert first.taken == second.taken == {1: 1}


async def test_a_request_of_many_letters_is_marked_a_piece_at_a_time(tmp_path: Path) -> None:
    api = Switch()
    async with Receiver(api) as receiver, running(tmp_path, receiver, **ONE_TRY) as life:
        await give(life, *range(30))
        await until_letters(life, "waiting", 30)
        with LetterChanges.open(tmp_path) as changes:
            wished = [changes.request([number], now=5.0) for number in (1, 2, 3)]
        assert [(one.marked, one.chosen) for one in wished] == [(30, 1), (0, 1), (0, 1)]
        assert len(sent(receiver)) == 30


@each("at_once", [True, False])
async def test_an_event_that_all_sinks_gave_up_goes_to_each_again(tmp_path: Path, *, at_once: bool) -> None:
    """That one has it, and its key is known by that, is no sign that it was accepted anew."""
    first, second = Switch(), Switch()
    async with Receiver(first) as one, Receiver(second) as other:
        sinks = {"one": webhook(one), "other": webhook(other)}
        async with running(tmp_path, sinks=sinks, **ONE_TRY) as life:
            await give(life, 1, 2)
            await give(life, 2)  # its producer was told, too
            first.good, second.good = True, at_once
            work_on_letters(life)
            ask_for(life)
            if not at_once:
                await until_letters(life, "delivered", 2)
                second.good = True
            async with asyncio.timeout(DEADLINE_S):
                while life.rows("SELECT 1 FROM letters WHERE state <> 'delivered'"):
                    ask_for(life)
                    await asyncio.sleep(0.05)
            assert first.taken == second.taken == {1: 1, 2: 1}
            assert (life.ledger.retried_delivered, life.ledger.retried_duplicate) == (4, 2)


async def test_of_two_letters_of_one_event_the_one_that_the_sink_lacks_is_sent(tmp_path: Path) -> None:
    """The first is of an event that no sink had, the second of the same, accepted anew, that the other sink
    has since: they go out in one request."""
    first, second = Switch(), Switch()
    async with Receiver(first) as one, Receiver(second) as other:
        sinks = {"one": webhook(one), "other": webhook(other)}
        async with running(tmp_path, clock=QuickWall(), sinks=sinks, **ONE_TRY) as life:
            await give(life, 1)
            first.good = True
            await give(life, 1)
            await until_letters(life, "waiting", 3)
            life.pipeline.database.note(
                lambda c: c.execute("UPDATE single_letters SET ambiguous = 0, due = 10 - id")
            )
            second.good = True
            work_on_letters(life)
            await until_letters(life, "delivered", 3)
            assert first.taken == second.taken == {1: 1}


async def test_a_letter_knows_its_producer_also_after_a_restart_without_a_trail(tmp_path: Path) -> None:
    off = ONE_TRY | {"trail": {"max_age": 0}, "ingest": {"keep_rejected": True}}
    async with Receiver(lambda request: Reply(422)) as receiver:
        async with running(tmp_path, receiver, deliver=False, **off) as life:
            both = [
                life.submit(event(n), event(n + 10), producer=name) for n, name in ((1, "shop"), (2, "till"))
            ]
            await asyncio.gather(*both)
            await life.take(b'{"no":"event"}', producer="crm")
        async with running(tmp_path, receiver, **off) as life:
            await until_letters(life, "waiting", 5)
            found = life.rows("SELECT producer, CAST(payload AS TEXT) FROM letters")
    told = {name: sorted(re.findall(r"i-(\d+)", text) or ["none"]) for name, text in sorted(found)}
    assert sorted((name, text.count("i-")) for name, text in found) == [
        ("crm", 0), ("shop", 1), ("shop", 1), ("till", 1), ("till", 1)
    ], told  # fmt: skip
    assert {name for name, text in found if re.search('"i-1?1"', text)} == {"shop"}


async def test_a_parked_letter_is_not_sent_by_itself_and_takes_its_request_along(tmp_path: Path) -> None:
    switch = Switch()
    async with (
        Receiver(switch) as receiver,
        running(tmp_path, receiver, clock=QuickWall(), **ONE_TRY) as life,
    ):
        await give(life, 1, 2)
        await give(life, 3)
        await until_letters(life, "waiting", 3)
        with LetterChanges.open(life.directory) as changes:
            parked = changes.park(Filter(ids=(1,)), now=life.pipeline.clock.wall())
        assert parked == 2, "a request that may have been taken goes whole, or not at all"
        switch.good = True
        work_on_letters(life)
        await until_letters(life, "delivered", 1)
        assert dict(switch.taken) == {3: 1}
        assert life.rows("SELECT id FROM letters WHERE due IS NULL AND state = 'waiting'") == [(1,), (2,)]
        ask_for(life)
        await until_letters(life, "delivered", 3)
        assert dict(switch.taken) == {1: 1, 2: 1, 3: 1}


@each("forgotten", [False, True])
async def test_a_letter_is_sent_where_its_event_came_again_while_its_sink_was_out(
    tmp_path: Path, *, forgotten: bool
) -> None:
    """Also where that sink was there, and what waited for it was given up."""
    api, away = Switch(), Switch()
    async with Receiver(api) as one, Receiver(away) as other:
        alone = {"one": webhook(one)}
        both = alone | {"other": webhook(other)}
        async with running(tmp_path, sinks=both, **ONE_TRY) as life:
            await give(life, 1)
            await life.pipeline.journal.commit()
            assert life.rows("SELECT sink FROM letters WHERE key_released ORDER BY sink") == [
                ("one",),
                ("other",),
            ]
        api.good = True
        if forgotten:
            async with running(tmp_path, sinks=both, deliver=False, **ONE_TRY) as life:
                assert (await life.take(event(1))).accepted == 1
            with closing(sqlite3.connect(tmp_path / "state.db")) as connection, connection:
                assert forget_sink(connection, "other")
        async with running(tmp_path, sinks=alone, **ONE_TRY) as life:
            if not forgotten:
                assert (await give(life, 1)).accepted == 1
            await life.until_empty()
        away.good = True
        async with running(tmp_path, sinks=both, **ONE_TRY) as life:
            work_on_letters(life)
            ask_for(life)
            await until_letters(life, "delivered", 2)
            assert (life.sink("one").retried_duplicate, life.sink("other").retried_delivered) == (1, 1)
    assert api.taken == away.taken == {1: 1}
