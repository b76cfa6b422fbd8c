"""The contract of a journal, as recorders use it: of the state file, or of a share on JetStream."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from ingestd.core.chunk import Batch, Chunk, Segment
from ingestd.core.letter import DeadLetter
from ingestd.core.receipt import Digests, Positions
from ingestd.store.writer import Work

ToLake = Callable[[Sequence[bytes], str, float], Work | None]
"""(delivered events, id and latency of their request): what else is to be written with that."""


class OutcomeJournal(Protocol):
    """Notes become durable together with the next ``commit``."""

    def commit(self) -> Awaitable[None]: ...
    def freeze(
        self, batch: Batch, *, sink: str, now: float, transformed: bool = False
    ) -> Callable[[], Awaitable[None]] | None:
        """Gives what is to be waited for besides a commit, before it is sent."""
        ...

    def waits(self, batch: Batch) -> Callable[[], Awaitable[None]] | None:
        """The same, of a batch that an earlier process has frozen."""
        ...

    def resolved(
        self,
        batch: Batch,
        *,
        sink: str,
        segments: Sequence[Segment],
        safe_keys: Sequence[Digests],
        letters: Sequence[DeadLetter],
        parts: Sequence[Batch],
        now: float,
        also: Work | None = None,
        transformed: bool = False,
    ) -> None:
        """The events in ``segments`` are resolved at ``sink``; the others of ``batch`` go on in ``parts``.
        ``safe_keys``: digests of keys that may be remembered for good. ``also`` is written in the same
        transaction."""
        ...

    def retried(
        self,
        *,
        delivered: Sequence[int],
        safe_keys: Sequence[bytes],
        failed: Sequence[tuple[int, DeadLetter]],
        in_parts: Sequence[int] = (),
        shared: Sequence[int] = (),
        copies: Sequence[DeadLetter] = (),
        now: float,
        also: Work | None = None,
    ) -> None:
        """Outcomes of dead letters, by number. ``in_parts``: these were not taken and go on in other
        requests. ``shared``: delivered, though other sinks may lack the events. ``copies``: letters of events
        that failed with one of them."""
        ...

    def dead_letters(self, letters: Sequence[DeadLetter], *, now: float) -> None:
        """Events became dead letters without ever being in a batch. ``now``: wall time."""
        ...

    def dismissed(self, chunk: Chunk, positions: Sequence[int], *, now: float) -> None:
        """Events of a chunk, by position, are resolved before they went anywhere: refused, or copies."""
        ...

    def safe(self, keys: Sequence[bytes], letters: Sequence[DeadLetter], *, now: float) -> None:
        """Events are resolved at all sinks: their keys, and letters of copies that failed with one."""
        ...

    def processed(self, by: str, chunk: Chunk, positions: Positions, *, now: float) -> None:
        """``by``, a sink or another consumer, need not see these events again after a restart."""
        ...

    def note(self, work: Work) -> None:
        """Another part's write, in the same transaction as what is noted at this moment."""
        ...
