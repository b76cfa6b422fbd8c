"""What topics and groups may be like, and what becomes of them, with a real Kafka broker."""

import asyncio
import json
import shutil
from pathlib import Path

import pytest

from ingestd.core.errors import UserError
from tests.event_api import EventApi, event, events, once_each
from tests.process.sources.kafka.support import (
    IN_TURN,
    KafkaServer,
    kafka_server,
    letters,
    running,
    settings,
    topic,
    until,
)
from tests.receiver import Reply, Request

pytestmark = pytest.mark.anyio


class Gate:
    """An API that answers from ``open`` on."""

    def __init__(self) -> None:
        self._event = asyncio.Event()
        self.open = self._event.set

    async def __call__(self, request: Request) -> Reply:
        await self._event.wait()
        return Reply()


async def test_a_message_holds_events_as_its_format_says(tmp_path: Path, shared_kafka: KafkaServer) -> None:
    lines, array, cloud = (topic(shared_kafka) for _ in range(3))
    lines.produce(event(1) + b"\n\n" + event(2) + b"\n")
    array.produce(b"[" + event(3) + b" , " + event(4) + b"]", b"[]", b"[1")
    attributes = {"ce_specversion": "1.0", "ce_id": "5", "ce_source": "/s", "ce_type": "t"}
    data = {"content-type": "application/json"}
    cloud.produce(b'{"a": 1}', headers=attributes | data)
    cloud.produce(None, headers=attributes | {"ce_id": "6%20"})
    cloud.produce(b'{"specversion":"1.0","id":"7"}')
    cloud.produce(b'{"a"', headers=attributes | data)
    cloud.produce(b'{"a":1}', headers=attributes | data | {"ce_type": b"\xff"})
    made = {"ndjson": lines, "array": array, "cloudevents": cloud}
    sources = {
        name: {"bootstrap_servers": one.bootstrap, "topics": one.name, "group": one.name, "format": name}
        for name, one in made.items()
    }
    (tmp_path / "any.json").write_text('{"type": "object"}')
    schema = {"name": str(tmp_path / "any.json"), "dedup_key": "nothing"}
    async with EventApi() as api:
        given = settings(tmp_path, api.url, lines, schema=schema)
        given = given.model_copy(
            update={"ingest": given.ingest.model_validate({"listen": "127.0.0.1:0", "kafka": sources})}
        )
        async with running(given) as service:
            await service.settled(10)
        found = {json.dumps(json.loads(one)) for one in api.events}
    assert {json.dumps(json.loads(event(number))) for number in (1, 2, 3, 4)} < found
    structured = [json.loads(one) for one in found if "specversion" in one]
    assert sorted((one["id"], one.get("data")) for one in structured) == [
        ("5", {"a": 1}),
        ("6%20", None),
        ("7", None),
    ]
    refused = letters(tmp_path)
    assert sorted(one["payload"] for one in refused) == [b"[1", b'{"a"', b'{"a":1}']
    assert all("partition 0, offset" in one["detail"] for one in refused)


async def test_poison_of_any_size_and_in_any_place_costs_itself(
    tmp_path: Path, shared_kafka: KafkaServer
) -> None:
    large = event(0, note="x" * (1024 * 1024 - 1 - len(event(0))))
    made = topic(shared_kafka, max_message_bytes="2000000")
    published: list[bytes] = []
    for number in range(20):
        poison = [b"", large, b"null", b'{"eventType":1}'][number % 4]
        published += (event(number + 1), poison) if number % 2 else (poison, event(number + 1))
    made.produce(*published)
    async with EventApi() as api:
        async with running(settings(tmp_path, api.url, made, delivery=IN_TURN)) as service:
            await service.settled(40)
            await made.settled(40, made.name)
        assert api.events == [event(number) for number in range(1, 21)]
    assert {one["offset"]: one["payload"] for one in letters(tmp_path)} == {
        number: one for number, one in enumerate(published) if one not in api.events
    }


async def test_the_lowest_offset_that_is_not_settled_is_committed_and_batches_go_out_again_as_they_were(
    tmp_path: Path, shared_kafka: KafkaServer
) -> None:
    """Of three partitions, whose events are in the same batches. Twice: the second crash is in the middle of
    the recovery from the first. New events wait for those, so that the order of a key holds."""
    made = topic(shared_kafka, 3)
    for number in range(60):
        made.produce(event(number), partition=number % 3)
    done = 0

    async def answer(request: Request) -> Reply:
        nonlocal done
        done += 1
        await (asyncio.sleep(0) if done % 2 else gate.wait())
        return Reply()

    gate = asyncio.Event()
    more = {"batch": {"max_events": 7, "max_age": 0.05}, "schema": {"dedup_key": "nothing"}}
    async with EventApi(answer) as api:
        for _ in range(2):
            async with running(settings(tmp_path, api.url, made, **more)) as service:
                seen = len(api.batches)
                await until(lambda s=seen: len(api.batches) > s + 1)
                await service.crash()
            for partition in range(3):
                made.produce(
                    *events(5, first=1000 + 10 * len(api.batches) + 100 * partition), partition=partition
                )
        gate.set()
        async with running(settings(tmp_path, api.url, made, **more)):
            for partition in range(3):
                await made.settled(30, made.name, partition)
        arrived = [one for batch in once_each(api.batches).values() for one in batch]
        assert len(arrived) == len(set(arrived)) == 90
    assert letters(tmp_path) == []


