"""How a sink understands its API's answers: the usual way, or the way a person has set. Used by the sinks.

``answers.py`` says what a status means, ``item_errors.py`` how the usual bodies name single events.
"""

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import msgspec

from ingestd.core import json_path
from ingestd.core.answer import Answer
from ingestd.core.verdict import ItemError, Meaning, Verdict
from ingestd.sinks import answers, item_errors

_MEANINGS = {one.name.lower(): one for one in Meaning if one is not Meaning.UNAUTHORIZED}
_INDEX = re.compile(r"[0-9]{1,7}", re.ASCII)


@dataclass(frozen=True, slots=True)
class ItemPaths:
    """Where an answer's body says what became of each event, by paths: ``core/json_path.py``.

    ``items``: the list, ``.`` is the body itself; an object there is about all events. In its entries
    ``index`` (from 0) or ``id`` name the event; with neither, entry and event stand at the same place.
    ``event_id``: path of the id in the event; empty: the usual names. ``ok``: true, ok or 2xx where the
    event was taken; without it, every entry is an error. ``retryable``: true where the event may be sent
    again; without it, what a status in ``ok`` says. Raises ValueError for paths without ``items``, and for
    what is no path.
    """

    items: str = ""
    index: str = ""
    id: str = ""
    event_id: str = ""
    message: str = ""
    retryable: str = ""
    ok: str = ""

    def __post_init__(self) -> None:
        given = [field.name for field in fields(self) if getattr(self, field.name)]
        if given and not self.items:
            raise ValueError(f"{given[0]} is given, but not items: where is the list?")
        for name in given:
            try:
                _parsed(getattr(self, name))
            except ValueError as error:
                raise ValueError(f"answers.{name}: {error}") from None

    def __bool__(self) -> bool:
        return bool(self.items)


class AnswerReader:
    """``on_status``: what a status means where it is not the usual, as "404" -> "permanent" (``Meaning``).

    ``paths``: only these are read then, none of the usual names. ``expect_json``: the API speaks JSON, and
    what is none is not its answer; not for a status in ``on_status``. Raises ValueError for other words.
    """

    def __init__(
        self,
        on_status: Mapping[str, str] | None = None,
        paths: ItemPaths | None = None,
        *,
        expect_json: bool = False,
    ) -> None:
        self.expect_json = expect_json
        self._on_status: dict[int, Meaning] = {}
        for status, word in (on_status or {}).items():
            if not re.fullmatch(r"[1-5][0-9]{2}", status) or word not in _MEANINGS:
                raise ValueError(f"{status} = {word!r}: expected a status and one of {', '.join(_MEANINGS)}")
            self._on_status[int(status)] = _MEANINGS[word]
        self.paths = paths or None

    def read(self, answer: Answer, events: Sequence[bytes], *, now_wall: float) -> Verdict:
        """The verdict, with what the body says of single events; ``events``: the batch's."""
        items: tuple[ItemError, ...] = ()
        unmatched = 0
        meaning = self.meaning_of(answer.status)
        if len(answer.body) > 2 and meaning in (Meaning.ACCEPTED, Meaning.REJECTED):
            # if none was taken, one by one will tell whom a shared id meant
            items, unmatched = self.errors(answer.body, events, shared_ids=meaning is Meaning.ACCEPTED)
        if (answer.truncated or answer.unreadable) and meaning is Meaning.ACCEPTED:
            unmatched = max(1, unmatched)  # it may have named events in what was cut off, or cannot be read
        return self.verdict(answer, now_wall=now_wall, items=items, unmatched=unmatched)

    def verdict(
        self,
        answer: Answer,
        *,
        now_wall: float,
        items: tuple[ItemError, ...] = (),
        unmatched: int = 0,
        strange: str = "",
    ) -> Verdict:
        """What the status means, by ``on_status`` or else as always; ``items``: errors of single events.
        ``strange``: why it is not the API's answer although it may be JSON."""
        usual = answers.meaning_of(answer, now_wall=now_wall, items=items, unmatched=unmatched)
        meaning = self._on_status.get(answer.status)
        if usual.meaning is Meaning.ACCEPTED:
            if meaning is None and self.expect_json and (doubt := answers.doubt(answer, strange)):
                return doubt
            if strange:
                unmatched = max(1, unmatched)
                usual = replace(usual, unmatched=unmatched)
            if not (items or unmatched or self.paths) and (said := item_errors.says_no(answer.body)):
                usual = replace(usual, unmatched=1, unmatched_words=said)
        if meaning is None or meaning is usual.meaning:
            return usual
        detail = answers.words(answer)  # without advice for what the status usually means
        if meaning in (Meaning.ACCEPTED, Meaning.REJECTED):
            return Verdict(meaning, detail, items=items, unmatched=unmatched)
        if meaning in (Meaning.RETRY, Meaning.PAUSED):  # sent again: was it, perhaps, taken?
            after_s = answers.retry_after_s(answer, now_wall=now_wall)
            perhaps = usual.unanswered or usual.meaning is Meaning.ACCEPTED
            return Verdict(meaning, detail, after_s=after_s, unanswered=perhaps)
        return Verdict(meaning, detail)

    def meaning_of(self, status: int) -> Meaning | None:
        """ACCEPTED or REJECTED where the body may name events; as set, or None."""
        meaning = self._on_status.get(status)
        if meaning is None and 200 <= status < 300:
            return Meaning.ACCEPTED
        if meaning is None and status in (400, 422):
            return Meaning.REJECTED
        return meaning

    def errors(
        self, body: bytes, events: Sequence[bytes], *, shared_ids: bool
    ) -> tuple[tuple[ItemError, ...], int]:
        """(errors by event, how many could not be traced to one) that an answer's body names."""
        if self.paths is not None:
            return _find(body, events, self.paths, shared_ids=shared_ids)
        ids = functools.cache(lambda: item_errors.ids_of(events))
        return item_errors.find(body, len(events), ids, shared_ids=shared_ids)


