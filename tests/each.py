"""A table of cases as one test: all of them run, and each that fails is told with its values and its cause.

    @each("text, seconds", [("1m", 60), ("2h", 7200)])
    def test_a_duration_has_a_unit(text: str, seconds: int) -> None: ...

As ``pytest.mark.parametrize``, for cases that share nothing: a case costs a call here, and some 5 ms there. A
case that takes ``tmp_path`` gets an empty directory of its own. Several of them are a product.
"""

import functools
import inspect
import traceback
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import pytest

Case = dict[str, Any]
MOST_TOLD, LONGEST = 20, 120  # failures, characters of a value


def each(
    names: str | Sequence[str],
    cases: Iterable[Any],
    ids: object = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """``ids`` are only for those who read: a case is told by its values."""
    words = [name.strip() for name in names.split(",")] if isinstance(names, str) else names
    table = [dict(zip(words, _values(case, len(words)), strict=True)) for case in cases]

    def decorate(test: Callable[..., Any]) -> Callable[..., Any]:
        inner, rows = getattr(test, "_each", (test, [{}]))
        return _loop(test, inner, [{**row, **more} for more, row in product(table, rows)])

    return decorate


def _values(case: Any, count: int) -> Sequence[Any]:
    if hasattr(case, "marks"):  # pytest.param
        assert not case.marks
        return case.values
    return (case,) if count == 1 else case


def _loop(test: Callable[..., Any], inner: Callable[..., Any], cases: list[Case]) -> Callable[..., Any]:
    if inspect.iscoroutinefunction(inner):

        @functools.wraps(test, updated=())
        async def looped(**fixtures: Any) -> None:
            failed: list[str] = []
            for number, case in enumerate(cases):
                with _told(case, failed):
                    await inner(**_own(fixtures, number), **case)
            _judge(failed, len(cases))
    else:

        @functools.wraps(test, updated=())
        def looped(**fixtures: Any) -> None:
            failed: list[str] = []
            for number, case in enumerate(cases):
                with _told(case, failed):
                    inner(**_own(fixtures, number), **case)
            _judge(failed, len(cases))

    found = inspect.signature(inner)
    left = [parameter for name, parameter in found.parameters.items() if name not in cases[0]]
    marks = {"pytestmark": getattr(test, "pytestmark", [])}  # no more: a property within is only called
    vars(looped).update(marks, _each=(inner, cases), __signature__=found.replace(parameters=left))
    return looped


def _own(fixtures: Case, number: int) -> Case:
    path = fixtures.get("tmp_path")
    if not isinstance(path, Path):
        return fixtures
    own = path / f"case{number}"
    own.mkdir()
    return fixtures | {"tmp_path": own}


@contextmanager
def _told(case: Case, failed: list[str]) -> Generator[None]:
    try:
        yield
    except (Exception, pytest.fail.Exception) as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "/tests/" in frame.filename]
        cause = "".join(traceback.format_exception_only(error)).strip()
        failed.append(f"{_shown(case)}\n{frames[-1].filename}:{frames[-1].lineno}: {cause}")
    except BaseException as error:
        error.add_note(f"in the case {_shown(case)}")
        raise


def _shown(case: Case) -> str:
    return ", ".join(f"{name}={value!r:.{LONGEST}}" for name, value in case.items())


def _judge(failed: list[str], count: int) -> None:
    __tracebackhide__ = True
    if failed:
        told = "\n\n".join(failed[:MOST_TOLD])
        raise AssertionError(f"{len(failed)} of {count} cases failed:\n\n{told}")
