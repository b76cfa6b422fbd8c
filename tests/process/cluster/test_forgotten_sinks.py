"""A sink that nobody waits for any more, in real streams."""

from pathlib import Path

import pytest
from anyio import to_thread

from ingestd.app.cluster.forget import forget
from ingestd.app.cluster.judgement import open_connection
from ingestd.app.cluster.spool import init, stat_of
from ingestd.cluster.direct_read import last_message
from ingestd.cluster.names import ALL, Share, StreamNames
from ingestd.cluster.sink_registry import known_sinks, register_sinks
from ingestd.config import Settings
from tests.event_api import EventApi, events
from tests.nats_server import NatsServer, nats_server
from tests.process.cluster.in_process import Process, Spool, spool, until

pytestmark = pytest.mark.anyio
NAMES = StreamNames("t")


async def test_a_forgotten_sink_stays_forgotten_though_the_server_is_killed(tmp_path: Path) -> None:
    """Two workers that found no entry each wrote one. Nobody is ever done with the chunks of a sink that is
    back without a worker."""
    with nats_server(tmp_path, jetstream='sync_interval: "always"') as server:
        settings = Settings.model_validate({"spool": {"kind": "nats", "servers": [server.url], "name": "t"}})
        await to_thread.run_sync(init, settings)
        async with open_connection(settings) as connection:
            mine = [Share("one", 0), Share("two", ALL)]
            await register_sinks(connection, NAMES, mine)
            for sink, limit in (("one", b"each"), ("two", b"all")):  # as another worker that looked before
                await connection.append(NAMES.entry(f"sink.{sink}"), limit, {})
            await to_thread.run_sync(forget, settings, "two")
            assert await known_sinks(connection, NAMES) == {"one": False}
        server.kill()
        server.start()
        async with open_connection(settings) as connection:
            assert await known_sinks(connection, NAMES) == {"one": False}
            again = [Share("two", 0)]  # without its limit: it is a new sink
            assert await register_sinks(connection, NAMES, again) == {"one": False, "two": False}
            assert await last_message(connection, NAMES.state, NAMES.entry("sink.two")) == b"each"


@pytest.mark.parametrize("when", ["while a worker owns the share", "while nobody does"])
async def test_chunks_of_a_forgotten_sink_go_though_nothing_comes(shared_nats: NatsServer, when: str) -> None:
    """A full stream takes nothing: who waited for more to come before it frees some would wait for ever."""
    async with EventApi() as api, spool(shared_nats) as stream:
        await register_sinks(stream.connection, stream.names, [Share("two", 0)])
        async with stream.serving(api) as process:
            await process.take(events(3))
            await until(lambda: is_at_rest(stream, process))
            assert await stream.first_chunk() == 1
            if when == "while a worker owns the share":
                await to_thread.run_sync(forget, stream.settings(), "two")
                await until(lambda: stream.is_purged_to(2))
                return
        await to_thread.run_sync(forget, stream.settings(), "two")
        async with stream.serving(api):
            await until(lambda: stream.is_purged_to(2))


async def is_at_rest(stream: Spool, process: Process) -> bool:
    """One has all, which was noted, and the owner of its share has looked what can go."""
    sinks = {one["name"]: one for one in (await stat_of(stream.connection, stream.settings()))["sinks"]}
    has_looked = not process.owner.retention.is_due
    return sinks["one"]["delivered"] == 3 and not sinks["one"]["in_flight"] and has_looked


async def test_the_usual_sink_of_a_file_that_names_none_is_one_of_its_configuration(tmp_path: Path) -> None:
    """``spool stat`` said how to drop its events."""
    with nats_server(tmp_path) as server:
        settings = Settings.model_validate({"spool": {"kind": "nats", "servers": [server.url], "name": "t"}})
        await to_thread.run_sync(init, settings)
        async with open_connection(settings) as connection:
            await register_sinks(connection, NAMES, [Share("ingest_api", 0), Share("gone", 0)])
            sinks = (await stat_of(connection, settings))["sinks"]
        assert {one["name"]: one["configured"] for one in sinks} == {"gone": False, "ingest_api": True}
