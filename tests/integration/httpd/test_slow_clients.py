"""Clients that take their time, or take and never give: cut off, and cheap until then."""

import asyncio
import resource
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

import pytest

from ingestd.httpd.connection import Connection
from ingestd.httpd.request import ServerLimits
from ingestd.httpd.response import Response
from ingestd.httpd.server import Server, serve
from tests.integration.httpd.wire_client import GET, POST, Client, Echo, connect, post, until
from tests.machine import patience

QUICK_S = patience(0.3)
QUICK = ServerLimits(
    head_timeout_s=QUICK_S, body_timeout_s=QUICK_S, idle_timeout_s=QUICK_S, linger_s=0.3, sweep_s=0.02
)
PATIENT_S = 60.0
DRIP_S = 20.0  # how long a thousand bytes drip


@pytest.fixture
async def server(application: Echo) -> AsyncIterator[Server]:
    async with serve(application, QUICK, "127.0.0.1", 0) as server:
        yield server


async def drip(client: Client, data: bytes, sent: bytearray) -> None:
    """One byte every 20 ms: a slowloris, never silent for long."""
    for byte in data:
        client.send(bytes([byte]))
        sent.append(byte)
        await asyncio.sleep(0.02)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("start", "dripped"),
    [
        (b"", GET + b"X: " + b"a" * 1000),
        (GET, b"X: a\r\n" * 1000),
        (POST + b"Content-Length: 1000\r\n\r\n", b"x" * 1000),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n" * 1000),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n", b"A: b\r\n" * 1000),
    ],
    ids=["head", "fields", "body", "chunks", "trailer"],
)
async def test_dripping_does_not_keep_a_request_open(
    server: Server, application: Echo, start: bytes, dripped: bytes
) -> None:
    async with await connect(server.port) as client:
        client.send(start)
        dripping = asyncio.create_task(drip(client, dripped, sent := bytearray()))
        async with asyncio.timeout(patience(DRIP_S / 2)):
            answer = await client.answer()
        assert (answer.status, answer.closes) == (408, True)
        assert len(sent) > 1, "not at once"
        await until(lambda: server.connections == 0)
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)
    assert application.requests == []
    assert server.buffered_bytes == 0


@pytest.mark.anyio
@pytest.mark.parametrize("before", [b"", post(b"one")], ids=["never asked", "asked once"])
async def test_an_idle_connection_is_closed_without_a_word(server: Server, before: bytes) -> None:
    async with await connect(server.port) as client:
        client.send(before)
        if before:
            await client.answer()
        assert await client.closed() == b""
    assert 408 not in server.requests_by_status


@pytest.mark.anyio
async def test_the_application_may_take_longer_than_any_client(server: Server, application: Echo) -> None:
    application.hold = True
    async with await connect(server.port) as client:
        client.send(post(b"wait"))
        await until(lambda: application.requests)
        await asyncio.sleep(3 * QUICK_S)  # longer than every limit of QUICK: nothing may happen
        application.requests[0].respond(200, b"at last")
        assert (await client.answer()).body == b"at last"


@pytest.mark.anyio
async def test_a_client_that_does_not_read_its_answers_is_held_up_and_then_cut(application: Echo) -> None:
    async with serve(application, ServerLimits(body_timeout_s=QUICK_S), "127.0.0.1", 0) as server:
        plain = socket.socket()
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        plain.setblocking(False)
        with plain:
            await asyncio.get_running_loop().sock_connect(plain, ("127.0.0.1", server.port))
            body = b"x" * 100_000
            sending = asyncio.create_task(
                asyncio.get_running_loop().sock_sendall(plain, post(body) * 500)  # 50 MB asked for
            )
            await until(lambda: application.requests)
            await until(lambda: server.connections == 0)
            assert len(application.requests) < 100
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


@pytest.mark.anyio
async def test_a_refused_client_cannot_go_on_for_ever(server: Server, application: Echo) -> None:
    application.refusal = Response(413)
    async with await connect(server.port) as client:
        client.send(POST + b"Content-Length: 999999\r\n\r\n")
        assert (await client.answer()).status == 413
        dripping = asyncio.create_task(drip(client, b"x" * 1000, bytearray()))
        async with asyncio.timeout(patience(DRIP_S / 2)):
            await until(lambda: server.connections == 0)
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)


@pytest.mark.anyio
async def test_a_refused_client_cannot_send_gigabytes_and_reads_why_while_it_tries(
    application: Echo,
) -> None:
    limits = ServerLimits(linger_s=PATIENT_S, linger_bytes=1_000_000, held_s=PATIENT_S)
    async with (
        serve(application, limits, "127.0.0.1", 0) as server,
        await connect(server.port) as client,
    ):
        client.send(POST + b"Content-Length: 99999999999\r\n\r\n")
        client.send(b"x" * 100_000_000)
        sending = asyncio.create_task(client.writer.drain())
        (connection,) = await some(server)
        await until(lambda: connection._paused)
        assert (await client.answer()).status == 413
        assert await client.closed() == b""
        assert connection._discarded_bytes < 2_000_000
        assert not sending.done()  # a reset would be what most clients tell, instead of the answer
        server.change_limits(replace(limits, held_s=0.0))
        await until(lambda: server.connections == 0)
        await asyncio.wait([sending])
        assert isinstance(sending.exception(), ConnectionError)


async def some(server: Server) -> list[Connection]:
    """The connections, once there are some."""
    await until(lambda: server.connections)
    return [one for one in server._state.connections if isinstance(one, Connection)]


@pytest.mark.anyio
async def test_thousands_of_idle_connections_cost_next_to_nothing(application: Echo) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(3_000, (soft - 500) // 2)
    clients: list[socket.socket] = []
    async with serve(application, ServerLimits(max_connections=wanted + 10), "127.0.0.1", 0) as server:
        try:
            before = _resident_bytes()
            for n in range(wanted):
                # one source address has too few ports for many such tests in a row
                plain = socket.socket()
                plain.bind((f"127.0.1.{n % 20 + 1}", 0))
                plain.setblocking(False)
                plain.connect_ex(("127.0.0.1", server.port))
                clients.append(plain)
                if n % 500 == 499:
                    await until(partial(_has_connections, server, n + 1))
            await until(lambda: server.connections == wanted)
            assert (_resident_bytes() - before) / wanted < 12_000
            state = server._state
            spent = time.process_time()
            for connection in list(state.connections):
                connection.enforce_deadline(asyncio.get_running_loop().time())
            assert time.process_time() - spent < patience(0.06)
            async with await connect(server.port) as client:
                client.send(post(b"served"))
                assert (await client.answer()).body == b"served"
            assert server.refused_connections == 0
        finally:
            for each in clients:
                each.close()
        await until(lambda: server.connections == 0)


def _has_connections(server: Server, wanted: int) -> bool:
    return server.connections == wanted


def _resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
