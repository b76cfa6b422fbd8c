"""A generator of bodies that are made to cost. Whatever comes out: an answer, in bounded memory and time."""

import json
import time
import tracemalloc
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.core.submission import AcceptedSubmission, Submission
from ingestd.intake.submission_group import SubmissionGroup
from ingestd.processing.dedup import Window
from ingestd.processing.validate import Validator
from ingestd.schemas.load import load
from tests.effort import FUZZ, examples
from tests.integration.intake.support import event
from tests.integration.sources.http.support import Scene, assert_well_formed
from tests.machine import patience

MOST_BYTES = 4_000_000 if FUZZ else 150_000
MAX_EVENTS = 2_000
MAX_EVENT_BYTES = 500_000
KINDS = ["interaction", "cloudevent", "ingestd.schemas.interaction_model:Interaction", "schema.json"]
SCHEMA = {
    "type": "object",
    "required": list("abcdefgh"),
    "additionalProperties": {"anyOf": [{"type": "string"}, {"items": {"type": "integer"}, "type": "array"}]},
}

VALID = event(1, pad=20)
CLOUDEVENT = b'{"specversion":"1.0","id":"1","source":"/s","type":"t","data":1}'
ATOMS = [
    *(b"{}", b"[]", b"1", b"1.5", b'""', b"null", b"-0", b"1e400", b"[[]]", b'{"a":{}}', b"9" * 50),
    *(b'"a,b:[{"', b'"\\ud800"', b'"\\u0041"', b'"\\\\"', b'"\\""', b'"\xff"', b'"\xed\xa0\x80"', b"\0"),
    *(b"\xef\xbb\xbf", b"\x1e", b"NaN", b"tru", b'"', b"[", b"{", b"]", b"}", b'{"a":', b"\\", b","),
    *(b"\n", b" ", '"😀"'.encode(), VALID, CLOUDEVENT, b'{"routingMetadata":{},"eventTime":1}'),
    *(b'"eventTime":[]', b'"k":0', b'"id":"x"', b'"id":{}'),
]

atoms = st.one_of(st.sampled_from(ATOMS), st.binary(max_size=6))
counts = st.one_of(st.integers(1, 5), st.integers(1, MOST_BYTES))


def _grow(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Larger pieces of smaller ones: many of them, side by side, within each other, as members."""
    joined = st.sampled_from([b"", b",", b"\n", b" ", b"\r\n", b":"])
    return st.one_of(
        st.builds(lambda one, gap, count: _many(one + gap, count), inner, joined, counts),
        st.builds(lambda left, right, gap: left + gap + right, inner, inner, joined),
        st.builds(lambda one: b"[" + one + b"]", inner),
        st.builds(lambda one: b'{"a":' + one + b"}", inner),
        st.builds(
            lambda one: VALID.replace(b'"x', b'"\\u0041').replace(b"}}", b'},"x":' + one + b"}"), inner
        ),
        st.builds(lambda one: CLOUDEVENT.replace(b":1}", b":" + one + b"}"), inner),
        st.builds(lambda one, count: _members(one, count), inner, counts),
        st.builds(lambda depth, one: _nested(depth, one), counts, inner),
    )


def _many(one: bytes, count: int) -> bytes:
    return one * min(count, MOST_BYTES // max(1, len(one)))


def _members(one: bytes, count: int) -> bytes:
    count = min(count, MOST_BYTES // (len(one) + 12))
    return b"{" + b",".join(b'"k%x":%b' % (number, one) for number in range(count)) + b"}"


def _nested(depth: int, one: bytes) -> bytes:
    return b"[" * (depth // 2) + one + b"]" * (depth // 2)


bodies = st.recursive(atoms, _grow, max_leaves=5).map(lambda body: body[:MOST_BYTES])
kinds = st.sampled_from(["json", "x-ndjson", "cloudevents+json", "cloudevents-batch+json"])


class Intake:
    """Takes submissions as admission does, without a store."""

    def __init__(self, validator: Validator) -> None:
        self.validator = validator
        self.steps = self.events = 0

    def submit(self, submission: Submission) -> None:
        window = Window(b"secret")
        gathering = SubmissionGroup([submission])
        self.events = len(submission.events)
        for _ in gathering.check(self.validator, window, max_event_bytes=MAX_EVENT_BYTES):
            self.steps += 1
        gathering.claim(window, 0.0, max_bytes=MAX_EVENT_BYTES)
        taken = gathering.result(0)
        assert isinstance(taken, AcceptedSubmission)
        rejected = len(taken.rejected) + taken.unlisted
        assert taken.accepted + taken.duplicates + rejected == len(submission.events) or not taken.stored
        submission.answer(taken)

    def unavailable(self) -> None:
        return None


@pytest.fixture(scope="module")
def validators(tmp_path_factory: pytest.TempPathFactory) -> list[Validator]:
    file = tmp_path_factory.mktemp("schema") / "schema.json"
    file.write_text(json.dumps(SCHEMA))
    return [Validator(load(str(file) if kind == "schema.json" else kind)) for kind in KINDS]


@settings(max_examples=examples(60))
@given(st.data(), bodies, kinds, st.sampled_from(["", "gzip"]), st.sampled_from(["", "?atomic=true"]))
def test_every_body_is_answered_in_bounded_memory_and_time(
    validators: list[Validator], data: st.DataObject, body: bytes, kind: str, coding: str, query: str
) -> None:
    validator = data.draw(st.sampled_from(validators))
    scene = Scene(max_events=MAX_EVENTS, max_body_bytes=MOST_BYTES, max_expansion=100_000)
    intake = Intake(validator)
    scene.endpoint._admission = intake
    sent = zlib.compress(body, wbits=31) if coding else body
    tracemalloc.start()
    began = time.process_time()
    try:
        answer = scene.send(
            sent,
            {"content-type": f"application/{kind}", "content-encoding": coding},
            target="/v1/events" + query,
        )
        took_s, peak_bytes = time.process_time() - began, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer is not None
    assert answer.status in (202, 400, 413, 422)
    assert_well_formed(answer)
    assert len(answer.body) < 300_000
    assert intake.events <= MAX_EVENTS
    # The body, its copy in events, a skeleton of it; of each event what an answer and the window keep; and
    # the values of one event at a time.
    assert peak_bytes < 8 * len(body) + 3_000 * intake.events + 30_000_000
    assert took_s < patience(10 + 20e-6 * len(body))
