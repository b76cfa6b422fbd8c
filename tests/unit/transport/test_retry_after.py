"""Retry-After: what counts, what is ignored, and that nothing makes us wait for ever."""

import email.utils
import math
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ingestd.transport.headers.retry_after import http_date, parse
from tests.each import each

NOW = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110
FORMS = ("%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b {day:2d} %H:%M:%S %Y")

moments = st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2199, 12, 31))  # noqa: DTZ001


def write(moment: datetime, form: str) -> str:
    return moment.strftime(form.format(day=moment.day) if "{" in form else form)


@each(
    ("value", "expected_s"),
    [
        ("0", 0.0),
        ("42", 42.0),
        (" 42\t", 42.0),
        ("007", 7.0),
        ("900", 900.0),
        ("901", 900.0),
        ("9" * 60, 900.0),
        ("Sun, 06 Nov 1994 08:49:47 GMT", 10.0),
        ("Sunday, 06-Nov-94 08:49:47 GMT", 10.0),
        ("Sun Nov  6 08:49:47 1994", 10.0),
        ("Sun, 06 Nov 1994 08:49:60 GMT", 22.0),  # a leap second counts as the second before it
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 900.0),
    ],
)
def test_what_counts(value: str, expected_s: float) -> None:
    assert parse(value, now_wall=NOW) == expected_s


@each(
    "value",
    [
        None,
        "",
        " ",
        "-1",
        "+5",
        "1_000",
        "1e3",
        "1,5",
        "1.5.2",
        ".5",
        "1.5e3",
        "-1.5",
        "1.\u0665",
        "0x10",
        "nan",
        "inf",
        "\uff11\uff12",  # full-width digits
        "\u0661",  # an Arabic digit
        "\u00b2",  # superscript: isdigit() says yes
        "5, 5",
        "\u00a05",
        "1" * 1_000_000,
        " " * 1_000_000 + "5",
        "Sun, 06 Nov 1994 08:49:47 +0000",
        "Sun, 06 Nov 1994 08:49:47",
        "Sun, 31 Feb 1994 08:49:47 GMT",
        "Sun, 06 Nov 1994 24:49:47 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 0000 08:49:47 GMT",
        "Sun, \uff10\uff16 Nov 1994 08:49:47 GMT",
        "1994-11-06T08:49:47Z",
        "Sun, 06 Nov 1994 08:49:47 GMT\r\nX: y",
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_ignored(value: str | None) -> None:
    assert parse(value, now_wall=NOW) is None


def test_the_answers_own_date_corrects_a_wrong_clock() -> None:
    theirs = "Mon, 01 Jan 2001 00:00:00 GMT"
    assert parse("Mon, 01 Jan 2001 00:00:30 GMT", now_wall=NOW, date=theirs) == 30.0
    assert parse("30", now_wall=NOW, date=theirs) == 30.0
    assert parse("Sun, 06 Nov 1994 08:49:47 GMT", now_wall=NOW, date="garbage") == 10.0
    assert parse("Sun, 06 Nov 1994 08:49:47 GMT", now_wall=NOW, date="x" * 1_000_000) == 10.0


def test_a_two_digit_year_is_never_more_than_50_years_ahead() -> None:
    new_year_1994 = datetime(1994, 1, 1, tzinfo=UTC).timestamp()
    for digits, year in (("94", 1994), ("44", 2044), ("45", 1945), ("00", 2000)):
        found = http_date(f"Sunday, 01-Jan-{digits} 00:00:00 GMT", now_wall=new_year_1994)
        assert found == datetime(year, 1, 1, tzinfo=UTC).timestamp()


@given(st.text(max_size=100), st.floats(0, 4e9), st.none() | st.text(max_size=80), st.floats(0, 1e6))
def test_anything_at_all_gives_none_or_a_wait_within_the_cap(
    value: str, now: float, date: str | None, cap_s: float
) -> None:
    wait = parse(value, now_wall=now, date=date, cap_s=cap_s)
    assert wait is None or (0 <= wait <= cap_s and math.isfinite(wait))


@given(st.integers(0, 10**40))
def test_every_number_of_seconds(seconds: int) -> None:
    assert parse(str(seconds), now_wall=NOW) == min(seconds, 900)


@given(moments, st.sampled_from(FORMS), st.integers(-10_000, 10_000))
def test_every_moment_in_every_form(moment: datetime, form: str, offset_s: int) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    now = moment.timestamp() - offset_s
    assert parse(write(moment, form), now_wall=now) == min(max(offset_s, 0), 900)
    assert parse(write(moment, form), now_wall=now, date=write(moment - timedelta(seconds=7), form)) == 7


@given(moments)
def test_the_standard_librarys_dates_are_understood(moment: datetime) -> None:
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    assert http_date(email.utils.format_datetime(moment, usegmt=True), now_wall=NOW) == moment.timestamp()


@each(
    ("value", "seconds"),
    [
        ("3.5", 4.0),
        ("0.001", 1.0),
        ("2.000", 2.0),
        ("2.", 2.0),
        ("299.997", 300.0),
        ("899.5", 900.0),
        ("1e9", None),
    ],
)
def test_a_decimal_fraction_is_rounded_up(value: str, seconds: float) -> None:
    assert parse(value, now_wall=0.0) == seconds
