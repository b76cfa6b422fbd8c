r"""Paths into JSON, in any usual notation: one parser for every setting that takes a path.

These mean the same: ``meta.version``, ``$.meta.version``, ``.meta.version``, ``/meta/version``,
``$['meta']["version"]``. A part of digits also indexes an array: ``items.0.id``, ``items[0].id``. A backslash
takes a character's meaning away: ``meta\.version`` is one name, as are ``['meta.version']`` and
``/meta.version``.
Sources: RFC 9535 (JSONPath, its singular queries), RFC 6901 (JSON Pointer), the manual of jq.
"""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from ingestd.core.regex import regex

if TYPE_CHECKING:
    import msgspec

Path = tuple[str, ...]
"""Names, from the outside in; digits are also places in an array. Empty: the value itself."""

MAX_CHARS = 4_000
_SHOWN = 60
_STEP = regex(
    r"""
    \.?\[\s*(?P<index>0|[1-9][0-9]{0,5})\s*\]
    | \.?\[\s*"(?P<double>(?:[^"\\]|\\.)*)"\s*\]
    | \.?\[\s*'(?P<single>(?:[^'\\]|\\.)*)'\s*\]
    | \."(?P<quoted>(?:[^"\\]|\\.)*)"(?=[.\[]|\Z)
    | (?P<dot>\.?)(?P<name>(?:[^.\\\[\]]|\\[^\w\s])+)
    """,
    re.VERBOSE | re.DOTALL,
)
_MEANING = regex(r"""[.,\\\[\]]|\A[*$/#"]""")
"""What a backslash is needed for: less would do in most places."""
_ESCAPED = regex(r"\\(.)", re.DOTALL)
_POINTER_ESCAPE = regex(r"~(?![01])")
INDEX = regex(r"0|[1-9][0-9]{0,5}", re.ASCII)
"""A part that may be a place in an array."""


def parse(text: str) -> Path:
    """The path that ``text`` writes; ``$``, ``.`` and ``""`` are the value itself.

    Raises ValueError: what cannot be understood in it, and how to write it.
    """
    if len(text) > MAX_CHARS:
        raise ValueError(f"{text[:_SHOWN]!r} is not a path: it is too long")
    if text.startswith(("/", "#/")):
        return _pointer(text)
    if text in ("", ".", "$"):
        return ()
    at = 1 if text.startswith(("$.", "$[")) else 0
    parts: list[str] = []
    while at < len(text):
        step = _STEP.match(text, at)
        if step is None or (step["name"] and not step["dot"] and at > 0):
            raise _not_a_path(text, _hint(text, at))
        parts.append(_part(text, step))
        at = step.end()
    return tuple(parts)


def is_marked(text: str) -> bool:
    """Whether ``text`` shows that it is a path, where it could be a value as well: a bare name does not."""
    return text == "$" or text.startswith(("$.", "$[", ".", "/", "#/", "["))


def names(path: Path) -> str:
    r"""The path as it is written shortest: ``meta.version``."""
    return ".".join(_MEANING.sub(r"\\\g<0>", part) for part in path)


class _Decoders:
    def __init__(self) -> None:
        import msgspec  # settings have paths; only events are looked into

        make = msgspec.json.Decoder
        self.members = make(dict[str, msgspec.Raw]).decode
        self.elements = make(list[msgspec.Raw]).decode
        self.text = make(str).decode


_decoders = cache(_Decoders)


def members(value: bytes) -> "dict[str, msgspec.Raw]":
    """Of an object, as JSON text. Raises ValueError, RecursionError."""
    return _decoders().members(value)


def text(value: bytes) -> str:
    """Of a string, as JSON text. Raises ValueError."""
    return _decoders().text(value)


def raw_at(value: "bytes | msgspec.Raw", path: Path) -> bytes | None:
    """The JSON text at ``path`` in a value's text; None where it leads nowhere.

    Raises ValueError or RecursionError where the text on the way is not JSON.
    """
    decode = _decoders()
    raw = bytes(value).strip(b" \t\r\n")
    for part in path:
        inner: msgspec.Raw | None = None
        first = raw[:1]
        if first == b"{":
            inner = decode.members(raw).get(part)
        elif first == b"[" and INDEX.fullmatch(part):
            elements = decode.elements(raw)
            inner = elements[int(part)] if int(part) < len(elements) else None
        if inner is None:
            return None
        raw = bytes(inner)
    return raw


def value_at(value: Any, path: Path) -> Any:
    """The same in decoded JSON; None where the path leads nowhere."""
    for part in path:
        if isinstance(value, Mapping):
            value = value.get(part)
        elif isinstance(value, Sequence) and not isinstance(value, str) and INDEX.fullmatch(part):
            value = value[int(part)] if int(part) < len(value) else None
        else:
            return None
    return value


def _pointer(text: str) -> Path:
    from urllib.parse import unquote

    pointer = unquote(text[1:]) if text[0] == "#" else text
    if _POINTER_ESCAPE.search(pointer):
        raise _not_a_path(text, "in a JSON Pointer ~ is written ~0, and / in a name ~1")
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    if "" in parts:
        raise _not_a_path(text, "a name is missing between two / or at the end")
    return tuple(parts)


def _part(text: str, step: re.Match[str]) -> str:
    if step["index"]:
        return step["index"]
    if step["name"]:
        if step["name"] == "*":
            raise _not_a_path(text, r"* stands for many values, and one is wanted; for a name write \*")
        return _ESCAPED.sub(r"\1", step["name"])
    quoted = step["double"] or step["quoted"]
    if step["single"]:
        quoted = step["single"].replace(r"\'", "'").replace('"', r"\"")
    import json

    try:
        name: str = json.loads(f'"{quoted or ""}"', strict=False)
    except ValueError:
        raise _not_a_path(text, r"in quotes a backslash is written \\") from None
    if not name:
        raise _not_a_path(text, "the name in the quotes is empty")
    return name


def _hint(text: str, at: int) -> str:
    rest = text[at:]
    if rest.startswith(".."):
        return ".. stands for many values, and one is wanted: name each step"
    if re.match(r"\.?\[\s*(?:\*|\?|\]|[-0-9]*:)", rest):
        return "one value is wanted: a place in the array, as items[0]"
    if re.match(r"\.?\[\s*-", rest):
        return "places in an array are counted from its begin: items[0]"
    if bare := re.match(r"\.?\[\s*([^\W\d]\w*)\s*\]", rest):
        return f"quote the name: ['{bare[1]}']"
    if rest.startswith("\\"):
        return r"a backslash stands before a character that has a meaning, as in meta\.version"
    if rest.startswith((".[", "[", "]")):
        return "its brackets do not hold a place or a name in quotes, as items[0] or ['name']"
    return "expected names joined by dots, like meta.version"


def _not_a_path(text: str, why: str) -> ValueError:
    return ValueError(f"{text[:_SHOWN]!r} is not a path: {why}")
