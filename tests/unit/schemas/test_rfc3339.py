from hypothesis import example, given
from hypothesis import strategies as st

from ingestd.schemas.interaction import all_common
from ingestd.schemas.rfc3339 import is_common, is_timestamp
from tests.each import each

VALID = [
    "2026-01-01T10:00:00Z",
    "2026-01-01T10:00:00.1Z",
    "2026-01-01T10:00:00.123456789012Z",
    "2026-01-01t10:00:00z",
    "2026-01-01T10:00:00+00:00",
    "2026-01-01T10:00:00.5-23:59",
    "2024-02-29T00:00:00Z",
    "2016-12-31T23:59:60Z",
    "2016-12-31T23:59:60.5Z",
    "2017-01-01T08:59:60+09:00",
]
INVALID = [
    "",
    "2026-01-01",
    "2026-01-01T10:00:00",
    "2026-01-01 10:00:00Z",
    "2026-01-01 10:00Z",
    "2026-01-01T10:00Z",
    "1700000000",
    "2026-02-29T00:00:00Z",
    "2026-13-01T00:00:00Z",
    "0000-01-01T00:00:00Z",
    "2026-01-01T24:00:00Z",
    "2026-01-01T10:60:00Z",
    "2026-01-01T10:00:60Z",
    "2016-12-30T23:59:60Z",
    "2016-12-31T23:59:61Z",
    "9999-12-31T23:59:60Z",
    "2026-01-01T10:00:00+0100",
    "2026-01-01T10:00:00+24:00",
    "2026-01-01T10:00:00.Z",
    "2026-01-01T10:00:00,5Z",
    "2026-01-01T10:00:00.123456xZ",
    "2026-01-01T10:00:00.123456\uff11Z",
    "2026-01-01T10:00:00.\uff11Z",
    "2026-W01-1T10:00:00Z",
    "\uff12026-01-01T10:00:00Z",
    "2026-01-01T10:00:00Z\n",
    "20260101T100000Z",
]


@each("text", VALID)
def test_accepts(text: str) -> None:
    assert is_timestamp(text)


@each("text", INVALID)
def test_refuses(text: str) -> None:
    assert not is_timestamp(text)
    assert not is_common(text)
    assert not all_common([text])


def test_the_shortcut_takes_the_common_shapes() -> None:
    assert is_common("2026-01-01T10:00:00Z")
    assert all(is_common(f"2026-01-01T10:00:00.{'7' * digits}Z") for digits in range(1, 7))


def test_the_check_of_many_takes_the_common_shapes_and_offsets() -> None:
    ends = ("Z", ".1Z", ".123456789Z", "+00:00", ".1234567-09:30")
    assert all_common([f"2026-01-01T10:00:00{end}" for end in ends])
    assert all_common([])


_digits = st.sampled_from("0123456789")
_near = st.tuples(
    *(
        _digits | st.sampled_from([c, c, c, c, "\uff11", "Z", ",", "x"])
        for c in "2026-01-01T10:00:00.123456789Z"[:-1]
    )
).map("".join)


@given(
    st.builds(lambda text, cut, end: text[:cut] + end, _near, st.integers(18, 29), st.sampled_from("Zz+x "))
)
@example("2026-01-01T10:00:00.123456xZ")
def test_the_shortcut_accepts_no_more_than_the_definition(text: str) -> None:
    if is_common(text):
        assert is_timestamp(text)


_many = st.lists(
    st.builds(
        "{}{}{}{}".format,
        st.sampled_from(["2026-01-01", "2024-02-29", "2023-02-29", "0000-01-01"]),
        st.sampled_from(["T", "T", "T", "t", " ", "TT"]),
        st.sampled_from(["10:00:00", "23:59:59.5", "24:00:00", "10:00:60", "10:00", "10:00:00.", "1:0:0:0"]),
        st.sampled_from(["Z", "Z", "+01:00", "z", "-0800", "+24:00", "+01", "ZZ", "", "Z:", "+01:00Z"]),
    ),
    min_size=1,
    max_size=4,
)


@given(_many)
@example(["2026-01-01 10:00:00Z", "2026-01-01TT10:00:00Z"])
@example(["2026-01-01T10:00:00-0800", "2026-01-01T10:00:00Z:"])
def test_the_check_of_many_accepts_no_more_than_the_definition(texts: list[str]) -> None:
    if all_common(texts):
        assert all(map(is_timestamp, texts))


@given(
    st.builds(lambda text, cut, end: text[:cut] + end, _near, st.integers(18, 29), st.sampled_from("Zz+x "))
)
def test_the_check_of_many_accepts_no_more_than_the_definition_digit_by_digit(text: str) -> None:
    if all_common([text]):
        assert is_timestamp(text)


@given(st.datetimes(), st.integers(0, 9))
def test_every_date_is_accepted_and_by_both_alike(moment: object, digits: int) -> None:
    text = f"{moment:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + (f".{'8' * digits}" if digits else "") + "Z"  # type: ignore[str-format]
    assert is_timestamp(text)
    assert is_common(text) == (digits <= 6)