DEFAULT = AnswerReader()


def value_at(value: Any, path: str) -> Any:
    """What stands at a path, as the settings have it; None where nothing does. ``.`` is ``value`` itself."""
    return json_path.value_at(value, _parsed(path))


_parsed = functools.lru_cache(maxsize=256)(json_path.parse)


def _find(
    body: bytes, events: Sequence[bytes], paths: ItemPaths, *, shared_ids: bool
) -> tuple[tuple[ItemError, ...], int]:
    try:
        content = item_errors.read_json(body)
    except (ValueError, RecursionError):
        return (), int(item_errors.looks_like_json(body))  # who knows which events it named
    entries = value_at(content, paths.items)
    if isinstance(entries, dict):  # it is about all of them
        return _find_of_all(entries, len(events), paths), 0
    if not isinstance(entries, list):
        return (), 0 if entries is None else 1
    ids = _ids_at(events, paths.event_id) if paths.id else {}
    parallel = len(entries) == len(events)
    found = item_errors.NamedErrors(shared_ids=shared_ids)
    for place, entry in enumerate(entries):
        ok = value_at(entry, paths.ok) if paths.ok else None
        if not _taken(ok):
            indices = _indices(entry, paths, ids, place=place if parallel else None, count=len(events))
            found.add(indices, _words(entry, paths), retryable=_retryable(entry, ok, paths))
    return found.items, found.unmatched


def _find_of_all(entry: dict[str, Any], count: int, paths: ItemPaths) -> tuple[ItemError, ...]:
    ok = value_at(entry, paths.ok) if paths.ok else None
    if _taken(ok):
        return ()
    words, retryable = _words(entry, paths), _retryable(entry, ok, paths)
    return tuple(ItemError(index, words, retryable) for index in range(count))


def _ids_at(events: Sequence[bytes], path: str) -> dict[str, list[int]]:
    if not path:
        return item_errors.ids_of(events)
    by_id: dict[str, list[int]] = {}
    for index, event in enumerate(events):
        try:
            value = value_at(msgspec.json.decode(event), path)
        except (ValueError, RecursionError):
            continue
        if _is_name(value):
            by_id.setdefault(str(value), []).append(index)
    return by_id


def _indices(
    entry: Any, paths: ItemPaths, ids: Mapping[str, list[int]], *, place: int | None, count: int
) -> list[int]:
    if not paths.index and not paths.id:
        return [] if place is None else [place]
    if paths.index:
        index = value_at(entry, paths.index)
        if isinstance(index, str) and _INDEX.fullmatch(index):
            index = int(index)
        if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < count:
            return [index]
    name = value_at(entry, paths.id) if paths.id else None
    return ids.get(str(name), []) if _is_name(name) else []


def _is_name(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _taken(ok: Any) -> bool:
    if isinstance(ok, bool) or ok is None:
        return ok is True
    return item_errors.is_okay(ok)


def _words(entry: Any, paths: ItemPaths) -> str:
    said = value_at(entry, paths.message) if paths.message else None
    return answers.told(str(said), 300) if _is_name(said) and said != "" else "no reason given"


def _retryable(entry: Any, ok: Any, paths: ItemPaths) -> bool:
    if paths.retryable:
        return value_at(entry, paths.retryable) is True
    return item_errors.is_passing(int(ok) if isinstance(ok, str) and _INDEX.fullmatch(ok) else ok)
