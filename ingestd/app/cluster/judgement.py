"""What a NATS server, and the streams in it, make of the promises of a spool."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from ingestd.app.checks.finding import Finding, fail, ok, warn
from ingestd.app.cluster.local_server import on_this_machine
from ingestd.cluster import installation, provisioning
from ingestd.cluster.backlog import read_backlogs
from ingestd.cluster.edge_admission import MAX_CHUNK_BYTES
from ingestd.cluster.names import StreamNames
from ingestd.cluster.parked_room import more_bytes
from ingestd.config import Settings
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.nats.connection import NOT_FOUND, JetStreamError, NatsConnection
from ingestd.sources.nats.servers import apart, down, greetings, words


@asynccontextmanager
async def open_connection(settings: Settings) -> AsyncIterator[NatsConnection]:
    """Raises UserError."""
    if settings.spool.kind != "nats":
        raise UserError("the spool is not on NATS: set spool.kind = 'nats' in the configuration")
    connection = NatsConnection(on_this_machine(settings).spool, SystemClock(), lambda: None)
    await connection.open()
    try:
        yield connection
    finally:
        await connection.close()


def spool_servers(settings: Settings) -> list[str]:
    """Where it is; nothing where `ingestd run` starts the server itself."""
    return settings.spool.servers if not settings.spool.workers else []


async def judge_spool(connection: NatsConnection, settings: Settings) -> list[Finding]:
    """What is there, and what it makes of the promises. Raises BrokerAway, JetStreamError."""
    found = [ok("spool", f"NATS {'.'.join(map(str, connection.version))} at {connection.shown}")]
    servers = await greetings(spool_servers(settings))
    found += [warn("spool", line) for line in words(down(servers))]
    if not settings.spool.domain and (alone := apart(servers)):
        found.append(
            fail(
                "spool",
                f"{alone}, so there are streams at each of spool.servers: what an edge stores at one of them"
                " a worker at another never sees; make them one cluster, or give one of them only",
            )
        )
    if connection.max_payload < 2 * MAX_CHUNK_BYTES:
        found.append(
            fail(
                "spool",
                f"max_payload is {connection.max_payload} bytes: a chunk takes up to {MAX_CHUNK_BYTES}, and a"
                f" record as much; set it to {4 * MAX_CHUNK_BYTES} or more on the server",
            )
        )
    replicas: list[int] = []
    more = await more_bytes(connection, settings)
    for config in provisioning.stream_configs(settings):
        name = config["name"]
        try:
            there = (await connection.ask(f"STREAM.INFO.{name}"))["config"]
        except JetStreamError as error:
            if error.code not in NOT_FOUND:
                raise
            found.append(
                fail("spool", f"there is no stream {name}: `ingestd spool init --config FILE` makes it")
            )
            continue
        found += judge_stream(name, config, there, more)
        replicas.append(int(there.get("num_replicas") or 1))
    if min(replicas, default=2) < 2 and not settings.spool.workers:
        found.append(
            warn(
                "spool",
                "one server alone keeps the streams: unless it has sync_interval: always, which cannot be"
                " seen from here, a power cut takes what was acknowledged since the last sync (by default 2"
                " minutes); set that, or spool.replicas = 3",
            )
        )
    try:
        installation.check(await installation.load(connection, settings), settings)
        found += await _judge_backlogs(connection, settings)
    except BrokerAway:
        raise
    except UserError as error:
        found.append(fail("spool", str(error)))
    return found


async def _judge_backlogs(connection: NatsConnection, settings: Settings) -> list[Finding]:
    """Sinks share the room: one that is set aside fills it in the end, and then producers wait for all."""
    try:
        backlogs = await read_backlogs(connection, StreamNames(settings.spool.name))
    except JetStreamError as error:
        if error.code in NOT_FOUND:
            return []
        raise
    return [
        warn(
            "spool",
            f"{sink} is parked, and {backlogs.chunks.get(sink, 0)} of {backlogs.held} chunks wait for it:"
            " when they fill spool.max_bytes and spool.max_parked producers have to wait, for all sinks",
        )
        for sink in sorted(backlogs.parked)
    ]


def judge_stream(name: str, wanted: Mapping[str, Any], there: Mapping[str, Any], more: int) -> list[Finding]:
    """``more``: bytes that events may take while a sink is parked."""
    found = []
    least = int(there.get("max_msgs_per_subject", -1))
    if (
        there.get("retention") != "limits"
        or there.get("max_age")
        or int(there.get("max_msgs", -1)) > 0
        or (least > 0 and least != wanted.get("max_msgs_per_subject"))
    ):
        found.append(
            fail("spool", f"{name} forgets messages by itself: only ingestd may delete what is in it")
        )
    if there.get("discard") != "new":
        found.append(fail("spool", f"{name}: discard is not new: a full stream would drop what waits"))
    if fed := [key for key in ("mirror", "sources", "subject_transform") if there.get(key)]:
        found.append(
            fail(
                "spool",
                f"{name} has {' and '.join(fed)}: workers miss what edges store under another subject, and"
                " find what no edge has stored; take that away, and copy the spool to another stream",
            )
        )
    if there.get("storage") != "file":
        found.append(fail("spool", f"{name} is in memory: a restart of the server takes all of it"))
    replicas = int(there.get("num_replicas") or 1)
    if replicas != wanted["num_replicas"]:
        found.append(warn("spool", f"{name} has {replicas} replicas, spool.replicas is another number"))
    if (most := wanted.get("max_bytes")) and int(there.get("max_bytes", -1)) not in (most, most + more):
        found.append(
            warn("spool", f"{name}: max_bytes is {there.get('max_bytes')}, spool.max_bytes another number")
        )
    return found or [ok("spool", f"stream {name}")]
