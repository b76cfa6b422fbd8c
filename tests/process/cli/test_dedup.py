"""Copies of an event: never sent twice, and never the cause of a loss."""

import asyncio

import pytest

from tests.event_api import EventApi, assert_balanced, event, events, write
from tests.machine import patience
from tests.process.cli.support import Place
from tests.receiver import Reply, Request

pytestmark = pytest.mark.anyio


async def test_a_copy_of_a_delivered_event_is_a_duplicate_also_after_a_restart(place: Place) -> None:
    first = write(place / "first.ndjson", [*events(20), *events(5)])
    second = write(place / "second.ndjson", [*events(3), event(1, kind="answer")])
    async with EventApi() as api:
        assert (await place.run(*place.replay(api, first))).code == 0
        assert (place.report["delivered"], place.report["duplicate"]) == (20, 5)
        assert (await place.run(*place.replay(api, second))).code == 0
        assert (place.report["delivered"], place.report["duplicate"]) == (1, 3)
    assert api.events == [*events(20), event(1, kind="answer")]
    assert_balanced(place.report)


async def test_a_copy_shares_the_fate_of_an_original_that_is_on_its_way(place: Place) -> None:
    """Refused: both are dead letters, none is a duplicate of something that is nowhere."""
    original, copy = event(7), event(7, note="a copy: the key is the same")
    source = write(place / "in.ndjson", [*events(10), *events(200, first=100), copy])
    read_to_the_end = asyncio.Event()

    async def answer(request: Request) -> Reply:
        if original in request.body:
            await asyncio.wait_for(read_to_the_end.wait(), patience(20))
            return Reply(422, body=b'{"errors":[{"index":7,"message":"no such queue"}]}')
        return Reply()

    async with EventApi(answer) as api:
        words = place.replay(api, source, "--max-batch-events", 10, "--max-in-flight", 5)
        async with place.start(*words) as running:
            await api.until(lambda api: len(api.events) >= 205)
            read_to_the_end.set()
            done = await running.finish()
        assert done.code == 3, done
        assert [letter["payload"] for letter in place.letters()] == [original, copy]
        assert_balanced(place.report)
        assert (place.report["dead_lettered"], place.report["duplicate"]) == (2, 0)
        assert copy not in api.events

        again = write(place / "again.ndjson", [original])  # the key is free again
        assert (await place.run(*place.replay(api, again))).code == 3
        assert api.events[-1] == original


async def test_a_copy_of_an_original_that_gets_through_late_is_a_duplicate(place: Place) -> None:
    source = write(place / "in.ndjson", [*events(200), *events(10)])
    late = asyncio.Event()

    async def answer(request: Request) -> Reply:
        if event(0) in request.body:
            await asyncio.wait_for(late.wait(), patience(20))
        return Reply()

    async with (
        EventApi(answer) as api,
        place.start(*place.replay(api, source, "--max-batch-events", 10)) as running,
    ):
        await api.until(lambda api: len(api.events) == 200)
        late.set()
        done = await running.finish()
    assert done.code == 0
    assert sorted(api.events) == events(200)
    assert (place.report["delivered"], place.report["duplicate"]) == (200, 10)


@pytest.mark.parametrize("workers", [1, 2])
async def test_an_event_without_the_key_is_counted_once_though_its_line_or_another_is_cut_apart(
    place: Place, workers: int
) -> None:
    source = write(place / "in.ndjson", [*events(20), event(30) + event(31), b"nonsense"])
    async with EventApi() as api:
        words = place.replay(api, source, "--dedup-key", "attributes.order", "--workers", workers)
        assert (await place.run(*words)).code == 3
    (watch,) = place.report["keys"]
    assert (watch["events"], watch["without_key"]) == (22, 22)
