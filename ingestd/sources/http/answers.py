"""Answers: what became of a submission, or why a request cannot be one, as status, headers and body.

Called by the endpoint; the parts that look at a request raise ``SubmissionRefused``.
"""

from collections.abc import Sequence
from typing import Any

from ingestd.core.redaction import redact
from ingestd.core.submission import MAX_LISTED, AcceptedSubmission, DeferredSubmission, Rejection, Result
from ingestd.httpd.problem import JSON_TYPE, encode, problem
from ingestd.httpd.request import Response

_MAX_LIST_BYTES = 256 * 1024
"""Of the rejected events that are listed; ``rejected_total`` then tells how many there were."""
_MAX_ID = 256
_PLAIN_BODY = b'{"accepted":%d,"duplicates":%d,"rejected":[]}'
_ONE_ACCEPTED = Response(202, _PLAIN_BODY % (1, 0), JSON_TYPE)
NOTHING_SENT = Response(202, _PLAIN_BODY % (0, 0), JSON_TYPE)
"""The answer to a body that is well-formed and has no event."""


class SubmissionRefused(Exception):
    """The request cannot be taken; ``response`` says why to its producer. Holds nothing secret."""

    def __init__(self, status: int, detail: str, *, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(detail)
        self.response = problem(status, detail, headers=headers)


def answer_to(result: Result) -> Response:
    """202 when an event is new or known; 422 when all are rejected, or when an atomic request stored
    nothing; otherwise the status of ``DeferredSubmission`` with Retry-After (RFC 9110 10.2.3, at least 1)."""
    if isinstance(result, DeferredSubmission):
        wait = (("Retry-After", str(max(1, result.retry_after_s))),)
        return problem(result.status, redact(result.detail), headers=wait)
    if not result.rejected and result.ends is None and result.stored:
        if result.accepted == 1 and result.duplicates == 0:
            return _ONE_ACCEPTED  # made once: this is nearly every answer
        return Response(202, _PLAIN_BODY % (result.accepted, result.duplicates), JSON_TYPE)
    return _in_full(result)


def _in_full(taken: AcceptedSubmission) -> Response:
    accepted = taken.accepted if taken.stored else 0
    entries, room = list[dict[str, Any]](), _MAX_LIST_BYTES
    for rejection in taken.rejected[:MAX_LISTED]:
        entry = _entry(rejection)
        room -= len(encode(entry))
        if room < 0:
            break
        entries.append(entry)
    content: dict[str, Any] = {"accepted": accepted, "duplicates": taken.duplicates, "rejected": entries}
    total = len(taken.rejected) + taken.unlisted
    if total > len(entries):
        content["rejected_total"] = total
    if taken.ends is not None:
        content.update(taken.ends._asdict())
    refused = not taken.stored or (taken.rejected and not accepted and not taken.duplicates)
    return Response(422 if refused else 202, encode(content), JSON_TYPE)


def _entry(rejection: Rejection) -> dict[str, Any]:
    name = rejection.id
    if name is not None and len(name) > _MAX_ID:
        name = name[: _MAX_ID - 1] + "…"
    return {"index": rejection.position, "id": name, "errors": rejection.errors}
