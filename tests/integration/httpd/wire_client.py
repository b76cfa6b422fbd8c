"""Raw clients and a scriptable application for the tests of the wire."""

import asyncio
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NamedTuple

from ingestd.httpd.request import Request, ServerLimits
from ingestd.httpd.response import Response
from tests.machine import patience

POST = b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n"
DEADLINE_S = patience(30.0)
LIMITS = ServerLimits(max_body_bytes=200_000, max_headers=20, max_head_bytes=2048, max_buffered_bytes=300_000)


def post(body: bytes = b"{}", *, fields: bytes = b"") -> bytes:
    return POST + fields + b"Content-Length: %d\r\n\r\n" % len(body) + body


@dataclass
class Echo:
    """Answers 200 with the body, at once; or keeps the requests in ``open`` if told to ``hold`` them."""

    hold: bool = False
    refusal: Response | None = None
    heads: list[Request] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def check_head(self, request: Request) -> Response | None:
        self.heads.append(request)
        return self.refusal

    def handle(self, request: Request) -> None:
        self.requests.append(request)
        if not self.hold:
            request.respond(200, request.body)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def closes(self) -> bool:
        return self.headers.get("connection") == "close"


class Client:
    """One raw connection. ``async with await connect(port) as client``."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with suppress(OSError):
            await self.writer.wait_closed()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self, *, head_only: bool = False) -> Answer:
        async with asyncio.timeout(DEADLINE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            line, *fields = head[:-4].decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)}
            length = 0 if head_only else int(headers.get("content-length", "0"))
            match = re.fullmatch(r"HTTP/1\.1 (\d{3}) .+", line)
            assert match, line
            return Answer(int(match[1]), headers, await self.reader.readexactly(length))

    async def closed(self) -> bytes:
        """What comes until the server closes."""
        async with asyncio.timeout(DEADLINE_S):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


async def connect(port: int) -> Client:
    return Client(*await asyncio.open_connection("127.0.0.1", port))


async def until(condition: Callable[[], object], *, deadline_s: float = DEADLINE_S) -> None:
    """Wait for it to be true."""
    async with asyncio.timeout(deadline_s):
        while not condition():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.005)
