"""The one redaction: what leaves the process for a person or a file goes through ``redact``.

By value: every secret that the process knows (``hide``), in each spelling in which somebody may quote it. By
place: what stands where credentials stand, as in a URL or behind ``Authorization:``, whether known or not.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from ingestd.core.regex import regex

MASK = "***"
MIN_SECRET_CHARS = 6
"""A shorter secret is not masked by value: it would blot out every second word, and tells itself by that."""
MIN_MASKED_CHARS = 8
"""Of a value that may be a secret, as of a header or in a query."""
MAX_SECRETS, MAX_PASSING = 10_000, 256
"""Of the configuration and its files; of tokens that were fetched. Past it the oldest are forgotten."""
MAX_SECRET_CHARS = 20_000
MAX_TAIL_CHARS = 1_000
MAX_CACHED_CHARS = 2_500
_FEW_HEADS = 64
"""Beginnings of secrets that are quicker looked for one by one."""
_FEW = 600
"""Spellings that are looked for one by one; more of them by their first letters."""

_NAMED = "client_secret|client_assertion|access_token|refresh_token|id_token|webhook_secret|api[_-]?key"
_COMMON = "token|secret|password|passwd"  # also words of prose: only as name=value or in quotes
_VALUE = r"""[^\s"'&,;)}\]\\]+"""
_BEHIND = r"""(?:\\*["']\s*[:=,]|\s*[:=])\s*)(?!\*\*\*)(b?"[^"]*"?|b?'[^']*'?|[^\s,;][^\r\n]*)"""
_PATTERNS = [
    # Authorization: …, 'Authorization': '…', ('authorization', '…')
    ("authorization", rf"((?:proxy-)?authorization{_BEHIND}", r"\1" + MASK),
    # RFC 6750 and RFC 7617; not the words of "a bearer token" or "basic authentication"
    ("bearer", r"\b(bearer)\s+(?=\S{8}|[^\s,]*[0-9_~+/=])[\w.~+/=-]+", r"\1 " + MASK),
    ("basic", r"\b(basic)\s+(?=\S{16}|[^\s,]*[0-9_~+/=])[\w.~+/=-]+", r"\1 " + MASK),
    (
        "secret assertion token api",
        rf"""((?:{_NAMED})(?:\\?["'])?\s*[:=]\s*(?:b?\\?["'])?){_VALUE}""",
        r"\1" + MASK,
    ),
    (
        "secret token passw",
        rf"""((?:{_COMMON})(?:=|\\?["']\s*[:=,]\s*)(?:b?\\?["'])?){_VALUE}""",
        r"\1" + MASK,
    ),
    ("whsec_", r"\b(whsec_)[\w+/=-]+", r"\1" + MASK),  # Standard Webhooks
    ("eyj", r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?", MASK),  # a JSON Web Token (RFC 7519)
    ("@", r"(://[^\s/:@]*:)[^\s/@]+(?=@)", r"\1" + MASK),  # the password of a URL
    (
        "/integrations/webhooks/",
        r"(/integrations/webhooks/)[\w-]{8,}(?=/events)",
        r"\1" + MASK,
    ),  # Genesys Cloud's: who knows it may post
]
"""What of the text such a pattern needs, a pattern, and what stands there then."""
_MORE = [
    ("cookie x-", rf"(\b(?:(?:set-)?cookie|x-[\w-]*(?:key|token|secret|auth)[\w-]*){_BEHIND}", r"\1" + MASK),
    ("@", r"""(://)[^/?#\s"'<>]*@""", r"\1" + MASK + "@"),
    ("?", r"""(://[^\s?#"'<>\\]*)\?[^\s"'<>\\]*[^\s"'<>\\.,:;)\]]""", r"\1?" + MASK),
]
_COMPILED, _PLACES = (
    [(tuple(needs.split()), regex(pattern, re.IGNORECASE), by) for needs, pattern, by in patterns]
    for patterns in (_PATTERNS, _PATTERNS + _MORE)
)
_LIKE_ASCII = "\u0130\u0131\u017f\u212a"
"""Letters that match i, s or k where case does not count; no others beyond ASCII do (tested)."""
_NEEDED = {part for needs, *_ in _PLACES for part in needs}
_SECRET_NAME = regex(rf"(?:{_NAMED}|{_COMMON}|authorization)$", re.IGNORECASE)
_MASKED_URL = r"://\*\*\*@|://\S*\?\*\*\*|://\S*/\*\*\*(?:/events)?$"
_MEDIA_TYPE = regex(r"[a-z]+/[a-z0-9.+*-]+(?:;.*)?", re.ASCII)


_ESCAPED = ("[<>&]", "[<>&'=]", "[<>&'+`]")
"""What the JSON of Go, of Gson and of .NET escapes without need."""
_ENTITIES = ((r"\+", "d"), ("[/=`]", "X"))
"""What .NET and mustache escape in HTML besides."""
_BREAK = regex(r"(?:\\+[nrt]|[\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff])[ \t]*")
"""A line break, also within JSON, with the blanks that begin the next line, and what has no width."""


class Mask:
    """Replaces what looks like a credential, and every string that was registered as one."""

    def __init__(self) -> None:
        self._lasting: dict[str, tuple[str, ...]] = {}
        self._passing: dict[str, tuple[str, ...]] = {}
        self._forms: Counter[str] = Counter()
        self._by_head: dict[str, dict[str, None]] = {}  # copied before a loop: another thread may add
        self._version = 0
        self._listed: tuple[int, tuple[str, ...]] = (0, ())

    def hide(self, secret: str, *, passing: bool = False) -> bool:
        """From now on ``secret`` is masked wherever it stands, in each of its ``spellings``. ``passing``: it
        is one of many to come, as a token. Gives whether that is new.

        Ignored when shorter than MIN_SECRET_CHARS; past MAX_SECRETS (MAX_PASSING) the oldest are forgotten.
        """
        table, most = (self._passing, MAX_PASSING) if passing else (self._lasting, MAX_SECRETS)
        if not MIN_SECRET_CHARS <= len(secret) <= MAX_SECRET_CHARS:
            return False
        if (forms := table.pop(secret, None)) is not None:
            table[secret] = forms  # the youngest again
            return False
        table[secret] = forms = spellings(secret)
        self._count(forms, 1)
        while len(table) > most:
            self._count(table.pop(next(iter(table))), -1)
        self._version += 1
        return True

    def _list(self) -> tuple[str, ...]:
        """All spellings. Another thread may ask, which must not see a list that is older than it thinks."""
        version, listed = self._listed
        if version != self._version:
            version = self._version
            self._listed = version, (listed := tuple(self._forms))
        return listed

    def _count(self, forms: tuple[str, ...], by: int) -> None:
        counts, by_head = self._forms, self._by_head
        for form in forms:
            head = form[:MIN_SECRET_CHARS]
            if form not in counts:
                by_head.setdefault(head, {})[form] = None
            counts[form] += by
            if not counts[form]:
                del counts[form]
                del by_head[head][form]
                if not by_head[head]:
                    del by_head[head]

    def by_value(self, text: str) -> str:
        """Without those that were registered."""
        # longest first: a secret that begins another one must not leave the other one's rest behind
        for form in sorted((form for form in self._near(text) if form in text), key=len, reverse=True):
            text = text.replace(form, MASK)
        if text.isprintable() and "\\" not in text:  # no break is: most texts are done with a glance
            return text
        return self._over_breaks(text) if _BREAK.search(text) else text

    def _over_breaks(self, text: str) -> str:
        """Without those that a receiver wrote over several lines, as base64 in a mail is, or that have
        characters within which nobody sees."""
        joined = _BREAK.sub("", text)
        if not (forms := [form for form in self._near(joined) if form in joined]):
            return text  # as nearly always: where each part stood is asked only where there is one
        import bisect

        starts, at, kept, size = list[int](), 0, list[tuple[int, str]](), 0
        for end, behind in [match.span() for match in _BREAK.finditer(text)] + [(len(text), 0)]:
            if end > at:
                starts.append(size)
                kept.append((at, text[at:end]))
                size += end - at
            at = behind

        def place(index: int) -> int:
            part = bisect.bisect_right(starts, index) - 1
            return kept[part][0] + index - starts[part]

        spans = [
            (place(found.start()), place(found.end() - 1) + 1)
            for form in forms
            for found in re.finditer(re.escape(form), joined)
        ]
        end = len(text) + 1
        for first, last in sorted(spans, key=lambda span: span[::-1], reverse=True):
            if first < end:  # what is left of it, where it overlaps with the one before
                text = text[:first] + MASK + text[min(last, end) :].removeprefix(MASK)
                end = first
        return text

    def _near(self, text: str) -> Sequence[str]:
        """Spellings that may be in ``text``: with a thousand producers it is not asked for each."""
        forms = self._list()
        if len(forms) <= _FEW:
            return forms
        size, by_head = MIN_SECRET_CHARS, self._by_head
        found = dict.fromkeys(
            head for at in range(len(text) - size + 1) if (head := text[at : at + size]) in by_head
        )
        return [form for head in found for form in [*by_head.get(head, ())]]

    def without_cut(self, text: str) -> str:
        """``text``, which was cut there, without the beginning of a secret at its end."""
        size, by_head = MIN_SECRET_CHARS, self._by_head
        if len(by_head) <= _FEW_HEADS and not any(head in text for head in [*by_head]):
            return text[: 1 - size]  # as nearly always, of every answer that refuses something
        for at in range(max(0, len(text) - MAX_TAIL_CHARS), len(text) - size + 1):
            forms = by_head.get(text[at : at + size])
            if forms and any(form.startswith(text[at:]) for form in [*forms]):
                return text[:at]
        return text[: 1 - size]

    def __call__(self, text: str) -> str:
        return _without_places(self.by_value(text), _COMPILED)


def _without_places(text: str, places: Sequence[tuple[tuple[str, ...], re.Pattern[str], str]]) -> str:
    lower = text.lower()
    plain = text.isascii() or not any(letter in text for letter in _LIKE_ASCII)
    if plain and not any(part in lower for part in _NEEDED):
        return text
    for needs, pattern, by in places:
        if not plain or any(part in lower for part in needs):
            text = pattern.sub(by, text)
    return text


def spellings(secret: str) -> tuple[str, ...]:
    """``secret`` as it is, percent-encoded, within JSON or HTML, and within base64 wherever it stands there.
    Each of MIN_SECRET_CHARS at least."""
    data = secret.encode("utf-8", "surrogatepass")
    encoded = {form for before in range(3) for form in _base64(data, before)}
    if secret.isascii() and secret.isalnum():  # written the same everywhere else
        return tuple(form for form in (secret, *sorted(encoded)) if len(form) >= MIN_SECRET_CHARS)
    import html  # its table of names is long
    import json
    from urllib.parse import quote, quote_plus

    percent = {quote(data, safe=safe) for safe in ("", "/", "/:@!$&'()*+,;=-._~")} | {quote_plus(data)}
    percent |= {re.sub("%..", lambda match: match[0].lower(), form) for form in percent}
    percent.add(quote(quote(data, safe=""), safe=""))
    quoted = {json.dumps(secret, ensure_ascii=escaped)[1:-1] for escaped in (True, False)}
    quoted |= {_escaped(form, those, case) for form in quoted for those in _ESCAPED for case in "xX"}
    quoted |= {json.dumps(form, ensure_ascii=False)[1:-1] for form in quoted}
    quoted |= {form.replace("/", "\\/") for form in quoted}
    in_html = {html.escape(secret), html.escape(secret).replace("&#x27;", "&#39;")}
    in_html |= {_entities(form, those, number) for form in in_html for those, number in _ENTITIES}
    forms = dict.fromkeys((secret, *sorted(percent | quoted | encoded | in_html)))
    return tuple(form for form in forms if len(form) >= MIN_SECRET_CHARS)


def _escaped(quoted: str, those: str, case: str) -> str:
    return re.sub(those, lambda match: f"\\u{ord(match[0]):04{case}}", quoted)


def _entities(text: str, those: str, number: str) -> str:
    mark = "x" if number == "X" else ""
    return re.sub(those, lambda match: f"&#{mark}{ord(match[0]):{number}};", text)


def _base64(data: bytes, before: int) -> tuple[str, str]:
    """What all encodings have in common in which so many bytes (of three) stand before ``data``."""
    import base64

    first, last = (before * 8 + 5) // 6, (before + len(data)) * 8 // 6
    padded = b"\0" * before + data
    standard, for_urls = base64.b64encode(padded).decode(), base64.urlsafe_b64encode(padded).decode()
    return standard[first:last], for_urls[first:last]


def is_maskable(value: str) -> bool:
    """Whether a value that may be a secret (of a header, of a query) looks like one: it is long, and no plain
    word, number or media type, which would be masked in every other line."""
    if len(value) < MIN_MASKED_CHARS or _MEDIA_TYPE.fullmatch(value):
        return False
    return not (value.isalpha() and (value.islower() or value.istitle()) and len(value) < 20)


_known = Mask()


def hide(secret: str, *, passing: bool = False) -> None:
    """Never show this string, whatever it stands in. See ``Mask.hide``."""
    if _known.hide(secret, passing=passing):
        _redacted.cache_clear()
        _by_value.cache_clear()


def by_value(text: str) -> str:
    """Without the secrets that are known; what only looks like one stays."""
    return _by_value(text) if len(text) <= MAX_CACHED_CHARS else _known.by_value(text)


def without_cut(text: str) -> str:
    """See ``Mask.without_cut``."""
    return _known.without_cut(text)


def redact(text: str) -> str:
    """``text`` as it may be shown and kept: no known secret, and nothing where secrets stand."""
    return _redacted(text) if len(text) <= MAX_CACHED_CHARS else _redact(text)


def _redact(text: str) -> str:
    return _without_places(_known.by_value(text), _PLACES)


# an API that refuses a thousand events says the same of each
_by_value = lru_cache(maxsize=1024)(lambda text: _known.by_value(text))
_redacted = lru_cache(maxsize=1024)(_redact)


def redact_tree(value: Any) -> Any:
    """Every string in what is to be JSON."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {name: redact_tree(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [redact_tree(inner) for inner in value]
    return value


def is_masked(text: str) -> bool:
    """Whether it is what was printed in the place of a secret, or of a URL that has one."""
    return text == MASK or text.endswith(f" {MASK}") or re.search(_MASKED_URL, text) is not None


def names_a_secret(field: str) -> bool:
    """Whether a field of this name holds one, as ``client_secret`` does."""
    return _SECRET_NAME.search(field) is not None
