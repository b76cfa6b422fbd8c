"""What tests of streams need."""

from tests.nats_server import NatsServer, Stream, nats_server, stream
from tests.process.sources.support import Running, letters, running, settings, until

__all__ = [
    "NatsServer",
    "Running",
    "Stream",
    "letters",
    "nats_server",
    "running",
    "settings",
    "stream",
    "until",
]
