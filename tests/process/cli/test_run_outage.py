"""The API is down, or too slow: the spool grows to its cap, producers are told to wait, memory is flat."""

import asyncio

import pytest

from tests.event_api import event, once_each
from tests.process.cli.run_support import Keeper, Producer, numbers, producer, retry, serve
from tests.process.cli.support import Place
from tests.receiver import Cut

pytestmark = pytest.mark.anyio

MB = 1024 * 1024
EVENT_BYTES = 20_000
CAP_BYTES = 64 * MB
FLAT_BYTES = 44 * MB
"""16 MiB of events in memory, the lane's queue, and what the allocator keeps."""


def large(first: int, count: int = 40) -> list[bytes]:
    return [event(number, note="n" * EVENT_BYTES) for number in range(first, first + count)]


async def _post_until_told_to_wait(one: Producer) -> tuple[int, int]:
    """(events that were taken, seconds to wait)."""
    count = 0
    while True:
        answer = await one.post(large(count))
        if answer.status == 429:
            return count, int(answer.headers["retry-after"])
        assert answer.status == 202, answer
        count += 40


async def test_what_was_taken_while_the_api_was_down_arrives_when_it_is_back(place: Place) -> None:
    """It hangs, and then it cuts every connection."""
    place.env = {"INGESTD_SPOOL_MAX_BYTES": str(CAP_BYTES), "INGESTD_DELIVERY_MAX_IN_FLIGHT": "1"}
    async with Keeper() as api, serve(place, api) as serving, producer(serving.ingest_port) as one:
        api.open_gate.clear()
        at_first = serving.resident_bytes()
        count, wait_s = await _post_until_told_to_wait(one)
        held = await serving.status()
        assert CAP_BYTES - MB < held["spool"]["bytes"] <= CAP_BYTES
        assert (held["spool"]["events"], held["spool"]["reading_from_disk"]) == (count, True)
        assert 1 <= wait_s <= 300
        assert "spool: holds" in (await serving.reasons())[0]
        grown = serving.resident_bytes() - at_first
        assert grown < FLAT_BYTES, f"{grown} bytes more, with {held['spool']['bytes']} in the spool"
        assert (await one.post(large(count))).status == 429  # still: nothing left
        api.fault = lambda request: Cut("rst")
        api.open_gate.set()
        cut = await serving.until(lambda told: told["lanes"][0]["circuit"] == "open")
        assert cut["spool"]["events"] + cut["ledger"]["delivered"] >= count
        api.fault = lambda request: None
        await retry(lambda: _is_taken(one, count))  # the spool empties, and takes again
        await serving.until_empty()
        assert serving.resident_bytes() - at_first < FLAT_BYTES
    assert sorted(numbers(api.kept)) == list(range(count + 40))
    once_each([request for _, request in api.taken])


async def _takes(port: int, first: int) -> bool:
    async with producer(port) as one:
        return await _is_taken(one, first)


async def _is_taken(one: Producer, first: int) -> bool:
    answer = await one.post(large(first))
    assert answer.status in (202, 429), answer
    return answer.status == 202


async def test_a_receiver_that_is_slower_than_the_producers_costs_no_memory(place: Place) -> None:
    place.env = {"INGESTD_SPOOL_MAX_BYTES": str(8 * MB)}
    async with Keeper(most_s=0.04) as api, serve(place, api) as serving:
        at_first, most, told_to_wait = serving.resident_bytes(), 0, 0

        async def keep_posting(number: int) -> None:
            """On new connections: who is told to wait before the body is read loses his."""
            nonlocal most, told_to_wait
            for part in range(20):
                while not await _takes(serving.ingest_port, number * 10_000 + part * 40):
                    told_to_wait += 1
                    most = max(most, serving.resident_bytes())
                    await asyncio.sleep(0.02)  # less patience than asked for

        await asyncio.gather(*(keep_posting(number) for number in range(4)))
        done = await serving.until_empty()
    assert told_to_wait > 0
    assert most - at_first < FLAT_BYTES
    assert done["ledger"]["delivered"] == 4 * 20 * 40 == len(api.kept) == len(set(api.kept))


async def test_who_has_to_wait_is_told_and_so_is_the_admin_address(place: Place) -> None:
    place.env = {"INGESTD_SPOOL_MAX_BYTES": str(MB)}
    async with Keeper() as api, serve(place, api) as serving, producer(serving.ingest_port) as one:
        api.open_gate.clear()
        await one.give(large(0, 30))
        assert await serving.reasons() == []
        answer = await one.post(large(30, 30))  # more than there is room for, in a spool that has room
        assert (answer.status, answer.headers["content-type"]) == (429, "application/problem+json")
        assert await serving.reasons() == []
        await one.give(large(30, 21))
        assert (await one.post(large(51, 4))).status == 429
        held = (await serving.status())["spool"]["bytes"]
        full = f"holds {held} of {MB} bytes; {held} of them wait for ingest_api"
        assert await serving.reasons() == [f"spool: {full}"]
        assert b"most of them for ingest_api" in (await one.post(large(51, 4))).body
        said = await serving.said("spool: producers are told to wait")
        assert (said["condition"], said["state"]) == ("spool", "not ready")
        assert said["reason"].startswith("holds ")
        said = await serving.said("refused: 127.0.0.1: 429 the spool holds")
        assert (said["address"], said["status"], said["count"]) == ("127.0.0.1", 429, 1)
        assert (await serving.get("/healthz")).status == 200
        metrics = await serving.metrics()
        assert metrics["ingestd_intake_deferred_events_total", frozenset({("status", "429")})] == 38
        assert metrics["ingestd_spool_max_bytes", frozenset()] == MB
        assert metrics["ingestd_ready", frozenset()] == 0
        api.open_gate.set()
        await serving.until_empty()
        assert await serving.reasons() == []
        assert await serving.metric("ingestd_ready") == 1
        await serving.said("spool: producers are welcome again (after")
    assert sorted(numbers(api.kept)) == list(range(51))
