"""A broker that was away comes back while a service reads from it; a real one."""

from pathlib import Path

import pytest

from tests.event_api import EventApi, events
from tests.kafka_server import Topic
from tests.machine import patience, patience_of_test
from tests.process.cli.run_support import Told, serve
from tests.process.cli.support import Place
from tests.process.sources.kafka.support import kafka_server, topic
from tests.receiver import Reply

pytestmark = pytest.mark.anyio


@pytest.mark.timeout(patience_of_test(240))
async def test_a_broker_that_comes_back_ends_no_process_and_is_told_and_measured_again(
    tmp_path: Path,
) -> None:
    """Questions wait while it starts, as most of the time some do. No message comes then."""
    with kafka_server(tmp_path / "broker") as broker:
        made = topic(broker)
        made.produce(*events(10))
        place = Place(tmp_path / "one")
        place.directory.mkdir()
        (place / "ingestd.toml").write_text(
            f'[ingest.kafka]\nbootstrap_servers = "{made.bootstrap}"\ntopics = "{made.name}"\n'
        )
        async with EventApi() as api, serve(place, api, "--config", place / "ingestd.toml") as one:
            await api.until(lambda _: len(api.events) == 10, timeout_s=patience(20))
            for _ in range(2):
                broker.kill()
                await one.until(_is_away, timeout_s=patience(20))
                broker.start()
                await one.until(_is_there, timeout_s=patience(20))
            away = [line for line in one.log if "it is tried again" in line["message"]]
            assert len(away) == 2, one.raw
            api.ingest = lambda request: Reply(503)
            Topic(made.bootstrap, made.name).produce(*events(5000, first=10))
            await one.until(lambda told: told["sources"][0]["unacked"] > 0, timeout_s=patience(20))
            api.ingest = lambda request: Reply()
            await api.until(lambda _: len(set(api.events)) == 5010, timeout_s=patience(20))
            await one.stop()


def _is_away(told: Told) -> bool:
    return not told["sources"][0]["connected"]


def _is_there(told: Told) -> bool:
    return bool(told["sources"][0]["connected"])
