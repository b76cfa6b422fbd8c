"""A table of cases tells each case that fails, and runs the others."""

import inspect
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.each import each


def test_all_cases_run_and_each_that_fails_is_told_with_values_and_cause(tmp_path: Path) -> None:
    ran: list[tuple[int, str]] = []

    @each(("number", "text"), [(1, "a"), (2, "b"), pytest.param(3, "c", id="third")])
    def table(number: int, text: str, tmp_path: Path) -> None:
        assert list(tmp_path.iterdir()) == []
        (tmp_path / "file").touch()
        ran.append((number, text))
        assert number == 2, "not two"
        raise ValueError("at two")

    assert list(inspect.signature(table).parameters) == ["tmp_path"]
    with pytest.raises(AssertionError) as told:
        table(tmp_path=tmp_path)
    assert ran == [(1, "a"), (2, "b"), (3, "c")]
    first, *causes = str(told.value).split("\n\n")
    assert first == "3 of 3 cases failed:"
    for cause, case, why in zip(
        causes,
        ["number=1, text='a'", "number=2, text='b'", "number=3, text='c'"],
        ["AssertionError: not two", "ValueError: at two", "AssertionError: not two"],
        strict=True,
    ):
        assert cause.startswith(f"{case}\n{__file__}:")
        assert why in cause


def test_several_tables_are_a_product_and_a_property_may_stand_within() -> None:
    ran: set[tuple[int, str]] = set()

    @each("number", [1, 2])
    @each("text", "ab")
    @given(flag=st.booleans())
    def table(number: int, text: str, flag: bool) -> None:
        ran.add((number, text))

    table()
    assert ran == {(1, "a"), (1, "b"), (2, "a"), (2, "b")}


def test_a_pytest_fail_is_one_of_the_failures_and_an_interrupt_names_its_case() -> None:
    @each("number", [1, 2])
    def missed(number: int) -> None:
        with pytest.raises(ValueError, match="never"):
            assert number

    with pytest.raises(AssertionError, match=r"2 of 2 cases failed:\n\nnumber=1\n.*DID NOT RAISE"):
        missed()

    @each("number", [1, 2])
    def stopped(number: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as told:
        stopped()
    assert told.value.__notes__ == ["in the case number=1"]
