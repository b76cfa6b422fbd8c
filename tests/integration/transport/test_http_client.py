"""The client against every kind of trouble a remote side can make, on real sockets."""

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ingestd import __version__
from ingestd.core.answer import Answer
from ingestd.core.errors import UserError
from ingestd.transport.client import Client
from tests.certificates import self_signed
from tests.each import each
from tests.integration.delivery.virtual_time import LoopClock, local_time
from tests.machine import patience
from tests.ports import free_port
from tests.receiver import Action, Cut, Hang, Raw, Receiver, Reply, Request, Script, Slow, in_turn

pytestmark = pytest.mark.anyio

HEADERS = {"Authorization": "Bearer very-secret-token", "Content-Type": "application/json"}
SECRETS = ("very-secret", "hunter2", "webhook-token", "page=")


@asynccontextmanager
async def connected(
    script: Script | Action | None = None, *, early: bool = False, **options: Any
) -> AsyncIterator[tuple[Receiver, Client]]:
    """A receiver and a client of it; afterwards no task of either is left."""
    before = asyncio.all_tasks()
    script = script if script is None or callable(script) else in_turn(script)
    async with Receiver(script, early=early) as receiver, Client(clock=LoopClock(), **options) as client:
        yield receiver, client
    assert asyncio.all_tasks() == before


def assert_failed(answer: Answer, words: str) -> None:
    assert answer.status == 0
    assert words in answer.error
    assert len(answer.error) < 200
    assert not any(secret in answer.error for secret in SECRETS)


async def test_sends_the_body_and_headers_and_reads_the_answer() -> None:
    async with connected(Reply(202, {"X-Thing": "a", "Retry-After": "3"}, b'{"ok":1}')) as (receiver, client):
        answer = await client.post(f"{receiver.url}/a/b?c=d%20e", b'{"n":1}', HEADERS)
    assert (answer.status, answer.body, answer.truncated, answer.error) == (202, b'{"ok":1}', False, "")
    assert answer.headers["x-thing"] == "a"
    assert answer.headers["retry-after"] == "3"
    assert 0 < answer.seconds < patience(10)
    (request,) = receiver.requests
    assert (request.method, request.path, request.body) == ("POST", "/a/b?c=d%20e", b'{"n":1}')
    assert request.headers == {
        "host": f"127.0.0.1:{receiver.port}",
        "user-agent": f"ingestd/{__version__}",
        "accept-encoding": "identity",
        "authorization": "Bearer very-secret-token",
        "content-type": "application/json",
        "content-length": "7",
    }


async def test_other_methods_and_an_empty_body() -> None:
    async with connected() as (receiver, client):
        assert (await client.request("GET", receiver.url)).status == 200
        assert (await client.post(receiver.url, b"", {})).status == 200
        assert (await client.request("DELETE", receiver.url, headers={"X-A": "b"})).status == 200
    assert [(r.method, r.headers.get("content-length")) for r in receiver.requests] == [
        ("GET", None),
        ("POST", "0"),
        ("DELETE", "0"),
    ]


async def test_a_body_of_many_megabytes_arrives_whole() -> None:
    body = bytes(range(256)) * 4 * 4096  # 4 MiB
    async with connected() as (receiver, client):
        assert (await client.post(receiver.url, body, HEADERS)).status == 200
    assert receiver.requests[0].body == body


async def test_connections_are_reused_and_limited() -> None:
    async def reply(_: Request) -> Reply:
        await asyncio.sleep(0.01)
        return Reply()

    async with connected(reply, max_connections=3) as (receiver, client):
        answers = await asyncio.gather(*(client.post(receiver.url, b"x", {}) for _ in range(12)))
    assert [answer.status for answer in answers] == [200] * 12
    assert receiver.max_in_flight == receiver.connections == 3


