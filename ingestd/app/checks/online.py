"""Logs in, asks the API whether it knows the token, and every other host for a sign of life. Sends no event.

Called for ``ingestd check --online``.
"""

from collections.abc import AsyncIterator, Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import urlsplit

from ingestd.app.checks.finding import Finding, Level, fail, ok, warn
from ingestd.app.checks.organization import TOKENS_ME, Organization
from ingestd.app.checks.sinks import find_targets, make_own_auth
from ingestd.config import Login, Settings
from ingestd.config.genesys_regions import region_of
from ingestd.core.answer import Answer
from ingestd.core.clock import Clock
from ingestd.core.errors import Unreachable, UserError
from ingestd.sinks.answer_body import safe_text
from ingestd.sinks.genesys_events import GenesysEventsConfig
from ingestd.sinks.journey_events import JourneyEventsConfig
from ingestd.sinks.settings import HttpSinkConfig
from ingestd.transport.auth import LoginRefused
from ingestd.transport.client import Client
from ingestd.transport.oauth import TokenSource
from ingestd.wiring.http_clients import make_client

LOGIN_TIMEOUT_S = 10.0
MAX_SKEW_S = 30.0


async def check_online(
    settings: Settings, login: Login | None, clock: Clock, *, ask_organization: bool = False
) -> AsyncIterator[Finding]:
    """Tokens, and with its own a HEAD of what the API has for that; without one, of the root of each other
    host: any HTTP answer is a sign of life. ``login``: of [api], if a sink needs it."""
    is_genesys = _is_genesys(settings)
    timeout_s = min(settings.delivery.request_timeout, LOGIN_TIMEOUT_S)
    async with make_client(settings, max_connections=8, timeout_s=timeout_s) as client:
        if login and login.token_url is not None:
            finding, token = await _check_token(client, login, clock, is_genesys=is_genesys)
            yield finding
            if token:
                api = Organization(client, login.api, token)
                for finding in await _check_identity(api, login, clock, is_genesys=is_genesys):
                    yield finding
                if ask_organization and finding.level is not Level.FAIL:
                    async for finding in api.check(settings, login):
                        yield finding
        elif login:
            yield await _check_life(client, "api", login.api)
        for name, section in settings.sinks.items():
            if isinstance(section, HttpSinkConfig) and section.auth_kind == "oauth2":
                yield await _check_token_of(client, name, section, clock)
        for host, names in _hosts(settings, login).items():
            yield await _check_life(client, ", ".join(names), host)


def _hosts(settings: Settings, login: Login | None) -> dict[str, list[str]]:
    """Scheme and host -> the sinks there, but for that of the API. What is behind it may be a secret."""
    found: dict[str, list[str]] = {}
    for name, sink in find_targets(settings, login).items():
        host = _root(sink.url)
        if sink.url.startswith(("http://", "https://")) and (login is None or host != _root(login.api)):
            found.setdefault(host, []).append(name)
    return found


def _root(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}/"


async def _check_life(client: Client, check: str, url: str) -> Finding:
    answer = await client.request("HEAD", url)
    if answer.status == 0:
        return fail(check, f"{url}: {answer.error}")
    tls = "TLS verified" if url.startswith("https://") else "no TLS"
    summary = f"{url} answers ({answer.status}) in {answer.seconds * 1000:.0f} ms, {tls}"
    return warn(check, f"{summary}: a fault of its own") if answer.status >= 500 else ok(check, summary)


async def _check_token_of(client: Client, name: str, section: HttpSinkConfig, clock: Clock) -> Finding:
    """Of a sink with a login of its own."""
    try:
        auth = make_own_auth(section, client, clock=clock, login_timeout_s=LOGIN_TIMEOUT_S)
    except UserError as error:
        return fail(name, str(error))
    start_s = clock.monotonic()
    try:
        await auth.headers("", b"", {})
    except Unreachable as error:
        return fail(name, str(error))
    finally:
        await auth.aclose()
    return ok(name, f"{section.auth.token_url} gave a token in {(clock.monotonic() - start_s) * 1000:.0f} ms")


