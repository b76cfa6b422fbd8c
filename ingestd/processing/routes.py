"""Which events go to which sinks, by EventBridge patterns. Pure. Called by the pipeline for every chunk, and
by ``ingestd routes test``.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from ingestd.core.errors import UserError

if TYPE_CHECKING:
    from ingestd.processing.patterns.exact import JsonValue, Matcher
    from ingestd.processing.patterns.parse import AllOf

_BLOCK = 64
"""Events looked at together: what they are decoded to stays in the processor's cache."""
_UNREADABLE = "it cannot be read as a JSON object"


class RoutedChunk(NamedTuple):
    """``positions``: by sink, ascending; a range where it is all events. ``unmatched``: reach no sink."""

    positions: dict[str, range | list[int]]
    unmatched: list[int]


class Explained(NamedTuple):
    sink: str
    matches: bool
    why: str
    """In words, one line: the clauses that hold, or the first that does not."""


def compile(patterns: Mapping[str, Mapping[str, Any]]) -> "Routes":  # noqa: A001 - as in re.compile
    """By sink its pattern; an empty one takes every event. Raises UserError for a pattern that is wrong."""
    formulas = {}
    for sink, pattern in patterns.items():
        if pattern:
            from ingestd.processing.patterns.parse import parse

            try:
                formulas[sink] = parse(pattern)
            except UserError as error:
                raise UserError(f"sinks.{sink}.when: {error}") from None
    return Routes(list(patterns), formulas)


class Routes:
    """Compiled patterns. ``chooses``: there are some; else each event goes to all sinks. ``open``: sinks
    without one, which get each event.

    An event that cannot be read as JSON reaches only the sinks without a pattern; whether it is valid
    outside the fields that are asked for is not looked at.
    """

    def __init__(self, sinks: Sequence[str], formulas: Mapping[str, "AllOf"]) -> None:
        self._sinks = tuple(sinks)
        self._formulas = dict(formulas)
        self.open = tuple(sink for sink in sinks if sink not in formulas)
        self.chooses = bool(formulas)
        if not formulas:
            return
        from ingestd.processing.patterns import exact, scan

        self._exact = exact
        self._tree = exact.wanted(formulas.values())
        self._quick = scan.build(list(formulas.values()))

    @cached_property
    def _matchers(self) -> "dict[str, Matcher]":
        """For what the quick pass cannot decide: in most processes nothing."""
        return {sink: self._exact.Matcher(formula) for sink, formula in self._formulas.items()}

    def route(self, events: Sequence[bytes]) -> RoutedChunk:
        """Positions of ``events`` by sink. Never raises for what is in an event."""
        everything = range(len(events))
        if not self._formulas:
            return RoutedChunk(dict.fromkeys(self._sinks, everything), [] if self.open else list(everything))
        found, unmatched = self._scan(events)
        positions: dict[str, range | list[int]] = {}
        for sink in self._sinks:
            matched = found.get(sink, everything)
            positions[sink] = everything if len(matched) == len(events) else matched
        return RoutedChunk(positions, [] if self.open else unmatched)

    def sinks_of(self, events: Sequence[bytes]) -> list[list[str]]:
        """For each event the names of the sinks that it goes to."""
        found: list[list[str]] = [[] for _ in events]
        for name, positions in self.route(events).positions.items():
            for position in positions:
                found[position].append(name)
        return found

    def _scan(self, events: Sequence[bytes]) -> tuple[dict[str, list[int]], list[int]]:
        found: dict[str, list[int]] = {sink: [] for sink in self._formulas}
        unmatched: list[int] = []
        matched = [positions.append for positions in found.values()]

        def decide(at: int) -> None:
            value = self._read(events[at])
            hits = [
                sink
                for sink, matcher in self._matchers.items()
                if value is not None and matcher.matches(value)
            ]
            for sink in hits:
                found[sink].append(at)
            if not hits:
                unmatched.append(at)

        if self._quick is None:
            for at in range(len(events)):
                decide(at)
        else:
            decode, scan = self._quick
            for first in range(0, len(events), _BLOCK):
                block = _decode_all(decode, events[first : first + _BLOCK])
                scan(block, first, decide, unmatched.append, matched)
        return found, unmatched

    def _read(self, event: bytes) -> "JsonValue | None":
        try:
            return self._exact.read(event, self._tree)
        except (ValueError, RecursionError):
            return None

    def explain(self, event: bytes) -> list[Explained]:
        """For every sink whether it gets ``event``, and why. Never raises for what is in it."""
        value = self._read(event) if self._formulas else None
        explained = []
        for sink in self._sinks:
            formula = self._formulas.get(sink)
            if formula is None:
                explained.append(Explained(sink, True, "it takes every event"))
            elif value is None:
                explained.append(Explained(sink, False, _UNREADABLE))
            else:
                explained.append(Explained(sink, *self._exact.explain(formula, value)))
        return explained


def _decode_all(decode: Callable[[bytes], Any], events: Sequence[bytes]) -> list[Any]:
    """None where an event cannot be decoded."""
    found: list[Any] = []
    decoded = map(decode, events)
    while len(found) < len(events):
        try:
            found.extend(decoded)  # keeps what it has got when one raises; the next turn goes on behind that
        except (ValueError, RecursionError):
            found.append(None)
    return found
