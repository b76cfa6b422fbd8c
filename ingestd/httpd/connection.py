"""One client's connection: reads requests, hands them on one at a time, writes the answers in their order.

Made by ``server.py``. There is no task, future, timer or log line for a request: deadlines are looked
at from outside, once a second for all connections.
"""

import asyncio
import logging
from enum import IntEnum
from typing import cast

from ingestd.httpd.head import BadRequest, Head
from ingestd.httpd.problem import OUR_FAULT, problem
from ingestd.httpd.request import Request, RequestReader
from ingestd.httpd.response import CLOSE, CONTINUE, KEEP_ALIVE, Headers, Response, encode
from ingestd.httpd.state import ServerState
from ingestd.httpd.tls import certificate_name

logger = logging.getLogger(__name__)

READ_AHEAD_BYTES = 16 * 1024
"""Buffered of the requests behind an open one before reading is paused."""
WRITE_BUFFER_BYTES = 64 * 1024
"""Of answers that the client does not read; above, no further request of it is looked at."""
REQUESTS_AT_ONCE = 64
"""Pipelined ones, before the other connections have their turn."""
SMALL_BODY_BYTES = 64 * 1024
"""Up to here a body is taken even when too much is buffered for all."""


class Phase(IntEnum):
    """In the order of a connection's life; from OPEN on nothing is read from the buffer."""

    CONNECTING = 0
    IDLE = 1
    HEAD = 2
    BODY = 3
    OPEN = 4
    """The application has the request."""
    LINGERING = 5
    """The last answer is written; what still comes in is thrown away."""
    HELD = 6
    """It sent too much behind its last answer, and may send no more. It is reset a little later, since at a
    reset most clients do not look for an answer."""
    CLOSED = 7


