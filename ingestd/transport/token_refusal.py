"""Whether an API refuses a request because of its token, and whether a new one may help.

RFC 6750 wants a 401 for that. Gateways with authorizers of their own say 403, and some say 400.
"""

import re

from ingestd.core.answer import Answer
from ingestd.core.regex import regex

_CHALLENGE = regex(r'error\s*=\s*"?(?:invalid|expired)_token', re.IGNORECASE)
_SCOPE = regex(r"insufficient_scope", re.IGNORECASE)
_CODES = regex(
    rb'"(?:error|code|errorCode|error_code|__type|type|reason)"\s*:\s*"(?:[\w.]*#)?'
    rb"(?:(?:invalid|expired)[_.-]?(?:(?:access|auth\w*|security|bearer)[_.-]?)?token|invalid_session_id|(?:access[_.-]?)?token[_.-](?:is[_.-])?"
    rb'(?:expired|invalid|revoked)|expired[_.-]?token\w*|bad[_.-]credentials)"',
    re.IGNORECASE,
)
_WORDS = regex(
    rb"\b(?:token|jwt|credentials?|session|authentication)\b[^{}\"]{0,60}?"
    rb"\b(?:expired|revoked|no longer valid|not valid anymore)"
    rb"|\bexpired\b[^{}\"]{0,30}?\b(?:token|jwt|credentials?)\b"
    rb"|\b(?:invalid|unknown|bad)\b[ _-](?:access|bearer|auth\w*|security)[ _-]?token\b"
    rb"|\b(?:access|bearer|auth\w*|security)[ _-]?token\b[^{}\"]{0,30}?\b(?:invalid|not valid)\b",
    re.IGNORECASE,
)
_WORDS_OF_403 = regex(
    rb"\b(?:invalid|unknown|bad)[ _-](?:token|jwt)\b|\b(?:token|jwt)\b(?: is| was)? (?:invalid|not valid)\b",
    re.IGNORECASE,
)
"""Of a 400 they may be about a token of JSON: each event that is broken would ask for a login."""
_MAX_READ = 4_000

AGAIN_S = 300.0
"""Time after a new token was refused as well until another one is tried."""


def concerns_token(answer: Answer) -> bool:
    """401, and a 403 or 400 that says so: in its challenge, as a code, or in words; not of permissions."""
    if answer.status == 401:
        return True
    if answer.status not in (400, 403):
        return False
    challenge = answer.headers.get("www-authenticate", "")
    if _SCOPE.search(challenge):
        return False
    body = answer.body[:_MAX_READ]
    if _CHALLENGE.search(challenge) or _CODES.search(body) or _WORDS.search(body):
        return True
    return answer.status == 403 and _WORDS_OF_403.search(body) is not None


class TokenRenewal:
    """Whether a token that the API refuses is worth a new one. Pure; time is passed in.

    One new token for each that was good or is the first: refused again, it is not the token's age.
    ``worked``: the last generation with which the API has answered anything else.
    """

    def __init__(self) -> None:
        self._renewed = self.worked = -1
        self._renewed_at = float("-inf")

    def allows(self, generation: int, *, started: float, now: float) -> bool:
        """A request of ``started`` with that generation was refused. True: send it again with a new one."""
        if started < self._renewed_at:
            return True  # it was out when another one heard of it
        fresh_one_refused = self._renewed >= 0 and self.worked <= self._renewed
        if fresh_one_refused and now - self._renewed_at < AGAIN_S:
            return False
        self._renewed, self._renewed_at = generation, now
        return True
