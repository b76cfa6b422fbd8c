"""An ``Auth`` from its section of the configuration. Called by the pipeline for each sink."""

import random
from collections.abc import Callable

from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.transport.auth import Credential, NoAuth, basic, bearer, header, make_credential
from ingestd.transport.auth_config import AuthConfig
from ingestd.transport.client import Auth, Client
from ingestd.transport.oauth import TokenSource
from ingestd.transport.watched_file import Watch
from ingestd.transport.webhook_signature import StandardWebhooks


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
) -> TokenSource:
    if not (section.client_id or section.client_id_file) or not section.token_url.startswith(
        ("https://", "http://")
    ):
        raise UserError("oauth2: give client_id, and token_url beginning with https://")

    def credential(what: str, text: str, file: str) -> Credential[str]:
        return make_credential(text, file, _not_empty, what=what, clock=clock, watch=watch)

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
