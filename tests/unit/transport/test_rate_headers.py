"""What headers say of the rate that is allowed; what makes no sense is ignored."""

from hypothesis import given
from hypothesis import strategies as st

from ingestd.transport.headers.rate_limit import CAP_S, Allowance, parse
from tests.each import each


@each(
    ("headers", "expected"),
    [
        (
            {"inin-ratelimit-count": "20", "inin-ratelimit-allowed": "300", "inin-ratelimit-reset": "42"},
            Allowance(280, 42.0, 300),
        ),
        (
            {"inin-ratelimit-count": "301", "inin-ratelimit-allowed": "300", "inin-ratelimit-reset": "1"},
            Allowance(0, 1.0, 300),
        ),
        ({"ratelimit": '"default";r=50;t=30'}, Allowance(50, 30.0)),
        (
            {"ratelimit": '"p";r=50;t=30', "ratelimit-policy": '"p";q=100;w=60, "day";q=1;w=9'},
            Allowance(50, 30.0, 100),
        ),
        ({"ratelimit": '"p" ; r=7', "ratelimit-policy": '"p";q=100;w=60'}, Allowance(7, 60.0, 100)),
        ({"ratelimit": '"a,b;r=9";r=50;t=30;pk=":x:",   "hour";r=1;t=600'}, Allowance(1, 600.0)),
        (
            {"ratelimit-limit": "100, 100;w=60", "ratelimit-remaining": " 3 ", "ratelimit-reset": "9"},
            Allowance(3, 9.0, 100),
        ),
        ({"ratelimit-remaining": "3", "ratelimit-reset": "9"}, Allowance(3, 9.0)),
        ({"ratelimit-remaining": "0", "ratelimit-reset": "86400"}, Allowance(0, CAP_S)),
        ({"inin-ratelimit-reset": "x", "ratelimit": '"p";r=1;t=2'}, Allowance(1, 2.0)),
    ],
)
def test_each_form_gives_what_is_left_and_until_when(headers: dict[str, str], expected: Allowance) -> None:
    assert parse(headers) == expected


@each("number", ["-1", "+5", "1_0", "nan", "1e3", "", "\u0663", "9" * 16, "1767225600"])
def test_numbers_that_are_none_and_dates_are_ignored(number: str) -> None:
    allowed = {"inin-ratelimit-count": "1", "inin-ratelimit-allowed": "300", "inin-ratelimit-reset": number}
    assert parse(allowed) is None
    assert parse({"ratelimit-remaining": "1", "ratelimit-reset": number}) is None
    assert parse({"ratelimit": f'"p";r=1;t={number}'}) is None


@each(
    "value", ['"p', '"p";r=5;t', "r=5, t=9", '"p";r=5;t=1,', '"p";r=1;t=1 x', ";" * 400, '"p";r=5;t=1' * 60]
)
def test_a_list_that_is_none_is_ignored_as_a_whole(value: str) -> None:
    found = parse({"ratelimit": value})
    assert found is None or value == '"p";r=5;t=1,'


@given(st.text(max_size=600), st.text(max_size=40))
def test_whatever_is_in_the_headers_the_result_is_bounded(value: str, policy: str) -> None:
    for name in ("ratelimit", "ratelimit-remaining", "inin-ratelimit-reset"):
        found = parse({name: value, "ratelimit-policy": policy, "ratelimit-reset": value})
        assert found is None or (found.remaining >= 0 and 0 <= found.reset_s <= CAP_S)
