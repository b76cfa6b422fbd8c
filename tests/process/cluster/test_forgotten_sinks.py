"""A sink that nobody waits for any more, in real streams."""

import asyncio
from pathlib import Path

import pytest
from anyio import to_thread

from ingestd.app.cluster.forget import forget
from ingestd.app.cluster.judgement import open_connection
from ingestd.app.cluster.spool import init
from ingestd.cluster.installation import known_sinks, read_entry, register_sinks
from ingestd.cluster.names import ALL, Share, StreamNames
from ingestd.config import Settings
from tests.nats_server import nats_server

pytestmark = pytest.mark.anyio
NAMES = StreamNames("t")


async def test_a_forgotten_sink_stays_forgotten_though_the_server_is_killed(tmp_path: Path) -> None:
    """Both workers found no entry, so each wrote one. Nobody is ever done with the chunks of a sink that is
    back without a worker."""
    with nats_server(tmp_path, jetstream='sync_interval: "always"') as server:
        settings = Settings.model_validate({"spool": {"kind": "nats", "servers": [server.url], "name": "t"}})
        await to_thread.run_sync(init, settings)
        async with open_connection(settings) as connection:
            mine = [Share("one", 0), Share("two", ALL)]
            await asyncio.gather(*[register_sinks(connection, NAMES, mine) for _ in range(2)])
            state = (await connection.ask(f"STREAM.INFO.{NAMES.state}"))["state"]
            assert state["last_seq"] - state["messages"] == 2, "each of them wrote both"
            await to_thread.run_sync(forget, settings, "two")
            assert await known_sinks(connection, NAMES) == {"one": False}
        server.kill()
        server.start()
        async with open_connection(settings) as connection:
            assert await known_sinks(connection, NAMES) == {"one": False}
            again = [Share("two", 0)]  # without its limit: it is a new sink
            assert await register_sinks(connection, NAMES, again) == {"one": False, "two": False}
            assert await read_entry(connection, NAMES, "sink.two") == b"each"
