"""A request: how it comes out of a connection's bytes, however they are cut, and what an application gets of
it. No I/O.

``connection.py`` reads requests and calls an Application, which answers with ``Request.respond``.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
from httptools import HttpParserError, HttpRequestParser

from ingestd.httpd.head import END_OF_HEAD, BadRequest, Head, read_head, refuse_beginning
from ingestd.httpd.response import Headers, Response


class RequestSpan(Protocol):
    """What is traced of a request, until its answer."""

    def answered(self, status: int) -> None:
        """The answer went out with this status."""
        ...


class Request(msgspec.Struct, eq=False):
    """One HTTP request. ``body`` is whole in ``Application.handle`` and empty in ``check_head``."""

    method: str
    target: str
    """As it was sent: path and query; of an absolute-form target without scheme and authority."""
    path: str
    """Not percent-decoded."""
    query: str
    headers: dict[str, str]
    """Lower-case names, latin-1 values. A field that came twice is joined with ``", "``."""
    answer: Callable[[Response], None] | None
    """Where ``respond`` goes to, once. Set to None afterwards and when the client goes."""
    peer: str = ""
    """The client's IP address."""
    certificate_name: str = ""
    """Common name, or else first subject alternative name, of a verified client certificate."""
    repeated: frozenset[str] = frozenset()
    """Names of the fields that came more than once."""
    body: bytes = b""
    gone: bool = False
    """The client has closed the connection, or was cut off."""
    span: RequestSpan | None = None
    """Where requests are traced."""
    reading: Any = None
    """What ``check_head`` made of the head, if it let it pass: the next request whose head is the same, byte
    by byte, comes with it."""

    def respond(self, status: int, body: bytes = b"", headers: Headers = ()) -> None:
        """Answer: now or later, on the event loop. Dropped when it comes a second time or the client is
        gone. Unknown statuses and headers that would break the framing become a 500."""
        self.reply(Response(status, body, headers))

    def reply(self, response: Response) -> None:
        """As ``respond``. One that is given again and again is encoded once a second."""
        answer, self.answer = self.answer, None
        if self.span is not None:
            self.span.answered(response.status)
        if answer is not None:
            answer(response)


