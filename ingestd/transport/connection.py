"""One connection to a server: a request, its answer, then the next. ``engine.py`` makes and keeps them.

The parser is httptools (llhttp), which is given each head whole. A connection is used again only where the
answer ended as its head said: anything else ends it with its answer (RFC 9112 6.3).
"""

import asyncio
import math
import select
from collections.abc import Iterable
from typing import Any, cast

import httptools

from ingestd.core.answer import Octets
from ingestd.core.clock import Clock, Timer
from ingestd.core.regex import regex
from ingestd.transport.network_errors import TOO_LONG_A_LINE, TOO_MANY_LINES, NoAnswer, Unsent, bad_head, lost
from ingestd.transport.target import Way

MAX_HEAD_LINE_BYTES = 128 * 1024
"""Policies and cookies of gateways come near to 64 KiB in one line."""

_MAX_HEAD_BYTES = 132 * 1024
_FRAMING = 8
"""Times as many bytes may come as are a body's, of chunks of a byte each. No more: what a parser has of a
line without an end is copied with each piece that comes."""
_BESIDE_HEAD = 16 * 1024
_WRITE_BYTES = 128 * 1024
"""A long body is written by pieces of this length. TLS takes all that it is given, and says only of what
comes later that there is no room: a body given at once would seem to be sent."""
_WITHOUT_BODY = (204, 304)
_LENGTH = regex(rb"(?im)^content-length:[ \t]*([0-9]{1,20}(?:[ \t]*,[ \t]*[0-9]{1,20})*)[ \t]*\r?\n")
_NAME = b"\ncontent-length:"
_KEPT = regex(rb"(?i)(?:^|[ \t,;])timeout[ \t]*=[ \t]*\"?([0-9]{1,5})(?![0-9])")
_NOTHING = memoryview(b"")
KEEP_ALIVE_S = 15.0
LATE = "no complete answer in time"
_HEAD_END = regex(rb"\n\r?\n")
_INTERIM = regex(rb"HTTP/1\.[01] 1(?:0[02-9]|[1-9][0-9])[ \r\n]")
"""Of 100, 103 and the like, which come before an answer."""


