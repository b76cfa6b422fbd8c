"""Changes that have to work on a full disk, too."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TypeVar

from ingestd.store.connection import is_full

S = TypeVar("S")


class Piecemeal:
    """On a full disk the log is used again, and where all of it is too small, less is done at once.

    ``transaction``: what each part is done in. ``more_room`` is called where not even one item fits; whether
    it made room.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        transaction: Callable[[], AbstractContextManager[None]],
        more_room: Callable[[], bool] = lambda: False,
    ) -> None:
        self._connection, self._transaction = connection, transaction
        self._more_room = more_room
        self._most = 0  # items for which there was room; 0: nobody knows
        self._was_full = False

    def run(self, items: Sequence[S], work: Callable[[Sequence[S]], int]) -> Iterator[int]:
        """What ``work`` gives for each part, once that is committed. Raises sqlite3.Error: not even one item
        fits, or something else is wrong."""
        step = self._most or len(items)
        parts, again = [items[at : at + step] for at in range(0, len(items), step or 1)][::-1], True
        while parts:
            part = parts[-1]
            try:
                with self._transaction():
                    result = work(part)
            except sqlite3.Error as error:
                if not is_full(error):
                    raise
                self._was_full = True
                if again:
                    self._use_log_again()
                elif len(part) > 1:
                    half = self._most = (len(part) + 1) // 2
                    parts[-1:] = part[half:], part[:half]
                elif not self._more_room():
                    raise
                again = False
            else:
                parts.pop()
                again = True
                yield result

    def make_room(self) -> None:
        """For what follows, if there was none."""
        if self._was_full:
            self._use_log_again()

    def _use_log_again(self) -> None:
        with suppress(sqlite3.Error):  # where the file would have to grow
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
