"""Per-event errors in an answer's body: which event, what is wrong, whether to send it again.

APIs differ in the words: a list under ``errors`` (or one of ``_LISTS``), its entries naming the
event by index, by a path such as ``events[3].actionType``, or by its id; ``retryable`` in one
spelling or another. What cannot be traced to an event is counted and left to the caller.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from ingestd.core.verdict import ItemError

_LISTS = ("errors", "unprocessedEntities", "failed", "failures", "rejected", "results", "items")
_INDEX = ("index", "originalRequestIndex", "position", "eventIndex", "i")
_ID = ("eventId", "interactionId", "id")
_PATH = ("field", "path", "loc", "pointer", "fieldName")
_WORDS = ("message", "errorMessage", "error", "reason", "detail", "description", "code")
_RETRY = ("retryable", "isRetryable", "retry", "transient")
_IN_PATH = re.compile(r"(?:^|[.$/\[])(?:events|entities|items|body|\$)?[.\[/]*(\d{1,7})(?:\]|[./]|$)")
_OKAY = {"ok", "success", "accepted", "delivered", "created"}

Ids = Callable[[], Mapping[str, list[int]]]
"""Id -> indices of the batch's events that carry it; made only when an answer names an id."""


def find(body: bytes, count: int, ids: Ids) -> tuple[tuple[ItemError, ...], int]:
    """(errors by event, how many entries could not be traced) of an answer for ``count`` events."""
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
        if not indices:
            unmatched += 1
        for index in indices:
            found[index] = ItemError(index, _words(entry), _retryable(entry))
    return tuple(found[index] for index in sorted(found)), unmatched


def ids_of(events: Sequence[bytes]) -> dict[str, list[int]]:
    """Every id field of every event (``_ID``) with the indices of its events."""
    by_id: dict[str, list[int]] = {}
    for index, event in enumerate(events):
        try:
            fields = _Ids.decode(event)
        except msgspec.DecodeError:
            continue
        for value in (fields.event_id, fields.interaction_id, fields.id):
            if isinstance(value, str | int):
                by_id.setdefault(str(value), []).append(index)
    return by_id


class _IdFields(msgspec.Struct, gc=False, rename="camel"):
    event_id: Any = None
    interaction_id: Any = None
    id: Any = None


_Ids = msgspec.json.Decoder(_IdFields)


def _entries(content: Any) -> list[dict[str, Any]]:
    """The entries that report a failure."""
    lists = [content] if isinstance(content, list) else []
    if isinstance(content, dict):
        lists = [content[name] for name in _LISTS if isinstance(content.get(name), list)][:1]
    return [e for entries in lists for e in entries if isinstance(e, dict) and not _succeeded(e)]


def _succeeded(entry: dict[str, Any]) -> bool:
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
        return next((p for p in path if isinstance(p, int) and not isinstance(p, bool) and p >= 0), None)
    if isinstance(path, str) and len(path) < 500 and (match := _IN_PATH.search(path)):
        return int(match[1])
    return None


def _words(entry: dict[str, Any]) -> str:
    said = [str(entry[name]) for name in (*_PATH, *_WORDS) if isinstance(entry.get(name), str | int)]
    return ": ".join(dict.fromkeys(said))[:300] or "no reason given"


def _retryable(entry: dict[str, Any]) -> bool:
    for name in _RETRY:
        if name in entry:
            return entry[name] is True
    status = entry.get("status", entry.get("statusCode"))
    return isinstance(status, int) and (status in (408, 425, 429) or status >= 500)
