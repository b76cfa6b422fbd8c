"""The login of a command that sends by hand: that of the settings, or that of a sandbox beside it."""

import os
from collections.abc import Callable, Mapping
from typing import Any

from ingestd.config import ApiConfig, Login, resolve_login
from ingestd.core.address import is_exposed
from ingestd.core.setting_types import SecretStr

SANDBOX_URL = "http://127.0.0.1:8700"


def login_by_hand(
    settings: ApiConfig, given: Mapping[str, Any], *, sandbox: bool, warn: Callable[[str], None]
) -> Login:
    """``given``: the options ``api``, ``token_url``, ``no_auth``: where the sandbox is. Raises UserError."""
    login = _sandbox_login(given) if sandbox else resolve_login(settings)
    if login.token_url and is_exposed(login.token_url):
        warn(f"{login.token_url} uses plain HTTP, so the credentials are sent unencrypted. Use https.")
    return login


def _sandbox_login(given: Mapping[str, Any]) -> Login:
    url = (given.get("api") or SANDBOX_URL).rstrip("/")
    if given.get("no_auth"):
        return Login(api=url, token_url=None)
    return Login(
        api=url,
        token_url=given.get("token_url") or f"{url}/oauth/token",
        client_id="sandbox",
        client_secret=SecretStr(os.environ.get("INGESTD_SANDBOX_CLIENT_SECRET", "sandbox")),
    )
