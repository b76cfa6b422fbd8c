"""What JSON is and how much of it an event may be, judged from its bytes, before any field is read.

msgspec skips unknown fields by a strict JSON grammar (NaN, bad escapes and lone surrogates are refused),
except for three things that pydantic refuses and that are looked for here: bytes that are not UTF-8, nesting
beyond 200, integers of more than 4300 digits. JSON has no other limit on numbers: ``1e400`` is one under
every schema.

Nesting and values are counted before anything is built from them, most of it on the whole text at once.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import accumulate, count
from operator import sub

import msgspec

from ingestd.core.regex import regex
from ingestd.schemas.schema import (
    Refusal,
    describe,
    invalid,
    is_truncated,
    nested_deeper,
    not_utf8,
    unparsable,
)

MAX_DEPTH = 64
"""Of arrays and objects within each other, where no setting says otherwise."""
DEEPEST = 190
"""The most that a setting may allow: every library behind the schemas bears this."""

DEEP_BYTES = 400
"""An event of at most this many bytes cannot be nested deeper than 200: each level takes two."""

MAX_DIGITS = 4_300
"""Of an integer, or the whole part of a number: what Python's ``int`` and pydantic's parser take."""
_DIGIT = regex(rb"\d")
_DIGITS = b"0123456789"
_LONG_NUMBER = regex(rb'"(?:[^"\\]|\\.)*+"|(?<![0-9.eE+-])(?P<number>-?\d{%d})' % (MAX_DIGITS + 1), re.DOTALL)
"""A string, or a number that is too long."""
_skip = msgspec.json.Decoder(msgspec.Raw).decode


def find_fault(event: bytes) -> str | None:
    """Why ``event`` is not one JSON value by the grammar, in words; None if it is."""
    refusal = find_refusal(event)
    return refusal.errors[0].message if refusal else None


def find_refusal(event: bytes, *, max_depth: int = MAX_DEPTH) -> Refusal | None:
    """As ``find_fault``. Nesting is only noticed that no decoder bears: ``EventLimits`` look at it."""
    try:
        _skip(event)
        if not event.isascii():
            event.decode()
    except RecursionError:
        return invalid(nested_deeper(max_depth))
    except UnicodeDecodeError as error:
        return unparsable(not_utf8(error.start, event[error.start]))
    except ValueError as error:
        return unparsable(describe(event, error))
    if (
        len(event) > MAX_DIGITS
        and not has_short_numbers(event)
        and any(found["number"] for found in _LONG_NUMBER.finditer(event))
    ):
        return unparsable(f"a number has more than {MAX_DIGITS} digits before its point")
    return None


def is_one_value(text: bytes) -> bool:
    """Whether it is a JSON value or the beginning of one, and nothing behind it; UTF-8 or not."""
    try:
        _skip(text)
    except RecursionError:
        return False
    except ValueError as error:
        return is_truncated(error)
    return True


def is_plain(event: bytes) -> bool:
    """Whether an event over ``DEEP_BYTES`` is far from the limits on nesting and integers."""
    if is_deeper(event, DEEPEST):
        return False
    return has_short_numbers(event)


def has_short_numbers(event: bytes) -> bool:
    """Whether nowhere, not even in a string, there are more digits in a row than a number may have."""
    # A run that is too long has one of these bytes: most events are done with a look at a few.
    for found in _DIGIT.finditer(event[MAX_DIGITS :: MAX_DIGITS + 1]):
        at = MAX_DIGITS + (MAX_DIGITS + 1) * found.start()
        before = event[at - MAX_DIGITS : at]
        behind = event[at : at + MAX_DIGITS + 1]
        run = len(before) - len(before.rstrip(_DIGITS)) + len(behind) - len(behind.lstrip(_DIGITS))
        if run > MAX_DIGITS:
            return False
    return True


def is_utf8(event: bytes) -> bool:
    if event.isascii():
        return True
    try:
        event.decode()
    except UnicodeDecodeError:
        return False
    return True


def drop_undecodable(events: Sequence[bytes], keys: list[str | None]) -> None:
    """Set to None the keys of events that are not UTF-8."""
    for index, event in enumerate(events):
        if not is_utf8(event):
            keys[index] = None


_BLOCK_BYTES = 64 * 1024
_LEVELS_AT_ONCE = 8
_WIDE = 4_000
_TOKEN = regex(rb",++|[\[\]]")
_AS_ARRAYS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b'[]{}"'))
_NO_STRUCTURE = bytes(set(_NO_BRACKETS) - set(b","))


def opened(text: bytes) -> int:
    """How many brackets it opens, in strings or out of them: it is nested no deeper than that."""
    # Leaving a rare byte out takes a quarter of the time that counting it does.
    return 2 * len(text) - len(text.replace(b"{", b"")) - len(text.replace(b"[", b""))


def is_deeper(event: bytes, limit: int, *, block_bytes: int = _BLOCK_BYTES) -> bool:
    """Whether valid JSON nests more than ``limit`` arrays and objects; a scalar has depth 0."""
    if len(event) <= 2 * limit or opened(event) <= limit:
        return False
    rest = b"".join(_structure(event, _NO_BRACKETS, block_bytes))
    for _ in range(min(limit, _LEVELS_AT_ONCE) if len(rest) > _WIDE else 0):
        if len(rest) <= 2 * limit:
            return False
        rest = rest.replace(b"[]", b"")  # one level less, everywhere: most that is wide is not deep
        limit -= 1
    runs = rest.split(b"]")  # of those that open, before each that closes
    deepest: int = max(map(sub, accumulate(map(len, runs)), count()))
    return deepest > limit


def count_values(event: bytes) -> int:
    """The values in valid JSON, an empty array or object counted twice; of what is not JSON, some number."""
    return 1 + sum(len(part) - part.count(b"]") for part in _structure(event, _NO_STRUCTURE))


def has_more_elements(array: bytes, limit: int, *, block_bytes: int = _BLOCK_BYTES) -> bool:
    """Whether an array in JSON, not an empty one, has more than ``limit`` (at least 1) elements."""
    depth, found = 0, 1
    for part in _structure(array, _NO_STRUCTURE, block_bytes):
        for token in _TOKEN.finditer(part.replace(b"[]", b"")):
            mark = token[0]
            if mark == b"[":
                depth += 1
            elif mark == b"]":
                depth -= 1
            elif depth == 1:
                found += len(mark)
                if found > limit:
                    return True
    return False


def _structure(text: bytes, dropped: bytes, block_bytes: int = _BLOCK_BYTES) -> Iterator[bytes]:
    """Without strings and the bytes ``dropped``; braces as brackets. In blocks, which bounds what is made of
    it, and how long other threads wait for each."""
    at = inside = 0
    while at < len(text):
        block = text[at : at + block_bytes]
        if (len(block) - len(block.rstrip(b"\\"))) % 2:
            block = text[at : at + block_bytes + 1]  # not through the middle of an escape
        at += len(block)
        block = block.replace(b"\\\\", b"").replace(b'\\"', b"")  # now a quote always begins or ends a string
        parts = block.translate(_AS_ARRAYS, dropped).replace(b'""', b"").split(b'"')
        yield b"".join(parts[inside::2])
        inside ^= (len(parts) - 1) & 1
