"""Waits until the API has verified a target. Called by ``target.py``, also for ``targets verify``."""

import logging
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from ingestd.control.engine.resource import AuditStep, Context, RemoteResource
from ingestd.core.errors import UserError
from ingestd.core.redaction import redact
from ingestd.core.text import cut
from ingestd.core.units import human_seconds
from ingestd.transport.api_client import ApiError

PATH = "/api/v2/integrations/eventbridge/targets"
VERIFIED, PENDING = "VERIFIED", "PENDING_VERIFICATION"
ENDED = frozenset(("FAILED", "TIMEOUT"))

_MAX_STATUS = 60

logger = logging.getLogger(__name__)


def path_of(found: RemoteResource) -> str:
    return f"{PATH}/{quote(found.id, safe='')}"


def about(found: RemoteResource) -> dict[str, str | int | float | bool | None]:
    """How every step names it."""
    return {"target_id": found.id, "name": found.key}


async def verify(context: Context, found: RemoteResource) -> RemoteResource:
    """Ask until it is VERIFIED, within the context's deadline. A word that is not known counts as pending.

    Notes TARGET_VERIFIED or TARGET_VERIFICATION_FAILED. Raises UserError with the API's words for FAILED and
    TIMEOUT, and once the deadline is over; the target stays as it is.
    """
    start, known = context.clock.monotonic(), {VERIFIED, PENDING, *ENDED}
    status = words = ""
    async for left_s in context.polls():
        status, words = await _ask(context, found, within_s=left_s)
        spent_s = context.clock.monotonic() - start
        if status == VERIFIED:
            context.note(AuditStep("TARGET_VERIFIED", about(found) | {"verification_s": round(spent_s, 3)}))
            return replace(found, state=VERIFIED, settled=True)
        if status in ENDED:
            raise _failed(context, found, status, words or "the API does not say why", spent_s=spent_s)
        if status not in known:
            known.add(status)
            logger.warning("target %s: unknown status %s, taken as pending", cut(found.key, 100), status)
    over = f"not verified within {human_seconds(context.deadline_s)}"
    spent_s = context.clock.monotonic() - start
    raise _failed(context, found, status, f"{over}: {words}" if words else over, spent_s=spent_s)


async def _ask(context: Context, found: RemoteResource, *, within_s: float) -> tuple[str, str]:
    """(status, the API's words). Right after a create 404 means not yet; trouble is no verdict."""
    try:
        answer = await context.api.get_when_visible(f"{path_of(found)}/verify", deadline_s=within_s)
    except ApiError as error:
        if error.status in (404, 408, 429) or error.status >= 500:
            return PENDING, str(error)
        raise
    content: dict[str, Any] = answer if isinstance(answer, dict) else {}
    words = content.get("error") or content.get("message") or ""
    if isinstance(words, dict):
        words = words.get("message") or ""
    return cut(str(content.get("status", "without a status")), _MAX_STATUS), cut(redact(str(words)[:10_000]))


def _failed(context: Context, found: RemoteResource, status: str, words: str, *, spent_s: float) -> UserError:
    fields: dict[str, str | float] = {"status": status, "error": words, "verification_s": round(spent_s, 3)}
    context.note(AuditStep("TARGET_VERIFICATION_FAILED", about(found) | fields))
    return UserError(
        f"target {cut(found.key, 100)} ({found.id}) is {status}: {words}; it stays as it is: correct its"
        " endpoint, then run the same command again"
    )
