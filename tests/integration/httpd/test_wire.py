"""Requests and answers over real connections: framing, order, persistence, early refusals."""

import asyncio
import os

import pytest

from ingestd.httpd.connection import REQUESTS_AT_ONCE
from ingestd.httpd.request import Request
from ingestd.httpd.response import Response
from ingestd.httpd.server import Server
from tests.integration.httpd.wire_client import GET, POST, Client, Echo, connect, post, until


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
    assert (request.repeated, request.body, request.gone) == (frozenset({"x"}), b"\0\r\n\r\n{}", False)


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
async def test_continue_is_said_only_after_the_head_was_found_good(server: Server, application: Echo) -> None:
    head = POST + b"Expect: 100-Continue\r\nContent-Length: 2\r\n\r\n"
    async with await connect(server.port) as client:
        client.send(head)
        assert (await client.answer()).status == 100
        client.send(b"{}")
        assert (await client.answer()).body == b"{}"
        client.send(head + b"{")  # it did not wait: no need to say it
        await until(lambda: server.buffered_bytes == 1)
        client.send(b"}")
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
