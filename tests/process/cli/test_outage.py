"""An API that is down, refuses us, or refuses one batch: what becomes of the run and of the events."""

import time

import pytest

from tests.event_api import EventApi, assert_balanced, event, events, events_of, key, once_each, write
from tests.process.cli.support import Place
from tests.receiver import Reply, Request

pytestmark = pytest.mark.anyio

QUICK = {"INGESTD_DELIVERY_BACKOFF_BASE": "50ms", "INGESTD_DELIVERY_BACKOFF_CAP": "200ms"}


async def test_an_outage_longer_than_the_patience_for_a_batch_costs_no_event(place: Place) -> None:
    source = write(place / "in.ndjson", events(600))
    place.env = QUICK
    up: list[float] = []

    def answer(request: Request) -> Reply:
        if not up and len(api.batches) > 10:
            up.append(time.monotonic() + 3)
        return Reply(503) if up and up[0] > time.monotonic() else Reply()

    async with EventApi(answer) as api:
        done = await place.run(
            *place.replay(
                api, source, "--max-batch-events", 10, "--give-up-after", "1s", "--max-in-flight", 5
            )
        )
    assert done.code == 0, done
    assert api.batches[-1].at - api.batches[0].at > 3
    found = once_each(api.batches)
    assert sorted(one for batch in found.values() for one in batch) == events(600)
    assert len(found) == 60
    report = place.report
    assert_balanced(report)
    assert (report["delivered"], report["dead_lettered"]) == (600, 0)
    assert "sending fails and is retried, no events are lost" in done.err
    states = [entry["state"] for entry in place.audit() if entry["event"] == "LANE_CHANGED"]
    assert states == ["open", "closed"]


async def test_an_api_that_was_never_there_ends_the_run_with_4(place: Place) -> None:
    source = write(place / "in.ndjson", events(10))
    place.env = QUICK | {"INGESTD_DELIVERY_STARTUP_TIMEOUT": "1s"}
    async with EventApi() as gone:
        pass
    done = await place.run(*place.replay(gone, source))
    assert done.code == 4
    assert "has taken nothing for 1" in done.said[-1]
    assert "cannot connect" in done.said[-1]
    assert_balanced(place.report)
    assert (place.report["exit_code"], place.report["dead_lettered"]) == (4, 0)
    assert place.report["error"] in done.err
    async with EventApi() as api:
        done = await place.run(*place.replay(api, source))
    assert (done.code, api.events) == (0, events(10))


async def test_an_api_that_denies_access_from_the_start_ends_the_run_with_4(place: Place) -> None:
    source = write(place / "in.ndjson", events(10))
    place.env = QUICK | {"INGESTD_DELIVERY_STARTUP_TIMEOUT": "1s"}
    async with EventApi(lambda request: Reply(403)) as api:
        done = await place.run(*place.replay(api, source))
        assert done.code == 4, done
        assert "access is denied" in done.said[-1]
        assert place.letters() == []
        api.ingest = lambda request: Reply()
        done = await place.run(*place.replay(api, source))
    assert (done.code, place.report["delivered"]) == (0, 10)
    assert len(once_each(api.batches)) == 1


async def test_one_batch_that_never_gets_through_becomes_dead_letters_and_is_tried_again(
    place: Place,
) -> None:
    """In the next run, as soon as it is due: the same body under the same key."""
    source = write(place / "in.ndjson", events(300))
    poison = event(42)

    async def answer(request: Request) -> Reply:
        return Reply(500 if poison in events_of(request) else 200)

    async with EventApi(answer) as api:
        words = place.replay(api, source, "--max-batch-events", 10, "--give-up-after", "1s")
        done = await place.run(*words)
        assert done.code == 3, done
        report = place.report
        assert_balanced(report)
        assert (report["delivered"], report["dead_letters_by_reason"]) == (290, {"gave_up": 10})
        tried = [request for request in api.batches if poison in events_of(request)]
        assert len({(key(request), request.body) for request in tried}) == 1
        assert len(tried) >= 2

        api.ingest = lambda request: Reply()
        count = len(api.batches)
        done = await place.run(*words)
        assert (done.code, len(api.batches)) == (0, count)  # not due yet
        place.change_state("UPDATE single_letters SET due = due - 61")
        done = await place.run(*words)
        assert done.code == 0, done
        (again,) = api.batches[count:]
    assert (key(again), again.body) == (key(tried[0]), tried[0].body)
    assert place.report["retried_delivered"] == 10
    assert {letter["state"] for letter in place.letters()} == {"delivered"}
    audited = [entry for entry in place.audit() if entry["event"] == "RETRIED_DELIVERED"]
    assert [(entry["request_id"], entry["events"]) for entry in audited] == [(key(again), 10)]
