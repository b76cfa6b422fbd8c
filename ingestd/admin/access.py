"""Who may look, and who may change something, on the admin address.

From this machine everybody may look. From anywhere else, and for every change, a console token is needed: as
``Authorization: Bearer`` (RFC 6750), or once on the login page, which gives a session. A page of another site
can use neither: the cookie is ``SameSite=Strict``, a change needs the session's CSRF token, and a request for
a name that is not this machine's (``Host``) does not count as one from this machine (DNS rebinding).
"""

import hmac
import ipaddress
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from enum import IntEnum
from hashlib import sha256
from http.cookies import CookieError, SimpleCookie
from typing import NamedTuple

from ingestd.core.clock import Clock
from ingestd.core.token_bucket import TokenBucket

COOKIE = "ingestd_session"
CSRF_FIELD, CSRF_HEADER = "csrf", "X-CSRF-Token"
SESSION_S = 12 * 3600.0
MAX_SESSIONS = 100
_ATTEMPTS_PER_S, _ATTEMPTS = 0.2, 10
"""Wrong tokens from one address: 12 a minute, 10 at once. From all together it would let anybody shut out
who has the right one."""
_MAX_ADDRESSES = 1000
_LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_FORWARDED = ("forwarded", "x-forwarded-", "x-real-ip", "via", "cf-connecting-ip", "true-client-ip")
"""What the names of their headers begin with."""


class Role(IntEnum):
    NOBODY = 0
    VIEWER = 1
    OPERATOR = 2


class ConsoleToken(NamedTuple):
    """``name``: whose it is, for the audit log; ``token`` as in the configuration."""

    name: str
    token: str
    role: Role


class Visitor(NamedTuple):
    """``name`` is empty where no token was shown; ``csrf``: of the session, empty without one."""

    role: Role
    name: str = ""
    csrf: str = ""


class _Session(NamedTuple):
    name: str
    digest: bytes
    csrf: str
    until: float


class Access:
    """``configure`` with the tokens, at the start and after a reload: sessions of tokens that are gone
    end."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._known: list[tuple[ConsoleToken, bytes]] = []
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._attempts: OrderedDict[str, TokenBucket] = OrderedDict()

    def configure(self, tokens: list[ConsoleToken]) -> None:
        self._known = [(one, sha256(one.token.encode()).digest()) for one in tokens]

    @property
    def has_tokens(self) -> bool:
        return bool(self._known)

    def visitor(self, peer: str, headers: Mapping[str, str]) -> Visitor:
        """``headers``: names in lower case. A token that is not known counts as none."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            found = self._by_token(peer, token.strip())
            return Visitor(found.role, found.name) if found else Visitor(Role.NOBODY)
        if session := self._session(headers.get("cookie", "")):
            owner = self._by_digest(session.digest)
            if owner:
                return Visitor(owner.role, owner.name, session.csrf)
        return Visitor(Role.VIEWER if _is_local(peer, headers) else Role.NOBODY)

    def log_in(self, peer: str, token: str) -> str | None:
        """The value of the cookie; None: the token is not known, or too many were tried just now."""
        found = self._by_token(peer, token)
        if found is None:
            return None
        value = secrets.token_urlsafe(32)
        while len(self._sessions) >= MAX_SESSIONS:
            self._sessions.popitem(last=False)
        until = self._clock.monotonic() + SESSION_S
        digest = sha256(found.token.encode()).digest()
        self._sessions[value] = _Session(found.name, digest, secrets.token_urlsafe(32), until)
        return value

    def log_out(self, cookies: str) -> None:
        self._sessions.pop(_cookie(cookies), None)

    @staticmethod
    def may_change(visitor: Visitor, csrf: str) -> bool:
        """``csrf``: what came with the request. A bearer token needs none: no browser adds it by itself."""
        if visitor.role < Role.OPERATOR:
            return False
        return not visitor.csrf or hmac.compare_digest(visitor.csrf.encode(), csrf.encode())

    def _by_token(self, peer: str, token: str) -> ConsoleToken | None:
        now = self._clock.monotonic()
        attempts = self._attempts.get(peer)
        if attempts and attempts.wait_s(now) > 0:
            return None
        found = self._by_digest(sha256(token.encode()).digest())
        if found is None:
            if attempts is None:
                if len(self._attempts) >= _MAX_ADDRESSES:
                    self._attempts.popitem(last=False)
                attempts = self._attempts[peer] = TokenBucket(_ATTEMPTS_PER_S, _ATTEMPTS, now)
            attempts.take(now)
        return found

    def _by_digest(self, digest: bytes) -> ConsoleToken | None:
        found = None
        for one, known in self._known:
            if hmac.compare_digest(known, digest):
                found = one  # and on: how long it takes must not tell whose it was
        return found

    def _session(self, cookies: str) -> _Session | None:
        value = _cookie(cookies)
        session = self._sessions.get(value) if value else None
        if session and session.until < self._clock.monotonic():
            del self._sessions[value]
            return None
        return session


def _cookie(cookies: str) -> str:
    try:
        found = SimpleCookie(cookies).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


def _is_local(peer: str, headers: Mapping[str, str]) -> bool:
    """Whether a request comes from this machine, names it as its host, and was not passed on by a proxy."""
    if any(name.startswith(_FORWARDED) for name in headers):
        return False
    try:
        address = ipaddress.ip_address(peer)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    host = headers.get("host", "")
    name = host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host
    return mapped.is_loopback and name.lower() in _LOCAL_NAMES
