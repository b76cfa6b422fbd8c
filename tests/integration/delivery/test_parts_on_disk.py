"""With the real Book and its store: a request never leaves before what rebuilds it is on disk."""

import sqlite3
from pathlib import Path

import pytest

from ingestd.core.clock import SystemClock
from ingestd.core.ledger import Ledger
from ingestd.processing.dedup import Window
from ingestd.recording.event_recorder import EventRecorder
from ingestd.recording.sink_recorder import SinkRecorder
from ingestd.recording.unconfirmed_events import UnconfirmedEvents
from ingestd.store.database import Database
from ingestd.store.frozen_batches import body_digest
from ingestd.store.journal import Journal
from ingestd.telemetry.audit_entry import no_audit
from ingestd.telemetry.metrics import Metrics
from ingestd.telemetry.state_watch import StateWatch
from tests.integration.delivery.support import key_of, make_batch, numbers_of, refusal, rig
from tests.receiver import Action, Reply, Request

pytestmark = pytest.mark.anyio


async def test_every_batch_and_every_part_of_one_is_on_disk_with_its_bytes_when_its_request_arrives(
    tmp_path: Path,
) -> None:
    """Halves after a 413, what is left after a 422, what is retried after a 207."""

    def script(request: Request) -> Action:
        with sqlite3.connect(f"file:{tmp_path}/state.db?mode=ro", uri=True) as reader:
            found = reader.execute("SELECT body_digest FROM batches WHERE id = ?", (key_of(request),))
            on_disk.append(found.fetchone() == (body_digest(request.body),))
        reader.close()
        numbers = numbers_of(request)
        if len(numbers) > 4:
            return Reply(413)
        if 1 in numbers:
            return refusal(422, numbers.index(1))
        if len(numbers) > 1:
            return refusal(207, 0, retryable=True)
        return Reply()

    on_disk: list[bool] = []
    clock = SystemClock()
    database = Database(tmp_path)
    await database.open()
    try:
        ledger = Ledger()
        journal = Journal(database)
        book = EventRecorder(
            ledger=ledger,
            window=Window(b"s" * 32, max_count=1000, max_age_s=60),
            journal=journal,
            audit=no_audit,
            clock=clock,
            released=lambda digests, now: None,
            unconfirmed=UnconfirmedEvents(ledger, ["api"]),
        )
        sink_book = SinkRecorder(
            "api",
            book,
            journal=journal,
            audit=no_audit,
            metrics=Metrics(ledger),
            states=StateWatch(print, clock),
            waiting=lambda: "",
            clock=clock,
            warn=lambda _: None,
            learn=lambda max_bytes: None,
        )
        async with rig(script, book=sink_book, max_in_flight=1) as r:
            book.accepted(8)
            async with r.running():
                await r.feed([make_batch(range(8))])
            assert on_disk == [True] * len(r.posts)
            assert (ledger.delivered, ledger.dead_lettered, ledger.in_flight) == (7, 1, 0)
    finally:
        await database.close()
