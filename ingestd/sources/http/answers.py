"""The answer to a request that not all events of were accepted, in full; and in a few words for people."""

from typing import Any

from ingestd.core.submission import MAX_LISTED, AcceptedSubmission, Rejection
from ingestd.core.text import cut
from ingestd.core.units import counted
from ingestd.httpd.problem import JSON_TYPE, encode
from ingestd.httpd.response import Response

INVALID = 422
_MAX_LIST_BYTES = 256 * 1024
"""Of the rejected events that are listed; ``rejected_total`` then tells how many there were."""
_MAX_ID = 256
_MAX_FIELDS = 3


def in_full(result: AcceptedSubmission) -> Response:
    accepted = result.accepted if result.stored else 0
    entries, room = list[dict[str, Any]](), _MAX_LIST_BYTES
    for rejection in result.rejected[:MAX_LISTED]:
        entry = _entry(rejection)
        room -= len(encode(entry))
        if room < 0:
            break
        entries.append(entry)
    content: dict[str, Any] = {"accepted": accepted, "duplicates": result.duplicates, "rejected": entries}
    total = len(result.rejected) + result.unlisted
    if total > len(entries):
        content["rejected_total"] = total
    if result.ends is not None:
        content.update(result.ends._asdict())
        if not result.ends.skipped:
            del content["skipped"]
    refused = not result.stored or (result.rejected and not accepted and not result.duplicates)
    return Response(422 if refused else 202, encode(content), JSON_TYPE)


def _entry(rejection: Rejection) -> dict[str, Any]:
    name = rejection.id
    if name is not None and len(name) > _MAX_ID:
        name = name[: _MAX_ID - 1] + "…"
    return {"index": rejection.position, "id": name, "errors": rejection.errors}


def words_of(result: AcceptedSubmission) -> str:
    """Why nothing of a request was accepted: with the names of fields, without what stands in them."""
    count = len(result.rejected) + result.unlisted
    names = {error["field"] or "the event itself": None for one in result.rejected for error in one.errors}
    listed = ", ".join([*names][:_MAX_FIELDS]) + (", …" if len(names) > _MAX_FIELDS else "")
    of_all = "of an atomic request " if not result.stored else ""
    return cut(f"{counted(count, 'event')} {of_all}invalid: {listed}")
