"""OPTIONS on the ingest address: the CloudEvents web-hook handshake. Called by the endpoint.

Rules: HTTP 1.1 Web Hooks for Event Delivery 1.0.2, section 4. WebHook-Request-Callback is ignored: it
would let anybody make us send requests to an address of his choice.
"""

from collections.abc import Collection

from ingestd.httpd.request import Request
from ingestd.httpd.response import Response
from ingestd.sources.http.body import ACCEPT_POST

ALLOW = ("Allow", "POST, OPTIONS")


def answer_options(request: Request, *, origins: Collection[str], rate: int) -> Response:
    """Consent is in the WebHook- headers alone, never in the status; a stranger gets none of them.

    ``origins``: DNS names that are granted, or ``*``; ``rate``: requests a minute, 0 for any number.
    """
    headers = [ALLOW, ACCEPT_POST]
    origin = request.headers.get("webhook-request-origin", "").strip()
    granted = _grant(origin, origins) if "webhook-request-origin" not in request.repeated else ""
    if granted:
        headers += [("WebHook-Allowed-Origin", granted), ("WebHook-Allowed-Rate", str(rate) if rate else "*")]
    return Response(200, b"", headers)


def _grant(origin: str, origins: Collection[str]) -> str:
    """Of our own words, so that nothing hostile gets into a header; empty without permission."""
    if not origin:
        return ""
    if "*" in origins:
        return "*"
    return next((known for known in origins if known.lower() == origin.lower()), "")
