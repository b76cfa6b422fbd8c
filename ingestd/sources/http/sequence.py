"""Borders between values, by brackets alone, in what is not JSON as a whole. Called by ``body``.

Two kinds: an array in which something is broken (one event of it, as a rule), and values one after the other.
What is wrong inside a value is the schema's business; where the borders are not certain, nothing is guessed.
"""

from collections.abc import Iterator
from typing import NamedTuple

from ingestd.core.regex import regex

_TOKEN = regex(rb'("[^"]*+("?))|([\[{])|([\]}])|,')
_STRING, _OPEN, _CLOSE = 1, 3, 4
_NOT_BLANK = regex(rb"[^ \t\r\n]")
_BRACKETS = b"[{"
MAX_TOKENS = 2_000_000
"""Looked at one by one: 16 MB of events have half of that."""


class SequenceTooDense(Exception):
    """More structure than is looked at."""


class ValueSequence(NamedTuple):
    """``clean``: every value is a whole object or array, and there is only white space between them.
    ``rest``: what follows the last one and is not a value."""

    values: list[bytes]
    clean: bool
    rest: bytes


def _tokens(text: bytes, start: int, most: int) -> Iterator[tuple[int, int]]:
    """(kind, position) of each string, bracket and comma; kind 2 is a string without an end."""
    # Now every quote begins or ends a string. A string of escapes would take the expression too long.
    text = text.replace(b"\\\\", b"__").replace(b'\\"', b"__")
    left = most
    for token in _TOKEN.finditer(text, start):
        kind = token.lastindex or 0
        if kind == _STRING and not token[2]:
            kind = 2
        yield kind, token.start()
        left -= 1
        if not left:
            raise SequenceTooDense


def elements(array: bytes, limit: int, *, most_tokens: int = MAX_TOKENS) -> tuple[list[bytes], bytes] | None:
    """The elements of the array that ``array`` begins with, and what follows it. Not more than ``limit`` + 1.

    None where it has no end, or an element is empty; but a comma may stand behind the last one, as in a file:
    what it joins is certain (RFC 8259, section 9, lets a reader take more than JSON). Raises TooDense.
    """
    found: list[bytes] = []
    depth, begin = 0, 1
    for kind, at in _tokens(array, 1, most_tokens):
        if kind == _OPEN:
            depth += 1
        elif kind == _CLOSE:
            depth -= 1
        elif kind == 2:
            return None
        if depth < 0 or (kind == 0 and depth == 0):
            element = array[begin:at].strip(b" \t\r\n")
            begin = at + 1
            if element:
                found.append(element)
            elif depth >= 0:
                return None  # nothing between two commas
            if depth < 0:
                return (found, array[begin:]) if array[at] == 0x5D else None
            if len(found) > limit:
                return found, b""
    return None


def values(text: bytes, limit: int, *, most_tokens: int = MAX_TOKENS) -> ValueSequence:
    """Objects and arrays one after the other, on lines or not; not more than ``limit`` + 1. Raises TooDense.

    What stands before a value is taken for its beginning; a last one without an end goes on to the end.
    """
    found: list[bytes] = []
    depth, begin, clean = 0, 0, True
    for kind, at in _tokens(text, 0, most_tokens):
        if kind == _OPEN:
            if depth == 0:
                first = _NOT_BLANK.search(text, begin)
                begin = first.start() if first else at
                clean = clean and begin == at
            depth += 1
        elif kind == _CLOSE and depth:
            depth -= 1
            if depth == 0:
                found.append(text[begin : at + 1])
                begin = at + 1
                if len(found) > limit:
                    break
        elif depth == 0 or kind == 2:
            clean = False  # a comma or a string between values, a bracket or a string too many
    rest = text[begin:].strip(b" \t\r\n")
    if rest:
        clean = False
        if rest[0] in _BRACKETS:
            found.append(rest)
            rest = b""
    return ValueSequence(found, clean, rest)
