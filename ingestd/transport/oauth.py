"""Access tokens: OAuth 2 client credentials, one request at a time. For delivery and control.

``TokenSource`` is one of the ways to show whom a request is from: see ``auth.py``.
"""

import asyncio
import base64
import random
from collections.abc import Callable, Mapping
from urllib.parse import quote_plus, urlencode, urlsplit

import msgspec

from ingestd.core.answer import Answer, Octets
from ingestd.core.backoff import Backoff
from ingestd.core.clock import Clock, system_rng
from ingestd.core.errors import Unreachable
from ingestd.core.regex import regex
from ingestd.core.token_bucket import TokenBucket
from ingestd.core.units import human_seconds
from ingestd.transport.auth import Credential, FixedCredential, LoginRefused
from ingestd.transport.auth import NoAuth as NoAuth
from ingestd.transport.client import Client, Ready, SecretMask
from ingestd.transport.headers import retry_after

DEFAULT_LIFETIME_S = 300.0
MAX_LIFETIME_S = 48 * 3600.0  # the longest that Genesys Cloud grants
REFRESH_AHEAD_S = 60.0
REFUSAL_REMEMBERED_S = 5.0
MAX_BACKOFF_S = 30.0
MAX_ANSWER_BYTES = 64 * 1024
_BACKOFF = Backoff(base_s=0.5, cap_s=MAX_BACKOFF_S)

_FREE_REQUESTS = 3  # so many at once; after that one per second, whatever lifetimes the host grants
_TOKEN = regex(r"[\x21-\x7e]{1,16384}")
_ERROR_CODE = regex(r"[A-Za-z0-9_.-]{1,64}")


class TokenUnavailable(Unreachable):
    """No token within ``timeout_s``: the login host is down, or answers nonsense."""


class Token(msgspec.Struct, frozen=True):
    """``generation`` counts the tokens of one source from 1: it names a token without telling it."""

    value: str
    generation: int

    def __repr__(self) -> str:
        return f"Token(generation={self.generation})"