class Application(Protocol):
    """What stands behind the wire. Both are called on the event loop and must not block."""

    def check_head(self, request: Request) -> Response | None:
        """Called when the head is complete and before the body is read: an early refusal, or None."""
        ...

    def handle(self, request: Request) -> None:
        """The body is complete. Responds through ``request.respond``, now or later."""
        ...


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits for a client. Beyond one it gets an error and is cut off."""

    max_head_bytes: int = 16 * 1024
    """Request line and fields together; 431."""
    max_headers: int = 64
    max_body_bytes: int = 16 * 1024 * 1024
    """As sent, before decoding; 413."""
    max_buffered_bytes: int = 128 * 1024 * 1024
    """Of all bodies that are held at once; 503 for a body of more than 64 KiB that would pass it."""
    head_timeout_s: float = 10.0
    """From the first byte to the last field, and for a TLS handshake; 408."""
    body_timeout_s: float = 30.0
    """From the head to the end of the body; 408. Also for a client that does not read its answers."""
    idle_timeout_s: float = 130.0
    """A connection without a request; closed without a word. A client that would use it just then gets a
    reset: so it is longer than what proxies and clients wait before they close it."""
    last_call_s: float = 0.1
    """Of a drain, for connections in use: a request that is on its way then has an answer and no reset."""
    max_connections: int = 10_000
    """At once; 503."""
    max_surplus: int = 256
    """Connections above the limit that get an error at the same time; any more are closed at once."""
    linger_s: float = 5.0
    """What a refused client may go on sending, so that it comes to read its answer (RFC 9112, 9.6)."""
    linger_bytes: int = 16 * 1024 * 1024
    """Thrown away of that; what comes after it is not read."""
    held_s: float = 0.5
    """Until a client that has sent more is cut off."""
    sweep_s: float = 1.0
    """How often slow clients are looked for."""


_KEPT_HEADS, _KEPT_HEAD_BYTES = 256, 1024
_EMPTY_LINES = re.compile(rb"\A(?:\r\n)+")


class KnownHeads(dict[bytes, Head]):
    """Heads by their bytes, on which all that is read in them depends: a producer sends the same one again
    and again. They must not be changed. A long one is not kept, nor one with a chunked body, which its parser
    goes on with; when there are too many, all are forgotten. Raises BadRequest for one that is malformed.
    """

    def __init__(self, max_headers: int) -> None:
        self._max_headers = max_headers

    def __missing__(self, raw: bytes) -> Head:
        head = read_head(raw, max_headers=self._max_headers)
        if len(raw) <= _KEPT_HEAD_BYTES and head.chunked is None:
            if len(self) >= _KEPT_HEADS:
                self.clear()
            self[raw] = head
        return head


class RequestReader:
    """``buffer`` gets what came in; then ``read_head``, ``read_body``; ``head = None`` before the next one.

    Both give None as long as something is missing, and raise BadRequest, after which nothing that
    follows can be understood.
    """

    __slots__ = ("body", "buffer", "head")

    def __init__(self) -> None:
        self.buffer = b""
        self.head: Head | None = None
        self.body: RequestBody | None = None
        """One that did not come in one piece with its head, as far as it has come."""

    @property
    def held_bytes(self) -> int:
        return len(self.buffer) + (self.body.held_bytes if self.body is not None else 0)

    def read_head(self, limits: ServerLimits, known: KnownHeads) -> Head | None:
        """The head, once it is whole; None before. Raises BadRequest."""
        buffer = self.buffer
        if buffer[:1] == b"\r":  # RFC 9112, 2.2: empty lines before a request are ignored
            buffer = self.buffer = _EMPTY_LINES.sub(b"", buffer, count=1)
            if buffer in (b"", b"\r"):
                return None
        found = buffer.find(END_OF_HEAD, 0, limits.max_head_bytes)
        if found < 0:
            if len(buffer) >= limits.max_head_bytes:
                raise BadRequest(431, f"the head is larger than {limits.max_head_bytes} bytes")
            refuse_beginning(buffer)
            return None
        end = found + len(END_OF_HEAD)
        head = known[buffer[:end]]
        if head.body_bytes > limits.max_body_bytes:
            raise BadRequest(413, f"the body is larger than {limits.max_body_bytes} bytes")
        self.head, self.buffer = head, buffer[end:]
        return head

    def read_body(self, head: Head, limits: ServerLimits) -> bytes | None:
        body, buffer = self.body, self.buffer
        if body is None:
            size = head.body_bytes
            if head.chunked is None and size <= len(buffer):  # nearly always
                self.buffer = buffer[size:]
                return buffer[:size]
            body = self.body = (
                SizedBody(size)
                if head.chunked is None
                else ChunkedBody(head, head.chunked, max_bytes=limits.max_body_bytes)
            )
        self.buffer = b""
        rest = body.feed(buffer)
        if rest is None:
            return None
        self.buffer, self.body = rest, None
        return body.body()

    def skip_body(self, head: Head) -> bool:
        """Whether the body was here already, so that the connection can be kept without reading it."""
        if head.chunked is not None or head.body_bytes > len(self.buffer):
            return False
        self.buffer = self.buffer[head.body_bytes :]
        return True

    def clear(self) -> None:
        self.buffer = b""
        self.head = self.body = None


_FREE_OVERHEAD_BYTES = 16 * 1024
_OVERHEAD_FACTOR = 8
"""Chunks of one byte come with five bytes of framing; more than this is padding."""


class SizedBody:
    """Of an announced length. ``feed`` until it gives what follows the body."""

    __slots__ = ("_received", "_size_bytes")

    def __init__(self, size_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._received = bytearray()

    @property
    def held_bytes(self) -> int:
        return len(self._received)

    def feed(self, data: bytes) -> bytes | None:
        missing = self._size_bytes - len(self._received)
        if len(data) < missing:
            self._received += data
            return None
        self._received += memoryview(data)[:missing]
        return data[missing:]

    def body(self) -> bytes:
        return bytes(self._received)


class ChunkedBody:
    """Decoded by llhttp. ``feed`` until it gives what follows the body.

    A parser of httptools cannot stop after one request, and the next may follow in the same
    bytes. But a chunked body always ends with an empty line: so it is fed no further than the next one.
    """

    __slots__ = ("_decoded", "_fed_bytes", "_head", "_max_bytes", "_parser", "_waiting")

    def __init__(self, head: Head, parser: HttpRequestParser, *, max_bytes: int) -> None:
        self._head = head
        self._parser = parser
        self._decoded = head.decoded = bytearray()
        self._max_bytes = max_bytes
        self._waiting = b""
        self._fed_bytes = 0

    @property
    def held_bytes(self) -> int:
        return len(self._decoded)

    def feed(self, data: bytes) -> bytes | None:
        """Raises BadRequest: 400 for malformed chunks, 413 as soon as they are more than ``max_bytes``."""
        data = self._waiting + data
        view, start = memoryview(data), 0
        while (found := data.find(END_OF_HEAD, start)) >= 0:
            end = found + len(END_OF_HEAD)
            self._parse(view[start:end])
            start = end
            if self._head.body_complete:
                return data[start:]
        # an empty line may have come in half
        kept = next(n for n in (3, 2, 1, 0) if data.endswith(END_OF_HEAD[:n]))
        stop = max(start, len(data) - kept)
        self._parse(view[start:stop])
        self._waiting = data[stop:]
        return None

    def body(self) -> bytes:
        return bytes(self._decoded)

    def _parse(self, data: memoryview) -> None:
        try:
            self._parser.feed_data(data)
        except HttpParserError as error:
            raise BadRequest(400, f"the chunked body is malformed: {error}") from None
        self._fed_bytes += len(data)
        body_bytes = len(self._decoded)
        if body_bytes > self._max_bytes:
            raise BadRequest(413, f"the body is larger than {self._max_bytes} bytes")
        if self._fed_bytes - body_bytes > _FREE_OVERHEAD_BYTES + _OVERHEAD_FACTOR * body_bytes:
            raise BadRequest(400, "the chunks of the body are mostly padding")


RequestBody = SizedBody | ChunkedBody
