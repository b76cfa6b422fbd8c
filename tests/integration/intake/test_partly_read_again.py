"""A file is read again for one of its sinks alone: that this one has an event says nothing of the dead letter
that the other, which does not get it again, has of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from ingestd.store.dead_letters import Filter
from ingestd.store.letter_changes import LetterChanges
from tests.each import each
from tests.integration.intake.replay_support import Place, SmallPlace, rows, sink, until, write
from tests.integration.intake.support import event, numbers_of, sent
from tests.receiver import Action, Hang, Receiver, Reply, Request

pytestmark = pytest.mark.anyio

COUNT, REFUSED = 24, [12, 13, 14]
FREE = "SELECT count(*) FROM letters WHERE key_released"
SECTIONS: dict[str, dict[str, Any]] = {"letters": {"poll_interval": 0.01}}


def script(request: Request) -> Action:
    """The first request hangs, so that the file's position stays before it."""
    numbers = numbers_of(request)
    if 0 in numbers:
        return Hang()
    errors = [{"index": numbers.index(one), "message": "no such queue"} for one in numbers if one in REFUSED]
    return Reply(422, body=json.dumps({"errors": errors}).encode()) if errors else Reply()


def take_all(_: Request) -> Action:
    return Reply()


def ask_for_letters(place: Place) -> None:
    """A person wants all of them sent."""
    with LetterChanges.open(place.directory) as changes:
        found = [letter.id for piece in changes.pages(Filter(), 0.0) for letter in piece]
        assert changes.request(found, now=1.0).marked == len(REFUSED)


@each("as_one", [True, False])
@each("killed", [True, False])
async def test_a_letter_is_sent_though_its_event_was_read_again_for_the_other_sink(
    tmp_path: Path, *, as_one: bool, killed: bool
) -> None:
    """Its sink was alone when it refused it, so that the key was free."""
    source = write(tmp_path / "in.ndjson", [event(number) for number in range(COUNT)])
    size = 3 if as_one else 1
    options = {"max_events": size}
    async with Receiver(script) as one, Receiver() as other:
        alone = {"one": sink(one, **options)}
        place = SmallPlace(tmp_path / "0", alone, SECTIONS)
        async with place.running(source) as life:
            ledger = life.replay.pipeline.runners[0].ledger
            await until(lambda: ledger.dead_lettered + ledger.delivered == COUNT - size)
            await life.replay.pipeline.journal.commit()
            place = await life.crash(tmp_path / "1")
        assert rows(place.directory, FREE) == [(len(REFUSED),)]

        place.sinks = alone | {"other": sink(other, **options)}
        if killed:  # when the other has it, and the first request hangs still
            async with place.running(source) as life:
                ledger = life.replay.pipeline.runners[1].ledger
                await until(lambda: ledger.delivered == len(REFUSED) + size)
                await life.replay.pipeline.journal.commit()
                place = await life.crash(tmp_path / "2")
            assert rows(place.directory, FREE) == [(0,)], "it is on disk together with the keys"
        one.script = take_all
        if not killed:
            await place.run(source)
        assert sorted(set(sent(other)) & set(REFUSED)) == REFUSED
        before = len(one.requests)
        ask_for_letters(place)
        report = await place.run(source)
        assert report["retried_delivered"] == len(REFUSED)
        again = [number for request in one.requests[before:] for number in numbers_of(request)]
        assert sorted(set(again) & set(REFUSED)) == REFUSED
        assert all(again.count(number) == 1 for number in REFUSED)
    assert rows(place.directory, "SELECT DISTINCT state, obstacle FROM letters") == [("delivered", "")]
