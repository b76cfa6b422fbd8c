"""Takes secrets out of text before a person or a file sees it. Used by ``log.py`` on every line."""

import re
from urllib.parse import quote

MASK = "***"
MIN_SECRET_CHARS = 4
"""A shorter registered secret is not masked: it would blot out every second word."""
MAX_SECRETS = 10_000

_NAMED = "client_secret|client_assertion|access_token|refresh_token|id_token|webhook_secret|api[_-]?key"
_COMMON = "token|secret|password|passwd"  # also words of prose: only as name=value or in quotes
_VALUE = r"""[^\s"'&,;)}\]\\]+"""
_PATTERNS = [
    # Authorization: …, 'Authorization': '…', ('authorization', '…')
    (
        r"""((?:proxy-)?authorization(?:\\?["']\s*[:=,]|\s*[:=])\s*)(b?"[^"]*"?|b?'[^']*'?|[^\s,;][^\r\n]*)""",
        r"\1" + MASK,
    ),
    # RFC 6750 and RFC 7617; not the words of "a bearer token" or "basic authentication"
    (r"\b(bearer)\s+(?=\S{8}|[^\s,]*[0-9_~+/=])[\w.~+/=-]+", r"\1 " + MASK),
    (r"\b(basic)\s+(?=\S{16}|[^\s,]*[0-9_~+/=])[\w.~+/=-]+", r"\1 " + MASK),
    (rf"""((?:{_NAMED})(?:\\?["'])?\s*[:=]\s*(?:b?\\?["'])?){_VALUE}""", r"\1" + MASK),
    (rf"""((?:{_COMMON})(?:=|\\?["']\s*[:=,]\s*)(?:b?\\?["'])?){_VALUE}""", r"\1" + MASK),
    (r"\b(whsec_)[\w+/=-]+", r"\1" + MASK),  # Standard Webhooks
    (r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?", MASK),  # a JSON Web Token (RFC 7519)
    (r"(://[^\s/:@]*:)[^\s/@]+(?=@)", r"\1" + MASK),  # the password of a URL
]
_COMPILED = [(re.compile(pattern, re.IGNORECASE), by) for pattern, by in _PATTERNS]
_SECRET_NAME = re.compile(rf"(?:{_NAMED}|{_COMMON}|authorization)$", re.IGNORECASE)


class Mask:
    """Replaces what looks like a credential, and every string that was registered as one."""

    def __init__(self) -> None:
        self._secrets: dict[str, None] = {}

    def hide(self, secret: str) -> None:
        """From now on ``secret`` is masked wherever it stands, also percent-encoded.

        Ignored when shorter than MIN_SECRET_CHARS; past MAX_SECRETS the oldest are forgotten.
        """
        for form in (secret, quote(secret, safe="", errors="replace")):
            if len(form) >= MIN_SECRET_CHARS:
                self._secrets.pop(form, None)
                self._secrets[form] = None
        while len(self._secrets) > MAX_SECRETS:
            del self._secrets[next(iter(self._secrets))]

    def __call__(self, text: str) -> str:
        # longest first: a secret that begins another one must not leave the other one's rest behind
        for secret in sorted((s for s in self._secrets if s in text), key=len, reverse=True):
            text = text.replace(secret, MASK)
        for pattern, by in _COMPILED:
            text = pattern.sub(by, text)
        return text


def names_a_secret(field: str) -> bool:
    """Whether a field of this name holds one, as ``client_secret`` does."""
    return _SECRET_NAME.search(field) is not None
