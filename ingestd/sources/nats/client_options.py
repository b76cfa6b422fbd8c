"""What a client of NATS is opened with: where to, how it is encrypted, and with what it logs in."""

from collections.abc import Callable
from typing import Any

from ingestd.sources.broker.source import secret_of
from ingestd.sources.nats import tls
from ingestd.sources.nats.settings import NatsLogin


def client_options(settings: NatsLogin, *, guarded: Callable[[str], str]) -> dict[str, Any]:
    """For ``connect`` of nats-py. A connection ends with its first problem, so the client does not go on by
    itself. ``guarded`` gives what it is given, or raises where that must not be sent. Raises UserError for
    files that cannot be read."""
    options: dict[str, Any] = {
        "servers": settings.servers,
        "name": "ingestd",
        "allow_reconnect": False,
        "max_reconnect_attempts": 1,
        "reconnect_time_wait": 0.1,
        "connect_timeout": 5,
        "ping_interval": 10,
        "max_outstanding_pings": 2,
    }
    if settings.wants_tls:
        options["tls"] = tls.make_context(settings)
    return options | _login(settings, guarded)


def _login(settings: NatsLogin, guarded: Callable[[str], str]) -> dict[str, Any]:
    login = next(iter(settings.logins), "")
    if login == "user":
        password = secret_of(settings.password.get_secret_value(), settings.password_file, "password")
        return {"user": lambda: guarded(settings.user), "password": lambda: password}
    if login == "token":
        token = secret_of(settings.token.get_secret_value(), settings.token_file, "token")
        return {"token": lambda: guarded(token)}
    if login == "creds_file":
        secret_of("", settings.creds_file, "credentials")
        return {"user_credentials": settings.creds_file}
    if login == "nkey_file":
        return {"nkeys_seed_str": secret_of("", settings.nkey_file, "nkey")}
    return {}
