"""Webhooks: those of Genesys Cloud under a token, plain ones under ``/hooks/``, and their handshake.

Handshake: CloudEvents HTTP web hooks 1.0.2, section 4. Joined to their routes by
``sandbox/remote_apis.py``.
"""

import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec

from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.sandbox.access import AccessControl, check_form
from ingestd.sandbox.apis import signatures
from ingestd.sandbox.contract import Reply
from ingestd.sandbox.exchange import Exchange
from ingestd.sandbox.inbox import digest
from ingestd.sandbox.store import IdempotencyKeys

MAX_ORIGINS = 1_000

_LIST = msgspec.json.Decoder(list[msgspec.Raw])


class Webhooks:
    """Both kinds. Raises UserError for an invalid secret. ``is_token``: whether the control plane made it.

    A plain hook recognises ``webhook-id`` and ``Idempotency-Key`` and takes nothing twice under the
    same one; the platform's webhook knows neither.
    """

    def __init__(
        self,
        gate: AccessControl,
        clock: Clock,
        *,
        tokens: Sequence[str],
        is_token: Callable[[str], bool] = lambda token: False,
        secrets: Sequence[str],
        max_body_bytes: int,
        handshake_required: bool,
        rate_per_minute: int | None,
        hook_status: int,
    ) -> None:
        self._gate = gate
        self._clock = clock
        self._tokens = frozenset(tokens)
        self._is_token = is_token
        try:
            self._secrets = [signatures.read_secret(secret) for secret in secrets]
        except ValueError as reason:
            raise UserError(str(reason)) from None
        self._max_body_bytes = max_body_bytes
        self._handshake_required = handshake_required
        self._rate_per_minute = rate_per_minute
        self._hook_status = hook_status
        self._granted: OrderedDict[tuple[str, str], None] = OrderedDict()
        self.reset()

    def reset(self) -> None:
        """Forget what came. Grants stay good, like tokens: clients ask once."""
        self._keys = IdempotencyKeys(self._clock)

    async def invoke(self, exchange: Exchange) -> Reply:
        """``POST /api/v2/integrations/webhooks/{token}/events``: any object; the token is the login."""
        if not self._knows(exchange.params["token"]):
            return exchange.error(404, "not.found", "there is no such webhook")
        return await self._gate.without_token(exchange, self._invoke, who=exchange.path)

    def _knows(self, token: str) -> bool:
        return token in self._tokens or self._is_token(token)

    async def take(self, exchange: Exchange) -> Reply:
        """``POST /hooks/{name}``: any body."""
        return await self._gate.without_token(exchange, self._take, who=exchange.path)

    async def grant_webhook(self, exchange: Exchange) -> Reply:
        if not self._knows(exchange.params["token"]):
            return exchange.error(404, "not.found", "there is no such webhook")
        return await self.grant(exchange)

    async def grant(self, exchange: Exchange) -> Reply:
        """``OPTIONS``: may this origin send here, and how often a minute. A refusal has no such headers."""
        await self._gate.wait(exchange.order)
        origin = exchange.headers.get("WebHook-Request-Origin", "")
        if not (origin.isascii() and origin.isprintable() and 1 <= len(origin) <= 255):
            return exchange.error(400, "bad.request", "WebHook-Request-Origin: a DNS name expected")
        asked = exchange.headers.get("WebHook-Request-Rate", "")
        if asked and not (asked.isascii() and asked.isdigit() and len(asked) < 10 and int(asked) > 0):
            return exchange.error(400, "bad.request", "WebHook-Request-Rate: a positive integer expected")
        if exchange.faults.strikes("handshake", origin.encode()):
            return exchange.error(405, "method.not.allowed", "this origin may not send here")
        self._granted[exchange.path, origin.lower()] = None
        if len(self._granted) > MAX_ORIGINS:
            self._granted.popitem(last=False)
        allowed = self._allowed_rate(int(asked) if asked else None)
        granted = {"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": allowed}
        return Reply(200, b"", {"Allow": "POST", **granted})

    def _allowed_rate(self, asked: int | None) -> str:
        """Requests a minute: what was asked for, within what is allowed; ``*`` is any."""
        rates = [rate for rate in (asked, self._rate_per_minute) if rate is not None]
        return str(min(rates)) if rates else "*"

    async def _invoke(self, exchange: Exchange) -> Reply:
        check_form(exchange, max_body_bytes=self._max_body_bytes)
        if refusal := self._refuse(exchange):
            return refusal
        await self._gate.wait(exchange.order)
        try:
            msgspec.json.decode(exchange.body, type=dict[str, msgspec.Raw])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as reason:
            return exchange.error(400, "bad.request", f"a JSON object expected: {str(reason)[:200]}")
        exchange.inbox.take(exchange.body, digest(exchange.body))
        return Reply(202, msgspec.json.encode({"invocationId": str(uuid.uuid4())}))

    async def _take(self, exchange: Exchange) -> Reply:
        if refusal := self._refuse(exchange):
            return refusal
        key = exchange.headers.get("webhook-id") or exchange.headers.get("Idempotency-Key")
        keys = self._keys  # a reset in the meantime puts a new table in its place
        claimed = key is not None and len(key) <= 255
        name = f"{exchange.path} {key}"
        reply = Reply(self._hook_status, b'{"status":"ok"}' if self._hook_status != 204 else b"")
        if claimed and (used := keys.claim(name, digest(exchange.body))) is not None:
            if used.body_digest != digest(exchange.body):
                return exchange.error(422, "idempotency.key.reused", "this key was used with another body")
            if used.reply is None:
                message = "the first request with this key is still being processed"
                return exchange.error(409, "idempotency.key.in.progress", message)
            exchange.inbox.repeated += len(_events(exchange))
            return used.reply
        try:
            await self._gate.wait(exchange.order)
            for event in _events(exchange):
                exchange.inbox.take(event, _identity(exchange, event))
            if claimed:
                keys.keep(name, reply)
        finally:
            keys.release(name)
        return reply

    def _refuse(self, exchange: Exchange) -> Reply | None:
        """401 for a signature that is missing or wrong; 403 for an origin that has not asked."""
        if self._secrets:
            now_wall = self._clock.wall()
            fault = signatures.find_fault(exchange.headers, exchange.body, self._secrets, now_wall=now_wall)
            if fault is not None:
                return exchange.error(401, "authentication.required", fault)
        if self._handshake_required:
            origin = exchange.headers.get("WebHook-Request-Origin", "").lower()
            if (exchange.path, origin) not in self._granted:
                return exchange.error(403, "not.authorized", "this origin has not asked, see WebHook-Request")
        return None


def _events(exchange: Exchange) -> list[bytes]:
    """The lines of NDJSON, the members of a JSON list; any other body is one event."""
    if exchange.content_type in ("application/x-ndjson", "application/ndjson"):
        return [line for line in exchange.body.split(b"\n") if line.strip()]
    if exchange.body.lstrip()[:1] == b"[":
        try:
            return [bytes(raw) for raw in _LIST.decode(exchange.body)]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
    return [exchange.body]


def _identity(exchange: Exchange, event: bytes) -> bytes:
    """A CloudEvent in binary mode is what its headers say; everything else is its bytes."""
    source, name = exchange.headers.get("ce-source"), exchange.headers.get("ce-id")
    if source and name:
        return digest(source.encode("utf-8", "surrogateescape"), name.encode("utf-8", "surrogateescape"))
    return digest(event)
