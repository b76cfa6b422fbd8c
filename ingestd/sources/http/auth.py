"""Who posts: bearer tokens (RFC 6750), Basic, API keys in a header of any name, client certificates, Standard
Webhooks signatures.

Called by the endpoint. Nothing given by a client, and no key, gets into a message.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from ingestd.core.clock import Clock
from ingestd.core.unwrap import Unwrapper
from ingestd.httpd.problem import RefusedRequest
from ingestd.httpd.request import Request
from ingestd.sources.http.access_tokens import AccessTokens, FailedAttempts, basic_pairs, is_one_of

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
    username: str = ""
    passwords: tuple[str, ...] = field(default=(), repr=False)
    api_key_header: str = ""
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    client_id: str = ""
    client_secrets: tuple[str, ...] = field(default=(), repr=False)
    unwrap: Unwrapper | None = None


class Authenticator:
    """``producer_keys`` by name; without any, anyone may post, without a name. ``token_lifetime_s``: of the
    access tokens that it issues. ``attempts``: that failed, of the one before."""

    def __init__(
        self,
        producers: Mapping[str, ProducerKeys],
        *,
        clock: Clock,
        token_lifetime_s: float = 3600.0,
        attempts: FailedAttempts | None = None,
    ) -> None:
        self.attempts = attempts or FailedAttempts(clock)
        clients = {
            one.client_id: (name, one.client_secrets) for name, one in producers.items() if one.client_id
        }
        self.tokens = AccessTokens(clients, self.attempts, lifetime_s=token_lifetime_s, clock=clock)
        self.producers = dict(producers)
        self.anonymous = not producers
        self._clock = clock
        self._digests = [
            (name, sha256(token.encode()).digest())
            for name, keys in producers.items()
            for token in keys.tokens
        ]
        self._passwords = {
            one.username: (name, one.passwords) for name, one in producers.items() if one.username
        }
        self._api_keys: dict[str, list[tuple[str, bytes]]] = {}
        for name, one in producers.items():
            keys_of = self._api_keys.setdefault(one.api_key_header.lower(), []) if one.api_keys else []
            keys_of += [(name, sha256(key.encode()).digest()) for key in one.api_keys]
        self._secrets = [
            (name, secret) for name, keys in producers.items() for secret in keys.webhook_secrets
        ]

    def by_credentials(self, request: Request, query_token: bytes | None = None) -> str | None:
        """The producer whose token, password, API key or certificate the request shows; None: it shows none.

        The first of these goes before the others. Raises Refused: 401 for what is of no producer, 400 for two
        tokens (RFC 6750, section 2), 429 after many wrong passwords.
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
        if self._passwords and (pairs := basic_pairs(request)):
            return self._by_password(request.peer, pairs[0])
        for header, known in self._api_keys.items():
            if (key := request.headers.get(header)) is not None:
                return self._by_digest(known, key.encode("latin-1"), f"the key in {header} is not known")
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
        if self.tokens and (issued_to := self.tokens.producer_of(token)):
            return issued_to
        return self._by_digest(self._digests, token, "the token is not known", error="invalid_token")

    def _by_digest(
        self, keys: Sequence[tuple[str, bytes]], given: bytes, words: str, *, error: str = ""
    ) -> str:
        digest = sha256(given).digest()
        found = ""
        for name, known in keys:
            if hmac.compare_digest(known, digest):
                found = name  # and on, for the same reason
        if not found:
            raise _unauthorized(words, error=error)
        return found

    def _by_password(self, peer: str, pair: tuple[str, str]) -> str:
        username, password = pair
        known = username if username in self._passwords else ""
        if wait_s := self.attempts.wait_s(peer, f"user {known}"):
            wait = [("Retry-After", str(wait_s))]
            raise RefusedRequest(429, "too many wrong passwords: wait, and check it", headers=wait)
        name, passwords = self._passwords.get(known, ("", ()))
        if not is_one_of(password, passwords):
            self.attempts.failed(peer, f"user {known}")
            raise _unauthorized("this user name and password are not known", basic=True)
        return name


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


def _unauthorized(detail: str, *, error: str = "", basic: bool = False) -> RefusedRequest:
    challenge = f'{_REALM}, error="{error}"' if error else _REALM
    if basic:
        challenge = f'Basic realm="ingestd", charset="UTF-8", {challenge}'
    return RefusedRequest(401, detail, headers=[("WWW-Authenticate", challenge)])
