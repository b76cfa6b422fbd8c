import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingestd.schemas.event_limits import EventLimits
from ingestd.schemas.grammar import count_values, has_more_elements, is_deeper, opened

strings = st.text('"\\[]{},a', max_size=6)
values = st.recursive(
    st.one_of(st.integers(), strings),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(strings, inner, max_size=4)),
    max_leaves=15,
)


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@given(values, st.integers(0, 6))
def test_depth_is_that_of_the_parsed_value(value: Any, limit: int) -> None:
    event = json.dumps(value).encode()
    assert is_deeper(event, limit) == (depth_of(value) > limit)
    assert opened(event) > limit or not is_deeper(event, limit)


@given(st.lists(values, max_size=40), st.integers(0, 6))
def test_deep_events_are_found_among_others(found: list[Any], limit: int) -> None:
    events = [json.dumps(value).encode() for value in found]
    over = EventLimits(max_depth=limit).over(events)
    assert list(over) == [i for i, one in enumerate(found) if depth_of(one) > limit]


def values_in(value: Any) -> int:
    """Empty arrays and objects count twice."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list):
        return 1
    return 1 + sum(map(values_in, value)) if value else 2


@given(values)
def test_values_are_those_of_the_parsed_value_and_no_more_than_its_bytes(value: Any) -> None:
    event = json.dumps(value).encode()
    assert count_values(event) == values_in(value) <= len(event)


@given(st.lists(values, min_size=1, max_size=8), st.integers(1, 9))
def test_elements_are_those_of_the_parsed_array(value: list[Any], limit: int) -> None:
    assert has_more_elements(json.dumps(value).encode(), limit) == (len(value) > limit)


@given(st.lists(values, min_size=1, max_size=8), st.integers(1, 20), st.integers(0, 8))
def test_strings_that_span_blocks_are_still_strings(value: list[Any], block_bytes: int, limit: int) -> None:
    array = json.dumps(value).encode()
    assert is_deeper(array, limit, block_bytes=block_bytes) == (depth_of(value) > limit)
    more = has_more_elements(array, limit + 1, block_bytes=block_bytes)
    assert more == (len(value) > limit + 1)
