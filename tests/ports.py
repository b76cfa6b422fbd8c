"""Ports for what cannot be given port 0, or must find nobody there."""

import random
import socket

_BELOW = 32_000  # where Linux begins to hand out ports: those might be somebody's before they are used
_random = random.SystemRandom()  # not hypothesis's: tests that run beside each other differ


def free_port() -> int:
    """One of 127.0.0.1 that nobody listens on, and that is given to nobody who asks for any port."""
    while True:
        port = _random.randrange(10_000, _BELOW)
        try:
            with socket.create_server(("127.0.0.1", port)):
                return port
        except OSError:
            continue
