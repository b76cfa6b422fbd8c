"""A replay that is killed: a copy that stands near its original is never an event of its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.integration.intake.replay_support import (
    Place,
    SmallPlace,
    assert_once,
    keys_by_event,
    rows,
    until,
    write,
)
from tests.integration.intake.support import event, numbers_of
from tests.receiver import Action, Hang, Receiver, Reply, Request

pytestmark = pytest.mark.anyio


async def killed_with(
    place: Place, source: Path, held: Sequence[int], *, requests: int, image: Path, delivered: int = 0
) -> tuple[Place, Receiver]:
    """After a life that was killed when so many requests had come and events were ``delivered``; requests
    with an event of ``held`` hang."""

    async def answer(request: Request) -> Action:
        return Hang() if set(held) & set(numbers_of(request)) else Reply()

    async with Receiver(answer) as receiver:
        place.sinks["api"]["url"] = receiver.url  # type: ignore[index]
        async with place.running(source) as running:
            assert not await running.over_before(receiver, requests=requests)
            await until(lambda: running.replay.pipeline.ledger.delivered >= delivered)
            await running.replay.pipeline.journal.commit()
            return await running.crash(image), receiver


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return SmallPlace(tmp_path / "state", {"api": {"type": "ingest_api"}})


async def again(place: Place, source: Path, before: Receiver) -> tuple[dict[str, Any], Receiver]:
    """A life with nothing in its way; its receiver has also what came before."""
    async with Receiver() as receiver:
        place.sinks["api"]["url"] = receiver.url  # type: ignore[index]
        report = await place.run(source)
        receiver.requests[:0] = before.requests
        return report, receiver


async def test_a_copy_in_an_earlier_chunk_than_the_end_of_its_batch_waits_for_it(
    tmp_path: Path, place: Place
) -> None:
    source = write(tmp_path / "in.ndjson", [event(0), event(0), *(event(n) for n in range(1, 40))])
    place, receiver = await killed_with(place, source, range(20), requests=2, image=tmp_path / "image")
    report, receiver = await again(place, source, receiver)
    assert_once(receiver, range(40))
    assert (report["delivered"], report["duplicate"]) == (40, 1)


async def test_many_copies_of_what_is_still_to_be_read_do_not_stop_the_reading(
    tmp_path: Path, place: Place
) -> None:
    source = write(tmp_path / "in.ndjson", [event(0)] * 30 + [event(n) for n in range(1, 40)])
    place, receiver = await killed_with(place, source, [0], requests=1, image=tmp_path / "image")
    place.bounds = replace(place.bounds, copy_bytes=500)
    report, receiver = await again(place, source, receiver)
    assert_once(receiver, range(40))
    assert (report["in_flight"], report["duplicate"]) == (0, 29)


async def test_a_copy_takes_the_place_of_an_event_that_was_changed_meanwhile(
    tmp_path: Path, place: Place
) -> None:
    """No request has it any more: a copy that waited for it for ever would be lost."""
    lines = [*(event(n) for n in range(10, 48)), event(49), event(49), *(event(n) for n in range(50, 80))]
    source = write(tmp_path / "in.ndjson", lines)
    place, receiver = await killed_with(place, source, [49], requests=4, image=tmp_path / "image")
    write(source, [*lines[:38], event(48), *lines[39:]])
    report, receiver = await again(place, source, receiver)
    assert sorted(keys_by_event(receiver)) == list(range(10, 80))
    assert (report["in_flight"], report["exit_code"]) == (0, 0)
    assert len([w for w in place.warnings if "sent again as they were" in w]) == 1, place.warnings


async def test_a_copy_is_sent_where_the_batch_it_waited_for_is_gone(tmp_path: Path, place: Place) -> None:
    lines = [event(0), *(event(n, pad=200) for n in range(1, 10)), *(event(n) for n in range(10, 50))]
    source = write(tmp_path / "in.ndjson", [*lines, event(45)])
    place, receiver = await killed_with(place, source, [0, 45], requests=5, image=tmp_path / "image")
    write(source, [event(0), event(45), *lines[1:10]])  # the batch's chunks are no more
    report, receiver = await again(place, source, receiver)
    found = keys_by_event(receiver)
    assert len(found[45]) >= 1
    assert (report["in_flight"], report["exit_code"]) == (0, 0)


@pytest.mark.parametrize("late", [False, True], ids=["at once", "when the window has forgotten"])
async def test_what_was_found_to_be_a_copy_or_no_event_is_not_judged_again(
    tmp_path: Path, place: Place, late: bool
) -> None:
    """The first event holds the checkpoint back; all else has had its end."""
    lines = [event(n) for n in range(60)]
    lines[30:30] = [event(20), event(1, eventTime="bad"), event(0)]
    source = write(tmp_path / "in.ndjson", [*lines, event(50)])
    image = tmp_path / "image"
    place, receiver = await killed_with(place, source, [0], requests=6, image=image, delivered=50)
    if late:
        place.sections = {"window": {"max_age": 0}}
    report, receiver = await again(place, source, receiver)
    assert_once(receiver, range(60))
    assert rows(place.directory, "SELECT line FROM letters") == [(32,)]
    assert rows(place.directory, "SELECT * FROM batches") == []
    assert report["rejected"] == 0
