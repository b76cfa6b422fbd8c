"""What an answer means: a status as always, or as a person has set, with what the body says of single events.

Used by the sinks. The table is that of ``docs/sinks/answers.md``; what a body says, ``answer_body.py`` reads.
"""

import functools
import re
from collections.abc import Mapping, Sequence

import msgspec

from ingestd.core.answer import PASSING, Answer
from ingestd.core.regex import regex
from ingestd.core.verdict import ItemError, Meaning, Verdict
from ingestd.sinks import answer_body, event_ids, item_paths
from ingestd.sinks.answer_body import FAILURES, NO, RESULTS, SECRET_WORDS, Found, clean, safe_text
from ingestd.sinks.item_paths import ItemPaths
from ingestd.transport.headers import retry_after
from ingestd.transport.token_refusal import concerns_token

MAX_WORDS = 500
"""Characters of an answer's body that are kept."""

_MEANINGS = {one.name.lower(): one for one in Meaning if one is not Meaning.UNAUTHORIZED}
_IN_PROGRESS = regex(
    rb"in.?progress|still (being|processing)|currently|not yet (complete|finished)|pending", re.IGNORECASE
)

_PAGE = regex(rb"\s*<(?:!doctype\s+html|html|head|body|title|script|meta)\b|\s*<!--", re.IGNORECASE)
_raw_json = msgspec.json.Decoder(msgspec.Raw).decode
_Lists = msgspec.defstruct(
    "_Lists", [(name, msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for name in (*FAILURES, *RESULTS)]
)
_NO_LISTS, _lists_in = _Lists(), msgspec.json.Decoder(_Lists).decode

_SLOW_DOWN = frozenset({420, 429, 430, 503})
_NOT_ACCEPTED = frozenset({420, 421, 423, 425, 429, 430})
"""Of those that come later: the request was not worked on. Of all others nobody knows."""

_FORBIDDEN = {
    401: "the token is not accepted",
    402: "it is about the account: look at its plan and its quota",
    403: "access is denied: check the client's roles and permissions",
    404: "there is no such path: check --api or the sink's url",
    405: "the path does not take POST: check --api or the sink's url",
    406: "the API does not answer in JSON",
    407: "a proxy asks for credentials",
    410: "the API says it is gone for good: check --api or the sink's url",
    411: "the API wants a Content-Length: is a proxy in between?",
    414: "the URL is too long",
    415: "the API does not take this Content-Type",
    426: "the API wants another protocol: check --api or the sink's url",
    431: "the headers are too large",
    451: "the API refuses for legal reasons",
    501: "the API does not know POST",
    505: "the API does not speak HTTP/1.1",
}


class AnswerReader:
    """``on_status``: what a status means where it is not the usual, as "404" -> "permanent" (``Meaning``).

    ``paths``: only these are read then, none of the usual names. ``expect_json``: the API speaks JSON, and
    what is none is not its answer; not for a status in ``on_status``. Whose an error is that names no event,
    is searched for then. ``expect_object``: nor is other JSON than an object. Raises ValueError for other
    words.
    """

    def __init__(
        self,
        on_status: Mapping[str, str] | None = None,
        paths: ItemPaths | None = None,
        *,
        expect_json: bool = False,
        expect_object: bool = False,
    ) -> None:
        self.expect_json = expect_json or expect_object
        self.expect_object = expect_object
        self._on_status: dict[int, Meaning] = {}
        for status, word in (on_status or {}).items():
            if not re.fullmatch(r"[1-5][0-9]{2}", status) or word not in _MEANINGS:
                raise ValueError(f"{status} = {word!r}: expected a status and one of {', '.join(_MEANINGS)}")
            self._on_status[int(status)] = _MEANINGS[word]
        self.paths = paths or None

    def read(self, answer: Answer, events: Sequence[bytes], *, now_wall: float) -> Verdict:
        """The verdict, with what the body says of single events; ``events``: the batch's."""
        found = Found()
        meaning = self.meaning_of(answer.status)
        if len(answer.body) > 2 and meaning in (Meaning.ACCEPTED, Meaning.REJECTED):
            # if none was taken, one by one will tell whom a shared id meant
            found = self.errors(answer.body, events, shared_ids=meaning is Meaning.ACCEPTED)
        if (answer.truncated or answer.unreadable) and meaning is Meaning.ACCEPTED:
            # it may have named events in what was cut off, or cannot be read
            found = found._replace(unmatched=max(1, found.unmatched))
        if not self.expect_json:
            found = found._replace(nameless=None)
        return self.judge(answer, found, now_wall=now_wall, count=len(events))

    def judge(
        self, answer: Answer, found: Found, *, now_wall: float, count: int, strange: str = ""
    ) -> Verdict:
        """``verdict``, where an error that names no event keeps the ``count`` events from being delivered: of
        one it is that one's; several go again as they are, or are sent in halves to find whose it is."""
        items, unmatched, nameless = found
        if self._on_status.get(answer.status) is Meaning.ACCEPTED:
            nameless, strange = None, ""
        refusal: str | None = None
        if not self.expect_json:
            strange = ""
        elif 200 <= answer.status < 300 and not (items or unmatched or nameless or strange or self.paths):
            refusal = _refusal_in(answer.body)
            if refusal and answer.status not in self._on_status:  # as an entry that names no event
                nameless, unmatched = answer_body.nameless_of(answer.body, refusal), 1
        if self.meaning_of(answer.status) is not Meaning.ACCEPTED:
            nameless = None
        if nameless and count == 1:
            items, unmatched = items or (nameless,), 0
        verdict = self.verdict(
            answer, now_wall=now_wall, items=items, unmatched=unmatched, strange=strange, refusal=refusal
        )
        if verdict.meaning is not Meaning.ACCEPTED or not nameless or count == 1:
            return verdict
        dead = any(not item.retryable for item in items)
        if nameless.retryable and not dead:
            after_s = retry_after.of(answer.headers, now_wall=now_wall)
            return Verdict(Meaning.RETRY, verdict.detail, after_s=after_s, ambiguous=True)
        return Verdict(Meaning.REJECTED, verdict.detail, items=items if dead else ())

    def verdict(
        self,
        answer: Answer,
        *,
        now_wall: float,
        items: tuple[ItemError, ...] = (),
        unmatched: int = 0,
        strange: str = "",
        refusal: str | None = None,
    ) -> Verdict:
        """What the status means, by ``on_status`` or else as always; ``items``: errors of single events.
        ``strange``: why it is not the API's answer although it may be JSON. ``refusal``: what its body says
        against all of it; None: that is looked for."""
        usual = meaning_of(answer, now_wall=now_wall, items=items, unmatched=unmatched)
        meaning = self._on_status.get(answer.status)
        if usual.meaning is Meaning.ACCEPTED:
            if (
                meaning is None
                and self.expect_json
                and (doubtful := doubt(answer, strange, only_object=self.expect_object))
            ):
                return doubtful
            if strange:
                unmatched = max(1, unmatched)
                usual = usual.but(unmatched=unmatched)
            if refusal is None and not (items or unmatched or self.paths):
                refusal = _refusal_in(answer.body)
            if refusal and not unmatched and not items:
                usual = usual.but(unmatched=1, unmatched_words=refusal)
        if meaning is None or meaning is usual.meaning:
            return usual
        detail = words(answer)  # without advice for what the status usually means
        if meaning in (Meaning.ACCEPTED, Meaning.REJECTED):
            return Verdict(meaning, detail, items=items, unmatched=unmatched)
        if meaning in (Meaning.RETRY, Meaning.PAUSED):  # sent again: was it, perhaps, taken?
            after_s = retry_after.of(answer.headers, now_wall=now_wall)
            perhaps = usual.ambiguous or usual.meaning is Meaning.ACCEPTED
            return Verdict(meaning, detail, after_s=after_s, ambiguous=perhaps)
        return Verdict(meaning, detail)

    def meaning_of(self, status: int) -> Meaning | None:
        """ACCEPTED or REJECTED where the body may name events; as set, or None."""
        meaning = self._on_status.get(status)
        if meaning is None and 200 <= status < 300:
            return Meaning.ACCEPTED
        if meaning is None and status in (400, 422):
            return Meaning.REJECTED
        return meaning

    def errors(self, body: bytes, events: Sequence[bytes], *, shared_ids: bool) -> Found:
        """The errors that an answer's body names."""
        if self.paths is not None:
            return item_paths.find(body, events, self.paths, shared_ids=shared_ids)
        if _is_object_without_lists(body):  # nearly every one
            return Found()
        ids = functools.cache(lambda: event_ids.ids_of(events))
        return answer_body.find(body, len(events), ids, shared_ids=shared_ids)


DEFAULT = AnswerReader()


def _is_object_without_lists(body: bytes) -> bool:
    """Whether it is a JSON object in which nothing may name events."""
    try:
        return _lists_in(body) == _NO_LISTS
    except (ValueError, RecursionError):
        return False


def _refusal_in(body: bytes) -> str:
    return answer_body.refusal_in(body) if NO.search(body) else ""


def words(answer: Answer) -> str:
    """Status and body in one line: cut, control characters out, anything like a credential masked."""
    if answer.status == 0:
        return answer.error
    if answer.unreadable:
        return f"{answer.status} (its body cannot be read: {answer.unreadable})"
    text = answer.body[: MAX_WORDS * 4 + 1].decode("utf-8", "replace")
    if 200 <= answer.status < 300:  # nearly every one, and nobody sees it but in what is redacted then
        is_clean = (
            text.isprintable() and text.isascii() and not any(map(text.lower().__contains__, SECRET_WORDS))
        )
        return f"{answer.status} {(text.strip() if is_clean else clean(text))[:MAX_WORDS]}".strip()
    return f"{answer.status} {safe_text(text, MAX_WORDS)}".strip()


def meaning_of(
    answer: Answer, *, now_wall: float, items: tuple[ItemError, ...] = (), unmatched: int = 0
) -> Verdict:
    """The verdict on an answer; ``items`` are the per-event errors its body names."""
    status, detail = answer.status, words(answer)
    if 200 <= status < 300:
        return Verdict(Meaning.ACCEPTED, detail, items=items, unmatched=unmatched)
    after_s = retry_after.of(answer.headers, now_wall=now_wall)
    if status == 401:
        return Verdict(Meaning.UNAUTHORIZED, detail)
    if status == 403 and concerns_token(answer):
        return Verdict(Meaning.PAUSED, detail, about_token=True)
    if status in _FORBIDDEN or 300 <= status < 400:
        return Verdict(Meaning.PAUSED, f"{detail} ({_FORBIDDEN.get(status) or redirect(answer)})")
    if status == 409:
        if _IN_PROGRESS.search(answer.body):
            return Verdict(
                Meaning.RETRY, detail, after_s=after_s if after_s is not None else 1.0, ambiguous=True
            )
        return Verdict(Meaning.ACCEPTED, detail)
    if status == 413:
        if after_s is not None:
            return Verdict(Meaning.RETRY, detail, after_s=after_s)
        return Verdict(Meaning.SPLIT, detail)
    if status in PASSING or status >= 500 or status < 200:
        return Verdict(
            Meaning.RETRY,
            detail,
            after_s=after_s,
            slow_down=status in _SLOW_DOWN,
            throttled=status == 429,
            ambiguous=status not in _NOT_ACCEPTED and not answer.part_sent,
            cut_sending=answer.part_sent,
        )
    if status in (400, 422):
        about_token = not items and concerns_token(answer)
        return Verdict(Meaning.REJECTED, detail, items=items, unmatched=unmatched, about_token=about_token)
    return Verdict(Meaning.PERMANENT, detail)


def doubt(answer: Answer, strange: str = "", *, only_object: bool = False) -> Verdict | None:
    """Of an API that speaks JSON: why an answer that seems to say "taken" is not to be believed, if so.

    Nothing at all is fine, and so is an object or a list, whatever its Content-Type; any other JSON value
    under a Content-Type of JSON; with ``only_object`` nothing but an object. What was cut off may come whole
    the next time; what else there is, is another's answer, and a person has to look. ``strange``: what is
    wrong with it although it is JSON.
    """
    if answer.truncated:
        words_of_it = f"{answer.status}, but the answer was cut short, or is too long"
        return Verdict(Meaning.RETRY, words_of_it, ambiguous=True)
    text = answer.body.strip()
    if answer.unreadable:
        why = f": its answer cannot be read: {answer.unreadable}"
    elif not text or _is_json(answer):
        if not strange and (not text or not only_object or text.startswith(b"{")):
            return None
        why = f": {strange or 'it is not the JSON object that the API answers with'}"
    else:
        what = "" if _PAGE.match(answer.body) else ", which is not JSON"
        why = f"{what}: is this the API, or a sign-in page?"
    kind = safe_text(answer.headers.get("content-type", "").partition(";")[0], 60) or "no Content-Type"
    begin = safe_text(answer.body[:401].decode("utf-8", "replace"), 100) if not answer.unreadable else ""
    words_of_it = f"{answer.status} with {kind}{why} {begin}".strip()
    return Verdict(Meaning.PAUSED, words_of_it, ambiguous=True, strange=True)


def _is_json(answer: Answer) -> bool:
    try:
        value = bytes(_raw_json(answer.body))
    except (ValueError, RecursionError):
        return False
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    return value[:1] in (b"{", b"[") or kind == "application/json" or kind.endswith("+json")


def redirect(answer: Answer) -> str:
    where = safe_text(re.split("[?#]", answer.headers.get("location", ""), maxsplit=1)[0], 100)
    return f"redirects are not followed: check --api or the sink's url; it points to {where or 'nowhere'}"
