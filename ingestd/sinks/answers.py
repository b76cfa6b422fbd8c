"""What a status means, for every sink that does not say otherwise: the table of docs/sinks/answers.md."""

import re
from functools import lru_cache

import msgspec

from ingestd.core import redaction
from ingestd.core.answer import PASSING, Answer
from ingestd.core.verdict import ItemError, Meaning, Verdict
from ingestd.transport.headers import retry_after
from ingestd.transport.token_refusal import speaks_of_token

MAX_WORDS = 500
"""Characters of an answer's body that are kept."""

_CONTROL = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]+"
)  # and what turns text around
_SECRET = re.compile(
    r"(?i)\b(bearer|basic)\s+[a-z0-9._~+/=-]{6,}"
    r"|((?:(?:access|refresh|id)_?token|password|secret|api[_-]?key|authorization)[\\\"']*\s*[:=]\s*)"
    r"(?:\\\"(?:(?!\\\").)*"  # quoted within quotes
    r"|\"(?:[^\"\\]|\\.)*|'[^']*|(?:(?:bearer|basic)\s+)?[^\s\"',;}&]+)"
)
_SECRET_WORDS = ("bearer", "basic", "token", "password", "secret", "key", "authorization")
_IN_PROGRESS = re.compile(
    rb"in.?progress|still (being|processing)|currently|not yet (complete|finished)|pending", re.IGNORECASE
)

_PAGE = re.compile(rb"\s*<(?:!doctype\s+html|html|head|body|title|script|meta)\b|\s*<!--", re.IGNORECASE)
_raw_json = msgspec.json.Decoder(msgspec.Raw).decode
_SLOW_DOWN = frozenset({420, 429, 430, 503})
_NOT_TAKEN = frozenset({420, 421, 423, 425, 429, 430})
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


def words(answer: Answer) -> str:
    """Status and body in one line: cut, control characters out, anything like a credential masked."""
    if answer.status == 0:
        return answer.error
    if answer.unreadable:
        return f"{answer.status} (its body cannot be read: {answer.unreadable})"
    text = answer.body[: MAX_WORDS * 4 + 1].decode("utf-8", "replace")
    if 200 <= answer.status < 300:  # nearly every one, and nobody sees it but in what is redacted then
        return f"{answer.status} {clean(text)[:MAX_WORDS]}".strip()
    return f"{answer.status} {told(text, MAX_WORDS)}".strip()


def told(text: str, most: int) -> str:
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
    if not text.isascii() or _names_a_secret(text.lower()):  # the pattern takes ten times as long
        text = _SECRET.sub(lambda m: (m[1] + " ***") if m[1] else m[2] + "***", text)
    return text.strip()


def _names_a_secret(lower: str) -> bool:
    """Whether ``_SECRET`` may match: each of its alternatives has one of these."""
    return any(word in lower for word in _SECRET_WORDS)


def meaning_of(
    answer: Answer, *, now_wall: float, items: tuple[ItemError, ...] = (), unmatched: int = 0
) -> Verdict:
    """The verdict on an answer; ``items`` are the per-event errors its body names."""
    status, detail = answer.status, words(answer)
    if 200 <= status < 300:
        return Verdict(Meaning.ACCEPTED, detail, items=items, unmatched=unmatched)
    after_s = retry_after_s(answer, now_wall=now_wall)
    if status == 401:
        return Verdict(Meaning.UNAUTHORIZED, detail)
    if status == 403 and speaks_of_token(answer):
        return Verdict(Meaning.PAUSED, detail, about_token=True)
    if status in _FORBIDDEN or 300 <= status < 400:
        return Verdict(Meaning.PAUSED, f"{detail} ({_FORBIDDEN.get(status) or redirect(answer)})")
    if status == 409:
        if _IN_PROGRESS.search(answer.body):
            return Verdict(
                Meaning.RETRY, detail, after_s=after_s if after_s is not None else 1.0, unanswered=True
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
            unanswered=status not in _NOT_TAKEN and not answer.part_sent,
            cut_sending=answer.part_sent,
        )
    if status in (400, 422):
        about_token = not items and speaks_of_token(answer)
        return Verdict(Meaning.REJECTED, detail, items=items, unmatched=unmatched, about_token=about_token)
    return Verdict(Meaning.PERMANENT, detail)


def doubt(answer: Answer, strange: str = "") -> Verdict | None:
    """Of an API that speaks JSON: why an answer that seems to say "taken" is not to be believed, if so.

    Nothing at all is fine, and so is an object or a list, whatever its Content-Type; any other JSON value
    under a Content-Type of JSON. What was cut off may come whole the next time; what else there is, is
    another's answer, and a person has to look. ``strange``: what is wrong with it although it is JSON.
    """
    if answer.truncated:
        words_of_it = f"{answer.status}, but the answer was cut short, or is too long"
        return Verdict(Meaning.RETRY, words_of_it, unanswered=True)
    if answer.unreadable:
        why = f"its answer cannot be read: {answer.unreadable}"
    elif strange and (not answer.body.strip() or _is_json(answer)):
        why = strange
    elif not answer.body.strip() or _is_json(answer):
        return None
    elif _PAGE.match(answer.body):
        why = "it answered with a web page: is this the API?"
    else:
        why = "its answer is not JSON: is this the API?"
    said = told(answer.body[:401].decode("utf-8", "replace"), 100) if not answer.unreadable else ""
    return Verdict(Meaning.PAUSED, f"{answer.status}: {why} {said}".strip(), unanswered=True)


def _is_json(answer: Answer) -> bool:
    try:
        value = bytes(_raw_json(answer.body))
    except (ValueError, RecursionError):
        return False
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    return value[:1] in (b"{", b"[") or kind == "application/json" or kind.endswith("+json")


def retry_after_s(answer: Answer, *, now_wall: float) -> float | None:
    """Its Retry-After, measured from its own Date."""
    value = answer.headers.get("retry-after")
    return retry_after.parse(value, now_wall=now_wall, date=answer.headers.get("date"))


def redirect(answer: Answer) -> str:
    where = told(re.split("[?#]", answer.headers.get("location", ""), maxsplit=1)[0], 100)
    return f"redirects are not followed: check --api or the sink's url; it points to {where or 'nowhere'}"
