"""What every sink keeps, whatever it speaks to: its requests. See ``ingestd/sinks/sink.py``."""

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.answer import Answer
from tests.contract.sinks.cases import BATCH_ID, Case
from tests.contract.sinks.contract_support import bound, check, every_sink, few, unfit_of

# The request.


@every_sink
def test_a_sink_says_what_it_is_and_what_it_takes(case: Case) -> None:
    sink = case.sink()
    assert sink.name == "sink"
    assert sink.url.startswith("https://api.example.com/")
    assert case.id.startswith(sink.kind.removesuffix("_events"))
    assert min(sink.max_events, sink.max_bytes) > 0
    assert min(sink.overhead_bytes, sink.separator_bytes) >= 0


@every_sink
def test_a_batch_that_is_encoded_again_has_the_same_bytes_and_headers(case: Case) -> None:
    """Also by another instance: after a restart a batch goes out as it did before."""
    sink, events = case.sink(), case.events()
    body, headers = sink.encode(events), sink.headers(BATCH_ID, events)
    sink.interpret(Answer(503), events)
    for again in (sink, case.sink()):
        assert again.encode(case.events()) == body
        assert list(again.headers(BATCH_ID, case.events()).items()) == list(headers.items())


@every_sink
def test_headers_are_a_fresh_dictionary_without_credentials(case: Case) -> None:
    sink, events = case.sink(), case.events()
    headers = sink.headers(BATCH_ID, events)
    assert headers is not sink.headers(BATCH_ID, events), "the transport adds its own to it"
    assert "content-type" in map(str.lower, headers)
    assert not {"authorization", "webhook-signature", "x-amz-security-token"} & set(map(str.lower, headers))
    assert "CANARY" not in str(headers)
    assert all(text.isascii() and text.isprintable() for pair in headers.items() for text in pair)


@every_sink
def test_a_key_that_is_sent_names_the_batch_or_its_event_and_nothing_else(case: Case) -> None:
    sink = case.sink()
    one, other = [case.event(1, "")], [case.event(2, "")]
    keys = [sink.headers(BATCH_ID, events).get("Idempotency-Key") for events in (one, one, other)]
    assert keys[0] == keys[1]
    if keys[0] is not None and keys[0] != BATCH_ID:
        assert keys[2] != keys[0]


@every_sink
@few
@given(texts=st.lists(st.text('a"\\é\n😀', max_size=30), min_size=1, max_size=8))
def test_a_body_is_never_longer_than_its_sizes_say(case: Case, texts: list[str]) -> None:
    sink = case.sink()
    events = [case.event(number, text) for number, text in enumerate(texts)][: sink.max_events]
    body = sink.encode(events)
    assert len(body) == bound(sink, events) if case.exact else len(body) <= bound(sink, events)


@every_sink
def test_a_batch_reaches_its_limit_to_the_byte(case: Case) -> None:
    """A batch that is just within the limit is so when encoded; with one byte more it is not."""
    sink = case.sink()
    others = case.events()[1:]
    base = len(sink.encode([case.event(0, ""), *others]))
    within = [case.event(0, "x" * 1000), *others]
    beyond = [case.event(0, "x" * 1001), *others]
    grows = case.id != "genesys-mapped"  # it does not send what has no place in the API
    assert len(sink.encode(within)) == base + 1000 * grows
    assert len(sink.encode(beyond)) == base + 1001 * grows
    assert bound(sink, within) >= base + 1000 * grows
    assert bound(sink, beyond) >= bound(sink, within) + grows


@every_sink
def test_the_body_has_every_event_in_its_order(case: Case) -> None:
    sink = case.sink()
    marks = [f"mark-{number}-end" for number in range(min(3, sink.max_events))]
    if case.id == "genesys-mapped":  # each action has its array, and of the rest only ids are sent
        events = [case.event(number, "").replace(b"ANSWER", b"QUEUE") for number in (0, 5, 10)]
        marks = ["int-0", "int-5", "int-10"]
    elif case.id == "genesys-conversations":  # likewise
        events = [case.event(3 * number, mark) for number, mark in enumerate(marks)]
    else:
        events = [case.event(number, mark) for number, mark in enumerate(marks)]
    body = sink.encode(events)
    places = [body.index(mark.encode()) for mark in marks]
    assert places == sorted(places)
    assert all(body.count(mark.encode()) == 1 for mark in marks)
    if case.id != "webhook-ndjson":
        json.loads(body)


# The events.


def hostile_events(good: bytes) -> Iterator[bytes]:
    """What no producer should send, and what a good event becomes in hostile hands."""
    yield from (
        b"",
        b" ",
        b"null",
        b"7",
        b'"CANARY-text"',
        b"[]",
        b"{}",
        b"[1,2",
        b"{",
        b"}",
        b'{"a"',
        b"\x00",
    )
    yield from (b"\xef\xbb\xbf{}", b"\xff\xfe", b"NaN", b"nan", b"{} {}", b'{"a":1,"a":2}', b"\xed\xa0\x80")
    yield from (b"[" * 100_000, b'{"a":' * 100_000, b"[" * 5_000 + b"]" * 5_000, b"9" * 5_000, b"1e999999")
    yield b'{"' + b"k" * 100_000 + b'":1}'
    deep = b"[" * 3_000 + b"]" * 3_000
    for hostile in (b'"\\ud800"', b"NaN", b"1e400", b"-" + b"9" * 5_000, deep, b'"\xff"', b'"a\x00b"'):
        yield good[:-1] + b',"hostile":%b}' % hostile
    yield good[:-1] + b"," + good[1:]  # every member twice
    yield good + b"}"
    yield good[:-1]
    for event in _changed(json.loads(good)):
        yield json.dumps(event).encode()  # surrogates stay escaped


HOSTILE_VALUES: list[Any] = [
    *(None, True, -1, 10**400, "", "CANARY\r\nX-Evil: 1", "\ud800", "x" * 70_000, [], {}, [[{}]])
]


def _changed(event: Any) -> Iterator[Any]:
    """The event with each of its members, at any depth, missing or of another kind."""
    for name in event:
        yield {other: value for other, value in event.items() if other != name}
        for value in HOSTILE_VALUES:
            yield event | {name: value}
        if isinstance(event[name], dict):
            yield from (event | {name: inner} for inner in _changed(event[name]))


@every_sink
def test_a_hostile_event_does_not_fit_or_is_encoded_and_nothing_else_happens(case: Case) -> None:
    sink = case.sink()
    for event in hostile_events(case.event(0, "")):
        sizes = sink.sizes([event])
        unfit = unfit_of(sink, [event])
        assert set(unfit) <= {0}
        if unfit:
            assert sizes is None or sizes[0] == 0
            check_words(unfit[0])
            continue
        assert len(sink.encode([event])) <= bound(sink, [event])
        headers = sink.headers(BATCH_ID, [event])
        assert not [text for pair in headers.items() for text in pair if not text.isascii() or "\n" in text]
        check(sink.interpret(Answer(200, body=b'{"errors":[{"index":0}]}'), [event]), 1)


def check_words(words: str) -> None:
    assert 0 < len(words) <= 500
    assert words.isprintable()
    assert "CANARY" not in words


@every_sink
def test_unfit_names_the_events_that_do_not_fit_and_only_those(case: Case) -> None:
    sink = case.sink()
    for event in hostile_events(case.event(0, "")):
        if unfit_of(sink, [event]) and sink.max_events > 2:
            good = case.event(1, "")
            assert set(unfit_of(sink, [good, event, good, event])) == {1, 3}
