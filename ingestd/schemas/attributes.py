"""The context attributes of CloudEvents 1.0 and what their values look like. Used by ``cloudevent``.

C1 to C14 in comments are the rules' numbers in the vector file of the tests. Every pattern is
free of nested repetition, so that a hostile value costs linear time.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from ingestd.schemas.rfc3339 import is_common, is_timestamp

NAME = re.compile(r"(?!data\Z)[a-z0-9]+")
"""C5, for ``fullmatch``."""

# C9: controls, surrogates and noncharacters (the last two code points of every plane, and FDD0-FDEF).
_FORBIDDEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(f"{chr(plane * 0x10000 + 0xFFFE)}{chr(plane * 0x10000 + 0xFFFF)}" for plane in range(17))
    + "]"
)

# RFC 3986. ``_CHARS`` matches a run of characters and percent-encodings.
_SAFE = r"A-Za-z0-9\-._~!$&'()*+,;=:@"


def _chars(extra: str) -> str:
    return rf"[{_SAFE}{extra}]*(?:%[0-9A-Fa-f]{{2}}[{_SAFE}{extra}]*)*"


_SCHEME = r"[A-Za-z][A-Za-z0-9+.\-]*:"
_AUTHORITY = rf"//(?:{_chars('')}|(?:{_chars('')}@)?\[[0-9A-Fa-f:.vV]+\](?::[0-9]*)?)(?=[/?#]|\Z)"
_REST = rf"{_chars('/')}(?:\?{_chars('/?')})?(?:#{_chars('/?')})?"
_ABSOLUTE = re.compile(rf"{_SCHEME}(?:{_AUTHORITY})?{_REST}")
# Without a scheme the first segment has no colon, or what is before it would be one.
_RELATIVE = re.compile(rf"(?:{_AUTHORITY}|(?![^/?#]*:)){_REST}")

# RFC 2046 with the characters of RFC 9110.
_WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~\-]+"
_QUOTED = r'"(?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*"'
_MEDIA_TYPE = re.compile(rf"{_WORD}/{_WORD}(?:[ \t]*;[ \t]*{_WORD}=(?:{_WORD}|{_QUOTED}))*[ \t]*")

_CACHED_LENGTH = 256


class Attribute(NamedTuple):
    is_valid: Callable[[str], bool]
    expected: str


def check_text(text: str) -> str:
    """C9. Raises ValueError."""
    if _FORBIDDEN.search(text):
        raise ValueError("expected no control characters, surrogates or noncharacters")
    return text


def _remembering(check: Callable[[str], object]) -> Callable[[str], bool]:
    """``check`` with a bounded memory for short values: a stream has few sources and media types."""
    cached = lru_cache(maxsize=1024)(lambda text: bool(check(text)))
    return lambda text: cached(text) if len(text) <= _CACHED_LENGTH else bool(check(text))


def _is_uri_reference(text: str) -> bool:
    return bool(text and (_ABSOLUTE.fullmatch(text) or _RELATIVE.fullmatch(text)))


def _is_time(text: str) -> bool:
    return is_common(text) or is_timestamp(text)


_TEXT = Attribute(bool, "a text that is not empty")
ATTRIBUTES = {
    "id": _TEXT,
    "source": Attribute(_remembering(_is_uri_reference), "a URI reference (RFC 3986) that is not empty"),
    "specversion": Attribute("1.0".__eq__, "'1.0'"),
    "type": _TEXT,
    "subject": _TEXT,
    "time": Attribute(_is_time, "an RFC 3339 time with an offset, like 2026-01-01T10:00:00Z"),
    "datacontenttype": Attribute(_remembering(_MEDIA_TYPE.fullmatch), "a media type like application/json"),
    # The specification's type has no fragment; schemas in the field do, and no harm comes of it.
    "dataschema": Attribute(_remembering(_ABSOLUTE.fullmatch), "an absolute URI"),
}
REQUIRED = ("specversion", "id", "source", "type")
