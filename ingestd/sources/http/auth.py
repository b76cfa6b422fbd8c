"""Who posts: bearer tokens (RFC 6750), client certificates, Standard Webhooks signatures.

Called by the endpoint. Nothing given by a client, and no key, gets into a message.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256

from ingestd.core.clock import Clock
from ingestd.httpd.problem import RefusedRequest
from ingestd.httpd.request import Request

TOLERANCE_S = 300.0
"""How far a signature's time may be from ours, in both directions: bounds how long it can be replayed."""

_REALM = 'Bearer realm="ingestd"'
_SIGNATURE_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
_MAX_DIGITS = 15


@dataclass(frozen=True, slots=True)
class ProducerKeys:
    """What proves that a request is a producer's, and what it may send; limits of 0 are none."""

    tokens: tuple[str, ...] = field(default=(), repr=False)
    webhook_secrets: tuple[bytes, ...] = field(default=(), repr=False)
    events_per_second: float = 0.0
    events_per_day: int = 0


class Authenticator:
    """``producer_keys`` by name; without any, anyone may post, without a name."""

    def __init__(self, producers: Mapping[str, ProducerKeys], *, clock: Clock) -> None:
        self.producers = dict(producers)
        self.anonymous = not producers
        self._clock = clock
        self._digests = [
            (name, sha256(token.encode()).digest())
            for name, keys in producers.items()
            for token in keys.tokens
        ]
        self._secrets = [
            (name, secret) for name, keys in producers.items() for secret in keys.webhook_secrets
        ]

    def by_credentials(self, request: Request, query_token: bytes | None = None) -> str | None:
        """The producer whose token or certificate the request shows; None when it shows neither.

        A token goes before a certificate. Raises Refused: 401 for a token of no producer, 400 for two
        tokens (RFC 6750, section 2).
        """
        token = _bearer_token(request)
        if query_token is not None:
            if token is not None:
                raise RefusedRequest(
                    400, "the token came twice: in the header Authorization and as access_token"
                )
            token = query_token
        if token is not None:
            return self._by_token(token)
        certificate_name = request.certificate_name
        return certificate_name if certificate_name and certificate_name in self.producers else None

    def check_signature_head(self, request: Request) -> None:
        """Checks a signature as far as possible without the body. Raises Refused (401)."""
        headers = request.headers
        if not self._secrets or "webhook-signature" not in headers:
            raise _unauthorized("a bearer token or a signature of a known producer is needed")
        if any(name not in headers or name in request.repeated for name in _SIGNATURE_HEADERS):
            raise _unauthorized(f"{', '.join(_SIGNATURE_HEADERS)} are needed, each once")
        moment = headers["webhook-timestamp"]
        if not (moment.isascii() and moment.isdigit() and len(moment) <= _MAX_DIGITS):
            raise _unauthorized("webhook-timestamp must be seconds since the epoch")
        if abs(self._clock.wall() - int(moment)) > TOLERANCE_S:
            raise _unauthorized("webhook-timestamp is more than five minutes from now")

    def by_signature(self, request: Request) -> str:
        """The producer that signed id, time and body as sent (Standard Webhooks 1.0.0, scheme ``v1``:
        HMAC-SHA256; several signatures while keys are rotated). Raises Refused (401)."""
        self.check_signature_head(request)
        headers = request.headers
        signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode("latin-1") + request.body
        given = [text.encode("latin-1") for text in headers["webhook-signature"].split(" ")]
        found = ""
        for name, secret in self._secrets:
            expected = sign(secret, signed)
            for signature in given:
                if hmac.compare_digest(expected, signature):
                    found = name  # and on: how long it takes must not tell whose it was
        if not found:
            raise _unauthorized("no signature in webhook-signature is that of a known producer")
        return found

    def _by_token(self, token: bytes) -> str:
        digest = sha256(token).digest()
        found = ""
        for name, known in self._digests:
            if hmac.compare_digest(known, digest):
                found = name  # and on, for the same reason
        if not found:
            raise _unauthorized("the token is not known", error="invalid_token")
        return found


def sign(secret: bytes, signed: bytes) -> bytes:
    """The signature of ``id.timestamp.body`` as webhook-signature has it."""
    return b"v1," + base64.b64encode(hmac.digest(secret, signed, hashlib.sha256))


def _bearer_token(request: Request) -> bytes | None:
    value = request.headers.get("authorization")
    if value is None:
        return None
    scheme, _, token = value.partition(" ")
    if scheme.lower() != "bearer":
        return None  # what a proxy put there is not for us
    if "authorization" in request.repeated:
        raise _unauthorized("the header Authorization came more than once", error="invalid_request")
    return token.strip(" ").encode("latin-1")


def _unauthorized(detail: str, *, error: str = "") -> RefusedRequest:
    challenge = f'{_REALM}, error="{error}"' if error else _REALM
    return RefusedRequest(401, detail, headers=[("WWW-Authenticate", challenge)])
