"""Text from outside, made fit to be shown: on one line, without control characters, not too long. Pure."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

MAX_SHOWN = 200
_MAX_LISTED = 20
_MAX_GUESSED = 100
"""Characters of a mistyped word that are looked at: comparing takes quadratic time."""


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