async def test_what_was_deleted_before_it_was_read_is_told_and_counted(
    tmp_path: Path, shared_kafka: KafkaServer, caplog: pytest.LogCaptureFixture
) -> None:
    made = topic(shared_kafka)
    made.produce(*events(10))
    async with EventApi() as api:
        async with running(settings(tmp_path, api.url, made, delivery=IN_TURN)):
            await made.settled(10, made.name)
        made.produce(*events(20, first=10))
        made.delete_before(25)
        async with running(settings(tmp_path, api.url, made, delivery=IN_TURN)) as service:
            await made.settled(30, made.name)
            assert await service.metric("ingestd_source_lost_messages_total") == 15
        assert api.events == [*events(10), *events(5, first=25)]
    assert "has lost at most 15 messages, offsets 10 to 24, deleted" in caplog.text


async def test_a_topic_that_was_made_anew_is_another_one(tmp_path: Path, shared_kafka: KafkaServer) -> None:
    made = topic(shared_kafka)
    made.produce(*events(10))
    async with EventApi() as api:
        async with running(settings(tmp_path, api.url, made, delivery=IN_TURN)):
            await made.settled(10, made.name)
        made.delete()
        again = topic(shared_kafka, name=made.name)
        again.produce(*events(10, first=10))
        async with running(settings(tmp_path, api.url, again, delivery=IN_TURN)):
            await again.settled(10, made.name)
        assert api.events == events(20)


async def test_a_topic_that_lost_its_end_is_read_on_without_what_was_read(tmp_path: Path) -> None:
    """As after a power cut of a broker that had acknowledged what it had not synced."""
    with kafka_server(tmp_path / "kafka") as server:
        made = topic(server)
        made.produce(*events(10))
        server.stop()
        shutil.copytree(tmp_path / "kafka" / "data", tmp_path / "before")
        server.start()
        made.produce(*events(20, first=10))
        async with EventApi() as api:
            given = settings(tmp_path, api.url, made, schema={"dedup_key": "nothing"})
            async with running(given):
                await made.settled(30, made.name)
            for first, count in ((30, 5), (40, 40)):
                server.kill()
                shutil.rmtree(tmp_path / "kafka" / "data")
                shutil.copytree(tmp_path / "before", tmp_path / "kafka" / "data")
                server.start()
                made.produce(*events(count, first=first))
                async with running(given):
                    await until(lambda f=first, c=count: set(events(c, first=f)) <= set(api.events))
                    await made.settled(10 + count, made.name)
                assert len(api.events) == len(set(api.events))


async def test_what_a_transaction_took_back_is_not_read_and_its_marks_are_no_lag(
    tmp_path: Path, shared_kafka: KafkaServer
) -> None:
    made = topic(shared_kafka)
    made.produce_in_a_transaction(*events(3), commit=True)
    made.produce_in_a_transaction(*events(3, first=3), commit=False)
    made.produce_in_a_transaction(*events(3, first=6), commit=True)
    async with EventApi() as api:
        async with running(settings(tmp_path, api.url, made, delivery=IN_TURN)) as service:
            await service.settled(6)
            await made.settled(12, made.name)  # nine messages, three marks
        assert api.events == [*events(3), *events(3, first=6)]


async def test_tombstones_may_be_skipped_and_a_new_group_may_begin_at_the_end(
    tmp_path: Path, shared_kafka: KafkaServer
) -> None:
    made = topic(shared_kafka, cleanup_policy="compact")
    made.produce(*events(5))
    async with EventApi() as api:
        given = settings(tmp_path, api.url, made, {"tombstones": "skip", "start": "new"}, delivery=IN_TURN)
        async with running(given):
            await made.settled(5, made.name)
        made.produce(event(5), None, event(6), None)
        async with running(given) as service:
            await service.settled(2)
            await made.settled(9, made.name)
        assert api.events == [event(5), event(6)]
    assert letters(tmp_path) == []


