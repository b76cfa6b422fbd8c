"""The signing secrets of Standard Webhooks 1.0.0, as its libraries take them."""

import base64
import re

PREFIX = "whsec_"
MIN_BYTES, MAX_BYTES = 16, 64
"""The specification says 24 to 64. PyPI's and npm's ``standardwebhooks`` and ``svix`` take any, and 16 bytes
cannot be guessed either: a secret that comes from a partner cannot be chosen."""

_MAKE_ONE = "make one with: echo whsec_$(openssl rand -base64 32)"


def decode_secret(text: str) -> bytes:
    """The key: base64, with ``whsec_`` and padding or without.

    Raises ValueError, to follow "the secret …", which says the rule that is broken and does not quote it.
    """
    encoded = text.removeprefix(PREFIX)
    bare = encoded.rstrip("=")
    if not bare:
        raise ValueError(f"is empty: {_MAKE_ONE}")
    if not re.fullmatch(r"[A-Za-z0-9+/]+", bare):
        if re.fullmatch(r"[A-Za-z0-9_-]+", bare):
            raise ValueError(
                "has - or _, as URL-safe base64: write + for - and / for _; the only prefix is whsec_"
            )
        raise ValueError("has characters that base64 has not: A-Z, a-z, 0-9, + and / are expected")
    if len(bare) % 4 == 1 or len(encoded) - len(bare) not in (0, -len(bare) % 4):
        raise ValueError("is not whole: no base64 has that length")
    key = base64.b64decode(bare + "=" * (-len(bare) % 4))
    if not MIN_BYTES <= len(key) <= MAX_BYTES:
        raise ValueError(f"has {len(key)} bytes, and {MIN_BYTES} to {MAX_BYTES} are expected: {_MAKE_ONE}")
    return key