class TokenSource:
    """Gets, keeps and renews the token of one client id.

    A token is renewed ``REFRESH_AHEAD_S`` before its end (or halfway, if that is later) in the
    background, and stays in use until its end where that fails. ``on_refresh(ok, seconds)`` is called after
    each request. Id and secret may change, in their files. Close with ``aclose``; a ``get`` that waits then
    raises TokenUnavailable.
    """

    refusal = "the API refused our token, also after a new login"

    def __init__(
        self,
        client: Client,
        *,
        token_url: str,
        client_id: str | Credential[str],
        client_secret: str | Credential[str],
        scope: str = "",
        clock: Clock,
        rng: random.Random | None = None,
        timeout_s: float = 60.0,
        on_refresh: Callable[[bool, float], None] | None = None,
    ) -> None:
        self._client = client
        self._url = token_url
        self._host = urlsplit(token_url).netloc.rpartition("@")[2]
        self._id = _credential(client_id, "client_id")
        self._secret = _credential(client_secret, "client_secret")
        asked = {"grant_type": "client_credentials"} | ({"scope": scope} if scope else {})
        self._request = urlencode(asked).encode()
        self.mask = SecretMask(self._secret.get())
        self._clock = clock
        self._rng = rng or system_rng()
        self._timeout_s = timeout_s
        self._on_refresh = on_refresh or (lambda ok, seconds: None)
        self._token: Token | None = None
        self.ready: Ready | None = None
        self._generation = 0
        self._expires_at = 0.0
        self._refusal = ""
        self._refused_until = 0.0
        self._why = ""
        self._failures = 0
        self._retry_at = 0.0
        self._requests = TokenBucket(1.0, _FREE_REQUESTS, clock.monotonic())
        self._refresh: asyncio.Task[Token | Unreachable] | None = None
        self._closed = False

    async def get(self) -> Token:
        """The current token. Raises LoginRefused or TokenUnavailable.

        However many wait, one request is under way; it goes on when those who wait are cancelled.
        """
        now = self._clock.monotonic()
        usable = self._token is not None and now < self._expires_at
        if self._token is not None and self.ready and now < self.ready.until:
            return self._token
        if self._refresh is None and not self._closed and now >= self._refused_until:
            self._refresh = asyncio.create_task(self._obtain(), name="token refresh")
            self._refresh.add_done_callback(self._forget_task)
        if usable and self._token is not None:
            return self._token
        if self._refresh is None:
            raise LoginRefused(self._refusal) if self._refusal else TokenUnavailable("the login was closed")
        refresh = self._refresh
        await asyncio.wait([refresh])
        if refresh.cancelled():
            raise TokenUnavailable("the login was closed")
        outcome = refresh.result()
        if isinstance(outcome, Unreachable):
            raise type(outcome)(*outcome.args)  # its own for each that waited: tracebacks grow otherwise
        return outcome

    async def headers(self, url: str, body: Octets, headers: Mapping[str, str]) -> tuple[dict[str, str], int]:
        """``Authorization: Bearer …`` and the token's generation. Raises LoginRefused, TokenUnavailable."""
        token = await self.get()
        return {"Authorization": f"Bearer {token.value}"}, token.generation

    def drop(self, generation: int) -> None:
        """Forget the token of that generation, because the API refused it; a newer one stays."""
        if self._token is not None and self._token.generation == generation:
            self._token = self.ready = None

    async def aclose(self) -> None:
        self._closed = True
        if self._refresh is not None:
            self._refresh.cancel()
            await asyncio.wait([self._refresh])

    def _headers(self) -> dict[str, str]:
        """Of a request for a token, with what the files of id and secret hold by now."""
        client_id, secret = self._id.get(), self._secret.get()
        self.mask.add(secret)
        return {
            "authorization": _basic(client_id, secret),
            "content-type": "application/x-www-form-urlencoded",
            "accept": "application/json",
        }

    def _forget_task(self, _: object) -> None:
        self._refresh = None

    async def _obtain(self) -> Token | Unreachable:
        """Ask until a token, a refusal, or the time is over. Returns errors instead of raising, as no task
        may wait for them."""
        give_up_at = self._clock.monotonic() + self._timeout_s
        while await self._wait_for_turn(give_up_at):
            asked_at = self._clock.monotonic()
            answer = await self._client.post(self._url, self._request, self._headers())
            token = self._accept(answer, asked_at=asked_at)
            self._on_refresh(token is not None, answer.seconds)
            if token is not None:
                return token
            if answer.status in {400, 401, 403} and not _is_throttled(answer):
                return self._refuse(answer)
            self._back_off(answer)
            self._why = _summary(answer)
        waited = human_seconds(self._timeout_s)
        return TokenUnavailable(f"no token from {self._host} for {waited}: {self._why}")

    async def _wait_for_turn(self, give_up_at: float) -> bool:
        """Sleep until a request may be sent; False at once if that is after ``give_up_at``."""
        now = self._clock.monotonic()
        turn = max(self._retry_at, now + self._requests.wait_s(now))
        if turn > give_up_at:
            return False
        if turn > now:
            await self._clock.sleep(turn - now)
        self._requests.take(max(turn, now))
        return True

    def _accept(self, answer: Answer, *, asked_at: float) -> Token | None:
        grant = answer.json_object(max_bytes=MAX_ANSWER_BYTES) if 200 <= answer.status <= 299 else {}
        value = grant.get("access_token")
        if not isinstance(value, str) or not _TOKEN.fullmatch(value):
            return None
        lifetime_s = _lifetime_s(grant.get("expires_in"))
        self._generation += 1
        self._token = Token(value, self._generation)
        self.mask.add(value)
        self._expires_at = asked_at + lifetime_s
        self.ready = Ready(
            {"Authorization": f"Bearer {value}"},
            self._generation,
            self._expires_at - min(REFRESH_AHEAD_S, lifetime_s / 2),
            self._clock.monotonic,
        )
        self._refusal, self._failures, self._retry_at = "", 0, 0.0
        return self._token

    def _refuse(self, answer: Answer) -> LoginRefused:
        code = answer.json_object(max_bytes=MAX_ANSWER_BYTES).get("error")
        known = isinstance(code, str) and _ERROR_CODE.fullmatch(code)
        # never the description: it is free text, and may quote what we sent
        refusal = f"{answer.status} {code}" if known else str(answer.status)
        self._refusal = f"{self._host} refuses the login of client id {self._id.get()[:4]}…: {refusal}"
        for credential in (self._id, self._secret):
            credential.drop(credential.generation)  # the next request has what their files hold then
        self._refused_until = self._clock.monotonic() + REFUSAL_REMEMBERED_S
        return LoginRefused(self._refusal)

    def _back_off(self, answer: Answer) -> None:
        floor_s = retry_after.of(answer.headers, now_wall=self._clock.wall(), cap_s=MAX_BACKOFF_S)
        self._failures += 1
        delay_s = _BACKOFF.delay(self._failures, at_least_s=floor_s, rng=self._rng)
        self._retry_at = self._clock.monotonic() + delay_s


def _credential(given: str | Credential[str], what: str) -> Credential[str]:
    return FixedCredential(given, str, what=what) if isinstance(given, str) else given


def _basic(client_id: str, client_secret: str) -> str:
    """RFC 6749 2.3.1: each part is form-encoded first, which leaves a Genesys id and secret as they are."""
    pair = f"{quote_plus(client_id)}:{quote_plus(client_secret)}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _is_throttled(answer: Answer) -> bool:
    """Genesys Cloud throttles its token endpoint with a 400 that says so in words only."""
    return answer.status == 400 and b"rate limit exceeded" in answer.body[:MAX_ANSWER_BYTES].lower()


def _lifetime_s(expires_in: object) -> float:
    """Seconds in ``[1, MAX_LIFETIME_S]`` from whatever stands in ``expires_in``."""
    if (
        isinstance(expires_in, str)
        and len(expires_in) <= 20
        and expires_in.isascii()
        and expires_in.isdigit()
    ):
        expires_in = int(expires_in)
    if isinstance(expires_in, bool) or not isinstance(expires_in, int | float):
        return DEFAULT_LIFETIME_S
    # comparing first: an int of 4,000 digits does not become a float, and nan is not >= 1
    return float(min(expires_in, MAX_LIFETIME_S)) if expires_in >= 1 else DEFAULT_LIFETIME_S


def _summary(answer: Answer) -> str:
    if answer.status == 0:
        return answer.error
    if 200 <= answer.status <= 299:
        return f"it answered {answer.status} without a token that can be used"
    return f"it answered {answer.status}"
