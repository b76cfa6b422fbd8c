"""What is written as TOML is read back as the same, and shows no control character."""

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.toml import spell, spell_key

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
SCALARS = st.one_of(
    TEXT, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=10,
)


@given(TEXT, VALUES)
def test_every_key_and_value_is_read_back_as_it_was(name: str, value: Any) -> None:
    text = f"{spell_key(name)} = {spell(value)}"
    assert tomllib.loads(text) == {name: value}
    assert text.replace("\n", "").isprintable()


@given(st.lists(st.text(min_size=20, max_size=30, alphabet="ab"), min_size=6, max_size=9))
def test_a_long_list_has_a_line_for_each_of_its_values(values: list[str]) -> None:
    text = spell(values)
    assert len(text.splitlines()) == len(values) + 2
    assert tomllib.loads(f"x = {text}") == {"x": values}


def test_nothing_is_written_for_what_is_not_set_and_half_a_character_is_replaced() -> None:
    assert spell({"b": 1, "a": None}) == "{b = 1}"
    assert spell("a\ud800") == '"a?"'
