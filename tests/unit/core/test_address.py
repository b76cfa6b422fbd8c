"""Addresses as people write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.address import (
    is_exposed,
    is_loopback,
    overlap,
    parse_listen,
    without_password,
    write_listen,
)
from tests.each import each


@each(
    ("text", "meant"),
    [
        ("127.0.0.1:8080", ("127.0.0.1", 8080)),
        (" localhost:0 ", ("localhost", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
    ],
)
def test_an_address_to_listen_on_is_host_and_port(text: str, meant: tuple[str, int]) -> None:
    assert parse_listen(text) == meant
    assert parse_listen(write_listen(*meant)) == meant


@each(
    "text",
    [
        "",
        "8080",
        ":8080",
        "host",
        "host:",
        "host:65536",
        "host:-1",
        "host:\uff18\uff10",
        "::1:80",
        "[::1]",
        "[host]:1",
        "[127.0.0.1]:1",
        "a b:1",
        "http://h:1",
        "h:1\n2",
        "h:1/x",
        "h:999999999999999999999",
    ],
)
def test_what_is_no_address_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"is not an address: write it like 127\.0\.0\.1:8080 or \[::1\]:8080"
    ):
        parse_listen(text)


@given(st.text(max_size=30))
def test_any_text_is_an_address_that_reads_back_or_a_value_error(text: str) -> None:
    try:
        found = parse_listen(text)
    except ValueError:
        return
    assert parse_listen(write_listen(*found)) == found


def test_loopback_is_what_only_this_machine_reaches() -> None:
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "LOCALHOST")))
    assert not any(map(is_loopback, ("0.0.0.0", "::", "10.0.0.1", "127.0.0.1.example.com", "")))


def test_two_listeners_want_the_same_port_also_through_a_wildcard() -> None:
    assert overlap(("h", 1), ("h", 1))
    assert overlap(("0.0.0.0", 1), ("h", 1))
    assert overlap(("h", 1), ("::", 1))
    assert not overlap(("h", 1), ("h", 2))
    assert not overlap(("h", 1), ("i", 1))
    assert not overlap(("h", 0), ("h", 0))


def test_plain_http_to_another_machine_is_exposed() -> None:
    assert is_exposed("http://example.com/x")
    assert not any(map(is_exposed, ("https://example.com", "http://127.0.0.1:1", "http://[::1]/")))


def test_the_password_of_a_url_is_masked_and_nothing_else() -> None:
    assert without_password("see http://a:b@c/d@e, x@y") == "see http://***@c/d@e, x@y"
