"""Signatures by Standard Webhooks 1.0.0, checked. Used by ``sandbox/apis/webhooks.py``. Pure."""

import base64
import hmac
from collections.abc import Mapping, Sequence
from hashlib import sha256

from ingestd.transport.webhook_secret import decode_secret

TOLERANCE_S = 300.0
"""How far a signature's time may be from ours."""


def read_secret(text: str) -> bytes:
    """See ``transport/webhook_secret.py``. Raises ValueError, without the secret."""
    try:
        return decode_secret(text)
    except ValueError as error:
        raise ValueError(f"a webhook secret {error}") from None


def find_fault(
    headers: Mapping[str, str], body: bytes, secrets: Sequence[bytes], *, now_wall: float
) -> str | None:
    """What is wrong with a request's signature; None if one of its ``v1`` fits one of ``secrets``."""
    name, sent_at = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not name or "." in name:
        return "webhook-id is missing, or has a dot"
    if not (sent_at.isascii() and sent_at.isdigit() and len(sent_at) <= 12):
        return "webhook-timestamp: whole seconds since 1970 expected"
    if abs(int(sent_at) - now_wall) > TOLERANCE_S:
        return "webhook-timestamp is too far from now"
    signed = b"%b.%b.%b" % (name.encode("utf-8", "surrogateescape"), sent_at.encode(), body)
    wanted = [base64.b64encode(hmac.digest(secret, signed, sha256)) for secret in secrets]
    for part in headers.get("webhook-signature", "").split(" ")[:20]:
        version, _, given = part.partition(",")
        encoded = given.encode("utf-8", "surrogateescape")
        if version == "v1" and any(hmac.compare_digest(encoded, one) for one in wanted):
            return None
    return "webhook-signature does not fit"
