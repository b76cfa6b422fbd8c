"""What an edge knows of keys: their digests, and which events of one group are copies of each other."""

import hashlib
from collections.abc import Sequence

from ingestd.core.accelerator import compiled
from ingestd.processing.claim import Claim
from ingestd.processing.dedup import DIGEST_BYTES, SECRET_BYTES, Window


class GroupKeys:
    """Stands where a ``Window`` stands in one process, and remembers nothing."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._hash = hashlib.blake2b(secret[:SECRET_BYTES], digest_size=DIGEST_BYTES)

    def state_of(self, key: str) -> str:
        """Nothing is known from before."""
        del key
        return "new"

    def claim(self, keys: Sequence[str | None], now: float) -> Claim:
        """As ``Window.claim``; what comes twice is told as ``copies``."""
        if compiled:
            return Window(self._secret, max_count=len(keys)).claim(keys, now)
        copy, digests = self._hash.copy, list[bytes | None]()
        add = digests.append
        for key in keys:
            if key:
                state = copy()
                state.update(key.encode())
                add(state.digest())
            else:
                add(None)
        copies = _copies(digests) if len(set(digests)) < len(digests) else []
        for index, _ in copies:
            digests[index] = None
        return Claim(digests, [], copies)


def _copies(digests: Sequence[bytes | None]) -> list[tuple[int, bytes]]:
    seen, found = set[bytes](), list[tuple[int, bytes]]()
    for index, digest in enumerate(digests):
        if digest is None:
            continue
        if digest in seen:
            found.append((index, digest))
        seen.add(digest)
    return found
