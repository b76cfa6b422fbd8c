"""What an API says when it is asked what became of an event. For the status poller and ``ingestd
publish``."""

import json
from collections.abc import Callable, Sequence
from enum import Enum, auto
from typing import Any
from urllib.parse import quote

import msgspec

from ingestd.core import json_path
from ingestd.core.answer import Answer
from ingestd.core.errors import UserError
from ingestd.transport.headers import retry_after

MAX_ID_CHARS = 512
MAX_WORDS = 500
"""Characters of an answer that are kept."""

_MAX_BODY_BYTES = 256 * 1024
_DETAILS = (
    *("deliveryStatus", "error", "errors", "errorCode", "errorMessage", "failureReason"),
    *("reason", "message", "detail", "details"),
)


class Standing(Enum):
    DELIVERED = auto()
    FAILED = auto()
    PENDING = auto()  # known, and on its way
    NOT_FOUND = auto()  # not known, or not yet
    UNANSWERED = auto()  # nothing was said about the event: ask later


class EventStatus(msgspec.Struct, frozen=True):
    """``words``: the answer for people, cut and without secrets. ``after_s``: its Retry-After in seconds."""

    standing: Standing
    words: str
    after_s: float | None = None


class StatusReader:
    """Reads answers to ``GET …/{id}``.

    ``field``: path of the text that says how the event stands; ``delivered`` and ``failed``: its values that
    are an end, in any case; any other text means: not known yet. ``safe_text(text, most)`` removes control
    characters and secrets from what the API says, and cuts it to ``most`` characters. Raises UserError if
    ``field`` is not a path.
    """

    def __init__(
        self,
        *,
        field: str = "status",
        delivered: Sequence[str] = ("delivered",),
        failed: Sequence[str] = ("failed",),
        safe_text: Callable[[str, int], str],
    ) -> None:
        try:
            self._path = json_path.parse(field)
        except ValueError as error:
            raise UserError(f"confirm.status: {error}") from None
        if not self._path:
            raise UserError("confirm.status: expected the path of a field, like status")
        self._ends = {value.casefold(): Standing.FAILED for value in failed}
        self._ends |= {value.casefold(): Standing.DELIVERED for value in delivered}
        self._safe_text = safe_text

    def read(self, answer: Answer, *, now_wall: float) -> EventStatus:
        """An answer that is not a JSON object, or has a number where the status is expected (an error's body
        has), says nothing about the event."""
        if answer.status in (404, 410):
            return EventStatus(Standing.NOT_FOUND, self._words(answer))
        if 200 <= answer.status < 300:
            body = answer.json_object(max_bytes=_MAX_BODY_BYTES)
            value = json_path.value_at(body, self._path)
            if isinstance(value, str):
                standing = self._ends.get(value.strip().casefold(), Standing.PENDING)
                return EventStatus(standing, self._details(value, body))
        after_s = retry_after.of(answer.headers, now_wall=now_wall)
        return EventStatus(Standing.UNANSWERED, self._words(answer), after_s)

    def _words(self, answer: Answer) -> str:
        if answer.status == 0:
            return answer.error
        text = answer.body[: MAX_WORDS * 4 + 1].decode("utf-8", "replace")
        return f"{answer.status} {self._safe_text(text, MAX_WORDS)}".strip()

    def _details(self, value: str, body: dict[str, Any]) -> str:
        """``status: failed; error: …``: of a body that may be long, what says why."""
        parts = [f"{self._path[-1]}: {value[:100]}"]
        for name in _DETAILS:
            detail = body.get(name)
            if detail and name != self._path[0]:
                text = detail if isinstance(detail, str) else json.dumps(detail, ensure_ascii=False)
                parts.append(f"{name}: {self._safe_text(text, MAX_WORDS)}")
        return self._safe_text("; ".join(parts), MAX_WORDS)


def question_url(template: str, remote_id: str) -> str | None:
    """``template`` with ``{id}`` replaced, quoted so that an id stays one segment of the path (RFC 3986 3.3).

    None for an id that cannot be asked for: one that is empty, too long or no Unicode text, and dots,
    which clients and servers take for a folder whether they are quoted or not.
    """
    if not remote_id or len(remote_id) > MAX_ID_CHARS or remote_id in (".", ".."):
        return None
    try:
        return template.replace("{id}", quote(remote_id, safe=""))
    except UnicodeEncodeError:
        return None
