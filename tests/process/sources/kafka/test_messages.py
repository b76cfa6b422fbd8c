"""Topics of a real Kafka broker, read by ``ingestd run``: committed when settled."""

from pathlib import Path

import pytest

from tests.event_api import INVALID, EventApi, event, events
from tests.process.sources.kafka.support import (
    IN_TURN,
    KafkaServer,
    letters,
    places,
    running,
    settings,
    topic,
)

pytestmark = pytest.mark.anyio


async def test_messages_are_delivered_in_order_and_committed_when_they_are(
    tmp_path: Path, shared_kafka: KafkaServer
) -> None:
    made = topic(shared_kafka)
    made.produce(*events(300))
    async with EventApi() as api:
        async with running(settings(tmp_path, api.url, made, delivery=IN_TURN)) as service:
            await service.settled(300)
            await made.settled(300, made.name)
            assert service.ledger["delivered"] == 300
            assert await service.metric("ingestd_source_messages_total") == 300
            assert await service.metric("ingestd_source_lag_seconds") == 0
        assert api.events == events(300)


async def test_poison_becomes_a_dead_letter_with_its_place_and_headers_and_is_committed(
    tmp_path: Path, shared_kafka: KafkaServer
) -> None:
    made = topic(shared_kafka)
    made.produce(event(0))
    made.produce(INVALID, headers=[("trace", b"abc"), ("trace", b"def"), ("none", None)])
    made.produce(b"")
    made.produce(None)
    made.produce(b"{\x00", headers=[("x", "é".encode()), ("y", b"\xff")])
    made.produce(event(1) + event(2), event(3))
    async with EventApi() as api:
        async with running(settings(tmp_path, api.url, made)) as service:
            await service.settled(7)
            await made.settled(7, made.name)
            assert service.ledger == {
                "accepted": 7,
                "delivered": 2,
                "duplicate": 0,
                "rejected": 5,
                "dead_lettered": 0,
                "in_flight": 0,
            }
        assert api.events == [event(0), event(3)]
    found = letters(tmp_path)
    assert [(one["offset"], one["line"]) for one in found] == [(1, 1), (2, 1), (3, 1), (4, 1), (5, 1)]
    assert [one["payload"] for one in found] == [INVALID, b"", b"", b"{\x00", event(1) + event(2)]
    place = f"topic {made.name}, partition 0, offset"
    assert found[0]["detail"].splitlines()[1] == f"{place} 1, headers trace: abc, def, none: "
    assert found[1]["detail"] == f"the message is empty\n{place} 2, no headers"
    assert found[2]["detail"] == f"the message is empty\n{place} 3, a tombstone, no headers"
    assert "x: é, y: \ufffd" in found[3]["detail"]
    shown = places(tmp_path)
    assert [(offset, sequence) for _, offset, sequence in shown] == [(at, None) for at in (1, 2, 3, 4, 5)]
    assert all(source.endswith(f"topic {made.name}, partition 0") for source, _, _ in shown), shown
