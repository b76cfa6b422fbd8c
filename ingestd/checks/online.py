"""Logs in and asks the API for a sign of life. Sends no event. Called for ``ingestd check --online``."""

from collections.abc import AsyncIterator

from ingestd.checks.finding import Finding, fail, ok, warn
from ingestd.config import Login, Settings
from ingestd.core.clock import Clock
from ingestd.core.errors import Unreachable
from ingestd.transport.client import Client
from ingestd.transport.oauth import TokenSource

PATIENCE_S = 10.0


async def check_online(settings: Settings, login: Login, clock: Clock) -> AsyncIterator[Finding]:
    """A token, then a HEAD of the API's base without it: any HTTP answer is a sign of life."""
    timeout_s = min(settings.delivery.request_timeout, PATIENCE_S)
    async with Client(
        timeout_s=timeout_s,
        read_timeout_s=timeout_s,
        connect_timeout_s=timeout_s,
        ca_file=settings.api.ca_file or None,
        trust_env=settings.api.trust_env,
    ) as client:
        if login.token_url is not None:
            yield await _check_token(client, login, clock)
        answer = await client.request("HEAD", login.api)
        if answer.status == 0:
            yield fail("api", f"{login.api}: {answer.error}")
            return
        tls = "TLS verified" if login.api.startswith("https://") else "no TLS"
        said = f"{login.api} answers ({answer.status}) in {answer.seconds * 1000:.0f} ms, {tls}"
        yield warn("api", f"{said}: a fault of its own") if answer.status >= 500 else ok("api", said)


async def _check_token(client: Client, login: Login, clock: Clock) -> Finding:
    tokens = TokenSource(
        client,
        token_url=login.token_url or "",
        client_id=login.client_id,
        client_secret=login.client_secret.get_secret_value(),
        clock=clock,
        patience_s=PATIENCE_S,
    )
    start_s = clock.monotonic()
    try:
        await tokens.get()
    except Unreachable as error:
        return fail("token", str(error))
    finally:
        await tokens.aclose()
    return ok("token", f"{login.token_url} gave one in {(clock.monotonic() - start_s) * 1000:.0f} ms")
