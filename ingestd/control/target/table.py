"""What may stand in a table ``[target.NAME]``, as pydantic models. Called by ``target.py``.

The rules are those of the API the seed on targets describes; what it lets through and should not is refused
here. No error tells a value: a secret put in the wrong place must not come out of it.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    ValidationError,
)

from ingestd.control.engine.secret import SecretRef
from ingestd.core import address, units
from ingestd.core.errors import UserError
from ingestd.core.redaction import MASK, Mask, names_a_secret
from ingestd.core.text import cut
from ingestd.transport.url_guard import UrlGuard

MAX_HEADERS = 50
MAX_EVENT_TYPES = 1000

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", re.ASCII)  # token of RFC 9110 5.6.2
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]{0,8190}[\x21-\x7e])?", re.ASCII)
_TEXT = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,998}[\x21-\x7e])?", re.ASCII)
_NOT_OURS = frozenset(
    (
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
_SECRET_NAME = re.compile(r"auth(?!or)|cookie|credential|key$|passw|secret|session|signature|token", re.ASCII)
_mask = Mask()
_ANYWHERE = UrlGuard(allow_private=True)


def looks_secret(name: str, value: str = "") -> bool:
    """Whether a header carries a credential, by its name or by what its value looks like."""
    return bool(names_a_secret(name) or _SECRET_NAME.search(name.lower()) or _mask(value) != value)


def is_header_value(value: str) -> bool:
    """RFC 9110 5.5, visible ASCII only: no line ends, no blanks around it."""
    return _HEADER_VALUE.fullmatch(value) is not None


def is_reference(value: str) -> bool:
    return value.startswith(("env:", "file:"))


def canonical_url(url: str) -> str:
    """Scheme and host in lower case, no default port, a path. Raises ValueError for what is not a URL."""
    parts = urlsplit(url)
    scheme, host = parts.scheme, parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, 443 if scheme == "https" else 80) else f":{parts.port}"
    return f"{scheme}://{host}{port}{parts.path or '/'}{'?' + parts.query if parts.query else ''}"


def _check_url(url: str) -> str:
    """Addresses of this machine and its network are for ``Context.allow_private`` to allow, when they are
    sent; plain HTTP is for this machine alone, in any case."""
    try:
        _ANYWHERE.check_url(url)
    except UserError as error:
        raise ValueError(str(error).removeprefix("the URL: ")) from None
    if address.is_exposed(url):
        raise ValueError("it must begin with https://")
    if "#" in url:
        raise ValueError("a fragment is never sent: leave it out")
    if _mask(url) != url:
        raise ValueError("there is a secret in it: use auth, or a header by reference")
    return canonical_url(url)


def _reference(value: Any) -> SecretRef:
    try:
        return SecretRef.parse(value, where="")
    except UserError as error:
        raise ValueError(str(error).removeprefix(": ")) from None


def _given(value: Any) -> SecretRef | str:
    """No secret, but one may give it by reference all the same."""
    if isinstance(value, str) and is_reference(value):
        return _reference(value)
    if not isinstance(value, str) or not _TEXT.fullmatch(value):
        raise ValueError("visible ASCII characters expected, at most 1000, no blanks around them")
    return value


def _whole_seconds(value: Any) -> int:
    try:
        seconds = units.seconds(value)
    except ValueError:  # it quotes the value
        seconds = 0.0
    if not 1 <= seconds <= 30 or seconds != int(seconds):
        raise ValueError("a whole number of seconds expected, 1s to 30s")
    return int(seconds)


def _sorted_set(types: list[str]) -> list[str]:
    return sorted(set(types))


_Url = Annotated[str, Field(max_length=2048), AfterValidator(_check_url)]
_Secret = Annotated[SecretRef, PlainValidator(_reference)]
_Given = Annotated[SecretRef | str, PlainValidator(_given)]
_EventType = Annotated[str, StringConstraints(pattern=r"^[\x21-\x7e]{1,256}$")]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class _Table(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        hide_input_in_errors=True,
    )


class TargetNoAuth(_Table):
    type: Literal["NONE"] = "NONE"


class TargetBasicAuth(_Table):
    type: Literal["BASIC"]
    username: _Given
    password: _Secret


class TargetOAuth2Auth(_Table):
    type: Literal["OAUTH2"]
    token_url: _Url
    client_id: _Given
    client_secret: _Secret
    scope: _Given | None = None


class TargetJwtAuth(_Table):
    """``key``: what the tokens are signed with."""

    type: Literal["JWT"]
    issuer: _Given
    audience: _Given
    key: _Secret


TargetAuth = TargetNoAuth | TargetBasicAuth | TargetOAuth2Auth | TargetJwtAuth


class TargetRetry(_Table):
    """How the API repeats a delivery; the defaults are those of the seed's example."""

    max_retries: int = Field(5, ge=0, le=10)
    strategy: Literal["EXPONENTIAL", "LINEAR"] = "EXPONENTIAL"
    delay: Annotated[int, BeforeValidator(_whole_seconds)] = 2


