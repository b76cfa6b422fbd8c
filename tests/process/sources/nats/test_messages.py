"""A stream of a real NATS server, read by ``ingestd run``: acknowledged when settled."""

from pathlib import Path

import pytest

from tests.event_api import INVALID, EventApi, event, events
from tests.process.sources.nats.support import IN_TURN, NatsServer, letters, places, running, settings, stream
from tests.receiver import Reply

pytestmark = pytest.mark.anyio


async def test_messages_are_delivered_in_order_and_acknowledged_when_they_are(
    tmp_path: Path, shared_nats: NatsServer
) -> None:
    async with EventApi() as api, stream(shared_nats.url) as made:
        for one in events(300):
            await made.publish(one)
        source = {"servers": [shared_nats.url], "stream": made.name}
        async with running(settings(tmp_path, api.url, source, delivery=IN_TURN)) as service:
            await service.settled(300)
            await made.settled(300)
            assert service.ledger["delivered"] == 300
            assert await service.metric("ingestd_source_messages_total") == 300
            assert await service.metric("ingestd_source_lag_seconds") == 0
        assert api.events == events(300)
        consumer = await made.consumer()
        assert consumer["config"]["ack_policy"] == "all"
        assert consumer["config"]["max_deliver"] == -1
        assert consumer["num_ack_pending"] == consumer["num_pending"] == 0


async def test_poison_becomes_a_dead_letter_with_its_place_and_headers_and_is_acknowledged(
    tmp_path: Path, shared_nats: NatsServer
) -> None:
    async with EventApi() as api, stream(shared_nats.url) as made:
        await made.publish(event(0))
        await made.publish(INVALID, subject="bad", headers={"Trace": "abc", "Status": "404"})
        await made.publish(b"")
        await made.publish(b"{\x00", headers={"X": "é"})
        await made.publish(event(1) + event(2))
        await made.publish(event(3))
        source = {"servers": [shared_nats.url], "stream": made.name}
        async with running(settings(tmp_path, api.url, source)) as service:
            await service.settled(6)
            await made.settled(6)
            assert service.ledger == {
                "accepted": 6,
                "delivered": 2,
                "duplicate": 0,
                "rejected": 4,
                "dead_lettered": 0,
                "in_flight": 0,
            }
        assert api.events == [event(0), event(3)]
        found = letters(tmp_path)
        assert [(one["offset"], one["line"]) for one in found] == [(2, 1), (3, 1), (4, 1), (5, 1)]
        assert [one["payload"] for one in found] == [INVALID, b"", b"{\x00", event(1) + event(2)]
        first = found[0]["detail"].splitlines()
        assert (
            first[1]
            == f"stream {made.name}, sequence 2, subject {made.name}.bad, headers Trace: abc, Status: 404"
        )
        assert found[1]["detail"].startswith("the message is empty\n")
        assert "X: é" in found[2]["detail"]
        named = f"NATS stream {made.name}, consumer ingestd"
        assert places(tmp_path) == [(named, None, number) for number in (2, 3, 4, 5)]


async def test_a_refused_event_has_the_place_of_its_message(tmp_path: Path, shared_nats: NatsServer) -> None:
    async with EventApi(lambda request: Reply(400)) as api, stream(shared_nats.url) as made:
        for one in events(2):
            await made.publish(one)
        source = {"servers": [shared_nats.url], "stream": made.name}
        async with running(settings(tmp_path, api.url, source)) as service:
            await made.settled(2)
            assert service.ledger["dead_lettered"] == 2
        named = f"NATS stream {made.name}, consumer ingestd"
        assert places(tmp_path) == [(named, None, 1), (named, None, 2)]
