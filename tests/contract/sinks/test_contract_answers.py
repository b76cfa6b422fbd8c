"""What every sink makes of answers: the table of design.md section 4, hostile bodies, secrets.

``answers/*.json`` are answers as the APIs' documents and common servers give them, with what they mean:
``shared.json`` for every sink, the others for one kind, ``cases`` for some of its shapes.
"""

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.answer import Answer
from tests.contract.sinks.cases import CASES, Case
from tests.contract.sinks.contract_support import check, every_sink, few, unfit_of
from tests.each import each

ANSWERS = Path(__file__).parent / "answers"


def recorded(case: Case) -> Iterator[dict[str, Any]]:
    for name in ("shared", case.sink().kind):
        for row in json.loads((ANSWERS / f"{name}.json").read_text()):
            if case.id in row.get("cases", [case.id]):
                yield row


@every_sink
def test_an_answer_means_what_is_recorded_with_it(case: Case) -> None:
    for row in recorded(case):
        try:
            check_recorded(case, row)
        except AssertionError as error:
            error.add_note(row["what"])
            raise


def check_recorded(case: Case, row: dict[str, Any]) -> None:
    sink = case.sink()
    events = [json.dumps(event).encode() for event in row.get("events", [])][
        : sink.max_events
    ] or case.events()
    body = row["body"] if isinstance(row["body"], str) else json.dumps(row["body"])
    answer = Answer(row["status"], row["headers"], body.encode(), error=row.get("error", ""))
    assert not unfit_of(sink, events)
    verdict = sink.interpret(answer, events)
    check(verdict, len(events))
    assert verdict.meaning.name == row["meaning"]
    for field in ("after_s", "slow_down", "throttled", "ambiguous", "unmatched"):
        if field in row:
            assert getattr(verdict, field) == row[field], field
    if "items" in row:
        assert [[item.index, item.retryable] for item in verdict.items] == row["items"]
    if "remote_ids" in row:
        assert [list(pair) for pair in verdict.remote_ids] == row["remote_ids"]
    assert verdict.detail


def test_every_kind_of_sink_has_recorded_answers_and_every_file_a_sink() -> None:
    kinds = {case.sink().kind for case in CASES}
    assert {path.stem for path in ANSWERS.glob("*.json")} == kinds | {"shared"}


STATUSES = (0, 100, 200, 202, 204, 207, 302, 400, 401, 403, 404, 409, 413, 418, 422, 429, 431, 500, 503, 599)


def hostile_bodies() -> Iterator[bytes]:
    yield from (
        b"",
        b"\x00" * 1_000_000,
        b"\xff" * 1_000_000,
        b"<" * 1_000_000,
        b"a" * 1_000_000,
        b"\x1f\x8b\x08",
    )
    yield from (b"[" * 1_000_000, b'{"errors":' * 100_000, b"9" * 1_000_000, b'"' + b"\\ud800" * 1000 + b'"')
    yield from (
        b"null",
        b"true",
        b"-0",
        b'""',
        b"{}",
        b"[]",
        b"[[]]",
        b"[null]",
        b"NaN",
        b"{",
        b'{"errors":[',
    )
    lists = ("errors", "unprocessedEntities", "failed", "results", "items", "Entries", "rejected")
    places: list[Any] = [0, 1, 2, 3, 4, -1, 1.5, True, None, "0", "-1", "", 10**18, [], {}, [0], {"index": 0}]
    names = ("index", "originalRequestIndex", "eventId", "id", "interactionId", "loc", "field", "event")
    for name in lists:
        yield json.dumps({name: places, "FailedEntryCount": 1}).encode()
        entries = [
            {field: place, "message": place, "retryable": place, "status": place, "ErrorCode": place}
            for field in names
            for place in places
        ]
        yield json.dumps({name: entries, "FailedEntryCount": len(entries), "contextId": entries}).encode()
        yield json.dumps({name: [{"index": 0, "eventId": "\ud800", "message": "\ud800"}]}).encode()
        yield json.dumps({name: [{"index": 10**30, "eventId": 10**30}]}).encode()
        yield json.dumps({name: {"0": {"index": 0}}, "FailedEntryCount": "x", "__type": ["x"]}).encode()
    yield json.dumps({"errors": [{"index": 0, "message": "m" * 100_000}] * 50, "id": "i" * 100_000}).encode()
    yield json.dumps({"id": 7, "status": {}, "deliveryStatus": [], "FailedEntryCount": True}).encode()


@functools.cache  # they are long
def all_hostile_bodies() -> tuple[bytes, ...]:
    return tuple(hostile_bodies())


@every_sink
def test_a_hostile_body_is_read_without_harm(case: Case) -> None:
    sink, events = case.sink(), case.events()
    for number, body in enumerate(all_hostile_bodies()):
        for status in (200, STATUSES[number % len(STATUSES)], 400):
            truncated = bool(number % 2)
            check(sink.interpret(Answer(status, body=body, truncated=truncated), events), len(events))


