"""The dedup window: claim, then confirm or release. Pure; time is passed in.

A key is remembered for good only once its event is safe. Until then it is *pending*, and a copy
of it waits until that is known. Confirmed keys sit in generations, so that forgetting the oldest is one
set operation. See docs/promises.md: a duplicate never costs an event.
"""

import hashlib
from collections import Counter, deque
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from itertools import chain, repeat
from operator import itemgetter
from typing import Any

from ingestd.core.accelerator import compiled
from ingestd.core.chunk import Chunk
from ingestd.core.sequences import lengths_of, pick
from ingestd.processing.claim import Claim, WaitingCopy, waiting_copy

DIGEST_BYTES = 16
SECRET_BYTES = 16
_GENERATIONS = 16
_SHARDS = 8  # a power of two. One large set would double for a moment whenever it is rebuilt
_SHARD_MASK = _SHARDS - 1


class Window:
    """Remembers at most ``max_count`` keys, none longer than ``max_age_s`` (and a sixteenth).

    Keys are 128-bit BLAKE2b digests under ``secret``: a collision would drop a stranger's event, so
    it must be neither likely nor within a producer's power.
    """

    def __init__(self, secret: bytes, *, max_count: int = 1_000_000, max_age_s: float = 600.0) -> None:
        make: Any = compiled.KeyTable if compiled else KeyTable
        self.secret = secret[:SECRET_BYTES]
        self._table: KeyTable = make(self.secret, max_count, max_age_s)
        self._followers: dict[bytes, list[WaitingCopy]] = {}
        self._bytes_of: dict[bytes, int] = {}  # of those of a key: an event's bytes are made when asked for
        self.follower_count = 0
        self.follower_bytes = 0

    def __len__(self) -> int:
        """Keys remembered for good."""
        return len(self._table)

    @property
    def pending(self) -> int:
        return self._table.pending

    def digest(self, key: str) -> bytes:
        return self._table.digest(key)

    def digests(self, keys: Iterable[str | None]) -> list[bytes | None]:
        """Digests without claiming anything; None where there is no key."""
        return [self.digest(key) if key else None for key in keys]

    def claim(self, keys: Sequence[str | None], now: float) -> Claim:
        """Claims the key of every event; None or ``""`` claims nothing."""
        return Claim(*self._table.claim(keys, now))

    def state_of(self, key: str) -> str:
        """``"new"``, ``"pending"`` or ``"known"``; claims nothing."""
        return self.state_of_digest(self.digest(key))

    def state_of_digest(self, digest: bytes) -> str:
        if self._table.is_pending(digest):
            return "pending"
        return "known" if self._table.has(digest) else "new"

    def is_known(self, digest: bytes) -> bool:
        """Whether an event with this key is safe."""
        return self._table.has(digest) and not self._table.is_pending(digest)

    def known(self, keys: Mapping[int, str]) -> set[int]:
        """Of keys by index, those of events that are safe."""
        digests = zip(keys, map(self._table.digest, keys.values()), strict=True)
        return {index for index, digest in digests if self.is_known(digest)}

    def reclaim(self, digests: Iterable[bytes]) -> None:
        """Claim keys of a batch that was frozen before a restart, whatever the window says."""
        self._table.reclaim(digests)

    def follow(self, chunk: Chunk, copies: Sequence[tuple[int, bytes]]) -> None:
        """Events of a chunk, each with its position and its digest, wait for what they are copies of."""
        followers, bytes_of = self._followers, self._bytes_of
        positions, digests = [*map(itemgetter(0), copies)], map(itemgetter(1), copies)
        sizes = lengths_of(chunk.events, positions)
        waiting = map(waiting_copy, zip(repeat(chunk), positions))
        for digest, copy, size_bytes in zip(digests, waiting, sizes, strict=True):
            if digest in followers:
                followers[digest].append(copy)
                bytes_of[digest] += size_bytes
            else:
                followers[digest], bytes_of[digest] = [copy], size_bytes
        self.follower_count += len(copies)
        self.follower_bytes += sum(sizes)

    def waits_only_for(self, digests: Set[bytes]) -> bool:
        """Whether every copy that waits is one of an event with one of these keys."""
        return self._followers.keys() <= digests

    def confirm(self, digests: Sequence[bytes], now: float) -> list[WaitingCopy]:
        """These events are safe. Returns the copies that now are duplicates."""
        self._table.confirm(digests, now)
        if not self._followers:
            return []
        return [*chain.from_iterable(self._take_followers(digests).values())]

    def release(self, digests: Sequence[bytes]) -> list[WaitingCopy]:
        """These events failed: their keys are free again. Returns their copies: they failed, too."""
        return [*chain.from_iterable(self.release_by_key(digests).values())]

    def release_by_key(self, digests: Collection[bytes]) -> dict[bytes, list[WaitingCopy]]:
        """As ``release``; only keys with copies are in what it gives."""
        self._table.release(digests)
        return self._take_followers(digests)

    def forget(self, digests: Sequence[bytes]) -> None:
        """Keys that were known are free again, because their events failed after all."""
        self._table.forget(digests)

    def restore(self, digests: Sequence[bytes], *, confirmed_at: float, now: float) -> None:
        """Load keys from the store, oldest first; ``confirmed_at`` on the clock of ``now``."""
        self._table.restore(digests, confirmed_at, now)

    def _take_followers(self, digests: Collection[bytes]) -> dict[bytes, list[WaitingCopy]]:
        """Copies of these events, which are not pending any more. Whichever are fewer are looked for: a batch
        may be one event, while thousands of copies wait."""
        waiting = self._followers
        if len(digests) < len(waiting):
            gone = [digest for digest in dict.fromkeys(digests) if digest in waiting]
        else:
            gone = self._table.settled(waiting)
        followers = dict(zip(gone, map(waiting.pop, gone), strict=True))
        self.follower_count -= sum(map(len, followers.values()))
        self.follower_bytes -= sum(map(self._bytes_of.pop, gone))
        return followers


