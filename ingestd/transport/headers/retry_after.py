"""The ``Retry-After`` header as seconds to wait. Called by the sinks and by the token source."""

import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from ingestd.core.regex import regex

CAP_S = 900.0
"""No answer makes us wait longer than 15 minutes, whatever it says."""

_MAX_LENGTH = 64
_SECONDS = regex(r"(\d+)(?:\.(\d*))?", re.ASCII)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY = r"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_MONTH = rf"(?P<month>{'|'.join(_MONTHS)})"
_TIME = r"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
# Own patterns: the standard library's parser accepts far more, gives naive datetimes for the asctime
# form, and strptime reads month names in the language of the process.
_DATES = (
    regex(rf"{_DAY}, (?P<day>\d\d) {_MONTH} (?P<year>\d{{4}}) {_TIME} GMT", re.ASCII),
    regex(rf"{_LONG_DAY}, (?P<day>\d\d)-{_MONTH}-(?P<year>\d\d) {_TIME} GMT", re.ASCII),
    regex(rf"{_DAY} {_MONTH} (?P<day>\d\d| \d) {_TIME} (?P<year>\d{{4}})", re.ASCII),
)


def of(headers: Mapping[str, str], *, now_wall: float, cap_s: float = CAP_S) -> float | None:
    """Of an answer's headers, in lower case: see ``parse``."""
    return parse(headers.get("retry-after"), now_wall=now_wall, date=headers.get("date"), cap_s=cap_s)


def parse(
    value: str | None, *, now_wall: float, date: str | None = None, cap_s: float = CAP_S
) -> float | None:
    """Seconds to wait, in ``[0, cap_s]``; None where ``value`` is not a Retry-After (RFC 9110 10.2.3).

    ``value``: ``1*DIGIT`` in ASCII, with a decimal fraction if the server has one (rounded up), or an HTTP
    date in one of the three forms of RFC 9110 5.6.7.
    ``date``: the answer's own Date header; a date is measured from it, so that a server whose clock
    is wrong still says what it meant. Without one, from ``now_wall`` (seconds since the epoch).
    """
    if value is None or len(value) > _MAX_LENGTH:
        return None
    value = value.strip(" \t")
    if match := _SECONDS.fullmatch(value):
        # rounded up: servers that tell a fraction mean not before
        return min(float(int(match[1])) + bool((match[2] or "").strip("0")), cap_s)
    until = http_date(value, now_wall=now_wall)
    if until is None:
        return None
    sent = http_date(date.strip(" \t"), now_wall=now_wall) if date and len(date) <= _MAX_LENGTH else None
    return min(max(until - (now_wall if sent is None else sent), 0.0), cap_s)


def http_date(text: str, *, now_wall: float) -> float | None:
    """Seconds since the epoch of an HTTP date (RFC 9110 5.6.7, all three forms); None if it is not one."""
    match = next(filter(None, (pattern.fullmatch(text) for pattern in _DATES)), None)
    if match is None:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        # RFC 9110 5.6.7: never more than 50 years ahead.
        latest = time.gmtime(now_wall).tm_year + 50
        year = latest - (latest - year) % 100
    second = int(match["second"])
    try:
        moment = datetime(
            year,
            _MONTHS.index(match["month"]) + 1,
            int(match["day"]),
            int(match["hour"]),
            int(match["minute"]),
            59 if second == 60 else second,  # a leap second is allowed
            tzinfo=UTC,
        )
    except ValueError:  # the 31st of April, hour 25
        return None
    return moment.timestamp()
