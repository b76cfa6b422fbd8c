"""Keeps a message that is said over and over from flooding the log. Pure: the time is passed in."""

from typing import Generic, NamedTuple, TypeVar

import msgspec

from ingestd.core.regex import regex

T = TypeVar("T")
OTHERS = "\0"
"""The template that all share which no longer fit into the table."""
_NUMBER = regex(r"\d+")


def template(message: str) -> str:
    """What two messages have in common that differ only in their numbers; its first 200 characters."""
    return _NUMBER.sub("0", message[:200])


class Repeated(NamedTuple, Generic[T]):
    """``held`` messages like ``last`` were held back. ``others``: of several templates."""

    last: T
    held: int
    others: bool


class _Spell(msgspec.Struct, Generic[T]):
    since: float
    passed: int
    held: int = 0
    last: T | None = None


class Repeats(Generic[T]):
    """At most ``burst`` messages of one template in ``window_s``; the rest of them become one line.

    No more than ``max_templates`` are distinguished at a time, so that what is written is bounded too:
    ``(max_templates + 1) * (burst + 1)`` lines in each window, whatever is said.
    """

    def __init__(self, *, burst: int = 5, window_s: float = 10.0, max_templates: int = 256) -> None:
        self._burst = burst
        self._window_s = window_s
        self._max_templates = max_templates
        self._spells: dict[str, _Spell[T]] = {}  # the oldest first, and so the first that ends

    def admit(self, key: str, message: T, *, now: float) -> bool:
        """Whether to say it now; if not, it is counted. Ask for ``ended`` first."""
        spell = self._spells.get(key)
        if spell is None and len(self._spells) >= self._max_templates:
            key = OTHERS
            spell = self._spells.get(key)
        if spell is None:
            spell = self._spells[key] = _Spell(now, 0)
        if spell.passed < self._burst:
            spell.passed += 1
            return True
        spell.held += 1
        spell.last = message
        return False

    def ended(self, now: float) -> list[Repeated[T]]:
        """What was held back in windows that are over; ``now`` = infinity: in all of them."""
        done: list[Repeated[T]] = []
        while self._spells:
            key, spell = next(iter(self._spells.items()))
            if now - spell.since < self._window_s:
                break
            del self._spells[key]
            if spell.last is not None:
                done.append(Repeated(spell.last, spell.held, key == OTHERS))
        return done
