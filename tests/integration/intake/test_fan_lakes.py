"""Lakes in a replay: every event once over all files, and a lake that is out of order costs nothing."""

import asyncio
import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.integration.intake.replay_support import SmallPlace, assert_once, rows, sink
from tests.integration.intake.support import event, sent
from tests.integration.lake.support import events_in
from tests.receiver import Action, Receiver, Reply, Request

pytestmark = pytest.mark.anyio

COUNT = 150
ONES = {"interactionId": [{"prefix": "i-1"}]}
TWOS = {"interactionId": [{"prefix": "i-2"}]}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.ndjson"
    path.write_bytes(b"\n".join(event(number) for number in range(COUNT)))
    return path


def lake(folder: Path, **other: Any) -> dict[str, Any]:
    return {"type": "lake", "url": str(folder), "file_bytes": 4000, "partition": "date", **other}


def numbers_in(folder: Path) -> Counter[int]:
    """How often each event is in the files."""
    return Counter(int(json.loads(one)["interactionId"][2:]) for one in events_in(folder))


def of(first: str) -> set[int]:
    return {number for number in range(COUNT) if str(number).startswith(first)}


@pytest.mark.parametrize("several", [True, False])
async def test_after_kills_every_event_is_once_in_the_files(
    tmp_path: Path, source: Path, several: bool
) -> None:
    """The first event is held all the time, so that nothing is passed and all is read again and again."""
    rng = random.Random(5)
    held = asyncio.Event()
    with source.open("ab") as more:
        more.write(b"\n" + event(1, attributes={"a": "copy"}) + b"\n" + event(7, eventTime="bad"))

    async def answer(request: Request) -> Action:
        if b'"i-1"' in request.body:
            await held.wait()
        await asyncio.sleep(rng.uniform(0, 0.003))
        return Reply()

    async with Receiver(answer) as ones, Receiver(answer) as twos:
        sinks = {
            "ones": sink(ones, when=ONES, max_events=1),
            "all_of_it": lake(tmp_path / "all"),
            "some": lake(tmp_path / "some", when=TWOS),
            "got": lake(tmp_path / "got", of="ones"),
        }
        if several:
            sinks["twos"] = sink(twos, when=TWOS, max_events=3)
        place = SmallPlace(tmp_path / "0", sinks)
        for life in range(1, 4):
            async with place.running(source) as running:
                over = await running.over_before(ones, requests=len(ones.requests) + rng.randrange(2, 20))
                assert not over
                place = await running.crash(tmp_path / str(life))
        held.set()
        await place.run(source)
        assert_once(ones, of("1"))
    assert rows(place.directory, "SELECT reason FROM letters") == [("invalid",)]
    assert numbers_in(tmp_path / "all") == Counter(range(COUNT))
    assert numbers_in(tmp_path / "some") == Counter(of("2"))
    assert numbers_in(tmp_path / "got") == Counter(of("1"))


async def test_a_lake_that_cannot_be_written_fails_nothing_and_is_written_by_the_next_run(
    tmp_path: Path, source: Path
) -> None:
    folder = tmp_path / "lake"
    async with Receiver() as api:
        place = SmallPlace(
            tmp_path / "state",
            {"api": sink(api), "lake": lake(folder), "got": lake(tmp_path / "got", of="api")},
        )
        folder.write_bytes(b"in the way")
        report = await place.run(source)
        assert (report["exit_code"], report["delivered"]) == (0, COUNT)
        assert_once(api, range(COUNT))
        assert report["seconds"] < 5
        assert any("cannot be written, its events wait" in warning for warning in place.warnings)
        assert numbers_in(tmp_path / "got") == Counter(range(COUNT))

        folder.unlink()
        requests = len(api.requests)
        assert (await place.run(source))["exit_code"] == 0
        assert len(api.requests) == requests
    assert numbers_in(folder) == Counter(range(COUNT))


async def test_events_of_a_lost_sink_are_in_the_lake_once_although_they_are_read_twice(
    tmp_path: Path, source: Path
) -> None:
    async with Receiver() as well, Receiver() as late:
        place = SmallPlace(
            tmp_path / "state",
            {
                "well": sink(well),
                "late": sink(late) | {"url": "http://127.0.0.1:9"},
                "lake": lake(tmp_path / "lake"),
                "late_lake": lake(tmp_path / "late", of="late"),
            },
        )
        assert (await place.run(source))["exit_code"] == 4
        assert numbers_in(tmp_path / "lake") == Counter(range(COUNT))
        assert numbers_in(tmp_path / "late") == Counter()
        place.sinks = {**place.sinks, "late": sink(late)}
        assert (await place.run(source))["exit_code"] == 0
        assert sorted(sent(well)) == list(range(COUNT))
    assert numbers_in(tmp_path / "lake") == Counter(range(COUNT))
    assert numbers_in(tmp_path / "late") == Counter(range(COUNT))