@each(
    ("action", "words"),
    [
        (Cut("before_headers"), "connection closed"),
        (Cut("rst"), "connection"),
        (Raw(b""), "connection closed"),
        (Raw(b"HTTP/1.1 200 OK\r\nContent-Le"), "connection closed"),
        (Raw(b"SSH-2.0-very-secret-token\r\n\r\n"), "not HTTP"),
        (Raw(b"HTTP/1.1 2OO OK\r\n\r\n"), "not HTTP"),
        (Raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), "Content-Length is not a number"),
        (
            Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}"),
            "two Content-Length lines",
        ),
        (
            Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nNo header\r\n\r\n{}"),
            "a header line that is not valid",
        ),
        (Raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 200_000), "a line of the answer's head is too long"),
        (Raw(b"HTTP/1.1 200 OK\r\n", endless=b"X: y\r\n" * 1000), "too many header lines"),
        (
            Raw(b"HTTP/1.1 200 OK\r\n" + b"Content-Length: %b\r\n" % (b"9" * 5000) * 2 + b"\r\n"),
            "not HTTP",
        ),
        (Raw(b"\x00\xff" * 5000), "not HTTP"),
        (Raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), "101"),
        (Raw(b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n"), "999"),
    ],
    ids=lambda value: repr(value)[:60],
)
async def test_no_answer_is_status_0_with_a_reason(action: Action, words: str) -> None:
    async with connected(action) as (receiver, client):
        answer = await client.post(f"{receiver.url}/webhook-token?page=very-secret", b"{}", HEADERS)
    assert_failed(answer, words)
    assert len(receiver.requests) == 1, "a POST is sent once"


@each("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST"])
async def test_whatever_the_method_a_request_is_sent_once(method: str) -> None:
    async with connected(in_turn(Reply(), Cut())) as (receiver, client):
        assert (await client.request("GET", receiver.url)).status == 200  # the connection is not a new one
        assert_failed(await client.request(method, receiver.url), "connection closed")
    assert [request.method for request in receiver.requests] == ["GET", method]


async def test_nobody_listens() -> None:
    async with Client() as client:
        answer = await client.post(f"http://user:hunter2@127.0.0.1:{free_port()}/x?page=1", b"{}", {})
    assert_failed(answer, "cannot connect: Connection refused")


async def test_an_unknown_host() -> None:
    async with Client() as client:
        assert_failed(await client.post("http://nowhere.invalid/webhook-token", b"{}", HEADERS), "host name")


@each(
    "url",
    ["", "nonsense", "ftp://127.0.0.1/webhook-token", "http://", "http://[::1", "http://127.0.0.1:99999/"],
)
async def test_a_url_that_is_none(url: str) -> None:
    async with Client() as client:
        assert_failed(await client.post(url, b"{}", HEADERS), "URL")


@each("value", ["a\r\nX-Injected: 1", "a\nb", "nul\x00", "\ud800"])
async def test_a_header_that_would_inject(value: str) -> None:
    async with connected() as (receiver, client):
        assert_failed(await client.post(receiver.url, b"{}", {"X-Key": value}), "header")
    assert receiver.requests == []


@each(
    "action",
    [
        Hang(),
        Raw(b"", endless=b"HTTP/1.1 100 Continue\r\n\r\n"),
        Raw(b"HTTP/1.1 200 OK\r\nX: ", endless=b"y", interval_s=0.01),
    ],
    ids=["silence", "only 100", "dripping headers"],
)
async def test_the_deadline_ends_an_attempt_without_an_answer(action: Action) -> None:
    async with connected(action) as (receiver, client):
        answer = await client.post(receiver.url, b"{}", HEADERS, timeout_s=patience(0.15))
        assert_failed(answer, "in time")
        assert 0.1 < answer.seconds < patience(5)
        await receiver.until(lambda r: r.open == 0)


async def test_the_read_timeout_is_shorter_than_the_deadline() -> None:
    async with connected(Hang(), read_timeout_s=patience(0.1)) as (receiver, client):
        assert_failed(await client.post(receiver.url, b"{}", HEADERS), "no answer in time")


@local_time
async def test_each_request_on_a_kept_connection_has_its_own_deadline() -> None:
    script = in_turn(Reply(), Slow(2.0, Reply(body=b"ab")), Hang())
    async with connected(script) as (receiver, client):
        clock = LoopClock()
        assert (await client.post(receiver.url, b"{}", HEADERS, timeout_s=3.0)).status == 200
        await clock.sleep(2.0)
        slow = await client.post(receiver.url, b"{}", HEADERS, timeout_s=30.0)  # past the first one's
        assert (slow.body, slow.truncated, slow.error) == (b"ab", False, "")
        hanging = await client.post(receiver.url, b"{}", HEADERS, timeout_s=0.5)  # long before the second's
        assert_failed(hanging, "no complete answer in time")
        assert hanging.seconds == pytest.approx(0.5, abs=0.1)
        assert [request.connection for request in receiver.requests] == [1, 1, 1]


