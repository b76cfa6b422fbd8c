"""Sources of Genesys Cloud's notifications."""

from collections.abc import AsyncIterator

from ingestd.sources.genesys.channel import Channel
from ingestd.sources.genesys.source import MakeChannel, NotificationsSource
from ingestd.transport.api_client import ApiClient
from ingestd.transport.websocket import WebSocketClient
from ingestd.wiring.broker_feed import Feeding, FeedingContext
from ingestd.wiring.http_clients import api_auth, make_client

_API_S = 15.0


async def notifications_sources(context: FeedingContext) -> AsyncIterator[Feeding]:
    pipeline = context.pipeline
    for name, settings in pipeline.settings.ingest.genesys_notifications.items():
        source = NotificationsSource(
            name,
            settings,
            pipeline.journal,
            channel=await _open_channels(context),
            clock=pipeline.clock,
            rng=context.rng,
            warn=context.warn,
            audit=pipeline.audit,
        )
        yield Feeding(source, is_spooled=True)


async def _open_channels(context: FeedingContext) -> MakeChannel:
    """With the login of [api]."""
    login, stack, rng = context.login, context.stack, context.rng
    assert login  # find_login
    clock, settings = context.pipeline.clock, context.pipeline.settings
    client = await stack.enter_async_context(
        make_client(settings, max_connections=4, timeout_s=_API_S, clock=clock)
    )
    auth = api_auth(login, client, clock=clock, rng=rng, login_timeout_s=_API_S)
    stack.push_async_callback(auth.aclose)
    api = ApiClient(client, auth, base_url=login.api, clock=clock, rng=rng, deadline_s=2 * _API_S)
    section = settings.api
    sockets = await stack.enter_async_context(
        WebSocketClient(ca_file=section.ca_file or None, trust_env=section.trust_env, clock=clock)
    )
    return lambda: Channel(api, sockets, clock)
