"""Which of several NATS servers are down: a command is served by any of them, and would not say."""

import asyncio
import os
import ssl
from urllib.parse import urlsplit

from ingestd.config import Settings
from ingestd.core.clock import SystemClock

_WITHIN_S = 2.0
_PORTS = {"ws": 80, "wss": 443}


async def find_down(settings: Settings) -> dict[str, str]:
    """Why, by address; nothing where there is one address only. A server is asked for its greeting, and not
    logged in to."""
    servers = settings.spool.servers if not settings.spool.workers else []
    if len(servers) < 2:
        return {}
    found = await asyncio.gather(*map(_problem, servers))
    return {server: why for server, why in zip(servers, found, strict=True) if why}


def words(down: dict[str, str]) -> list[str]:
    """A line for each."""
    return [f"{server} is down: {why}" for server, why in down.items()]


async def _problem(server: str) -> str:
    """Empty: it is there."""
    url = urlsplit(server)
    try:
        async with SystemClock.timeout(_WITHIN_S):
            port = url.port or _PORTS.get(url.scheme, 4222)
            reader, writer = await asyncio.open_connection(url.hostname, port)
            try:
                if url.scheme == "nats" and not await reader.read(1):
                    return "it ends the connection"
            finally:
                writer.close()
    except TimeoutError:
        return "no answer in time"
    except (OSError, ssl.SSLError) as error:
        return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
    return ""
