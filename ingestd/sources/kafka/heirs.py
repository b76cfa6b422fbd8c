"""Who goes on with what an earlier process, or another owner of a partition, had on its way of it."""

from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from ingestd.store.frozen_batches import FrozenBatch


class Heir(Protocol):
    """Is told before a chunk comes that it matters to."""

    def superseded(self, number: int, named: Collection[str]) -> None:
        """The partition goes on under another number: nothing comes of this one any more. ``named``: ids of
        batches that the other one has, too."""
        ...

    def adopt(self, batches: Sequence[FrozenBatch]) -> None:
        """They are to be sent again when their chunks have come."""
        ...


class Nobody:
    """Where messages go into the spool: there are no batches of theirs."""

    def superseded(self, number: int, named: Collection[str]) -> None:
        """Nothing is known of it."""

    def adopt(self, batches: Sequence[FrozenBatch]) -> None:
        """There are none."""


class Heirs:
    """One is told, in their order, also of what happened before there was one."""

    def __init__(self) -> None:
        self._heir: Heir | None = None
        self._waiting: list[Callable[[Heir], None]] = []

    def found(self, heir: Heir) -> None:
        self._heir, waiting, self._waiting = heir, self._waiting, []
        for notify in waiting:
            notify(heir)

    def superseded(self, number: int, named: Collection[str]) -> None:
        self._notify(lambda heir: heir.superseded(number, named))

    def adopt(self, batches: Sequence[FrozenBatch]) -> None:
        self._notify(lambda heir: heir.adopt(batches))

    def _notify(self, notify: Callable[[Heir], None]) -> None:
        if self._heir:
            notify(self._heir)
        else:
            self._waiting.append(notify)