class KeyTable:
    """Which keys are pending or known. The accelerator has one of the same name, with the same methods.

    Positional arguments only, for it has no others.
    """

    def __init__(self, secret: bytes, max_count: int, max_age_s: float) -> None:
        # The secret as a prefix and not as blake2b's key: that would fill a block of its own, and a
        # second block doubles the price. BLAKE2 has no length extension that would make it unsafe.
        self._hash = hashlib.blake2b(secret, digest_size=DIGEST_BYTES)
        self._max_count = max_count
        self._generation = max(1, max_count // _GENERATIONS)
        self._max_age_s = max_age_s
        self._shards: list[set[bytes]] = [set() for _ in range(_SHARDS)]  # pending and confirmed
        self._known = 0  # in all shards
        self._pending: set[bytes] = set()
        self._closed: deque[tuple[float, list[bytes]]] = deque()  # (time of the youngest key, keys)
        self._current: list[bytes] = []
        self._current_count = 0  # that became known in it, also those that were freed since
        self._current_since = self._current_until = 0.0
        self._stale: Counter[bytes] = Counter()  # freed, but still in a generation
        self._stale_places = 0

    def __len__(self) -> int:
        return self._known - len(self._pending)

    @property
    def pending(self) -> int:
        return len(self._pending)

    def digest(self, key: str) -> bytes:
        state = self._hash.copy()
        state.update(key.encode())
        return state.digest()

    def is_pending(self, digest: bytes) -> bool:
        return digest in self._pending

    def has(self, digest: bytes) -> bool:
        return digest in self._shards[digest[0] & _SHARD_MASK]

    def settled(self, digests: Iterable[bytes]) -> list[bytes]:
        """Those that are not pending."""
        return [digest for digest in digests if digest not in self._pending]

    def claim(
        self, keys: Sequence[str | None], now: float
    ) -> tuple[Sequence[bytes | None], list[int], list[tuple[int, bytes]]]:
        """The fields of a ``Claim``."""
        self._expire(now)
        copy, shards = self._hash.copy, self._shards
        digests: list[bytes | None] = []
        add = digests.append
        again: list[tuple[int, bytes]] = []
        without = 0
        for key in keys:
            if not key:
                without += 1
                add(None)
                continue
            state = copy()
            state.update(key.encode())
            digest = state.digest()
            seen = shards[digest[0] & _SHARD_MASK]
            if digest in seen:
                again.append((len(digests), digest))
                add(None)
            else:
                seen.add(digest)
                add(digest)
        self._known += len(digests) - without - len(again)
        pending = self._pending
        pending.update(filter(None, digests) if again or without else digests)  # type: ignore[arg-type]
        copies = [one for one in again if one[1] in pending]
        duplicates = [index for index, digest in again if digest not in pending]
        return digests, duplicates, copies

    def claim_digests(
        self, digests: Sequence[bytes | None], positions: Sequence[int], now: float
    ) -> tuple[list[int], list[tuple[int, bytes]]]:
        """As ``claim``, of the digests at ``positions`` (ascending). Gives those of copies of known keys, and
        (position, digest) of copies of pending ones, also within these."""
        self._expire(now)
        shards = self._shards
        claimed: list[bytes] = []
        add = claimed.append
        again: list[tuple[int, bytes]] = []
        for position, digest in zip(positions, pick(digests, positions), strict=True):
            if digest is None:
                continue
            seen = shards[digest[0] & _SHARD_MASK]
            if digest in seen:
                again.append((position, digest))
            else:
                seen.add(digest)
                add(digest)
        self._known += len(claimed)
        pending = self._pending
        pending.update(claimed)
        copies = [one for one in again if one[1] in pending]
        return [position for position, digest in again if digest not in pending], copies

    def reclaim(self, digests: Iterable[bytes]) -> None:
        for digest in digests:
            if not self.has(digest):
                self._put(digest)
                self._pending.add(digest)

    def confirm(self, digests: Sequence[bytes], now: float) -> None:
        self._expire(now)
        pending, safe = self._pending, digests
        before = len(pending)
        if pending.issuperset(digests):
            pending.difference_update(digests)
            if before - len(pending) < len(digests):
                safe = [*dict.fromkeys(digests)]
        else:
            safe = [digest for digest in dict.fromkeys(digests) if digest in pending or not self.has(digest)]
            for digest in safe:
                if digest not in pending:  # a dead letter's key, which was free meanwhile
                    self._put(digest)
            pending.difference_update(digests)
        self._remember(safe, now)

    def release(self, digests: Iterable[bytes]) -> None:
        free = self._pending.intersection(digests)
        self._pending -= free
        self._drop(free)

    def forget(self, digests: Sequence[bytes]) -> None:
        for digest in digests:
            if digest not in self._pending and self.has(digest):
                self._drop([digest])
                self._stale[digest] += 1
                self._stale_places += 1
        if self._stale_places > self._max_count:
            self._sweep()

    def restore(self, digests: Sequence[bytes], confirmed_at: float, now: float) -> None:
        if now - confirmed_at <= self._max_age_s:
            fresh = [digest for digest in dict.fromkeys(digests) if not self.has(digest)]
            for digest in fresh:
                self._put(digest)
            self._close_if_old(confirmed_at)
            self._remember(fresh, confirmed_at)

    def _remember(self, digests: Sequence[bytes], now: float) -> None:
        first = 0
        while first < len(digests):
            if not self._current_count:
                self._current_since = self._current_until = now
            self._current_until = max(self._current_until, now)
            last = min(len(digests), first + self._generation - self._current_count)
            self._current += digests[first:last]
            self._current_count += last - first
            first = last
            if self._current_count >= self._generation:
                self._close_generation()
        self._shrink()

    def _expire(self, now: float) -> None:
        self._close_if_old(now)
        while self._closed and now - self._closed[0][0] > self._max_age_s:
            self._forget()

    def _close_if_old(self, now: float) -> None:
        if self._current_count and now - self._current_since >= self._max_age_s / _GENERATIONS:
            self._close_generation()

    def _close_generation(self) -> None:
        self._closed.append((self._current_until, self._current))
        self._current, self._current_count = [], 0

    def _shrink(self) -> None:
        while len(self) > self._max_count and self._closed:
            self._forget()

    def _forget(self) -> None:
        digests = self._closed.popleft()[1]
        if self._stale:
            digests = [digest for digest in digests if not self._was_freed(digest)]
        self._drop(digests)

    def _sweep(self) -> None:
        """Take the places of freed keys out of the generations: they would pile up until they are too old."""
        self._closed = deque((at, [d for d in ds if not self._was_freed(d)]) for at, ds in self._closed)
        self._current = [digest for digest in self._current if not self._was_freed(digest)]

    def _was_freed(self, digest: bytes) -> bool:
        """Whether this place in the generations stands for nothing any more."""
        if digest not in self._stale:
            return False
        self._stale[digest] -= 1
        self._stale_places -= 1
        if not self._stale[digest]:
            del self._stale[digest]
        return True

    def _put(self, digest: bytes) -> None:
        """A digest that is in no shard."""
        self._shards[digest[0] & _SHARD_MASK].add(digest)
        self._known += 1

    def _drop(self, digests: Collection[bytes]) -> None:
        """Digests that are in a shard."""
        for digest in digests:
            self._shards[digest[0] & _SHARD_MASK].discard(digest)
        self._known -= len(digests)
