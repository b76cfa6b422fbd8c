"""Requests and answers over real connections: framing, order, persistence, the end in good order."""

import asyncio
import errno
import gc
import os
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest

from ingestd.core.errors import UserError
from ingestd.sources.http.connection import READ_AHEAD_BYTES, REQUESTS_AT_ONCE, Connection
from ingestd.sources.http.request import Limits, Request, Response
from ingestd.sources.http.server import Server, serve
from tests.sources.http.wire_client import GET, POST, Client, Echo, connect, post, until

LIMITS = Limits(max_body_bytes=200_000, max_headers=20, max_head_bytes=2048, max_buffered_bytes=300_000)


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def application() -> Echo:
    return Echo()


@pytest.fixture
async def server(application: Echo) -> AsyncIterator[Server]:
    async with serve(application, LIMITS, "127.0.0.1", 0) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with await connect(server.port) as client:
        yield client


@pytest.mark.anyio
async def test_a_request_reaches_the_application_as_it_was_sent(client: Client, application: Echo) -> None:
    client.send(
        b"POST /v1/events?a=%41 HTTP/1.1\r\nHOST: localhost\r\nA:  \tb \xe9\t \r\nX: 1\r\nx: 2\r\n"
        b"Content-Length: 7\r\n\r\n\0\r\n\r\n{}"
    )
    assert (await client.answer()).body == b"\0\r\n\r\n{}"
    (request,) = application.requests
    assert (request.method, request.target, request.path) == ("POST", "/v1/events?a=%41", "/v1/events")
    assert (request.query, request.peer, request.certificate_name) == ("a=%41", "127.0.0.1", "")
    assert request.headers == {"host": "localhost", "a": "b \xe9", "x": "1, 2", "content-length": "7"}
    assert (request.repeated, request.body, request.gone) == ({"x"}, b"\0\r\n\r\n{}", False)


@pytest.mark.anyio
async def test_an_answer_has_date_length_and_the_applications_fields(
    client: Client, application: Echo
) -> None:
    application.hold = True
    client.send(GET + b"\r\n")
    await until(lambda: application.requests)
    application.requests[0].respond(429, b"later", (("Retry-After", "7"), ("X-Name", "\xe9")))
    answer = await client.answer()
    date = answer.headers.pop("date")
    assert date.endswith(" GMT")
    assert answer == (429, {"retry-after": "7", "x-name": "\xe9", "content-length": "5"}, b"later")


