"""Requests out of the bytes of one connection, however they come cut. No I/O. Called by ``connection.py``."""

import re

from ingestd.httpd.framing import Body, ChunkedBody, SizedBody
from ingestd.httpd.head import END_OF_HEAD, BadRequest, Head, read_head, refuse_beginning
from ingestd.httpd.request import ServerLimits

_EMPTY_LINES = re.compile(rb"\A(?:\r\n)+")


class RequestReader:
    """``buffer`` gets what came in; then ``read_head``, ``read_body``, and ``next`` for the next request.

    Both give None as long as something is missing, and raise BadRequest, after which nothing that
    follows can be understood.
    """

    __slots__ = ("_body", "buffer", "head")

    def __init__(self) -> None:
        self.buffer = b""
        self.head: Head | None = None
        self._body: Body | None = None

    @property
    def held_bytes(self) -> int:
        return len(self.buffer) + (self._body.held_bytes if self._body is not None else 0)

    def read_head(self, limits: ServerLimits) -> Head | None:
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
        head = read_head(buffer[:end], max_headers=limits.max_headers)
        if head.body_bytes > limits.max_body_bytes:
            raise BadRequest(413, f"the body is larger than {limits.max_body_bytes} bytes")
        self.head, self.buffer = head, buffer[end:]
        return head

    def read_body(self, head: Head, limits: ServerLimits) -> bytes | None:
        body, buffer = self._body, self.buffer
        if body is None:
            size = head.body_bytes
            if head.chunked is None and size <= len(buffer):  # nearly always
                self.buffer = buffer[size:]
                return buffer[:size]
            body = self._body = (
                SizedBody(size)
                if head.chunked is None
                else ChunkedBody(head, head.chunked, max_bytes=limits.max_body_bytes)
            )
        self.buffer = b""
        rest = body.feed(buffer)
        if rest is None:
            return None
        self.buffer, self._body = rest, None
        return body.body()

    def skip_body(self, head: Head) -> bool:
        """Whether the body was here already, so that the connection can be kept without reading it."""
        if head.chunked is not None or head.body_bytes > len(self.buffer):
            return False
        self.buffer = self.buffer[head.body_bytes :]
        return True

    def next(self) -> None:
        self.head = None

    def clear(self) -> None:
        self.buffer = b""
        self.head = self._body = None
