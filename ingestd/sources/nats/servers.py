"""Which of several NATS servers are down, or not of one cluster: a connection is served by any of them, and
would not say."""

import asyncio
import json
import os
import ssl
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from urllib.parse import urlsplit

from ingestd.core.clock import SystemClock

_WITHIN_S = 2.0
_PORTS = {"ws": 80, "wss": 443}
_GREET_FIRST = ("nats", "tls")


class Greeting(NamedTuple):
    """What a server says before anybody logs in to it; ``problem``: why it says nothing, in words. ``id``:
    empty where it does not say who it is. ``is_alone``: it keeps streams, and is of no cluster."""

    problem: str = ""
    id: str = ""
    is_alone: bool = False


async def greetings(servers: Sequence[str]) -> dict[str, Greeting]:
    """By address; nothing where there is one address only."""
    if len(servers) < 2:
        return {}
    return dict(zip(servers, await asyncio.gather(*map(_greeting, servers)), strict=True))


def down(found: Mapping[str, Greeting]) -> dict[str, str]:
    return {server: one.problem for server, one in found.items() if one.problem}


def apart(found: Mapping[str, Greeting]) -> str:
    """Which of them are of no cluster, in words, if there are streams at each of several; else empty."""
    alone = [server for server, one in found.items() if one.is_alone]
    if not alone or len({one.id for one in found.values() if one.id}) < 2:
        return ""
    return f"{' and '.join(alone)} {'is' if len(alone) == 1 else 'are'} of no cluster"


def words(down: dict[str, str]) -> list[str]:
    """A line for each."""
    return [f"{server} is down: {why}" for server, why in down.items()]


async def _greeting(server: str) -> Greeting:
    url = urlsplit(server)
    try:
        async with SystemClock.timeout(_WITHIN_S):
            port = url.port or _PORTS.get(url.scheme, 4222)
            reader, writer = await asyncio.open_connection(url.hostname, port)
            try:
                if url.scheme in _GREET_FIRST:
                    line = await reader.readline()
                    return read_greeting(line) if line else Greeting("it ends the connection")
            finally:
                writer.close()
    except TimeoutError:
        return Greeting("no answer in time")
    except (OSError, ssl.SSLError) as error:
        return Greeting(os.strerror(error.errno) if error.errno and error.errno > 0 else str(error))
    except ValueError:  # a line without an end
        pass
    return Greeting()


def read_greeting(line: bytes) -> Greeting:
    """``INFO {…}``, as the protocol has it."""
    try:
        found = json.loads(line.removeprefix(b"INFO "))
        return Greeting(
            "", str(found["server_id"]), bool(found.get("jetstream")) and not found.get("cluster")
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return Greeting()
