"""Connections have an age: a name that has moved is followed, and no request is lost over it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from ingestd.transport.client import Client
from tests.machine import patience
from tests.receiver import Receiver, Reply, Request, Slow

pytestmark = pytest.mark.anyio


@contextlib.asynccontextmanager
async def two_of_one_port() -> AsyncIterator[tuple[int, dict[str, int]]]:
    """(port, requests by address) of servers on 127.0.0.1 and 127.0.0.2."""
    seen = {"127.0.0.1": 0, "127.0.0.2": 0}

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(2)
                seen[writer.get_extra_info("sockname")[0]] += 1
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                await writer.drain()

    first = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = first.sockets[0].getsockname()[1]
    second = await asyncio.start_server(serve, "127.0.0.2", port)
    async with first, second:
        yield port, seen


async def test_a_name_that_moves_is_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    where = "127.0.0.1"

    async def look_up(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (where, port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    async with two_of_one_port() as (port, seen):
        url = f"http://api.test:{port}/"
        async with Client(max_connection_age_s=0.05) as client:
            assert (await client.post(url, b"{}", {})).status == 200
            where = "127.0.0.2"
            async with asyncio.timeout(patience(60)):
                while not seen["127.0.0.2"]:
                    answers = await asyncio.gather(*(client.post(url, b"{}", {}) for _ in range(8)))
                    assert [answer.status for answer in answers] == [200] * 8
        before = dict(seen)
        async with Client() as client:
            where = "127.0.0.1"
            assert (await client.post(url, b"{}", {})).status == 200
            where = "127.0.0.2"
            for _ in range(20):
                assert (await client.post(url, b"{}", {})).status == 200
    assert seen["127.0.0.2"] == before["127.0.0.2"], "within its age a connection is kept"


async def test_a_request_that_is_out_keeps_its_connection() -> None:
    def reply(request: Request) -> Slow | Reply:
        return Slow(0.02, Reply(body=b"x" * 20)) if request.path == "/slow" else Reply()

    async with Receiver(reply) as receiver, Client(max_connection_age_s=0.01) as client:
        slow = asyncio.create_task(client.post(f"{receiver.url}/slow", b"", {}))
        await receiver.until(lambda r: bool(r.requests))
        while not slow.done():
            assert (await client.post(f"{receiver.url}/quick", b"", {})).status == 200
        answer = await slow
        assert (answer.status, answer.body, answer.truncated) == (200, b"x" * 20, False)
        await receiver.until(lambda r: r.open <= 1)  # the old ones end with their last request
    assert receiver.connections > 2
