"""Events on their way to verified targets: in the background, to loopback only. Run by ``server.py``."""

import asyncio
import base64
import hmac
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from ipaddress import ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp
import msgspec

from ingestd.core.clock import Clock
from ingestd.sandbox.control.resources import Resource

MAX_WAITING = 10_000
TIMEOUT_S = 5.0
MAX_DELAY_S = 30.0

_VERIFICATION = "target.verification"


class _Parcel(NamedTuple):
    """``event`` None: the request that verifies the endpoint."""

    target: Resource
    event: bytes | None


def is_loopback(url: str) -> bool:
    """Whether ``url`` is of this machine, as it is written: no name is looked up. Raises ValueError."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class TargetDelivery:
    """One event after the other, so that a target gets them in the order in which they were published.

    What became of them is counted on the target: ``delivered``, ``failed``, ``attempts``, ``dropped`` where
    too many wait, ``elsewhere`` for an endpoint that is not on loopback.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: asyncio.Queue[_Parcel] | None = None

    def offer(self, target: Resource, event: bytes) -> None:
        self._put(_Parcel(target, event))

    def probe(self, target: Resource) -> None:
        """Ask the endpoint once; ``probed`` is its status, 0 if it could not be reached."""
        self._put(_Parcel(target, None))

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Deliver while the context is open; what waits at its end is forgotten."""
        self._waiting = asyncio.Queue(MAX_WAITING)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as http:
            work = asyncio.create_task(self._work(http, self._waiting))
            try:
                yield
            finally:
                self._waiting = None
                work.cancel()
                with suppress(asyncio.CancelledError):  # anything else that ended it is a bug, and seen
                    await work

    def _put(self, parcel: _Parcel) -> None:
        if not is_loopback(parcel.target.content["endpointUrl"]):
            parcel.target.counts["elsewhere"] += 1
            parcel.target.probed = 200  # nobody is asked out there: taken on trust
        elif self._waiting is None or self._waiting.full():
            parcel.target.counts["dropped"] += 1
        else:
            self._waiting.put_nowait(parcel)

    async def _work(self, http: aiohttp.ClientSession, waiting: asyncio.Queue[_Parcel]) -> None:
        while True:
            target, event = await waiting.get()
            if target.gone:
                continue
            if event is None:
                body = msgspec.json.encode({"type": _VERIFICATION, "targetId": target.id})
                target.probed = await self._attempt(http, target, body, "application/json")
            else:
                await self._deliver(http, target, event)

    async def _deliver(self, http: aiohttp.ClientSession, target: Resource, event: bytes) -> None:
        """As often as the target's retry policy says."""
        policy = target.content["retryPolicy"]
        delay_s = float(policy["initialDelaySeconds"])
        for attempt in range(policy["maxRetries"] + 1):
            if attempt:
                await self._clock.sleep(min(delay_s, MAX_DELAY_S))
                delay_s *= 2 if policy["backoffStrategy"] == "EXPONENTIAL" else 1
            if target.gone:
                return
            status = await self._attempt(http, target, event, "application/cloudevents+json")
            target.counts["attempts"] += 1
            if 200 <= status < 300:
                target.counts["delivered"] += 1
                return
            if status == 401:
                target.token = None
        target.counts["failed"] += 1

    async def _attempt(
        self, http: aiohttp.ClientSession, target: Resource, body: bytes, content_type: str
    ) -> int:
        """The status; 0 where there was no answer, or no login."""
        try:
            login = await self._login(http, target)
            headers = {"Content-Type": content_type, **target.content["headers"], **login}
            url = target.content["endpointUrl"]
            async with http.post(url, data=body, headers=headers, allow_redirects=False) as answer:
                return answer.status
        except (aiohttp.ClientError, TimeoutError, ValueError, OSError):
            return 0

    async def _login(self, http: aiohttp.ClientSession, target: Resource) -> dict[str, str]:
        """What ``Authorization`` says. Raises ValueError where a token cannot be had."""
        kind, given = target.content["authType"], target.secrets
        if kind == "BASIC":
            return _basic(given["username"], given["password"])
        if kind == "JWT":
            signed = sign_jwt(given["issuer"], given["audience"], given["key"], now=self._clock.wall())
            return {"Authorization": f"Bearer {signed}"}
        if kind == "OAUTH2":
            target.token = target.token or await _fetch_token(http, given)
            return {"Authorization": f"Bearer {target.token}"}
        return {}


def _basic(user: str, password: str) -> dict[str, str]:
    pair = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}


async def _fetch_token(http: aiohttp.ClientSession, given: dict[str, str]) -> str:
    if not is_loopback(given["tokenUrl"]):
        raise ValueError("a token endpoint that is not on loopback")
    form = {"grant_type": "client_credentials"} | ({"scope": given["scope"]} if "scope" in given else {})
    login = _basic(given["clientId"], given["clientSecret"])
    async with http.post(given["tokenUrl"], data=form, headers=login, allow_redirects=False) as answer:
        content = msgspec.json.decode(await answer.content.read(64 * 1024))
    token = content.get("access_token") if isinstance(content, dict) else None
    if not isinstance(token, str):
        raise ValueError("no token")
    return token


def sign_jwt(issuer: str, audience: str, key: str, *, now: float, lifetime_s: int = 300) -> str:
    """RFC 7519, signed by HS256 (RFC 7518 3.2)."""
    head = {"alg": "HS256", "typ": "JWT"}
    claims = {"iss": issuer, "aud": audience, "iat": int(now), "exp": int(now) + lifetime_s}
    text = b".".join(_base64url(msgspec.json.encode(part)) for part in (head, claims))
    return (text + b"." + _base64url(hmac.digest(key.encode(), text, "sha256"))).decode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
