"""What is said of files: in the log once each, and in numbers for metrics and status."""

from collections.abc import Callable, Sequence

from ingestd.core.units import human_size
from ingestd.sources.files.streams import shown_path
from ingestd.sources.live.counts import FileCounts
from ingestd.sources.live.live_file import LiveFile, Whereabouts
from ingestd.sources.live.patterns import Listing
from ingestd.sources.live.reading import Ending
from ingestd.sources.live.settings import FilesConfig

_REPORT_HALF_S = 60.0
_MOST_REFUSED = 20
_MAX_REPORTED = 1_000


class FileReport:
    """``waits``: whether something is to be done when files have been left alone for a while."""

    def __init__(
        self, name: str, settings: FilesConfig, counts: FileCounts, warn: Callable[[str], None]
    ) -> None:
        self.waits = False
        self._name = name
        self._settings = settings
        self._counts = counts
        self._warn = warn
        self._reported: set[str] = set()

    def report_unseen(self, listing: Listing, over: int) -> None:
        errors = [f"cannot look into {shown_path(at)}: {why}" for at, why in listing.unseen.items()]
        if over or not (listing.is_whole or errors):
            errors.append(
                f"there are more files than max_files ({self._settings.max_files}): the others wait until"
                " some are gone; delete or move them when they are done (when_done)"
            )
        for one in errors:
            self.warn_once(one)
        self._reported &= {*errors, *(t for t in self._reported if t not in errors and "look into" not in t)}
        self._counts.problem = errors[0] if errors else ""
        self._counts.connected = not listing.unseen

    def warn_once(self, text: str) -> None:
        if text not in self._reported and len(self._reported) < _MAX_REPORTED:
            self._reported.add(text)
            self._warn(f"{self._name}: {text}")

    def count(self, files: Sequence[LiveFile], now: float) -> None:
        counts = self._counts
        refused = {shown_path(f.path): f.problem for f in files if f.problem}
        unread = [file for file in files if file.unread]
        counts.files = len(files)
        counts.open_files = sum(file.descriptor is not None for file in files)
        counts.rotated_files = sum(file.whereabouts is Whereabouts.AWAY for file in files)
        counts.unread_files = len(unread)
        counts.unread_bytes = sum(file.unread for file in unread)
        counts.refused_files = len(refused)
        counts.refused = dict([*refused.items()][:_MOST_REFUSED])
        unfinished = [f for f in unread if f.read_size == f.size and f.read_ending >= Ending.CLOSED]
        counts.unfinished_files = len(unfinished)
        for file in unfinished:
            if not file.is_half_reported and now - file.changed_at >= _REPORT_HALF_S:
                file.is_half_reported = True
                self._warn(
                    f"{self._name}: the last {file.unread} bytes of {shown_path(file.path)} are not a whole"
                    " event: they wait for the rest, or for a newline"
                )
        self.waits = bool(unread) or any(
            f.whereabouts is not Whereabouts.PRESENT or (not f.is_at_end and f.size and not f.problem)
            for f in files
        )

    def refused(self, file: LiveFile) -> None:
        self._warn(f"{self._name}: {shown_path(file.path)}: {file.problem}")

    def truncated(self, path: str, copy: str) -> None:
        """``copy``: where what it held is, if that was found."""
        there = f", and what it held is read on in {shown_path(copy)}" if copy else ""
        self._warn(
            f"{self._name}: {shown_path(path)} was truncated, or written again: it is read from its"
            f" start{there}"
        )

    def lost(self, file: LiveFile, what: str) -> None:
        if (lost := file.size - file.mark.end) > 0 and not file.copy_of:
            self._counts.lost_bytes += lost
            self._warn(
                f"{self._name}: {shown_path(file.path)} {what} before its last {human_size(lost)} were read,"
                f" from byte {file.mark.end}: they are lost, unless a copy of it is read"
            )
