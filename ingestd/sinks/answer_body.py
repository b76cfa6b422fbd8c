"""What an answer's body says: of which events, and in words that are fit to be shown. Used by ``answers.py``.

APIs differ in how they name the events that they refuse: a list under ``errors`` (or another name in
``FAILURES`` and ``RESULTS``), its entries naming the event by index, by a path such as
``events[3].actionType``, or by its id; ``retryable`` in one spelling or another. What cannot be traced to an
event is counted and left to the caller. Where a person has set the paths, ``item_paths.py`` reads them.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec

from ingestd.core import redaction
from ingestd.core.answer import PASSING
from ingestd.core.regex import regex
from ingestd.core.verdict import ItemError
from ingestd.schemas.grammar import is_utf8

_CONTROL = regex(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]+")  # and what turns text around
_SECRET = regex(
    r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{6,}"
    r"|((?:(?:access|refresh|id)_?token|password|secret|api[_-]?key|authorization)[\\\"']*\s*[:=]\s*)"
    r"(?:\\\"(?:(?!\\\").)*"  # quoted within quotes
    r"|\"(?:[^\"\\]|\\.)*|'[^']*|(?:(?:bearer|basic)\s+)?[^\s\"',;}&]+)"
)
SECRET_WORDS = ("bearer", "basic", "token", "password", "secret", "key", "authorization")
"""Where ``_SECRET`` may match there is one of these, in whatever case."""

FAILURES = ("errors", "unprocessedEntities", "failed", "failures", "rejected", "insertErrors")
RESULTS = ("results", "items")  # may list what was taken, too
_INDEX = ("index", "originalRequestIndex", "position", "eventIndex", "i")
_ID = ("eventId", "interactionId", "id")
_PATH = ("field", "path", "loc", "pointer", "fieldName")
_WORDS = ("message", "errorMessage", "error", "reason", "detail", "description", "code")
_RETRY = ("retryable", "isRetryable", "retry", "transient")
_IN_PATH = regex(r"(?:[#$./\[\]'\"]|body|request|events|entities|items)*\b(\d{1,7})(?:[\]./]|$)")
"""The index of the event stands first: ``attributes.tags[2]`` says nothing about event 2."""
_BEFORE_INDEX = ("body", "request", "events", "entities", "items")
_OKAY = {"ok", "success", "accepted", "delivered", "created", "queued", "processed", "duplicate"}
_RESULT_NAMES = (*_WORDS, "status", "statusCode", "success")

_GOOD = {"success", "succeeded", "successful", "ok", "issuccess", "issuccessful", "accepted", "acknowledged"}
_BAD = regex(
    r"(?:is|has|num|total|partial|insert|put|item|batch|record|row|event|entry)*"
    r"(?:errors?|failed|failures?|rejected|dropped)"
    r"(?:count|total|put|item|record|row|event|entry|entries|message|detail|code|log|datapoint|span|s)*"
)
_NOTHING = {"", "0", "false", "no", "none", "null", "n/a", "ok", "success", "no error", "no errors"}
"""Of a member that is about errors: there was none."""
_STATES = {"status", "result", "state", "outcome"}
_NO_STATE = regex(
    r"(?:partial|\w*with_?(?:errors|failures)|(?:\w*_)?(?:errors?|fail|failed|failures?|rejected|refused)"
    r"|denied|invalid|n?ko|nok)(?:_(?:failure|error|success))?"
)
_STATUS = {"status", "statuscode", "code"}
_AROUND = {"result", "response", "meta", "summary", "status", "partialsuccess"}
"""Members in which the answer proper may stand; ``data`` and ``body`` may be what was sent."""
_MAX_AROUND = 3
NO = regex(
    rb'"[\w-]{0,20}(?:succe|ok|accepted|acknowledged)[\w-]{0,20}"\s*+:\s*+(?:false|"(?:false|no)")'
    rb'|"[\w-]{0,20}(?:error|fail|reject|dropped)[\w-]{0,20}"\s*+:\s*+(?:true|[1-9{\[]|-\d|"[^"])'
    rb'|"(?:status|result|state|outcome)"\s*+:\s*+"[^"]{0,40}(?:err|fail|rej|ref|ko|nok|part|den|inv)'
    rb'|"(?:status_?)?(?:code)?"\s*+:\s*+"?[45]\d\d\b',
    re.IGNORECASE,
)
"""Whether ``refusal_in`` may find anything: it costs more."""

IdsOf = Callable[[], Mapping[str, list[int]]]
"""Id -> indices of the batch's events that carry it; made only when an answer names an id."""


EntryError = tuple[str, bool]
"""Words, and whether the event may be sent again."""


class Found(NamedTuple):
    """``items``: errors by event. ``unmatched``: how many could not be traced to one. ``nameless``: what is
    said by those that name none at all, as an error of event 0; retryable if all of them say so.
    """

    items: tuple[ItemError, ...] = ()
    unmatched: int = 0
    nameless: ItemError | None = None


