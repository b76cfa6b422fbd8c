"""How connections and servers end: clients that go, drains, addresses that cannot be listened on."""

import asyncio
import errno
import gc
import socket
import struct
from dataclasses import replace

import pytest

from ingestd.core.errors import UserError
from ingestd.httpd.connection import READ_AHEAD_BYTES, Connection
from ingestd.httpd.listener import hold, open_sockets
from ingestd.httpd.server import Server, serve
from tests.integration.httpd.wire_client import DEADLINE_S, LIMITS, Client, Echo, connect, post, until


@pytest.mark.anyio
async def test_a_last_answer_is_readable_though_more_was_sent_than_is_read(
    server: Server, application: Echo
) -> None:
    server.change_limits(replace(LIMITS, linger_s=10 * DEADLINE_S))  # its own end is not what ends it
    application.hold = True
    async with await connect(server.port) as client:
        client.send(post(b"last", fields=b"Connection: close\r\n") + b"x" * 2_000_000)
        await until(lambda: application.requests and server.buffered_bytes > READ_AHEAD_BYTES)
        application.requests[0].respond(200, b"readable")
        await client.writer.drain()
        answer = await client.answer()
        assert (answer.body, answer.closes) == (b"readable", True)
        assert await client.closed() == b""
    await until(lambda: server.connections == 0)


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
        await until(lambda: len(application.requests) > n)  # noqa: B023 - waited for at once
        application.requests[n].respond(200, body)
        assert (await client.answer()).body == body
    assert await client.closed() == b""
    assert len(application.requests) == 2


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
async def test_a_request_that_is_on_its_way_when_a_drain_begins_has_an_answer(
    server: Server, application: Echo
) -> None:
    server.change_limits(replace(LIMITS, last_call_s=DEADLINE_S))
    async with await connect(server.port) as idle, await connect(server.port) as busy:
        idle.send(post(b"one"))
        assert not (await idle.answer()).closes
        await until(lambda: server.connections == 2)
        for connection in server._state.connections:
            assert isinstance(connection, Connection)
            connection._since_s -= DEADLINE_S
        busy.send(post(b"one"))
        assert not (await busy.answer()).closes
        drained = asyncio.create_task(server.drain(3 * DEADLINE_S))
        assert await idle.closed() == b""
        busy.send(post(b"two"))  # it does not know yet
        answer = await busy.answer()
        assert (answer.body, answer.closes) == (b"two", True)
        assert await drained == 0


@pytest.mark.anyio
async def test_connections_that_wait_to_be_accepted_when_a_drain_begins_have_their_answers(
    server: Server, application: Echo
) -> None:
    server.change_limits(replace(LIMITS, last_call_s=DEADLINE_S))
    waiting = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(100)]
    for plain in waiting:
        plain.sendall(post(b"waits"))
    assert (server.connections, application.requests) == (0, [])
    assert await server.drain(3 * DEADLINE_S) == 0
    for plain in waiting:
        with plain, plain.makefile("rb") as answer:
            assert b"Connection: close" in answer.read()
    assert len(application.requests) == 100


@pytest.mark.anyio
async def test_a_connection_without_a_request_is_closed_after_the_last_call(
    server: Server, application: Echo
) -> None:
    server.change_limits(replace(LIMITS, last_call_s=0.01))
    async with await connect(server.port) as client:
        client.send(post(b"one"))
        await client.answer()
        assert await server.drain(DEADLINE_S) == 0
        assert await client.closed() == b""


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
async def test_an_address_that_is_held_is_for_those_who_share_it(application: Echo) -> None:
    (alone,) = await open_sockets("127.0.0.1", 0)
    with hold(alone) as held:
        port = held.getsockname()[1]
        with pytest.raises(UserError, match="something else listens there"):  # with SO_REUSEADDR, as most do
            await open_sockets("127.0.0.1", port)
        one, other = (serve(application, LIMITS, "127.0.0.1", port, shared=True) for _ in range(2))
        async with one, other:
            pass


@pytest.mark.anyio
async def test_an_address_that_will_be_held_is_had_alone_and_takes_no_connections() -> None:
    (alone,) = await open_sockets("127.0.0.1", 0, listens=False)
    port = alone.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        await connect(port)
    with hold(alone):
        for listens in (True, False):
            with pytest.raises(UserError, match="something else listens there"):
                await open_sockets("127.0.0.1", port, listens=listens)
    (listening,) = await open_sockets("127.0.0.1", 0)
    with listening, pytest.raises(UserError, match="something else listens there"):
        await open_sockets("127.0.0.1", listening.getsockname()[1], listens=False)


@pytest.mark.anyio
async def test_an_address_can_be_held_where_connections_of_an_earlier_service_fade_away(
    application: Echo,
) -> None:
    async with serve(application, LIMITS, "127.0.0.1", 0) as server, await connect(server.port) as client:
        client.send(post(b"first", fields=b"Connection: close\r\n"))
        await client.answer()  # the server closes first: its end waits for a minute
        assert await client.reader.read() == b""
    (alone,) = await open_sockets("127.0.0.1", server.port)
    with hold(alone):
        with pytest.raises(UserError, match="something else listens there"):
            await open_sockets("127.0.0.1", server.port)
        async with serve(application, LIMITS, "127.0.0.1", server.port, shared=True):
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


@pytest.mark.anyio
async def test_a_connection_leaves_no_reference_cycle(server: Server, application: Echo) -> None:
    def there() -> int:
        return sum(type(one) is Connection for one in gc.get_objects())

    server.change_limits(replace(LIMITS, sweep_s=0.01))
    gc.collect()
    gc.freeze()  # what earlier tests have left is not looked at, nor by later tests
    gc.disable()  # a cycle would stay
    try:
        async with await connect(server.port) as client:
            client.send(post(b"one"))
            await client.answer()
            assert there() == 1
            date = server._state.date
            await until(lambda: server._state.date is not date)  # a sweep has held it in its hands, too
        await until(lambda: server.connections == 0)
        application.requests.clear()
        application.heads.clear()
        await until(lambda: there() == 0)
    finally:
        gc.enable()
