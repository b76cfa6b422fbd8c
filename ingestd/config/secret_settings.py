"""Settings that hold secrets, or may: how they are shown, and all secrets of a section.

By its type a setting says what it holds: ``core/setting_types.py``. ``hide_secrets`` tells
``core/redaction.py`` of the values, so that nothing that leaves the process has them.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

from ingestd.core import redaction
from ingestd.core.address import show_host, show_url
from ingestd.core.redaction import MASK
from ingestd.core.section import Section
from ingestd.core.setting_types import SecretSetting, SecretStr, SettingField

_MAX_SECRET_FILE = 256 * 1024


def held_by(section: Section, field: str, info: SettingField) -> str:
    """``SecretSetting``, or secret, or headers; empty: the setting holds nothing secret."""
    value = getattr(section, field)
    if isinstance(value, SecretStr):
        return "secret"
    if isinstance(value, dict) and "Secret" in repr(info.annotation):
        return "headers"
    what = next((one.what for one in info.metadata if isinstance(one, SecretSetting)), "")
    return "secret_url" if what == "url" and field in getattr(section, "secret_urls", ()) else what


def show(value: Any, held: str) -> Any:
    """The value of such a setting for people, without what is secret of it. With a mask it does not load."""
    if held == "secret":
        return MASK if value.get_secret_value() else ""
    if held == "headers":
        return dict.fromkeys(value, MASK)
    if held == "secret_url":
        return show_host(value) if value else ""
    return show_url(value) if held == "url" else value


def hide_secrets(section: Section) -> None:
    """Nothing that is shown or kept from now on has a secret of this section, or of those in it."""
    for secret in secrets_of(section):
        redaction.hide(secret)


def hide_files(section: Section) -> None:
    """Nor what is in its files of secrets, line by line. One that cannot be read told nobody."""
    for field, value in vars(section).items():
        held = held_by(section, field, section.model_fields[field])
        for inner in sections_in(value):
            hide_files(inner)
        if held == "file" and value:
            with contextlib.suppress(OSError), open(value, encoding="utf-8", errors="replace") as opened:
                for line in opened.read(_MAX_SECRET_FILE).splitlines():
                    redaction.hide(line.strip())


def secrets_of(section: Section) -> Iterator[str]:
    """Every secret that stands in the configuration itself; of URLs what ``secrets_in`` gives."""
    for field, value in vars(section).items():  # what was given: no default is a secret
        held = held_by(section, field, section.model_fields[field])
        if held == "secret":
            yield value.get_secret_value()
        elif held == "headers":
            for header in value.values():
                text = header.get_secret_value()
                yield from (one for one in (text, text.rpartition(" ")[2]) if redaction.is_maskable(one))
        elif held in ("url", "secret_url"):
            yield from secrets_in(value, whole=held == "secret_url")
        else:
            for inner in sections_in(value):
                yield from secrets_of(inner)


def sections_in(value: Any) -> Iterator[Section]:
    """A section itself, those of a table by name, or those of a list."""
    inside = value.values() if isinstance(value, dict) else value
    for inner in inside if isinstance(value, dict | list) else [value]:
        if isinstance(inner, Section):
            yield inner


def secrets_in(url: str, *, whole: bool = False) -> Iterator[str]:
    """User, password and query of a URL; ``whole``: it is one itself, with its path."""
    from urllib.parse import parse_qsl, unquote, urlsplit

    try:
        parts = urlsplit(url)
    except ValueError:
        return
    user_info, _, host = parts.netloc.rpartition("@")
    if user_info:
        user, _, password = user_info.partition(":")
        yield from (user_info, password, unquote(password))
        yield from (one for one in (user, unquote(user)) if redaction.is_maskable(one))
    if parts.query:
        yield parts.query
        values = [value for _, value in parse_qsl(parts.query)]
        values += [pair.partition("=")[2] or pair for pair in parts.query.split("&")]
        yield from filter(redaction.is_maskable, values)
    if whole and len(parts.path) > redaction.MIN_MASKED_CHARS:
        yield from (url, f"{host}{parts.path}", parts.path)
        yield from (part for part in parts.path.split("/") if _is_random(part))


def _is_random(part: str) -> bool:
    """A part of a path that is not a word, and long enough to be what makes the URL a secret."""
    return len(part) >= 12 and any(char.isdigit() for char in part)
