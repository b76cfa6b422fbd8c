"""What every source owes the intake: a stream of a real NATS server keeps it, too."""

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ingestd.core.chunk import Chunk
from ingestd.core.clock import SystemClock
from ingestd.core.receipt import Receipt
from ingestd.sources.nats.settings import NatsConfig
from ingestd.sources.nats.source import NatsSource
from ingestd.sources.source import Source
from tests.contract import test_sources as contract
from tests.nats_server import nats_server, stream

pytestmark = pytest.mark.anyio


class Noted(NatsSource):
    """Notes its chunks, as the journal does those of frozen batches."""

    cuts: Path

    async def chunks(self) -> AsyncIterator[tuple[Chunk, Receipt]]:
        async for chunk, receipt in super().chunks():
            self.cuts.write_text(
                json.dumps([*json.loads(self.cuts.read_text()), (chunk.start, chunk.end, chunk.last_mark)])
            )
            yield chunk, receipt


@asynccontextmanager
async def nats_stream(directory: Path) -> AsyncIterator[Source]:
    """The server is started anew each time, with what it has on disk."""
    cuts = directory / "cuts.json"
    with nats_server(directory / "nats") as server:
        if not cuts.exists():
            async with stream(server.url, name="EVENTS") as made:
                for event in contract.EVENTS:
                    await made.publish(event)
            cuts.write_text("[]")
        async with contract.journal(directory) as kept:
            source = Noted(
                "events",
                NatsConfig(servers=[server.url], stream="EVENTS"),
                kept,
                cuts=lambda number: [(start, end, mark) for start, end, mark in json.loads(cuts.read_text())],
                clock=SystemClock(),
                rng=random.Random(0),
                warn=lambda text: None,
                chunk_messages=7,
            )
            source.cuts = cuts
            await source.open()
            try:
                yield source
            finally:
                await source.close()


async def test_it_keeps_the_contract_of_sources(tmp_path: Path) -> None:
    for number, test in enumerate(
        (
            contract.test_events_come_in_order_and_each_chunk_has_a_receipt_that_counts_them,
            contract.test_a_restart_goes_on_at_the_first_chunk_with_an_unresolved_event,
            contract.test_what_is_resolved_after_it_was_stopped_is_acknowledged,
            contract.test_stop_ends_it_also_while_it_waits_for_more,
        )
    ):
        directory = tmp_path / str(number)
        directory.mkdir()
        await test(tmp_path=directory, opened=nats_stream)
