"""The one client for calls of the control plane: JSON, login, pace, retries, pages. Used by ``control/``.

It keeps the ``Api`` of ``control/engine/resource.py``. Errors: ``api_error.py``; pages: ``api_pages.py``.
"""

import asyncio
import json
import random
import re
from collections.abc import Callable, Coroutine, Iterator, Mapping
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

from msgspec.structs import replace

from ingestd.core.answer import PASSING, Answer
from ingestd.core.backoff import Backoff, polls, retrying
from ingestd.core.clock import Clock, system_rng
from ingestd.core.errors import Unreachable, UserError, first_cause
from ingestd.core.redaction import names_a_secret
from ingestd.core.units import human_seconds
from ingestd.transport.api_error import AmbiguousRequest as AmbiguousRequest
from ingestd.transport.api_error import ApiError as ApiError
from ingestd.transport.api_error import correlation_id, read_error
from ingestd.transport.api_pace import ApiPace
from ingestd.transport.api_pages import MAX_PAGES, list_all
from ingestd.transport.client import Auth, Client, SecretMask
from ingestd.transport.headers import retry_after
from ingestd.transport.token_refusal import concerns_token

REQUESTS_PER_MINUTE = 300
"""Of one token, at Genesys Cloud: its limit token.rate.per.minute."""
DEADLINE_S = 120.0
MAX_ATTEMPTS = 10
MAX_ATTEMPTS_CUT = 3
_BACKOFF = Backoff(base_s=0.5, cap_s=30.0)

Params = Mapping[str, str | int]
OnRequest = Callable[[str, str, int, float, str | None], None]
"""(method, path, status or 0, seconds, correlation id or None), after each attempt."""

_PATH = re.compile(r"/[!-\[\]-~]{0,4000}", re.ASCII)
_LATER = PASSING | {500, 502, 503, 504}
_SAFE = frozenset({"GET", "PUT", "DELETE"})
_SECRET_PLACES = {"authconfig", "credentials", "headers"}
_T = TypeVar("_T")


class ApiClient:
    """Calls of one API with one login, each with its retries within ``deadline_s``.

    GET, PUT and DELETE are repeated where the API is busy, broken or silent. POST and PATCH are repeated only
    where they cannot have been done: a 429, a 503 with Retry-After, no connection. Otherwise they raise
    AmbiguousRequest.
    Retry-After is a floor, with jitter on top; where it is past the deadline there is no waiting for it.
    A 401, and a 403 or 400 that speaks of the token, drops it, once. Answers over the limit of ``client`` are
    errors.
    """

    def __init__(
        self,
        client: Client,
        auth: Auth,
        *,
        base_url: str,
        clock: Clock,
        rng: random.Random | None = None,
        requests_per_minute: int = REQUESTS_PER_MINUTE,
        on_request: OnRequest | None = None,
        deadline_s: float = DEADLINE_S,
    ) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or "@" in parts.netloc:
            raise UserError("the API's address: expected something like https://api.mypurecloud.de")
        self._client = client
        self._auth = auth
        self._base = base_url.rstrip("/")
        self._clock = clock
        self._pace = ApiPace(requests_per_minute, clock=clock)
        self._on_request = on_request or (lambda method, path, status, seconds, correlation_id: None)
        self._deadline_s = deadline_s
        self._random = rng or system_rng()

    async def get(self, path: str, *, params: Params | None = None) -> Any:
        """The decoded JSON body; None of an empty one. Raises ApiError, Unreachable."""
        return await self._call("GET", path, params=params)

    async def post(self, path: str, body: Any = None) -> Any:
        """Raises ApiError, Unreachable, and Ambiguous where it may have been done."""
        return await self._call("POST", path, body=body)

    async def put(self, path: str, body: Any) -> Any:
        return await self._call("PUT", path, body=body)

    async def patch(self, path: str, body: Any) -> Any:
        """As ``post``."""
        return await self._call("PATCH", path, body=body)

    async def delete(self, path: str) -> None:
        """What is gone already is not an error."""
        try:
            await self._call("DELETE", path)
        except ApiError as error:
            if not error.is_not_found:
                raise

    async def list(self, path: str, *, params: Params | None = None, max_pages: int = MAX_PAGES) -> list[Any]:
        """All entities of all pages, each once; see ``list_all``. Raises UserError for pages without end."""
        return await list_all(self.get, path, params=params, base_url=self._base, max_pages=max_pages)

    async def get_when_visible(self, path: str, *, deadline_s: float) -> Any:
        """404 after a create means not yet, until the deadline; then it is the error it is."""
        async for left_s in polls(
            self._clock, self._random, within_s=deadline_s, first_s=0.2, longest_s=5.0, growth=2.0
        ):
            try:
                return await self.get(path)
            except ApiError as error:
                if error.status != 404 or left_s <= 0:
                    raise
        raise AssertionError("unreachable: the last question raises or returns")

    async def _call(self, method: str, path: str, *, params: Params | None = None, body: Any = None) -> Any:
        url = self._url(path, params)
        path = path.partition("?")[0]  # as it is shown
        sent = _encode(method, path, body)
        mask = SecretMask(*_secrets_in(body))
        end = self._clock.monotonic() + self._deadline_s
        dropped = False

        async def attempt() -> Answer:
            nonlocal dropped
            answer, generation = await self._attempt(method, url, path, sent, end=end)
            if not dropped and not _is_done(answer) and concerns_token(answer):
                self._auth.drop(generation)
                dropped = True
                answer, _ = await self._attempt(method, url, path, sent, end=end)
            return answer

        wait_s = partial(self._wait_s, method)
        answer, _ = await retrying(attempt, wait_s, clock=self._clock, until=end)
        if _is_done(answer):
            return _decode(method, path, answer)
        raise _failure(method, path, answer, mask=mask)

    def _url(self, path: str, params: Params | None) -> str:
        """On our own host whatever ``path`` is, and not above the path that it begins with."""
        before, _, query = path.partition("?")
        if not _PATH.fullmatch(path) or {"", ".", ".."} & set(before.split("/")[1:]):
            raise UserError(f"{path[:200]!r} is not a path of the API")
        queries = filter(None, (query, urlencode(params or {})))
        return f"{self._base}{before}?{'&'.join(queries)}".removesuffix("?")

    async def _attempt(
        self, method: str, url: str, path: str, body: bytes, *, end: float
    ) -> tuple[Answer, int]:
        headers = {"Accept": "application/json"} | ({"Content-Type": "application/json"} if body else {})
        left_s = end - self._clock.monotonic()
        if not await self._pace.wait_for_turn(within_s=left_s):
            raise Unreachable(
                f"{method} {path}: the API allows no more requests for longer than {human_seconds(left_s)}"
            )
        added, generation = await self._auth.headers(url, body, headers)
        answer = await self._client.request(method, url, body=body, headers=headers | added)
        self._pace.answered(answer.headers)
        if answer.status == 429 and (floor_s := self._floor_s(answer)):
            self._pace.hold(floor_s)  # the others would be refused as well
        self._on_request(method, path, answer.status, answer.seconds, correlation_id(answer) or None)
        if 200 <= answer.status < 300:
            return answer, generation
        return _masked(answer, self._auth), generation

    def _wait_s(self, method: str, answer: Answer, attempt: int) -> float | None:
        """Before the next attempt; None: there must not be one."""
        if attempt == MAX_ATTEMPTS or _is_done(answer):
            return None
        floor_s = self._floor_s(answer)
        if method in _SAFE:
            cut = 200 <= answer.status < 300 and attempt < MAX_ATTEMPTS_CUT  # or over the limit, for good
            again = answer.status in _LATER or answer.status == 0 or cut
        else:
            again = answer.unsent or answer.status == 429 or (answer.status == 503 and floor_s is not None)
        if not again:
            return None
        return _BACKOFF.delay(attempt, at_least_s=floor_s, rng=self._random)

    def _floor_s(self, answer: Answer) -> float | None:
        return retry_after.of(answer.headers, now_wall=self._clock.wall())


