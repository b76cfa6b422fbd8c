"""The handshake of CloudEvents' "HTTP 1.1 Web Hooks for Event Delivery" 1.0, section 4: abuse protection.

Stands before a ``Sender`` for receivers that want to be asked before they are sent anything.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Protocol

from msgspec.structs import replace

from ingestd.core.answer import PASSING, Answer, Octets
from ingestd.core.clock import Clock
from ingestd.core.errors import Held, UserError
from ingestd.core.regex import regex
from ingestd.transport.client import Client

ASK_AGAIN_S = 24 * 3600.0

_ORIGIN = regex(r"(?=.{1,253}$)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?", re.ASCII)
_RATE = regex(r"[1-9][0-9]{0,8}", re.ASCII)
_WITHDRAWN = {403, 404, 405, 410}
"""Answers to a delivery after which permission is asked for again: the receiver may no longer want any."""


class HandshakeTransport(Protocol):
    """``sender.Sender``. ``send``: the answer, and the generation of its token. Raises Unreachable, Held."""

    @property
    def held(self) -> bool: ...

    def hold(self, on: bool) -> None:
        """``on``: send nothing until it is off again."""
        ...

    @property
    def refusal(self) -> str: ...

    async def send(self, url: str, body: Octets, headers: Mapping[str, str]) -> tuple[Answer, int]: ...

    def drop_token(self, generation: int) -> None:
        """The token of that generation was refused: log in again before the next request."""
        ...


class WebhookHandshake:
    """Asks before the first delivery, once a day, and after an answer that looks like a withdrawal.

    ``origin``: the DNS name under which we ask (``WebHook-Request-Origin``); each delivery carries it.
    ``requests_per_minute``: the rate that is asked for; 0: none. ``on_allowed`` is called with the rate that
    was granted, for the lane's rate limiter; None: no limit. Permission is the header
    ``WebHook-Allowed-Origin``, never the status alone. Where it is not given, ``send`` returns a 403 of our
    own, upon which a lane pauses and probes, and each probe asks again. Raises UserError for an invalid
    origin. Close with ``aclose``.
    """

    def __init__(
        self,
        sender: HandshakeTransport,
        client: Client,
        *,
        origin: str,
        clock: Clock,
        requests_per_minute: int = 0,
        on_allowed: Callable[[int | None], None] = lambda requests_per_minute: None,
    ) -> None:
        if not _ORIGIN.fullmatch(origin):
            raise UserError(f"handshake_origin {origin[:100]!r}: expected a name like events.example.com")
        self._sender = sender
        self._client = client
        self._origin = origin
        self._clock = clock
        self._asked_rate = requests_per_minute
        self._good_until = 0.0
        self._granted = False
        self._asking: asyncio.Task[Answer | None] | None = None
        self._on_allowed = on_allowed

    async def send(self, url: str, body: Octets, headers: Mapping[str, str]) -> tuple[Answer, int]:
        """(answer, generation of the credential). Raises Unreachable, Held."""
        if not self._granted or self._clock.monotonic() >= self._good_until:
            refusal = await self._ask(url)
            if refusal is not None:
                return refusal, 0
            if self.held:
                raise Held
        answer, generation = await self._sender.send(
            url, body, {**headers, "WebHook-Request-Origin": self._origin}
        )
        if answer.status in _WITHDRAWN:
            self._granted = False
        return answer, generation

    @property
    def refusal(self) -> str:
        return self._sender.refusal

    @property
    def held(self) -> bool:
        return self._sender.held

    def hold(self, on: bool) -> None:
        self._sender.hold(on)

    def drop_token(self, generation: int) -> None:
        self._sender.drop_token(generation)

    async def aclose(self) -> None:
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait([self._asking])

    async def _ask(self, url: str) -> Answer | None:
        """None if we may send. However many wait, one asks; it goes on when those who wait are cancelled."""
        if self._asking is None:
            self._asking = asyncio.create_task(self._request(url), name="webhook handshake")
            self._asking.add_done_callback(self._forget_task)
        asking = self._asking
        await asyncio.wait([asking])
        return Answer(0, error="the handshake was ended") if asking.cancelled() else asking.result()

    def _forget_task(self, _: object) -> None:
        self._asking = None

    async def _request(self, url: str) -> Answer | None:
        headers = {"WebHook-Request-Origin": self._origin}
        if self._asked_rate:
            headers["WebHook-Request-Rate"] = str(self._asked_rate)
        answer = await self._client.request("OPTIONS", url, headers=headers)
        if answer.status == 0 or answer.status in PASSING or answer.status >= 500:
            return answer  # it says nothing about permission: later
        self._granted = 200 <= answer.status < 300 and self._allows(answer.headers)
        if not self._granted:
            return _refusal(answer, self._origin)
        self._good_until = self._clock.monotonic() + ASK_AGAIN_S
        self._on_allowed(self._rate(answer.headers.get("webhook-allowed-rate", "")))
        return None

    def _allows(self, headers: Mapping[str, str]) -> bool:
        allowed = headers.get("webhook-allowed-origin", "").strip().lower()
        return allowed in ("*", self._origin.lower())

    def _rate(self, allowed: str) -> int | None:
        if _RATE.fullmatch(allowed.strip()):
            return int(allowed)
        return None if allowed.strip() == "*" else self._asked_rate or None


def _refusal(answer: Answer, origin: str) -> Answer:
    """A 403 that says what is missing; nothing of the receiver's own words, which are not needed."""
    problem = "no WebHook-Allowed-Origin for it" if 200 <= answer.status < 300 else "no permission"
    words = f"the receiver does not let {origin} send: it answered OPTIONS with {answer.status} and {problem}"
    return replace(answer, status=403, headers={}, body=words.encode(), truncated=False)
