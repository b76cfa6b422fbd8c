"""Every setting, its default and its cross-checks; the only reader of configuration files and environment.

Precedence: command line, environment (``INGESTD_<SECTION>_<FIELD>`` and the ``GENESYS_…`` names), the
TOML file, the default. A component is handed its own section, never the tree.
"""

import difflib
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)

from ingestd.core import regions, units
from ingestd.core.errors import UserError

Seconds = Annotated[float, BeforeValidator(units.seconds)]
Size = Annotated[int, BeforeValidator(units.size)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=False)


class Api(_Section):
    """Where events go and how to log in there."""

    url: str = Field("", description="base of the API; or give region")
    region: str = Field("", description="AWS region or Genesys domain; gives url and token_url")
    token_url: str = Field("", description="where the OAuth2 token comes from")
    no_auth: bool = Field(False, description="send without a token")
    client_id: str = ""
    client_secret: SecretStr = SecretStr("")
    client_id_file: str = ""
    client_secret_file: str = ""
    ca_file: str = Field("", description="PEM file of authorities to trust instead of the usual ones")
    trust_env: bool = Field(False, description="use the proxies of the environment")


class Schema(_Section):
    """What a valid event is, and what makes two events the same."""

    name: str = Field(
        "interaction", description="interaction, cloudevent, a JSON Schema file, or package.module:Model"
    )
    dedup_key: str = Field("", description="JSON paths, A,B.c; empty: the schema's own")


class Window(_Section):
    max_count: int = Field(1_000_000, ge=16, le=50_000_000)
    max_age: Seconds = Field(600.0, ge=0)


class Batch(_Section):
    """Limits of one request."""

    max_bytes: Size = Field(500_000, ge=100, description="of the encoded body, envelope included")
    max_events: int = Field(5_000, ge=1, le=1_000_000)
    max_age: Seconds = Field(1.0, ge=0, description="how long an event waits for others to fill its batch")


class Delivery(_Section):
    max_in_flight: int = Field(5, ge=1, le=1000)
    give_up_after: Seconds = Field(900.0, ge=0)
    max_attempts: int = Field(0, ge=0, description="0: no bound but the age")
    request_timeout: Seconds = Field(30.0, gt=0)
    backoff_base: Seconds = Field(0.5, gt=0)
    backoff_cap: Seconds = Field(30.0, gt=0)
    circuit_threshold: int = Field(10, ge=1)
    startup_patience: Seconds = Field(20.0, ge=0)
    shutdown_timeout: Seconds = Field(25.0, ge=0)


class Source(_Section):
    max_event_bytes: Size = Field(1024 * 1024, ge=1024, description="a longer line costs that one line")


class Letters(_Section):
    """Dead letters."""

    retry: bool = True
    retention: Seconds = Field(7 * 86400.0, ge=0, description="how long delivered letters are kept")


class State(_Section):
    dir: str = Field("", description="empty: a directory for this API under $XDG_STATE_HOME/ingestd")


class Audit(_Section):
    file: str = Field("", description="empty: audit.jsonl in the state directory")
    max_bytes: Size = Field(100_000_000, ge=10_000)
    keep: int = Field(5, ge=1, le=1000)


class Metrics(_Section):
    host: str = "127.0.0.1"
    port: int | None = Field(None, ge=0, le=65535)


class Settings(_Section):
    """Everything. One TOML table for each section."""

    api: Api = Api()
    schema_: Schema = Field(Schema(), alias="schema")
    window: Window = Window()
    batch: Batch = Batch()
    delivery: Delivery = Delivery()
    source: Source = Source()
    letters: Letters = Letters()
    state: State = State()
    audit: Audit = Audit()
    metrics: Metrics = Metrics()

    @model_validator(mode="after")
    def _check(self) -> "Settings":
        if self.api.url and self.api.region:
            raise ValueError("api.url and api.region say the same thing: give one of them")
        if self.delivery.backoff_base > self.delivery.backoff_cap:
            raise ValueError("delivery.backoff_base is longer than delivery.backoff_cap")
        return self


Overrides = Mapping[tuple[str, str], Any]
"""(section, field) -> value from the command line; None: not given."""

_ENVIRONMENT = {
    "GENESYS_CLIENT_ID": ("api", "client_id"),
    "GENESYS_CLIENT_SECRET": ("api", "client_secret"),
    "GENESYS_CLIENT_ID_FILE": ("api", "client_id_file"),
    "GENESYS_CLIENT_SECRET_FILE": ("api", "client_secret_file"),
}
_REGION_NAMES = ("GENESYS_REGION", "GENESYS_ENV", "GENESYS_ORG_HOST")


