"""A worker that loses a share says why, and what it said of the sink's API ends with it."""

import re
import time
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest

from ingestd.app.cluster.judgement import open_connection
from ingestd.cluster.names import Share
from tests.event_api import EventApi, events, events_of
from tests.nats_server import NatsServer, nats_server
from tests.process.cluster.in_process import Process, Spool, spool, until
from tests.receiver import Reply, Request

pytestmark = pytest.mark.anyio


async def another_owner_writes(stream: Spool) -> None:
    """As one that has just taken the share over."""
    last = (await stream.records())[-1]
    record = msgspec.structs.replace(last, id="another", owner="another")
    data = msgspec.msgpack.encode(record)
    await stream.connection.append(stream.names.log(Share("one", 0)), data, {})


async def has_noted_all(stream: Spool, process: Process) -> bool:
    return process.owner.ledger.in_flight == 0 and bool(await stream.has_delivered())


async def test_why_a_share_is_let_go_of_is_told(
    shared_nats: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ingestd")
    async with EventApi() as api, spool(shared_nats) as stream, stream.serving(api) as process:
        await process.take(events(3))
        await until(lambda: has_noted_all(stream, process))
        await another_owner_writes(stream)
        await process.take(events(3, first=3))
        await stream.settled(accepted=6, delivered=6)
        assert "let go of one/0: another worker owns it now" in caplog.text


async def test_how_long_an_api_was_away_is_not_counted_from_an_outage_before_the_share_was_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It was back when the next owner of the share first tried it."""
    caplog.set_level("INFO", "ingestd")
    status, taken, bad = 200, list[bytes](), "one: sending fails and is retried"

    def answer(request: Request) -> Reply:
        if status == 200:
            taken.extend(events_of(request))
        return Reply(status)

    with nats_server(tmp_path, jetstream='sync_interval: "always"') as server:
        async with (
            AsyncExitStack() as stack,
            EventApi(answer) as api,
            spool(server) as stream,
            stream.serving(api) as process,
        ):
            status = 503
            await process.take(events(3))
            await until(lambda: bad in caplog.text)
            server.kill()
            await until(lambda: not process.has_share)
            status = 200
            server.start()
            stream.connection = await stack.enter_async_context(open_connection(stream.settings()))
            await until(lambda: len(taken) == 3)
            status, began = 503, time.monotonic()
            await until(lambda: process.service.link and process.service.link.connection)
            await process.take(events(3, first=3))
            await until(lambda: caplog.text.count(bad) == 2)
            status = 200
            await until(lambda: "answers again" in caplog.text.rpartition(bad)[2])
            most_s = time.monotonic() - began
            (count, unit), *_ = re.findall(
                r"answers again.* \(after ([\d.]+)(ms|s)", caplog.text.rpartition(bad)[2]
            )
            assert float(count) / (1000 if unit == "ms" else 1) <= most_s + 0.05  # it is rounded
