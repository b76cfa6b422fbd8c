"""Signatures of Standard Webhooks 1.0.0, made for each attempt: an ``Auth``, see ``auth.py``."""

import base64
import hashlib
import hmac
from collections.abc import Mapping

from ingestd.core.answer import Octets
from ingestd.core.clock import Clock
from ingestd.transport.auth import make_credential
from ingestd.transport.client import Ready, SecretMask
from ingestd.transport.watched_file import Watch
from ingestd.transport.webhook_secret import PREFIX, decode_secret

MAX_SECRETS = 8


class StandardWebhooks:
    """Adds ``webhook-timestamp`` and ``webhook-signature``, and ``webhook-id`` where the request has none.

    ``webhook-signature`` is ``v1,`` and base64 of HMAC-SHA256 over ``{webhook-id}.{timestamp}.{body}``: one
    for each secret, by spaces, so that receivers can change over from one to the next. A file has one secret
    a line. Raises UserError.
    """

    refusal = "the API does not accept our signature: has it the same secret?"
    ready: Ready | None = None  # it is of one request

    def __init__(self, given: str = "", file: str = "", *, clock: Clock, watch: Watch | None = None) -> None:
        self._clock = clock
        self.mask = SecretMask()
        self._keys = make_credential(given, file, self._parse, what="secret", clock=clock, watch=watch)

    async def headers(self, url: str, body: Octets, headers: Mapping[str, str]) -> tuple[dict[str, str], int]:
        by_name = {name.lower(): value for name, value in headers.items()}
        own_id = by_name.get("webhook-id", "")
        webhook_id = own_id or make_id(by_name.get("idempotency-key", "").encode() or body)
        timestamp = str(int(self._clock.wall()))
        keys = self._keys.get()
        added = {
            "webhook-timestamp": timestamp,
            "webhook-signature": " ".join(sign(key, webhook_id, timestamp, body) for key in keys),
        }
        return (added if own_id else added | {"webhook-id": webhook_id}), self._keys.generation

    def drop(self, generation: int) -> None:
        self._keys.drop(generation)

    async def aclose(self) -> None:
        """Nothing to close."""

    def _parse(self, text: str) -> tuple[bytes, ...]:
        lines = text.split()
        if not 1 <= len(lines) <= MAX_SECRETS:
            raise ValueError(f"1 to {MAX_SECRETS} secrets are needed, one a line")
        try:
            keys = tuple(map(decode_secret, lines))
        except ValueError as error:
            raise ValueError(f"a signing secret {error}") from None
        self.mask.add(*(line.removeprefix(PREFIX) for line in lines))
        return keys


def sign(key: bytes, webhook_id: str, timestamp: str, body: Octets) -> str:
    """``v1,…``: one signature."""
    signed = hmac.digest(key, f"{webhook_id}.{timestamp}.".encode() + body, hashlib.sha256)
    return f"v1,{base64.b64encode(signed).decode()}"


def make_id(seed: Octets) -> str:
    """The same for every attempt of one batch; without a dot, which separates what is signed."""
    return f"msg_{hashlib.sha256(seed).hexdigest()[:32]}"
