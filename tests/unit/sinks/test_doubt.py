"""A 2xx that is not the answer of that API is no delivery; one that says no is heard."""

import time
from typing import Any

from ingestd.config import BatchConfig, Login, Settings
from ingestd.core.answer import Answer
from ingestd.core.verdict import Meaning, Verdict
from ingestd.sinks.answer_body import refusal_in
from ingestd.sinks.settings import HttpSinkConfig
from ingestd.sinks.sink import Sink
from ingestd.wiring.factories import make_sink
from tests.each import each

LOGIN = Login(api="https://api.example.com", token_url=None)
PAGE = b"<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
JSON = {"content-type": "application/json"}
HTML = {"content-type": "text/html"}
ELSEWHERE = {"url": "https://x.example.com/in"}
OF_JSON: dict[str, dict[str, Any]] = {
    "ingest_api": {},
    "genesys_events": {},
    "journey_events": {"configuration_id": "c-1"},
    "cloudevents": {},
    "eventbridge": {"aws_region": "eu-central-1"},
}
EVENTS = [b'{"id":"a"}']


def make(kind: str, **settings: Any) -> Sink:
    section = Settings.model_validate({"sinks": {"one": {"type": kind, **settings}}}).sinks["one"]
    assert isinstance(section, HttpSinkConfig)
    return make_sink("one", section, LOGIN, BatchConfig(), time.time)


STRANGE = {
    "a sign-in page": (Answer(200, HTML, PAGE), "200 with text/html: is this the API, or a sign-in page?"),
    "with a comment first": (Answer(200, HTML, b"\n<!-- x --><html>"), "a sign-in page"),
    "a page that says it is JSON": (Answer(200, JSON, PAGE), "a sign-in page"),
    "text": (
        Answer(200, {"content-type": "text/plain"}, b"OK"),
        "not JSON: is this the API, or a sign-in page?",
    ),
    "XML": (Answer(202, {"content-type": "text/xml"}, b"<?xml version='1.0'?><ok/>"), "not JSON"),
    "a word of JSON as text": (Answer(200, {"content-type": "text/plain"}, b"true"), "not JSON"),
    "half of it": (Answer(200, JSON, b'{"errors":[{"index":0'), "not JSON"),
    "bytes": (Answer(200, JSON, b"\x1f\x8b\x08\0\0\0"), "not JSON"),
    "packed": (
        Answer(200, JSON, b"\xff", unreadable="it is not gzip"),
        "cannot be read",
    ),
    "a page as 409": (Answer(409, HTML, PAGE), "a sign-in page"),
}


@each("kind", OF_JSON)
@each("what", STRANGE)
def test_what_is_not_the_apis_answer_is_sent_again_and_the_lane_pauses(kind: str, what: str) -> None:
    answer, words = STRANGE[what]
    verdict = make(kind, **OF_JSON[kind]).interpret(answer, EVENTS)
    assert (verdict.meaning, verdict.ambiguous, verdict.strange) == (Meaning.PAUSED, True, True)
    assert words in verdict.detail
    assert len(verdict.detail) < 300


@each("kind", OF_JSON)
def test_one_that_was_cut_off_may_come_whole_the_next_time(kind: str) -> None:
    verdict = make(kind, **OF_JSON[kind]).interpret(Answer(200, JSON, b'{"a":', truncated=True), EVENTS)
    assert (verdict.meaning, verdict.ambiguous) == (Meaning.RETRY, True)


OBJECT = b'{"status":"accepted"}'
NOTHING = {
    "nothing": Answer(202),
    "no content": Answer(204, HTML),
    "blanks": Answer(200, HTML, b" \r\n"),
}
OBJECTS = {
    "an object": Answer(200, JSON, OBJECT),
    "an object under another name": Answer(200, HTML, b" %b\n" % OBJECT),
    "Latin-1 in it": Answer(200, JSON, b'{"message":"caf\xe9"}'),
}
OTHERS = {
    "a list": Answer(200, {}, b"[]"),
    "a problem's type": Answer(200, {"content-type": "application/x+json; charset=utf-8"}, b"null"),
    "a word of JSON": Answer(200, JSON, b'"ok"'),
    "a number": Answer(202, JSON, b"42"),
}
ANY_OBJECT = ("ingest_api", "cloudevents")
GENESYS = {
    "genesys_events": [b'{"errors":[]}', b'{"errors":null}', b"{}", b'{"errors":[],"x":"caf\xe9"}'],
    "journey_events": [b'{"unprocessedEntities":[]}', b'{"unprocessedEntities":[],"x":"caf\xe9"}'],
}


def is_fine(answer: Answer, kind: str, **settings: Any) -> bool:
    verdict = make(kind, **settings, **OF_JSON[kind]).interpret(answer, EVENTS)
    assert (verdict.items, verdict.unmatched) == ((), 0)
    assert verdict.meaning is Meaning.ACCEPTED or (verdict.strange and verdict.ambiguous)
    return verdict.meaning is Meaning.ACCEPTED


