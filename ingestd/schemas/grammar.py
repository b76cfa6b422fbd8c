"""What JSON is, for every schema: the checks of an event's bytes that come before its fields.

msgspec skips unknown fields by a strict JSON grammar (NaN, bad escapes and lone surrogates are
refused), except for three things that pydantic refuses and that are looked for here: bytes that
are not UTF-8, nesting beyond 200, integers of more than 4300 digits. JSON has no other limit on numbers:
``1e400`` is one under every schema.
"""

import re
from collections.abc import Sequence

import msgspec

from ingestd.schemas.faults import describe, nested_deeper, not_utf8
from ingestd.schemas.nesting import DEEPEST, MAX_DEPTH, is_deeper
from ingestd.schemas.refusals import invalid, unparsable
from ingestd.schemas.schema import Refusal

DEEP_BYTES = 400
"""An event of at most this many bytes cannot be nested deeper than 200: each level takes two."""

MAX_DIGITS = 4_300
"""Of an integer, or the whole part of a number: what Python's ``int`` and pydantic's parser take."""
_DIGIT = re.compile(rb"\d")
_DIGITS = b"0123456789"
_LONG_NUMBER = re.compile(
    rb'"(?:[^"\\]|\\.)*+"|(?<![0-9.eE+-])(?P<number>-?\d{%d})' % (MAX_DIGITS + 1), re.DOTALL
)
"""A string, or a number that is too long."""
_skip = msgspec.json.Decoder(msgspec.Raw).decode


def find_fault(event: bytes) -> str | None:
    """Why ``event`` is not one JSON value by the grammar, in words; None if it is."""
    refusal = find_refusal(event)
    return refusal.errors[0].message if refusal else None


def find_refusal(event: bytes, *, max_depth: int = MAX_DEPTH) -> Refusal | None:
    """As ``find_fault``. Nesting is only noticed that no decoder bears: ``limits`` looks at it."""
    try:
        _skip(event)
        if not event.isascii():
            event.decode()
    except RecursionError:
        return invalid(nested_deeper(max_depth))
    except UnicodeDecodeError as error:
        return unparsable(not_utf8(error))
    except ValueError as error:
        return unparsable(describe(event, error))
    if not has_short_numbers(event) and any(found["number"] for found in _LONG_NUMBER.finditer(event)):
        return unparsable(f"a number has more than {MAX_DIGITS} digits before its point")
    return None


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
