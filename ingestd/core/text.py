"""Text from outside, made fit to be shown: on one line, without control characters, not too long. Pure."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import islice

from ingestd.core.regex import regex

MAX_SHOWN = 200
_MAX_LISTED = 20
_MAX_GUESSED = 100
"""Characters of a mistyped word that are looked at: comparing takes quadratic time."""
_MAX_FIELDS = 3
_FIELD = regex(r'"([\w.-]{1,40})"\s*:\s*(?:("(?:[^"\\]|\\.)*"?)|([\w.+-]+))?')
_BRACKETS = regex(r'[{}]|"(?:[^"\\]|\\.)*"')
_STATUS = regex(r"(^|: )([1-5]\d\d)(?=[ :]|$)")
_VARIABLE = regex(r"[0-9a-f]{8}-[0-9a-f-]{27}|'[^']*'|\"[^\"]*\"|\b\w*\d\w*", re.IGNORECASE)
_MAX_SHAPE = 120
_PATH = regex(r"[\w$@./\[\]-]+")
_INDEX = regex(r"(?<=\[)\d+(?=\])|(?<=[./])\d+(?=[./\[]|$)|^\d+(?=[./\[]|$)")
_TRACE = regex(r"(context|correlation|request|trace)_?id", re.IGNORECASE)
"""By these its operators find a request again."""
_ERROR_FIELD = regex(
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
    from difflib import get_close_matches  # for mistakes

    return next(iter(get_close_matches(text[:_MAX_GUESSED], list(known), n=1, cutoff=cutoff)), None)


def suggestion(text: str, known: Sequence[str]) -> str:
    """Behind a message about a word that is not ``known``: what was probably meant, or what there is."""
    if close := did_you_mean(text, known):
        return f"; did you mean {close}?"
    return f"; there are: {', '.join(known[:_MAX_LISTED])}" if known else ""


def answer_words(text: str, limit: int = MAX_SHOWN) -> str:
    """What an API answered, in a line for people: ``503 {"code": "busy", "id": 7}`` -> ``503 code: busy``.

    Of JSON only the fields that say what is wrong. At most ``limit`` characters.
    """
    return cut(without_json(text), limit)


def without_json(text: str) -> str:
    """``text`` with a few words instead of each object of JSON in it, which may be cut off: of its fields
    those that say what is wrong, and those by which an API's operators find the request."""
    if "{" not in text:
        return text
    at, parts = 0, list[str]()
    while (begin := text.find("{", at)) >= 0:
        end = _end_of_object(text, begin)
        body = text[begin:end]
        fields = error_fields(body) or list(islice(json_fields(body), _MAX_FIELDS))
        traced = {name: value for name, value in json_fields(body) if _TRACE.fullmatch(name)}
        words = ", ".join(f"{name}: {value}" for name, value in (dict(fields) | traced).items() if value)
        parts += [text[at:begin], words or (body if not fields else "{…}")]
        at = end
    return "".join([*parts, text[at:]])


def _end_of_object(text: str, begin: int) -> int:
    """Behind the bracket that closes the one at ``begin``; where none does, the end of the text."""
    depth = 0
    for match in _BRACKETS.finditer(text, begin):
        if match[0] in "{}":
            depth += 1 if match[0] == "{" else -1
            if depth == 0:
                return match.end()
    return len(text)


def status_and_words(text: str) -> tuple[int | None, str]:
    """An API's answer, in fields: ``503 {"code": "busy"}`` -> 503, ``code: busy``. None: no status is in
    it."""
    match = _STATUS.search(text)
    if not match:
        return None, answer_words(text)
    words = answer_words(text[: match.start()] + match[1] + text[match.end() :].lstrip(" :"))
    return int(match[2]), words.removesuffix(": ") or "no words"


def shape(text: str, *, of_answer: bool = True, of_fields: bool = False) -> str:
    """What texts about the same thing have in common: without their variable parts. ``of_answer``: it may
    have the status of an API's answer, which stays. ``of_fields``: it is about fields of an event, whose
    names stay. One line, at most 120 characters."""
    line = text.split("\n", 1)[0]
    if of_fields:
        return "; ".join(map(_shape_of_field, line.split("; ")))[:_MAX_SHAPE]
    match = _STATUS.search(line) if of_answer else None
    head, rest = (line[: match.end()], line[match.end() :]) if match else ("", line)
    before, brace, body = rest.partition("{")
    found = _blanked(head[: match.start(2)]) + match[2] if match else ""
    found += _blanked(before)
    if brace:
        errors = [f"{name}: {_blanked(value)}" for name, value in error_fields(body)]
        names = dict.fromkeys(_blanked(name) for name, _ in json_fields(body))
        found += ", ".join(errors) or f"{{{', '.join(names) or '…'}}}"
    return found[:_MAX_SHAPE]


def _shape_of_field(words: str) -> str:
    """``items[3].line2: required`` -> ``items[#].line2: required``: a field's name is no variable part."""
    path, colon, rest = words.partition(": ")
    if not (colon and _PATH.fullmatch(path)):
        return _blanked(words)
    return f"{_INDEX.sub('#', path)}: {_blanked(rest)}"


def _blanked(text: str) -> str:
    """With ``#`` in the place of each variable part. What stands around values in quotes is the same
    each time, and is looked at once."""
    if '"' in text:
        return _VARIABLE.sub("#", text)
    parts = text.split("'")
    if len(parts) % 2 == 0:  # the last quote has no other one
        parts[-2:] = [f"{parts[-2]}'{parts[-1]}"]
    return "#".join(map(_blanked_words, parts[::2]))


@lru_cache(maxsize=512)
def _blanked_words(text: str) -> str:
    return _VARIABLE.sub("#", text)


def variable_parts(line: str) -> list[str]:
    """What ``shape`` leaves out of a line, in its order."""
    return [match[0].strip("'\"") for match in _VARIABLE.finditer(line)]


def error_fields(body: str) -> list[tuple[str, str]]:
    """(name, value) of the first fields that say what is wrong, in JSON that may be cut off."""
    found: dict[str, str] = {}
    for name, value in json_fields(body):
        if value and _ERROR_FIELD.fullmatch(name.replace("_", "")) and len(found) < _MAX_FIELDS:
            found.setdefault(name, value)
    return list(found.items())


def json_fields(body: str) -> Iterator[tuple[str, str]]:
    """(name, value) of all fields, however deep; the value is empty where it is not a scalar."""
    import json

    for match in _FIELD.finditer(body):
        name, text, plain = match.groups()
        try:
            yield name, json.loads(text) if text else plain or ""
        except ValueError:  # it is cut off
            yield name, text.strip('"')
