"""What a client may cost the wire: sizes, connections, read-ahead, file descriptors."""

import asyncio
from dataclasses import replace

import pytest

from ingestd.httpd.connection import READ_AHEAD_BYTES
from ingestd.httpd.request import ServerLimits
from ingestd.httpd.server import Server, serve
from tests.integration.httpd.wire_client import (
    DEADLINE_S,
    GET,
    LIMITS,
    POST,
    Client,
    Echo,
    connect,
    post,
    until,
)


@pytest.mark.anyio
async def test_behind_an_open_request_only_a_bounded_amount_is_read(
    server: Server, client: Client, application: Echo
) -> None:
    application.hold = True
    client.send(post(b"first"))
    await until(lambda: application.requests)
    for _ in range(400):  # 40 MB: far above what the kernel holds
        client.send(b"x" * 100_000)
    await until(lambda: server.buffered_bytes > READ_AHEAD_BYTES)
    for _ in range(20):
        await asyncio.sleep(0)
    assert server.buffered_bytes < 1_000_000
    client.writer.transport.abort()
    application.requests[0].respond(200)
    await until(lambda: server.connections == 0)
    assert server.buffered_bytes == 0


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (POST + b"Content-Length: 200001\r\n\r\n", 413),
        (POST + b"Content-Length: 999999999999999999\r\n\r\n", 413),
        (POST + b"Transfer-Encoding: chunked\r\n\r\n30D41\r\n" + b"x" * 200_001, 413),
        (GET + b"A: b\r\n" * 20 + b"\r\n", 431),
        (GET + b"A: " + b"b" * 2048 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 4000, 431),
        (GET + b"Expect: 200-ok\r\n\r\n", 417),
    ],
    ids=["length", "huge length", "chunks", "fields", "field", "target", "expectation"],
)
async def test_what_is_too_large_is_refused_at_once(
    client: Client, application: Echo, raw: bytes, status: int
) -> None:
    client.send(raw)
    answer = await client.answer()
    assert (answer.status, answer.closes) == (status, True)
    assert application.requests == []


@pytest.mark.anyio
async def test_a_large_body_is_turned_away_when_too_much_is_buffered_for_all(
    server: Server, application: Echo
) -> None:
    async with await connect(server.port) as one, await connect(server.port) as other:
        one.send(post(b"x" * 190_000)[:-1])
        await until(lambda: server.buffered_bytes == 189_999)
        async with await connect(server.port) as third:
            third.send(post(b"small")[:-1])
            await until(lambda: server.buffered_bytes == 190_003)
            server.change_limits(replace(LIMITS, max_buffered_bytes=190_000))
            other.send(post(b"x" * 100_000)[:-1])
            answer = await other.answer()
            assert (answer.status, answer.headers["retry-after"], answer.closes) == (503, "1", True)
            third.send(post(b"small")[-1:])
            assert (await third.answer()).body == b"small"
            third.send(post(b"also small")[:-2])
            await until(lambda: server.buffered_bytes > 190_000)
            third.send(b"ll")
            assert (await third.answer()).body == b"also small"
        one.send(b"x")
        assert (await one.answer()).status == 200
        assert server.buffered_bytes == 0


@pytest.mark.anyio
async def test_connections_above_the_limit_are_told_to_come_back(application: Echo) -> None:
    async with serve(application, ServerLimits(max_connections=2), "127.0.0.1", 0) as server:
        async with await connect(server.port) as one, await connect(server.port):
            await until(lambda: server.connections == 2)
            async with await connect(server.port) as third:
                third.send(post())
                answer = await third.answer()
                assert (answer.status, answer.headers["retry-after"], answer.closes) == (503, "5", True)
                assert await third.closed() == b""
            one.send(post(b"still served"))
            assert (await one.answer()).status == 200
        await until(lambda: server.connections == 0)
        async with await connect(server.port) as fourth:
            fourth.send(post())
            assert (await fourth.answer()).status == 200
        assert (server.connections_total, server.refused_connections) == (4, 1)
        assert server.requests_by_status == {503: 1, 200: 2}


@pytest.mark.anyio
async def test_a_connection_above_the_limit_has_its_answer_when_it_asks_and_not_before(
    application: Echo,
) -> None:
    limits = ServerLimits(max_connections=1, linger_s=DEADLINE_S, sweep_s=0.01)
    async with (
        serve(application, limits, "127.0.0.1", 0) as server,
        await connect(server.port),
        await connect(server.port) as asking,
        await connect(server.port) as silent,
    ):
        await until(lambda: server.connections == 3)
        assert server.requests_by_status == {}
        asking.send(post()[:10])
        assert (await asking.answer()).status == 503
        assert server.requests_by_status == {503: 1}
        server.change_limits(replace(limits, linger_s=0.0))
        assert await silent.closed() == b""
        await until(lambda: server.connections == 1)


@pytest.mark.anyio
async def test_of_very_many_connections_above_the_limit_the_rest_is_closed_without_a_word(
    application: Echo,
) -> None:
    async with (
        serve(application, ServerLimits(max_connections=1, max_surplus=1), "127.0.0.1", 0) as server,
        await connect(server.port) as one,
        await connect(server.port) as told,
        await connect(server.port) as unannounced,
    ):
        told.send(post())
        assert (await told.answer()).status == 503
        assert await unannounced.closed() == b""
        one.send(post(b"served"))
        assert (await one.answer()).body == b"served"
        assert (server.connections, server.refused_connections) == (2, 2)