def _is_genesys(settings: Settings) -> bool:
    """Whether [api] can be nothing but Genesys Cloud."""
    sections = settings.sinks.values()
    return any(isinstance(one, GenesysEventsConfig | JourneyEventsConfig) and not one.url for one in sections)


async def _check_identity(
    api: Organization, login: Login, clock: Clock, *, is_genesys: bool
) -> list[Finding]:
    """Whether the API knows the token: then host, region and token belong together. Last, what it is.

    ``TokensApi.head_tokens_me`` of Genesys Cloud's SDK (269) needs no permission.
    """
    answer = await api.request("HEAD", TOKENS_ME)
    identity = _judge_identity(answer, login, login.api.rstrip("/") + TOKENS_ME, is_genesys=is_genesys)
    return [*check_clock(answer, _root(login.api), now_s=clock.wall()), identity]


def check_clock(answer: Answer, host: str, *, now_s: float) -> Iterator[Finding]:
    """This machine's clock against that of an API, by the ``Date`` of its answer (RFC 9110 6.6.1), which has
    whole seconds. ``now_s``: wall clock when the answer was there."""
    try:
        theirs = parsedate_to_datetime(answer.headers.get("date", "")).timestamp() + 0.5
    except (ValueError, TypeError):
        return  # RFC 9110 lets a server without a clock leave it out
    ahead_s = now_s - answer.seconds / 2 - theirs
    if abs(ahead_s) <= MAX_SKEW_S:
        yield ok("clock", f"agrees with {host} to {max(1, round(abs(ahead_s)))} s")
        return
    which = "ahead of" if ahead_s > 0 else "behind"
    yield warn(
        "clock",
        f"this machine's clock is {abs(ahead_s):.0f} s {which} that of {host}: past 5 minutes AWS and"
        " receivers of signed webhooks refuse what it signs; synchronise it (timedatectl)",
    )


def _judge_identity(answer: Answer, login: Login, url: str, *, is_genesys: bool) -> Finding:
    status = answer.status
    if not status:
        return fail("api", f"{login.api}: {answer.error}")
    tls = "TLS verified" if url.startswith("https://") else "no TLS"
    summary = f"{url} answers {status} in {answer.seconds * 1000:.0f} ms, {tls}"
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    if 200 <= status < 300 and kind in ("", "application/json"):
        return ok("api", f"{summary}: it knows the token")
    if 200 <= status < 400:
        what = safe_text(kind, 60) or "no Content-Type"
        return fail("api", f"{summary}: {status} with {what}: is this the API, or a sign-in page?")
    if status == 401:
        return fail(
            "api", f"{summary}: it does not take the token of {login.token_url}: are both of one region?"
        )
    if status >= 500:
        return warn("api", f"{summary}: a fault of its own")
    if is_genesys and status in (404, 405, 410, 501):
        return fail("api", f"{summary}: is this Genesys Cloud's API, as https://api.mypurecloud.de?")
    return warn("api", f"{summary}, so it is not certain that it takes the token")


async def _check_token(
    client: Client, login: Login, clock: Clock, *, is_genesys: bool
) -> tuple[Finding, str]:
    """With the token; empty: there is none."""
    tokens = TokenSource(
        client,
        token_url=login.token_url or "",
        client_id=login.client_id,
        client_secret=login.client_secret.get_secret_value(),
        clock=clock,
        timeout_s=LOGIN_TIMEOUT_S,
    )
    start_s = clock.monotonic()
    try:
        token = await tokens.get()
    except Unreachable as error:
        hint = ""
        if is_genesys and isinstance(error, LoginRefused):
            region = region_of(login.token_url or "")
            than = f" than {region}" if region else ""
            hint = f"; is its organization in another region{than}, or was the client deleted?"
        return fail("token", f"{error}{hint}"), ""
    finally:
        await tokens.aclose()
    took_ms = (clock.monotonic() - start_s) * 1000
    return ok("token", f"{login.token_url} gave one in {took_ms:.0f} ms"), token.value