async def test_a_receiver_that_never_reads_the_body() -> None:
    async def never(_: Request) -> Action:
        await asyncio.Event().wait()
        raise AssertionError

    async with connected(never, early=True, timeout_s=patience(0.2)) as (receiver, client):
        assert_failed(await client.post(receiver.url, b"x" * 20_000_000, HEADERS), "in time")


@local_time
@each("status", [200, 202, 400, 503])
@each(
    "make",
    [
        lambda reply: Cut("mid_body", reply),
        lambda reply: Slow(0.05, reply),
        lambda reply: Raw(
            Reply(reply.status, {"Content-Length": "10000000000"}, b"").head(), endless=b"y" * 65536
        ),
        lambda reply: Slow(
            0.01,
            Reply(reply.status, {"Transfer-Encoding": "chunked"}, b"5\r\nhello\r\nzz\r\n"),
            piece_bytes=99,
        ),
        lambda reply: Raw(
            Reply(reply.status, {"Transfer-Encoding": "chunked"}, b"").head(),
            endless=b"1000\r\n" + b"z" * 4096 + b"\r\n",
        ),
    ],
    ids=["cut", "slow", "10 GB", "bad chunk", "endless chunks"],
)
async def test_the_head_decides_when_the_body_fails(make: Any, status: int) -> None:
    action = make(Reply(status, body=b"x" * 1000))
    async with connected(action, timeout_s=patience(0.5), max_body_bytes=100_000) as (receiver, client):
        answer = await client.post(receiver.url, b"{}", HEADERS)
        assert (answer.status, answer.truncated, answer.error) == (status, True, "")
        assert len(answer.body) <= 100_000
        assert answer.seconds < patience(5)
        await receiver.until(lambda r: r.open == 0)  # such a connection is not used again


async def test_a_body_at_the_limit_is_whole_and_one_byte_more_is_not() -> None:
    async with connected(in_turn(Reply(body=b"x" * 5000), Reply(body=b"y" * 5001)), max_body_bytes=5000) as (
        receiver,
        client,
    ):
        whole = await client.post(receiver.url, b"", {})
        cut = await client.post(receiver.url, b"", {})
    assert (whole.body, whole.truncated) == (b"x" * 5000, False)
    assert (cut.body, cut.truncated) == (b"y" * 5000, True)


async def test_an_answer_before_the_body_was_read() -> None:
    async with connected(Reply(413, close=True), early=True) as (receiver, client):
        answer = await client.post(receiver.url, b"x" * 1_000_000, HEADERS)
        assert answer.status in {413, 0}  # the reset that follows can overtake the answer
        await receiver.until(lambda r: r.open == 0)


@each("location", ["/elsewhere", "http://[::1", "http://x:port/", "https://user:pw@evil.test/", "\xff"])
async def test_redirects_are_answers(location: str) -> None:
    async with connected(Reply(307, {"Location": location})) as (receiver, client):
        answer = await client.post(receiver.url, b"{}", HEADERS)
    assert (answer.status, answer.headers["location"]) == (307, location)
    assert len(receiver.requests) == 1


async def test_cookies_are_ignored() -> None:
    async with connected(Reply(headers={"Set-Cookie": "session=1; Path=/"})) as (receiver, client):
        by_name = receiver.url.replace("127.0.0.1", "localhost")  # cookie jars skip numeric hosts anyway
        for _ in range(2):
            assert (await client.post(by_name, b"{}", HEADERS)).status == 200
    assert all("cookie" not in request.headers for request in receiver.requests)


