"""Where a JSON value ends, by brackets and strings alone. What is inside is not checked."""

import re

from ingestd.core.regex import regex

_TOKEN = regex(rb'"(?:[^"\\]++|\\.)*+("?)|[\[\]{}]', re.DOTALL)
_REST_OF_STRING = regex(rb'(?:[^"\\]++|\\.)*+', re.DOTALL)
_SCALAR = regex(rb"[-+.\w]++(?=[,\]\s\x00\x1e])")
_BORDER = regex(rb'"(?:[^"\\]++|\\.)*+("?)|[\[\]{},]', re.DOTALL)
_SEPARATORS = regex(rb"(?:[ \t\r\n,\x00\x1e]|\xef\xbb\xbf)*+")
OPENERS = b'{["'


class Closing:
    """A value that comes piece by piece, beginning with a bracket or a quote. ``depth``: open brackets."""

    def __init__(self, depth: int = 0) -> None:
        self.depth = depth
        self.in_string = False
        self._escaped = False

    def feed(self, data: bytes, at: int = 0, stop: int | None = None) -> int:
        """Where in ``data`` the value ends, or -1 if it goes on behind ``stop``."""
        stop = len(data) if stop is None else stop
        if self._escaped and at < stop:
            at, self._escaped = at + 1, False
        if self.in_string:
            rest = _REST_OF_STRING.match(data, at, stop)
            at = rest.end() if rest else at
            if at >= stop or data[at] == 0x5C:  # the last byte: what it escapes is in the next piece
                self._escaped = at < stop
                return -1
            at, self.in_string = at + 1, False
            if self.depth == 0:
                return at
        for token in _TOKEN.finditer(data, at, stop):
            mark = data[token.start()]
            if mark == 0x22:
                if not token[1]:
                    self.in_string, self._escaped = True, token.end() < stop
                    return -1
            elif mark in b"{[":
                self.depth += 1
            else:
                self.depth -= 1
            if self.depth <= 0:
                return token.end()
        return -1


def skip_separators(data: bytes, at: int = 0) -> int:
    """Past white space and commas, and what writers leave between values: NULs, RS (RFC 7464), a BOM."""
    return _SEPARATORS.match(data, at).end()  # type: ignore[union-attr]  # it always matches


def value_end(data: bytes, at: int) -> int:
    """Where the value that begins at ``at`` ends, or -1 if ``data`` does not hold its end.

    Of what is not JSON: the next comma or closing bracket that is not within brackets or a string.
    """
    if data[at] in OPENERS:
        return Closing().feed(data, at)
    if scalar := _SCALAR.match(data, at):
        return scalar.end()
    depth = 0
    for token in _BORDER.finditer(data, at):
        mark = data[token.start()]
        if mark == 0x22:
            if not token[1]:
                return -1
        elif mark in b"{[":
            depth += 1
        elif depth == 0 and mark != 0x7D:  # a brace that was never opened belongs to what is broken
            return token.start()
        elif depth and mark != 0x2C:
            depth -= 1
    return -1


def values_in(data: bytes, at: int = 0) -> list[tuple[int, int]]:
    """(first, end) of the whole objects and arrays that stand one behind the other from ``at`` on."""
    found: list[tuple[int, int]] = []
    at = skip_separators(data, at)
    while data[at : at + 1] in (b"{", b"[") and (end := Closing().feed(data, at)) >= 0:
        found.append((at, end))
        at = skip_separators(data, end)
    return found
