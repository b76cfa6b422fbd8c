import json
from pathlib import Path
from typing import Any

from ingestd.core.reasons import Reason
from ingestd.processing.validate import Validator
from ingestd.schemas.interaction import InteractionSchema
from ingestd.schemas.json_schema import JsonSchema
from ingestd.schemas.key_paths import KeyPaths, KeyWatch

VALID: dict[str, Any] = {
    "eventType": "answer",
    "eventTime": "2026-01-01T10:00:00Z",
    "interactionId": "int-001",
    "routingMetadata": {"queueId": "q", "skill": "s", "actionType": "ANSWER"},
    "schemaVersion": 2,
}
KEY = "int-001\0answer\x002026-01-01T10:00:00Z"


def event(**fields: Any) -> bytes:
    return json.dumps({**VALID, **fields}).encode()


def test_a_chunk_of_good_and_bad_events() -> None:
    no_id = event(interactionId=None)
    checked = Validator(InteractionSchema()).check([event(), event(schemaVersion=9), b"{", no_id, event()])
    assert checked.keys == [KEY, None, None, None, KEY]
    assert {index: refusal.reason for index, refusal in checked.refused.items()} == {
        1: Reason.INVALID,
        2: Reason.UNPARSABLE,
        3: Reason.INVALID,
    }
    assert checked.refused[1].errors[0].field == "schemaVersion"
    # A broken copy of a delivered event is known by the same key as the event.
    assert checked.refused_keys == {1: KEY}


def test_an_event_that_only_the_full_check_accepts_has_the_same_key_as_its_plain_copy() -> None:
    long = event(attributes={"a": "1" * 5_000})
    assert InteractionSchema().keys([long]) == [None]
    assert Validator(InteractionSchema()).check([long]) == ([KEY], {}, {})


def test_paths_of_the_user_take_the_place_of_the_default_key() -> None:
    validator = Validator(InteractionSchema(), KeyPaths(["routingMetadata.queueId", "schemaVersion"]))
    slow = event(eventTime="2016-12-31T23:59:60Z")
    checked = validator.check([event(), event(schemaVersion=9), event(eventType=""), b"[]", slow])
    assert checked.keys == ["q\0\1=2", None, None, None, "q\0\1=2"]
    assert checked.refused_keys == {1: "q\0\1=9", 2: "q\0\1=2"}


def test_a_valid_event_without_the_users_key_is_valid_without_a_key() -> None:
    checked = Validator(InteractionSchema(), KeyPaths(["orderId"])).check([event(), event(orderId="7")])
    assert checked == (["", "7"], {}, {})


def test_the_events_without_the_users_key_are_counted_once_and_only_valid_ones() -> None:
    watch = KeyWatch("schema.dedup_key", "orderId")
    validator = Validator(InteractionSchema(), KeyPaths(["orderId"]), watch)
    chunk = [
        event(),
        event(orderId="7"),
        event(schemaVersion=9),
        b"{",
        event(orderId=None),
        event(orderId=""),
    ]
    validator.check(chunk)
    validator.check(chunk, again=True)
    assert (watch.events, watch.without, validator.without_key) == (4, 3, 3)
    assert Validator(InteractionSchema()).without_key == 0


def test_a_schema_without_a_key(tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text('{"type": "object"}')
    checked = Validator(JsonSchema(path)).check([b"{}", b"[]"])
    assert checked.keys == ["", None]
    assert list(checked.refused) == [1]
    assert checked.refused_keys == {}
    assert Validator(JsonSchema(path)).key_of(b'{"a": 1}') is None
    assert Validator(JsonSchema(path), KeyPaths(["a"])).check([b'{"a": "x"}', b"{}"]).keys == ["x", ""]


def test_no_events() -> None:
    assert Validator(InteractionSchema()).check([]) == ([], {}, {})
