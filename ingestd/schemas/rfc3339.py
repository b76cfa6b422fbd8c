"""Times of RFC 3339, the way both event schemas ask for them. Pure.

Leap seconds: ``:60`` is a valid time where one can be, at 23:59:60 UTC on the last day of a month.
Nothing here keeps the time, so it need not be representable.
"""

import contextlib
import re
from datetime import UTC, date, datetime, timedelta

from ingestd.core.regex import regex

_TIME = regex(
    r"(\d{4})-(\d\d)-(\d\d)[Tt]([01]\d|2[0-3]):[0-5]\d:([0-5]\d|60)(?:\.\d+)?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
# The shortcut for the common shape, at half the price of the full check. ``_parse`` settles what is
# left after these three; where it takes hour 24 (Python 3.13 and later), the shortcut is off.
_parse = datetime.fromisoformat
_SHAPES: tuple[str, ...] = ("--T::.", "--T::Z")
"""Characters 4, 7, 10, 13, 16, 19 of ``2026-01-01T10:00:00Z`` and ``2026-01-01T10:00:00.123Z``."""
_LENGTHS = frozenset({20, 22, 23, 24, 25, 26, 27})
"""Up to six digits of fraction: ``_parse`` takes ``00.Z`` and, past the sixth digit, anything."""
with contextlib.suppress(ValueError):
    _parse("2026-01-01T24:00:00Z")
    _SHAPES = ()


def is_common(text: str) -> bool:
    """Whether ``text`` is a timestamp of the common shape; it accepts no more than ``is_timestamp``."""
    try:
        return (
            text[4:20:3] in _SHAPES and text[-1] == "Z" and len(text) in _LENGTHS and _parse(text) is not None
        )
    except ValueError:
        return False


def is_timestamp(text: str) -> bool:
    """Whether ``text`` is a ``date-time`` of RFC 3339 section 5.6: date, ``T``, time, offset."""
    match = _TIME.fullmatch(text)
    if not match:
        return False
    try:
        date(int(match[1]), int(match[2]), int(match[3]))
    except ValueError:
        return False
    return match[5] != "60" or _is_leap_second(text)


def _is_leap_second(text: str) -> bool:
    offset = "+00:00" if text[-1] in "Zz" else text[-6:]
    try:
        last = datetime.fromisoformat(f"{text[:17]}59{offset}").astimezone(UTC)
        following = last + timedelta(seconds=1)
    except (ValueError, OverflowError):
        return False
    return following.day == 1 and following.hour == following.minute == 0
