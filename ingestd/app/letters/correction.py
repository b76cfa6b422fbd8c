"""``dlq retry --edit-with``: one expression of jq that corrects many letters, and what it changes in each."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from functools import partial
from typing import Any

from ingestd.app.letters.jq_process import DEFAULT_LIMITS, JqLimits, JqProcess

Edit = Callable[[bytes], bytes]
"""Gives a corrected payload. Raises ValueError, in words, where it cannot."""

PayloadDifference = tuple[str, Any, Any]
"""(path, value before, value after); None: it is not there."""

# exact: what jq makes of a number must be the same number
_read = partial(json.loads, parse_float=Decimal, parse_int=Decimal)
_MOST_DIFFERENCES = 20


@contextmanager
def open_edit(expression: str, limits: JqLimits = DEFAULT_LIMITS) -> Iterator[Edit | None]:
    """A correction by an expression of jq; None for an empty one. Raises UserError where jq is not installed,
    or does not understand the expression."""
    if not expression:
        yield None
        return
    with closing(JqProcess(expression, limits)) as process:

        def edit(payload: bytes) -> bytes:
            same, made = process.run(payload)
            if _read(same) != _read(payload):
                raise ValueError("jq cannot keep a number of it as it is: correct it with --edit")
            results = made.split("\n") if made else []  # a text in it may have other ends of lines
            if len(results) != 1:
                raise ValueError(f"the expression makes {len(results)} values of it, and not one")
            return results[0].encode()

        yield edit


def differences(before: bytes, after: bytes) -> list[PayloadDifference]:
    """What was changed, at most so many places of it; in the order of the event."""
    found: list[PayloadDifference] = []
    for one in _walk("", json.loads(before), json.loads(after)):
        found.append(one)
        if len(found) == _MOST_DIFFERENCES:
            break
    return found


def _walk(path: str, before: Any, after: Any) -> Iterator[PayloadDifference]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in dict.fromkeys((*before, *after)):
            yield from _walk(f"{path}.{name}", before.get(name), after.get(name))
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for at, (one, other) in enumerate(zip(before, after, strict=True)):
            yield from _walk(f"{path}[{at}]", one, other)
    elif before != after:
        yield path or ".", before, after
