"""Where a worker works: what all of its shares have in common."""

from collections.abc import Callable, Mapping

import msgspec

from ingestd.cluster.event_splitter import EventSplitter
from ingestd.cluster.installation import Installation
from ingestd.cluster.names import StreamNames
from ingestd.cluster.shared_rate import SharedRate
from ingestd.sources.nats.connection import NatsConnection


class SharedSpool(msgspec.Struct, frozen=True):
    """Where a worker works. ``splitter``: as edges have it. ``sinks``: all that wait for events, by name
    whether one worker owns all of their partitions; ``owner``: this worker; ``rates``: by sink those that
    workers share; ``is_parked``: whether nothing may be sent to a sink now; ``held_bytes``: of a share, in
    memory."""

    connection: NatsConnection
    names: StreamNames
    secret: bytes
    installation: Installation
    splitter: EventSplitter
    sinks: Mapping[str, bool]
    owner: str
    rates: Mapping[str, SharedRate]
    is_parked: Callable[[str], bool]
    held_bytes: int
