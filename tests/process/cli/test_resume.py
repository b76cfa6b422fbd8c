"""Running a replay again: it goes on where it was, and knows a file by more than its name."""

import signal

import pytest

from tests.event_api import INVALID, EventApi, assert_balanced, events, events_of, write
from tests.process.cli.support import Place
from tests.receiver import Reply, Request

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("name", ["in.ndjson", "in.gz"])
async def test_a_second_run_sends_nothing(place: Place, name: str) -> None:
    write(place / name, [*events(200), INVALID])
    async with EventApi() as api:
        first = await place.run(*place.replay(api, place / name))
        count = len(api.requests)
        second = await place.run(*place.replay(api, place / name))
    assert (first.code, second.code) == (3, 0)
    assert len(api.requests) == count
    assert (place.report["accepted"], place.report["requests"]) == (0, 0)
    assert len(place.letters()) == 1


async def test_lines_that_were_appended_are_sent(place: Place) -> None:
    source = write(place / "in.ndjson", events(200))
    async with EventApi() as api:
        await place.run(*place.replay(api, source))
        with source.open("ab") as file:
            file.write(b"\n".join(events(5, first=200)))
        done = await place.run(*place.replay(api, source))
    assert done.code == 0
    assert api.events == events(205)
    assert place.report["accepted"] == 5


async def test_from_start_sends_again_what_the_window_has_forgotten(place: Place) -> None:
    source = write(place / "in.ndjson", events(50))
    async with EventApi() as api:
        await place.run(*place.replay(api, source))
        known = await place.run(*place.replay(api, source, "--from-start"))
        assert known.code == 0
        assert (place.report["duplicate"], place.report["delivered"]) == (50, 0)
        assert_balanced(place.report)
        place.change_state("UPDATE window SET confirmed_at = confirmed_at - 601")
        await place.run(*place.replay(api, source, "--from-start"))
        assert (place.report["duplicate"], place.report["delivered"]) == (0, 50)
    assert api.events == events(50) * 2
    assert len(set(api.keys)) == 2


async def test_from_start_sends_all_also_after_a_run_that_ended_early(place: Place) -> None:
    """Batches behind the checkpoint that were delivered are no reason to pass over their events."""
    source = write(place / "in.ndjson", events(100))
    place.env = {"INGESTD_WINDOW_MAX_AGE": "0", "INGESTD_DELIVERY_STARTUP_TIMEOUT": "1s"}
    refuse_first = {"on": True}

    def answer(request: Request) -> Reply:
        broken = refuse_first["on"] and events(1)[0] in events_of(request)
        return Reply(403) if broken else Reply()

    async with EventApi(answer) as api:
        words = place.replay(api, source, "--max-batch-events", 10, "--max-in-flight", 4)
        async with place.start(*words) as running:
            await api.until(lambda api: len(api.requests) >= 5)
            running.send(signal.SIGINT)
            assert (await running.finish()).code == 130
        refuse_first["on"] = False
        before = len(api.batches)
        done = await place.run(*words, "--from-start")
    assert done.code == 0, done
    assert {one for r in api.batches[before:] for one in events_of(r)} == set(events(100))


async def test_a_renamed_file_keeps_its_checkpoint_and_another_does_not_inherit_it(place: Place) -> None:
    source = write(place / "in.ndjson", events(50))
    async with EventApi() as api:
        await place.run(*place.replay(api, source))
        source.rename(place / "old.ndjson")
        write(place / "in.ndjson", events(60, first=100))
        done = await place.run(*place.replay(api, place / "old.ndjson", source))
        assert done.code == 0
        assert place.report["accepted"] == 60
    assert api.events == events(50) + events(60, first=100)


async def test_a_file_written_anew_in_place_is_a_new_file(place: Place) -> None:
    source = write(place / "in.ndjson", events(50))
    async with EventApi() as api:
        await place.run(*place.replay(api, source))
        write(source, events(80, first=100))
        done = await place.run(*place.replay(api, source))
    assert done.code == 0
    assert api.events == events(50) + events(80, first=100)