@each(
    "head",
    [
        b"Content-Length: 2\r\nContent-Length: 2\r\n",
        b"Content-Length: 2\r\nX: y\r\ncontent-length: 02\r\nX-Z: a\r\n",
        b"Content-Length: 2, 2\r\n",
        b"Content-Length: 2\r\nX: " + b"y" * 64 * 1024 + b"\r\n",
        b"Content-Length: 2\r\n" + b"X: %b\r\n" % (b"y" * 4000) * 20,
    ],
    ids=["twice", "in two spellings", "a list", "a line of 64 KiB", "many long lines"],
)
@each("pieces", [1, 3], ids=["at once", "in pieces"])
async def test_heads_that_are_odd_and_valid_are_read(head: bytes, pieces: int) -> None:
    data = b"HTTP/1.1 202 Accepted\r\n" + head + b"\r\n{}"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        step = -(-len(data) // pieces)
        for start in range(0, len(data), step):
            writer.write(data[start : start + step])
            await writer.drain()
            await asyncio.sleep(0.02 if pieces > 1 else 0)  # so that they are read one by one
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, Client() as client:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        first, second = [await client.request("GET", url) for _ in range(2)]  # on the same connection
    assert (first.status, first.body, first.truncated) == (202, b"{}", False)
    assert second.status == 200


@each(
    ("answer", "status", "body"),
    [
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n<p/>", 204, b""),
        (b"HTTP/1.1 204 No Content\r\n\r\n{}", 204, b""),
        (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 204, b""),
        (b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}xyz", 200, b"{}"),
        (b"HTTP/1.1 202 OK\r\nContent-Length: 0\r\n\r\n{}", 202, b""),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 2, 2\r\n\r\n{}}", 503, b"{}"),
    ],
)
@each("where", ["", "\r\n"], ids=["at once", "in pieces"])
async def test_bytes_behind_an_answer_do_not_undo_it(
    answer: bytes, status: int, body: bytes, where: str
) -> None:
    cut = answer.index(where.encode()) + len(where)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        if cut:
            writer.write(answer[:cut])
            await writer.drain()
            await asyncio.sleep(0.02)  # so that they are read one by one
        writer.write(answer[cut:])
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, Client() as client:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        for _ in range(2):
            got = await client.post(url, b"{}", {})
            assert (got.status, got.body, got.error, got.truncated) == (status, body, "", False)


async def test_a_long_answer_to_a_long_request_is_kept_whole() -> None:
    async with connected(Reply(body=b"x" * 9000), max_body_bytes=1000) as (receiver, client):
        assert not (await client.post(receiver.url, b"y" * 3000, {})).truncated
        assert (await client.post(receiver.url, b"y" * 1000, {})).truncated


async def test_a_connection_that_is_lost_while_the_body_is_sent_is_known() -> None:
    """The API cannot have taken what it was not sent; of what was sent whole, nobody knows."""

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    server = await asyncio.start_server(reset, "127.0.0.1", 0, limit=1024)
    async with server, Client() as client:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        long = await client.post(url, b"x" * 1_000_000, {})
        short = await client.post(url, b"x" * 100, {})
    assert (long.status, long.part_sent, long.unsent) == (0, True, False)
    assert "before all of the request was sent" in long.error
    assert (short.status, short.part_sent) == (0, False)


async def test_header_lines_of_one_name_are_joined() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-A: 1\r\nx-a: 2\r\nX-Latin: \xe9\r\n\r\n"
    async with connected(Raw(head)) as (receiver, client):
        answer = await client.post(receiver.url, b"{}", HEADERS)
    assert (answer.headers["x-a"], answer.headers["x-latin"]) == ("1, 2", "é")


async def test_user_info_of_the_url_becomes_basic_authentication() -> None:
    async with connected() as (receiver, client):
        url = receiver.url.replace("//", "//user:hunter2@")
        assert (await client.post(url, b"{}", {})).status == 200
    assert receiver.requests[0].headers["authorization"] == "Basic dXNlcjpodW50ZXIy"


@each("action", [Hang(), Slow(0.02, Reply(body=b"x" * 1000))], ids=["before headers", "in the body"])
async def test_cancelling_closes_the_connection(action: Action) -> None:
    async with connected(in_turn(action, Reply()), max_connections=1) as (receiver, client):
        task = asyncio.create_task(client.post(receiver.url, b"x" * 1_000_000, HEADERS))
        await receiver.until(lambda r: bool(r.requests))
        await asyncio.wait([task], timeout=patience(0.06))  # well into the body, where there is one
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await receiver.until(lambda r: r.open == 0)
        assert (await client.post(receiver.url, b"{}", HEADERS)).status == 200  # its slot is free again


