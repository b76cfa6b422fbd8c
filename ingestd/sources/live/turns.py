"""Which of the files with something to read is read next."""

from collections.abc import Callable, Mapping

from ingestd.sources.live.live_file import LiveFile, Whereabouts
from ingestd.sources.live.patterns import Identity
from ingestd.sources.live.reading import Ending


class Turns:
    """``files``: all that are known, as they are by then. ``by_time``: the one last written to longest ago
    goes first, else by name."""

    def __init__(
        self,
        files: Mapping[Identity, LiveFile],
        *,
        by_time: bool,
        ending_of: Callable[[LiveFile], Ending],
    ) -> None:
        self._files = files
        self._by_time = by_time
        self._ending_of = ending_of
        self._sweep = 1
        self._queue: list[LiveFile] = []  # the first of them at the end

    def files_changed(self) -> None:
        """The next is looked for among all."""
        self._queue.clear()

    def next(self, *, only_known: bool = False) -> tuple[LiveFile, Ending] | None:
        """What is read now. Chunks of an earlier process come first, then what was renamed away, then the
        others in their order, unless ``only_known``; each to the end that it has, so that one that grows
        holds up no other."""
        if not only_known and (found := self._queued()):
            return found
        due = [file for file in self._files.values() if file.is_due(self._ending_of(file))]
        if (recovering := [file for file in due if file.cuts]) or only_known:
            due = recovering
        fresh = [file for file in due if file.sweep != self._sweep]
        if due and not fresh:
            self._sweep += 1
            fresh = due
        if not fresh:
            return None
        fresh.sort(key=self.order, reverse=True)
        self._queue = [] if recovering else fresh
        return fresh[-1], self._ending_of(fresh[-1])

    def _queued(self) -> tuple[LiveFile, Ending] | None:
        """Without a look at all files for each: thousands may have a line. These are looked at when the
        queue is empty, and when files have changed."""
        while self._queue:
            file = self._queue[-1]
            is_known = self._files.get(file.identity) is file and file.sweep != self._sweep
            if is_known and file.is_due(ending := self._ending_of(file)):
                return file, ending
            self._queue.pop()
        return None

    def has_turn(self, file: LiveFile) -> None:
        """It was read to its end, or to where it ended when that began."""
        file.sweep = self._sweep

    def order(self, file: LiveFile) -> tuple[bool, bool, int, str]:
        is_here = file.whereabouts is Whereabouts.PRESENT
        by_time = file.mtime_ns if self._by_time else 0
        return file.reading is None, is_here, by_time, file.path
