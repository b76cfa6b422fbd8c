import json
import time
from typing import Any

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from ingestd.core.reasons import Reason
from ingestd.schemas import interaction
from ingestd.schemas.event_limits import EventLimits, LimitedSchema
from ingestd.schemas.grammar import DEEPEST, opened
from ingestd.schemas.interaction import InteractionSchema
from ingestd.schemas.interaction_model import Interaction
from ingestd.schemas.interaction_refusals import usual_refusal
from ingestd.schemas.key_paths import KeyPaths
from ingestd.schemas.schema import MAX_ERRORS, MAX_MESSAGE, Refusal, from_pydantic
from tests.each import each
from tests.effort import examples
from tests.unit.schemas.broken_events import HOSTILE, SPLICES, broken_by_byte, broken_by_field, encode

VALID: dict[str, Any] = {
    "eventType": "routing.interaction.answer",
    "eventTime": "2026-01-01T10:00:00.123Z",
    "interactionId": "int-001",
    "routingMetadata": {"queueId": "queue-alpha", "skill": "support", "actionType": "ANSWER"},
    "attributes": {"segment": "enterprise", "n": 1, "deep": [{"a": None}]},
    "schemaVersion": 2,
}
KEY = "int-001\0routing.interaction.answer\x002026-01-01T10:00:00.123Z"
SCHEMA = InteractionSchema()
MOST = EventLimits(max_depth=DEEPEST)
DEFAULT = KeyPaths(SCHEMA.default_key)


def changed(**fields: Any) -> bytes:
    return encode({**VALID, **fields})


def without(name: str) -> bytes:
    return encode({k: v for k, v in VALID.items() if k != name})


def spliced(field: str, text: bytes) -> bytes:
    return encode({**VALID, field: "@"}).replace(b'"@"', text)


def refused_field(event: bytes) -> str:
    assert SCHEMA.keys([event]) == [None]
    refusal = SCHEMA.explain(event)
    assert refusal is not None
    return refusal.errors[0].field


def test_the_compiled_pass_accepts_plain_events_and_gives_their_key() -> None:
    events = [changed(), encode(VALID, spaced=False), without("attributes"), changed(extra={"x": [1]})]
    assert SCHEMA.keys(events) == [KEY] * 4
    assert [SCHEMA.explain(event) for event in events] == [None] * 4


def test_it_accepts_text_that_is_not_ascii_escapes_and_other_offsets() -> None:
    event = encode({**VALID, "interactionId": 'é\\"😀'}, ascii_only=False)
    other = changed(eventTime="2026-01-01T10:00:00+02:00")
    assert SCHEMA.keys([event, other]) == [KEY.replace("int-001", 'é\\"😀'), KEY.replace(".123Z", "+02:00")]


@each("name", ["eventType", "eventTime", "interactionId", "routingMetadata", "schemaVersion"])
def test_a_missing_field_is_named(name: str) -> None:
    assert refused_field(without(name)) == name


@each(
    ("field", "value"),
    [
        ("eventType", ""),
        ("eventType", 7),
        ("eventType", None),
        ("eventType", "a\u0000b"),
        ("interactionId", ""),
        ("interactionId", "a\u001f"),
        ("interactionId", "a\u007f"),
        ("interactionId", "a\u0085"),
        ("eventTime", "2026-01-01T10:00:00"),
        ("eventTime", "2026-01-01"),
        ("eventTime", "2026-01-01 10:00Z"),
        ("eventTime", 1_700_000_000),
        ("eventTime", "2026-02-30T10:00:00Z"),
        ("schemaVersion", 0),
        ("schemaVersion", 4),
        ("schemaVersion", 2.0),
        ("schemaVersion", "2"),
        ("schemaVersion", True),
        ("attributes", None),
        ("attributes", []),
        ("attributes", "x"),
        ("routingMetadata", []),
    ],
)
def test_a_wrong_value_is_refused_by_name(field: str, value: Any) -> None:
    assert refused_field(changed(**{field: value})) == field


def test_a_nested_field_is_named_with_what_was_expected_and_found() -> None:
    event = changed(routingMetadata={**VALID["routingMetadata"], "actionType": "answer"})
    refusal = SCHEMA.explain(event)
    assert refusal is not None
    assert refusal.errors == [
        (
            "routingMetadata.actionType",
            "expected 'ANSWER', 'TRANSFER', 'DISCONNECT', 'QUEUE' or 'REQUEUE', found 'answer'",
        )
    ]


@each("splice", [b"NaN", b"Infinity", b"-Infinity", b"[1,]", b'"\\ud800"', b'"\xff"', b"1" * 5000])
def test_what_is_not_json_is_unparsable_wherever_it_stands(splice: bytes) -> None:
    for event in (spliced("attributes", b'{"a":' + splice + b"}"), spliced("extra", splice)):
        assert SCHEMA.keys([event]) == [None]
        refusal = SCHEMA.explain(event)
        assert refusal is not None
        assert refusal.reason is Reason.UNPARSABLE


def test_one_bad_event_does_not_cost_its_neighbours() -> None:
    split = "é".encode()
    half, rest = changed() + split[:1], split[1:] + changed()
    non_utf8 = spliced("extra", b'"\xff"')
    assert SCHEMA.keys([changed(), half, rest, non_utf8, changed()]) == [KEY, None, None, None, KEY]


