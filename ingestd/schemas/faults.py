"""Why bytes are not one JSON value, in words that are true. Called by ``grammar`` for every way in.

The decoder's own words mislead: of half a surrogate pair at the end of a string it says that the data was
truncated, of a byte order mark that a character is invalid.
"""

import re

_BOMS = {b"\xef\xbb\xbf": "a byte order mark", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
_NULS = re.compile(rb"\0+")
_BLANK = b" \t\r\n"
_PLACE = re.compile(r"JSON is malformed: (.*) \(byte (\d+)\)")
_TRUNCATED = "Input data was truncated"
_WORD = re.compile(rb"[A-Za-z]+")
_SHOWN = re.compile(rb"[!-~]")
# Escapes one after the other, whole pairs at once; what is left over is half a pair.
_PAIR = rb"u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_HALF = re.compile(
    rb"(?:[^\\]++|\\(?:[^u]|u(?![dD][89a-fA-F])|" + _PAIR + rb"))*+(\\u[dD][89a-fA-F][0-9a-fA-F]{2})",
    re.DOTALL,
)


def describe(text: bytes, error: Exception) -> str:
    """What is wrong with ``text``, of which a strict decoder (msgspec) said ``error``; bytes count from 0."""
    return _before(text) or _half(text, str(error)) or f"not JSON: {_within(text, str(error))}"


def not_utf8(error: UnicodeDecodeError) -> str:
    return f"not UTF-8: the byte 0x{error.object[error.start]:02x} (byte {error.start})"


def nested_deeper(limit: int) -> str:
    return f"arrays and objects are nested deeper than {limit}"


def _before(text: bytes) -> str:
    """What stands before the value, where that is all that can be said of it."""
    if not text.strip(_BLANK):
        return "not JSON: there is nothing in it"
    if nuls := _NULS.match(text):
        said = "a NUL byte stands" if len(nuls[0]) == 1 else f"{len(nuls[0])} NUL bytes stand"
        return f"not JSON: {said} before the value"
    for mark, name in _BOMS.items():
        if text.startswith(mark):
            return f"not JSON: {name}" + (" stands before the value" if len(mark) == 3 else ", not UTF-8")
    return ""


def _half(text: bytes, said: str) -> str:
    """No decoder gets past half a pair: if there is one before the place of the error, that is the error."""
    found = _HALF.match(text)
    if not found:
        return ""
    place = _PLACE.fullmatch(said)
    if place and int(place[2]) <= found.start(1):
        return ""
    escape = found[1].decode()
    return f"half a surrogate pair: {escape} without its other half (byte {found.start(1)})"


def _within(text: bytes, said: str) -> str:
    if said == _TRUNCATED:
        return "it ends before its value does"
    place = _PLACE.fullmatch(said)
    if not place:
        return said
    what, at = place[1], int(place[2])
    if what == "trailing characters":
        return f"something follows its value (byte {at - 1})"  # the decoder counts it from 1
    if what != "invalid character" or at >= len(text):
        return f"{what} (byte {at})"
    if text[at] == 0:
        return f"a NUL byte (byte {at})"
    if text.startswith(b"\xef\xbb\xbf", at):
        return f"a byte order mark (byte {at})"
    if word := next(
        (w for w in _WORD.finditer(text, max(0, at - 8), at + 12) if w.start() <= at < w.end()), None
    ):
        return f"{word[0].decode()} is no JSON value (byte {word.start()})"
    shown = text[at : at + 1]
    name = f"'{shown.decode()}'" if _SHOWN.match(shown) else f"0x{text[at]:02x}"
    return f"invalid character {name} (byte {at})"