class WebhookTable(_Table):
    """A gateway that is notified of changes. ``secret``: ``whsec_…`` of Standard Webhooks."""

    url: _Url
    secret: _Secret


class TargetTable(_Table):
    name: Annotated[_Name, AfterValidator(lambda name: _check_name(name))]
    endpoint_url: _Url
    auth: Annotated[TargetAuth, Field(discriminator="type")] = TargetNoAuth()
    retry: TargetRetry = TargetRetry()
    headers: Annotated[dict[str, str], Field(max_length=MAX_HEADERS)] = {}
    event_types: Annotated[
        list[_EventType], Field(min_length=1, max_length=MAX_EVENT_TYPES), AfterValidator(_sorted_set)
    ]
    protected: bool = False
    webhook: WebhookTable | None = None


def _check_name(name: str) -> str:
    if name != name.strip() or not name.isprintable():
        raise ValueError("blanks around it, or characters that cannot be printed")
    return name


def read_table(name: str, table: Mapping[str, Any]) -> tuple[TargetTable, dict[str, SecretRef]]:
    """(the table, secret headers). In the table's ``headers`` they are ``***``, and all names in lower case;
    ``after`` is not looked at. Raises UserError that names the table, the field, and what was expected."""
    given = {"name": name, **table}
    given.pop("after", None)  # the same for all kinds
    where = f"target {cut(name, 100)}"
    if isinstance(given.get("auth"), Mapping) and isinstance(given["auth"].get("type"), str):
        given["auth"] = {**given["auth"], "type": given["auth"]["type"].upper()}
    try:
        parsed = TargetTable.model_validate(given)
    except ValidationError as error:
        raise UserError(f"{where}: {_explain(error)}") from None
    headers, secrets = _sort_out(parsed.headers, where)
    if "authorization" in headers and parsed.auth.type != "NONE":
        raise UserError(
            f"{where}: headers.authorization: auth sets it already, by its type {parsed.auth.type}"
        )
    return parsed.model_copy(update={"headers": headers}), secrets


def _sort_out(given: Mapping[str, str], where: str) -> tuple[dict[str, str], dict[str, SecretRef]]:
    """(headers as they are compared, secret ones). Whether one is secret goes by name and value alone: what
    the API reads back has to come to the same result."""
    headers, secrets = dict[str, str](), dict[str, SecretRef]()
    for name, value in sorted(given.items()):
        lower = name.lower()
        at = f"{where}: headers.{cut(name, 60)}"
        if not _HEADER_NAME.fullmatch(name) or lower in _NOT_OURS:
            raise UserError(f"{at}: not a header that can be set: a name like x-source expected")
        if lower in headers:
            raise UserError(f"{at}: given twice, in different spellings")
        if looks_secret(lower, value):
            secrets[lower] = SecretRef.parse(value, where=at)
            value = MASK
        elif is_reference(value):
            raise UserError(
                f"{at}: a reference is for headers whose names say that they are secret (…-key, …-token):"
                " all others are shown, as the API gives them back"
            )
        elif not is_header_value(value):
            raise UserError(
                f"{at}: its value must be visible ASCII, 1 to 8192 characters, no blanks around it"
            )
        headers[lower] = value
    return headers, secrets


def _explain(error: ValidationError) -> str:
    """The first fault: its field and what was expected, without the value."""
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    path = [cut(str(part), 60) for part in fault["loc"]]
    if path[:1] == ["auth"] and len(path) > 1:
        del path[1]  # pydantic names the chosen type there
    words = {
        "missing": "required, but missing",
        "extra_forbidden": "no such field here",
        "union_tag_invalid": "type NONE, BASIC, OAUTH2 or JWT expected",
        "union_tag_not_found": "type NONE, BASIC, OAUTH2 or JWT expected",
        "model_attributes_type": "a table expected",
        "model_type": "a table expected",
        "string_pattern_mismatch": "visible ASCII characters expected, no blanks",
    }
    message = words.get(fault["type"]) or fault["msg"].removeprefix("Value error, ")
    return f"{'.'.join(path)}: {message.replace('Input should be', 'expected', 1)}"
