"""Tells a Lambda function of a change, asynchronously. Called by ``subscription.py``; the extra ``aws``.

202 means that the invocation was queued. Nobody learns whether the function ran, ran twice or failed
(AWS Lambda Developer Guide, "Asynchronous invocation"); so a change has an id, the same in each repetition.
"""

import asyncio
import importlib
import json
import logging
from collections.abc import Mapping
from typing import Any

from ingestd.control.engine.arn import Arn, parse_function_arn
from ingestd.control.engine.compare import digest
from ingestd.control.engine.resource import AuditStep, Context, RemoteResource
from ingestd.core.errors import Unreachable, UserError
from ingestd.core.redaction import redact

MAX_PAYLOAD_BYTES = 256 * 1024
"""The older of Lambda's two limits for asynchronous invocations (genesys.md 4.4): good everywhere."""
CONNECT_TIMEOUT_S, READ_TIMEOUT_S, ATTEMPTS = 5.0, 10.0, 3
_QUEUED = 202
_SHOWN = 200

# At DEBUG botocore logs what it signs, session tokens with it.
logging.getLogger("botocore").setLevel(logging.WARNING)


def change_id(action: str, found: RemoteResource) -> str:
    """The same for the same change of the same resource, also in a later run: 32 hex digits."""
    return digest([action, found.kind, found.id, dict(found.fields)])[:32]


async def call_back(
    context: Context,
    found: RemoteResource,
    *,
    function_arn: str,
    action: str,
    attempts: int = ATTEMPTS,
) -> str:
    """Queues ``{action, changeId, data}`` at the function, and notes CALLBACK_QUEUED; the id of the change.

    Raises UserError, after CALLBACK_FAILED was noted: the resource is as it is, only the callback is missing.
    """
    its_change = change_id(action, found)
    fields: dict[str, str] = {
        "id": found.id,
        "name": found.key,
        "function": function_arn,
        "action": action,
        "change_id": its_change,
    }
    try:
        arn = parse_function_arn(function_arn, where="the callback")
        payload = _payload(found, action, its_change)
        await asyncio.to_thread(_invoke, arn, function_arn, payload, attempts)
    except UserError as error:
        context.note(AuditStep("CALLBACK_FAILED", fields | {"error": str(error)}))
        raise
    context.note(AuditStep("CALLBACK_QUEUED", fields | {"status": "queued"}))
    return its_change


def _payload(found: RemoteResource, action: str, its_change: str) -> bytes:
    data = {"id": found.id, "kind": found.kind, "status": found.state, **found.fields}
    content = {"action": action, "changeId": its_change, "data": data}
    payload = json.dumps(content, separators=(",", ":")).encode()
    if len(payload) > MAX_PAYLOAD_BYTES:
        size = f"{len(payload)} bytes, and {MAX_PAYLOAD_BYTES} are possible"
        raise UserError(f"the callback of {found.kind} {found.key} was not sent: it has {size}")
    return payload


def _invoke(arn: Arn, function_arn: str, payload: bytes, attempts: int) -> None:
    """Blocks, bounded by the timeouts. Raises UserError; Unreachable where AWS is, or credentials are."""
    where = f"the callback to {function_arn}"
    session, config, errors = _load()
    try:
        client = session.Session().create_client(
            "lambda",
            region_name=arn.region,  # the function's own, whatever the environment says
            config=config.Config(
                connect_timeout=CONNECT_TIMEOUT_S,
                read_timeout=READ_TIMEOUT_S,
                retries={"mode": "standard", "total_max_attempts": attempts},
            ),
        )
        try:
            answer = client.invoke(FunctionName=function_arn, InvocationType="Event", Payload=payload)
        finally:
            client.close()
    except errors.ClientError as error:
        raise UserError(f"{where} was refused: {_words(error.response)}") from None
    except errors.BotoCoreError as error:
        raise Unreachable(f"{where} was not queued: {redact(str(error))[:_SHOWN]}") from None
    except Exception as error:  # credentials come from programs and servers of all kinds
        raise Unreachable(f"{where} was not queued: {type(error).__name__}") from None
    if answer.get("StatusCode") != _QUEUED:
        raise UserError(f"{where}: it was answered {answer.get('StatusCode')}, which is not 202, queued")


def _load() -> tuple[Any, Any, Any]:
    """The parts of botocore that are used, late: it takes a tenth of a second."""
    try:
        names = ("botocore.session", "botocore.config", "botocore.exceptions")
        session, config, errors = map(importlib.import_module, names)
    except ImportError:
        raise UserError("a Lambda callback needs botocore: pip install 'ingestd[aws]'") from None
    return session, config, errors


def _words(response: Mapping[str, Any]) -> str:
    error = response.get("Error") or {}
    status = (response.get("ResponseMetadata") or {}).get("HTTPStatusCode")
    return f"{status} {error.get('Code')}: {redact(str(error.get('Message')))[:_SHOWN]}"