@each("kind", [kind for kind in OF_JSON if kind != "eventbridge"])
def test_nothing_at_all_is_an_answer(kind: str) -> None:
    assert all(is_fine(answer, kind) for answer in NOTHING.values())


@each("kind", ANY_OBJECT)
def test_so_is_an_object_and_no_other_json(kind: str) -> None:
    assert all(is_fine(answer, kind) for answer in OBJECTS.values())
    assert not any(is_fine(answer, kind) for answer in OTHERS.values())


@each("kind", GENESYS)
def test_genesys_answers_with_a_list_of_errors(kind: str) -> None:
    assert all(is_fine(Answer(200, JSON, body), kind) for body in GENESYS[kind])
    maintenance = Answer(200, JSON, b'{"message":"down for maintenance"}')
    error = b'{"message":"x","code":"internal.server.error","status":500,"details":[],"errors":[]}'
    other = [b'{"errors":{"message":"x"}}', b'{"unprocessedEntities":null}', b'{"errors":"x"}', error]
    strange = [maintenance, *OBJECTS.values(), *OTHERS.values(), *(Answer(200, JSON, body) for body in other)]
    assert not any(is_fine(answer, kind) for answer in strange)
    assert (
        "as the answer of Genesys Cloud has"
        in make(kind, **OF_JSON[kind]).interpret(maintenance, EVENTS).detail
    )


@each("kind", [*ANY_OBJECT, *GENESYS])
@each("what", OTHERS)
def test_settings_may_say_that_it_is_one(kind: str, what: str) -> None:
    for overruling in ({"on_status": {"200": "accepted", "202": "accepted"}}, {"expect": "any"}):
        assert is_fine(OTHERS[what], kind, **overruling)
    assert is_fine(OTHERS[what], kind, answers={"items": "nothing"})
    if kind in ANY_OBJECT:
        assert is_fine(OTHERS[what], kind, expect="json")


@each("kind", ["ingest_api", "cloudevents"])
def test_an_error_that_names_no_event_is_that_of_the_only_one(kind: str) -> None:
    for error in (b'{"message":"it is down","retryable":true}', b'"it is down"'):
        (item,) = make(kind).interpret(Answer(200, JSON, b'{"errors":[%b]}' % error), EVENTS).items
        assert (item.index, item.message, item.retryable) == (0, "it is down", b"true" in error)


@each("sink", [make("ingest_api"), make("cloudevents", mode="batch")])
def test_of_several_it_is_searched_for(sink: Sink) -> None:
    for error, meaning in ((b'{"message":"x"}', Meaning.REJECTED), (b'{"retryable":true}', Meaning.RETRY)):
        verdict = sink.interpret(Answer(200, JSON, b'{"errors":[%b]}' % error), EVENTS * 2)
        assert (verdict.meaning, verdict.items) == (meaning, ())


@each("answer", [Answer(200), Answer(200, JSON, b"{}"), Answer(200, JSON, b"[]")])
def test_put_events_always_counts_its_failures(answer: Answer) -> None:
    verdict = make("eventbridge", **OF_JSON["eventbridge"]).interpret(answer, EVENTS)
    assert (verdict.meaning, verdict.ambiguous) == (Meaning.PAUSED, True)
    assert "is this EventBridge?" in verdict.detail
    trusting = make("eventbridge", expect="any", **OF_JSON["eventbridge"]).interpret(answer, EVENTS)
    assert (trusting.meaning, trusting.unmatched) == (Meaning.ACCEPTED, 1)


@each("kind", OF_JSON)
def test_a_person_may_say_that_the_status_is_enough(kind: str) -> None:
    answer = STRANGE["a sign-in page"][0]
    taken = make(kind, on_status={"200": "accepted"}, **OF_JSON[kind]).interpret(answer, EVENTS)
    assert taken.meaning is Meaning.ACCEPTED
    assert make(kind, expect="any", **OF_JSON[kind]).interpret(answer, EVENTS).meaning is Meaning.ACCEPTED


@each("kind", ["webhook", "cloudevents"])
@each("body", [PAGE, b"ok", b""])
def test_any_2xx_of_other_receivers_is_enough_unless_somebody_says_otherwise(kind: str, body: bytes) -> None:
    answer = Answer(200, HTML, body)
    assert make(kind, **ELSEWHERE).interpret(answer, EVENTS).meaning is Meaning.ACCEPTED
    strict = make(kind, expect="json", **ELSEWHERE).interpret(answer, EVENTS)
    assert strict.meaning is (Meaning.PAUSED if body else Meaning.ACCEPTED)


# answers that say no to nobody in particular

