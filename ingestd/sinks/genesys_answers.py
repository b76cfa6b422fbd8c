"""What the answers of Genesys Cloud have in common. Used by ``genesys_events`` and ``journey_events``."""

import re
from dataclasses import replace
from typing import Any

import msgspec

from ingestd.core.answer import Answer
from ingestd.core.verdict import Verdict

_CONTEXT_ID = re.compile(r"[A-Za-z0-9-]{8,64}", re.ASCII)


class _ErrorBody(msgspec.Struct, gc=False, rename="camel"):
    context_id: Any = None


_decode = msgspec.json.Decoder(_ErrorBody).decode


def name_context(verdict: Verdict, answer: Answer) -> Verdict:
    """The verdict with the id by which Genesys support finds a refused request.

    ``ErrorBody.contextId`` of the body equals the header ``ININ-Correlation-Id``.
    """
    if answer.status < 400:
        return verdict
    try:
        context_id = _decode(answer.body).context_id
    except (ValueError, RecursionError):
        context_id = None
    if context_id is None:
        context_id = answer.headers.get("inin-correlation-id")
    if not isinstance(context_id, str) or not _CONTEXT_ID.fullmatch(context_id):
        return verdict
    if context_id in verdict.detail:
        return verdict
    return replace(verdict, detail=f"{verdict.detail} (contextId {context_id})")
