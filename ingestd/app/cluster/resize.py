"""``ingestd spool resize``: another number of partitions, when nothing is on its way.

Events of a key are in another partition then. So what was accepted has to be delivered first, by its owner
of now, and copies of it have to be too old to be known anyway.
"""

from ingestd.app.cluster.spool import hear_members, on_nats, stat_of
from ingestd.cluster import installation
from ingestd.cluster.names import StreamNames
from ingestd.config import Settings
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.core.units import human_seconds
from ingestd.sources.nats.connection import NatsConnection
from ingestd.sources.nats.consumer import nanoseconds


def resize(settings: Settings, partitions: int, *, force: bool = False) -> int:
    """Gives how many there were. ``force``: copies of young events may be delivered. Raises UserError that
    says what has to be done first."""
    return on_nats(settings, lambda connection: _resize(connection, settings, partitions, force=force))


async def _resize(connection: NatsConnection, settings: Settings, partitions: int, *, force: bool) -> int:
    names = StreamNames(settings.spool.name)
    found = await installation.load(connection, settings)
    members = await hear_members(connection, names)
    if edges := [one.name for one in members if one.kind != "worker"]:
        raise UserError(f"{', '.join(edges)} takes events: stop the edges first, then wait for the workers")
    told = await stat_of(connection, settings)
    if waiting := {one["name"]: one["in_flight"] for one in told["sinks"] if one["in_flight"]}:
        which = ", ".join(f"{count} for {sink}" for sink, count in waiting.items())
        raise UserError(f"events wait: {which}. Let the workers deliver them first")
    if told["chunks"] and not told["sinks"]:
        raise UserError(f"{told['chunks']} chunks wait, and no worker has ever come to deliver them")
    if members:
        raise UserError(f"{', '.join(one.name for one in members)} is there: nothing waits, stop it now")
    age_s, window_s = await _age_s(connection, names), settings.window.max_age
    if age_s < window_s and not force:
        raise UserError(
            f"the last events came {human_seconds(age_s)} ago, and copies of them are known for"
            f" {human_seconds(window_s)}, in the partitions that are: wait so long, or give --force"
        )
    await installation.change_partitions(connection, names, found, partitions)
    return found.partitions


async def _age_s(connection: NatsConnection, names: StreamNames) -> float:
    """Of the youngest chunk that ever came."""
    state = (await connection.ask(f"STREAM.INFO.{names.events}"))["state"]
    if not int(state["last_seq"]):
        return float("inf")
    return SystemClock.wall() - nanoseconds(state["last_ts"]) / 1e9
