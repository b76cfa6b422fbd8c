"""Where ``ingestd publish`` sends, whom it asks, and as whom."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from ingestd.config import Login, Settings
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.delivery.batch_transport import BatchTransport
from ingestd.delivery.event_status import StatusReader
from ingestd.delivery.status_client import StatusClient
from ingestd.sinks.answer_body import safe_text
from ingestd.sinks.cloudevents import CloudEventsConfig
from ingestd.sinks.eventbridge import EventBridgeConfig
from ingestd.sinks.registry import type_of
from ingestd.sinks.settings import ConfirmConfig, HttpSinkConfig
from ingestd.sinks.webhook import WebhookConfig
from ingestd.transport.client import Auth, Client, Sender
from ingestd.transport.url_guard import UrlGuard
from ingestd.transport.webhook_handshake import WebhookHandshake
from ingestd.wiring.factories import status_url
from ingestd.wiring.http_clients import api_auth, make_client, own_auth

_LOGIN_TIMEOUT_S = 10.0
_DEFAULT = CloudEventsConfig(type="cloudevents")


def find_section(settings: Settings, name: str | None) -> HttpSinkConfig:
    """The sink of that name; without one, CloudEvents to [api]. Raises UserError."""
    if name is None:
        return _DEFAULT
    section = settings.sinks.get(name)
    if section is None:
        there = ", ".join(settings.sinks) or "none; give --config"
        raise UserError(f"--sink {name[:50]}: there is no such sink in the configuration; there are: {there}")
    if not isinstance(section, HttpSinkConfig) or isinstance(section, EventBridgeConfig):
        raise UserError(f"--sink {name}: publish does not send to sinks of type {type_of(type(section))}")
    return section


def takes_cloudevents(section: HttpSinkConfig) -> bool:
    """Whether an event has to be a CloudEvent already."""
    return isinstance(section, CloudEventsConfig) and not section.wrap.type


def find_question(section: HttpSinkConfig, login: Login | None) -> tuple[str, StatusReader]:
    """(URL with {id}, how its answers are read). Raises UserError if the sink has no confirm.url."""
    confirm = section.confirms or ConfirmConfig()
    url = confirm.url
    if login is not None and (url == "auto" or (not url and section is _DEFAULT)):
        url = status_url(login.api)
    if not url or url == "auto":
        raise UserError("--wait: the sink has no confirm.url to ask what became of an event")
    reader = StatusReader(
        field=confirm.status, delivered=confirm.delivered, failed=confirm.failed, safe_text=safe_text
    )
    return url, reader


@asynccontextmanager
async def connect(
    settings: Settings, section: HttpSinkConfig, login: Login | None
) -> AsyncIterator[tuple[BatchTransport, StatusClient]]:
    """What sends the event, and what asks about it. Raises UserError."""
    guard = UrlGuard(allow_private=section.allow_private)
    async with (
        make_client(settings, max_connections=2, guard=guard) as client,
        AsyncExitStack() as stack,
    ):
        auth = _make_auth(section, login, client)
        stack.push_async_callback(auth.aclose)
        sender: BatchTransport = Sender(client, auth)
        if isinstance(section, WebhookConfig) and section.handshake_origin:
            origin = section.handshake_origin
            handshaking = WebhookHandshake(Sender(client, auth), client, origin=origin, clock=SystemClock())
            stack.push_async_callback(handshaking.aclose)
            sender = handshaking
        yield sender, StatusClient(client, auth, SystemClock())


def _make_auth(section: HttpSinkConfig, login: Login | None, client: Client) -> Auth:
    clock, timeout_s = SystemClock(), _LOGIN_TIMEOUT_S
    if section.auth_kind != "api":
        return own_auth(section, client, clock=clock, login_timeout_s=timeout_s)
    return api_auth(login, client, clock=clock, login_timeout_s=timeout_s)
