"""The service and the signals that end it: what was acknowledged is delivered, now or by the next start."""

import asyncio
import signal

import pytest

from tests.event_api import events, key, once_each
from tests.process.cli.run_support import (
    Keeper,
    Serving,
    numbers,
    post,
    producer,
    retry,
    serve,
    starting,
    words,
)
from tests.process.cli.support import Place, until
from tests.receiver import Hang, Reply

pytestmark = pytest.mark.anyio

SIGNALS = [signal.SIGTERM, signal.SIGINT]


async def _refuses_connections(serving: Serving) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", serving.ingest_port)
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        return False  # the listener was closed while this connection was in its queue
    writer.close()
    return False


async def assert_the_next_life_sends_again(place: Place, before: Keeper) -> None:
    """What was in flight goes as it was, and nothing of the 100 events is lost."""
    async with Keeper() as api, serve(place, api) as serving:
        await serving.until_empty()
    sent = {key(request): request.body for request in before.batches}
    assert sent.items() <= {key(request): request.body for _, request in api.taken}.items()
    assert sorted(numbers(api.kept)) == list(range(100))


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_signal_drains_and_the_next_start_delivers_what_was_left(
    place: Place, number: signal.Signals
) -> None:
    place.env = {"INGESTD_BATCH_MAX_EVENTS": "10", "INGESTD_DELIVERY_MAX_IN_FLIGHT": "2"}
    mine = events(1_000)
    async with Keeper() as api:
        async with serve(place, api) as serving, producer(serving.ingest_port) as one:
            api.open_gate.clear()
            for start in range(0, 1_000, 50):
                await one.give(mine[start : start + 50])
            await api.until(lambda api: api.in_flight == 2)
            serving.send(number)
            await retry(lambda: _refuses_connections(serving))
            assert any("service" in reason for reason in await serving.reasons())  # it lives
            api.fault = lambda _: Reply(503) if len(api.kept) >= 300 else None
            api.open_gate.set()
            done = await serving.finish()
            stopped = await serving.said("stopped")
        assert done.code == 0, done
        assert (stopped["delivered"], stopped["spooled_events"]) == (len(api.kept), 1_000 - len(api.kept))
        assert 300 <= len(api.kept) < 1_000
        api.fault = lambda _: None
        async with serve(place, api) as serving:
            assert (await serving.until_empty())["ledger"]["accepted"] == stopped["spooled_events"]
            await serving.stop()
    assert sorted(numbers(api.kept)) == list(range(1_000))
    once_each(api.batches)


async def test_who_is_connected_when_it_drains_is_told_to_come_back(place: Place) -> None:
    async with Keeper() as api, serve(place, api) as serving, producer(serving.ingest_port) as waiting:
        api.open_gate.clear()
        waiting.send(events(1)[0], query=b"?wait=delivered")
        await serving.until(lambda told: told["http"]["waiting_for_delivery"] == 1)
        async with producer(serving.ingest_port) as late:
            late.client.send(b"POST /v1/events HTTP/1.1\r\nHost: ingest\r\n")
            await serving.until(lambda told: told["http"]["connections"] == 2)
            serving.send(signal.SIGTERM)
            answer = await waiting.client.answer()  # at once, with what is known
            assert (answer.status, answer.closes) == (202, True)
            assert b'"pending":1' in answer.body
            late.client.send(b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n[]")
            answer = await late.client.answer()
            assert (answer.status, answer.closes) == (503, True)
            assert int(answer.headers["retry-after"]) >= 1
        api.open_gate.set()
        assert (await serving.finish()).code == 0
    assert numbers(api.kept) == [0]


async def test_an_api_that_hangs_does_not_keep_a_drain_beyond_its_timeout(place: Place) -> None:
    """How long that is: ``test_lane_shutdown.py``, by a clock."""
    env = {"INGESTD_DELIVERY_SHUTDOWN_TIMEOUT": "1s", "INGESTD_BATCH_MAX_EVENTS": "10"}
    async with (
        Keeper(lambda request: Hang()) as api,
        serve(place, api, env=env) as serving,
        producer(serving.ingest_port) as one,
    ):
        await one.give(events(100))
        await api.until(lambda api: api.in_flight == 5)
        serving.send(signal.SIGTERM)
        assert (await serving.finish()).code == 0
        assert (await serving.said("stopped"))["spooled_events"] == 100
    await assert_the_next_life_sends_again(place, api)


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_second_signal_ends_it_at_once_and_loses_nothing(
    place: Place, number: signal.Signals
) -> None:
    mine = events(100)
    env = {"INGESTD_DELIVERY_SHUTDOWN_TIMEOUT": "1h"}
    async with Keeper(lambda request: Hang()) as api:
        async with serve(place, api, env=env) as serving, producer(serving.ingest_port) as one:
            await one.give(mine)
            await api.until(lambda api: api.in_flight > 0)
            serving.send(number)
            await serving.said("shutting down")
            serving.send(number)
            done = await serving.finish()
        assert done.code == 130
    await assert_the_next_life_sends_again(place, api)


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_signal_during_the_start_drains_what_has_just_begun(
    place: Place, number: signal.Signals
) -> None:
    async with Keeper() as api:
        async with serve(place, "http://127.0.0.1:9") as serving, producer(serving.ingest_port) as one:
            await one.give(events(50))
            await serving.kill()
        async with starting(place, words(place, "http://127.0.0.1:9")) as early:
            await _has_locked(place, early)
            early.send(number)
            assert (await early.finish()).code == 0
        async with serve(place, api) as serving:
            await serving.until_empty()
    assert sorted(numbers(api.kept)) == list(range(50))


async def test_sigterm_at_any_moment_of_the_start_costs_nothing(place: Place) -> None:
    async with Keeper() as api:
        async with serve(place, "http://127.0.0.1:9") as serving, producer(serving.ingest_port) as one:
            await one.give(events(50))
            await serving.kill()
        for delay_s in (0.02, 0.1, 0.2, 0.3, 0.4):
            async with starting(place, words(place, "http://127.0.0.1:9")) as early:
                await asyncio.sleep(delay_s)  # not to wait for anything: any moment will do
                early.send(signal.SIGTERM)
                assert (await early.finish()).code in (0, -signal.SIGTERM)
        async with serve(place, api) as serving:
            await serving.until_empty()
    assert sorted(numbers(api.kept)) == list(range(50))


async def test_a_reload_during_the_start_is_made_after_it(place: Place) -> None:
    async with Keeper() as api, starting(place, words(place, api)) as early:
        await _has_locked(place, early)
        early.send(signal.SIGHUP)
        await early.listening()
        await early.said("the configuration was read again")
        assert (await post(early.ingest_port, events(1))).status == 202


async def _has_locked(place: Place, early: Serving) -> None:
    """Its state directory is its own, so it is in the middle of its start."""
    lock, holder = place.state / "lock", str(early.process.pid)
    await until(lambda: lock.exists() and lock.read_text() == holder)
