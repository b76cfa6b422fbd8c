"""What an answer means: the table, row by row."""

import json

from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.answer import Answer
from ingestd.core.verdict import ItemError, Meaning, Verdict
from ingestd.sinks.answers import MAX_WORDS, meaning_of, words
from tests.each import each

ACCEPTED, RETRY, SPLIT, REJECTED = Meaning.ACCEPTED, Meaning.RETRY, Meaning.SPLIT, Meaning.REJECTED
PAUSED, UNAUTHORIZED, PERMANENT = Meaning.PAUSED, Meaning.UNAUTHORIZED, Meaning.PERMANENT
ITEMS = (ItemError(3, "bad", False),)


def judge(status: int, *, body: bytes = b"{}", items: tuple[ItemError, ...] = (), **headers: str) -> Verdict:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return meaning_of(Answer(status, headers=named, body=body), now_wall=1.8e9, items=items)


TABLE = [
    *[(status, ACCEPTED) for status in (200, 201, 202, 203, 204, 207, 226)],
    *[(status, PAUSED) for status in (300, 301, 302, 303, 304, 305, 307, 308)],
    (400, REJECTED),
    (422, REJECTED),
    (401, UNAUTHORIZED),
    *[(status, PAUSED) for status in (402, 403, 404, 405, 406, 407, 410, 411, 414, 415)],
    *[(status, PAUSED) for status in (426, 431, 451, 501, 505)],
    *[(status, RETRY) for status in (408, 420, 421, 423, 424, 425, 429, 430, 499)],
    *[(status, RETRY) for status in (500, 502, 503, 504, 507, 508, 511, 520, 599)],
    (409, ACCEPTED),
    (413, SPLIT),
    *[(status, PERMANENT) for status in (412, 416, 417, 418, 428)],
    *[(status, RETRY) for status in (100, 101, 103)],
]


@each(("status", "meaning"), TABLE)
def test_each_status_means_what_the_table_says(status: int, meaning: Meaning) -> None:
    assert judge(status).meaning is meaning


@each("status", [408, 424, 499, 500, 502, 503, 504, 507, 599, 101])
def test_after_these_answers_the_request_may_have_been_taken(status: int) -> None:
    assert judge(status).ambiguous


@each("status", [200, 400, 401, 403, 413, 418, 420, 421, 422, 423, 425, 429, 430])
def test_after_these_answers_it_is_certain_what_became_of_the_request(status: int) -> None:
    assert not judge(status).ambiguous


def test_no_answer_at_all_means_later_and_the_request_may_have_been_taken() -> None:
    verdict = meaning_of(Answer(0, error="connection lost: Connection reset by peer"), now_wall=0)
    assert verdict == Verdict(RETRY, "connection lost: Connection reset by peer", ambiguous=True)


def test_throttles_ask_for_less_and_only_429_is_no_failure() -> None:
    asks = {s: (judge(s).slow_down, judge(s).throttled) for s, _ in TABLE if judge(s).slow_down}
    assert asks == {429: (True, True)} | dict.fromkeys((420, 430, 503), (True, False))


@each(
    "body",
    [
        b'{"message":"request is in progress"}',
        b'{"code":"IN_PROGRESS"}',
        b"still processing the first",
        b"The original request is currently executing",
        b'{"status":"pending"}',
    ],
)
def test_409_that_says_it_is_still_at_it_means_later(body: bytes) -> None:
    verdict = judge(409, body=body)
    assert (verdict.meaning, verdict.ambiguous, verdict.after_s) == (RETRY, True, 1.0)
    assert judge(409, body=body, retry_after="7").after_s == 7.0


@each("body", [b"", b"{}", b'{"message":"duplicate request"}', b"already processed"])
def test_409_that_says_anything_else_means_that_the_api_has_it(body: bytes) -> None:
    assert judge(409, body=body).meaning is ACCEPTED


def test_413_with_retry_after_is_a_passing_shortage_and_not_a_size() -> None:
    verdict = judge(413, retry_after="4")
    assert (verdict.meaning, verdict.after_s, verdict.ambiguous) == (RETRY, 4.0, False)


