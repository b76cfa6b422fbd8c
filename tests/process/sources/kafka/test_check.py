"""What ``ingestd check`` says of Kafka's settings. It makes and changes nothing there."""

import asyncio
import importlib.util
import time
from pathlib import Path

import pytest

from ingestd.sources.kafka import client
from tests.event_api import EventApi, event, events
from tests.machine import patience
from tests.process.sources.kafka.support import (
    KafkaServer,
    Topic,
    kafka_server,
    running,
    settings,
    topic,
    until,
)
from tests.process.sources.nats.test_check import found as findings_of
from tests.process.sources.nats.test_check import told

pytestmark = pytest.mark.anyio


async def found(
    tmp_path: Path, made: Topic, more: str = "", *, group: str = "", online: bool = True
) -> list[tuple[str, str]]:
    source = f'bootstrap_servers = "{made.bootstrap}"\ntopics = "{made.name}"\ngroup = "{group or made.name}"'
    return await findings_of(tmp_path, source, online=online, more=more, kind="kafka")


async def test_what_a_topic_may_lose_is_told(tmp_path: Path, shared_kafka: KafkaServer) -> None:
    made = topic(
        shared_kafka,
        2,
        retention_ms=str(6 * 3600 * 1000),
        retention_bytes="10000000",
        cleanup_policy="compact,delete",
        unclean_leader_election_enable="true",
    )
    made.produce(*events(5))
    made.produce(event(5), partition=1)
    findings = await found(tmp_path, made, '[delivery]\norder_by = "attributes.note"')
    assert told(findings, "ok", "has 2 partitions, 1 replicas, compact,delete")
    assert told(findings, "ok", "is not there yet: it is made at the first start")
    assert told(findings, "warn", "has one replica, and its broker acknowledges what is not on disk yet")
    assert told(findings, "warn", "deletes messages after 6h, also those that nobody has read")
    assert told(findings, "warn", "keeps 10000000 bytes of each partition")
    assert told(findings, "warn", "allows unclean leader elections")
    assert told(findings, "warn", "is compacted: of events with one key the last stays")
    assert told(findings, "warn", "may have 1048588 bytes, and a request has room for 500000")
    assert told(findings, "warn", "one key in several partitions (1 of the last 1 keys)")
    assert not told(await found(tmp_path, made, online=False), "warn", "")


async def test_a_topic_that_loses_nothing_is_no_doubt(tmp_path: Path, shared_kafka: KafkaServer) -> None:
    made = topic(shared_kafka, flush_messages="1", max_message_bytes="100000")
    made.produce(*events(3))
    findings = await found(tmp_path, made, '[delivery]\norder_by = "attributes.note"')
    assert [text for level, text in findings if level != "ok"] == []


async def test_members_of_the_group_are_counted_without_its_coordinator(
    tmp_path: Path, shared_kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library may abort in such a call while that broker comes back."""
    made = topic(shared_kafka)
    admin = client.library().admin.AdminClient
    monkeypatch.delattr(admin, "describe_consumer_groups")
    options = {"bootstrap.servers": made.bootstrap, "log_level": 0, "client.id": "other"}
    for protocol, words in (
        ("classic", "has 1 members that are not ingestd"),
        ("consumer", "has members of protocol consumer, the configuration classic"),
    ):
        group = f"{made.name}-{protocol}"
        stranger = made.kafka.Consumer(options | {"group.id": group, "group.protocol": protocol})
        stranger.subscribe([made.name])
        until = time.monotonic() + patience(20)
        while not told(findings := await found(tmp_path, made, group=group), "warn", words):
            assert time.monotonic() < until, findings
            await asyncio.to_thread(stranger.poll, 0.2)
        stranger.close()


async def test_a_share_group_is_refused(tmp_path: Path, shared_kafka: KafkaServer) -> None:
    made = topic(shared_kafka)
    options = {"bootstrap.servers": made.bootstrap, "group.id": made.name, "log_level": 0}
    sharing = made.kafka.ShareConsumer(options)
    sharing.subscribe([made.name])
    until = time.monotonic() + patience(20)
    while not told(
        findings := await found(tmp_path, made), "FAIL", "is not a consumer group: of a share group"
    ):
        assert time.monotonic() < until, findings
        await asyncio.to_thread(sharing.poll, 0.2)
    sharing.close()


async def test_what_is_not_there_is_told(
    tmp_path: Path, shared_kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = topic(shared_kafka)
    made.name = "none"
    assert told(await found(tmp_path, made), "FAIL", "there is no topic none")
    made.bootstrap = "kafka.example.com:9092"
    assert told(await found(tmp_path, made, online=False), "warn", "events come unencrypted: set tls = true")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    findings = await found(tmp_path, made, online=False)
    assert findings == [("FAIL", "[ingest.kafka] needs confluent-kafka: pip install 'ingestd[kafka]'")]


async def test_bootstrap_servers_of_two_clusters_are_refused_and_one_that_is_down_is_told(
    tmp_path: Path, shared_kafka: KafkaServer
) -> None:
    made = topic(shared_kafka)
    with kafka_server(tmp_path / "other", cluster="AAAAAAAAQACAAAAAAAAAAw") as other:
        topic(other, name=made.name)
        both = f'bootstrap_servers = ["{made.bootstrap}", "{other.bootstrap}"]\ntopics = "{made.name}"'
        findings = await findings_of(tmp_path, both, kind="kafka")
        assert told(findings, "FAIL", "bootstrap_servers lead to 2 clusters")
        assert told(findings, "FAIL", f"{other.bootstrap} to AAAAAAAAQACAAAAAAAAAAw")
        made.produce(event(0))
        async with EventApi() as api:
            servers = {"bootstrap_servers": [made.bootstrap, other.bootstrap]}
            async with running(settings(tmp_path, api.url, made, servers)) as service:
                counts = service.service.brokers.feeds[0].source.counts
                await until(lambda: "bootstrap_servers lead to 2 clusters" in counts.problem)
                assert not counts.connected
            assert not api.events
    same = both.replace(other.bootstrap, f"localhost:{shared_kafka.port}")
    findings = await findings_of(tmp_path, same, kind="kafka")
    assert not told(findings, "FAIL", "")
    assert not told(findings, "warn", "of several")
    findings = await findings_of(tmp_path, both, kind="kafka")
    away = f"of several bootstrap_servers: cannot connect to Kafka at {other.bootstrap}"
    assert told(findings, "warn", away)
    assert not told(findings, "FAIL", "")
