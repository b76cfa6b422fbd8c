"""``ingestd spool resize``: other partitions while events come; see ``cluster/generations.py``."""

from ingestd.app.cluster.server_at_hand import while_it_runs
from ingestd.app.cluster.spool import on_nats
from ingestd.cluster import installation
from ingestd.cluster.names import StreamNames
from ingestd.config import Settings
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.sources.nats.connection import NatsConnection

_LISTEN_S = 1.0
"""So long edges have to hear of it. The server refuses what others put into old partitions."""


def resize(settings: Settings, partitions: int) -> int:
    """Gives how many there were. Raises UserError."""
    with while_it_runs(
        settings, "start `ingestd run`, whose workers drain the old partitions, and try it again"
    ):
        return on_nats(settings, lambda connection: _resize(connection, settings, partitions))


async def _resize(connection: NatsConnection, settings: Settings, partitions: int) -> int:
    """If it is cut short, workers do the rest."""
    names = StreamNames(settings.spool.name)
    found = await installation.load(connection, settings)
    installation.check(found, settings)
    if partitions == found.partitions:
        raise UserError(f"the spool {names.spool} has {partitions} partitions")
    if settings.spool.workers > partitions:
        raise UserError(f"{settings.spool.workers} workers cannot share {partitions} partitions")
    new = await installation.begin_generation(connection, names, found, partitions)
    await SystemClock.sleep(_LISTEN_S)
    await installation.fence(connection, names, new)
    return found.partitions