class Connection(asyncio.Protocol):
    """``surplus``: one more than the limit allows; it gets a 503 when its first request comes, not before: Go
    takes an answer that nothing was sent for as a fault of the connection. Then it is closed."""

    __slots__ = (
        *("_advancing", "_blocked_since_s", "_certificate_name", "_discarded_bytes", "_ended", "_held_bytes"),
        *("_loop", "_paused", "_phase", "_reader", "_request", "_since_s", "_state", "_surplus"),
        *("_transport", "peer"),
    )

    def __init__(self, state: ServerState, peer: str, *, surplus: bool = False) -> None:
        self._state = state
        self.peer = peer
        self._surplus = surplus
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._certificate_name = ""
        self._phase = Phase.CONNECTING
        self._since_s = 0.0
        self._reader = RequestReader()
        self._request: Request | None = None
        self._held_bytes = 0
        self._discarded_bytes = 0
        self._blocked_since_s = 0.0
        self._advancing = False
        self._paused = False
        self._ended = False
        state.connections.add(self)

    # -- called by the transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=WRITE_BUFFER_BYTES)
        self._certificate_name = certificate_name(transport.get_extra_info("peercert"))
        self._enter(Phase.IDLE)
        if self._state.past_last_call:
            self._close()

    def data_received(self, data: bytes) -> None:
        if self._surplus and self._phase < Phase.LINGERING:
            self._refuse(503, "too many connections", headers=(("Retry-After", "5"),))
        if self._phase >= Phase.LINGERING:
            self._discarded_bytes += len(data)
            if self._discarded_bytes > self._state.limits.linger_bytes:
                self._pause_reading(True)
                self._enter(Phase.HELD)
            return
        reader = self._reader
        reader.buffer = reader.buffer + data if reader.buffer else data
        self._advance()

    def eof_received(self) -> bool:
        """The client sends no more but may still read: what it has asked for is answered (not over TLS,
        whose transports close both ways)."""
        self._ended = True
        is_behind = bool(self._reader.buffer) and (self._phase == Phase.IDLE or bool(self._blocked_since_s))
        if (self._phase == Phase.OPEN or is_behind) and self._can_half_close():
            return True
        self._enter(Phase.CLOSED)
        return False

    def pause_writing(self) -> None:
        self._blocked_since_s = self._loop.time()

    def resume_writing(self) -> None:
        self._blocked_since_s = 0.0
        self._advance()

    def connection_lost(self, error: Exception | None) -> None:
        del error
        self._phase = Phase.CLOSED
        request, self._request = self._request, None
        if request is not None:
            request.gone = True
            request.answer = None
        self._reader.clear()
        self._account()
        self._state.leave(self)

    # -- called by the server

    def enforce_deadline(self, now_s: float) -> None:
        """Cut off a client that is too slow."""
        limits, phase, age_s = self._state.limits, self._phase, now_s - self._since_s
        if self._blocked_since_s and now_s - self._blocked_since_s > limits.body_timeout_s:
            self.abort()
        elif phase == Phase.IDLE and age_s > (limits.linger_s if self._surplus else limits.idle_timeout_s):
            self._close()
        elif phase == Phase.HEAD and age_s > limits.head_timeout_s:
            self._refuse(408, f"the head was not complete within {limits.head_timeout_s:g} s")
        elif phase == Phase.BODY and age_s > limits.body_timeout_s:
            self._refuse(408, f"the body was not complete within {limits.body_timeout_s:g} s")
        elif phase >= Phase.LINGERING and age_s > (limits.held_s if phase == Phase.HELD else limits.linger_s):
            self.abort()  # it goes on sending, or does not read

    def close_if_idle(self, for_s: float) -> None:
        """Close it if nothing has come for that long and nothing is open; what has begun is answered."""
        idle = self._phase == Phase.IDLE and not self._reader.buffer
        if idle and self._loop.time() - self._since_s >= for_s:
            self._close()

    def abort(self) -> None:
        self._phase = Phase.CLOSED
        if self._transport is not None:
            self._transport.abort()

    # -- reading

    def _advance(self) -> None:
        """Go as far as the buffer allows: to an open request, or until more has to come in."""
        if self._advancing:
            return
        self._advancing = True
        waits = True
        for _ in range(REQUESTS_AT_ONCE):
            if self._phase >= Phase.OPEN or self._blocked_since_s or not self._reader.buffer:
                break
            if not self._read_request():
                break
        else:
            waits = False
            self._loop.call_soon(self._advance)
        self._advancing = False
        if self._phase < Phase.LINGERING:
            self._settle(waits=waits)

    def _settle(self, *, waits: bool) -> None:
        """After each step: count what is held, pause or resume reading, close behind a client that ended."""
        self._account()
        is_behind = bool(self._blocked_since_s) or self._phase in (Phase.IDLE, Phase.OPEN)
        self._pause_reading(is_behind and len(self._reader.buffer) > READ_AHEAD_BYTES)
        if self._ended and waits and self._phase < Phase.OPEN and not self._blocked_since_s:
            self._close()

    def _read_request(self) -> bool:
        """Read on from the buffer; whether that dealt with a whole request."""
        try:
            head = self._reader.head
            if head is None:
                head = self._reader.read_head(self._state.limits, self._state.heads)
                if head is None:
                    if self._phase == Phase.IDLE:
                        self._enter(Phase.HEAD)
                    return False
                if not self._admit(head):
                    return True
            body = self._reader.read_body(head, self._state.limits)
            if body is None:
                self._await_body(head)
                return False
        except BadRequest as error:
            self._refuse(error.status, error.detail, headers=error.headers)
            return False
        self._hand_on(body)
        return True

    def _admit(self, head: Head) -> bool:
        """Ask the application before the body is read. If that refuses, the connection is kept only if
        the body is here already and can be skipped."""
        request = Request(
            *(head.method, head.target, head.path, head.query, head.headers),
            *(self._answer, self.peer, self._certificate_name, head.repeated),
            reading=head.reading,
        )
        try:
            refusal = self._state.application.check_head(request)
        except Exception:
            logger.exception("a request's head could not be checked")
            refusal = OUR_FAULT
        if refusal is None:
            self._request = request
            head.reading = request.reading
            return True
        if self._reader.skip_body(head):
            self._finish(refusal)
        else:
            self._send(refusal, keep_alive=False)
            self._linger()
        return False

    def _await_body(self, head: Head) -> None:
        if self._phase != Phase.BODY:
            self._enter(Phase.BODY)
            if head.awaits_continue and not self._reader.held_bytes and self._transport is not None:
                self._transport.write(CONTINUE)
        self._account()
        is_small = self._reader.held_bytes <= SMALL_BODY_BYTES
        if not is_small and self._state.buffered_bytes > self._state.limits.max_buffered_bytes:
            raise BadRequest(503, "too many bodies are being received", headers=(("Retry-After", "1"),))

    # -- answering

    def _hand_on(self, body: bytes) -> None:
        request = self._request
        assert request is not None
        request.body = body
        self._phase = Phase.OPEN
        try:
            self._state.application.handle(request)
        except Exception:
            logger.exception("a request could not be handled")
            request.respond(*OUR_FAULT)

    def _answer(self, response: Response) -> None:
        if self._phase == Phase.OPEN:
            self._request = None
            self._finish(response)
            if self._reader.buffer or self._paused:
                self._advance()
            elif self._phase < Phase.LINGERING:
                self._account()

    def _finish(self, response: Response) -> None:
        """Answer the request that has been read whole, and be ready for the next, or not."""
        head = self._reader.head
        has_ended = self._ended and not self._reader.buffer
        keep_alive = head is not None and head.keep_alive and not has_ended and not self._state.draining
        self._send(response, keep_alive=keep_alive)
        self._reader.head = None
        if keep_alive:
            self._enter(Phase.IDLE)
        elif self._reader.buffer or self._paused:
            self._linger()
        else:
            self._close()

    def _send(self, response: Response, *, keep_alive: bool) -> None:
        state, head = self._state, self._reader.head
        persistence = (KEEP_ALIVE if head is not None and head.is_http_1_0 else b"") if keep_alive else CLOSE
        head_only = head is not None and head.method == "HEAD"
        is_plain = not (persistence or head_only)
        last, date, data = state.last
        if not is_plain or response is not last or date is not state.date:
            try:
                data = encode(response, date=state.date, persistence=persistence, head_only=head_only)
            except (KeyError, ValueError):
                logger.exception("a response could not be encoded")
                response = OUR_FAULT
                data = encode(response, date=state.date, persistence=persistence, head_only=head_only)
            if is_plain:
                state.last = response, state.date, data
        state.requests_by_status[response.status] = state.requests_by_status.get(response.status, 0) + 1
        if self._transport is not None:
            self._transport.write(data)

    def _refuse(self, status: int, detail: str, *, headers: Headers = ()) -> None:
        """Answer what cannot be a request, or came too late, and be done with this client."""
        self._state.refused(self.peer, status, detail)
        self._send(problem(status, detail, headers=headers), keep_alive=False)
        self._linger()

    # -- ending

    def _linger(self) -> None:
        """Half-close, and give the client the time to read: unread input would make of the close a reset,
        and that would take the answer from it."""
        self._enter(Phase.LINGERING)
        self._reader.clear()
        self._request = None
        self._account()
        self._pause_reading(False)
        if self._ended:
            self._close()
        elif self._transport is not None and self._can_half_close():
            self._transport.write_eof()

    def _close(self) -> None:
        self._enter(Phase.CLOSED)
        if self._transport is not None:
            self._transport.close()

    def _can_half_close(self) -> bool:
        return self._transport is not None and self._transport.can_write_eof()

    def _enter(self, phase: Phase) -> None:
        self._phase = phase
        self._since_s = self._loop.time()

    def _pause_reading(self, wanted: bool) -> None:
        if wanted != self._paused and self._transport is not None:
            self._paused = wanted
            if wanted:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def _account(self) -> None:
        reader = self._reader
        held_bytes = len(reader.buffer) if reader.body is None else reader.held_bytes
        if self._request is not None:
            held_bytes += len(self._request.body)
        self._state.buffered_bytes += held_bytes - self._held_bytes
        self._held_bytes = held_bytes
