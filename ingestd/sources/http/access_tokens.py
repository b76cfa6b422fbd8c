"""OAuth 2 client credentials (RFC 6749, 4.4): ``POST /v1/oauth/token`` gives producers an access token.

A token is signed with its producer's secret and says until when it is good. So nothing is kept of it, a
restart and other processes with the same configuration know it, and a secret that is taken away ends it.
"""

import base64
import binascii
import hashlib
import hmac
import ipaddress
import math
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import msgspec

from ingestd.core.clock import Clock
from ingestd.core.token_bucket import TokenBucket
from ingestd.httpd.problem import JSON_TYPE, encode
from ingestd.httpd.request import Request
from ingestd.httpd.response import Response
from ingestd.sources.http.body import UTF_8, parse_media_type

TOKEN_PATH = "/v1/oauth/token"  # noqa: S105
MAX_BODY_BYTES = 8 * 1024
_PREFIX = "ingestd"
_PURPOSE = b"access token of ingestd, 1"
_NO_STORE = (*JSON_TYPE, ("Cache-Control", "no-store"))
_CHALLENGE = ("WWW-Authenticate", 'Basic realm="ingestd", charset="UTF-8"')
_MAX_DIGITS = 12
_BURST, _PER_S = 10, 10 / 60
_MOST_WATCHED = 10_000
_object = msgspec.json.Decoder(dict[str, str]).decode


class FailedAttempts:
    """Wrong secrets, by the producer that was named and by address: after ten at once one in six seconds is
    looked at, so that nobody tries many. Others are not held up. Of IPv6 the first 64 bits count: the rest a
    machine chooses for itself."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._buckets: OrderedDict[tuple[str, str], TokenBucket] = OrderedDict()

    def wait_s(self, peer: str, name: str) -> int:
        """0: it may be tried."""
        bucket = self._buckets.get((_network(peer), name)) if self._buckets else None
        return math.ceil(bucket.wait_s(self._clock.monotonic())) if bucket else 0

    def failed(self, peer: str, name: str) -> None:
        now = self._clock.monotonic()
        counted = _network(peer), name
        bucket = self._buckets.setdefault(counted, TokenBucket(_PER_S, _BURST, now))
        bucket.take(now)
        self._buckets.move_to_end(counted)
        if len(self._buckets) > _MOST_WATCHED:
            self._buckets.popitem(last=False)


def _network(peer: str) -> str:
    try:
        address = ipaddress.IPv6Address(peer.partition("%")[0])
    except ValueError:
        return peer
    return str(address.ipv4_mapped or ipaddress.IPv6Address(int(address) >> 64 << 64))


class AccessTokens:
    """``clients``: id -> (producer, its secrets, all of which are good). Empty: there is no such endpoint."""

    def __init__(
        self,
        clients: Mapping[str, tuple[str, tuple[str, ...]]],
        attempts: FailedAttempts,
        *,
        lifetime_s: float,
        clock: Clock,
    ) -> None:
        self._clients = dict(clients)
        self._attempts = attempts
        self._lifetime_s = int(lifetime_s)
        self._clock = clock

    def __bool__(self) -> bool:
        return bool(self._clients)

    def producer_of(self, token: bytes) -> str | None:
        """Whose token it is; None: nobody's, or its time is over."""
        prefix, _, rest = token.decode("latin-1").partition(".")
        name, _, rest = rest.partition(".")
        until, _, _ = rest.partition(".")
        client = self._clients.get(_unquoted(name)) if prefix == _PREFIX else None
        if client is None or not (until.isascii() and until.isdigit() and len(until) <= _MAX_DIGITS):
            return None
        producer, secrets = client
        good = [hmac.compare_digest(_token(name, int(until), secret), token) for secret in secrets]
        return producer if any(good) and self._clock.wall() < int(until) else None

    def answer(self, request: Request) -> Response:
        """To a request for a token, whose body is whole."""
        form = _form(request) if len(request.body) <= MAX_BODY_BYTES else None
        if form is None:
            return _refusal(400, "invalid_request", "a form or a JSON object of texts is expected")
        if form.get("grant_type") != "client_credentials":
            return _refusal(400, "unsupported_grant_type", "send grant_type=client_credentials")
        pairs = basic_pairs(request)
        if pairs and ("client_secret" in form):
            return _refusal(400, "invalid_request", "the secret came twice: in Authorization and in the body")
        for name, secret in pairs or [(form.get("client_id", ""), form.get("client_secret", ""))]:
            known = name if name in self._clients else ""
            if wait_s := self._attempts.wait_s(request.peer, known):
                later = (*_NO_STORE, ("Retry-After", str(wait_s)))
                return Response(429, encode({"error": "slow_down"}), later)
            if known and is_one_of(secret, self._clients[known][1]):
                return self._issue(known)
        self._attempts.failed(request.peer, known)
        return _refusal(401, "invalid_client", "this client id and secret are not known", _CHALLENGE)

    def _issue(self, client: str) -> Response:
        until = int(self._clock.wall()) + self._lifetime_s
        name = base64.urlsafe_b64encode(client.encode()).decode().rstrip("=")
        token = _token(name, until, self._clients[client][1][0]).decode()
        content = {"access_token": token, "token_type": "Bearer", "expires_in": self._lifetime_s}
        return Response(200, encode(content), _NO_STORE)


def basic_pairs(request: Request) -> list[tuple[str, str]]:
    """(name, password) of an Authorization: Basic, as it is, and as RFC 6749 2.3.1 has it, form-encoded.
    Empty: there is none that can be read. What is not UTF-8 is Latin-1: so Python's requests sends texts."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic" or "authorization" in request.repeated:
        return []
    try:
        raw = base64.b64decode(given.strip(" "), validate=True)
    except (binascii.Error, ValueError):
        return []
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    name, colon, password = text.partition(":")
    decoded = (unquote_plus(name), unquote_plus(password))
    return [*dict.fromkeys([(name, password), decoded])] if colon else []


def _form(request: Request) -> dict[str, str] | None:
    media_type = parse_media_type(request.headers.get("content-type", ""))
    try:
        if media_type.name == "application/json":
            return _object(request.body)
        if media_type.name == "application/x-www-form-urlencoded" and media_type.charset in ("", *UTF_8):
            pairs = parse_qsl(request.body.decode(), keep_blank_values=True, max_num_fields=20)
            return dict(pairs) if len(dict(pairs)) == len(pairs) else None
    except (ValueError, RecursionError):
        pass
    return None


def is_one_of(given: str, secrets: tuple[str, ...]) -> bool:
    """In constant time."""
    digest = hashlib.sha256(given.encode("utf-8", "surrogatepass")).digest()
    found = False
    for secret in secrets:  # all of them: how long it takes must not tell which it was
        found |= hmac.compare_digest(digest, hashlib.sha256(secret.encode()).digest())
    return found


def _token(name: str, until: int, secret: str) -> bytes:
    key = hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256)
    signed = f"{_PREFIX}.{name}.{until}".encode("latin-1")
    return signed + b"." + base64.urlsafe_b64encode(hmac.digest(key, signed, hashlib.sha256)).rstrip(b"=")


def _unquoted(name: str) -> str:
    try:
        return base64.urlsafe_b64decode(name + "=" * (-len(name) % 4)).decode()
    except (binascii.Error, ValueError):
        return ""


def _refusal(status: int, code: str, words: str, *headers: tuple[str, str]) -> Response:
    content: dict[str, Any] = {"error": code, "error_description": words}
    return Response(status, encode(content), (*_NO_STORE, *headers))