class NamedErrors:
    """The errors of one answer. An event that is named twice may be sent again only if both say so."""

    def __init__(self, *, shared_ids: bool) -> None:
        self._shared_ids = shared_ids
        self.by_index: dict[int, EntryError] = {}
        self._unmatched = 0
        self._nameless: ItemError | None = None

    def add(self, indices: Sequence[int], words: str, *, retryable: bool, names: bool = True) -> None:
        """An entry of the answer's body, and the events that it means. ``names``: it has a name of one, if
        perhaps of none of these."""
        if not indices or (len(indices) > 1 and not self._shared_ids):
            self._unmatched += 1
            if not names and (self._nameless is None or self._nameless.retryable):
                self._nameless = ItemError(0, words, retryable)
            return
        for index in indices:
            earlier = self.by_index.get(index)
            if earlier is None or earlier[1]:  # else that is why the event is lost: keep its words
                self.by_index[index] = words, retryable

    @property
    def result(self) -> Found:
        refusals = self.by_index
        items = tuple([ItemError(index, *refusals[index]) for index in sorted(refusals)])
        return Found(items, self._unmatched, self._nameless)


def safe_text(text: str, most: int) -> str:
    """What a remote side says, fit to be shown and kept: one line, no secret, at most so many characters."""
    known = redaction.by_value(text[: 4 * most])
    if len(text) > 4 * most:  # half a secret would not be known for one
        known = redaction.without_cut(known)
    return redaction.redact(clean(known))[:most]


@lru_cache(maxsize=1024)  # an API that refuses a thousand events says the same of each
def clean(text: str) -> str:
    """Control characters out, anything like a credential masked."""
    if not text.isprintable():
        text = _CONTROL.sub(" ", text)
    if not text.isascii() or any(map(text.lower().__contains__, SECRET_WORDS)):  # the pattern takes ten times
        text = _SECRET.sub(lambda m: (m[1] + " ***") if m[1] else m[2] + "***", text)
    return text.strip()


def find(body: bytes, count: int, ids: IdsOf, *, shared_ids: bool = True) -> Found:
    """The errors in an answer for ``count`` events.

    ``shared_ids``: an id that several events carry names all of them; otherwise none.
    """
    if not looks_like_json(body):
        return Found()
    try:
        content = read_json(body)
    except (ValueError, RecursionError):
        return Found(unmatched=1)  # who knows which events it named
    found = NamedErrors(shared_ids=shared_ids)
    if not isinstance(content, dict):
        _read(content, found, count, ids, failed=False)
    elif not _read_all(content, FAILURES, found, count, ids, failed=True):
        # where a list of failures has any, they would say the same once more, in fewer words
        _read_all(content, RESULTS, found, count, ids, failed=False)
    return found.result


def _read_all(
    content: dict[str, Any], names: Iterable[str], found: NamedErrors, count: int, ids: IdsOf, *, failed: bool
) -> bool:
    """As ``_read``, of several lists."""
    return any([_read(content.get(name), found, count, ids, failed=failed) for name in names])  # noqa: C419 - all


def _read(entries: Any, found: NamedErrors, count: int, ids: IdsOf, *, failed: bool) -> bool:
    """What the entries of a list say; whether any of them reports a failure. ``failed``: the list's name
    says that it has failures only. An API that refuses a thousand events says the same of each."""
    if not isinstance(entries, list):
        return False
    by_index, encode, any_failed = found.by_index, msgspec.json.encode, False
    alike: dict[bytes, EntryError | None] = {}
    for entry in entries:
        if not isinstance(entry, dict):
            if not (failed and isinstance(entry, str) and entry):
                continue
            entry = {"message": entry}
        index = entry.pop("index", None)  # what is left is the same of all
        text = encode(entry)
        if text not in alike:
            alike[text] = _error_of(entry, failed=failed)
        words = alike[text]
        if words is None:
            continue
        any_failed = True
        if type(index) is int and 0 <= index < count:
            if (earlier := by_index.get(index)) is None or earlier[1]:  # as ``add``, of nearly all
                by_index[index] = words
            continue
        if index is not None:
            entry["index"] = index
        indices = _indices(entry, count, ids)
        found.add(indices, words[0], retryable=words[1], names=bool(indices) or _names_one(entry))
    return any_failed


def _error_of(entry: dict[str, Any], *, failed: bool) -> EntryError | None:
    """What an entry says of whatever event it names; None: that it was taken."""
    if _succeeded(entry, failed=failed):
        return None
    words = _words(entry[name] for name in (*_PATH, *_WORDS) if name in entry)
    return words, _retryable(entry)


