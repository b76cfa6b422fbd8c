"""The answer to a request that not all events of were accepted, in full; and in a few words for people."""

from typing import Any

from ingestd.core.submission import MAX_LISTED, AcceptedSubmission, Rejection
from ingestd.core.text import cut
from ingestd.core.units import counted
from ingestd.httpd.problem import JSON_TYPE, encode
from ingestd.httpd.request import Response

INVALID = 422
_MAX_LIST_BYTES = 256 * 1024
"""Of the rejected events that are listed; ``rejected_total`` then tells how many there were."""
_MAX_ID = 256
_MAX_FIELDS = 3


def in_full(taken: AcceptedSubmission) -> Response:
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
        if not taken.ends.skipped:
            del content["skipped"]
    refused = not taken.stored or (taken.rejected and not accepted and not taken.duplicates)
    return Response(422 if refused else 202, encode(content), JSON_TYPE)


def _entry(rejection: Rejection) -> dict[str, Any]:
    name = rejection.id
    if name is not None and len(name) > _MAX_ID:
        name = name[: _MAX_ID - 1] + "…"
    return {"index": rejection.position, "id": name, "errors": rejection.errors}


def words_of(taken: AcceptedSubmission) -> str:
    """Why nothing of a request was accepted: with the names of fields, without what stands in them."""
    count = len(taken.rejected) + taken.unlisted
    names = {error["field"] or "the event itself": None for one in taken.rejected for error in one.errors}
    told = ", ".join([*names][:_MAX_FIELDS]) + (", …" if len(names) > _MAX_FIELDS else "")
    of_all = "of an atomic request " if not taken.stored else ""
    return cut(f"{counted(count, 'event')} {of_all}invalid: {told}")
