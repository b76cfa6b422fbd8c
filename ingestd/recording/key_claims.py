"""Keys that dead letters on their way have claimed, at all sinks together. For ``retried_letters.py``.

An event that several sinks gave up has a letter at each, and its key was free when they were made. These
letters go out side by side: to none of them the others are a sign that the event was accepted anew.
"""

from ingestd.core.batch import Place


class KeyClaims:
    """A key is claimed by letters of one event; bounded by what is leased."""

    def __init__(self) -> None:
        self._claims: dict[bytes, tuple[Place, int]] = {}

    def take(self, digest: bytes, place: Place) -> None:
        count = self._claims[digest][1] if digest in self._claims else 0
        self._claims[digest] = place, count + 1

    def are_of(self, digest: bytes, place: Place) -> bool:
        """Whether the key is claimed, by letters of the event at this place."""
        return digest in self._claims and self._claims[digest][0] == place

    def give(self, digest: bytes) -> bool:
        """One letter had its end. True: no other claims the key."""
        place, count = self._claims.pop(digest, (None, 1))
        if place is None or count <= 1:
            return True
        self._claims[digest] = place, count - 1
        return False
