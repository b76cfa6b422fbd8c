"""What transforms make of events: for ``ingestd routes test``, and ``ingestd test``, which compares it."""

import json
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, NamedTuple

import msgspec

from ingestd.app.letters.correction import differences
from ingestd.config import Settings, load
from ingestd.config.event_tests import EventTest
from ingestd.core.errors import UserError
from ingestd.processing.routes import Routes
from ingestd.processing.routes import compile as compile_routes
from ingestd.processing.transforms.program import Program
from ingestd.processing.validate import Validator
from ingestd.sinks.settings import HttpSinkConfig
from ingestd.wiring.factories import make_validator, patterns_of, sections_of
from ingestd.wiring.transforms import NO_SECRET, make_transforms

WORDS = ("dropped", "failed", "unmatched")
"""What a sink may get instead of an event."""
_read = partial(json.loads, parse_float=Decimal, parse_int=Decimal)


def programs(settings: Settings) -> dict[str, Program]:
    """By sink, of those that have transforms. A hash without a key of its own has another one than in
    service. Raises UserError: which step is wrong, and why."""
    found: dict[str, Program] = {}
    for name, section in sections_of(settings).items():
        limit = max_bytes_of(settings, section)
        program = make_transforms(settings, name, section, secret=NO_SECRET, max_event_bytes=limit)
        if program:
            found[name] = program
    return found


def max_bytes_of(settings: Settings, section: HttpSinkConfig) -> int:
    return section.max_bytes or settings.batch.max_bytes


class Got(NamedTuple):
    """What a sink gets of one event: ``event``, or ``instead`` one of WORDS, and ``why``."""

    event: bytes = b""
    instead: str = ""
    why: str = ""


def got_by(program: Program | None, event: bytes) -> Got:
    """Of a sink that the event goes to."""
    if program is None:
        return Got(event)
    (made,), dropped, failed = program.run([event])
    if dropped:
        return Got(instead="dropped", why="a transform drops it")
    return Got(instead="failed", why=failed[0]) if failed else Got(made)


class TestResult(NamedTuple):
    """``wrong``: what is not as expected, a line each."""

    name: str
    wrong: list[str]


def run_tests(config_file: str | None) -> Iterator[TestResult]:
    """Raises UserError: there are no tests, or one that cannot be made."""
    settings = load(config_file, {})
    if not settings.tests:
        raise UserError(f"there are no [[tests]] in {config_file or 'the configuration'}")
    yield from results_of(settings)


def results_of(settings: Settings) -> Iterator[TestResult]:
    """Of the tests of a configuration. Raises UserError: one that cannot be made."""
    sinks, validator = sections_of(settings), make_validator(settings)
    routes, made = compile_routes(patterns_of(settings)), programs(settings)
    tests = [_checked(number, test, sinks) for number, test in enumerate(settings.tests, 1)]
    for name, event, test in tests:
        yield TestResult(name, [*_wrong(test, event, validator, routes, made)])


def _checked(number: int, test: EventTest, sinks: Mapping[str, object]) -> tuple[str, bytes, EventTest]:
    """Name and event of a test. Raises UserError."""
    where = f"number {number} of tests"
    if unknown := sorted(test.gets.keys() - sinks.keys()):
        raise UserError(f"{where}: gets.{unknown[0]}: there is no such sink that sends: {', '.join(sinks)}")
    if not test.gets and not test.rejected:
        raise UserError(f"{where}: it expects nothing: give rejected, or gets")
    for sink, wanted in test.gets.items():
        if isinstance(wanted, str) and wanted not in WORDS:
            _object(f"{where}: gets.{sink}", wanted.encode(), f", or one of {', '.join(WORDS)}")
    if isinstance(test.event, str):
        return test.name or f"test {number}", test.event.strip().encode(), test
    return test.name or f"test {number}", _as_json(f"{where}: event", test.event), test


def _as_json(where: str, table: Any) -> bytes:
    try:
        return json.dumps(table, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: not JSON: {error}") from None


def _object(where: str, text: bytes, otherwise: str = "") -> None:
    try:
        msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except (ValueError, RecursionError) as error:
        raise UserError(f"{where}: expected a JSON object{otherwise}: {error}") from None


def _wrong(
    test: EventTest, event: bytes, validator: Validator, routes: Routes, made: Mapping[str, Program]
) -> Iterator[str]:
    refusal = validator.check([event]).refused.get(0)
    if refusal is not None:
        if not test.rejected:
            yield f"it is rejected: {refusal.words}"
        elif test.rejected not in refusal.words:
            yield f"it is rejected, but not with {test.rejected!r}: {refusal.words}"
        return
    if test.rejected:
        yield "it is valid, and should be rejected"
    (reached,) = routes.sinks_of([event])
    for sink, wanted in test.gets.items():
        got = got_by(made.get(sink), event) if sink in reached else Got(instead="unmatched", why=_UNMATCHED)
        yield from _compared(sink, wanted, got)


_UNMATCHED = "it does not match its pattern"


def _compared(sink: str, wanted: Any, got: Got) -> Iterator[str]:
    if isinstance(wanted, str) and wanted in WORDS:
        if got.instead != wanted:
            found = f"it is {got.instead}: {got.why}" if got.instead else f"it gets {_text(got.event)}"
            yield f"{sink}: expected {wanted}; {found}"
        return
    if got.instead:
        yield f"{sink}: expected an event; it is {got.instead}: {got.why}"
        return
    expected = wanted.encode() if isinstance(wanted, str) else _as_json(sink, wanted)
    if _read(expected) == _read(got.event):
        return
    for path, before, after in differences(expected, got.event):
        yield f"{sink}: {path.removeprefix('.') or '.'}: expected {_shown(before)}, got {_shown(after)}"


def _shown(value: Any) -> str:
    return "nothing" if value is None else _text(json.dumps(value, ensure_ascii=False).encode())


def _text(event: bytes) -> str:
    text = event.decode(errors="replace")
    return text if len(text) <= 300 else text[:300] + "…"