async def test_an_offset_that_somebody_set_is_where_it_is_read_from(
    tmp_path: Path, shared_kafka: KafkaServer, caplog: pytest.LogCaptureFixture
) -> None:
    made = topic(shared_kafka)
    made.produce(*events(10))
    async with EventApi() as api:
        given = settings(
            tmp_path,
            api.url,
            made,
            {"static_member": False},
            delivery=IN_TURN,
            schema={"dedup_key": "nothing"},
        )
        async with running(given):
            await made.settled(10, made.name)
        kafka = made.kafka
        at = kafka.ConsumerGroupTopicPartitions(made.name, [kafka.TopicPartition(made.name, 0, 4)])
        for answer in made.admin.alter_consumer_group_offsets([at]).values():
            answer.result(20)
        async with running(given) as service:
            await service.settled(6)
            await made.settled(10, made.name)
        assert api.events == [*events(10), *events(6, first=4)]
    assert "is read from offset 4, which another member of the group has committed" in caplog.text


async def test_a_slow_api_holds_up_the_topic_and_the_member_stays_one(
    tmp_path: Path, shared_kafka: KafkaServer
) -> None:
    gate = Gate()
    made = topic(shared_kafka)
    made.produce(*events(6000, note="x" * 2000))
    async with EventApi(gate) as api:
        more = {"batch": {"max_events": 100}, "delivery": {"max_in_flight": 2, "request_timeout": 60}}
        async with running(settings(tmp_path, api.url, made, **more)) as service:
            await until(lambda: len(api.batches) == 2)
            (feed,) = service.service.brokers.feeds
            await until(lambda: feed.source._group._paused)  # type: ignore[attr-defined]
            assert service.ledger["in_flight"] < 4000
            assert await service.metric("ingestd_source_lag_seconds") > 0
            gate.open()
            await service.settled(6000)
            await made.settled(6000, made.name)
        assert sorted(api.events) == sorted(events(6000, note="x" * 2000))


async def test_with_spool_a_message_is_committed_when_it_is_there(
    tmp_path: Path, shared_kafka: KafkaServer
) -> None:
    """Once, also where the commit got lost: its place is in the spool's commit."""
    gate = Gate()
    made = topic(shared_kafka, 2)
    async with EventApi(gate) as api:
        given = settings(tmp_path, api.url, made, {"spool": True}, schema={"dedup_key": "nothing"})
        for number in range(3):
            for partition in (0, 1):
                made.produce(*events(20, first=100 * number + 50 * partition), partition=partition)
            async with running(given) as service:
                await until(lambda s=service: s.ledger["in_flight"] >= 40)
                if number == 2:
                    await made.settled(60, made.name, 0)
                    await made.settled(60, made.name, 1)
                    gate.open()
                    await service.settled(0)
                else:
                    await service.crash()
        await asyncio.sleep(0)
        arrived = [one for batch in once_each(api.batches).values() for one in batch]
        assert len(arrived) == len(set(arrived)) == 120


async def test_a_copy_of_a_state_directory_is_no_second_member(
    tmp_path: Path, shared_kafka: KafkaServer
) -> None:
    made = topic(shared_kafka)
    made.produce(event(0))
    async with EventApi() as api:
        async with running(settings(tmp_path / "one", api.url, made)):
            await made.settled(1, made.name)
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        async with running(settings(tmp_path / "one", api.url, made)) as first:
            await until(lambda: first.service.brokers.feeds[0].source.counts.connected)
            async with running(settings(tmp_path / "two", api.url, made)) as second:
                await asyncio.wait([first.task])
                assert isinstance(first.service.error, UserError)
                assert "it has a copy of this state directory" in str(first.service.error)
                made.produce(event(1))
                await second.settled(1)
        assert api.events == [event(0), event(1)]


async def test_with_kip_848_the_newer_process_of_a_copied_state_directory_waits(
    tmp_path: Path, shared_kafka: KafkaServer
) -> None:
    """The broker refuses it, and goes on with the older one; a process that was killed keeps its id in the
    same way, until its session is over."""
    made, source = topic(shared_kafka), {"protocol": "consumer"}
    made.produce(event(0))
    async with EventApi() as api:
        async with running(settings(tmp_path / "one", api.url, made, source)):
            await made.settled(1, made.name)
        shutil.copytree(tmp_path / "one", tmp_path / "two")
        async with running(settings(tmp_path / "one", api.url, made, source)) as first:
            await until(lambda: first.service.brokers.feeds[0].source.counts.partitions)
            async with running(settings(tmp_path / "two", api.url, made, source)) as second:
                counts = second.service.brokers.feeds[0].source.counts
                await until(lambda: "this member's id belongs to another process" in counts.problem)
                made.produce(event(1))
                await first.settled(1)
                assert not second.service.error
        assert api.events == [event(0), event(1)]
