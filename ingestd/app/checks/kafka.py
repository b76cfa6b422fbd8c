"""What the settings of Kafka's topics make of the promise that nothing is lost. Changes nothing there."""

import asyncio
import importlib.util
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any

from ingestd.app.checks.finding import Finding, fail, ok, warn
from ingestd.config import Settings
from ingestd.core.address import is_loopback
from ingestd.core.errors import UserError
from ingestd.core.units import human_seconds
from ingestd.sources.kafka import client
from ingestd.sources.kafka.admin import Admin, where_they_lead
from ingestd.sources.kafka.client import REQUEST_S, TopicPart, words_of
from ingestd.sources.kafka.settings import KafkaConfig

_OUTAGE_MS = 86_400_000
"""Of an API, that nobody should lose events by: a night, until somebody looks."""
_SAMPLE = 200
"""Messages of each partition whose keys are looked at."""
_SAMPLED_PARTITIONS = 12


def check_kafka(settings: Settings) -> Iterator[Finding]:
    """What can be said without the brokers."""
    if settings.ingest.kafka and importlib.util.find_spec("confluent_kafka") is None:
        yield fail("kafka", "[ingest.kafka] needs confluent-kafka: pip install 'ingestd[kafka]'")
        return
    for name, source in settings.ingest.kafka.items():
        where = f"kafka.{name}"
        yield ok(where, f"topics {', '.join(source.topics)}, group {source.group}, at {source.shown}")
        hosts = [server.rpartition(":")[0].strip("[]") for server in source.bootstrap_servers]
        if not source.wants_tls and not all(map(is_loopback, hosts)):
            what = "events and credentials come and go" if source.logs_in else "events come"
            yield warn(where, f"{what} unencrypted: set tls = true")


async def check_kafka_online(settings: Settings) -> AsyncIterator[Finding]:
    for name, source in settings.ingest.kafka.items():
        where = f"kafka.{name}"
        for look in (partial(_servers, where, source), partial(_look, where, settings, source)):
            try:
                for finding in await asyncio.to_thread(look):
                    yield finding
            except UserError as error:
                yield fail(where, str(error))
                break


def _servers(where: str, source: KafkaConfig) -> list[Finding]:
    """Blocks. Raises UserError."""
    led = where_they_lead(source)
    found = [warn(where, f"of several bootstrap_servers: {problem}") for problem in led.problems]
    if led.words:
        advice = "nothing is read; give those of one, and each cluster a source of its own"
        found.append(fail(where, f"{led.words}: {advice} ([ingest.kafka.NAME])"))
    return found


def _look(where: str, settings: Settings, source: KafkaConfig) -> list[Finding]:
    """Blocks. Raises UserError."""
    admin = Admin(source)
    admin.cluster()
    topics, lib = admin.topics(), client.library()
    resources = [lib.admin.ConfigResource(lib.admin.ResourceType.TOPIC, name) for name in topics]
    found: list[Finding] = []
    try:
        answers = admin.client.describe_configs(resources, request_timeout=REQUEST_S)
        for resource, answer in answers.items():
            config = {key: entry.value for key, entry in answer.result(2 * REQUEST_S).items()}
            found += _doubts_of_topic(where, settings, source, topics[resource.name], config)
        found += _doubts_of_group(where, admin, source)
        found += _doubts_of_keys(where, settings, source, topics)
    except lib.KafkaException as error:
        found.append(warn(where, f"not all could be looked at: {words_of(error)}"))
    return found


def _doubts_of_topic(
    where: str, settings: Settings, source: KafkaConfig, topic: Any, config: Mapping[str, str]
) -> Iterator[Finding]:
    named, replicas = f"topic {topic.name}", min(len(one.replicas) for one in topic.partitions)
    least, partitions = int(config["min.insync.replicas"]), len(topic.partitions)
    yield ok(where, f"{named} has {partitions} partitions, {replicas} replicas, {config['cleanup.policy']}")
    flushes = config["flush.messages"] == "1"
    if replicas < 2 and not flushes:
        yield warn(
            where,
            f"{named} has one replica, and its broker acknowledges what is not on disk yet (acks=all, too):"
            " a power cut takes what was not flushed; give it three replicas, or flush.messages=1",
        )
    elif least < 2 and not flushes:
        yield warn(
            where,
            f"{named} has min.insync.replicas={least}: a message is acknowledged that only one broker has,"
            " when the others are behind; set 2",
        )
    if config.get("unclean.leader.election.enable") == "true":
        yield warn(where, f"{named} allows unclean leader elections: acknowledged messages are lost by one")
    age_ms, or_spool = int(config["retention.ms"]), "" if source.spool else ", or set spool = true"
    if "delete" in config["cleanup.policy"] and 0 <= age_ms < _OUTAGE_MS:
        yield warn(
            where,
            f"{named} deletes messages after {human_seconds(age_ms / 1000)}, also those that nobody has read:"
            f" an outage that is longer loses events; give it a day or more{or_spool}",
        )
    if "delete" in config["cleanup.policy"] and int(config["retention.bytes"]) > 0:
        size = config["retention.bytes"]
        yield warn(where, f"{named} keeps {size} bytes of each partition, read or not (retention.bytes)")
    if "compact" in config["cleanup.policy"]:
        kept = "become dead letters" if source.tombstones == "reject" else "are passed over"
        yield warn(
            where,
            f"{named} is compacted: of events with one key the last stays, read or not; tombstones {kept}",
        )
    largest, room = int(config["max.message.bytes"]), settings.batch.max_bytes
    if source.format == "event" and largest > room:
        yield warn(
            where,
            f"a message of {named} may have {largest} bytes, and a request has room for {room}"
            " (batch.max_bytes): an event between the two becomes a dead letter (too_large)",
        )


