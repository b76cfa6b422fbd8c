"""Answers that say what is wrong: problem details (RFC 9457)."""

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from ingestd.httpd.response import Response

JSON_TYPE = (("Content-Type", "application/json"),)


def problem(status: int, detail: str, *, headers: Sequence[tuple[str, str]] = ()) -> Response:
    """Problem details (RFC 9457) of the type ``about:blank``: the title is the status in words."""
    content = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return Response(status, encode(content), (("Content-Type", "application/problem+json"), *headers))


def encode(content: dict[str, Any]) -> bytes:
    """ASCII: whatever a hostile event brought along, lone surrogates too, is escaped."""
    return json.dumps(content, separators=(",", ":")).encode("ascii")


OUR_FAULT = problem(500, "this is a fault of the service")


class RefusedRequest(Exception):
    """The request cannot be taken; ``response`` says why to its client. Holds nothing secret."""

    def __init__(self, status: int, detail: str, *, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(detail)
        self.response = problem(status, detail, headers=headers)
