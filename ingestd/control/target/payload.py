"""A target as JSON, there and back: a wanted one to a request's body, an answer to ``RemoteResource``.

For ``target.py``. Here secrets are put in, at the last moment, and everything is looked at once more before
anything is sent.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic.alias_generators import to_camel

from ingestd.control.engine.resource import Context, RemoteResource, ResourceFields, Wanted
from ingestd.control.engine.secret import SecretRef
from ingestd.control.target import webhook_sync
from ingestd.control.target.table import TargetRetry, canonical_url, is_header_value, looks_secret
from ingestd.control.target.verification import VERIFIED
from ingestd.control.target.webhook_sync import Webhook
from ingestd.core.errors import UserError
from ingestd.core.redaction import MASK
from ingestd.core.text import cut
from ingestd.transport.url_guard import UrlGuard

OVERHEAD_BYTES = 256
"""What the seed adds to a payload for all that goes around it."""
MAX_PAYLOAD_BYTES = 500_000
"""Below the platform's ``request.bytes.max``, 512,000 (genesys.md 1.3)."""
_STATED = "text:"
_AUTH_EXAMPLES: Mapping[str, Mapping[str, str]] = {
    "NONE": {},
    "BASIC": {"username": "", "password": ""},
    "OAUTH2": {"token_url": "https://fill-in.invalid/token", "client_id": "", "client_secret": ""},
    "JWT": {"issuer": "", "audience": "", "key": ""},
}


@dataclass(frozen=True, slots=True)
class WriteOnlyAuth(SecretRef):
    """What stands in the file and is as write-only as a secret: the API gives nothing of ``authConfig`` back,
    so that only a hash can tell whether it has changed."""

    @classmethod
    def of(cls, values: Mapping[str, str]) -> "WriteOnlyAuth":
        return cls(_STATED + json.dumps(values, sort_keys=True))

    def read(self, environ: Mapping[str, str] | None = None) -> str:
        return self.text.removeprefix(_STATED)


@dataclass(frozen=True, slots=True)
class WantedTarget(Wanted):
    """``webhook``: the gateway that is notified of changes; the API does not know it."""

    webhook: Webhook | None = None


class MissingId(UserError):
    """The API took it, and did not say as what."""


def build_body(context: Context, wanted: Wanted) -> dict[str, Any]:
    """What is sent, secrets and all. Raises UserError for what must not be sent, before anything is."""
    fields, where = wanted.fields, f"target {cut(wanted.name, 100)}"
    auth: dict[str, str] = {}
    headers = dict(fields["headers"])
    for path, reference in wanted.secrets.items():
        place, _, field = path.partition(".")
        if not field:
            auth |= json.loads(reference.text.removeprefix(_STATED))
        elif place == "auth":
            auth[field] = context.secret(reference)
        else:
            headers[field] = context.secret(reference)
            if not is_header_value(headers[field]):
                raise UserError(f"{where}: {path}: {reference.text} is not fit to be a header's value")
    guard = UrlGuard(allow_private=context.allow_private)
    guard.check_url(fields["endpoint_url"], what=f"{where}: endpoint_url")
    if "token_url" in auth:
        guard.check_url(auth["token_url"], what=f"{where}: auth.token_url")
    if isinstance(wanted, WantedTarget) and wanted.webhook:
        webhook_sync.check(context, wanted.webhook, what=f"{where}: webhook")
    retry = fields["retry"]
    body = {
        "name": fields["name"],
        "endpointUrl": fields["endpoint_url"],
        "authType": fields["auth"]["type"],
        "authConfig": {to_camel(field): value for field, value in auth.items()},
        "retryPolicy": {
            "maxRetries": retry["max_retries"],
            "backoffStrategy": retry["strategy"],
            "initialDelaySeconds": retry["delay"],
        },
        "headers": headers,
        "eventTypes": fields["event_types"],
    }
    if (size := estimate_payload_bytes(body)) > MAX_PAYLOAD_BYTES:
        raise UserError(
            f"{where}: about {size} bytes to send, at most {MAX_PAYLOAD_BYTES} are taken: fewer event types,"
            " or shorter headers"
        )
    return body


def estimate_payload_bytes(payload: Any) -> int:
    """Of its JSON in UTF-8, with what the seed reckons for the rest of a request."""
    return len(json.dumps(payload).encode()) + OVERHEAD_BYTES


def read_target(entity: Any, sent: Wanted | None = None) -> RemoteResource:
    """``sent``: for what an answer leaves out. Raises NoId."""
    known: Mapping[str, Any] = entity if isinstance(entity, dict) else {}
    if not isinstance(known.get("id"), str) or not known["id"]:
        raise MissingId("target: the API's answer has no id in it: is this the API?")
    fields = sent.fields if sent else _fields(known)
    status = cut(str(known.get("status", "")), 60)
    return RemoteResource("target", fields["name"], known["id"], fields, status, settled=status == VERIFIED)


def export(found: RemoteResource) -> Mapping[str, Any]:
    """See ``Kind``. All of ``auth`` has to be filled in: the API tells nothing of it but the type."""
    auth_type, prefix = found.fields["auth"]["type"], _variable(found.key)
    example = _AUTH_EXAMPLES.get(auth_type, {})
    auth = {field: text or f"env:{prefix}_{_variable(field)}" for field, text in example.items()}
    headers = {
        name: f"env:{prefix}_{_variable(name)}" if value == MASK else value
        for name, value in found.fields["headers"].items()
    }
    return {**found.fields, "auth": {"type": auth_type, **auth}, "headers": headers}


def _fields(entity: Mapping[str, Any]) -> ResourceFields:
    """As a file would have it; what the API leaves out has its default."""
    policy = entity.get("retryPolicy")
    retry = TargetRetry().model_dump() | _present(
        policy, {"max_retries": "maxRetries", "strategy": "backoffStrategy", "delay": "initialDelaySeconds"}
    )
    headers = entity.get("headers")
    types = entity.get("eventTypes")
    return {
        "name": str(entity.get("name", "")),
        "endpoint_url": _url(str(entity.get("endpointUrl", ""))),
        "auth": {"type": str(entity.get("authType") or "NONE")},
        "retry": retry,
        "headers": dict(sorted(map(_header, headers.items()))) if isinstance(headers, dict) else {},
        "event_types": sorted(set(map(str, types))) if isinstance(types, list) else [],
    }


def _present(entity: Any, names: Mapping[str, str]) -> dict[str, Any]:
    known = entity if isinstance(entity, dict) else {}
    return {field: known[name] for field, name in names.items() if name in known}


def _url(given: str) -> str:
    try:
        return canonical_url(given)
    except ValueError:
        return given


def _header(given: tuple[str, Any]) -> tuple[str, str]:
    name, value = given[0].lower(), str(given[1])
    return name, MASK if looks_secret(name, value) else value


def _variable(text: str) -> str:
    """``x-api-key`` -> ``X_API_KEY``."""
    return re.sub(r"[^A-Z0-9]+", "_", text.upper(), flags=re.ASCII).strip("_")