async def gather(*calls: Coroutine[Any, Any, _T], limit: int = 8) -> list[_T]:
    """Their results in order, ``limit`` at a time at most. The first that fails ends the others. Raises what
    that one raised."""
    results: dict[int, _T] = {}
    turns = iter(enumerate(calls))

    async def work() -> None:
        for index, call in turns:
            results[index] = await call

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(min(limit, len(calls))):
                group.create_task(work())
    except BaseExceptionGroup as failed:
        raise first_cause(failed) from None
    finally:
        for call in calls:
            call.close()  # what never had its turn would warn
    return [results[index] for index in range(len(calls))]


def _is_done(answer: Answer) -> bool:
    return 200 <= answer.status < 300 and not answer.truncated


def _encode(method: str, path: str, body: Any) -> bytes:
    if body is None:
        return b""
    try:
        return json.dumps(body, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError):  # a date of TOML, for one; their words quote the value
        raise UserError(f"{method} {path}: there is a value in the request that JSON does not have") from None


def _decode(method: str, path: str, answer: Answer) -> Any:
    if not answer.body.strip():
        return None
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        words = f"it answered {answer.status}, but not with JSON: is this the API?"
    if method not in _SAFE:
        raise AmbiguousRequest(method, path, words)
    raise UserError(f"{method} {path}: {words}")


def _failure(method: str, path: str, answer: Answer, *, mask: SecretMask) -> UserError:
    """What there is to raise in the end."""
    if answer.status == 0 or 200 <= answer.status < 300:
        why = answer.error or "the answer was cut short, or is too long"
        if method in _SAFE or answer.unsent:
            return Unreachable(f"{method} {path}: {why}")
        return AmbiguousRequest(method, path, why)
    error = read_error(method, path, answer, mask=mask)
    maybe_done = method not in _SAFE and (answer.status == 408 or answer.status >= 500)
    return AmbiguousRequest(method, path, error=error) if maybe_done else error


def _masked(answer: Answer, auth: Auth) -> Answer:
    """Without our own credentials: some APIs show what they were sent."""
    body = auth.mask(answer.body)
    if body is answer.body:
        return answer
    return replace(answer, body=body)


def _secrets_in(body: Any, *, secret: bool = False, depth: int = 8) -> Iterator[str]:
    """What stands in a request under names of secrets; an API may quote it when it complains."""
    if isinstance(body, str):
        if secret:
            yield body
    elif isinstance(body, Mapping) and depth:
        for name, value in body.items():
            within = secret or name.lower() in _SECRET_PLACES or names_a_secret(_snake(name))
            yield from _secrets_in(value, secret=within, depth=depth - 1)
    elif isinstance(body, list | tuple) and depth:
        for value in body:
            yield from _secrets_in(value, secret=secret, depth=depth - 1)


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
