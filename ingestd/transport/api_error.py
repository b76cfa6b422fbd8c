"""What went wrong with a call of the control plane, in one line without secrets. Made by ``api_client.py``.

The shape of error bodies is Genesys Cloud's: ``{message, code, status, contextId, details, errors, limit}``.
"""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from ingestd.core import redaction
from ingestd.core.answer import Answer
from ingestd.core.errors import Unreachable, UserError
from ingestd.transport.client import SecretMask

MAX_WORDS = 300
MAX_READ = 100_000
MAX_NESTED = 20
MAX_DEPTH = 4

_CODE = re.compile(r"[\w.:-]{1,100}", re.ASCII)
_OLD_VERSION = "does not match the current version"


class NestedError(NamedTuple):
    """One of several things that are wrong. ``field``: of the request; empty where it is not said."""

    code: str
    message: str
    field: str = ""


class ApiError(UserError):
    """The API answered, and did not do it.

    ``limit``: ``{key, namespace, value}`` of a limit that was reached, as far as the API says so.
    """

    def __init__(
        self,
        method: str,
        path: str,
        *,
        status: int,
        code: str = "",
        message: str = "",
        context_id: str = "",
        errors: tuple[NestedError, ...] = (),
        limit: Mapping[str, Any] | None = None,
    ) -> None:
        self.method, self.path, self.status = method, path, status
        self.code, self.message, self.context_id = code, message, context_id
        self.errors, self.limit = errors, limit
        if status in (401, 429) or status >= 500:
            self.exit_code = 4
        super().__init__(self._line())

    @property
    def is_not_found(self) -> bool:
        return self.status in (404, 410)

    @property
    def is_version_conflict(self) -> bool:
        """Another client was faster: read it again, and decide again."""
        return not self.is_limit and (
            self.status == 409 or (self.status == 400 and _OLD_VERSION in self.message.lower())
        )

    @property
    def is_limit(self) -> bool:
        """A limit on the number of resources; not a rate, for which one waits."""
        text = f"{self.code} {self.message}".lower()
        return self.status in (400, 403, 409, 422) and bool(self.limit or "limit" in text)

    def _line(self) -> str:
        words = ": ".join(filter(None, (f"{self.status} {self.code}".rstrip(), self.message)))
        new = self._new_errors()
        if nested := "; ".join(": ".join(filter(None, (n.field, n.code, n.message))) for n in new[:3]):
            more = f" and {len(new) - 3} more" if len(new) > 3 else ""
            words += f" ({nested}{more})"
        if self.limit and isinstance(self.limit.get("value"), int):
            words += f" (the limit is {self.limit['value']})"
        if self.context_id:
            words += f" (correlation id {self.context_id})"
        return f"{self.method} {self.path}: {words}"

    def _new_errors(self) -> list[NestedError]:
        """APIs tell the same thing up to three times: in words, by field, and as an error within."""
        messages = " ".join((self.message, *(one.message for one in self.errors)))
        return [
            one
            for one in self.errors
            if (one.message not in self.message if one.message else one.field not in messages)
        ]


class AmbiguousRequest(Unreachable):
    """A POST or PATCH that may have been done or not: never sent again. Look for what it would have made.

    ``error``: what the API answered, if it did.
    """

    def __init__(
        self, method: str, path: str, why: str = "no answer", *, error: ApiError | None = None
    ) -> None:
        self.method, self.path, self.error = method, path, error
        what = str(error) if error else f"{method} {path}: {why}"
        super().__init__(f"{what}: it may have been done or not, look before it is tried again")


def read_error(method: str, path: str, answer: Answer, *, mask: SecretMask) -> ApiError:
    """``mask``: the secrets of the request. A body of another shape is not shown: only its status is
    shown."""
    body = read_object(answer.body) if not answer.truncated else {}
    limit = body.get("limit")
    words = _Words(mask)
    message = words(body.get("message")) or words(body.get("error_description"))
    if 300 <= answer.status <= 399:
        message = "redirects are not followed: is the address of the API right?"
    return ApiError(
        method,
        path,
        status=answer.status,
        code=_code(body.get("code")) or _code(body.get("error")),
        message=message,
        context_id=_code(body.get("contextId")) or correlation_id(answer),
        errors=tuple(islice(_nested(body, words, MAX_DEPTH), MAX_NESTED)),
        limit=_limit(limit, words) if isinstance(limit, dict) else None,
    )


def correlation_id(answer: Answer) -> str:
    """By which the API's people find the request; empty where there is none."""
    return _code(answer.headers.get("inin-correlation-id"))


def read_object(body: bytes) -> dict[str, Any]:
    """An answer's body as an object; empty if it is anything else."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _nested(body: Mapping[str, Any], words: "_Words", depth: int) -> Iterator[NestedError]:
    """``errors`` are bodies of the same shape, ``details`` say which field."""
    for detail in _objects(body.get("details")):
        code, field = _code(detail.get("errorCode")), words(detail.get("fieldName"))
        if code or field:
            yield NestedError(code, words(detail.get("message")), field)
    for error in _objects(body.get("errors")):
        if (message := words(error.get("message"))) or _code(error.get("code")):
            yield NestedError(_code(error.get("code")), message)
        if depth:
            yield from _nested(error, words, depth - 1)


def _objects(found: object) -> list[dict[str, Any]]:
    return [one for one in found[:MAX_NESTED] if isinstance(one, dict)] if isinstance(found, list) else []


def _limit(limit: Mapping[str, Any], words: "_Words") -> dict[str, str | int]:
    found: dict[str, str | int] = {}
    for name in ("key", "namespace"):
        if word := words(limit.get(name)):
            found[name] = word
    value = limit.get("value")
    if isinstance(value, int) and abs(value) < 10**15:
        found["value"] = value
    return found


def _code(value: object) -> str:
    return value if isinstance(value, str) and _CODE.fullmatch(value) else ""


class _Words:
    """What a remote side says, fit to be shown: one line, cut, nothing of ``mask`` or like a credential."""

    def __init__(self, mask: SecretMask) -> None:
        self._mask = mask

    def __call__(self, value: object) -> str:
        if not isinstance(value, str):
            return ""
        # cut only after masking: half a secret would not be known for one
        value = self._mask(value[:MAX_READ].encode(errors="replace")).decode()
        value = redaction.by_value(value)
        line = "".join(c if c.isprintable() else " " for c in value)
        line = " ".join(redaction.redact(line[: 4 * MAX_WORDS]).split())
        return line if len(line) <= MAX_WORDS else f"{line[:MAX_WORDS]}…"