NO = [
    (b'{"errors":true,"items":[{"create":{"status":429}}]}', '"errors": true'),
    (b'{"success":false,"message":"the quota is used up"}', '"success": false'),
    (b'{"Success" : "false"}', '"Success": false'),
    (b'{"ok":false}', '"ok": false'),
    (b'{"isSuccess":false}', '"isSuccess": false'),
    (b'{"status":"error"}', '"status": "error"'),
    (b'{"result":"FAILED"}', '"result": "failed"'),
    (b'{"status":500}', '"status": 500'),
    (b'{"statusCode":429}', '"statusCode": 429'),
    (b'{"hasErrors":true}', '"hasErrors": true'),
    (b'{"failed":6}', '"failed": 6'),
    (b'{"error":"no such queue"}', '"error": …'),
    (b'{"error":{"code":5}}', '"error": …'),
    (b'{"errors":["no such queue"]}', '"errors": […]'),
    (b'{"accepted":5,"rejected":1}', '"rejected": 1'),
    (b'{"rejected":["zzz"]}', '"rejected": […]'),
    (b'{"FailedPutCount":1,"RequestResponses":[]}', '"FailedPutCount": 1'),  # Firehose
    (b'{"failed_count":"2"}', '"failed_count": 2'),
    (b'{"numErrors":1}', '"numErrors": 1'),  # HubSpot
    (b'{"partialSuccess":{"rejectedLogRecords":"5"}}', '"rejectedLogRecords": 5'),  # OTLP
    (b'{"errorCode":"E17","errorMessage":"boom"}', '"errorCode": …'),
    (b'{"status":"500"}', '"status": 500'),
    (b'{"code":403,"message":"no"}', '"code": 403'),
    (b'{"isSuccessful":false}', '"isSuccessful": false'),
    (b'{"status":"PARTIAL_ERROR"}', '"status": "partial_error"'),
    (b'{"state":"completed with errors"}', '"state": "completed with errors"'),
    (b'{"result":{"success":false}}', '"success": false'),
    (b'{"response":{"status":{"code":500}}}', '"code": 500'),
]
YES = [
    b"",
    b"ok",
    b'{"errors":false,"success":true,"ok":true}',
    b'{"errors":[],"error":null,"failed":0}',
    b'{"error":"","status":"accepted","statusCode":202,"status_code":200}',
    b'{"errors":{},"error":false}',
    b'{"status":"ok"}',
    b'{"data":{"success":false}}',
    b'{"accepted":0,"duplicates":5,"rejected":0}',
    b'{"FailedPutCount":0,"failed_count":"0","numErrors":0}',
    b'{"errorCode":"0","errorMessage":"success"}',
    b'{"partialSuccess":{}}',
    b'{"code":"4012","status":"completed"}',
    b'{"result":{"event":{"success":false}}}',
    b'{"note":"\\"success\\":false"}',
    b'["errors", true]',
    b'{"errors":true',
]


@each(("body", "said"), NO, ids=[said for _, said in NO])
def test_an_error_that_names_nobody_is_told(body: bytes, said: str) -> None:
    assert refusal_in(body) == said
    verdict = make("webhook", **ELSEWHERE).interpret(Answer(200, JSON, body), EVENTS * 2)
    assert (verdict.meaning, verdict.items, verdict.unmatched) == (Meaning.ACCEPTED, (), 1)
    ours = make("webhook", answers={"items": "nothing"}, **ELSEWHERE)
    assert ours.interpret(Answer(200, JSON, body), EVENTS).unmatched == 0, "what is set is all that is read"


@each("kind", ANY_OBJECT)
@each(("body", "said"), [one for one in NO if b'":["' not in one[0]])
def test_at_a_known_api_it_is_that_of_the_event_or_is_searched_for(kind: str, body: bytes, said: str) -> None:
    def judged(count: int, content: bytes, **settings: Any) -> Verdict:
        return make(kind, **settings).interpret(Answer(200, JSON, content), EVENTS[:1] * count)

    one, passing = judged(1, body), body in (b'{"status":500}', b'{"statusCode":429}')
    assert [(item.index, item.message, item.retryable) for item in one.items] == [(0, said, passing)]
    assert (one.meaning, one.unmatched) == (Meaning.ACCEPTED, 0)
    if kind == "ingest_api":
        several = judged(4, body)
        assert several.meaning is (Meaning.RETRY if passing else Meaning.REJECTED), several
        assert several.items == ()
        again = judged(4, body[:-1] + b',"retryable":true}')
        assert (again.meaning, again.ambiguous) == (Meaning.RETRY, True)
    overruling: tuple[dict[str, Any], ...] = ({"on_status": {"200": "accepted"}}, {"expect": "any"})
    assert [judged(1, body, **settings).items for settings in overruling] == [(), ()]


@each("body", YES)
def test_and_nothing_else_is(body: bytes) -> None:
    assert refusal_in(body) == ""


def test_answers_may_say_that_an_object_is_about_all_events() -> None:
    paths = {"items": ".", "ok": "success", "message": "why", "retryable": "again"}
    sink = make("ingest_api", answers=paths)
    refused = sink.interpret(Answer(200, JSON, b'{"success":false,"why":"the quota"}'), EVENTS * 2)
    assert [(item.index, item.message, item.retryable) for item in refused.items] == [
        (0, "the quota", False),
        (1, "the quota", False),
    ]
    later = sink.interpret(Answer(200, JSON, b'{"success":false,"again":true}'), EVENTS)
    assert [item.retryable for item in later.items] == [True]
    assert sink.interpret(Answer(200, JSON, b'{"success":true}'), EVENTS).items == ()
