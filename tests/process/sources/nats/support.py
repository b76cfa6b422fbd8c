"""What tests of streams need."""

from tests.nats_server import NatsServer, Stream, nats_server, stream
from tests.process.sources.support import IN_TURN, Running, letters, places, running, settings, until

__all__ = [
    "IN_TURN",
    "NatsServer",
    "Running",
    "Stream",
    "letters",
    "nats_server",
    "places",
    "running",
    "settings",
    "stream",
    "until",
]
