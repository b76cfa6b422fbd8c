"""All steps for one sink, compiled: what is made of the events on their way to it. Pure, but for code of the
user's.

Called for every chunk that goes to a sink with transforms, by ``intake/transforming.py``; for dead letters
that were not transformed yet; and by ``ingestd routes test`` and ``ingestd test``.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ingestd.core.errors import UserError
from ingestd.core.transform_section import TransformConfig
from ingestd.processing.transforms import fields
from ingestd.processing.transforms.draft import Draft, Untransformable
from ingestd.schemas.grammar import DEEPEST, is_deeper


class Transformed(NamedTuple):
    """``events``: parallel to those that were given; one that nothing changes is the same object. ``dropped``
    and ``failed``: indices, of the latter with why and by which step; what stands there in ``events`` is the
    event as it was given."""

    events: list[bytes]
    dropped: list[int]
    failed: dict[int, str]


class StepSettings(NamedTuple):
    """``place``: as "step 2 of sinks.crm.transforms". ``key``: of a hash."""

    place: str
    section: TransformConfig
    key: bytes


Matches = Callable[[bytes], bool]


class _Step(NamedTuple):
    place: str
    matches: Matches | None
    change: fields.FieldStep | None  # of one event
    work: Any  # of many: see ``code.Work``


def compile_steps(steps: Iterable[StepSettings], *, max_event_bytes: int) -> "Program | None":
    """None where there are none. ``max_event_bytes``: of what is made of an event, the most that the sink
    takes. Raises UserError: which step is wrong, and why."""
    compiled = []
    for place, section, key in steps:
        try:
            matches = _condition(section.when) if section.when else None
            change, work = _action(section, key, max_event_bytes)
        except UserError as error:
            raise UserError(f"{place}: {error}") from None
        compiled.append(_Step(f"{place} ({section.action})", matches, change, work))
    return Program(compiled, max_event_bytes=max_event_bytes) if compiled else None


class Program:
    """``run`` never raises for what is in an event."""

    def __init__(self, steps: Sequence[_Step], *, max_event_bytes: int) -> None:
        self._steps = tuple(steps)
        self._max_event_bytes = max_event_bytes

    def run(self, events: Sequence[bytes]) -> Transformed:
        given = list(events)
        drafts = [Draft(event) for event in given]
        left: list[int] = list(range(len(given)))
        dropped: list[int] = []
        failed: dict[int, str] = {}
        for step in self._steps:
            chosen = left if step.matches is None else _those(left, drafts, step.matches)
            gone: set[int] = set()
            if step.change:
                _change_each(step, chosen, drafts, failed)
            elif step.work:
                gone = _work_together(step, chosen, drafts, failed)
            else:
                gone = set(chosen)
            dropped += sorted(gone)
            if gone or failed:
                left = [index for index in left if index not in gone and index not in failed]
        for index in left:
            text = drafts[index].text()
            if text is not given[index]:
                if why := self._unfit(text):
                    failed[index] = f"{self._steps[-1].place}: {why}"
                else:
                    given[index] = text
        return Transformed(given, sorted(dropped), failed)

    def _unfit(self, text: bytes) -> str:
        """Why no request can have it, or empty."""
        if len(text) > self._max_event_bytes:
            return f"it is {len(text)} bytes long now; a request has room for {self._max_event_bytes}"
        return f"it is nested deeper than {DEEPEST} now" if is_deeper(text, DEEPEST) else ""


def _those(left: Sequence[int], drafts: Sequence[Draft], matches: Matches) -> list[int]:
    return [index for index in left if matches(drafts[index].text())]


def _change_each(step: _Step, chosen: Sequence[int], drafts: Sequence[Draft], failed: dict[int, str]) -> None:
    change = step.change
    assert change is not None
    for index in chosen:
        try:
            change(drafts[index])
        except (ValueError, RecursionError) as error:  # Untransformable is one; others are of broken text
            failed[index] = f"{step.place}: {error}"


def _work_together(
    step: _Step, chosen: Sequence[int], drafts: list[Draft], failed: dict[int, str]
) -> set[int]:
    """Gives those that are dropped."""
    gone: set[int] = set()
    texts = [drafts[index].text() for index in chosen]
    for index, text, made in zip(chosen, texts, step.work(texts) if texts else (), strict=True):
        if made is None:
            gone.add(index)
        elif isinstance(made, Untransformable):
            failed[index] = f"{step.place}: {made}"
        elif made != text:
            drafts[index] = Draft(made)
    return gone


def _condition(pattern: Mapping[str, Any]) -> Matches:
    from ingestd.processing.patterns import exact
    from ingestd.processing.patterns.parse import parse

    try:
        formula = parse(pattern)
    except UserError as error:
        raise UserError(f"when: {error}") from None
    tree, matcher = exact.wanted([formula]), exact.Matcher(formula)

    def matches(event: bytes) -> bool:
        try:
            return matcher.matches(exact.read(event, tree))
        except (ValueError, RecursionError):
            return False

    return matches


def _action(
    section: TransformConfig, key: bytes, max_event_bytes: int
) -> tuple[fields.FieldStep | None, Any]:
    """Of one event, or of many; neither: it is dropped."""
    change: fields.FieldStep | None = None
    if section.keep:
        change = fields.keep(section.keep)
    elif section.remove:
        change = fields.remove(section.remove)
    elif section.rename:
        change = fields.rename(section.rename)
    elif section.set:
        change = fields.set_values(section.set)
    elif section.template:
        change = fields.template(section.template, max_bytes=max_event_bytes)
    elif section.redact and section.method == "mask":
        change = fields.mask(section.redact, section.last)
    elif section.redact:
        change = fields.hash_values(section.redact, key)
    elif not section.drop:
        from ingestd.processing.transforms import code

        return None, code.run_jq(section.jq) if section.jq else code.run_python(section.python)
    return change, None