words = st.text(max_size=8) | st.sampled_from(["retryable", "message", "status", "ok", "x" * 5000, "\ud800"])
fields = st.sampled_from(
    [
        *("errors", "unprocessedEntities", "results", "items", "Entries", "FailedEntryCount", "event"),
        *("index", "originalRequestIndex", "eventId", "id", "status", "statusCode", "retryable", "message"),
        *("ErrorCode", "ErrorMessage", "__type", "contextId", "loc", "specversion", "deliveryStatus"),
    ]
)
values = (
    st.none()
    | st.booleans()
    | st.integers(-2, 4)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | words
)
contents = st.recursive(
    values, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(fields | words, inner, max_size=4)
)
bodies = st.binary(max_size=60) | contents.map(json.dumps).map(str.encode)


@every_sink
@few
@given(
    status=st.sampled_from(STATUSES),
    body=bodies,
    headers=st.dictionaries(
        st.sampled_from(["retry-after", "date", "location", "inin-correlation-id", "x-amzn-errortype"]),
        st.text(st.characters(max_codepoint=255), max_size=20),  # as the transport decodes them
    ),
    truncated=st.booleans(),
)
def test_any_answer_is_read_without_harm(
    case: Case, status: int, body: bytes, headers: dict[str, str], truncated: bool
) -> None:
    events = case.events()
    answer = Answer(status, headers, body, truncated, error="lost" if status == 0 else "")
    check(case.sink().interpret(answer, events), len(events))


# Secrets.

SECRET_BODIES = [
    "Authorization: Bearer CANARY-abc.def",
    '{"message":"invalid","access_token":"CANARY-1","password":"CANARY two"}',
    '{"request":{"headers":{"Authorization":"Basic Q0FOQVJZCANARY="}}}',
    "client_secret=CANARY-2&grant_type=client_credentials",
]


@every_sink
def test_no_secret_gets_into_what_is_said_of_an_answer(case: Case) -> None:
    sink = case.make("https://user:CANARY-password@api.example.com")
    events = case.events()
    headers = {
        "location": "https://user:CANARY-3@login.example.com/in?token=CANARY-4#access_token=CANARY-5",
        "set-cookie": "session=CANARY-6",
        "www-authenticate": "Bearer CANARY-7-abcdef",
        "retry-after": "CANARY-8",
        "inin-correlation-id": "Bearer CANARY-9",
        "x-amzn-errortype": "Bearer CANARY-10",
    }
    for status in (0, 200, 302, 400, 401, 403, 404, 409, 413, 418, 429, 500):
        for said in [*SECRET_BODIES, *(item_errors(case, words) for words in SECRET_BODIES)]:
            verdict = sink.interpret(Answer(status, headers, said.encode()), events)
            assert "CANARY" not in repr(verdict), status


@every_sink
def test_an_error_that_names_an_event_is_cleaned_as_well(case: Case) -> None:
    """So that the test above does not hold for want of errors."""
    verdict = case.sink().interpret(
        Answer(200, body=item_errors(case, SECRET_BODIES[0]).encode()), case.events()
    )
    if case.reads_items:
        assert [item.index for item in verdict.items] == [0]
        assert "***" in verdict.items[0].message


def item_errors(case: Case, said: str) -> str:
    """An answer that names the first event, in the words of every API at once."""
    error = {"index": 0, "message": said, "retryable": False, "ErrorCode": "X", "ErrorMessage": said}
    if case.id.startswith("genesys"):
        (first, *_), *_ = json.loads(case.sink().encode(case.events())).values()
        error["eventId"] = first["eventId"]
    others = [{"EventId": "x"}] * (len(case.events()) - 1)
    unprocessed = {"originalRequestIndex": 0, "errorMessage": said, "isRetryable": False}
    return json.dumps(
        {
            "errors": [error],
            "unprocessedEntities": [unprocessed],
            "FailedEntryCount": 1,
            "Entries": [error, *others],
        }
    )


@every_sink
def test_a_shown_url_has_no_secret_and_still_tells_where(case: Case) -> None:
    sink = case.make("https://user:CANARY-password@api.example.com")
    assert "CANARY" not in sink.shown_url
    assert "api.example.com" in sink.shown_url


WEBHOOKS = [case for case in CASES if case.sink().kind == "webhook"]


@each("case", WEBHOOKS, ids=[case.id for case in WEBHOOKS])
def test_an_answer_that_quotes_the_url_gives_nothing_of_it_away(case: Case) -> None:
    """A secret that stands in a URL, as a webhook's token, must not come back by an error page."""
    sink = case.sink()
    path = sink.url.removeprefix("https://api.example.com")
    for status in (200, 302, 400, 404, 500):
        for said in (f"Cannot POST {path}", json.dumps({"message": "no such hook", "path": path})):
            verdict = sink.interpret(Answer(status, {"location": path}, said.encode()), case.events())
            assert "CANARY" not in repr(verdict)
