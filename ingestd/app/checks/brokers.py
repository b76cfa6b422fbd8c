"""What the settings of brokers make of the promise that nothing is lost. Makes and changes nothing there."""

import importlib.util
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from ingestd.app.checks.finding import Finding, fail, ok, warn
from ingestd.app.checks.kafka import check_kafka, check_kafka_online
from ingestd.app.checks.sqs import check_sqs, check_sqs_online
from ingestd.config import Settings
from ingestd.core.address import is_loopback
from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.sources.genesys.channel import MAX_CHANNELS, MAX_TOPICS
from ingestd.sources.nats.connection import NOT_FOUND, JetStreamError, NatsConnection
from ingestd.sources.nats.consumer import PULL_AGAIN_S, objections
from ingestd.sources.nats.servers import apart, down, greetings, words
from ingestd.sources.nats.settings import NatsConfig

_DAY_S = 86_400
_OUTAGE_S = _DAY_S
"""Of an API, that nobody should lose events by: a night, until somebody looks."""


def check_brokers(settings: Settings) -> Iterator[Finding]:
    """What can be said without them."""
    yield from check_sqs(settings)
    yield from _check_notifications(settings)
    yield from check_kafka(settings)
    if settings.ingest.nats and importlib.util.find_spec("nats") is None:
        yield fail("nats", "[ingest.nats] needs nats-py: pip install 'ingestd[nats]'")
        return
    for name, source in settings.ingest.nats.items():
        where = f"nats.{name}"
        yield ok(where, f"stream {source.stream}, consumer {source.consumer}, at {', '.join(source.servers)}")
        if not source.wants_tls and any(not is_loopback(_host(server)) for server in source.servers):
            what = "events and credentials come and go" if source.logins else "events come"
            yield warn(where, f"{what} unencrypted: give servers as tls://")


