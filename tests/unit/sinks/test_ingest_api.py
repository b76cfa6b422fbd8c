"""The request for the batch ingestion API, and its answers."""

import json

from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.answer import Answer
from ingestd.core.verdict import ItemError, Meaning
from ingestd.sinks.ingest_api import IngestApi

API = IngestApi("https://api.example.com/")
EVENTS = [b'{"interactionId":"a"}', b'{"interactionId":"b"}', b'{"interactionId":"b","n":2}']


@given(st.lists(st.binary(min_size=1, max_size=50), min_size=1, max_size=50))
def test_the_size_of_a_body_is_known_exactly_before_it_is_made(events: list[bytes]) -> None:
    expected = API.overhead_bytes + sum(map(len, events)) + API.separator_bytes * (len(events) - 1)
    assert len(API.encode(events)) == expected


@given(st.lists(st.dictionaries(st.text(), st.integers() | st.text()), min_size=1))
def test_the_body_has_the_events_in_order_and_byte_for_byte(contents: list[dict[str, object]]) -> None:
    events = [json.dumps(content, indent=1).encode() for content in contents]
    body = API.encode(events)
    assert json.loads(body) == {"events": contents}
    assert body == b'{"events":[' + b",".join(events) + b"]}"


def test_the_url_is_the_api_with_one_slash_between_it_and_the_path() -> None:
    assert API.url == "https://api.example.com/api/v2/events/ingest"
    assert IngestApi("http://h:1").url == "http://h:1/api/v2/events/ingest"


def test_the_batch_id_is_request_id_and_idempotency_key_and_no_credential_is_set() -> None:
    assert API.headers("id-1", []) == {
        "Content-Type": "application/json",
        "X-Request-Id": "id-1",
        "Idempotency-Key": "id-1",
    }
    assert API.headers("id-1", []) is not API.headers("id-1", []), "the sender adds its token to it"


def test_a_2xx_with_errors_names_the_events_that_were_not_taken() -> None:
    body = b'{"errors":[{"index":1,"message":"full","retryable":true}]}'
    verdict = API.interpret(Answer(207, body=body), EVENTS)
    assert (verdict.meaning, verdict.items) == (Meaning.ACCEPTED, (ItemError(1, "full", True),))


def test_an_id_that_several_events_carry_names_all_of_them_where_the_others_were_taken() -> None:
    body = b'{"errors":[{"interactionId":"b","message":"bad"}]}'
    verdict = API.interpret(Answer(200, body=body), EVENTS)
    assert [item.index for item in verdict.items] == [1, 2]


def test_an_id_that_several_events_carry_names_none_of_them_where_none_was_taken() -> None:
    """They can be sent one by one, so that no good event is buried with its namesake."""
    body = b'{"errors":[{"interactionId":"b","message":"bad"}]}'
    verdict = API.interpret(Answer(400, body=body), EVENTS)
    assert (verdict.meaning, verdict.items, verdict.unmatched) == (Meaning.REJECTED, (), 1)


def test_errors_in_the_body_of_any_other_answer_are_not_about_events() -> None:
    body = b'{"errors":[{"index":1,"message":"bad"}]}'
    for status in (401, 403, 408, 413, 429, 500, 503):
        assert API.interpret(Answer(status, body=body), EVENTS).items == ()


def test_retry_after_as_a_date_counts_from_the_given_wall_clock() -> None:
    api = IngestApi("http://h", wall=lambda: 784_111_777.0)
    answer = Answer(503, headers={"retry-after": "Sun, 06 Nov 1994 08:49:47 GMT"})
    assert api.interpret(answer, EVENTS).after_s == 10.0
