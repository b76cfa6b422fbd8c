"""``ingestd dlq`` beside a process that has the state directory: it marks, and that process sends."""

import asyncio
import json
import sqlite3
from contextlib import closing

import pytest

from ingestd.store.connection import MARK_NAME, unpack_mark
from tests.event_api import EventApi, event, events, events_of, key, write
from tests.process.cli.run_support import Serving, producer, retry, serve
from tests.process.cli.support import Place, until
from tests.process.cli.test_dlq import fill, listed
from tests.receiver import Reply, Request

pytestmark = pytest.mark.anyio

FOR_A_PERSON = "UPDATE single_letters SET due = NULL"


def states(place: Place) -> dict[int, str]:
    return {letter["id"]: letter["state"] for letter in place.letters()}


async def until_delivered(place: Place, *numbers: int) -> None:
    await until(lambda: all(states(place)[number] == "delivered" for number in numbers))


def commits(place: Place) -> tuple[int, int]:
    """(in the database, in the mark beside it)."""
    with closing(sqlite3.connect(place.state / "state.db")) as connection:
        row: tuple[int] = connection.execute("SELECT value FROM meta WHERE name = 'commits'").fetchone()
    return row[0], unpack_mark((place.state / MARK_NAME).read_bytes())[0]


async def test_a_running_service_sends_what_is_marked_whatever_its_reason(place: Place) -> None:
    api = EventApi()
    async with api:
        await fill(place, api)
        frozen, count = api.batches[-1], len(api.batches)
        place.change_state(FOR_A_PERSON)
        async with serve(place, api) as service:
            trial = json.loads((await place.run(*place.dlq("retry", "--all", "--dry-run", "--json"))).out)
            assert (trial["selected"], trial["sent"]) == (6, 4)
            assert set(states(place).values()) == {"waiting"}

            done = await place.run(*place.dlq("retry", "--all", "--json"))
            told = json.loads(done.out)
            assert (done.code, told["marked"], sorted(told["invalid"])) == (3, 4, ["1", "2"])
            assert told["process"] == str(service.process.pid)
            await until_delivered(place, 3, 4, 5, 6)
            async with producer(service.ingest_port) as one:
                await one.give(events(3, first=500))
            await service.until_empty()
            assert (await service.stop()).code == 0
        sent = {key(request): events_of(request) for request in api.batches[count:]}
        assert sent[key(frozen)] == events(3, first=100), "the same request, under the same key"
        assert [event(3)] in sent.values()
        assert states(place) == {1: "waiting", 2: "waiting", **dict.fromkeys((3, 4, 5, 6), "delivered")}

        first, mark = commits(place)
        assert first == mark, "another's transactions are none of the service's"
        async with serve(place, api) as service:
            assert "lost its last" not in service.raw
            assert (await service.stop()).code == 0


async def test_a_letter_past_the_idempotency_window_goes_out_for_a_person_who_is_told(place: Place) -> None:
    api = EventApi()
    async with api:
        await fill(place, api)
        frozen, count = api.batches[-1], len(api.batches)
        place.change_state(f"{FOR_A_PERSON}, first_sent = first_sent - 100000 WHERE id > 3")
        async with serve(place, api) as service:
            done = await place.run(*place.dlq("retry", 5))
            pid = service.process.pid
            assert (done.code, done.err) == (0, ""), done
            marked, together, risky = done.out.splitlines()
            assert marked == f"3 letters marked; process {pid} sends them"
            assert together.startswith("2 letters of the same requests go along")
            assert risky.startswith("3 are of requests that may have been taken")
            await until_delivered(place, 4, 5, 6)
        (again,) = api.batches[count:]
        assert (key(again), again.body) == (key(frozen), frozen.body), "an API may know it for longer"


async def test_a_corrected_letter_is_stored_marked_and_sent(place: Place) -> None:
    (place / "corrected.json").write_bytes(event(77))
    api = EventApi()
    async with api:
        await fill(place, api)
        async with serve(place, api):
            still_bad = await place.run(*place.dlq("retry", 1, "--edit", "-"), given=b'{"still": "bad"}')
            assert (still_bad.code, "1: still not valid" in still_bad.out) == (3, True)
            done = await place.run(*place.dlq("retry", 1, "--edit", place / "corrected.json"))
            assert done.code == 0, done
            await until_delivered(place, 1)
        assert api.events.count(event(77)) == 1
    (letter,) = [letter for letter in place.letters() if letter["id"] == 1]
    assert (letter["payload"], letter["edited"]) == (event(77), 1)
    assert [entry["letter"] for entry in place.audit() if entry["event"] == "LETTER_EDITED"] == [1]