@pytest.mark.anyio
async def test_a_connection_is_kept_and_closed_as_the_client_asks(server: Server) -> None:
    for request, persistence in [
        (GET + b"\r\n", None),
        (GET + b"Connection: keep-alive\r\n\r\n", None),
        (GET + b"Connection: x, Close\r\n\r\n", "close"),
        (GET + b"Connection: x\r\nConnection: close\r\n\r\n", "close"),
        (b"GET / HTTP/1.0\r\n\r\n", "close"),
        (b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", "keep-alive"),
    ]:
        async with await connect(server.port) as client:
            client.send(request)
            assert (await client.answer()).headers.get("connection") == persistence
            if persistence == "close":
                assert await client.closed() == b""
            else:
                client.send(post(b"still there"))
                assert (await client.answer()).body == b"still there"


@pytest.mark.anyio
async def test_a_head_request_is_answered_without_a_body(client: Client, application: Echo) -> None:
    application.hold = True
    client.send(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n" + post(b"next"))
    await until(lambda: application.requests)
    application.requests[0].respond(405, b"body")
    answer = await client.answer(head_only=True)
    assert (answer.status, answer.headers["content-length"]) == (405, "4")
    await until(lambda: len(application.requests) == 2)
    application.requests[1].respond(204)
    answer = await client.answer()
    assert answer.status == 204
    assert "content-length" not in answer.headers


@pytest.mark.anyio
async def test_pipelined_requests_are_answered_in_order_and_handed_on_one_at_a_time(
    client: Client, application: Echo
) -> None:
    application.hold = True
    client.send(b"".join(post(b"%d" % n) for n in range(100)))
    for n in range(100):
        await until(lambda: len(application.requests) > n)  # noqa: B023 - waited for at once
        assert len(application.requests) == n + 1
        asyncio.get_running_loop().call_soon(application.requests[n].respond, 200, b"%d" % n)
        assert (await client.answer()).body == b"%d" % n


@pytest.mark.anyio
async def test_many_pipelined_requests_give_other_connections_their_turn(
    server: Server, client: Client, application: Echo
) -> None:
    many = 5 * REQUESTS_AT_ONCE
    async with await connect(server.port) as other:
        client.send(b"".join(post(b"%d" % n) for n in range(many)))
        other.send(post(b"other"))
        assert (await other.answer()).body == b"other"
        for n in range(many):
            assert (await client.answer()).body == b"%d" % n
    assert len(application.requests) == many + 1


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
@pytest.mark.parametrize("size", [1, 1000, 200_000])
async def test_a_body_is_whole_however_it_comes(client: Client, application: Echo, size: int) -> None:
    body = os.urandom(size)
    client.send(post(body))
    assert (await client.answer()).body == body
    pieces = [body[n : n + 7000] for n in range(0, size, 7000)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    whole = POST + b"Transfer-Encoding: Chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    for start in range(0, len(whole), 50_001):
        client.send(whole[start : start + 50_001])
        await client.writer.drain()
        await asyncio.sleep(0)
    assert (await client.answer()).body == body
    assert [request.body for request in application.requests] == [body, body]


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
        other.send(post(b"x" * 190_000)[:-1])
        answer = await other.answer()
        assert (answer.status, answer.headers["retry-after"], answer.closes) == (503, "1", True)
        async with await connect(server.port) as third:
            third.send(post(b"small"))
            assert (await third.answer()).body == b"small"
        one.send(b"x")
        assert (await one.answer()).status == 200
        assert server.buffered_bytes == 0


@pytest.mark.anyio
async def test_continue_is_said_only_after_the_head_was_found_good(server: Server, application: Echo) -> None:
    head = POST + b"Expect: 100-Continue\r\nContent-Length: 2\r\n\r\n"
    async with await connect(server.port) as client:
        client.send(head)
        assert (await client.answer()).status == 100
        client.send(b"{}")
        assert (await client.answer()).body == b"{}"
        client.send(head + b"{}")  # it did not wait: no need to say it
        assert (await client.answer()).status == 200
    application.refusal = Response(401, b"who?")
    async with await connect(server.port) as client:
        client.send(head)
        answer = await client.answer()
        assert (answer.status, answer.closes) == (401, True)
        assert await client.closed() == b""


@pytest.mark.anyio
async def test_an_early_refusal_keeps_the_connection_if_the_body_is_there_already(
    client: Client, application: Echo
) -> None:
    application.refusal = Response(429, b"", (("Retry-After", "1"),))
    client.send(post(b"one") + post(b"two"))
    assert [(await client.answer()).status for _ in range(2)] == [429, 429]
    application.refusal = None
    client.send(post(b"three"))
    assert (await client.answer()).body == b"three"
    assert [request.body for request in application.requests] == [b"three"]


@pytest.mark.anyio
async def test_a_refused_client_that_goes_on_sending_can_read_the_answer(
    server: Server, application: Echo
) -> None:
    application.refusal = Response(401, b"who?")
    async with await connect(server.port) as client:
        client.send(POST + b"Content-Length: 199999\r\n\r\n")
        answered = asyncio.create_task(client.answer())
        for _ in range(100):
            client.send(b"x" * 10_000)
            await asyncio.sleep(0)
        answer = await answered
        assert (answer.status, answer.body, answer.closes) == (401, b"who?", True)
    await until(lambda: server.connections == 0)
    assert application.requests == []


def reset(plain: socket.socket) -> None:
    """Close with RST, as a client does that is killed with data unread."""
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    plain.close()


@pytest.mark.anyio
async def test_a_request_whose_client_is_gone_knows_it_and_its_answer_is_dropped(
    server: Server, application: Echo
) -> None:
    application.hold = True
    plain = socket.create_connection(("127.0.0.1", server.port))
    plain.sendall(post(b"x" * 1000))
    await until(lambda: application.requests)
    assert server.buffered_bytes == 1000
    reset(plain)
    (request,) = application.requests
    await until(lambda: request.gone)
    request.respond(200, b"nobody reads this")
    assert (server.connections, server.buffered_bytes, server.requests_by_status) == (0, 0, {})


@pytest.mark.anyio
async def test_an_answer_to_a_client_that_closed_meanwhile_ends_the_connection(
    server: Server, application: Echo
) -> None:
    application.hold = True
    async with await connect(server.port) as client:
        client.send(post(b"x"))
        await until(lambda: application.requests)
    application.requests[0].respond(200)
    await until(lambda: server.connections == 0)
    assert server.buffered_bytes == 0


@pytest.mark.anyio
@pytest.mark.parametrize("sent", [b"", b"POST /v1/ev", post(b"x" * 5000)[:-10]], ids=["idle", "head", "body"])
async def test_a_reset_ends_the_connection_wherever_it_was(
    server: Server, application: Echo, sent: bytes
) -> None:
    plain = socket.create_connection(("127.0.0.1", server.port))
    plain.sendall(sent)
    await until(lambda: server.connections == 1)
    await until(lambda: server.buffered_bytes > 0 or not sent)
    reset(plain)
    await until(lambda: server.connections == 0)
    assert (server.buffered_bytes, application.requests) == (0, [])


@pytest.mark.anyio
async def test_a_half_closed_client_gets_all_its_answers(client: Client, application: Echo) -> None:
    application.hold = True
    client.send(post(b"one") + post(b"two") + post(b"three")[:-1])
    client.writer.write_eof()
    for n, body in enumerate([b"one", b"two"]):
        await until(lambda n=n: len(application.requests) > n)
        application.requests[n].respond(200, body)
        assert (await client.answer()).body == body
    assert await client.closed() == b""
    assert len(application.requests) == 2


@pytest.mark.anyio
async def test_a_fault_of_the_application_is_a_500_and_no_more(
    client: Client, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    class Faulty(Echo):
        def handle(self, request: Request) -> None:
            if request.body == b"headers":
                request.respond(200, b"", (("A", "b\r\nSet-Cookie: c"),))
            elif request.body == b"status":
                request.respond(799)
            else:
                raise LookupError("a bug")

    server._state.application = Faulty()
    for body in (b"headers", b"status", b"bug"):
        client.send(post(body))
        answer = await client.answer()
        assert (answer.status, "set-cookie" in answer.headers) == (500, False)
    assert len([record for record in caplog.records if record.exc_info]) == 3
    assert server.requests_by_status == {500: 3}


@pytest.mark.anyio
async def test_a_second_answer_to_a_request_is_dropped(client: Client, application: Echo) -> None:
    client.send(post(b"one"))
    assert (await client.answer()).body == b"one"
    application.requests[0].respond(500, b"too late")
    client.send(post(b"two"))
    assert (await client.answer()).body == b"two"


@pytest.mark.anyio
async def test_connections_above_the_limit_are_told_to_come_back(application: Echo) -> None:
    async with serve(application, Limits(max_connections=2), "127.0.0.1", 0) as server:
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
async def test_a_drain_answers_what_is_open_and_closes_what_is_idle(
    server: Server, application: Echo
) -> None:
    application.hold = True
    async with (
        await connect(server.port) as idle,
        await connect(server.port) as busy,
        await connect(server.port) as sending,
    ):
        busy.send(post(b"open"))
        sending.send(post(b"half")[:-2])
        await until(lambda: application.requests and server.connections == 3)
        await until(lambda: len(application.heads) == 2)
        drained = asyncio.create_task(server.drain(5))
        assert await idle.closed() == b""
        with pytest.raises(ConnectionRefusedError):
            await connect(server.port)
        sending.send(b"lf")
        await until(lambda: len(application.requests) == 2)
        for request, client in zip(application.requests, (busy, sending), strict=True):
            assert not drained.done()
            request.respond(202, b"taken")
            answer = await client.answer()
            assert (answer.status, answer.body, answer.closes) == (202, b"taken", True)
            assert await client.closed() == b""
        assert await drained == 0
    assert server.connections == 0


@pytest.mark.anyio
async def test_a_drain_cuts_what_is_not_answered_in_time(server: Server, application: Echo) -> None:
    application.hold = True
    async with await connect(server.port) as client:
        client.send(post())
        await until(lambda: application.requests)
        assert await server.drain(0.1) == 1
        assert await client.closed() == b""
    assert application.requests[0].gone
    assert server.connections == 0


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("host", "said"),
    [
        ("192.0.2.1", "does not have that address"),
        ("no.such.host.invalid", "give an address"),
        ("a" * 70, "give"),
    ],
)
async def test_an_address_that_cannot_be_listened_on_is_said_in_one_line(host: str, said: str) -> None:
    with pytest.raises(UserError, match=said) as caught:
        async with serve(Echo(), LIMITS, host, 0):
            pass
    assert host in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.anyio
async def test_an_address_in_use_is_said_in_one_line(server: Server) -> None:
    with pytest.raises(UserError, match=f"127.0.0.1:{server.port}: something else listens there"):
        async with serve(Echo(), LIMITS, "127.0.0.1", server.port):
            pass


@pytest.mark.anyio
async def test_a_name_is_listened_on_at_all_its_addresses_with_one_port(application: Echo) -> None:
    async with serve(application, LIMITS, "localhost", 0) as server:
        for family, *_, address in socket.getaddrinfo("localhost", server.port, type=socket.SOCK_STREAM):
            with socket.socket(family) as plain:
                plain.setblocking(False)
                try:
                    await asyncio.get_running_loop().sock_connect(plain, address)
                except OSError as error:
                    assert error.errno == errno.EADDRNOTAVAIL  # noqa: PT017 - a machine without IPv6
                    continue


def test_running_out_of_file_descriptors_neither_ends_nor_spins_the_server() -> None:
    code = """
import asyncio, logging, resource, socket, sys, time
from tests.sources.http.wire_client import *
from ingestd.sources.http.request import Limits
from ingestd.sources.http.server import serve

async def main():
    async with serve(Echo(), Limits(max_connections=100), "127.0.0.1", 0) as server:
        clients = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
        try:
            while True:
                plain = socket.socket()
                plain.setblocking(False)
                plain.connect_ex(("127.0.0.1", server.port))
                clients.append(plain)
        except OSError:
            pass
        spent, started = time.process_time(), time.monotonic()
        while time.monotonic() < started + 1.0:
            await asyncio.sleep(0.01)
        spent = time.process_time() - spent
        assert spent < 0.5, spent
        for each in clients:
            each.close()
        await until(lambda: server.connections == 0)
        async with await connect(server.port) as client:
            client.send(post(b"alive"))
            assert (await client.answer()).body == b"alive"
        print("survived")

logging.basicConfig()
if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""
    for loop in ("asyncio", "uvloop"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, loop], capture_output=True, text=True, timeout=30
        )
        assert done.stdout == "survived\n", done.stderr
        assert "cannot accept connections for now: Too many open files" in done.stderr


@pytest.mark.anyio
async def test_a_connection_leaves_no_reference_cycle(server: Server, application: Echo) -> None:
    gc.collect()
    gc.disable()
    try:
        async with await connect(server.port) as client:
            client.send(post(b"one"))
            await client.answer()
            assert any(isinstance(each, Connection) for each in gc.get_objects())
        await until(lambda: server.connections == 0)
        application.requests.clear()
        application.heads.clear()
        await until(lambda: not any(isinstance(each, Connection) for each in gc.get_objects()))
    finally:
        gc.enable()
