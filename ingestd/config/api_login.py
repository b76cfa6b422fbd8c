"""The API's address, its login, and the state directory. Called by every command that sends."""

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from ingestd.config.sections import ApiConfig
from ingestd.config.settings import Settings, sinks_that_send
from ingestd.core import redaction
from ingestd.core.address import show_url
from ingestd.core.errors import UserError
from ingestd.core.setting_types import SecretStr

if TYPE_CHECKING:
    from pathlib import Path


class Login(NamedTuple):
    """The API's address and its login, with everything resolved. ``token_url`` None: without a token.

    ``client_id_file``, ``client_secret_file``: where they came from, if it was files: those may change."""

    api: str
    token_url: str | None
    client_id: str = ""
    client_secret: SecretStr = SecretStr("")
    client_id_file: str = ""
    client_secret_file: str = ""


def resolve_login(api: ApiConfig) -> Login:
    """Hosts by region, secrets from files. Raises UserError when something is missing."""
    from ingestd.config import genesys_regions

    url, token_url = api.url, api.token_url
    if api.region:
        url, by_region = genesys_regions.hosts(api.region)
        token_url = token_url or by_region
    if not url:
        raise UserError(
            "No API is set. Use --api URL or --region NAME. "
            "To try it out: `ingestd replay --sandbox`, or the API of an `ingestd sandbox`."
        )
    for name, value in (("--api", url), ("--token-url", token_url)):
        if value and not value.startswith(("http://", "https://")):
            raise UserError(f"{name} {show_url(value)}: it must begin with https:// (or http://)")
    if api.no_auth:
        return Login(api=url, token_url=None)
    token_url = token_url or genesys_regions.token_url_for(url) or ""
    if not token_url:
        raise UserError("No token URL is set. Use --token-url URL, or --no-auth.")
    client_id = api.client_id or _from_file(api.client_id_file, "client id")
    secret = api.client_secret.get_secret_value() or _from_file(api.client_secret_file, "client secret")
    redaction.hide(secret)
    if not client_id or not secret:
        raise UserError(
            "no credentials: set GENESYS_CLIENT_ID and GENESYS_CLIENT_SECRET (or …_FILE), or --no-auth"
        )
    return Login(
        api=url,
        token_url=token_url,
        client_id=client_id,
        client_secret=SecretStr(secret),
        client_id_file="" if api.client_id else api.client_id_file,
        client_secret_file="" if api.client_secret.get_secret_value() else api.client_secret_file,
    )


def find_login(settings: Settings) -> Login | None:
    """The login of [api]; None if nothing needs it. Raises UserError when something is missing."""
    sinks = sinks_that_send(settings)
    needed = not sinks or any(sink.needs_api for sink in sinks.values())
    needed = needed or bool(settings.ingest.genesys_notifications)
    return resolve_login(settings.api) if needed else None


def _from_file(path: str, what: str) -> str:
    if not path:
        return ""
    try:
        with open(path, encoding="utf-8") as opened:
            return opened.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the {what} from {path}: {error}") from None


def state_directory(
    settings: Settings, login: Login | None, environ: Mapping[str, str] | None = None
) -> "Path":
    """The directory of checkpoints, window and dead letters; by default one for each API, and where no sink
    uses [api], one for each set of sinks."""
    from pathlib import Path

    if settings.state.dir:
        return Path(settings.state.dir)
    above = state_base(environ)
    if not login:
        return above / _name_of("sinks_" + "_".join(sorted(settings.sinks)))
    old = above / _name_of(login.api)  # it had user-info and query in it, and may have events
    return old if old.is_dir() else above / _name_of(_plain(login.api))


def state_base(environ: Mapping[str, str] | None = None) -> "Path":
    """Where the state directories are that nobody has named."""
    from pathlib import Path

    environ = os.environ if environ is None else environ
    return Path(environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "ingestd"


def find_state_directory(settings: Settings) -> "Path":
    """As ``state_directory``, for a command that needs no credentials. Raises UserError."""
    from ingestd.config import genesys_regions

    sinks = sinks_that_send(settings)
    if settings.state.dir or (sinks and not any(sink.needs_api for sink in sinks.values())):
        return state_directory(settings, None)
    api = settings.api
    url = genesys_regions.hosts(api.region)[0] if api.region else api.url
    if not url:
        raise UserError("the configuration names no state directory (state.dir) and no API: use --state-dir")
    return state_directory(settings, Login(url, None))


def _name_of(where: str) -> str:
    return where.split("://", 1)[-1].rstrip("/").replace("/", "_").replace(":", "_")


def _plain(url: str) -> str:
    """Without what may be secret in it."""
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    return f"{parts.netloc.rpartition('@')[2]}{parts.path}"
