"""Ctrl-C and SIGTERM: the first drains, the second ends at once, nothing is lost or doubled."""

import asyncio
import json
import os
import signal
import time

import pytest

from tests.event_api import EventApi, assert_balanced, event, events, events_of, key, once_each, write
from tests.machine import patience
from tests.process.cli.support import Place
from tests.receiver import Hang, Reply, Request

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


async def slow(request: Request) -> Reply:
    await asyncio.sleep(0.03)
    return Reply()


@BOTH
async def test_a_signal_drains_and_the_next_run_goes_on(place: Place, number: signal.Signals) -> None:
    given = events(2_000, note="n" * 4_000)  # in several chunks, also with the accelerator, whose are large
    source = write(place / "in.ndjson", given)
    async with EventApi(slow) as api:
        words = place.replay(api, source, "--max-batch-events", 20, "--max-in-flight", 3)
        async with place.start(*words) as running:
            await api.until(lambda api: len(api.requests) >= 8)
            running.send(number)
            done = await running.finish()
        assert done.code == 130
        assert "run the same command again" in done.out
        first = place.report
        assert_balanced(first)
        assert (first["interrupted"], first["exit_code"], first["in_flight"]) == (True, 130, 0)
        assert 0 < first["delivered"] < 2_000
        assert first["delivered"] == len(api.events)

        done = await place.run(*words)
    assert done.code == 0
    assert first["delivered"] + place.report["delivered"] == 2_000
    assert sorted(api.events) == given
    assert len(set(api.keys)) == len(api.keys)


@BOTH
async def test_a_second_signal_ends_at_once_and_loses_nothing(place: Place, number: signal.Signals) -> None:
    source = write(place / "in.ndjson", events(100))
    async with EventApi(lambda request: Hang()) as api:
        words = place.replay(api, source, "--max-batch-events", 10, "--max-in-flight", 3)
        async with place.start(*words) as running:
            await api.until(lambda api: len(api.requests) == 3)
            running.send(number)
            await asyncio.sleep(0.1)  # two signals of one kind that come together are one
            started = time.monotonic()
            running.send(number)
            done = await running.finish()
            assert time.monotonic() - started < patience(10)
        assert done.code == 130
        assert "forced shutdown" in done.err
        api.ingest = lambda request: Reply()
        done = await place.run(*words)
    assert done.code == 0, done
    found = once_each(api.batches)
    assert sorted(one for batch in found.values() for one in batch) == events(100)
    assert len(api.batches) == 13


async def test_a_drain_against_an_api_that_hangs_ends_within_its_timeout(place: Place) -> None:
    source = write(place / "in.ndjson", events(100))
    place.env = {"INGESTD_DELIVERY_SHUTDOWN_TIMEOUT": "1s"}
    async with EventApi(lambda request: Hang()) as api:
        words = place.replay(api, source, "--max-batch-events", 10, "--max-in-flight", 3)
        async with place.start(*words) as running:
            await api.until(lambda api: len(api.requests) == 3)
            started = time.monotonic()
            running.send(signal.SIGTERM)
            done = await running.finish()
            took = time.monotonic() - started
        assert (done.code, 0.9 < took < patience(5)) == (130, True), took
        assert_balanced(place.report)
        assert (place.report["delivered"], place.report["dead_lettered"]) == (0, 0)
        out = {key(request): events_of(request) for request in api.batches}
        api.ingest = lambda request: Reply()
        done = await place.run(*words)
        assert done.code == 0
    again = {key(request): events_of(request) for request in api.batches[3:]}
    assert out.items() <= again.items()
    assert sorted(one for batch in again.values() for one in batch) == events(100)


async def test_what_was_read_of_standard_input_is_delivered_or_kept(place: Place) -> None:
    """The letters of an interrupted run go out under the key that they may have been taken under."""
    place.env = {"INGESTD_DELIVERY_SHUTDOWN_TIMEOUT": "500ms"}
    read, give = os.pipe()
    async with EventApi(lambda request: Hang()) as api:
        words = place.replay(api, "-", "--max-batch-events", 10, "--max-in-flight", 3)
        async with place.start(*words, stdin=read) as running:
            os.close(read)
            os.write(give, b"".join(one + b"\n" for one in events(45)) + b'{"half": ')
            await api.until(lambda api: len(api.requests) == 3)
            running.send(signal.SIGINT)
            done = await running.finish()
        os.close(give)
        assert done.code == 130
        assert_balanced(place.report)
        assert place.report["dead_letters_by_reason"] == {"interrupted": 45}
        assert sorted(letter["payload"] for letter in place.letters()) == events(45)
        out = {key(request): request.body for request in api.batches}

        api.ingest = lambda request: Reply()
        retried = await place.run(*place.dlq("retry", "--all", "--json"))
        assert retried.code == 0, retried
        assert json.loads(retried.out)["delivered"] == 45
    again = {key(request): request.body for request in api.batches[3:]}
    assert out.items() <= again.items()
    assert sorted(one for r in api.batches[3:] for one in events_of(r)) == events(45)
    assert {letter["state"] for letter in place.letters()} == {"delivered"}


async def test_a_run_that_waits_for_a_silent_producer_can_be_ended(place: Place) -> None:
    read, give = os.pipe()
    async with EventApi() as api, place.start(*place.replay(api, "-"), stdin=read) as running:
        os.close(read)
        os.write(give, event(1) + b"\n")
        await api.until(lambda api: len(api.requests) == 1)
        running.send(signal.SIGINT)
        done = await running.finish()
        os.close(give)
    assert done.code == 130
    assert place.report["delivered"] == 1