class ClientConnection(asyncio.Protocol):
    """``send``, await what it gives, then look at ``status``, ``headers``, ``body`` and ``truncated``.

    ``generation``, ``retire_at``, ``idle_since``, ``way``: of ``engine.py``. ``truncated``: the body
    was cut short or is too long; ``has_head``: there is an answer; ``error``: why there is none.
    ``kept_s``: how long it may be idle, by its first answer. ``look(0)``: true where something has come,
    bytes or the end, that the event loop has not read yet.
    """

    __slots__ = (
        *("_body_ends_with_it", "_clock", "_done", "_head", "_held", "_idle_s", "_last_read", "_limit"),
        *("_parser", "_parts", "_paused", "_received", "_rest", "_room", "_size", "_timer", "_timer_at"),
        *("_until", "_without_body"),
        *("closed", "error", "generation", "has_head", "headers", "idle_since", "kept_s", "look"),
        *("retire_at", "reusable", "status", "transport", "truncated", "way"),
    )

    def __init__(self, clock: Clock, *, way: Way, generation: int, retire_at: float) -> None:
        self._clock = clock
        self.way, self.generation, self.retire_at = way, generation, retire_at
        self.idle_since, self.kept_s = 0.0, 0.0
        self.closed = asyncio.get_running_loop().create_future()
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._done.set_result(None)
        self._room: asyncio.Future[None] | None = None
        self._paused = self._held = False
        self._rest = _NOTHING
        self._timer: Timer | None = None  # stays for the next request: most are answered long before
        self._timer_at = math.inf
        self.reusable = True
        self._parser: Any = httptools.HttpResponseParser(self)
        self._parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_spaces_after_chunk_size=True
        )

    # --- for those who send ---

    def send(
        self,
        head: bytes,
        body: Octets,
        *,
        held: bool = False,
        limit: int,
        idle_s: float | None,
        until: float = math.inf,
        without_body: bool = False,
    ) -> "asyncio.Future[None]":
        """The answer, or ``error``, is there when the future is. ``held``: ``send_last`` follows.
        ``limit``: bytes of a body that are kept. ``idle_s``: between two reads. ``until`` (``monotonic``):
        then the answer is what has come of it. ``without_body``: the answer has none, as that to HEAD."""
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self._parts: list[bytes] = []
        self._size = self._received = 0
        is_open = self.reusable and not self.transport.is_closing()
        self.truncated = self.has_head = self.reusable = False
        self._body_ends_with_it, self._without_body = True, without_body
        self._head, self._limit, self._held = bytearray(), limit, held
        self.error: NoAnswer | None = None
        self._done = asyncio.get_running_loop().create_future()
        if not is_open:  # since it was taken
            self._finish(Unsent("connection closed before the request was sent"))
            return self._done
        # What is written first is copied behind the head: of a long body that is only its beginning.
        first = _BESIDE_HEAD if len(body) > 4 * _BESIDE_HEAD else len(body)
        self.transport.write(head + body[:first])
        if first < len(body):
            self.transport.set_write_buffer_limits(_WRITE_BYTES // 2)
            self._rest = memoryview(body)[first:]
            self._write_on()
        self._idle_s, self._until, self._last_read = idle_s, until, self._clock.monotonic()
        if (due := self._due_at()) < self._timer_at:
            self._set_timer(due)
        return self._done

    async def written(self) -> None:
        """Wait until what was given to be sent is out of our hands, or the answer comes first."""
        while (self._paused or self._rest) and self._waits():
            self._room = asyncio.get_running_loop().create_future()
            await self._room

    def send_last(self, rest: Octets) -> None:
        """The end of a body that was held back."""
        self._held = False
        self.transport.write(rest)

    def abort(self) -> None:
        self.reusable = False
        self._stop_timer()
        self.transport.abort()

    @property
    def whole(self) -> bool:
        """All of the request is out of our hands; until then the other side cannot have it."""
        return not (self._paused or self._held or self._rest)

    @property
    def body(self) -> bytes:
        """Its first ``limit`` bytes."""
        return b"".join(self._parts)[: self._limit]

    # --- for the event loop ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        poll, number = select.poll(), transport.get_extra_info("socket").fileno()
        if number >= 0:  # else it is lost already
            poll.register(number, select.POLLIN)
        self.look = poll.poll

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        self._stop_timer()
        if not self.closed.done():
            self.closed.set_result(None)
        self._parser = None  # each refers to the other
        if self._waits():
            if not self.has_head:
                self._finish(lost(exc, whole=self.whole))
            else:
                self.truncated = exc is not None or not self._body_ends_with_it
                self._finish()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._write_on()
        self._wake()

    def data_received(self, data: bytes) -> None:
        if not self._waits():
            self.abort()  # nobody asked
            return
        if self._idle_s is not None:
            self._last_read = self._clock.monotonic()
        if not self.has_head:
            data = self._whole_head(data)
        self._received += len(data)
        try:
            if data:
                self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.reusable = False
        except httptools.HttpParserError as error:
            self.reusable = False
            self._break(bad_head(str(error)))
        if self._received > _FRAMING * (self._size if self.has_head else self._limit) + _MAX_HEAD_BYTES:
            self._break(bad_head())

    # --- for the parser ---

    def on_message_begin(self) -> None:
        if not self.has_head:
            self.headers = []
        else:
            self.reusable = False  # bytes behind the answer's end, which are nobody's

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.has_head:  # else a trailer
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self.has_head:
            return
        self.status = self._parser.get_status_code()
        if 100 <= self.status < 200 and self.status != 101:
            return  # not the answer yet
        self.has_head, self._received = True, 0
        if not self.kept_s:
            self.kept_s = kept_s(self.headers)
        for name, value in self.headers:
            low = name.lower()
            if low.startswith(b"content-length") or (  # a blank may follow
                low.startswith(b"transfer-encoding") and value.lower().endswith(b"chunked")
            ):
                self._body_ends_with_it = False
                break
        if self._without_body or self.status == 101:
            self._finish()

    def on_body(self, data: bytes) -> None:
        if self._done.done():
            return
        self._parts.append(data)
        self._size += len(data)
        if self._size > self._limit:
            self._break(bad_head())

    def on_message_complete(self) -> None:
        if self.has_head and self._waits():
            framed = self.status in _WITHOUT_BODY and not self._body_ends_with_it
            self.reusable = self.whole and not framed and self._parser.should_keep_alive()
            self._finish()

    # ---

    def _waits(self) -> bool:
        return not self._done.done()

    def _write_on(self) -> None:
        """The next pieces of a long body, until there is no room."""
        while self._rest and not self._paused:
            data, self._rest = self._rest[:_WRITE_BYTES], self._rest[_WRITE_BYTES:]
            self.transport.write(data)
        if not self._rest:
            self._rest = _NOTHING  # an empty piece would keep the body

    def _wake(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)

    def _whole_head(self, data: bytes) -> bytes:
        """All that has come, once the answer's head is whole or is none; before that nothing. Heads that come
        before it (100, 103) are left out."""
        if not self._head:
            data = data.lstrip(b"\r\n")  # RFC 9112 2.2, of requests
            if b"\r\n\r\n" in data and not (data[9:10] == b"1" and _INTERIM.match(data)):
                return one_length(data)
        seen = max(0, len(self._head) - 2)
        self._head += data
        while end := _HEAD_END.search(self._head, seen):
            if not _INTERIM.match(self._head):
                break
            self._received += end.end()
            del self._head[: end.end()]
            seen = 0
        if not end:
            if len(self._head) > _MAX_HEAD_BYTES:
                longest = max(map(len, self._head.split(b"\n")))
                self._break(NoAnswer(TOO_LONG_A_LINE if longest > MAX_HEAD_LINE_BYTES else TOO_MANY_LINES))
                return b""
            if self._head.startswith(b"HTTP/"[: len(self._head)]):
                return b""
        data, self._head = bytes(self._head), bytearray()
        return one_length(data)

    def _due_at(self) -> float:
        """When the answer, or the next piece of it, is too late."""
        return self._until if self._idle_s is None else min(self._until, self._last_read + self._idle_s)

    def _set_timer(self, due: float) -> None:
        self._stop_timer()
        self._timer_at = due
        self._timer = self._clock.call_later(due - self._clock.monotonic(), self._look_at_time)

    def _look_at_time(self) -> None:
        """It may have been set for a request that was answered long ago."""
        self._timer, self._timer_at = None, math.inf
        now, due = self._clock.monotonic(), self._due_at()
        if self._waits() and due > now:
            self._set_timer(due)
        elif self._waits():
            self._break(NoAnswer(LATE if now >= self._until else "no answer in time"))

    def _break(self, error: NoAnswer) -> None:
        """It cannot go on: what came of a body is kept, and the connection is not used again."""
        if not self._waits():
            return
        if self.has_head:
            self.truncated = True
            self._finish()
        else:
            self._finish(error)
        self.transport.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = None, math.inf

    def _finish(self, error: NoAnswer | None = None) -> None:
        self.error = error
        if not self._done.done():
            self._done.set_result(None)
        self._wake()


def kept_s(headers: Iterable[tuple[bytes, bytes]]) -> float:
    """How long a connection may be idle: less than the server says (``Keep-Alive: timeout=5``), since of a
    request that meets the end of its connection nobody knows. At most KEEP_ALIVE_S."""
    for name, value in headers:
        if name.lower() == b"keep-alive" and (found := _KEPT.search(value)):
            return min(KEEP_ALIVE_S, max(0.1, 0.8 * int(found[1])))
    return KEEP_ALIVE_S


def one_length(data: bytes) -> bytes:
    """With one Content-Length where it is there more than once and always the same; else as it is.

    RFC 9110 8.6 lets a recipient take ``Content-Length: 2, 2``, or the line twice, for one; proxies send
    that. llhttp refuses it."""
    head, _, rest = data.partition(b"\r\n\r\n")
    low = head.lower()
    first = low.find(_NAME)
    if first < 0 or (low.find(_NAME, first + 1) < 0 and b"," not in low[first : low.find(b"\n", first + 1)]):
        return data
    # Only now exactly: where a head has no carriage returns, what was looked at is more than that.
    if (end := _HEAD_END.search(data)) is None:
        return data
    head, rest = data[: end.start()].removesuffix(b"\r"), data[end.end() :]
    lengths = {int(number) for line in _LENGTH.finditer(head + b"\r\n") for number in line[1].split(b",")}
    if len(lengths) != 1:
        return data
    return _LENGTH.sub(b"", head + b"\r\n") + b"Content-Length: %d\r\n" % lengths.pop() + b"\r\n" + rest
