"""A batch of an earlier process whose row is damaged: the run goes on, and says so."""

from pathlib import Path

import pytest

from ingestd.store.database import Database
from tests.integration.intake.support import event
from tests.process.cli.sink_support import any_json, replay
from tests.process.cli.support import Place
from tests.receiver import Receiver

pytestmark = pytest.mark.anyio


async def test_a_damaged_batch_is_told_once_and_does_not_stop_a_replay(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.state.mkdir()
    database = Database(place.state)
    await database.open()
    await database.run(
        lambda c: c.execute(
            "INSERT INTO batches (id, frozen_at, events, body_digest, segments, kept, sink)"
            " VALUES ('b', 1, 2, x'', CAST(X'C3FF' AS TEXT), x'00', 'out')"
        )
    )
    await database.close()
    told = []
    async with Receiver() as api:
        sinks = {"out": {"type": "webhook", "url": api.url}}
        for _ in range(2):
            done = await replay(place, [event(1)], sinks, schema=any_json(place))
            told.append([words for words in done.warnings if "are damaged in the state file" in words])
    assert len(api.requests) == 1
    assert [len(words) for words in told] == [1, 0], told
    assert "events of standard input or a pipe are lost" in told[0][0]