_NEIGHBOURS = [
    changed(),
    changed(interactionId="int-002", eventTime="2026-01-01T10:00:00+02:00"),
    changed(eventTime="2016-12-31T23:59:60Z"),
    changed(eventTime="2026-01-01 10:00:00Z"),
    changed(eventTime="yesterday"),
    changed(eventTime="2026-01-01T10:00:00+0200"),
    changed(attributes={"text": 'a "quoted" word'}),
    changed(interactionId="a\x7fb"),
    changed(interactionId="a\nb"),
    encode({**VALID, "interactionId": "a\x85b"}, ascii_only=False),
    encode({**VALID, "interactionId": "z\u00fcrich"}, ascii_only=False),
    encode({**VALID, "attributes": {"text": "z\u00fcrich"}}, ascii_only=False),
    changed(schemaVersion=9),
    changed()[:-1],
    spliced("extra", b'"\xc3"'),
    changed(attributes={"a": [{} for _ in range(300)]}),
]


@given(st.lists(st.sampled_from(range(len(_NEIGHBOURS))), max_size=150))
def test_the_key_of_an_event_does_not_depend_on_its_neighbours(chosen: list[int]) -> None:
    alone = [SCHEMA.keys([event])[0] for event in _NEIGHBOURS]
    assert SCHEMA.keys([_NEIGHBOURS[i] for i in chosen]) == [alone[i] for i in chosen]


def test_values_are_shown_short_and_escaped() -> None:
    secret = "personal\x1b[31m " + "data " * 100
    refusal = SCHEMA.explain(changed(eventTime=secret, interactionId="\u202e\0"))
    assert refusal is not None
    for _, message in refusal.errors:
        assert message.isprintable()
        assert len(message) <= MAX_MESSAGE
        assert message.count("data") <= 6


def test_the_number_of_errors_is_bounded() -> None:
    refusal = SCHEMA.explain(b"{}")
    assert refusal is not None
    assert 1 < len(refusal.errors) <= MAX_ERRORS


def test_a_short_event_cannot_be_too_deep() -> None:
    least = encode(
        {
            "eventType": "a",
            "eventTime": "2026-01-01T10:00:00Z",
            "interactionId": "b",
            "routingMetadata": {"queueId": "", "skill": "", "actionType": "QUEUE"},
            "schemaVersion": 1,
        },
        spaced=False,
    )
    levels = 1 + (interaction._DEEP_BYTES - len(least) - len(b',"":')) // 2
    deep = least[:-1] + b',"":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"
    assert len(deep) in {interaction._DEEP_BYTES, interaction._DEEP_BYTES - 1}
    assert SCHEMA.keys([deep]) != [None]
    assert SCHEMA.explain(deep) is None


def assert_included(event: bytes) -> None:
    """Whatever the compiled pass accepts, the model accepts, and the key is the one the paths give."""
    [key] = SCHEMA.keys([event])
    if key is not None:
        assert SCHEMA.explain(event) is None
        assert DEFAULT.of(event) == key
        assert key.count("\0") == 2


@given(broken_by_field(valid=VALID))
@settings(max_examples=examples(100))
def test_inclusion_with_broken_fields(event: bytes) -> None:
    assert_included(event)


@given(broken_by_byte(valid=VALID))
@settings(max_examples=examples(100))
def test_inclusion_with_broken_bytes(event: bytes) -> None:
    assert_included(event)


def said_by_the_model(event: bytes) -> Refusal | None:
    try:
        Interaction.model_validate_json(event)
    except ValidationError as error:
        return from_pydantic(error)
    return None


@given(
    st.one_of(
        broken_by_field(valid=VALID),
        broken_by_byte(valid=VALID),
        st.sampled_from([event for event in HOSTILE if len(event) < 100]),
    )
)
def test_what_is_told_is_what_the_model_says_of_the_whole_event(event: bytes) -> None:
    assume(opened(event) <= DEEPEST)  # what is deeper pydantic calls no JSON, and ``limits`` refuses before
    told, said = SCHEMA.explain(event), said_by_the_model(event)
    assert told == said or (told is not None and told.reason is Reason.UNPARSABLE)
    assert usual_refusal(event, MOST) in (None, said)  # of what is not JSON it says nothing
    assert LimitedSchema(SCHEMA, MOST).explain(event) == told


@each("field", [*VALID, "extra"])
def test_inclusion_with_hostile_values(field: str) -> None:
    for splice in SPLICES:
        assert_included(spliced(field, splice))
        assert_included(spliced("attributes", b'{"a":[' + splice + b"]}"))
        assert_included(
            spliced("extra", b"7").replace(b'"extra": 7', b'"' + field.encode() + b'": ' + splice)
        )


@each("event", HOSTILE, ids=lambda event: repr(event[:12]))
def test_hostile_bytes_are_answered(event: bytes) -> None:
    assert SCHEMA.keys([event]) == [None]
    assert SCHEMA.explain(event) is not None
    assert DEFAULT.of(event) is None


def test_long_runs_of_digits_cost_linear_time() -> None:
    """A search that began anew at every digit would take a hundred times as long for the long runs."""

    def spent(run: int) -> float:
        runs = b",".join([b"1" * run] * (1_000_000 // run))
        event = spliced("attributes", b'{"a":[' + runs + b"]}")
        before = time.process_time()
        assert SCHEMA.keys([event]) == [KEY]
        return time.process_time() - before

    assert min(spent(4_299) for _ in range(3)) < 10 * min(spent(43) for _ in range(3))


def test_the_last_of_two_members_counts_in_key_and_model() -> None:
    event = (
        json.dumps(VALID).encode().replace(b'"interactionId"', b'"interactionId": "first", "interactionId"')
    )
    assert SCHEMA.keys([event]) == [KEY]
    assert DEFAULT.of(event) == KEY