def _check_notifications(settings: Settings) -> Iterator[Finding]:
    channels = 0
    for name, source in settings.ingest.genesys_notifications.items():
        mine = -(-len(set(source.topics)) // MAX_TOPICS)
        channels += mine
        yield ok(f"genesys_notifications.{name}", f"{len(set(source.topics))} topics, channels: {mine}")
    if channels > MAX_CHANNELS // 2:
        yield warn(
            "genesys_notifications",
            f"{channels} channels are more than half of the {MAX_CHANNELS} that a client may have: each needs"
            " another one beside it when it is replaced",
        )


def _host(server: str) -> str:
    return server.partition("://")[2].rstrip("/").rpartition(":")[0].strip("[]") or server


async def check_brokers_online(settings: Settings, clock: Clock) -> AsyncIterator[Finding]:
    async for finding in check_sqs_online(settings, clock):
        yield finding
    async for finding in check_kafka_online(settings):
        yield finding
    for name, source in settings.ingest.nats.items():
        connection: NatsConnection | None = None
        try:
            connection = NatsConnection(source, clock, lambda: None)
            await connection.open()
            for finding in await _check_servers(f"nats.{name}", source):
                yield finding
            async for finding in _check_stream(f"nats.{name}", settings, source, connection):
                yield finding
        except UserError as error:
            yield fail(f"nats.{name}", str(error))
        finally:
            if connection:
                await connection.close()


async def _check_servers(where: str, source: NatsConfig) -> list[Finding]:
    servers = await greetings(source.servers)
    found = [warn(where, line) for line in words(down(servers))]
    if not source.domain and (alone := apart(servers)):
        found.append(
            fail(
                where,
                f"{alone}, so each of servers has a stream {source.stream} of its own, or none: only the one"
                " to which the connection leads is read, and another when it was lost; what is at the others"
                " waits, and may be deleted meanwhile (max_age); make them one cluster, or give each a source"
                " of its own ([ingest.nats.NAME])",
            )
        )
    return found


async def _check_stream(
    where: str, settings: Settings, source: NatsConfig, connection: NatsConnection
) -> AsyncIterator[Finding]:
    try:
        info = await connection.ask(f"STREAM.INFO.{source.stream}")
    except JetStreamError as error:
        gone = f"there is no stream {source.stream} at {connection.shown}: make it, nobody else does"
        yield fail(where, gone if error.code in NOT_FOUND else f"stream {source.stream}: {error}")
        return
    version = ".".join(map(str, connection.version))
    kept = f"{info['state']['messages']} messages, {info['config']['retention']} retention"
    yield ok(where, f"stream {source.stream} has {kept}; server {version}")
    for finding in _doubts_of_stream(where, settings, source, info["config"], connection.max_payload):
        yield finding
    try:
        consumer = await connection.ask(f"CONSUMER.INFO.{source.stream}.{source.consumer}")
    except JetStreamError as error:
        if error.code not in NOT_FOUND:
            yield fail(where, f"consumer {source.consumer}: {error}")
            return
        yield _no_consumer(where, source, info)
        return
    for finding in _doubts_of_consumer(where, settings, source, info, consumer):
        yield finding


def _doubts_of_stream(
    where: str, settings: Settings, source: NatsConfig, config: Mapping[str, Any], max_payload: int
) -> Iterator[Finding]:
    stream = f"stream {source.stream}"
    if config["storage"] == "memory":
        yield warn(where, f"{stream} is in memory: it is gone with its server")
    elif int(config.get("num_replicas") or 1) < 2:
        yield warn(
            where,
            f"{stream} has one replica: unless its server has sync_interval: always, which cannot be seen"
            " from here, a power cut takes what was published since the last sync (by default 2 minutes),"
            " although it was acknowledged; give it three replicas, or that",
        )
    age_s = int(config.get("max_age") or 0) / 1e9
    if 0 < age_s < _OUTAGE_S:
        yield warn(
            where,
            f"{stream} deletes messages after {_span(age_s)}, also those that nobody has read: an outage that"
            f" is longer loses events; give it a max_age of a day or more{_or_spool(source)}",
        )
    limits = [name for name in ("max_msgs", "max_bytes", "max_msgs_per_subject") if int(config[name]) > 0]
    if limits and config["discard"] == "old":
        yield warn(
            where,
            f"{stream} deletes its oldest messages, read or not, when it is full ({', '.join(limits)}): with"
            ' discard = "new" its publishers have to wait instead',
        )
    room = settings.batch.max_bytes
    largest = int(config["max_msg_size"]) if int(config["max_msg_size"]) > 0 else max_payload
    if source.format == "event" and largest > room:
        yield warn(
            where,
            f"a message may have {largest} bytes, and a request has room for {room} (batch.max_bytes): an"
            " event between the two becomes a dead letter (too_large)",
        )


def _no_consumer(where: str, source: NatsConfig, info: Mapping[str, Any]) -> Finding:
    if info["config"]["retention"] == "interest":
        return warn(
            where,
            f"consumer {source.consumer} is not there yet: until it is made, at the first start, what is"
            " published to a stream of interest retention is acknowledged and not kept",
        )
    note = f"consumer {source.consumer} is not there yet: it is made at the first start"
    return ok(
        where, f"{note}, and begins with {'what comes then' if source.start == 'new' else 'all messages'}"
    )


def _doubts_of_consumer(
    where: str,
    settings: Settings,
    source: NatsConfig,
    info: Mapping[str, Any],
    consumer: Mapping[str, Any],
) -> Iterator[Finding]:
    config, named = consumer["config"], f"consumer {source.consumer}"
    for refused in objections(config):
        yield fail(where, f"{named}: {refused}; make another one, or let ingestd make it")
    pending, unacked = int(consumer["num_pending"]), int(consumer["num_ack_pending"])
    yield ok(where, f"{named}: {pending} messages to come, {unacked} on their way")
    yield from _drift(where, named, source, config)
    bound = int(config.get("max_ack_pending") or 0)
    if source.format == "event" and 0 < bound < settings.batch.max_events:
        yield warn(
            where,
            f"{named} lets {bound} messages be on their way (max_ack_pending), fewer than the"
            f" {settings.batch.max_events} events of a batch: each batch waits for batch.max_age",
        )
    expires_s = int(config.get("max_expires") or 0) / 1e9
    if 0 < expires_s < PULL_AGAIN_S:
        yield warn(
            where,
            f"{named} ends a pull after {_span(expires_s)} (max_expires): one that brings nothing is followed"
            f" by the next after {_span(PULL_AGAIN_S)}, and so long a message may wait; set it to some"
            " seconds, or to 0",
        )
    filtered = config.get("filter_subject") or config.get("filter_subjects")
    stranded = int(info["state"]["messages"]) - pending - unacked
    if info["config"]["retention"] == "workqueue" and not filtered and stranded > 0:
        yield warn(
            where,
            f"stream {source.stream} has {stranded} messages that {named} never gives: they were"
            " given too often (max_deliver), or it began after them; create the consumer again",
        )


def _drift(where: str, named: str, source: NatsConfig, config: Mapping[str, Any]) -> Iterator[Finding]:
    """An existing consumer is used as it is."""
    subjects = config.get("filter_subjects") or [one for one in [config.get("filter_subject")] if one]
    if sorted(subjects) != sorted(source.subjects):
        theirs, ours = ", ".join(subjects) or "all", ", ".join(source.subjects) or "all"
        yield warn(
            where, f"{named} reads the subjects {theirs}, and the configuration says {ours}: it stays so"
        )
    wait_s = int(config.get("ack_wait") or 0) / 1e9
    if "ack_wait" in source.model_fields_set and wait_s != source.ack_wait:
        yield warn(where, f"{named} has an ack_wait of {_span(wait_s)}, and the configuration says"
                          f" {_span(source.ack_wait)}: it stays so")  # fmt: skip


def _span(seconds: float) -> str:
    for unit, length in (("d", _DAY_S), ("h", 3600), ("min", 60)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:g} s"


def _or_spool(source: NatsConfig) -> str:
    return "" if source.spool else ", or set spool = true"
