"""What the sandbox remembers: the events it took, and the answers it gave under idempotency keys.

Used by ``sandbox/server.py``; every table has a limit.
"""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from typing import NamedTuple

from ingestd.core.clock import Clock
from ingestd.sandbox.contract import Reply

MAX_DISTINCT = 4_000_000
"""Most events that are recognised; about 90 bytes of memory each."""

MAX_KEYS = 100_000
KEY_LIFETIME_S = 86_400.0
MAX_REPLY_BYTES = 64 * 2**20
"""Bytes of stored answers; the oldest keys are forgotten first."""


class AcceptedEvents:
    """Every event taken, in order: its bytes up to ``keep_bytes`` in all, past that only its count.

    ``distinct`` counts events by their exact bytes and stops at ``MAX_DISTINCT``.
    """

    def __init__(self, keep_bytes: int) -> None:
        self._keep_bytes = keep_bytes
        self._digests: set[bytes] = set()
        self.kept: list[bytes] = []
        self.kept_bytes = 0
        self.count = 0
        self.batches = 0
        self.duplicates = 0

    @property
    def distinct(self) -> int:
        return len(self._digests)

    @property
    def counted_all(self) -> bool:
        """False once there were more events than can be recognised."""
        return len(self._digests) < MAX_DISTINCT

    def take(self, events: Sequence[bytes]) -> None:
        self.batches += 1
        self.count += len(events)
        for event in events:
            digest = blake2b(event, digest_size=16).digest()
            if digest in self._digests:
                self.duplicates += 1
            elif self.counted_all:
                self._digests.add(digest)
        size = sum(map(len, events))
        if len(self.kept) == self.count - len(events) and self.kept_bytes + size <= self._keep_bytes:
            self.kept.extend(events)
            self.kept_bytes += size


class ClaimedKey(NamedTuple):
    """An idempotency key in use. ``reply`` is None while its first request is being handled."""

    body_digest: bytes
    reply: Reply | None


class _Answered(NamedTuple):
    claimed: ClaimedKey
    at: float
    size_bytes: int


class IdempotencyKeys:
    """Key -> digest of its body and the first answer; bounded by number, age and answers' bytes.

    Keys in the middle of their first request stand apart and are never forgotten: that would let
    their events in twice. They are as many as there are open requests.
    """

    def __init__(self, clock: Clock, *, max_keys: int = MAX_KEYS, lifetime_s: float = KEY_LIFETIME_S) -> None:
        self._clock = clock
        self._max_keys = max_keys
        self._lifetime_s = lifetime_s
        self._pending: dict[str, ClaimedKey] = {}
        self._answered: OrderedDict[str, _Answered] = OrderedDict()
        self._reply_bytes = 0

    def __len__(self) -> int:
        return len(self._pending) + len(self._answered)

    def claim(self, key: str, body_digest: bytes) -> ClaimedKey | None:
        """Take ``key`` for this request; or, if it is in use, leave it and say by what."""
        self._forget_old()
        if (answered := self._answered.get(key)) is not None:
            return answered.claimed
        if (pending := self._pending.get(key)) is not None:
            return pending
        self._pending[key] = ClaimedKey(body_digest, None)
        return None

    def keep(self, key: str, reply: Reply) -> None:
        """The first request under ``key``, which it claimed, is answered."""
        claimed = self._pending.pop(key)
        answered = _Answered(claimed._replace(reply=reply), self._clock.monotonic(), len(reply.body))
        self._answered[key] = answered
        self._reply_bytes += answered.size_bytes
        self._forget_old()

    def release(self, key: str) -> None:
        """The request under ``key`` was not handled to its end: as if it never came."""
        self._pending.pop(key, None)

    def _forget_old(self) -> None:
        oldest_allowed = self._clock.monotonic() - self._lifetime_s
        while self._answered:
            key, oldest = next(iter(self._answered.items()))
            full = len(self._answered) > self._max_keys or self._reply_bytes > MAX_REPLY_BYTES
            if not full and oldest.at >= oldest_allowed:
                return
            del self._answered[key]
            self._reply_bytes -= oldest.size_bytes
