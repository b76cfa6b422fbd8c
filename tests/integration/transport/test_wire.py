"""Servers that answer too much, too little, in odd pieces, or close without a word.

What is another's is never taken for an answer, and what was not sent is known.
"""

import asyncio
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, closing, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from ingestd.core.clock import SystemClock
from ingestd.transport.client import Client
from ingestd.transport.connection import ClientConnection
from ingestd.transport.network_errors import NoAnswer, Unsent
from ingestd.transport.target import Way
from tests.certificates import self_signed
from tests.each import each
from tests.machine import patience
from tests.receiver import Hang, Receiver, Reply, in_turn

pytestmark = pytest.mark.anyio

BUSY = b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\n{}"
TAKEN = b"HTTP/1.1 202 Accepted\r\nContent-Length: 4\r\n\r\ntrue"
RESET = b"\1\0\0\0\0\0\0\0"  # SO_LINGER: a close is a reset


@asynccontextmanager
async def answering(*parts: bytes, close: bool = False) -> AsyncIterator[str]:
    """The URL of a server that writes all of ``parts`` for each request, and reads no body."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, EOFError), closing(writer):
            while await reader.readuntil(b"\r\n\r\n"):
                for part in parts:
                    writer.write(part)
                if close:
                    break

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"


@each(
    "parts",
    [
        [BUSY + TAKEN],
        [BUSY, TAKEN],
        [BUSY[:-1], b"}" + TAKEN[:30], TAKEN[30:]],
        [b"HTTP/1.1 503 Busy\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000, TAKEN],
    ],
)
async def test_of_two_answers_the_second_is_nobodys(parts: Sequence[bytes]) -> None:
    async with answering(*parts) as url, Client() as client:
        answers = [await client.request("GET", url) for _ in range(4)]
    assert [(answer.status, answer.body[-4:]) for answer in answers] == [
        (503, b"xxxx" if len(parts[0]) > 999 else b"{}")
    ] * 4
    assert {answer.headers["content-length"] for answer in answers} != {"4"}


async def test_a_server_that_closes_after_each_answer_and_does_not_say_so() -> None:
    """It has closed by the time that the next request is there, and is not sent that."""
    async with answering(TAKEN, close=True) as url, Client() as client:
        assert [(await client.post(url, b"", {})).status for _ in range(20)] == [202] * 20


class Wire:
    """A transport that the test is behind."""

    def __init__(self) -> None:
        self.sent, self.ended = b"", False

    def get_extra_info(self, _: str) -> "Wire":
        return self

    def fileno(self) -> int:
        return -1

    def write(self, data: bytes) -> None:
        self.sent += data

    def abort(self) -> None:
        self.ended = True

    def is_closing(self) -> bool:
        return self.ended


def answered(pieces: Iterable[bytes], *, limit: int = 1000) -> ClientConnection:
    """What became of a request: ``pieces`` come one by one, until it or they have ended the connection."""
    way = Way("http", "a.test", 80, None)
    wire, connection = Wire(), ClientConnection(SystemClock(), way=way, generation=1, retire_at=1e9)
    connection.connection_made(cast("asyncio.Transport", wire))
    done = connection.send(b"", b"", limit=limit, idle_s=None)
    for piece in pieces:
        connection.data_received(piece)
        if wire.ended:
            break
    reusable = connection.reusable and not wire.ended
    connection.connection_lost(None)
    assert done.done()
    connection.reusable = reusable
    return connection


def told(connection: ClientConnection) -> tuple[Any, ...]:
    error = connection.error
    assert error is None or (isinstance(error, NoAnswer) and not connection.has_head)
    return (
        error is None and (connection.status, connection.body, connection.truncated),
        connection.reusable,
    )


HEAD = b"HTTP/1.1 200 OK\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


@each(
    ("data", "body", "truncated", "reusable"),
    [
        (b"HTTP/1.1 200 OK\nX: y\nContent-Length: 2\n\r\n{}", b"{}", False, True),
        (b'HTTP/1.1 200 OK\nContent-Length: 24\n\n{"\ncontent-length: 24\n":', b'":', False, True),
        (EARLY * 3 + HEAD + b"Content-Length: 2, 2\r\n\r\n{}", b"{}", False, True),
        (
            b"HTTP/1.1 100\n\n" + HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
            b"{}",
            False,
            True,
        ),
        (HEAD + b"Content-Length : 2\r\n\r\n{", b"{", True, False),
        (HEAD + b"Transfer-Encoding: identity\r\n\r\n{}", b"{}", False, False),
        (HEAD + b"Transfer-Encoding: gzip, Chunked\r\n\r\n2\r\n{}\r\n", b"{}", True, False),
        (
            HEAD + b"Connection: Upgrade, CLOSE\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\n{}",
            b"{}",
            False,
            False,
        ),
        (HEAD + b"Content-Length: 2\r\n\r\n{}" + EARLY, b"{}", False, False),
    ],
)
@each("pieces", [False, True])
async def test_odd_answers_are_read_as_they_are_meant(
    data: bytes, body: bytes, truncated: bool, reusable: bool, pieces: bool
) -> None:
    got = answered([bytes([byte]) for byte in data] if pieces else [data])
    assert got.error is None
    assert (got.status, got.body[-2:], got.truncated, got.reusable) == (200, body, truncated, reusable)


def test_whatever_comes_and_however_it_is_split_there_is_an_end() -> None:
    """Nothing is raised; one way to split says what the other says; what ends otherwise than its head says is
    not used again."""
    words = (
        *(HEAD, EARLY, TAKEN, b"HTTP/1.0 ", b"204 No", b"304 N", b"101 S\r\n", b"\r\n", b"\n", b"\r\n\r\n"),
        *(b"Content-Length: ", b"Content-Length: 5\r\n", b"2", b"Transfer-Encoding: chunked\r\n", b"hello"),
        *(b"Connection: close\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b" folded\r\n", b": ", b"\0", b"\xff"),
    )

    async def judge(seed: int) -> bool:
        rng = random.Random(seed)
        data = HEAD * rng.randrange(2) + b"".join(rng.choices(words, k=rng.randint(1, 12)))
        cuts = sorted(rng.choices(range(len(data) + 1), k=rng.choice((1, 2, 5, len(data)))))
        at_once = answered([data])
        split = answered(data[a:b] for a, b in pairwise([0, *cuts, len(data)]) if a < b)
        assert told(at_once)[0] == told(split)[0], data
        if at_once.reusable and (end := data.find(b"Content-Length: ")) >= 0:
            assert len(data.strip()) >= end
        return bool(told(at_once)[0])

    async def all_of_them() -> int:
        return sum([await judge(seed) for seed in range(1500)])

    assert 50 < asyncio.run(all_of_them()) < 1450


@each(
    "begin",
    [
        b"\r\n" + HEAD + b"X: ",
        EARLY + HEAD + b"X: ",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: ",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n5;",
    ],
)
async def test_a_line_without_an_end_is_not_listened_to_for_long(begin: bytes) -> None:
    """A parser copies all of it with each piece."""
    left = iter([begin, *([b"y" * 1000] * 1000)])
    got = answered(left, limit=1 << 20)
    assert 800 < len(list(left)) < 1000
    assert got.truncated if got.has_head else got.error is not None


async def test_a_connection_that_ends_before_it_is_used_was_sent_nothing() -> None:
    gone = answered([])
    await gone.send(b"GET", b"", limit=9, idle_s=None)
    assert isinstance(gone.error, Unsent)


async def test_over_tls_too_it_is_known_that_a_long_body_was_not_all_sent(tmp_path: Path) -> None:
    """TLS takes all of it at once, and the other side reads for longer than the end is held back."""
    certificate = self_signed(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificate)

    async def read_some(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(200_000)
        await asyncio.sleep(0.4)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        writer.transport.abort()

    server = await asyncio.start_server(read_some, "127.0.0.1", 0, ssl=tls, limit=1024)
    async with server, Client(ca_file=certificate[0], timeout_s=patience(20)) as client:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        answer = await client.post(url, b"x" * 24_000_000, {})
    assert (answer.status, answer.part_sent) == (0, True)


async def test_a_name_without_an_answer_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async def look_up(host: str, port: int, **_: Any) -> list[Any]:
        await asyncio.sleep(3600 if host == "silent.test" else 0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    async with answering(TAKEN) as url, Client(timeout_s=patience(5)) as client:
        silent = asyncio.create_task(client.request("GET", "http://silent.test/"))
        await asyncio.sleep(0)
        assert (await client.request("GET", url.replace("127.0.0.1", "api.test"))).status == 202
        assert not silent.done()
        silent.cancel()
        await asyncio.wait([silent])


async def test_a_request_over_tls_may_be_cancelled_at_any_moment(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificate)
    asyncio.get_running_loop().set_exception_handler(lambda _, told: None)  # the server's, of half handshakes
    async with Receiver(tls=tls) as receiver:
        for turns in range(24):
            async with Client(ca_file=certificate[0], max_connections=1) as client:
                cancelled = asyncio.create_task(client.post(receiver.url, b"{}", {}))
                for _ in range(turns):
                    await asyncio.sleep(0)
                cancelled.cancel()
                answers = [await client.post(receiver.url, b"{}", {}) for _ in range(2)]
            assert [(answer.status, answer.error) for answer in answers] == [(200, "")] * 2, turns
        await receiver.until(lambda r: r.open == 0)


async def test_no_more_connections_are_open_than_may_be_however_many_hosts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def look_up(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", look_up)
    async with Receiver() as receiver, Client(max_connections=2) as client:
        for number in range(12):
            await client.post(f"http://host{number}.test:{receiver.port}/", b"{}", {})
        await receiver.until(lambda r: r.open == 2)
        assert receiver.connections == 12


async def test_a_closed_client_sends_nothing_more() -> None:
    async with Receiver(in_turn(Hang())) as receiver:
        async with Client(max_connections=1) as client:
            out, waits = (asyncio.create_task(client.post(receiver.url, b"{}", {})) for _ in range(2))
            await receiver.until(lambda r: bool(r.requests))
        answers = [await out, await waits, await client.post(receiver.url, b"{}", {})]
    assert [answer.unsent for answer in answers] == [False, True, True]
    assert len(receiver.requests) == receiver.connections == 1


class Skipping(SystemClock):
    skipped = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self.skipped


@each(
    ("said", "idle_s", "connections"),
    [
        ("timeout=5", 4.2, 2),
        ("max=9, Timeout = 5", 4.2, 2),
        ("timeout=60", 4.2, 1),
        ("x", 4.2, 1),
        ("x", 16, 2),
    ],
)
async def test_a_connection_is_not_used_for_as_long_as_the_server_keeps_it(
    said: str, idle_s: float, connections: int
) -> None:
    clock = Skipping()
    script = in_turn(Reply(headers={"Keep-Alive": said}))
    async with Receiver(script) as receiver, Client(clock=clock) as client:
        for _ in range(2):
            assert (await client.post(receiver.url, b"{}", {})).status == 200
            clock.skipped += idle_s
        assert receiver.connections == connections
