"""Another number of partitions: an edge that did not hear of it, and one that is not finished."""

import random
from pathlib import Path

import pytest

from ingestd.cluster import installation, provisioning
from ingestd.cluster.link import JetStreamLink
from ingestd.cluster.names import StreamNames
from ingestd.config import Settings
from ingestd.core.clock import SystemClock
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.nats.connection import NatsConnection
from tests.event_api import events
from tests.machine import patience, patience_of_test
from tests.nats_server import nats_server
from tests.process.cli.run_support import post
from tests.process.cluster.support import stream_client
from tests.process.cluster.test_cluster import StrictApi, one_sink, settled, until

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(patience_of_test(120))]


async def test_an_edge_that_did_not_hear_of_other_partitions_learns_it_from_the_server(
    tmp_path: Path,
) -> None:
    with nats_server(tmp_path) as server:
        settings = Settings.model_validate({"spool": {"kind": "nats", "servers": [server.url], "name": "t"}})
        names, clock = StreamNames("t"), SystemClock()
        connection = NatsConnection(settings.spool, clock, lambda: None)
        await connection.open()
        await provisioning.create(connection, settings, random.Random(1))
        found = await installation.load(connection, settings)
        link = JetStreamLink(settings.spool, clock, random.Random(1), lambda words: None)
        await link.open()
        link.expected = names, found  # it does not follow
        new = await installation.begin_generation(connection, names, found, 2)
        await provisioning.fence(connection, names, new)
        assert await provisioning.is_fenced(connection, names, new)
        late = (names.partition(0), b"late", {"Nats-Msg-Id": "1"})
        in_time = (names.partition(new.first), b"new", {"Nats-Msg-Id": "2"})
        refused, stored = await link.append_all([late, in_time], within_s=0.3)
        assert isinstance(refused, BrokerAway)
        assert "no responders" in str(refused)
        assert link.expected == (names, new)
        (again,) = await link.append_all([in_time], within_s=5.0)
        assert again == {**stored, "duplicate": True}
        await link.close()
        await connection.close()


async def test_a_sink_with_one_owner_reads_old_and_new_partitions_in_the_order_of_the_stream(
    tmp_path: Path,
) -> None:
    async with (
        StrictApi() as api,
        one_sink(tmp_path, api, "requests_per_minute = 60000", partitions=3) as cluster,
        cluster.start("--edge") as edge,
    ):
        for first, partitions in ((0, "1"), (40, "4"), (80, "2")):
            assert (await post(edge.ingest_port, events(40, first=first))).status == 202
            code, out, err = await cluster.command("spool", "resize", partitions)
            assert (code, "no worker is there: what is in the old" in out) == (0, True), err
        assert (await post(edge.ingest_port, events(40))).status == 202  # copies
        async with cluster.start("--worker") as worker:
            await until(lambda: len(api.taken) == 120)
            sink = await settled(cluster)
            assert (sink["accepted"], sink["delivered"], sink["duplicate"]) == (160, 120, 40)
            assert [sorted(api.taken[at : at + 40]) for at in (0, 40, 80)] == [
                sorted(events(40, first=at)) for at in (0, 40, 80)
            ]
            await worker.stop()
        await edge.stop()


async def test_workers_finish_a_change_that_was_begun_and_old_events_go_first(tmp_path: Path) -> None:
    """As if `resize` was killed in between; and what is drained leaves nothing in the stream."""
    async with (
        StrictApi() as api,
        one_sink(tmp_path, api, partitions=2) as cluster,
        cluster.start("--edge") as edge,
    ):
        assert (await post(edge.ingest_port, events(40))).status == 202
        settings = Settings.model_validate(
            {"spool": {"kind": "nats", "servers": [cluster.nats.url], "name": "t"}}
        )
        connection = NatsConnection(settings.spool, SystemClock(), lambda: None)
        await connection.open()
        found = await installation.read_installation(connection, StreamNames("t"))
        assert found
        new = await installation.begin_generation(connection, StreamNames("t"), found, 3)
        await connection.close()
        await edge.said("has 3 partitions now")
        assert (await post(edge.ingest_port, events(40, first=40))).status == 202
        async with cluster.start("--worker") as worker:
            await until(lambda: len(api.taken) == 80)
            assert sorted(api.taken[:40]) == sorted(events(40))
            sink = await settled(cluster)
            assert (sink["accepted"], sink["delivered"]) == (80, 80)
            shares = (await cluster.json("workers"))["shares"]
            assert {one["partition"] for one in shares} == {str(number) for number in new.generations[-1]}

            async def nothing_is_left() -> bool:
                return int((await cluster.json("spool", "stat"))["chunks"]) == 0

            await until(nothing_is_left)
            async with stream_client(cluster.nats.url) as client:
                subjects = (
                    await client.jetstream(timeout=patience(5)).stream_info("t-events")
                ).config.subjects
                assert subjects == [f"ingestd.t.e.{number}" for number in new.generations[-1]]
            await worker.stop()
        await edge.stop()
