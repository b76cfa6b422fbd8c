"""HTTP clients and credentials, from the settings. Called by what opens sinks."""

import random
from collections.abc import Callable

from ingestd.config import Login, Settings
from ingestd.core.clock import Clock
from ingestd.core.setting_types import NOTHING
from ingestd.sinks.settings import HttpSinkConfig
from ingestd.transport.auth import NoAuth
from ingestd.transport.auth_config import AuthConfig
from ingestd.transport.auth_factory import make_auth
from ingestd.transport.client import MAX_BODY_BYTES, Auth, Client
from ingestd.transport.engine import Engine
from ingestd.transport.url_guard import UrlGuard
from ingestd.transport.watched_file import Watch

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
