"""HTTP clients and credentials, from the settings. Called by what opens sinks."""

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from ingestd.config import Login, Settings
from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.core.setting_types import NOTHING
from ingestd.sinks.settings import HttpSinkConfig
from ingestd.transport.auth import Credential, NoAuth, basic, bearer, header, make_credential
from ingestd.transport.auth_config import AuthConfig
from ingestd.transport.client import MAX_BODY_BYTES, Auth, Client
from ingestd.transport.engine import Engine
from ingestd.transport.url_guard import UrlGuard
from ingestd.transport.watched_file import Watch

if TYPE_CHECKING:
    from ingestd.transport.oauth import TokenSource

OnRefresh = Callable[[bool, float], None]


def make_client(
    settings: Settings,
    *,
    max_connections: int,
    guard: UrlGuard | None = None,
    watch: Watch | None = None,
    timeout_s: float | None = None,
    clock: Clock | None = None,
    rng: random.Random | None = None,
    engine: Engine | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> Client:
    """``clock``, ``rng``, ``engine``: None is the system's. ``timeout_s``: not given,
    delivery.request_timeout. ``max_body_bytes``: of an answer. Raises UserError for files that do not
    serve."""
    api = settings.api
    timeout_s = timeout_s or settings.delivery.request_timeout
    return Client(
        timeout_s=timeout_s,
        read_timeout_s=timeout_s,
        connect_timeout_s=min(10.0, timeout_s),
        max_connections=max_connections,
        max_connection_age_s=api.max_connection_age,
        max_body_bytes=max_body_bytes,
        ca_file=api.ca_file or None,
        trust_env=api.trust_env,
        guard=guard,
        watch=watch,
        clock=clock,
        rng=rng,
        engine=engine,
    )


def api_auth(
    login: Login | None,
    client: Client,
    *,
    clock: Clock,
    rng: random.Random | None = None,
    login_timeout_s: float,
    watch: Watch | None = None,
    on_refresh: OnRefresh | None = None,
) -> Auth:
    """The login of [api]. Close it. Raises UserError."""
    if login is None or login.token_url is None:
        return NoAuth()
    by_file = bool(login.client_secret_file)
    section = AuthConfig(
        type="oauth2",
        token_url=login.token_url,
        client_id="" if login.client_id_file else login.client_id,
        client_id_file=login.client_id_file,
        client_secret=NOTHING if by_file else login.client_secret,
        client_secret_file=login.client_secret_file,
    )
    return make_auth(
        section, client, clock=clock, rng=rng, timeout_s=login_timeout_s, on_refresh=on_refresh, watch=watch
    )


def own_auth(
    section: HttpSinkConfig,
    client: Client,
    *,
    clock: Clock,
    rng: random.Random | None = None,
    login_timeout_s: float,
    watch: Watch | None = None,
    on_refresh: OnRefresh | None = None,
) -> Auth:
    """The credentials of a sink that does not use those of [api]. Close them. Raises UserError."""
    if section.auth_kind == "none":
        return NoAuth()
    if section.auth_kind == "aws" and section.aws:
        from ingestd.transport import aws  # an extra: only for those who want it

        region = aws.find_region(section.aws.aws_region, profile=section.aws.aws_profile)
        return aws.AwsSignature(section.aws.aws_service, region, profile=section.aws.aws_profile, clock=clock)
    return make_auth(
        section.auth,
        client,
        clock=clock,
        rng=rng,
        timeout_s=login_timeout_s,
        on_refresh=on_refresh,
        watch=watch,
    )


def make_auth(
    section: AuthConfig,
    client: Client,
    *,
    clock: Clock,
    watch: Watch | None = None,
    rng: random.Random | None = None,
    timeout_s: float = 60.0,
    on_refresh: Callable[[bool, float], None] | None = None,
) -> Auth:
    """Of a section whose type is none, bearer, basic, header, oauth2 or standard_webhooks: what api and auto
    stand for is for others to say.

    ``timeout_s``, ``rng`` and ``on_refresh``: see TokenSource, for which ``client`` is. Files are read again
    when they change, ``watch`` is called with those that cannot be used. Close what is returned. Raises
    UserError for what is missing or does not serve.
    """
    token, file = section.token.get_secret_value(), section.token_file
    match section.type:
        case "none":
            return NoAuth()
        case "bearer":
            return bearer(token, file, clock=clock, watch=watch)
        case "basic":
            password = section.password.get_secret_value()
            return basic(section.username, password, section.password_file, clock=clock, watch=watch)
        case "header":
            return header(section.header, token, file, clock=clock, watch=watch)
        case "standard_webhooks":
            from ingestd.transport.webhook_signature import StandardWebhooks  # few sign

            secret = section.secret.get_secret_value()
            return StandardWebhooks(secret, section.secret_file, clock=clock, watch=watch)
        case "oauth2":
            return _token_source(
                section,
                client,
                clock=clock,
                rng=rng,
                watch=watch,
                timeout_s=timeout_s,
                on_refresh=on_refresh,
            )
    raise AssertionError(f"auth.type {section.type}: the section of a sink says what that stands for")


def _token_source(
    section: AuthConfig,
    client: Client,
    *,
    clock: Clock,
    rng: random.Random | None,
    watch: Watch | None,
    timeout_s: float,
    on_refresh: Callable[[bool, float], None] | None,
) -> "TokenSource":
    if not (section.client_id or section.client_id_file) or not section.token_url.startswith(
        ("https://", "http://")
    ):
        raise UserError("oauth2: give client_id, and token_url beginning with https://")

    def credential(what: str, text: str, file: str) -> Credential[str]:
        return make_credential(text, file, _not_empty, what=what, clock=clock, watch=watch)

    from ingestd.transport.oauth import TokenSource

    return TokenSource(
        client,
        token_url=section.token_url,
        client_id=credential("client_id", section.client_id, section.client_id_file),
        client_secret=credential(
            "client_secret", section.client_secret.get_secret_value(), section.client_secret_file
        ),
        scope=section.scope,
        clock=clock,
        rng=rng,
        timeout_s=timeout_s,
        on_refresh=on_refresh,
    )


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError("it is empty")
    return text
