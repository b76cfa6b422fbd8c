"""Several members of a group, members that are killed, and how a broker is logged in to; a real broker."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest

from ingestd.core.errors import UserError
from ingestd.sources.kafka.admin import Admin
from ingestd.sources.kafka.settings import KafkaConfig
from tests.effort import FUZZ, seeds
from tests.event_api import EventApi, event, events, once_each
from tests.machine import patience, patience_of_test
from tests.process.cli.run_support import numbers, serve
from tests.process.cli.support import Place
from tests.process.cli.test_run_kill import POISON, FaultyApi
from tests.process.sources.kafka.support import KafkaServer, Topic, running, settings, topic, until
from tests.process.sources.nats.test_kill import assert_order
from tests.receiver import Reply, Request

pytestmark = pytest.mark.anyio

ROUNDS = 12 if FUZZ else 4
PARTITIONS = 4
LEAVES = {"static_member": False, "session_timeout": 6}


async def test_partitions_go_to_another_member_without_a_loss_and_without_a_second_time(
    tmp_path: Path, shared_kafka: KafkaServer
) -> None:
    """One joins, and the first leaves, while messages come."""
    made = topic(shared_kafka, PARTITIONS)
    stop = asyncio.Event()
    published: list[bytes] = []

    async def publish() -> None:
        while not stop.is_set():
            one = event(len(published), note=f"k{len(published) % 5}")
            published.append(one)
            await asyncio.to_thread(made.produce, one, partition=len(published) % 5 % PARTITIONS)

    def given(name: str) -> object:
        order = {"order_by": "attributes.note"}
        schema = {"dedup_key": "nothing"}
        return settings(tmp_path / name, api.url, made, LEAVES, delivery=order, schema=schema)

    async with EventApi() as api, asyncio.TaskGroup() as tasks:
        publishing = tasks.create_task(publish())
        async with running(given("one")) as one:  # type: ignore[arg-type]
            await until(lambda: len(api.events) > 50)
            async with running(given("two")) as two:  # type: ignore[arg-type]
                await until(lambda: two.ledger["delivered"] > 50)
                seen = one.ledger["delivered"]
                await until(lambda: one.ledger["delivered"] > seen + 50)
                await _shut(one)
                seen = len(api.events)
                await until(lambda: len(api.events) > seen + 50)
                stop.set()
                await publishing
                await until(lambda: len(api.events) >= len(published))
        arrived = [one for batch in once_each(api.batches).values() for one in batch]
        assert Counter(arrived) == Counter(published)
        by_note: dict[bytes, list[int]] = {}
        for one_event in arrived:
            by_note.setdefault(one_event.split(b'"note":"')[1][:2], []).extend(numbers([one_event]))
        assert all(found == sorted(found) for found in by_note.values())


async def _shut(service: object) -> None:
    from ingestd.app import run as service_run

    await service_run._shut_down(service.service, "SIGTERM")  # type: ignore[attr-defined]
    await asyncio.wait_for(service.task, patience(20))  # type: ignore[attr-defined]
    for feed in service.service.brokers.feeds:  # type: ignore[attr-defined]
        await feed.source.close()


async def test_what_is_on_its_way_when_a_partition_goes_is_waited_for_and_not_longer_than_allowed(
    tmp_path: Path, shared_kafka: KafkaServer, caplog: pytest.LogCaptureFixture
) -> None:
    gate = asyncio.Event()

    async def slow(request: Request) -> Reply:
        await gate.wait()
        return Reply()

    made = topic(shared_kafka, 2)
    async with EventApi(slow) as api, EventApi() as other:
        for partition in (0, 1):
            made.produce(*events(10, first=10 * partition), partition=partition)
        impatient = {"shutdown_timeout": 0.5}
        async with running(settings(tmp_path / "one", api.url, made, LEAVES, delivery=impatient)) as one:
            await until(lambda: one.ledger["accepted"] == 20)
            async with running(settings(tmp_path / "two", other.url, made, LEAVES)):
                await until(lambda: len(other.events) == 10)
                gate.set()
                await one.settled(20)
        assert len(api.events) == 20
    assert "is delivered by both" in caplog.text


@pytest.mark.parametrize("seed", seeds(2, 10))
@pytest.mark.timeout(patience_of_test(60 + 12 * ROUNDS))
async def test_every_message_arrives_once_and_in_order_whoever_is_killed(
    tmp_path: Path, shared_kafka: KafkaServer, seed: int
) -> None:
    """Events have no key here: that they arrive once is not the window's doing. With an odd seed they go
    through the spool."""
    rng = random.Random(seed)
    place = Place(tmp_path)
    place.env = {
        "INGESTD_BATCH_MAX_EVENTS": "20",
        "INGESTD_DELIVERY_MAX_IN_FLIGHT": "3",
        "INGESTD_DELIVERY_ORDER_BY": "attributes.note",
        "INGESTD_SCHEMA_DEDUP_KEY": "nothing",
    }
    made = topic(shared_kafka, PARTITIONS)
    published: list[bytes] = []
    stop = asyncio.Event()

    async def publish() -> None:
        while not stop.is_set():
            for _ in range(rng.choice([1, 5, 40])):
                number = len(published)
                note = POISON.decode() if rng.random() < 0.01 else f"k{number % 5}"
                published.append(event(number, note=note))
                made._produce(published[-1], number % 5 % PARTITIONS, None)
            await asyncio.to_thread(made.produce)
            await asyncio.sleep(rng.uniform(0, 0.02))

    (place / "ingestd.toml").write_text(
        f'[ingest.kafka]\nbootstrap_servers = "{made.bootstrap}"\ntopics = "{made.name}"\n'
        f'group = "{made.name}"\nspool = {str(bool(seed % 2)).lower()}\n'
    )
    options = ("--config", place / "ingestd.toml")
    async with FaultyApi(rng) as api, asyncio.TaskGroup() as tasks:
        publishing = tasks.create_task(publish())
        for _ in range(ROUNDS):
            async with serve(place, api, *options) as serving:
                enough = len(api.taken) + rng.randrange(3, 12)
                await api.until(lambda _, n=enough: len(api.taken) >= n, timeout_s=patience(30))
                await asyncio.sleep(rng.uniform(0, 0.03))
                await serving.kill()
            api.life += 1
        async with serve(place, api, *options) as serving:
            stop.set()
            await publishing
            for partition in range(PARTITIONS):
                await _all_committed(made, partition)
            final = await serving.until_empty()
            await serving.stop()
    arrived = [one for batch in once_each([request for _, request in api.taken]).values() for one in batch]
    buried = [letter["payload"] for letter in place.letters()]
    assert Counter(arrived) + Counter(buried) == Counter(published)
    assert all(POISON in one for one in buried)
    assert_order(api)
    assert final["ledger"]["in_flight"] == 0


async def _all_committed(made: Topic, partition: int) -> None:
    at = made.kafka.TopicPartition(made.name, partition)
    made.committed(made.name)  # makes the reader
    _, last = await asyncio.to_thread(made._readers[made.name].get_watermark_offsets, at)
    await made.settled(last, made.name, partition)


async def test_it_logs_in_by_password_and_tells_what_is_wrong(
    tmp_path: Path, shared_kafka: KafkaServer
) -> None:
    made = topic(shared_kafka)
    servers = [f"127.0.0.1:{shared_kafka.sasl_port}"]
    password = tmp_path / "password"
    password.write_text("SEKRIT-scram\n")
    scram = {"mechanism": "SCRAM-SHA-256", "user": "scram", "password_file": str(password)}
    plain = {"mechanism": "PLAIN", "user": "ingestd", "password": "SEKRIT-kafka"}

    def cluster(**more: object) -> str:
        config = KafkaConfig.model_validate({"bootstrap_servers": servers, "topics": made.name, **more})
        return Admin(config).cluster()

    for good in (scram, plain):
        assert await asyncio.to_thread(cluster, **good)
    with pytest.raises(UserError, match="there is no topic none"):
        await asyncio.to_thread(cluster, **plain, topics="none")
    wrong = plain | {"password": "SEKRIT-wrong"}, "Authentication failed"
    away = {"bootstrap_servers": ["127.0.0.1:9"]}, "Connection refused"
    for more, why in (wrong, away):
        with pytest.raises(UserError, match=f"cannot connect to Kafka at 127.*{why}") as caught:
            await asyncio.to_thread(cluster, **more)
        assert "SEKRIT" not in str(caught.value)
        assert "ms in state" not in str(caught.value), "it would be new at each try"
    password.unlink()
    with pytest.raises(UserError, match="cannot read the password from"):
        await asyncio.to_thread(cluster, **scram)
