"""An HTTP/1.1 receiver to script: the remote side of the whole test suite, on a real socket.

    async with Receiver(script) as r:
        await client.post(r.url + "/events", ...)
    assert [request.path for request in r.requests] == ["/events"]

``script(request)`` returns, or awaits and returns, what to do: a ``Reply`` or one of the faults ``Hang``,
``Cut``, ``Slow``, ``Raw``. Without a script every request gets 200 and ``{}``. ``in_turn(a, b)`` scripts a
sequence whose last element repeats. On leaving, everything is closed at once, whatever hangs; an
exception that a script raised comes out there, so that it fails the test and not only the request.
"""

import asyncio
import contextlib
import inspect
import json
import socket
import ssl
import struct
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from http.client import responses
from typing import Any, Literal

from tests.machine import patience

MAX_HEAD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Request:
    """``headers`` have lower-case names; ``at`` is monotonic; ``connection`` counts from 1.

    Where the script is asked ``early_signals`` (see Receiver) ``body`` is empty.
    """

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    at: float
    connection: int

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer. Content-Length is added unless ``headers`` say how long the body is."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"
    close: bool = False

    def head(self) -> bytes:
        headers = {"Content-Type": "application/json"} | self.headers
        if not {"content-length", "transfer-encoding"} & {name.lower() for name in headers}:
            headers["Content-Length"] = str(len(self.body))
        if self.close:
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {self.status} {responses.get(self.status, 'Unknown')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@dataclass(frozen=True, slots=True)
class Hang:
    """No answer: the connection stays open until the client, or the receiver, closes it."""


@dataclass(frozen=True, slots=True)
class Cut:
    """Close the connection without an answer, in the middle of the body of ``reply``, or with a TCP reset."""

    where: Literal["before_headers", "mid_body", "rst"] = "before_headers"
    reply: Reply = Reply(body=b'{"half": "of this body"}')


@dataclass(frozen=True, slots=True)
class Slow:
    """The head of ``reply`` at once, then its body in pieces, with ``interval_s`` before each of them."""

    interval_s: float
    reply: Reply = Reply()
    piece_bytes: int = 1


@dataclass(frozen=True, slots=True)
class Raw:
    """These bytes instead of an answer, then ``endless`` again and again, if any. Then close."""

    data: bytes
    endless: bytes = b""
    interval_s: float = 0.0


Action = Reply | Hang | Cut | Slow | Raw
Script = Callable[[Request], Action | Awaitable[Action]]


def in_turn(*actions: Action) -> Script:
    """The first request gets the first action, and so on; the last one repeats."""
    left = list(actions)
    return lambda request: left.pop(0) if len(left) > 1 else left[0]


class Receiver:
    """Listens on 127.0.0.1, port 0, as an async context manager.

    ``requests``: all, in the order they were read. ``in_flight``, ``max_in_flight``: requests between
    their arrival and the end of their answer. ``connections``: opened so far; ``open``: of those, still open.
    ``early``: ask the script when the headers are in, leave the body unread in the socket, close after that.
    ``tls``: a server's context; ``url`` then is https. ``now``: of whose time requests are.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        early: bool = False,
        tls: ssl.SSLContext | None = None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.script: Script = script or in_turn(Reply())
        self.requests: list[Request] = []
        self.in_flight = self.max_in_flight = self.connections = 0
        self._early = early
        self._tls = tls
        self._now = now
        self._tasks: set[asyncio.Task[None]] = set()
        self._errors: list[Exception] = []
        self._changed = asyncio.Event()

    @property
    def open(self) -> int:
        return len(self._tasks)

    async def __aenter__(self) -> "Receiver":
        self._server = await asyncio.start_server(
            self._serve, "127.0.0.1", 0, ssl=self._tls, limit=MAX_HEAD_BYTES
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
        if self._errors and kind is None:
            raise self._errors[0]

    async def until(
        self, condition: Callable[["Receiver"], bool], *, timeout_s: float = patience(30.0)
    ) -> None:
        """Wait until ``condition(self)``: looked at whenever a request or a connection comes or goes."""
        async with asyncio.timeout(timeout_s):
            while not condition(self):
                self._changed.clear()
                await self._changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            await self._converse(reader, writer, number=self.connections)
        except (OSError, EOFError, asyncio.LimitOverrunError, asyncio.CancelledError):
            pass  # the client went away, or the receiver closes
        except Exception as error:
            self._errors.append(error)
        finally:
            writer.transport.abort()
            self._tasks.discard(task)
            self._changed.set()

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, number: int
    ) -> None:
        again = True
        while again:
            request = await self._read(reader, number)
            self.requests.append(request)
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
            self._changed.set()
            try:
                action = self.script(request)
                if inspect.isawaitable(action):
                    action = await action
                again = await _act(action, reader, writer) and not self._early
            finally:
                self.in_flight -= 1
                self._changed.set()

    async def _read(self, reader: asyncio.StreamReader, number: int) -> Request:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head[:-4].split("\r\n")
        method, path, _ = first.split(" ", 2)
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = b"" if self._early else await _read_body(reader, headers)
        return Request(method, path, headers, body, self._now(), number)


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    parts: list[bytes] = []
    while size := int((await reader.readline()).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readline()
    return b"".join(parts)


async def _act(action: Action, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Carry the action out. True if the connection can take another request."""
    match action:
        case Reply():
            writer.write(action.head() + action.body)
            await writer.drain()
            return not action.close
        case Hang():
            while await reader.read(MAX_HEAD_BYTES):  # returns when the client closes
                pass
        case Slow(interval_s, reply, piece_bytes):
            writer.write(reply.head())
            for start in range(0, len(reply.body), piece_bytes):
                await asyncio.sleep(interval_s)
                writer.write(reply.body[start : start + piece_bytes])
                await writer.drain()
            return not reply.close
        case Raw(data, endless, interval_s):
            writer.write(data)
            while endless:
                await asyncio.sleep(interval_s)
                writer.write(endless)
                await writer.drain()
            await _close(writer)
        case Cut("rst"):
            no_linger = struct.pack("ii", 1, 0)  # the abort that follows then sends a reset
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
        case Cut(where, reply):
            if where == "mid_body":
                writer.write(reply.head() + reply.body[: len(reply.body) // 2])
            await _close(writer)
    return False


async def _close(writer: asyncio.StreamWriter) -> None:
    """Close once everything written is out."""
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