async def test_what_the_service_is_sending_is_neither_purged_nor_changed_nor_marked(place: Place) -> None:
    held = asyncio.Event()

    async def hold(request: Request) -> Reply:
        await held.wait()
        return Reply()

    (place / "corrected.json").write_bytes(event(77))
    api = EventApi()
    async with api:
        await fill(place, api)
        place.change_state(FOR_A_PERSON)
        api.ingest, count = hold, len(api.requests)
        async with serve(place, api) as service:
            pid = service.process.pid
            assert (await place.run(*place.dlq("retry", "--reason", "gave_up"))).code == 0
            await api.until(lambda api: len(api.requests) > count)

            again = await place.run(*place.dlq("retry", "--reason", "gave_up", "--json"))
            assert (again.code, json.loads(again.out)["marked"]) == (0, 0)
            changed = await place.run(*place.dlq("retry", 4, "--edit", place / "corrected.json"))
            assert (changed.code, len(changed.said)) == (2, 1)
            assert "dead letter 4 is being sent at this moment, and was not changed" in changed.err
            purged = await place.run(*place.dlq("purge", "--all", "--yes", "--json"))
            assert (purged.code, json.loads(purged.out)) == (0, {"purged": 3})
            assert states(place) == {4: "leased", 5: "leased", 6: "leased"}

            held.set()
            await until_delivered(place, 4, 5, 6)
            words = ("purge", "--state", "delivered", "--reason", "gave_up", "--yes", "--json")
            assert json.loads((await place.run(*place.dlq(*words))).out) == {"purged": 3}
            assert str(pid) in again.out
            await retry(lambda: shows_no_letters(service))
            assert (await service.stop()).code == 0
        assert events_of(api.batches[-1]) == events(3, first=100)
    assert place.letters() == []
    assert [entry["count"] for entry in place.audit() if entry["event"] == "LETTERS_PURGED"] == [3, 3]


async def shows_no_letters(service: Serving) -> bool:
    return not any((await service.status())["dead_letters"].values())


async def test_while_a_replay_runs_letters_can_be_read_marked_and_purged(place: Place) -> None:
    held = asyncio.Event()

    async def hold(request: Request) -> Reply:
        await held.wait()
        return Reply()

    api = EventApi()
    async with api:
        await fill(place, api)
        place.change_state(FOR_A_PERSON)
        api.ingest, count = hold, len(api.requests)
        third = write(place / "third.ndjson", events(3, first=200))
        patient = {"INGESTD_DELIVERY_STARTUP_TIMEOUT": "10m"}  # it has to outlast the commands beside it
        async with place.start(*place.replay(api, third), env=patient) as running:
            await api.until(lambda api: len(api.requests) > count)
            assert await listed(place) == [1, 2, 3, 4, 5, 6]
            marked = await place.run(*place.dlq("retry", 3))
            assert marked.out == f"1 letter marked; process {running.process.pid} sends them\n"
            purged = await place.run(*place.dlq("purge", "--reason", "gave_up", "--yes"))
            assert purged.code == 0, purged
            held.set()
            assert (await running.finish()).code == 0
        if states(place)[3] == "waiting":  # the replay ended before it looked: the next process sends it
            assert (await place.run(*place.replay(api, third))).code == 0
        assert states(place) == {1: "waiting", 2: "waiting", 3: "delivered"}


async def test_a_service_that_retries_nothing_by_itself_sends_what_a_person_asks_for(place: Place) -> None:
    off = {"INGESTD_LETTERS_RETRY": "false"}
    api = EventApi()
    async with api:
        await fill(place, api)
        before = len(place.letters())
        async with serve(place, api, env=off):
            asked = await place.run(*place.dlq("retry", 3), env=off)
            assert asked.code == 0, asked
            await until(lambda: states(place)[3] == "delivered")
    assert list(states(place).values()).count("delivered") == 1
    assert len(place.letters()) == before
