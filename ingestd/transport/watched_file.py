"""Something that is made of files, and made again when they change: secrets, authorities, certificates.

``auth.py`` and ``sessions.py`` make them, with one ``Watch`` for a process.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from ingestd.core.errors import UserError

LOOK_EVERY_S = 1.0

T = TypeVar("T")
Stamp = tuple[tuple[int, int, int], ...]


class Watch:
    """All files of a process. ``warn`` is called with a new one that cannot be used: the old one stays in
    use."""

    def __init__(self, warn: Callable[[str], None] = lambda words: None) -> None:
        self.warn = warn
        self._files: list[WatchedFiles[Any]] = []

    def add(self, files: "WatchedFiles[Any]") -> None:
        self._files.append(files)

    def look(self) -> None:
        """Read what has changed, also where it is not in use at the moment."""
        for files in self._files:
            files.look()

    def read_again(self) -> None:
        """Read all of them, whether they seem to have changed or not, as SIGHUP asks for it."""
        for files in self._files:
            files.read_again()


class WatchedFiles(Generic[T]):
    """``make`` reads the files and gives what they stand for; they are looked at once a second at most.

    What cannot be read or used (a file that is being written) leaves the last good one in use, and is
    reported once. ``make`` raises OSError, ValueError or UserError, without quoting what it read; the first
    time the constructor raises them. ``generation`` counts from 1; ``on_change`` is called with each new
    value.
    """

    def __init__(
        self,
        paths: Sequence[str],
        make: Callable[[], T],
        *,
        what: str,
        watch: Watch,
        monotonic: Callable[[], float],
        on_change: Callable[[T], None] = lambda value: None,
    ) -> None:
        self.paths = tuple(map(Path, paths))
        self._make = make
        self._what = what
        self._watch = watch
        self._monotonic = monotonic
        self._on_change = on_change
        self.generation = 1
        self._refused: Stamp | None = None
        self._warned = ""
        self._seen = self._stamp()  # of before the reading: what is written meanwhile is seen next time
        self._value = make()
        self._look_at = monotonic() + LOOK_EVERY_S
        watch.add(self)

    def get(self) -> T:
        """The last good value."""
        self.look_now_and_then()
        return self._value

    def look_now_and_then(self) -> None:
        """``look``, if the last time is a second ago."""
        if self._monotonic() >= self._look_at:
            self.look()

    def drop(self, generation: int) -> None:
        """What was made of that generation was refused: look again before the next use."""
        if generation == self.generation:
            self._look_at = self._monotonic()

    def look(self) -> None:
        """Make it again if a file has changed."""
        self._look_at = self._monotonic() + LOOK_EVERY_S
        try:
            stamp = self._stamp()
        except OSError as error:
            self._warn(error)
            return
        if stamp not in (self._seen, self._refused):
            self._take(stamp)

    def read_again(self) -> None:
        """Make it again in any case."""
        self._warned = ""
        try:
            self._take(self._stamp())
        except OSError as error:
            self._warn(error)

    def _take(self, stamp: Stamp) -> None:
        try:
            value = self._make()
        except (OSError, ValueError, UserError) as error:  # UnicodeDecodeError is one
            # a file that may not be read may be made readable, and its stamp stays
            self._refused = None if isinstance(error, OSError) else stamp
            self._warn(error)
            return
        self._seen, self._refused, self._warned = stamp, None, ""
        self._value = value
        self.generation += 1
        self._on_change(value)

    def _warn(self, error: Exception) -> None:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if isinstance(error, UnicodeDecodeError):
            why = "it is not UTF-8"
        if why != self._warned:
            self._warned = why
            self._watch.warn(f"{self._what} stays as it was: {why}")

    def _stamp(self) -> Stamp:
        found = map(os.stat, self.paths)
        return tuple((one.st_mtime_ns, one.st_ino, one.st_size) for one in found)
