"""An ``Auth`` from the plain values of a configuration. Called by the pipeline for each sink."""

from collections.abc import Callable

from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.transport.auth import Auth, NoAuth, basic, bearer, header
from ingestd.transport.client import Client
from ingestd.transport.credential import make_credential
from ingestd.transport.oauth import TokenSource
from ingestd.transport.watched_file import Watch
from ingestd.transport.webhook_signature import StandardWebhooks


def make_auth(
    kind: str,
    client: Client,
    *,
    clock: Clock,
    token: str = "",
    token_file: str = "",
    header_name: str = "Authorization",
    username: str = "",
    password: str = "",
    password_file: str = "",
    token_url: str = "",
    client_id: str = "",
    client_secret: str = "",
    client_secret_file: str = "",
    scope: str = "",
    secret: str = "",
    secret_file: str = "",
    client_id_file: str = "",
    watch: Watch | None = None,
    patience_s: float = 60.0,
    on_refresh: Callable[[bool, float], None] | None = None,
) -> Auth:
    """``kind``: none, bearer, basic, header, oauth2 or standard_webhooks; each uses its own values only.

    ``patience_s`` and ``on_refresh``: see TokenSource, for which ``client`` is. Files are read again when
    they change, ``watch`` hears of those that do not serve. Close what is returned.
    Raises UserError for what is missing or does not serve.
    """
    match kind:
        case "none":
            return NoAuth()
        case "bearer":
            return bearer(token, token_file, clock=clock, watch=watch)
        case "basic":
            return basic(username, password, password_file, clock=clock, watch=watch)
        case "header":
            return header(header_name, token, token_file, clock=clock, watch=watch)
        case "standard_webhooks":
            return StandardWebhooks(secret, secret_file, clock=clock, watch=watch)
        case "oauth2":
            if not (client_id or client_id_file) or not token_url.startswith(("https://", "http://")):
                raise UserError("oauth2: give client_id, and token_url beginning with https://")
            return TokenSource(
                client,
                token_url=token_url,
                client_id=make_credential(
                    client_id, client_id_file, _not_empty, what="client_id", clock=clock, watch=watch
                ),
                client_secret=make_credential(
                    client_secret,
                    client_secret_file,
                    _not_empty,
                    what="client_secret",
                    clock=clock,
                    watch=watch,
                ),
                scope=scope,
                clock=clock,
                patience_s=patience_s,
                on_refresh=on_refresh,
            )
    raise UserError(f"auth.type {kind!r}: expected none, bearer, basic, header, oauth2 or standard_webhooks")


def _not_empty(text: str) -> str:
    if not text:
        raise ValueError("it is empty")
    return text
