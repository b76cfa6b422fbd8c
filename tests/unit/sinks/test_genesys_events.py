"""Requests to the inbound event APIs of Genesys Cloud, and their answers."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.answer import Answer
from ingestd.core.errors import UserError
from ingestd.core.verdict import ItemError, Meaning
from ingestd.schemas.genesys_models import event_api, model
from ingestd.sinks.answers import AnswerReader
from ingestd.sinks.genesys_events import GenesysEventsSink
from ingestd.sinks.sink import Unencodable
from tests.each import each
from tests.genesys import least, objects, uuid_of
from tests.unit.sinks.genesys_support import (
    ACTIONS,
    API,
    MAPPED,
    PLAIN,
    entry,
    fault_of,
    interaction,
    steps,
)

CONVERSATION_ARRAYS = event_api("conversations").arrays


@each(
    ("family", "path"),
    [
        ("conversations", "/api/v2/events/conversations"),
        ("presence", "/api/v2/events/users/presence"),
        ("routingstatus", "/api/v2/events/users/routingstatus"),
        ("customkpiattributions", "/api/v2/events/routing/customkpiattributions"),
    ],
)
def test_each_family_has_its_path(family: str, path: str) -> None:
    assert GenesysEventsSink(name="x", api=API, family=family).url == "https://api.example.com" + path


def test_the_arrays_are_the_32_of_the_api() -> None:
    email = [array for array in CONVERSATION_ARRAYS if array.startswith("email")]
    assert (len(email), len(CONVERSATION_ARRAYS)) == (14, 32)


def test_entries_go_byte_for_byte_into_their_arrays_and_only_arrays_with_entries_are_sent() -> None:
    events = [
        b'{"holdUpdatedEvents": {"eventId":"1", "eventDateTime":"t","conversationId":"c","x":1e400} }',
        b'\t{\n"communicationEndedEvents":{"conversationId":"c","eventId":"2","eventDateTime":"t"}}\n',
        b'{"holdUpdatedEvents":{"eventId":"3","eventDateTime":"t","conversationId":"c"}}',
    ]
    assert PLAIN.encode(events) == (
        b'{"holdUpdatedEvents":[{"eventId":"1", "eventDateTime":"t","conversationId":"c","x":1e400},'
        b'{"eventId":"3","eventDateTime":"t","conversationId":"c"}],'
        b'"communicationEndedEvents":[{"conversationId":"c","eventId":"2","eventDateTime":"t"}]}'
    )


def test_presence_and_routing_status_take_the_plain_entry() -> None:
    presence = GenesysEventsSink(name="p", api=API, family="presence")
    event = b'{"eventId":"1","eventDateTime":"t","userId":"u","sourceId":"s"}'
    assert presence.encode([event, event]) == b'{"userPresenceEvents":[' + event + b"," + event + b"]}"
    assert presence.order_key(event) == "u"
    status = GenesysEventsSink(name="r", api=API, family="routingstatus")
    event = b'{"eventId":"1","eventDateTime":"t","agentId":"a","status":"Idle","sourceId":"s"}'
    assert status.encode([event]) == b'{"userRoutingStatusEvents":[' + event + b"]}"
    assert status.order_key(event) == "a"
    assert "status" in fault_of(status, event.replace(b"status", b"state"))


def test_an_entry_without_a_source_gets_that_of_the_settings() -> None:
    source = uuid_of("pbx")
    sink = GenesysEventsSink(name="p", api=API, family="presence", source_id=source, strict=True)
    own = least("UserPresenceEvent", eventId=uuid_of("a"))
    none = least("UserPresenceEvent", eventId=uuid_of("b"), sourceId=...)
    events = [json.dumps(one).encode() for one in (own, none)]
    assert sink.sizes(events) == [len(events[0]), len(events[1]) + len('"sourceId":"",') + len(source)]
    sent = json.loads(sink.encode(events))["userPresenceEvents"]
    assert sent == [own, none | {"sourceId": source}]
    bare = GenesysEventsSink(name="p", api=API, family="presence")
    assert "sourceId" in fault_of(bare, events[1])


@each("field", ["eventId", "eventDateTime", "conversationId"])
@each("value", [None, 7, "", "missing"])
def test_an_entry_without_a_field_does_not_fit_and_the_words_name_the_field(field: str, value: Any) -> None:
    event = json.loads(entry("holdUpdatedEvents", 1))
    if value == "missing":
        del event["holdUpdatedEvents"][field]
    else:
        event["holdUpdatedEvents"][field] = value
    assert field in fault_of(PLAIN, json.dumps(event).encode())


@each(
    "event",
    [
        b'{"holdUpdatedEvent":{"eventId":"1","eventDateTime":"t","conversationId":"c"}}',
        b'{"eventId":"1","eventDateTime":"t","conversationId":"c"}',
        b'{"holdUpdatedEvents":[{"eventId":"1","eventDateTime":"t","conversationId":"c"}]}',
        b'{"holdUpdatedEvents":{"eventId":"1","eventDateTime":"t","conversationId":"c"},"x":1}',
        b'{"holdUpdatedEvents":{"eventId":"1","eventDateTime":"t","conversationId":"c"},'
        b'"holdUpdatedEvents":{"eventId":"2","eventDateTime":"t","conversationId":"c"}}',
        b'{"holdUpdatedEvents":{"eventId":"1","eventDateTime":"t","conversationId":"c"}}}',
        b'{"holdUpdatedEvents":{"eventId":"1","eventDateTime":"t","conversationId":"c"}',
        b'{"holdUpdatedEvents":{"eventId":"1","eventDateTime":"t","conversationId":"c","x":"\xff"}}',
        b'{"holdUpdatedEvents":}',
        b"",
        b"[]",
    ],
)
def test_an_event_that_is_not_one_entry_of_one_known_array_does_not_fit(event: bytes) -> None:
    assert fault_of(PLAIN, event)
    assert PLAIN.order_key(event) is None or b'"x"' in event


STRICT = GenesysEventsSink(name="s", api=API, strict=True)


def test_what_the_models_refuse_does_not_fit_before_it_costs_a_request() -> None:
    for array, name in CONVERSATION_ARRAYS.items():
        good = least(name)
        assert json.loads(STRICT.encode([json.dumps({array: good}).encode()])) == {array: [good]}
        for field, spec in model(name).fields.items():
            wrong = "nonsense" if spec.get("enum") or spec["type"] in ("uuid", "time") else [[]]
            for bad in [wrong] + [None] * bool(spec.get("required")):
                event = json.dumps({array: good | {field: bad}}).encode()
                assert field in fault_of(STRICT, event), (array, field)
                if field not in ("eventId", "eventDateTime", "conversationId"):
                    assert PLAIN.encode([event]), "who does not ask for it is believed"


def test_what_is_mapped_is_held_against_the_models_too() -> None:
    strict = GenesysEventsSink(name="s", api=API, mapping="interaction", source_id="pbx", strict=True)
    said = "routingEstablishedEvents.queueId: a V4 UUID expected"
    assert fault_of(strict, interaction("QUEUE")) == said
    good = interaction("QUEUE").replace(b"queue-alpha", uuid_of("queue").encode())
    assert strict.encode([good]) == MAPPED.encode([good])
    assert fault_of(strict, interaction("TRANSFER", destinationUserId="agent-7")).endswith(
        "destinationUserId: a V4 UUID expected"
    )


@given(st.data())
def test_what_the_models_take_fits(data: st.DataObject) -> None:
    array = data.draw(st.sampled_from(sorted(CONVERSATION_ARRAYS)))
    event = json.dumps({array: data.draw(objects(CONVERSATION_ARRAYS[array]))}).encode()
    assert STRICT.encode([event])


def test_unfit_names_every_event_that_does_not_fit_and_no_other() -> None:
    good, bad = entry("holdUpdatedEvents", 1), b"{}"
    with pytest.raises(Unencodable) as raised:
        PLAIN.encode([good, bad, good, bad])
    assert list(raised.value.events) == [1, 3]
    assert [size == 0 for size in PLAIN.sizes([good, bad, good, bad])] == [False, True, False, True]


events_of_any_array = st.lists(
    st.builds(
        entry, st.sampled_from(sorted(CONVERSATION_ARRAYS)), st.integers(0, 9), note=st.text(max_size=20)
    ),
    min_size=1,
    max_size=8,
)
interactions = st.lists(
    st.builds(
        interaction,
        st.sampled_from(ACTIONS),
        st.text(min_size=1, max_size=20),
        destinationUserId=st.none() | st.text(max_size=5),
        destinationCommunicationId=st.none() | st.text(max_size=5),
        inbound=st.none() | st.booleans(),
    ),
    min_size=1,
    max_size=8,
)


@given(events_of_any_array)
def test_sizes_are_an_upper_bound_and_exact_where_no_array_has_two_entries(events: list[bytes]) -> None:
    body = PLAIN.encode(events)
    bound = PLAIN.overhead_bytes + sum(PLAIN.sizes(events)) + PLAIN.separator_bytes * (len(events) - 1)
    alone = len(json.loads(body)) == len(events)
    assert len(body) == bound if alone else len(body) < bound


@given(interactions)
def test_sizes_are_an_upper_bound_of_mapped_events_too(events: list[bytes]) -> None:
    bound = MAPPED.overhead_bytes + sum(MAPPED.sizes(events)) + MAPPED.separator_bytes * (len(events) - 1)
    assert len(MAPPED.encode(events)) <= bound


@each(
    ("settings", "words"),
    [
        ({"mapping": "interaction"}, "source_id"),
        ({"mapping": "interaction", "source_id": "x", "family": "presence"}, "presence"),
        ({"mapping": "teleport"}, "interaction"),
        ({"family": "kpi"}, "presence"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=words):
        GenesysEventsSink(name="ex", api=API, **settings)


def test_no_request_has_more_entries_than_the_api_takes_and_one_of_an_event() -> None:
    assert GenesysEventsSink(name="x", api=API, max_events=5000).max_events == 100
    assert GenesysEventsSink(name="x", api=API, max_events=7).max_events == 7
    assert MAPPED.max_events == 100
    longest = interaction("TRANSFER", destinationCommunicationId="x")
    events = [longest, interaction("ANSWER")] * 50
    body = json.loads(MAPPED.encode(events))
    assert sum(map(len, body.values())) == 100
    assert MAPPED.go_on(events, 0) == MAPPED.go_on(events, 1) == tuple(range(0, 100, 2))
    assert MAPPED.go_on(events, 2) == ()


# Answers.

BATCH = [interaction("REQUEUE", "a"), interaction("ANSWER", "b"), interaction("TRANSFER", "c")]


def event_ids(index: int) -> list[str]:
    return [entry["eventId"] for _, entry in steps(BATCH[index])]


def answer(*errors: Any, status: int = 200, truncated: bool = False) -> Answer:
    return Answer(status, body=json.dumps({"errors": list(errors)}).encode(), truncated=truncated)


def test_an_entrys_error_is_its_events_error() -> None:
    said = answer(
        {"eventId": event_ids(2)[1].upper(), "message": "no such command", "retryable": False},
        {"eventId": event_ids(1)[0], "message": "too early", "retryable": True},
    )
    verdict = MAPPED.interpret(said, BATCH)
    assert verdict.meaning is Meaning.ACCEPTED
    assert [(i.index, i.message, i.retryable) for i in verdict.items] == [
        (1, "too early", True),
        (2, "no such command", False),
    ]


@each(("first", "second", "again"), [(True, True, True), (True, False, False), (False, True, False)])
def test_an_event_of_several_entries_is_sent_again_only_if_all_its_failures_allow_it(
    first: bool, second: bool, again: bool
) -> None:
    one, other, *_ = event_ids(0)
    said = answer({"eventId": one, "retryable": first}, {"eventId": other, "retryable": second})
    (item,) = MAPPED.interpret(said, BATCH).items
    assert (item.index, item.retryable) == (0, again)


def test_errors_of_unknown_events_are_counted() -> None:
    said = answer({"eventId": "ffffffff-0000-4000-8000-000000000000"}, {"eventId": 7})
    verdict = MAPPED.interpret(said, BATCH)
    assert (verdict.meaning, verdict.items, verdict.unmatched) == (Meaning.ACCEPTED, (), 2)
    assert MAPPED.interpret(answer(truncated=True), BATCH).unmatched == 1
    unreadable = b'{"errors":[{"eventId":"\\ud83d","message":"x"}]}'
    assert MAPPED.interpret(Answer(200, body=unreadable), BATCH).unmatched == 1
    assert MAPPED.interpret(Answer(200, body=b"OK"), BATCH).unmatched == 0


NAMELESS = [{"message": "x"}, {"eventId": None}, {"eventId": ""}, {}, "x", None]


@each("error", NAMELESS)
def test_an_error_without_an_event_id_is_that_of_the_only_event(error: Any) -> None:
    (item,) = MAPPED.interpret(answer(error), BATCH[1:2]).items
    assert (item.index, item.retryable) == (0, False)
    down = answer({"message": "presence service is down", "retryable": True})
    verdict = MAPPED.interpret(down, BATCH[:1])
    assert (verdict.items, verdict.unmatched) == ((ItemError(0, "presence service is down", True),), 0)


@each("error", NAMELESS)
def test_an_error_without_an_event_id_among_several_is_searched_for(error: Any) -> None:
    again = {"message": "down", "retryable": True}
    for errors in ([error], [again, error], [error, again]):
        verdict = MAPPED.interpret(answer(*errors), BATCH)
        assert (verdict.meaning, verdict.items, verdict.unmatched) == (Meaning.REJECTED, (), 0)
    verdict = MAPPED.interpret(answer(again), BATCH)
    assert (verdict.meaning, verdict.ambiguous, verdict.items) == (Meaning.RETRY, True, ())
    bad = {"eventId": event_ids(1)[0], "message": "bad"}
    for other in (error, again):
        verdict = MAPPED.interpret(answer(other, bad), BATCH)
        assert (verdict.meaning, verdict.items) == (Meaning.REJECTED, (ItemError(1, "bad", False),))


def test_on_status_has_the_last_word() -> None:
    trusting = GenesysEventsSink(name="ex", api=API, reading=AnswerReader({"200": "accepted"}))
    for events in ([entry("holdUpdatedEvents", 1)], [entry("holdUpdatedEvents", n) for n in (1, 2)]):
        verdict = trusting.interpret(answer({"message": "x"}), events)
        assert (verdict.meaning, verdict.items, verdict.unmatched) == (Meaning.ACCEPTED, (), 1)


def test_an_event_id_that_two_events_share_names_both_only_where_the_others_were_taken() -> None:
    events = [entry("holdUpdatedEvents", 1), entry("holdUpdatedEvents", 1), entry("holdUpdatedEvents", 2)]
    error = {"eventId": "e1", "message": "bad"}
    assert [i.index for i in PLAIN.interpret(answer(error), events).items] == [0, 1]
    refused = PLAIN.interpret(answer(error, status=400), events)
    assert (refused.items, refused.unmatched) == ((), 1)


def test_nested_error_bodies_of_a_refused_request_name_no_event() -> None:
    body = {
        "message": "bad",
        "code": "bad.request",
        "status": 400,
        "errors": [{"message": "x", "errors": []}],
    }
    verdict = PLAIN.interpret(Answer(400, body=json.dumps(body).encode()), [entry("holdUpdatedEvents", 1)])
    assert (verdict.meaning, verdict.items, verdict.unmatched) == (Meaning.REJECTED, (), 0)


def test_the_words_have_the_context_id_wherever_it_stands() -> None:
    late = json.dumps({"message": "x" * 2000, "contextId": "1f2e3d4c-0000"}).encode()
    assert PLAIN.interpret(Answer(500, body=late), []).detail.endswith("(contextId 1f2e3d4c-0000)")
    headers = {"inin-correlation-id": "0a0b0c0d-1111"}
    assert "0a0b0c0d-1111" in PLAIN.interpret(Answer(502, headers, b"<html>"), []).detail
    early = b'{"contextId":"1f2e3d4c-0000"}'
    assert PLAIN.interpret(Answer(400, body=early), []).detail.count("1f2e3d4c-0000") == 1
    hostile = {"inin-correlation-id": "Bearer CANARY-CANARY\r\n"}
    assert (
        "CANARY"
        not in PLAIN.interpret(Answer(400, hostile, b'{"contextId":["CANARY"]}'), []).detail.split("]")[1]
    )
