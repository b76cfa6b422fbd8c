"""What streams and consumers may be like, and what becomes of them, with a real NATS server."""

import asyncio
import json
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from ingestd.core.errors import UserError
from tests.event_api import EventApi, event, events, key
from tests.machine import patience
from tests.process.sources.nats.support import (
    IN_TURN,
    NatsServer,
    letters,
    nats_server,
    running,
    settings,
    stream,
    until,
)
from tests.process.sources.support import number_of, producers_of
from tests.receiver import Reply, Request

pytestmark = pytest.mark.anyio


async def test_of_a_work_queue_each_message_is_acknowledged_by_itself(
    tmp_path: Path, shared_nats: NatsServer
) -> None:
    async with EventApi() as api, stream(shared_nats.url, retention="workqueue") as made:
        for one in events(50):
            await made.publish(one)
        source = {"servers": [shared_nats.url], "stream": made.name}
        async with running(settings(tmp_path, api.url, source, delivery=IN_TURN)) as service:
            await service.settled(50)
            await made.settled(50)
            await until(lambda: api.events == events(50))
        info = await made.ask(f"STREAM.INFO.{made.name}")
        assert info["state"]["messages"] == 0
        assert (await made.consumer())["config"]["ack_policy"] == "explicit"


async def test_a_message_holds_events_as_its_format_says(tmp_path: Path, shared_nats: NatsServer) -> None:
    names = ("ndjson", "array", "cloudevents")
    async with EventApi() as api, stream(shared_nats.url) as made:
        await made.publish(event(1) + b"\n\n" + event(2) + b"\n", subject="ndjson")
        await made.publish(b"[" + event(3) + b" , " + event(4) + b"]", subject="array")
        await made.publish(b"[]", subject="array")
        await made.publish(b"[1", subject="array")
        attributes = {"ce-specversion": "1.0", "ce-id": "5", "ce-source": "/s", "ce-type": "t"}
        data = {"Content-Type": "application/json"}
        await made.publish(b'{"a": 1}', subject="cloudevents", headers=attributes | data)
        await made.publish(b"", subject="cloudevents", headers=attributes | {"ce-id": "6%20"})
        await made.publish(b'{"specversion":"1.0","id":"7"}', subject="cloudevents")
        await made.publish(b'{"a"', subject="cloudevents", headers=attributes | data)
        sources = {
            name: {
                "servers": [shared_nats.url],
                "stream": made.name,
                "consumer": name,
                "subjects": [f"{made.name}.{name}"],
                "format": name,
            }
            for name in names
        }
        (tmp_path / "any.json").write_text('{"type": "object"}')
        schema = {"name": str(tmp_path / "any.json"), "dedup_key": "nothing"}
        async with running(settings(tmp_path, api.url, sources, schema=schema)) as service:
            await service.settled(9)
        found = {json.dumps(json.loads(one)) for one in api.events}
        assert {json.dumps(json.loads(event(number))) for number in (1, 2, 3, 4)} < found
        structured = [json.loads(one) for one in found if "specversion" in one]
        assert sorted((one["id"], one.get("data")) for one in structured) == [
            ("5", {"a": 1}),
            ("6 ", None),
            ("7", None),
        ]
        refused = letters(tmp_path)
        assert sorted(one["payload"] for one in refused) == [b"[1", b'{"a"']
        assert all("sequence" in one["detail"] for one in refused)
        assert "ce-id: 5" in next(one["detail"] for one in refused if one["payload"] == b'{"a"')


async def test_poison_of_any_size_and_in_any_place_costs_itself(
    tmp_path: Path, shared_nats: NatsServer
) -> None:
    """Of 1 MiB - 1 it is as large as the server takes it."""
    large = event(0, note="x" * (1024 * 1024 - 1 - len(event(0))))
    assert len(large) == 1024 * 1024 - 1
    async with EventApi() as api, stream(shared_nats.url) as made:
        published: list[bytes] = []
        for number in range(20):
            poison = [b"", large, b"null", b'{"eventType":1}'][number % 4]
            for one in (event(number + 1), poison) if number % 2 else (poison, event(number + 1)):
                published.append(one)
                await made.publish(one)
        source = {"servers": [shared_nats.url], "stream": made.name}
        async with running(settings(tmp_path, api.url, source, delivery=IN_TURN)) as service:
            await service.settled(40)
            await made.settled(40)
        assert api.events == [event(number) for number in range(1, 21)]
        found = letters(tmp_path)
        assert {one["offset"]: one["payload"] for one in found} == {
            number: one for number, one in enumerate(published, 1) if one not in api.events
        }