def load(file: str | None, overrides: Overrides, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from all four places. Raises UserError that names the key, and what was probably meant."""
    environ = os.environ if environ is None else environ
    tree: dict[str, dict[str, Any]] = _read_file(file) if file else {}
    for (section, field), value in (*_from_environment(environ), *overrides.items()):
        if value is None:
            continue
        table = tree.setdefault(section, {})
        if not isinstance(table, dict):
            raise UserError(f"{file}: [{section}] must be a table")
        if section == "api" and field in ("url", "region"):
            table.pop("region" if field == "url" else "url", None)  # the nearer one wins
        table[field] = value
    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise UserError(_explain(error, file)) from None


def _read_file(file: str) -> dict[str, Any]:
    try:
        return tomllib.loads(Path(file).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read the configuration {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{file} is not TOML: {error}") from None


def _from_environment(environ: Mapping[str, str]) -> list[tuple[tuple[str, str], str]]:
    found: list[tuple[tuple[str, str], str]] = []
    for name in _REGION_NAMES:
        if environ.get(name):
            found.append((("api", "region"), environ[name]))
            break
    found += [(where, environ[name]) for name, where in _ENVIRONMENT.items() if environ.get(name)]
    for section, info in Settings.model_fields.items():
        model = info.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        key = info.alias or section
        for field in model.model_fields:
            name = f"INGESTD_{key}_{field}".upper()
            if name in environ:
                found.append(((key, field), environ[name]))
    return found


def _explain(error: ValidationError, file: str | None) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    where = f"{file}: " if file else ""
    if first["type"] == "extra_forbidden":
        return f"{where}there is no setting {path}{_suggestion(first['loc'])}"
    message = first["msg"].removeprefix("Value error, ")
    return f"{where}{path}: {message}" if path else f"{where}{message}"


def _suggestion(loc: tuple[int | str, ...]) -> str:
    sections = {info.alias or name: info.annotation for name, info in Settings.model_fields.items()}
    known = list(sections)
    if len(loc) > 1:
        model = sections.get(str(loc[0]))
        known = list(model.model_fields) if isinstance(model, type) and issubclass(model, BaseModel) else []
    close = difflib.get_close_matches(str(loc[-1]), known, n=1)
    return f"; did you mean {close[0]}?" if close else f"; there are: {', '.join(known)}"


class Login(_Section):
    """Where to send and how to log in, with everything resolved. ``token_url`` None: without a token."""

    api: str
    token_url: str | None
    client_id: str = ""
    client_secret: SecretStr = SecretStr("")


def resolve_login(api: Api) -> Login:
    """Hosts by region, secrets from files. Raises UserError when something is missing."""
    url, token_url = api.url, api.token_url
    if api.region:
        url, by_region = regions.hosts(api.region)
        token_url = token_url or by_region
    if not url:
        raise UserError("where to? give --api URL, --region NAME or --sandbox")
    for name, value in (("--api", url), ("--token-url", token_url)):
        if value and not value.startswith(("http://", "https://")):
            raise UserError(f"{name} {value}: it must begin with https:// (or http://)")
    if api.no_auth:
        return Login(api=url, token_url=None)
    token_url = token_url or regions.token_url_for(url) or ""
    if not token_url:
        raise UserError("where does the token come from? give --token-url URL, or --no-auth")
    client_id = api.client_id or _from_file(api.client_id_file, "client id")
    secret = api.client_secret.get_secret_value() or _from_file(api.client_secret_file, "client secret")
    if not client_id or not secret:
        raise UserError(
            "no credentials: set GENESYS_CLIENT_ID and GENESYS_CLIENT_SECRET (or …_FILE), or --no-auth"
        )
    return Login(api=url, token_url=token_url, client_id=client_id, client_secret=SecretStr(secret))


def _from_file(path: str, what: str) -> str:
    if not path:
        return ""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the {what} from {path}: {error}") from None


def state_directory(settings: State, api: str, environ: Mapping[str, str] | None = None) -> Path:
    """The directory of checkpoints, window and dead letters; by default one for each API."""
    if settings.dir:
        return Path(settings.dir)
    environ = os.environ if environ is None else environ
    base = environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    host = api.split("://", 1)[-1].rstrip("/").replace("/", "_").replace(":", "_")
    return Path(base) / "ingestd" / host
