"""Text from outside, made fit to be shown: on one line, without control characters, not too long. Pure."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

MAX_SHOWN = 200
_MAX_LISTED = 20
_MAX_GUESSED = 100
"""Characters of a mistyped word that are looked at: comparing takes quadratic time."""
_MAX_FIELDS = 3
_FIELD = re.compile(r'"([\w.-]{1,40})"\s*:\s*(?:("(?:[^"\\]|\\.)*"?)|([\w.+-]+))?')
_TELLING = re.compile(
    r"(error)?(code|message|msg|title|detail|details|reason|description|field|type)|error", re.IGNORECASE
)


def printable(text: str, *, keep: str = "") -> str:
    """``text`` with escapes instead of control characters, line breaks and marks that turn the direction of
    writing: they could forge a line, or tell the terminal to do something. ``keep``: characters that stay."""
    if text.isprintable():
        return text
    return "".join(c if c in keep or c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cut(text: str, limit: int = MAX_SHOWN) -> str:
    """``text`` made printable, at most ``limit`` characters of it; the last is ``…`` if there were more."""
    text = printable(text[: limit + 1])
    return text if len(text) <= limit else text[: limit - 1] + "…"


def did_you_mean(text: str, known: Iterable[str], *, cutoff: float = 0.6) -> str | None:
    """The one of ``known`` that is most like ``text``, if any is. ``cutoff``: how like, from 0 to 1."""
    return next(iter(get_close_matches(text[:_MAX_GUESSED], list(known), n=1, cutoff=cutoff)), None)


def suggestion(text: str, known: Sequence[str]) -> str:
    """Behind a message about a word that is not ``known``: what was probably meant, or what there is."""
    if close := did_you_mean(text, known):
        return f"; did you mean {close}?"
    return f"; there are: {', '.join(known[:_MAX_LISTED])}" if known else ""


def answer_words(text: str, limit: int = MAX_SHOWN) -> str:
    """What an API answered, in a line for people: ``503 {"code": "busy", "id": 7}`` -> ``503 code: busy``.

    Only the fields that say what is wrong; text without such fields as it is. At most ``limit`` characters.
    """
    before, _, body = text.partition("{")
    said = [f"{name}: {value}" for name, value in telling_fields(body)]
    return cut(f"{before}{', '.join(said)}" if said else text, limit)


def telling_fields(body: str) -> list[tuple[str, str]]:
    """(name, value) of the first fields that say what is wrong, in JSON that may be cut off."""
    found: dict[str, str] = {}
    for name, value in json_fields(body):
        if value and _TELLING.fullmatch(name.replace("_", "")) and len(found) < _MAX_FIELDS:
            found.setdefault(name, value)
    return list(found.items())


def json_fields(body: str) -> Iterator[tuple[str, str]]:
    """(name, value) of all fields, however deep; the value is empty where it is no scalar."""
    for match in _FIELD.finditer(body):
        name, text, plain = match.groups()
        try:
            yield name, json.loads(text) if text else plain or ""
        except ValueError:  # it is cut off
            yield name, text.strip('"')
