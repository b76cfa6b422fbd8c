"""Who may post, and who may use the console: from the configuration and its files of secrets.

Called when the service starts and on SIGHUP. No message shows a secret, or a part of one.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from ingestd.admin.access import ConsoleToken, Role
from ingestd.config import ConsoleTokenConfig, ProducerConfig
from ingestd.core.errors import UserError
from ingestd.sources.http.auth import ProducerKeys
from ingestd.transport.webhook_secret import decode_secret

MIN_TOKEN = 16
"""Characters; shorter ones can be guessed."""

_MAX_FILE_BYTES = 64 * 1024
_TOKEN = re.compile(r"[A-Za-z0-9\-._~+/]+=*")
Secret = TypeVar("Secret", str, bytes)


def producer_keys(producers: Mapping[str, ProducerConfig]) -> dict[str, ProducerKeys]:
    """By name. Raises UserError, in one line that names the producer and the file.

    The causes: a file that cannot be read or is empty; a token that is too short or that no header can carry
    (RFC 6750, 2.1); a secret that Standard Webhooks does not allow, see ``transport/webhook_secret.py``; a
    token or secret that two producers have.
    """
    keys: dict[str, ProducerKeys] = {}
    owners: dict[str | bytes, str] = {}
    for name, producer in producers.items():
        if not name:
            raise UserError("ingest.producers: a producer needs a name that is not empty")
        found = ProducerKeys(
            tokens=_read(
                f"producer {name}",
                f"ingest.producers.{name}",
                "token",
                producer.token.get_secret_value(),
                producer.token_file,
                _token,
            ),
            webhook_secrets=_read(
                f"producer {name}",
                f"ingest.producers.{name}",
                "webhook secret",
                producer.webhook_secret.get_secret_value(),
                producer.webhook_secret_file,
                decode_secret,
            ),
            events_per_second=producer.events_per_second,
            events_per_day=producer.events_per_day,
        )
        for what, secrets in (("token", found.tokens), ("webhook secret", found.webhook_secrets)):
            for secret in secrets:
                owner = owners.setdefault(secret, name)
                if owner != name:
                    raise UserError(f"producers {owner} and {name} have the same {what}: give each its own")
        keys[name] = found
    return keys


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
    owner: str, place: str, what: str, value: str, file: str, parse: Callable[[str], Secret]
) -> tuple[Secret, ...]:
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
    found: dict[Secret, None] = {}
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
