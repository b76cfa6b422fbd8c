"""Access tokens and the rate limit that each of them has. Used by ``sandbox/access.py``."""

import base64
import binascii
import hmac
import math
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from typing import NamedTuple

from ingestd.core.clock import Clock
from ingestd.core.units import seconds

MAX_TOKENS = 10_000


class RateLimit(NamedTuple):
    """``requests`` per window of ``window_s`` seconds, for each token."""

    requests: int
    window_s: float


class WindowAllowance(NamedTuple):
    """A token's place in its window: what the ``inin-ratelimit-*`` headers say."""

    used: int
    allowed: int
    reset_s: int

    @property
    def exceeded(self) -> bool:
        return self.used > self.allowed


@dataclass(slots=True)
class _Window:
    start: float = -math.inf
    count: int = 0


class RequestMeter:
    """Requests of each client, token or not, in its window; the oldest is forgotten past ``MAX_TOKENS``."""

    def __init__(self, clock: Clock, limit: RateLimit | None) -> None:
        self._clock = clock
        self._limit = limit
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def charge(self, who: str) -> WindowAllowance | None:
        """Count one request of ``who``; None where there is no limit."""
        if self._limit is None:
            return None
        window, now = self._windows.get(who), self._clock.monotonic()
        if window is None:
            if len(self._windows) >= MAX_TOKENS:
                self._windows.popitem(last=False)
            window = self._windows[who] = _Window()
        if now >= window.start + self._limit.window_s:
            window.start, window.count = now, 0
        window.count += 1
        reset_s = math.ceil(window.start + self._limit.window_s - now)
        return WindowAllowance(window.count, self._limit.requests, max(1, reset_s))


class Tokens:
    """Tokens issued, by their text; the oldest is forgotten when there are ``MAX_TOKENS``."""

    def __init__(self, clock: Clock, *, lifetime_s: float, limit: RateLimit | None) -> None:
        self._clock = clock
        self._lifetime_s = lifetime_s
        self._meter = RequestMeter(clock, limit)
        self._expiry: OrderedDict[str, float] = OrderedDict()
        self.issued = 0

    def issue(self) -> str:
        if len(self._expiry) >= MAX_TOKENS:
            self._expiry.popitem(last=False)
        token = secrets.token_urlsafe(32)
        self._expiry[token] = self._clock.monotonic() + self._lifetime_s
        self.issued += 1
        return token

    def valid(self, token: str) -> bool:
        return self._clock.monotonic() < self._expiry.get(token, -math.inf)

    def expire(self, token: str) -> None:
        self._expiry.pop(token, None)

    def charge(self, token: str) -> WindowAllowance | None:
        """Count one request of a valid token against its limit; None where there is no limit."""
        return self._meter.charge(token)


def parse_rate_limit(text: str) -> RateLimit:
    """``300/60`` or ``300/1m``: requests per window. Raises ValueError."""
    requests, slash, window = text.partition("/")
    if not (slash and requests.isascii() and requests.isdigit() and 0 < len(requests) < 10):
        raise ValueError(f"{text[:60]!r} is not a rate limit: write it like 300/60 or 300/1m")
    window_s = seconds(window)
    if int(requests) < 1 or window_s <= 0:
        raise ValueError(f"{text[:60]!r} would let nothing through")
    return RateLimit(int(requests), window_s)


def bearer(authorization: str) -> str | None:
    """The token of an ``Authorization: Bearer`` header."""
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token.strip() else None


def basic_matches(authorization: str, client_id: str | None, client_secret: str | None) -> bool:
    """Does an ``Authorization: Basic`` header (RFC 7617) carry these credentials; any will do for None."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return False
    try:
        given = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return False
    given_id, colon, given_secret = given.partition(b":")
    if not colon:
        return False
    id_fits = client_id is None or hmac.compare_digest(given_id, client_id.encode())
    secret_fits = client_secret is None or hmac.compare_digest(given_secret, client_secret.encode())
    return id_fits and secret_fits
