"""The request for journey external events, and its answers."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.answer import Answer
from ingestd.core.errors import UserError
from ingestd.core.verdict import ItemError, Meaning
from ingestd.sinks.answers import AnswerReader
from ingestd.sinks.item_paths import ItemPaths
from ingestd.sinks.journey_events import JourneyEventsSink
from ingestd.sinks.sink import Unencodable
from tests.each import each
from tests.genesys import least

SINK = JourneyEventsSink(name="journey", api="https://api.example.com/", configuration_id="crm-orders")


def event(number: int = 1, **more: Any) -> bytes:
    fields = {
        "id": f"order-{number}",
        "dateCreated": "2026-01-01T10:00:00Z",
        "identifiers": {"externalIds": [{"value": "c-1", "externalSourceId": "crm"}]},
        "attributes": {"total": 12.5},
    }
    return json.dumps(fields | more).encode()


EVENTS = [event(1), event(2), event(3)]


def unprocessed(*entries: dict[str, Any], status: int = 200) -> Answer:
    return Answer(status, body=json.dumps({"unprocessedEntities": list(entries)}).encode())


def test_the_configuration_stands_in_the_path() -> None:
    assert SINK.url == (
        "https://api.example.com/api/v2/journey/externalevents/configurations/crm-orders/events"
    )


@each("text", ["", "a/b", "..", "a?b", "a b", "x" * 65, "ä", "a\n", "{id}"])
def test_what_can_be_no_configuration_id_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"sinks\.j\.configuration_id"):
        JourneyEventsSink(name="j", api="https://x", configuration_id=text)


@given(st.lists(st.builds(event, st.integers(0, 99), note=st.text()), min_size=1, max_size=9))
def test_the_body_has_the_events_byte_for_byte_and_its_size_is_known(events: list[bytes]) -> None:
    body = SINK.encode(events)
    assert body == b'{"entities":[' + b",".join(events) + b"]}"
    assert len(body) == SINK.overhead_bytes + sum(map(len, events)) + SINK.separator_bytes * (len(events) - 1)


@each("field", ["id", "dateCreated", "identifiers", "attributes"])
@each("value", ["missing", 7, "", None])
def test_an_event_without_a_field_does_not_fit_and_the_words_name_it(field: str, value: Any) -> None:
    fields = json.loads(event())
    if value == "missing":
        del fields[field]
    else:
        fields[field] = value
    with pytest.raises(Unencodable) as raised:
        SINK.encode([event(), json.dumps(fields).encode()])
    assert list(raised.value.events) == [1]
    assert field in raised.value.events[1]


def test_what_the_model_refuses_does_not_fit() -> None:
    strict = JourneyEventsSink(name="j", api="https://x", configuration_id="c", strict=True)
    good = least("ExternalEvent")
    assert strict.encode([json.dumps(good).encode()])
    for changes in (
        {"dateCreated": "2026-01-01"},
        {"identifiers": {}},
        {"identifiers": {"externalIds": [{"value": 7, "externalSourceId": "crm"}]}},
        {"identifiers": {"externalIds": [{"value": "7"}]}},
    ):
        bad = json.dumps(good | changes).encode()
        assert SINK.encode([bad])
        with pytest.raises(Unencodable) as raised:
            strict.encode([bad])
        assert raised.value.events[0].startswith(next(iter(changes)))


def test_unprocessed_events_are_named_by_their_place_in_the_request() -> None:
    said = unprocessed(
        {"originalRequestIndex": 2, "isRetryable": True, "errorMessage": "busy", "statusCode": 503},
        {"originalRequestIndex": 0, "isRetryable": False, "errorMessage": "no such type", "statusCode": 400},
    )
    verdict = SINK.interpret(said, EVENTS)
    assert verdict.meaning is Meaning.ACCEPTED
    assert verdict.items == (ItemError(0, "no such type", False), ItemError(2, "busy", True))


def test_an_event_is_found_by_its_id_where_its_place_is_missing() -> None:
    said = unprocessed({"event": {"id": "order-2"}, "isRetryable": False, "errorMessage": "bad"})
    assert [item.index for item in SINK.interpret(said, EVENTS).items] == [1]


def test_an_error_that_names_no_event_is_that_of_the_only_one_or_is_searched_for() -> None:
    bad = unprocessed({"errorMessage": "bad", "statusCode": 400})
    assert SINK.interpret(bad, EVENTS[:1]).items == (ItemError(0, "bad", False),)
    verdict = SINK.interpret(bad, EVENTS)
    assert (verdict.meaning, verdict.items) == (Meaning.REJECTED, ())
    busy = unprocessed({"originalRequestIndex": None, "errorMessage": "busy", "isRetryable": True})
    assert SINK.interpret(busy, EVENTS).meaning is Meaning.RETRY


@each("index", [3, -1, True, "x", 1.5, 10**30])
def test_a_place_outside_the_request_names_no_event_and_is_counted(index: Any) -> None:
    verdict = SINK.interpret(unprocessed({"originalRequestIndex": index, "errorMessage": "bad"}), EVENTS)
    assert (verdict.items, verdict.unmatched) == ((), 1)


def test_an_error_body_is_shown_with_its_context_id() -> None:
    body = json.dumps({"message": "m" * 900, "code": "bad.request", "contextId": "abcdef01-2345"}).encode()
    verdict = SINK.interpret(Answer(400, body=body), EVENTS)
    assert verdict.meaning is Meaning.REJECTED
    assert "abcdef01-2345" in verdict.detail


def test_a_configured_list_of_items_is_read_instead() -> None:
    reading = AnswerReader({"409": "rejected"}, ItemPaths(items="bad", index="at"))
    sink = JourneyEventsSink(name="j", api="https://x", configuration_id="c", reading=reading)
    verdict = sink.interpret(Answer(409, body=b'{"bad":[{"at":1}]}'), EVENTS)
    assert (verdict.meaning, [item.index for item in verdict.items]) == (Meaning.REJECTED, [1])


def test_a_body_that_was_cut_off_may_have_named_events() -> None:
    assert SINK.interpret(Answer(200, body=b'{"unproc', truncated=True), EVENTS).unmatched == 1