async def test_a_consumer_that_would_lose_messages_is_refused(
    tmp_path: Path, shared_nats: NatsServer
) -> None:
    async with EventApi() as api, stream(shared_nats.url) as made:
        config = {"durable_name": "ingestd", "name": "ingestd", "ack_policy": "explicit", "max_deliver": 5}
        body = {"stream_name": made.name, "config": config, "action": "create"}
        assert "error" not in await made.ask(f"CONSUMER.CREATE.{made.name}.ingestd", body)
        source = {"servers": [shared_nats.url], "stream": made.name}
        async with running(settings(tmp_path, api.url, source)) as service:
            await asyncio.wait([service.task])
            assert isinstance(service.service.error, UserError)
            assert "its max_deliver is 5" in str(service.service.error)


async def test_what_waits_for_a_slow_api_is_not_given_again(tmp_path: Path, shared_nats: NatsServer) -> None:
    """For three times as long as the consumer waits for an acknowledgement, which is longer where the machine
    is slow; nothing more is pulled meanwhile than fits."""
    gate = asyncio.Event()
    wait_s = patience(0.5)
    ack = {"ack_policy": "all", "ack_wait": int(wait_s * 1e9)}

    async def answer(request: Request) -> Reply:
        await gate.wait()
        return Reply()

    async with EventApi(answer) as api, stream(shared_nats.url) as made:
        config = {"durable_name": "ingestd", "name": "ingestd", **ack}
        body = {"stream_name": made.name, "config": {**config, "max_ack_pending": 10_000}, "action": "create"}
        assert "error" not in await made.ask(f"CONSUMER.CREATE.{made.name}.ingestd", body)
        js = made.client.jetstream(publish_async_max_pending=500)
        for one in events(6000):
            await js.publish_async(f"{made.name}.x", one)
        await js.publish_async_completed()
        source = {"servers": [shared_nats.url], "stream": made.name}
        more = {"batch": {"max_events": 100}, "delivery": {"max_in_flight": 2, "request_timeout": 60}}
        async with running(settings(tmp_path, api.url, source, **more)) as service:
            await until(lambda: len(api.batches) == 2)
            await asyncio.sleep(3.2 * wait_s)  # three times ack_wait: what it is about
            info = await made.consumer()
            assert info["num_redelivered"] == 0
            assert 200 <= info["num_ack_pending"] < 5000
            assert await service.metric("ingestd_source_redelivered_total") == 0
            assert await service.metric("ingestd_source_lag_seconds") > 1
            assert [one["name"] for one in producers_of(service)] == ["nats.nats"]
            gate.set()
            await service.settled(6000)
            await made.settled(6000)
        assert sorted(api.events) == sorted(events(6000))


async def test_a_second_process_waits_until_the_first_has_ended(
    tmp_path: Path, shared_nats: NatsServer
) -> None:
    """Though that pulls nothing, since its API is slow. Else each would take the other's messages again."""
    gate = asyncio.Event()

    async def answer(request: Request) -> Reply:
        await gate.wait()
        return Reply()

    first, second = tmp_path / "first", tmp_path / "second"
    async with EventApi(answer) as api, EventApi() as other, stream(shared_nats.url) as made:
        for one in events(50):
            await made.publish(one)
        source = {"servers": [shared_nats.url], "stream": made.name}
        async with running(settings(second, other.url, source)) as waiting:
            await made.settled(50)
            assert other.events == events(50)
            for one in events(50, first=50):
                await made.publish(one)
            await until(lambda: len(other.events) == 100)
            await made.settled(100)
            async with running(settings(first, api.url, source)) as late:
                (feed,) = late.service.brokers.feeds
                for one in events(50, first=100):
                    await made.publish(one)
                await made.settled(150)
                assert feed.intake is None
                await waiting.crash()
                for feed in waiting.service.brokers.feeds:
                    await feed.source.close()
                await made.publish(event(150))
                gate.set()
                await until(lambda: api.events == [event(150)])
        assert other.events == events(150)


async def test_a_stream_that_was_made_anew_is_another_one(tmp_path: Path, shared_nats: NatsServer) -> None:
    """Its messages have the same numbers, and none of them was read."""
    async with EventApi() as api, stream(shared_nats.url) as made:
        source = {"servers": [shared_nats.url], "stream": made.name}
        for one in events(10):
            await made.publish(one)
        async with running(settings(tmp_path, api.url, source, delivery=IN_TURN)) as service:
            await service.settled(10)
            await made.settled(10)
            (feed,) = service.service.brokers.feeds
            counts = feed.source.counts
            counts.unacked = 99  # as it was measured last
            assert (await made.ask(f"STREAM.DELETE.{made.name}"))["success"]
            async with stream(shared_nats.url, name=made.name) as again:
                for one in events(10, first=10):
                    await again.publish(one)
                await service.settled(20)
                await again.settled(10)
                assert counts.unacked <= 10
        assert api.events == events(20)


