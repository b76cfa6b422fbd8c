"""Tells an external gateway that a target was changed: one signed POST, with retries. For ``target.py``.

Signed as Standard Webhooks 1.0.0 (``transport/webhook_signature.py``), with one ``webhook-id`` for all tries.
"""

import json
from dataclasses import dataclass
from urllib.parse import urlsplit

from ingestd.control.engine.resource import AuditStep, Context, RemoteResource
from ingestd.control.engine.secret import SecretRef
from ingestd.core.address import is_exposed
from ingestd.core.answer import Answer
from ingestd.core.backoff import Backoff, retrying
from ingestd.core.errors import UserError
from ingestd.core.text import cut
from ingestd.core.units import rfc3339
from ingestd.transport.client import Client
from ingestd.transport.headers import retry_after
from ingestd.transport.url_guard import UrlGuard
from ingestd.transport.webhook_secret import decode_secret
from ingestd.transport.webhook_signature import StandardWebhooks

MAX_ATTEMPTS = 5
TIMEOUT_S = 10.0
MAX_WAIT_S = 30.0
_BACKOFF = Backoff(base_s=1.0, cap_s=MAX_WAIT_S)
_LATER = frozenset((0, 408, 425, 429, 500, 502, 503, 504))


@dataclass(frozen=True, slots=True)
class Webhook:
    """``secret``: where ``whsec_…`` is."""

    url: str
    secret: SecretRef

    @property
    def host(self) -> str:
        """What may be shown of it: the rest of a webhook's URL may be a secret."""
        return urlsplit(self.url).hostname or ""


def check(context: Context, webhook: Webhook, *, what: str) -> None:
    """Called before a change that the gateway must learn of. Raises UserError for an address that the
    guard refuses, and for a secret that does not serve."""
    UrlGuard(allow_private=context.allow_private).check_url(webhook.url, what=f"{what}.url")
    if is_exposed(webhook.url):  # whatever else is allowed
        raise UserError(f"{what}.url: it must begin with https://")
    try:
        decode_secret(context.secret(webhook.secret))
    except ValueError as error:
        raise UserError(f"{what}.secret: {webhook.secret.text}: it {error}") from None


async def sync(context: Context, found: RemoteResource, webhook: Webhook) -> bool:
    """Whether the gateway took it (any 2xx). Notes WEBHOOK_SYNCED or WEBHOOK_FAILED; a gateway that does not
    take it is not an error: the target is what it should be. Raises UserError as ``check`` does.

    Connects only to the address that the guard has checked, even if the name changes."""
    check(context, webhook, what=f"target {cut(found.key, 100)}: webhook")
    start = context.clock.monotonic()
    answer, attempts = await _send(context, webhook, _body(found, context.clock.wall()), start=start)
    fields: dict[str, str | int | float | bool | None] = {
        "target_id": found.id,
        "name": found.key,
        "host": webhook.host,
        "attempts": attempts,
        "status": answer.status,
        "latency_ms": round((context.clock.monotonic() - start) * 1000, 1),
    }
    accepted = 200 <= answer.status < 300
    if not accepted:
        fields["error"] = answer.error or f"the gateway answered {answer.status}"
    context.note(AuditStep("WEBHOOK_SYNCED" if accepted else "WEBHOOK_FAILED", fields))
    return accepted


async def _send(context: Context, webhook: Webhook, body: bytes, *, start: float) -> tuple[Answer, int]:
    """(the last answer, attempts)."""
    clock, guard = context.clock, UrlGuard(allow_private=context.allow_private)
    signature = StandardWebhooks(context.secret(webhook.secret), clock=clock)
    async with Client(timeout_s=TIMEOUT_S, max_connections=1, max_body_bytes=4096, guard=guard) as client:

        async def attempt() -> Answer:
            headers = {"content-type": "application/json"}
            added, _ = await signature.headers(webhook.url, body, headers)
            return await client.post(webhook.url, body, headers | added)

        def wait_s(answer: Answer, attempts: int) -> float | None:
            if answer.status not in _LATER or attempts == MAX_ATTEMPTS:
                return None
            floor_s = retry_after.of(answer.headers, now_wall=clock.wall(), cap_s=MAX_WAIT_S)
            return _BACKOFF.delay(attempts, at_least_s=floor_s, rng=context.rng)

        return await retrying(attempt, wait_s, clock=clock, until=start + context.deadline_s)


def _body(found: RemoteResource, now_wall: float) -> bytes:
    """The fields that the gateway needs; nothing of the definition, which may be confidential."""
    content = {
        "eventType": "TARGET_CONFIGURATION_UPDATED",
        "targetId": found.id,
        "name": found.key,
        "status": found.state,
        "timestamp": rfc3339(now_wall, "milliseconds"),
        "source": "ingestd",
    }
    return json.dumps(content, separators=(",", ":")).encode()
