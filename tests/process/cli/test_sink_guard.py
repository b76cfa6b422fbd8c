"""Commands that are to reach an address which is refused."""

import socket
from pathlib import Path

import pytest

from tests.integration.app.test_sink_guard import sink
from tests.process.cli.support import Place
from tests.receiver import Receiver

pytestmark = pytest.mark.anyio


EVENT = (
    '{"eventType":"routing.interaction.queue","eventTime":"2026-01-01T10:00:00Z","interactionId":"int-001",'
    '"routingMetadata":{"queueId":"q","skill":"s","actionType":"QUEUE"},"schemaVersion":2}\n'
)


@pytest.fixture
def machine() -> str:
    """Our own name, where it leads to loopback: something that only a lookup can tell."""
    name = socket.gethostname()
    try:
        addresses = {info[4][0] for info in socket.getaddrinfo(name, 1, socket.AF_INET)}
    except OSError:
        addresses = set()
    if addresses != {"127.0.0.1"}:
        pytest.skip("the name of this machine does not lead to 127.0.0.1")
    return name


async def test_a_replay_sends_nothing_to_a_name_that_leads_inside(tmp_path: Path, machine: str) -> None:
    place = Place(tmp_path)
    (place / "events.jsonl").write_text(EVENT)
    async with Receiver() as receiver:
        url = f"http://{machine}:{receiver.port}/"
        (place / "c.toml").write_text(
            f"[delivery]\nstartup_timeout = '100ms'\n{sink('webhook', url, allow_private=False)}"
        )
        words = ("replay", place / "events.jsonl", "--config", place / "c.toml", "--state-dir", place.state)
        done = await place.run(*words)
        assert done.code == 4
        assert f"{machine} (127.0.0.1) is an internal address: refused" in done.err
        assert receiver.connections == 0


async def test_a_lake_does_not_call_back_inside(tmp_path: Path, machine: str) -> None:
    place = Place(tmp_path)
    (place / "events.jsonl").write_text(EVENT)
    async with Receiver() as api, Receiver() as hook:
        (place / "c.toml").write_text(
            f"[sinks.out]\ntype = 'webhook'\nurl = '{api.url}'\n"
            f"[sinks.it]\ntype = 'lake'\nurl = '{place / 'lake'}'\nallow_private = false\n"
            f"callback_url = 'http://{machine}:{hook.port}/'\n"
        )
        words = ("replay", place / "events.jsonl", "--config", place / "c.toml", "--state-dir", place.state)
        done = await place.run(*words)
        assert len(api.requests) == 1
        assert hook.connections == 0
    assert f"{machine} (127.0.0.1) is an internal address: refused" in done.err
