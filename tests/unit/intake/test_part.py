"""Each event is of exactly one part, whatever it is, and copies and events of one order key are of one."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.app.parts.settings import order_by, parts_of, settings_of
from ingestd.config import Settings, load
from ingestd.core.chunk import Chunk
from ingestd.core.receipt import Receipt
from ingestd.core.sequences import together
from ingestd.intake.part import Part
from ingestd.processing.validate import Validator
from ingestd.schemas.interaction import InteractionSchema
from ingestd.schemas.key_paths import KeyPaths, KeyWatch
from tests.effort import examples

INVALID = b'{"eventType":"x","eventTime":"yesterday","interactionId":"bad","schemaVersion":9}'


def event(number: int, *, note: str = "") -> bytes:
    return (
        f'{{"eventType":"a","eventTime":"2026-01-01T09:00:00Z","interactionId":"i-{number:06}",'
        '"routingMetadata":{"queueId":"q","skill":"s","actionType":"QUEUE"},'
        f'"attributes":{{"note":"{note}"}},"schemaVersion":1}}'
    ).encode()


LINES = st.one_of(
    st.integers(0, 40).map(event),
    st.integers(0, 40).map(lambda number: event(number, note=f"n{number % 3}")),
    st.integers(0, 5).map(lambda number: event(number).replace(b'"schemaVersion":1', b'"schemaVersion":9')),
    st.just(INVALID),
    st.binary(min_size=1, max_size=30),
    st.integers(0, 5).map(lambda number: b'{"b":%d}' % number),
    st.integers(0, 3).map(lambda number: event(number)[:-9]),
)
VALIDATORS: list[Callable[[], Validator]] = [
    lambda: Validator(InteractionSchema()),
    lambda: Validator(
        InteractionSchema(), KeyPaths(["attributes.note"]), KeyWatch("schema.dedup_key", "attributes.note")
    ),
]


class Taken:
    """What each of ``count`` processes has left of a chunk: by its number (place, event)."""

    def __init__(self, lines: list[bytes], count: int, validator: Validator, order_of: Any) -> None:
        self.parts: list[list[tuple[int, bytes]]] = []
        self.lengths: dict[int, int] = {}
        self.keys: list[str | None] = [None] * len(lines)
        too_long = dict.fromkeys(range(0, len(lines), 5), 10**7)
        for number in range(count):
            open_before = len(lines)
            chunk = Chunk(
                together(list(lines)),
                source=1,
                start=0,
                end=10,
                place=lambda index: (index, index + 1),
                too_long=dict(too_long),
            )
            chunk.receipt = receipt = Receipt(open_before, lambda: None)
            checked = validator.check(chunk.events, again=True)
            checked = Part(number, count, order_of).narrow(chunk, checked, validator.watch)
            assert receipt.open == len(chunk.events) == len(checked.keys)
            places = [chunk.place(index)[0] for index in range(len(chunk.events))]
            self.parts.append([*zip(places, map(bytes, chunk.events), strict=True)])
            for index, length in chunk.too_long.items():
                self.lengths[places[index]] = length
            for index, place in enumerate(places):
                assert (index in checked.refused) == (checked.keys[index] is None)
                self.keys[place] = checked.keys[index] or checked.refused_keys.get(index)
        assert self.lengths == {at: length for at, length in too_long.items() if at < len(lines)}

    @property
    def part_of(self) -> dict[int, int]:
        return {place: number for number, part in enumerate(self.parts) for place, _ in part}


@pytest.mark.parametrize("validator", VALIDATORS)
@pytest.mark.parametrize("order", ["", "attributes.note"])
@settings(max_examples=examples(60), deadline=None)
@given(lines=st.lists(LINES, min_size=1, max_size=60), count=st.integers(2, 7))
def test_each_line_is_of_exactly_one_part(
    validator: Callable[[], Validator], order: str, lines: list[bytes], count: int
) -> None:
    made = validator()
    order_of = KeyPaths.parse(order).of if order else None
    taken = Taken(lines, count, made, order_of)
    assert sorted(one for part in taken.parts for one in part) == list(enumerate(lines))
    assert all(part == sorted(part) for part in taken.parts)
    if made.watch:
        valid = [key for key in made.check(lines, again=True).keys if key is not None]
        assert (made.watch.events, made.watch.without) == (len(valid), valid.count(""))
    together_by: dict[object, set[int]] = {}
    for place, number in taken.part_of.items():
        group: object = order_of(lines[place]) if order_of else None
        together_by.setdefault(group or taken.keys[place] or lines[place], set()).add(number)
    assert all(len(parts) == 1 for parts in together_by.values())


def test_the_parts_of_many_events_are_about_as_large() -> None:
    lines = [event(number) for number in range(4000)]
    for count in (2, 3, 8):
        taken = Taken(lines, count, Validator(InteractionSchema()), None)
        assert all(abs(len(part) - 4000 / count) < 0.2 * 4000 / count for part in taken.parts)


CONFIGURED = """
[delivery]
max_in_flight = 7
order_by = "interactionId"
[sinks.crm]
type = "webhook"
url = "http://127.0.0.1:9/a"
requests_per_minute = 100
events_per_second = 10
[sinks.hooks]
type = "cloudevents"
url = "http://127.0.0.1:9/b"
max_in_flight = 3
confirm = { requests_per_minute = 61, url = "http://127.0.0.1:9/{id}" }
order_by = ""
"""


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_limits_of_all_parts_together_are_those_of_one_process(tmp_path: Any, count: int) -> None:
    (tmp_path / "c.toml").write_text(CONFIGURED)
    whole: Any = load(str(tmp_path / "c.toml"), {}, {})
    parts: list[Any] = [settings_of(whole, number, count, tmp_path / "s") for number in range(count)]
    for name in ("crm", "hooks"):
        for limit in ("requests_per_minute", "events_per_second"):
            total = sum(getattr(part.sinks[name], limit) for part in parts)
            assert total == pytest.approx(getattr(whole.sinks[name], limit))
    assert sum(part.sinks["crm"].max_in_flight for part in parts) == 7
    assert sum(part.sinks["hooks"].max_in_flight for part in parts) == 3
    assert sum(part.delivery.max_in_flight for part in parts) == 7
    assert sum(part.sinks["hooks"].confirm.requests_per_minute for part in parts) == 61
    assert sum(part.delivery.min_retries_per_second for part in parts) == pytest.approx(1.0)
    assert order_by(whole) == "interactionId"
    assert parts_of(whole, (), 2).split["order_by"] == "interactionId"


def test_a_limit_that_is_not_set_is_set_for_no_part(tmp_path: Any) -> None:
    found = settings_of(Settings(), 1, 2, tmp_path)
    assert (found.sinks, found.delivery.max_in_flight, found.metrics.port) == ({}, 2, None)
