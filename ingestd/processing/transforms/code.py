"""Steps that run what a user wrote: a program of jq, or a function of Python over many events.

Both are trusted as code, and neither is bounded in time. What they make is not trusted: see ``checked``.
"""

import importlib
import json
import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec

from ingestd.core.errors import UserError
from ingestd.core.text import cut
from ingestd.processing.transforms.draft import Untransformable
from ingestd.schemas.grammar import DEEPEST, find_refusal, is_deeper

CodeResult = bytes | Untransformable | None
"""What became of an event; None: it is dropped."""
CodeCall = Callable[[Sequence[bytes]], Sequence[CodeResult]]

# a number that a double may not hold to its last digit; some in strings are found, too
_DOUBTFUL = re.compile(rb"\d[\d.]{15}|\d[eE][-+\d]")
_read = partial(json.loads, parse_float=Decimal, parse_int=Decimal)


def checked(text: bytes) -> bytes:
    """An object in JSON, on one line. Raises Untransformable for anything else."""
    if not text.lstrip(b" \t\r\n").startswith(b"{"):
        raise Untransformable("what it makes is not a JSON object")
    if refusal := find_refusal(text):
        raise Untransformable(f"what it makes is not JSON: {refusal.words}")
    if is_deeper(text, DEEPEST):
        raise Untransformable(f"what it makes is nested deeper than {DEEPEST}")
    if b"\n" in text or b"\r" in text:
        text = msgspec.json.format(text, indent=-1)
    return text.strip(b" \t")


def run_jq(program: str) -> CodeCall:
    """Raises UserError where jq is not installed, or does not understand the program."""
    try:
        import jq
    except ImportError:
        raise UserError("jq: it is not installed: pip install 'ingestd[jq]'") from None
    try:
        compiled, identity = jq.compile(program), jq.compile(".")
    except ValueError as error:
        words, _, _ = str(error).removeprefix("jq: ").partition("\n")  # then the program, with a mark
        raise UserError(f"jq: {cut(words.rstrip(':'))}") from None

    def one(event: bytes) -> CodeResult:
        try:
            text = event.decode()
            made, same = compiled.input_text(text).text(), identity.input_text(text).text()
            if made == same:
                return event
            results: list[str] = made.split("\n") if made else []
            if len(results) != 1:
                return Untransformable(f"the program makes {len(results)} values of it") if results else None
            if _DOUBTFUL.search(event) and _read(same) != _read(text):
                return Untransformable("jq cannot keep a number of it as it is")
            return msgspec.json.format(checked(results[0].encode()), indent=-1)
        except Untransformable as error:
            return error
        except (ValueError, ArithmeticError, RecursionError) as error:
            return Untransformable(cut(str(error), 300))

    return lambda events: [one(event) for event in events]


def run_python(spec: str) -> CodeCall:
    """Raises UserError where the function cannot be imported."""
    function = _import(spec)

    def call(events: Sequence[bytes]) -> Sequence[CodeResult]:
        made = function(list(events))
        if not isinstance(made, list | tuple) or len(made) != len(events):
            got = f"{len(made)} for {len(events)}" if isinstance(made, list | tuple) else type(made).__name__
            raise Untransformable(f"{spec} must give one value for each event, in a list; it gave {got}")
        return [_result_of(one, event) for one, event in zip(made, events, strict=True)]

    def work(events: Sequence[bytes]) -> Sequence[CodeResult]:
        try:
            return call(events)
        except (Exception, SystemExit) as error:  # noqa: BLE001, RUF100 - whatever the function raises
            if len(events) == 1:
                return [_failure(spec, error)]
        return [made for event in events for made in work([event])]  # perhaps one alone is the cause

    return work


def _result_of(made: Any, event: bytes) -> CodeResult:
    if made is None or made is event:
        return event if made is event else None
    if isinstance(made, Exception):
        return Untransformable(cut(f"{type(made).__name__}: {made}", 300))
    if not isinstance(made, bytes):
        return Untransformable(f"it must be given as bytes, not as {type(made).__name__}")
    try:
        return checked(made)
    except Untransformable as error:
        return error


def _failure(spec: str, error: BaseException) -> Untransformable:
    if isinstance(error, Untransformable):
        return error
    return Untransformable(cut(f"{spec} raised {type(error).__name__}: {error}", 300))


def _import(spec: str) -> Callable[[list[bytes]], Any]:
    module_name, _, name = spec.partition(":")
    if not module_name or not name:
        raise UserError(f"python = {cut(spec, 100)!r}: write it as module:function")
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # noqa: BLE001, RUF100 - a module may raise anything
        raise UserError(
            f"python = {spec!r}: cannot be imported: {type(error).__name__}: {cut(str(error))}"
        ) from None
    if not callable(found):
        raise UserError(f"python = {spec!r}: it is not a function")
    called: Callable[[list[bytes]], Any] = found
    return called