async def test_cancelling_while_waiting_for_a_connection() -> None:
    async with connected(in_turn(Hang(), Reply()), max_connections=1) as (receiver, client):
        first = asyncio.create_task(client.post(receiver.url, b"1", {}))
        await receiver.until(lambda r: bool(r.requests))
        waiting = await client.post(receiver.url, b"2", {}, timeout_s=patience(0.05))
        assert_failed(waiting, "in time")
        first.cancel()
        await asyncio.wait([first])
        assert (await client.post(receiver.url, b"3", {})).status == 200
    assert [request.body for request in receiver.requests] == [b"1", b"3"]


async def test_urls_reach_no_log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with connected() as (receiver, client):
        await client.post(f"{receiver.url}/webhook-token", b"{}", HEADERS)
    assert "webhook-token" not in caplog.text


async def test_a_proxy_of_the_environment_only_where_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Receiver() as proxy, Receiver() as direct:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "localhost")
        async with Client() as client:
            assert (await client.post(f"{direct.url}/1", b"{}", {})).status == 200
        async with Client(trust_env=True) as client:
            assert (await client.post(f"{direct.url}/2", b"{}", {})).status == 200
            assert (
                await client.post(f"{direct.url}/3".replace("127.0.0.1", "localhost"), b"{}", {})
            ).status == 200
    assert [request.path for request in direct.requests] == ["/1", "/3"]
    assert [request.path for request in proxy.requests] == [f"{direct.url}/2"]


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """PEM files of a self-signed certificate for 127.0.0.1, and of its key."""
    return self_signed(tmp_path_factory.mktemp("tls"), names=())


def server_context(certificate: tuple[str, str]) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*certificate)
    return context


async def test_tls_with_our_own_authority(certificate: tuple[str, str]) -> None:
    async with (
        Receiver(tls=server_context(certificate)) as receiver,
        Client(ca_file=certificate[0]) as client,
    ):
        answer = await client.post(receiver.url, b"x" * 300_000, HEADERS)
        assert (answer.status, answer.error) == (200, "")
        elsewhere = receiver.url.replace("127.0.0.1", "localhost")
        assert_failed(await client.post(elsewhere, b"{}", HEADERS), "certificate refused")
    assert len(receiver.requests) == 1


async def test_tls_certificates_are_verified(certificate: tuple[str, str]) -> None:
    async with Receiver(tls=server_context(certificate)) as receiver, Client() as client:
        answer = await client.post(receiver.url, b"{}", HEADERS)
    assert_failed(answer, "TLS: certificate refused: self-signed certificate")
    assert receiver.requests == []


async def test_tls_to_a_server_without_it() -> None:
    async def speak_plainly(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(speak_plainly, "127.0.0.1", 0)
    async with server, Client() as client:
        port = server.sockets[0].getsockname()[1]
        assert_failed(await client.post(f"https://127.0.0.1:{port}/", b"{}", HEADERS), "TLS: ")


async def test_a_client_certificate_is_presented(certificate: tuple[str, str]) -> None:
    tls = server_context(certificate)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_verify_locations(certificate[0])
    async with Receiver(tls=tls) as receiver:
        async with Client(ca_file=certificate[0], certificate=certificate) as client:
            assert (await client.post(receiver.url, b"{}", HEADERS)).status == 200
        async with Client(ca_file=certificate[0]) as client:
            assert (await client.post(receiver.url, b"{}", HEADERS)).status == 0


async def test_files_that_do_not_serve(certificate: tuple[str, str], tmp_path: Path) -> None:
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("very-secret, not PEM")
    for options in (
        {"ca_file": str(tmp_path / "missing.pem")},
        {"ca_file": str(garbage)},
        {"certificate": (certificate[0], str(garbage))},
        {"certificate": (str(tmp_path / "missing.pem"), certificate[1])},
    ):
        with pytest.raises(UserError, match="cannot use the") as error:
            Client(**options)
        assert "very-secret" not in str(error.value)
