"""What every source owes the intake: a topic of a real Kafka broker keeps it, too."""

import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ingestd.core.chunk import Chunk
from ingestd.core.clock import SystemClock
from ingestd.core.receipt import Receipt
from ingestd.sources.kafka.settings import KafkaConfig
from ingestd.sources.kafka.source import KafkaSource
from ingestd.sources.source import Source
from tests.contract import test_sources as contract
from tests.kafka_server import KafkaServer, topic

pytestmark = pytest.mark.anyio


class Noted(KafkaSource):
    """Notes its chunks, as the journal does those of frozen batches."""

    noted: Path

    async def chunks(self) -> AsyncIterator[tuple[Chunk, Receipt]]:
        async for chunk, receipt in super().chunks():
            known = [*json.loads(self.noted.read_text()), (chunk.start, chunk.end, chunk.last_mark)]
            self.noted.write_text(json.dumps(known))
            yield chunk, receipt


async def test_it_keeps_the_contract_of_sources(tmp_path: Path, shared_kafka: KafkaServer) -> None:
    @asynccontextmanager
    async def opened(directory: Path) -> AsyncIterator[Source]:
        cuts, name = directory / "cuts.json", f"contract-{directory.name}"
        if not cuts.exists():
            topic(shared_kafka, name=name).produce(*contract.EVENTS)
            cuts.write_text("[]")
        table = {"bootstrap_servers": shared_kafka.bootstrap, "topics": name, "group": name}
        async with contract.journal(directory) as kept:
            source = Noted(
                "events",
                KafkaConfig.model_validate(table),
                kept,
                cuts=lambda number: [(start, end, mark) for start, end, mark in json.loads(cuts.read_text())],
                clock=SystemClock(),
                rng=random.Random(0),
                warn=lambda text: None,
                chunk_messages=7,
            )
            source.noted = cuts
            await source.open()
            try:
                yield source
            finally:
                await source.close()

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
        await test(tmp_path=directory, opened=opened)