def _doubts_of_group(where: str, admin: Admin, source: KafkaConfig) -> Iterator[Finding]:
    name = source.group
    listed = admin.client.list_consumer_groups(request_timeout=REQUEST_S).result(2 * REQUEST_S)
    found = next((one for one in listed.valid if one.group_id == name), None)
    if found is None:
        with warnings.catch_warnings(action="ignore"):  # the only call of the library that names all groups
            others = {one.id for one in admin.client.list_groups(timeout=REQUEST_S)}
        if name in others:
            yield fail(
                where,
                f"group {name} is not a consumer group: of a share group a record that was given five times"
                " is gone without a word, and there is no order; give it another name",
            )
        else:
            yield ok(where, f"group {name} is not there yet: it is made at the first start")
        return
    kind, state = found.type.name.lower(), found.state.name.lower()
    if kind in ("classic", "consumer") and state != "empty" and kind != source.protocol:
        yield warn(where, f"group {name} has members of protocol {kind}, the configuration {source.protocol}")
    if kind == "consumer":
        yield ok(where, f"group {name} is {state}; its members are not looked at (protocol consumer)")
        return
    members = getattr(admin.classic_group(), "members", ())
    strangers = [one for one in members if one.client_id != "ingestd"]
    if strangers:
        yield warn(
            where, f"group {name} has {len(strangers)} members that are not ingestd, and read a part of it"
        )
    yield ok(where, f"group {name} has {len(members)} members")


def _doubts_of_keys(
    where: str, settings: Settings, source: KafkaConfig, topics: Mapping[str, Any]
) -> Iterator[Finding]:
    """Where order matters: whether a key is in one partition only, as far as the last messages tell."""
    if not settings.delivery.order_by:
        return
    for name, topic in topics.items():
        places: list[TopicPart] = [(name, one.id) for one in topic.partitions][:_SAMPLED_PARTITIONS]
        seen: dict[bytes, set[int]] = {}
        for key, partition in islice(_keys(source, places), _SAMPLE * _SAMPLED_PARTITIONS):
            seen.setdefault(key, set()).add(partition)
        if split := sum(len(partitions) > 1 for partitions in seen.values()):
            yield warn(
                where,
                f"topic {name} has one key in several partitions ({split} of the last {len(seen)} keys):"
                " producers with different partitioners, or partitions were added; between partitions"
                " there is no order (delivery.order_by)",
            )
        elif (
            len(places) > 1
            and not seen
            and any(bounds[1] > bounds[0] for bounds in Admin(source).offsets(places).values())
        ):
            yield warn(
                where,
                f"messages of topic {name} have no keys: they are dealt out to {len(topic.partitions)}"
                " partitions, between which there is no order (delivery.order_by)",
            )


def _keys(source: KafkaConfig, places: list[TopicPart]) -> Iterator[tuple[bytes, int]]:
    """Of the last messages; read without the group."""
    lib = client.library()
    options = client.connection_settings(source, lambda error: None)
    options |= {
        "group.id": f"{source.group}-check",
        "enable.auto.commit": False,
        "enable.partition.eof": True,
    }
    consumer = client.make_consumer(options)
    try:
        offsets = Admin(source).offsets(places)
        left = {place: (first, last) for place, (first, last) in offsets.items() if last > first}
        consumer.assign(
            [lib.TopicPartition(*place, max(first, last - _SAMPLE)) for place, (first, last) in left.items()]
        )
        while left and (found := consumer.consume(_SAMPLE, REQUEST_S)):
            for one in found:
                if one.error() is not None:
                    left.pop((one.topic(), one.partition()), None)
                elif one.key():
                    yield one.key(), one.partition()
    finally:
        consumer.close()
