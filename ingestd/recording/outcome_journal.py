"""The contract of a journal, as recorders use it: of the state file, or of a share on JetStream."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

from ingestd.core.chunk import Batch, Chunk, Segment
from ingestd.core.letter import DeadLetter
from ingestd.core.receipt import Digests, Positions
from ingestd.store.writer import Work


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
    ) -> None: ...
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
    ) -> None: ...
    def dead_letters(self, letters: Sequence[DeadLetter], *, now: float) -> None: ...
    def dismissed(self, chunk: Chunk, positions: Sequence[int], *, now: float) -> None: ...
    def safe(self, keys: Sequence[bytes], letters: Sequence[DeadLetter], *, now: float) -> None: ...
    def processed(self, by: str, chunk: Chunk, positions: Positions, *, now: float) -> None: ...
    def note(self, work: Work) -> None: ...
