"""What becomes of a file whose events are all settled: it stays, is deleted, or moved."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from ingestd.core.clock import Clock
from ingestd.sources.files.streams import in_thread, shown_path
from ingestd.sources.live.counts import FileCounts
from ingestd.sources.live.live_file import LiveFile, Whereabouts
from ingestd.sources.live.reading import FileKind
from ingestd.sources.live.settings import FilesConfig
from ingestd.store.journal import Journal

_MOST_NAMES = 10_000
_TRY_AGAIN_S = 60.0


class CannotFinish(Exception):
    """The file stays where it is; the text says why."""


class Finishing:
    def __init__(
        self,
        name: str,
        settings: FilesConfig,
        journal: Journal,
        *,
        counts: FileCounts,
        clock: Clock,
        warn: Callable[[str], None],
    ) -> None:
        self._name = name
        self._settings = settings
        self._journal = journal
        self._counts = counts
        self._clock = clock
        self._warn = warn
        self._not_before: dict[LiveFile, float] = {}

    async def finish(self, files: Iterable[LiveFile]) -> None:
        """Those that are read to their end, and have been left alone since. Raises StoreFailed."""
        now, settings = self._clock.monotonic(), self._settings
        keep = settings.when_done == "keep"
        quiet_s = settings.closed_after if keep else settings.done_after
        done = [file for file in files if _is_done(file) and now - file.changed_at >= quiet_s]
        if keep:
            for file in done:
                if file.kind is FileKind.WHOLE and not file.is_done:
                    file.is_done = True
                    self._counts.files_done += 1
            return
        due = [file for file in done if not file.is_link and now >= self._not_before.get(file, now)]
        if due:
            await self._journal.commit()  # that it is settled is on disk before it is gone
        for file in due:
            await self._finish(file)

    async def _finish(self, file: LiveFile) -> None:
        """It is held open: what is written to it all the same is read for a while."""
        path = file.path
        try:
            await in_thread(file.open)
            moved_to = await in_thread(lambda: delete_or_move(file, self._settings.move_to))
        except (CannotFinish, OSError) as error:
            self._not_before[file] = self._clock.monotonic() + _TRY_AGAIN_S
            self._warn(f"{self._name}: {shown_path(path)} is done, and stays where it is: {error}")
            return
        self._not_before.pop(file, None)
        file.whereabouts, file.away_since = Whereabouts.AWAY, self._clock.monotonic()
        file.is_deleted, file.path = not moved_to, moved_to or path


def _is_done(file: LiveFile) -> bool:
    settled = file.is_at_end and file.is_settled
    return file.whereabouts is Whereabouts.PRESENT and settled and not file.problem


def delete_or_move(file: LiveFile, move_to: str) -> str:
    """To a directory of the same file system; gives where it is then. Nothing is done when it has changed
    since it was read, and no file is replaced. In a worker thread. Raises CannotFinish."""
    path = file.path
    try:
        status = os.lstat(path)
        same = (status.st_dev, status.st_ino) == file.identity
        if not same or (status.st_size, status.st_mtime_ns) != (file.size, file.mtime_ns):
            raise CannotFinish("it has changed since it was read")
        if not move_to:
            os.unlink(path)
            return ""
        if os.path.samefile(os.path.dirname(path), move_to):
            raise CannotFinish("it is where it is to be moved to")
        return _move(path, move_to)
    except OSError as error:
        raise CannotFinish(error.strerror or str(error)) from None


def _move(path: str, move_to: str) -> str:
    """By a second name, then without the first: a name that is taken is never replaced. Raises OSError."""
    name = Path(path).name
    for number in range(_MOST_NAMES):
        target = os.path.join(move_to, f"{name}.{number}" if number else name)
        try:
            os.link(path, target, follow_symlinks=False)
        except FileExistsError:
            if os.path.samefile(path, target):  # a crash came between the two steps
                os.unlink(path)
                return target
            continue
        os.unlink(path)
        return target
    raise CannotFinish(f"there are {_MOST_NAMES} files called {name} in {move_to}")