@each("status", [429, 503, 500, 408])
def test_retry_after_is_read_in_both_forms(status: int) -> None:
    assert judge(status, retry_after="12").after_s == 12.0
    date = {"retry_after": "Sun, 06 Nov 1994 08:49:47 GMT", "date": "Sun, 06 Nov 1994 08:49:37 GMT"}
    assert judge(status, **date).after_s == 10.0


@each("value", ["-1", "+5", "1_000", "nan", "1e3", "soon", "", "\uff11\uff10", "1" * 10_000])
def test_what_is_no_retry_after_is_ignored(value: str) -> None:
    assert judge(429, retry_after=value).after_s is None


def test_retry_after_is_capped_at_a_quarter_of_an_hour() -> None:
    assert judge(503, retry_after="1000000000").after_s == 900.0
    assert judge(503, retry_after="Fri, 31 Dec 9999 23:59:59 GMT").after_s == 900.0


def test_named_events_are_passed_on_for_2xx_and_400_and_422() -> None:
    for status in (200, 207, 400, 422):
        assert judge(status, items=ITEMS).items == ITEMS


def test_a_redirect_says_where_to_but_not_with_what() -> None:
    where = "https://user:pa55word@login.example.com/in?token=CANARY-1#access_token=CANARY-2"
    detail = judge(302, location=where).detail
    assert "https://***@login.example.com/in" in detail
    assert "CANARY" not in detail
    assert "pa55word" not in detail
    assert "nowhere" in judge(304).detail


@each("status", [status for status, meaning in TABLE if meaning is PAUSED])
def test_each_configuration_trouble_comes_with_advice(status: int) -> None:
    assert len(judge(status).detail) > len(f"{status} {{}}") + 10


@each(
    "text",
    [
        "Bearer CANARY-abc.def",
        "Authorization: Bearer CANARY-abc",
        '{"authorization": "Bearer CANARY-abc", "x": 1}',
        '{"Authorization":"Basic Q0FOQVJZCANARY="}',
        '{"access_token":"CANARY-abc"}',
        '{"accessToken" : "CANARY-abc"}',
        '{"refresh_token":"CANARY-abc"}',
        "{'password': 'CANARY'}",
        '{"password": "two CANARY words, and a comma"}',
        '{"password": "with \\" CANARY"}',
        '{"password": "cut short CANARY',
        '{"body":"{\\"client_secret\\":\\"CANARY\\"}"}',
        "client_secret=CANARY&grant_type=x",
        "clientSecret: CANARY",
        "api_key=CANARY apikey: CANARY api-key=CANARY",
        "X-Api-Key: CANARY",
        "basic\tCANARY-Q0FOQVJZ",
    ],
)
def test_nothing_like_a_credential_is_kept(text: str) -> None:
    kept = words(Answer(400, body=f"before {text} after".encode()))
    assert "CANARY" not in kept
    assert kept.startswith("400 ")
    assert "before" in kept
    assert "***" in kept


def test_ordinary_words_about_tokens_and_passwords_stay_readable() -> None:
    said = 'invalid basic type; the bearer is wrong; {"message":"no secret field, see password rules"}'
    assert words(Answer(400, body=said.encode())) == f"400 {said}"


def test_control_characters_and_line_breaks_are_taken_out() -> None:
    kept = words(Answer(500, body=b"a\r\nb\x00c\x1b[31md\x7fe\xc2\x85f\xe2\x80\xa8g\xe2\x80\xaeh"))
    assert kept == "500 a b c [31md e f g h"


@given(st.integers(100, 599), st.binary(max_size=5000))
def test_words_are_one_short_printable_line_whatever_the_body(status: int, body: bytes) -> None:
    kept = words(Answer(status, body=body))
    assert len(kept) <= MAX_WORDS + 4
    assert len(kept.splitlines()) == 1
    assert kept.startswith(str(status))
    json.dumps(kept).encode("ascii")


def test_a_long_body_is_cut() -> None:
    assert len(words(Answer(500, body=b"x" * 1_000_000))) == MAX_WORDS + 4
