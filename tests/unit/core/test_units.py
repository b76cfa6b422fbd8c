"""Durations and sizes as people write them, and the regions they name."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.config.genesys_regions import DOMAINS, hosts, token_url_for
from ingestd.core.errors import UserError
from ingestd.core.units import counted, human_seconds, seconds, size
from tests.each import each


@each(
    ("text", "expected_s"),
    [
        ("20ms", 0.02),
        ("30s", 30),
        ("10m", 600),
        ("24h", 86400),
        ("7d", 604800),
        ("1.5 h", 5400),
        ("5", 5),
        (" 3s ", 3),
        (0, 0),
        (2.5, 2.5),
    ],
)
def test_durations(text: str | float, expected_s: float) -> None:
    assert seconds(text) == pytest.approx(expected_s)


@each(
    "text",
    [
        "",
        "s",
        "-1s",
        "+1s",
        "1_0s",
        "1e3",
        "nan",
        "inf",
        "1w",
        "1 s s",
        "\uff11s",
        "1,5s",
        "99999d",
        "1S",
        True,
        -1,
        float("nan"),
        float("inf"),
        "9" * 400,
    ],
)
def test_what_is_no_duration(text: str | float) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        seconds(text)


@each(
    ("text", "expected_bytes"),
    [
        ("500000", 500_000),
        ("500kB", 500_000),
        ("500KB", 500_000),
        ("1MiB", 1_048_576),
        ("1.5 kib", 1536),
        ("2GB", 2 * 10**9),
        ("7b", 7),
        (12, 12),
        (0, 0),
    ],
)
def test_sizes(text: str | int, expected_bytes: int) -> None:
    assert size(text) == expected_bytes


@each("text", ["", "kB", "-1", "+1", "1_000", "1e3", "1TB", "\uff11kB", "1k", -1, True, "nan"])
def test_what_is_no_size(text: str | int) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        size(text)


@each(
    ("value", "text"),
    [
        (0.0, "0ms"),
        (0.25, "250ms"),
        (1.0, "1s"),
        (1.5, "1.5s"),
        (90, "1m30s"),
        (3600, "1h"),
        (90061, "1d1h1m1s"),
    ],
)
def test_durations_for_people(value: float, text: str) -> None:
    assert human_seconds(value) == text


@given(st.integers(60, 100 * 86400 - 1))
def test_whole_minutes_and_more_can_be_read_back(value: int) -> None:
    parts = {"d": 86400, "h": 3600, "m": 60, "s": 1}
    total, digits = 0, ""
    for char in human_seconds(value):
        if char in parts:
            total, digits = total + int(digits) * parts[char], ""
        else:
            digits += char
    assert total == value


def test_there_are_18_regions() -> None:
    assert len(DOMAINS) == len(set(DOMAINS.values())) == 18


@each("form", ["{}", "api.{}", "login.{}", "https://api.{}", "https://login.{}/", " {} "])
@each("domain", DOMAINS.values())
def test_a_region_by_its_domain(domain: str, form: str) -> None:
    assert hosts(form.format(domain)) == (f"https://api.{domain}", f"https://login.{domain}/oauth/token")
    assert hosts(form.format(domain.upper())) == hosts(domain)


@each("region", DOMAINS)
def test_a_region_by_its_name(region: str) -> None:
    found = hosts(region)
    assert found == hosts(DOMAINS[region])
    assert token_url_for(found.api_base) == found.token_url


@each(
    ("name", "hint"),
    [
        ("eu-centrall-1", "did you mean eu-central-1?"),
        ("mypurecloud.eu", "did you mean mypurecloud"),
        ("evil.test", "expected an AWS region"),
        ("", "expected an AWS region"),
        ("mypurecloud.com.evil.test", "did you mean"),
        ("user@mypurecloud.com", "did you mean"),
        ("x" * 1_000_000, "expected an AWS region"),
    ],
    ids=lambda value: value[:20],
)
def test_an_unknown_region_is_answered_with_the_closest(name: str, hint: str) -> None:
    with pytest.raises(UserError) as error:
        hosts(name)
    assert hint in str(error.value)
    assert len(str(error.value)) < 200


@each(
    ("api_base", "expected"),
    [
        ("https://api.mypurecloud.com/", "https://login.mypurecloud.com/oauth/token"),
        ("https://api.x.test:8443/path", "https://login.x.test:8443/oauth/token"),
        ("http://api.localhost:1", "http://login.localhost:1/oauth/token"),
        ("https://gateway.test/api", None),
        ("https://myapi.test", None),
        ("api.mypurecloud.com", None),
        ("ftp://api.x.test", None),
        ("https://[", None),
        ("", None),
    ],
)
def test_the_token_url_of_an_api(api_base: str, expected: str | None) -> None:
    assert token_url_for(api_base) == expected


def test_one_is_one() -> None:
    assert [counted(number, "request") for number in (0, 1, 2000)] == [
        "0 requests",
        "1 request",
        "2,000 requests",
    ]
    assert [counted(number, "retry", "retries") for number in (1, 2)] == ["1 retry", "2 retries"]
