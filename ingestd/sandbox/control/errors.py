"""Refusals of the control plane, in the platform's ErrorBody. Used by every ``sandbox/control_*.py``."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from ingestd.sandbox.contract import MAX_ECHO, Reply, RequestRefused
from ingestd.sandbox.exchange import Exchange

MAX_DETAILS = 20


class InvalidField(NamedTuple):
    """One field that cannot be taken. ``field``: dotted path, as the client named it."""

    field: str
    message: str
    code: str = "invalid.value"


def refusal(
    exchange: Exchange,
    status: int,
    code: str,
    message: str,
    *,
    wrong: Sequence[InvalidField] = (),
    limit: Mapping[str, str | int] | None = None,
    entity: str | None = None,
) -> RequestRefused:
    """To be raised. ``wrong`` becomes ``details`` and, with its words, the nested ``errors``."""
    listed = wrong[:MAX_DETAILS]
    content: dict[str, object] = {
        "message": message,
        "code": code,
        "status": status,
        "contextId": exchange.context,
        "details": [{"errorCode": each.code, "fieldName": each.field[:MAX_ECHO]} for each in listed],
        "errors": [_nested(exchange, status, each) for each in listed],
    }
    if entity is not None:
        content["entityId"] = echoed(entity)
    if limit is not None:
        content["limit"] = limit
    return RequestRefused(Reply(status, msgspec.json.encode(content)))


def echoed(text: str) -> str:
    """A client's text as an answer repeats it: cut, and without what JSON cannot say."""
    return text[:MAX_ECHO].encode("utf-8", "replace").decode()


def invalid(exchange: Exchange, wrong: Sequence[InvalidField]) -> RequestRefused:
    """400 for fields that cannot be taken."""
    first = wrong[0]
    more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    message = f"{first.field[:MAX_ECHO] or 'body'}: {first.message}{more}"
    return refusal(exchange, 400, "bad.request", message, wrong=wrong)


def missing(exchange: Exchange, what: str, name: str) -> RequestRefused:
    return refusal(exchange, 404, "not.found", f"there is no such {what}", entity=name)


def over_limit(exchange: Exchange, what: str, *, key: str, namespace: str, value: int) -> RequestRefused:
    message = f"the organization has {value} {what} already, and may not have more"
    limit: dict[str, str | int] = {"key": key, "namespace": namespace, "value": value}
    return refusal(exchange, 400, "limit.exceeded", message, limit=limit)


def conflict(exchange: Exchange, sent: int, current: int, *, as_400: bool) -> RequestRefused:
    """A version that is not the current one; both forms are the platform's (provider's ``util_retries``)."""
    message = f"Version {sent} does not match the current version {current}"
    if as_400:
        return refusal(exchange, 400, "bad.request", message)
    return refusal(exchange, 409, "version.conflict", message)


def _nested(exchange: Exchange, status: int, wrong: InvalidField) -> dict[str, object]:
    return {
        "message": f"{wrong.field[:MAX_ECHO] or 'body'}: {wrong.message}",
        "code": wrong.code,
        "status": status,
        "contextId": exchange.context,
        "details": [],
        "errors": [],
    }
