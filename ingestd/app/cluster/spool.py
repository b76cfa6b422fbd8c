"""``ingestd spool init | check | stat`` and ``ingestd workers`` where the spool is on JetStream."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar

import msgspec

from ingestd.app.checks.finding import Finding
from ingestd.app.cluster.judgement import judge_spool, open_connection, spool_servers
from ingestd.app.cluster.server_at_hand import at_hand, while_it_runs
from ingestd.app.event_loop import run_loop
from ingestd.cluster import installation, provisioning, sink_registry
from ingestd.cluster.membership import SILENT_S, Member, shares_of
from ingestd.cluster.messages import decoded
from ingestd.cluster.names import StreamNames
from ingestd.cluster.parked_room import more_bytes
from ingestd.cluster.parked_sinks import read_parked
from ingestd.cluster.share_log import last_record
from ingestd.cluster.stock import ledger_of, read_heads, read_records
from ingestd.config import Settings
from ingestd.core.clock import SystemClock, system_rng
from ingestd.core.errors import UserError
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.nats.connection import JetStreamError, NatsConnection
from ingestd.sources.nats.servers import down, greetings, words
from ingestd.telemetry.cluster_metrics import OUTCOMES
from ingestd.wiring.factories import sections_of

T = TypeVar("T")
_LISTEN_S = SILENT_S
_SILENT_S = 5.0
_MOST_MEMBERS = 10_000


def init(settings: Settings) -> bool:
    """Make the streams and what all edges and workers have in common. False: all of it was there. Raises
    UserError."""

    async def make(connection: NatsConnection) -> bool:
        more = await more_bytes(connection, settings)
        return await provisioning.create(connection, settings, system_rng(), more_bytes=more)

    with at_hand(settings):
        return on_nats(settings, make)


def check(settings: Settings) -> list[Finding]:
    """What the server's settings make of the promise. Raises UserError where it is out of reach."""
    with at_hand(settings):
        return on_nats(settings, lambda connection: judge_spool(connection, settings))


def stat(settings: Settings) -> dict[str, Any]:
    """How much waits, and what became of the rest, for every sink; for machines. Raises UserError."""
    with at_hand(settings):
        return on_nats(settings, lambda connection: stat_of(connection, settings))


def workers(settings: Settings) -> dict[str, Any]:
    """Who is there, and who owns which share of which sink; for machines. Raises UserError."""
    with while_it_runs(
        settings, "`ingestd run` starts the workers, and `ingestd spool stat` says what waits"
    ):
        return on_nats(settings, lambda connection: _workers(connection, settings))


def on_nats(settings: Settings, work: Callable[[NatsConnection], Awaitable[T]]) -> T:
    """Do ``work`` with a connection of its own. Raises UserError."""

    async def connected() -> T:
        async with open_connection(settings) as connection:
            try:
                return await work(connection)
            except JetStreamError as error:
                raise UserError(f"NATS at {connection.shown}: {error}") from None

    async def explained() -> T:
        try:
            return await connected()
        except BrokerAway as error:
            if away := words(down(await greetings(spool_servers(settings)))):
                raise BrokerAway(f"{error} ({'; '.join(away)})") from None
            raise

    return run_loop(explained)


async def stat_of(connection: NatsConnection, settings: Settings) -> dict[str, Any]:
    """See ``stat``. Raises UserError, JetStreamError."""
    names = StreamNames(settings.spool.name)
    found = await installation.load(connection, settings)
    sinks = await sink_registry.known_sinks(connection, names)
    info = (await connection.ask(f"STREAM.INFO.{names.events}"))["state"]
    status: dict[str, Any] = {
        "name": settings.spool.name,
        "partitions": found.partitions,
        "chunks": info["messages"],
        "bytes": info["bytes"],
        "dead_letters": (await connection.ask(f"STREAM.INFO.{names.dead}"))["state"].get("num_subjects", 0),
        "servers_down": down(await greetings(spool_servers(settings))),
        "parked": {sink: one.at for sink, one in (await read_parked(connection, names)).items()},
        "sinks": [],
    }
    records = await read_records(connection, names, sinks, found.numbers)
    heads = await read_heads(connection, names)
    for sink in sinks:
        mine = {share: record for share, record in records.items() if share.sink == sink}
        ledger = ledger_of(sink, mine, heads)
        status["sinks"].append(ledger | {"configured": sink in sections_of(settings)})
    return status


def outcomes(sink: Mapping[str, Any]) -> dict[str, int]:
    """Of one sink in ``stat``: those that there are."""
    return {name: sink[name] for name in OUTCOMES if sink[name]}


def is_balanced(sink: Mapping[str, Any]) -> bool:
    """Of one sink in ``stat``."""
    return bool(sink["accepted"] == sum(sink[name] for name in (*OUTCOMES, "in_flight")))


async def list_members(connection: NatsConnection, names: StreamNames) -> list[Member]:
    """Who says within a moment that it is there."""
    members: dict[str, Member] = {}

    def on_message(one: Any) -> None:
        member = decoded(one, Member)
        if member is not None and len(members) < _MOST_MEMBERS:
            members[member.name] = member

    await connection.listen(on_message, names.members)
    await SystemClock.sleep(_LISTEN_S)
    return [members[name] for name in sorted(members)]


async def _workers(connection: NatsConnection, settings: Settings) -> dict[str, Any]:
    names = StreamNames(settings.spool.name)
    found = await installation.load(connection, settings)
    sinks = await sink_registry.known_sinks(connection, names)
    members = await list_members(connection, names)
    status: dict[str, Any] = {"members": [msgspec.to_builtins(member) for member in members], "shares": []}
    for member in status["members"]:
        member.pop("shares")
    for share in shares_of(sinks, found.numbers):
        owner = next((one for one in members if one.owns(share)), None)
        record = await last_record(connection, names, share)
        try:
            info = await connection.ask(f"CONSUMER.INFO.{names.events}.{share.consumer}")
            lag = int(info["num_pending"]) + int(info["num_ack_pending"])
        except JetStreamError:
            lag = 0
        if not (owner or lag) and share.partition in range(found.first):
            continue  # it was drained, and nobody will own it again
        status["shares"].append(
            {
                "sink": share.sink,
                "partition": share.where,
                "owner": owner.name if owner else None,
                "last_owner": record.owner if record else None,
                "since": record.since if record else None,
                "lag_chunks": lag,
            }
        )
    return status
