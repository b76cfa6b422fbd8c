"""Partitions that no member of a group of static members has any more; a real broker."""

import asyncio
from pathlib import Path

import pytest

from ingestd.app.outside import Outside
from ingestd.core.bounds import Bounds
from tests.event_api import EventApi, events
from tests.machine import patience, patience_of_test
from tests.process.cli.run_support import Told, serve
from tests.process.cli.support import Place
from tests.process.sources.kafka.support import KafkaServer, running, settings, topic, until
from tests.receiver import Reply, Request

pytestmark = pytest.mark.anyio

IMPATIENT = Outside(bounds=Bounds(unowned_s=0.5))
SESSION_S = 30
"""Who is killed is back before that."""


def has_two(told: Told) -> bool:
    return sum(one.get("partitions", 0) for one in told["sources"]) == 2


@pytest.mark.timeout(patience_of_test(120))
async def test_what_a_killed_member_was_giving_back_is_read_though_it_comes_again_as_the_member_that_it_was(
    tmp_path: Path, shared_kafka: KafkaServer
) -> None:
    """Nobody else asks the group for the second half of the rebalance."""
    gate = asyncio.Event()

    async def slow(request: Request) -> Reply:
        await gate.wait()
        return Reply()

    made = topic(shared_kafka, 4)
    for partition in range(4):
        made.produce(*events(10, first=10 * partition), partition=partition)
    place = Place(tmp_path / "one")
    place.directory.mkdir()
    (place / "ingestd.toml").write_text(
        f'[ingest.kafka]\nbootstrap_servers = "{made.bootstrap}"\ntopics = "{made.name}"\n'
        f'group = "{made.name}"\nsession_timeout = {SESSION_S}\n'
    )
    words = ("--config", place / "ingestd.toml")
    joins = {"session_timeout": SESSION_S}
    async with EventApi(slow) as api, EventApi() as other, serve(place, api, *words) as one:
        await api.until(lambda _: api.batches, timeout_s=patience(60))
        two_settings = settings(tmp_path / "two", other.url, made, joins, delivery={"shutdown_timeout": 0.5})
        async with running(two_settings, IMPATIENT) as two:
            await one.until(has_two, timeout_s=patience(60), balanced=False)
            await one.kill()
            async with serve(place, api, *words) as again:
                gate.set()
                counts = two.service.brokers.feeds[0].source.counts
                await until(lambda: counts.partitions == 2)
                await again.until(has_two, timeout_s=patience(60))
                await until(lambda: {*api.events, *other.events} == {*events(40)})
                await again.stop()
