"""What each path of the sandbox took and counted, so that a test can say "exactly once".

Kept by ``sandbox/apis/ingest.py``, filled by the endpoints, shown by ``Sandbox.stats().paths``.
"""

from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b

from ingestd.sandbox.stats import PathStats

MAX_INBOXES = 64
OTHER = "other"
"""The one inbox for all paths past ``MAX_INBOXES``, and for those that are nowhere in the sandbox."""

MAX_IDENTITIES = 1_000_000
"""Events that all inboxes together tell apart; about 90 bytes of memory each."""


def digest(*parts: bytes) -> bytes:
    """16 bytes that stand for ``parts``; different parts give different bytes."""
    summary = blake2b(digest_size=16)
    for part in parts:
        summary.update(len(part).to_bytes(8))
        summary.update(part)
    return summary.digest()


class InboxSpace:
    """What all inboxes together may still remember."""

    def __init__(self, keep_bytes: int, identities: int) -> None:
        self.bytes_left = keep_bytes
        self.identities_left = identities


class Inbox:
    """One path. ``kept`` are the first events taken, byte for byte, while there is space."""

    def __init__(self, space: InboxSpace) -> None:
        self._space = space
        self._identities: set[bytes] = set()
        self._distinct_complete = True
        self.kept: list[bytes] = []
        self.requests = 0
        self.by_status: Counter[str] = Counter()
        self.events = 0
        self.duplicates = 0
        self.repeated = 0
        self.out_of_order = 0
        self.item_errors = 0

    def take(self, event: bytes, identity: bytes) -> None:
        """One more event. ``identity``: a digest that a second copy of it would share."""
        if len(self.kept) == self.events and len(event) <= self._space.bytes_left:
            self.kept.append(event)
            self._space.bytes_left -= len(event)
        self.events += 1
        if identity in self._identities:
            self.duplicates += 1
        elif self._space.identities_left > 0:
            self._space.identities_left -= 1
            self._identities.add(identity)
        else:
            self._distinct_complete = False

    def stats(self) -> PathStats:
        return PathStats(
            requests=self.requests,
            by_status=dict(sorted(self.by_status.items())),
            events=self.events,
            distinct=len(self._identities),
            duplicates=self.duplicates,
            distinct_complete=self._distinct_complete,
            repeated=self.repeated,
            out_of_order=self.out_of_order,
            item_errors=self.item_errors,
            events_kept=len(self.kept),
        )


class Inboxes:
    """The inbox of each path that was asked for, made at its first request."""

    def __init__(self, keep_bytes: int, *, max_identities: int = MAX_IDENTITIES) -> None:
        self._space = InboxSpace(keep_bytes, max_identities)
        self._by_path: dict[str, Inbox] = {}

    def of(self, path: str) -> Inbox:
        inbox = self._by_path.get(path)
        if inbox is None:
            if len(self._by_path) >= MAX_INBOXES:
                path = OTHER
            inbox = self._by_path.setdefault(path, Inbox(self._space))
        return inbox

    def kept(self, path: str) -> list[bytes]:
        inbox = self._by_path.get(path)
        return [] if inbox is None else inbox.kept

    def __iter__(self) -> Iterator[tuple[str, Inbox]]:
        return iter(sorted(self._by_path.items()))
