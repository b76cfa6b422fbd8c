"""Who may post, and who may use the console: from the configuration and its files of secrets.

Called when the service starts and on SIGHUP. No message shows a secret, or a part of one.
"""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ingestd.admin.access import ConsoleToken, Role
from ingestd.config import ConsoleTokenConfig, ProducerConfig
from ingestd.core.errors import UserError
from ingestd.sources.http.auth import ProducerKeys
from ingestd.transport.webhook_secret import decode_secret

MIN_TOKEN = 16
"""Characters; shorter ones can be guessed."""

_MAX_FILE_BYTES = 64 * 1024
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
SecretType = TypeVar("SecretType", str, bytes)


def producer_keys(producers: Mapping[str, ProducerConfig]) -> dict[str, ProducerKeys]:
    """By name. Raises UserError, in one line that names the producer and the file.

    The causes: a file that cannot be read or is empty; a token that is too short or that no header can carry
    (RFC 6750, 2.1); a secret that Standard Webhooks does not allow, see ``transport/webhook_secret.py``; a
    token or secret that two producers have.
    """
    keys: dict[str, ProducerKeys] = {}
    owners: dict[tuple[str, str | bytes], str] = {}
    for name, producer in producers.items():
        if not name:
            raise UserError("ingest.producers: a producer needs a name that is not empty")
        secrets = {
            what: _read(
                f"producer {name}",
                f"ingest.producers.{name}",
                what,
                getattr(producer, setting).get_secret_value(),
                getattr(producer, f"{setting}_file"),
                parse,
            )
            for what, (setting, parse) in _SECRETS.items()
        }
        for what, found in secrets.items():
            for secret in found:
                owner = owners.setdefault((what if what == "password" else "", secret), name)
                if owner != name and what != "password":  # it goes with a name
                    raise UserError(f"producers {owner} and {name} have the same {what}: give each its own")
        keys[name] = _keys_of(name, producer, secrets)
    for what, names in (
        ("username", [one.username for one in keys.values()]),
        ("client_id", [one.client_id for one in keys.values()]),
    ):
        if twice := [one for one, times in Counter(filter(None, names)).items() if times > 1]:
            raise UserError(f"ingest.producers: two of them have the {what} {twice[0]!r}: give each its own")
    return keys


def _keys_of(name: str, producer: ProducerConfig, secrets: Mapping[str, tuple[Any, ...]]) -> ProducerKeys:
    for setting, what in (("username", "password"), ("client_id", "client secret")):
        if bool(getattr(producer, setting)) != bool(secrets[what]):
            raise UserError(f"ingest.producers.{name}: {setting} and the {what} go together: set both")
    return ProducerKeys(
        tokens=secrets["token"],
        webhook_secrets=secrets["webhook secret"],
        events_per_second=producer.events_per_second,
        events_per_day=producer.events_per_day,
        username=producer.username,
        passwords=secrets["password"],
        api_key_header=producer.api_key_header if secrets["API key"] else "",
        api_keys=secrets["API key"],
        client_id=producer.client_id,
        client_secrets=secrets["client secret"],
        unwrap=producer.unwrapper,
    )


def console_tokens(tokens: Mapping[str, ConsoleTokenConfig]) -> list[ConsoleToken]:
    """Raises UserError, as ``producer_keys``."""
    found = [
        ConsoleToken(name, token, Role.OPERATOR if one.role == "operator" else Role.VIEWER)
        for name, one in tokens.items()
        for token in _read(
            f"console token {name}",
            f"admin.tokens.{name}",
            "token",
            one.token.get_secret_value(),
            one.token_file,
            _token,
        )
    ]
    if missing := tokens.keys() - {one.name for one in found}:
        raise UserError(f"admin.tokens.{min(missing)} has no token: set token_file")
    if len({one.token for one in found}) < len(found):
        raise UserError("two of admin.tokens have the same token: give each its own")
    return found


def _read(
    owner: str, place: str, what: str, value: str, file: str, parse: Callable[[str], SecretType]
) -> tuple[SecretType, ...]:
    """From the configuration and from the file, a line each; without those that are there twice."""
    lines = [(value.strip(), f"in {place}")] if value else []
    if file:
        in_file = [
            (text, f"in {file}, line {number}")
            for number, line in enumerate(_read_file(owner, what, file).splitlines(), 1)
            if (text := line.strip())
        ]
        if not in_file:
            raise UserError(f"{owner}: {file} holds no {what}: put one on each line")
        lines += in_file
    found: dict[SecretType, None] = {}
    for text, where in lines:
        try:
            found[parse(text)] = None
        except ValueError as error:
            raise UserError(f"{owner}: the {what} {where} {error}") from None
    return tuple(found)


def _read_file(owner: str, what: str, file: str) -> str:
    try:
        with Path(file).open("rb") as opened:
            content = opened.read(_MAX_FILE_BYTES + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        why = error.strerror or "it cannot be opened"
    except ValueError:
        why = "it is not UTF-8 text"
    else:
        if len(content) <= _MAX_FILE_BYTES:
            return text
        why = f"it is longer than {_MAX_FILE_BYTES} bytes"
    raise UserError(f"{owner}: cannot read the {what} from {file}: {why}")


def _token(text: str) -> str:
    if len(text) < MIN_TOKEN:
        raise ValueError(f"is shorter than {MIN_TOKEN} characters: make one with openssl rand -hex 32")
    if not _TOKEN.fullmatch(text):
        raise ValueError("has characters that a bearer token cannot have: make one with openssl rand -hex 32")
    return text


def _password(text: str) -> str:
    if len(text) < MIN_TOKEN:
        raise ValueError(f"is shorter than {MIN_TOKEN} characters: make one with openssl rand -hex 32")
    if not text.isprintable():
        raise ValueError("has characters that cannot be typed: make one with openssl rand -hex 32")
    return text


_SECRETS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "token": ("token", _token),
    "webhook secret": ("webhook_secret", decode_secret),
    "password": ("password", _password),
    "API key": ("api_key", _token),
    "client secret": ("client_secret", _password),
}
"""What it is called -> its setting, and what reads it."""
