"""Lakes in a replay: every event once over all files, and a lake that is out of order costs nothing."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.integration.intake.replay_support import SmallPlace, assert_once, sink
from tests.integration.intake.support import event, sent
from tests.integration.lake.support import events_in
from tests.machine import patience
from tests.receiver import Receiver

pytestmark = pytest.mark.anyio

COUNT = 150


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
        assert report["seconds"] < patience(5)
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
