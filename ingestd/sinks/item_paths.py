"""What became of each event, where a person has set the paths in an answer's body. Used by ``answers.py``."""

import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ingestd.core import json_path
from ingestd.core.regex import regex
from ingestd.core.verdict import ItemError
from ingestd.sinks import answer_body, event_ids
from ingestd.sinks.answer_body import Found, NamedErrors

_INDEX = regex(r"[0-9]{1,7}", re.ASCII)


class ItemPaths(msgspec.Struct, frozen=True):
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
        given = [name for name in self.__struct_fields__ if getattr(self, name)]
        if given and not self.items:
            raise ValueError(f"{given[0]} is given, but not items: where is the list?")
        for name in given:
            try:
                _parsed(getattr(self, name))
            except ValueError as error:
                raise ValueError(f"answers.{name}: {error}") from None

    def __bool__(self) -> bool:
        return bool(self.items)


def value_at(value: Any, path: str) -> Any:
    """What stands at a path, as the settings have it; None where nothing does. ``.`` is ``value`` itself."""
    return json_path.value_at(value, _parsed(path))


_parsed = functools.lru_cache(maxsize=256)(json_path.parse)


def find(body: bytes, events: Sequence[bytes], paths: ItemPaths, *, shared_ids: bool) -> Found:
    try:
        content = answer_body.read_json(body)
    except (ValueError, RecursionError):
        return Found(unmatched=int(answer_body.looks_like_json(body)))  # who knows which events it named
    entries = value_at(content, paths.items)
    if isinstance(entries, dict):  # it is about all of them
        return Found(_find_of_all(entries, len(events), paths))
    if not isinstance(entries, list):
        return Found(unmatched=0 if entries is None else 1)
    ids = _ids_at(events, paths.event_id) if paths.id else {}
    parallel = len(entries) == len(events)
    found = NamedErrors(shared_ids=shared_ids)
    for place, entry in enumerate(entries):
        ok = value_at(entry, paths.ok) if paths.ok else None
        if not _is_accepted(ok):
            indices = _indices(entry, paths, ids, place=place if parallel else None, count=len(events))
            names = bool(indices) or _names_one(entry, paths)
            found.add(indices, _words(entry, paths), retryable=_retryable(entry, ok, paths), names=names)
    return found.result


def _find_of_all(entry: dict[str, Any], count: int, paths: ItemPaths) -> tuple[ItemError, ...]:
    ok = value_at(entry, paths.ok) if paths.ok else None
    if _is_accepted(ok):
        return ()
    words, retryable = _words(entry, paths), _retryable(entry, ok, paths)
    return tuple(ItemError(index, words, retryable) for index in range(count))


def _ids_at(events: Sequence[bytes], path: str) -> dict[str, list[int]]:
    if not path:
        return event_ids.ids_of(events)
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


def _names_one(entry: Any, paths: ItemPaths) -> bool:
    given = [value_at(entry, path) for path in (paths.index, paths.id) if path]
    return any(map(answer_body.has_name, given))


def _is_name(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _is_accepted(ok: Any) -> bool:
    if isinstance(ok, bool) or ok is None:
        return ok is True
    return answer_body.is_okay(ok)


def _words(entry: Any, paths: ItemPaths) -> str:
    text = value_at(entry, paths.message) if paths.message else None
    return answer_body.safe_text(str(text), 300) if _is_name(text) and text != "" else "no reason given"


def _retryable(entry: Any, ok: Any, paths: ItemPaths) -> bool:
    if paths.retryable:
        return value_at(entry, paths.retryable) is True
    return answer_body.is_passing(int(ok) if isinstance(ok, str) and _INDEX.fullmatch(ok) else ok)
