"""Per-event errors in an answer's body: which event, what is wrong, whether to send it again.

APIs differ in the words: a list under ``errors`` (or another name in ``_FAILURES`` and ``_RESULTS``),
its entries naming the event by index, by a path such as ``events[3].actionType``, or by its id;
``retryable`` in one spelling or another. What cannot be traced to an event is counted and left to the
caller.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec

from ingestd.core.verdict import ItemError
from ingestd.sinks.answers import clean

_FAILURES = ("errors", "unprocessedEntities", "failed", "failures", "rejected")
_RESULTS = ("results", "items")  # may list what was taken, too
_INDEX = ("index", "originalRequestIndex", "position", "eventIndex", "i")
_ID = ("eventId", "interactionId", "id")
_PATH = ("field", "path", "loc", "pointer", "fieldName")
_WORDS = ("message", "errorMessage", "error", "reason", "detail", "description", "code")
_RETRY = ("retryable", "isRetryable", "retry", "transient")
_IN_PATH = re.compile(r"(?:[#$./\[\]'\"]|body|request|events|entities|items)*\b(\d{1,7})(?:[\]./]|$)")
"""The index of the event stands first: ``attributes.tags[2]`` says nothing about event 2."""
_BEFORE_INDEX = ("body", "request", "events", "entities", "items")
_OKAY = {"ok", "success", "accepted", "delivered", "created", "queued", "processed", "duplicate"}
_SAYS = (*_WORDS, "status", "statusCode", "success")

Ids = Callable[[], Mapping[str, list[int]]]
"""Id -> indices of the batch's events that carry it; made only when an answer names an id."""


def find(body: bytes, count: int, ids: Ids, *, shared_ids: bool = True) -> tuple[tuple[ItemError, ...], int]:
    """(errors by event, how many entries could not be traced) of an answer for ``count`` events.

    ``shared_ids``: an id that several events carry names all of them; otherwise none.
    """
    if body.lstrip()[:1] not in (b"{", b"["):
        return (), 0
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return (), 0
    found: dict[int, ItemError] = {}
    unmatched = 0
    for entry in _entries(content):
        indices = _indices(entry, count, ids)
        if not indices or (len(indices) > 1 and not shared_ids):
            unmatched += 1
            continue
        words, again = _words(entry), _retryable(entry)
        for index in indices:
            retryable = again and (index not in found or found[index].retryable)
            found[index] = ItemError(index, words, retryable)
    return tuple(found[index] for index in sorted(found)), unmatched


def ids_of(events: Sequence[bytes]) -> dict[str, list[int]]:
    """Every id field of every event (``_ID``) with the indices of its events."""
    by_id: dict[str, list[int]] = {}
    for index, event in enumerate(events):
        try:
            fields = _Ids.decode(event)
        except (msgspec.DecodeError, RecursionError):
            continue
        values = (fields.event_id, fields.interaction_id, fields.id)
        for name in {str(value) for value in values if isinstance(value, str | int)}:
            by_id.setdefault(name, []).append(index)
    return by_id


class _IdFields(msgspec.Struct, gc=False, rename="camel"):
    event_id: Any = None
    interaction_id: Any = None
    id: Any = None


_Ids = msgspec.json.Decoder(_IdFields)


def _entries(content: Any) -> list[dict[str, Any]]:
    """The entries that report a failure."""
    if isinstance(content, dict):
        for name in (*_FAILURES, *_RESULTS):
            if isinstance(entries := content.get(name), list):
                said = name in _FAILURES
                return [e for e in entries if isinstance(e, dict) and not _succeeded(e, said=said)]
    entries = content if isinstance(content, list) else []
    return [e for e in entries if isinstance(e, dict) and not _succeeded(e, said=False)]


def _succeeded(entry: dict[str, Any], *, said: bool) -> bool:
    """``said``: the list's name says that it has failures only."""
    if not said and not any(name in entry for name in _SAYS):
        return True
    status = entry.get("status", entry.get("statusCode"))
    if isinstance(status, bool) or status is None:
        return entry.get("success") is True
    if isinstance(status, int):
        return 200 <= status < 300
    return isinstance(status, str) and (status.lower() in _OKAY or re.fullmatch(r"2\d\d", status) is not None)


def _indices(entry: dict[str, Any], count: int, ids: Ids) -> list[int]:
    for name in _INDEX:
        index = entry.get(name)
        if isinstance(index, int) and not isinstance(index, bool) and 0 <= index < count:
            return [index]
    for name in _PATH:
        if (index := _index_in_path(entry.get(name))) is not None and index < count:
            return [index]
    for name in _ID:
        value = entry.get(name)
        if isinstance(value, str | int) and (indices := ids().get(str(value))):
            return indices
    inner = entry.get("event")
    return _indices(inner, count, ids) if isinstance(inner, dict) and "event" not in inner else []


def _index_in_path(path: Any) -> int | None:
    if isinstance(path, list):
        index = next((step for step in path if step not in _BEFORE_INDEX), None)
        return index if isinstance(index, int) and not isinstance(index, bool) and index >= 0 else None
    if isinstance(path, str) and len(path) < 500 and (match := _IN_PATH.match(path)):
        return int(match[1])
    return None


def _words(entry: dict[str, Any]) -> str:
    values = map(entry.__getitem__, _speaking(tuple(entry)))
    said = [str(value) for value in values if isinstance(value, (str, int))]
    return clean(": ".join(dict.fromkeys(said))[:2000])[:300] or "no reason given"


@lru_cache(maxsize=8)  # the entries of an answer have the same members, all but a few
def _speaking(names: tuple[str, ...]) -> tuple[str, ...]:
    """Those of an entry's members that go into its words, in their order."""
    return tuple(name for name in (*_PATH, *_WORDS) if name in names)


def _retryable(entry: dict[str, Any]) -> bool:
    for name in _RETRY:
        if name in entry:
            return entry[name] is True
    status = entry.get("status", entry.get("statusCode"))
    return isinstance(status, int) and (status in (408, 425, 429) or status >= 500)