async def test_a_stream_that_has_lost_its_end_loses_nothing_of_what_comes_after(tmp_path: Path) -> None:
    """As after a power cut of a server that had acknowledged what it had not synced."""
    with nats_server(tmp_path / "nats") as server:
        async with EventApi() as api, stream(server.url, name="S") as made:
            source = {"servers": [server.url], "stream": "S"}
            for one in events(10):
                await made.publish(one)
            server.kill()
            shutil.copytree(tmp_path / "nats" / "js", tmp_path / "before")
            server.start()
            async with running(settings(tmp_path, api.url, source)) as service:
                for one in events(10, first=10):
                    await _published(made, one)
                await service.settled(20)
                await made.settled(20)
            for is_running in (False, True):
                async with running(settings(tmp_path, api.url, source)) as service:
                    if not is_running:
                        await service.crash()
                    _lose_the_end(server, tmp_path)
                    first = 40 if is_running else 20
                    for one in events(15, first=first):
                        await _published(made, one)
                    if is_running:
                        await until(lambda n=first: set(events(15, first=n)) <= set(api.events))
                if not is_running:
                    async with running(settings(tmp_path, api.url, source)):
                        await until(lambda: set(events(15, first=20)) <= set(api.events))


@pytest.mark.parametrize("come", [5, 2])
async def test_what_comes_at_numbers_of_settled_messages_that_a_stream_has_lost_is_delivered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, come: int
) -> None:
    """They are in a chunk behind the first message that is not settled, of which only the end was lost, and
    nothing of its beginning comes under another key. ``come``: so many, 3 are gone."""
    requests, answer = _all_but_the_first()
    with nats_server(tmp_path / "nats") as server:
        async with EventApi(answer) as api, stream(server.url, name="S") as made:
            used = settings(
                tmp_path, api.url, {"servers": [server.url], "stream": "S"}, batch={"max_events": 2}
            )
            for one in events(3):
                await made.publish(one)
            server.kill()
            shutil.copytree(tmp_path / "nats" / "js", tmp_path / "before")
            server.start()
            for one in events(3, first=3):
                await _published(made, one)
            async with running(used) as service:
                await until(lambda: service.ledger["delivered"] == 4)
                await service.crash()
            _lose_the_end(server, tmp_path)
            for one in events(come, first=10):
                await _published(made, one)
            async with running(used) as service:
                await service.settled(1 + come)
                await made.settled(3 + come)
        first, *_ = requests
        again = [one for one in requests[1:] if key(one) == key(first)]
        assert [one.body for one in again] == [first.body]
        assert sorted(map(number_of, api.events)) == [0, 0, 1, 1, 2, 3, 4, 5, *range(10, 10 + come)]
    assert "are gone" not in caplog.text


def _lose_the_end(server: NatsServer, directory: Path) -> None:
    """It has what it had when ``before`` was copied."""
    server.kill()
    shutil.rmtree(directory / "nats" / "js")
    shutil.copytree(directory / "before", directory / "nats" / "js")
    server.start()


def _all_but_the_first() -> tuple[list[Request], Callable[[Request], Awaitable[Reply]]]:
    """Requests as they come, and what answers them."""
    requests: list[Request] = []

    async def answer(request: Request) -> Reply:
        requests.append(request)
        if len(requests) == 1:
            await asyncio.Event().wait()
        return Reply()

    return requests, answer


async def _published(made: object, one: bytes) -> None:
    import nats

    while True:
        try:
            await made.publish(one, timeout=0.5)  # type: ignore[attr-defined]
        except (TimeoutError, nats.errors.Error, nats.js.errors.Error):
            await asyncio.sleep(0.05)
        else:
            return


async def test_a_batch_is_sent_again_as_it_was_though_the_connection_ends_while_its_messages_come(
    tmp_path: Path, shared_nats: NatsServer
) -> None:
    """Three of its ten have come when the consumer is deleted; the next one begins with them once more."""
    requests, answer = _all_but_the_first()
    async with EventApi(answer) as api, stream(shared_nats.url) as made:
        for one in events(10):
            await made.publish(one)
        used = settings(tmp_path, api.url, {"servers": [shared_nats.url], "stream": made.name})
        async with running(used) as service:
            await until(lambda: requests)
            await service.crash()
        config = (await made.consumer())["config"] | {"max_ack_pending": 3}
        body = {"stream_name": made.name, "config": config}
        assert "error" not in await made.ask(f"CONSUMER.CREATE.{made.name}.ingestd", body)
        async with running(used) as service:
            (feed,) = service.service.brokers.feeds
            await until(lambda: feed.source.counts.messages == 3)
            await made.ask(f"CONSUMER.DELETE.{made.name}.ingestd")
            await service.settled(10)
        first, again = requests
        assert (key(again), again.body) == (key(first), first.body)
