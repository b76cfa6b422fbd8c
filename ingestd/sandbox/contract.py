"""The wire contract, strictly: what a good batch is, and the exact answers to good and bad ones.

Pure functions from bytes to ``Reply``; called by the endpoints of ``sandbox/``.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from ingestd.schemas.schema import FieldError, Schema

MAX_ITEM_ERRORS = 1_000
"""Errors listed in one answer. Checking stops there, so that a hostile batch costs little."""

MAX_ECHO = 255
"""Characters of a client's header or id that an answer repeats."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer before it is one."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


class RequestRefused(Exception):
    """The request ends here, with ``reply``."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.status)
        self.reply = reply


class ContractError(msgspec.Struct, frozen=True, rename="camel"):
    """Why one event of a batch was not taken, as the answer's ``errors`` list it."""

    index: int
    event_id: str | None
    field: str
    message: str
    retryable: bool


class ErrorDetail(msgspec.Struct, frozen=True, rename="camel"):
    """One entry of ``details`` in the platform's ErrorBody."""

    error_code: str
    field_name: str
    entity_id: str | None = None
    entity_name: str | None = None


class _Ids(msgspec.Struct, gc=False, rename="camel"):
    interaction_id: Any = None
    id: Any = None


class _Body(msgspec.Struct):
    events: list[msgspec.Raw]


_BODY = msgspec.json.Decoder(_Body)
_IDS = msgspec.json.Decoder(_Ids)


def error(
    status: int,
    code: str,
    message: str,
    context: str,
    *,
    errors: Sequence[ContractError] = (),
    details: Sequence[ErrorDetail] = (),
    headers: dict[str, str] | None = None,
) -> Reply:
    """An answer in the shape of the platform's ErrorBody; ``context`` equals ``ININ-Correlation-Id``."""
    content = {
        "message": message,
        "code": code,
        "status": status,
        "contextId": context,
        "details": details,
        "errors": errors,
    }
    return Reply(status, msgspec.json.encode(content), headers or {})


def rate_limited(wait_s: int, context: str, *, retry_after: str | None = None) -> Reply:
    """The platform's 429, word for word (its rate limit documentation, 2021-11-10).

    ``retry_after``: the header's value where it shall not be the truth.
    """
    return error(
        429,
        "too.many.requests.retry.after",
        f"Rate limit exceeded the maximum. Retry the request in [{wait_s}] seconds",
        context,
        headers={"Retry-After": str(wait_s) if retry_after is None else retry_after},
    )


def accepted(count: int, request_id: str, *, errors: Sequence[ContractError] = ()) -> Reply:
    """200 for ``count`` events taken; ``errors`` name those of the batch that were not."""
    # A header may hold bytes that are not UTF-8; they arrive as lone surrogates, which JSON cannot say.
    echo = request_id[:MAX_ECHO].encode("utf-8", "replace").decode()
    content: dict[str, object] = {"status": "accepted", "accepted": count, "requestId": echo}
    if errors:
        content["errors"] = errors
    return Reply(200, msgspec.json.encode(content))


def read_events(body: bytes, context: str) -> list[bytes]:
    """The events of ``{"events":[…]}``, each byte for byte as it came. Raises Refused (400)."""
    try:
        raws = _BODY.decode(body).events
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as reason:
        message = f'expected {{"events":[…]}} in JSON: {str(reason)[:200]}'
        raise RequestRefused(error(400, "bad.request", message, context)) from None
    if not raws:
        raise RequestRefused(error(400, "bad.request", "the list of events is empty", context))
    return [bytes(raw) for raw in raws]


def find_invalid(events: Sequence[bytes], schema: Schema | None) -> list[ContractError]:
    """One error per event that ``schema`` refuses, in order; at most ``MAX_ITEM_ERRORS``."""
    found: list[ContractError] = []
    if schema is None:
        return found
    for index, key in enumerate(schema.keys(events)):
        if key is not None:
            continue  # the compiled pass accepted it
        refusal = schema.explain(events[index])
        if refusal is None:
            continue
        first = refusal.errors[0] if refusal.errors else FieldError("", str(refusal.reason))
        more = len(refusal.errors) - 1
        message = f"{first.message} (and {more} more)" if more > 0 else first.message
        found.append(ContractError(index, event_id(events[index]), first.field, message, retryable=False))
        if len(found) == MAX_ITEM_ERRORS:
            break
    return found


def event_id(event: bytes) -> str | None:
    """``interactionId`` or ``id`` of an event, cut; None if it has neither or is not an object."""
    try:
        ids = _IDS.decode(event)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    value = ids.interaction_id if ids.interaction_id is not None else ids.id
    return value[:MAX_ECHO] if isinstance(value, str) else None