def read_json(body: bytes) -> Any:
    """An answer's body; a message in another encoding than UTF-8 does not hide what is around it.

    Raises ValueError, RecursionError.
    """
    try:
        return msgspec.json.decode(body)
    except ValueError:  # which one depends on msgspec's version
        if is_utf8(body):
            raise
        return msgspec.json.decode(body.decode("utf-8", "replace"))


def refusal_in(body: bytes) -> str:
    """What an answer's body says against the whole request, as ``"success": false``; empty: nothing.

    For answers in which no event is named: the API did not accept all of them, and did not say which.
    """
    if not NO.search(body):
        return ""
    try:
        content = read_json(body)
    except (ValueError, RecursionError):
        return ""
    return _refusal_in(content, _MAX_AROUND)


def nameless_of(body: bytes, words: str) -> ItemError:
    """What ``refusal_in`` said, as the error of an event that is not named."""
    content = read_json(body)
    return ItemError(0, words, isinstance(content, dict) and _retryable(content))


def _refusal_in(content: Any, deeper: int) -> str:
    if not isinstance(content, dict):
        return ""
    for name, value in content.items():
        plain = name.lower().replace("_", "").replace("-", "")
        if refusal := _no(name, plain, value):
            return refusal
        if deeper and plain in _AROUND and (refusal := _refusal_in(value, deeper - 1)):
            return refusal
    return ""


def _no(name: str, plain: str, value: Any) -> str:
    text = value.strip().lower() if isinstance(value, str) else ""
    if plain in _GOOD and (value is False or text in ("false", "no")):
        return f'"{name}": {str(value).lower()}'
    if _BAD.fullmatch(plain):
        if isinstance(value, list):
            bad = [one for one in value if not isinstance(one, dict) or not _succeeded(one, failed=True)]
            return f'"{name}": […]' if bad else ""
        words = (
            "true" if value is True else str(value)[:20] if isinstance(value, int) or text.isdigit() else "…"
        )
        nothing = text.strip("0") in _NOTHING if isinstance(value, str) else not value
        return "" if nothing else f'"{name}": {words}'
    if plain in _STATES and _NO_STATE.fullmatch(text.replace(" ", "_")[:100]):
        return f'"{name}": "{text}"'
    if plain in _STATUS and not isinstance(value, bool) and re.fullmatch("[45][0-9][0-9]", str(value)[:4]):
        return f'"{name}": {value}'
    return ""


def looks_like_json(body: bytes) -> bool:
    """Whether a body that cannot be read may have named events: a page of HTML has not."""
    return body.lstrip()[:1] in (b"{", b"[")


def _succeeded(entry: dict[str, Any], *, failed: bool) -> bool:
    if not failed and not any(name in entry for name in _RESULT_NAMES):
        return True
    status = entry.get("status", entry.get("statusCode"))
    if isinstance(status, bool) or status is None:
        return entry.get("success") is True
    return is_okay(status)


def is_okay(status: Any) -> bool:
    """Whether a number or a word says that the event was taken."""
    if isinstance(status, int):
        return 200 <= status < 300
    return isinstance(status, str) and (status.lower() in _OKAY or re.fullmatch(r"2\d\d", status) is not None)


def is_passing(status: Any) -> bool:
    """Whether an event that has this status may be sent again."""
    return isinstance(status, int) and (status in PASSING or status >= 500)


def _indices(entry: dict[str, Any], count: int, ids: IdsOf) -> list[int]:
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


def _names_one(entry: dict[str, Any]) -> bool:
    """Whether it says of which event it is, in a name or number that means something to somebody."""
    inner = entry.get("event")
    inner = inner if isinstance(inner, dict) else {}
    return any(has_name(one.get(name)) for one in (entry, inner) for name in (*_INDEX, *_PATH, *_ID))


def has_name(value: Any) -> bool:
    return value is not None and value not in ("", [], {})


def _index_in_path(path: Any) -> int | None:
    if isinstance(path, list):
        index = next((step for step in path if step not in _BEFORE_INDEX), None)
        return index if isinstance(index, int) and not isinstance(index, bool) and index >= 0 else None
    if isinstance(path, str) and len(path) < 500 and (match := _IN_PATH.match(path)):
        return int(match[1])
    return None


def _words(values: Iterable[Any]) -> str:
    words = [
        text for value in values if isinstance(value, (str, int)) and _is_seen(text := str(value).strip())
    ]
    return safe_text(": ".join(dict.fromkeys(words))[:2000], 300) or "no reason given"


def _is_seen(text: str) -> bool:
    """Whether there is anything in it besides blanks, controls and characters without width."""
    return bool(text) and (text.isprintable() or any(map(str.isprintable, text)))


def _retryable(entry: dict[str, Any]) -> bool:
    for name in _RETRY:
        if name in entry:
            return entry[name] is True
    return is_passing(entry.get("status", entry.get("statusCode")))
