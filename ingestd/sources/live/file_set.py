"""The files of one source: which are known, which is read next, and what becomes of those that are renamed,
copied, truncated or deleted."""

import os
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import suppress

from ingestd.core.clock import Clock
from ingestd.sources.files.streams import in_thread, shown_path
from ingestd.sources.live import recognising
from ingestd.sources.live.counts import FileCounts
from ingestd.sources.live.file_report import FileReport
from ingestd.sources.live.identities import Identities
from ingestd.sources.live.live_file import LiveFile, Whereabouts
from ingestd.sources.live.open_files import hold_open
from ingestd.sources.live.patterns import FoundFile, Identity, Listing
from ingestd.sources.live.reading import TAIL_BYTES, Ending
from ingestd.sources.live.settings import FilesConfig
from ingestd.sources.live.turns import Turns
from ingestd.sources.source import Position
from ingestd.store.file_rows import FileRows

_LONG_AGO_S = 86_400.0

Claims = MutableMapping[Identity, str]
"""Which source has a file: no two read the same."""


class FileSet:
    """``claims``: shared by all sources. ``moved`` is called when more of a file is settled."""

    def __init__(
        self,
        name: str,
        settings: FilesConfig,
        identities: Identities,
        rows: FileRows,
        *,
        claims: Claims,
        counts: FileCounts,
        clock: Clock,
        warn: Callable[[str], None],
        moved: Callable[[LiveFile, Position], None],
    ) -> None:
        self.by_number: dict[int, LiveFile] = {}
        self._files: dict[Identity, LiveFile] = {}
        self._lost: list[LiveFile] = []
        self._name = name
        self._settings = settings
        self._identities = identities
        self._rows = rows
        self._claims = claims
        self._counts = counts
        self._clock = clock
        self._report = FileReport(name, settings, counts, warn)
        self._moved = moved
        self.turns = Turns(self._files, by_time=settings.order == "time", ending_of=self.ending_of)

    @property
    def waits(self) -> bool:
        """Whether something is to be done when files have been left alone for a while."""
        return self._report.waits

    def __iter__(self) -> Iterator[LiveFile]:
        yield from self._files.values()
        yield from self._lost

    def ending_of(self, file: LiveFile) -> Ending:
        return file.ending(
            self._clock.monotonic(),
            closed_after=self._settings.closed_after,
            rotated_after=self._settings.rotated_after,
        )

    @property
    def is_recognised(self) -> bool:
        """Whether it is known of all files what they are."""
        files = self._files.values()
        return all(file.number or file.copy_of or file.problem or not file.size for file in files)

    # --- what is there ---

    async def update(self, listing: Listing) -> None:
        """Raises StoreFailed."""
        self.turns.files_changed()
        now = self._clock.monotonic()
        over = 0
        for identity, found in listing.files.items():
            file = self._files.get(identity)
            if file is None and len(self._files) >= self._settings.max_files:
                over += 1
            elif file is None or not await self._see(file, found, now):
                self._add(found, now)
        self._report.report_unseen(listing, over)
        if listing.is_whole:
            await self._miss(listing, now)
        await self._recognise()
        await self._check_copies(now)
        await self._let_go(now)
        await hold_open(self._files.values(), most=self._settings.max_open, order=self.turns.order)
        self._report.count([*self], now)

    def _add(self, found: FoundFile, now: float) -> LiveFile | None:
        other = self._claims.setdefault(found.identity, self._name)
        if other != self._name:
            self._report.warn_once(f"{shown_path(found.path)} is read by {other} already: it is left to that")
            return None
        file = self._files[found.identity] = LiveFile(found, now, self._moved)
        file.changed_at -= min(max(0.0, self._clock.wall() - found.mtime_ns / 1e9), _LONG_AGO_S)
        return file

    async def _see(self, file: LiveFile, found: FoundFile, now: float) -> bool:
        """False: it holds something else now."""
        if file.whereabouts is not Whereabouts.PRESENT:
            file.whereabouts = Whereabouts.PRESENT
        file.path, file.known_as, file.is_link = found.path, found.path, found.is_link
        if found.size < file.mark.end:  # or it was read on since it was looked at
            again = await in_thread(lambda: recognising.seen_again(found))
            if again is None:
                return True
            found = again
        rewritten = await self._is_rewritten(file, found.size, found.mtime_ns)
        if rewritten or self._is_again(file, found, now):
            await self.lose(file)
            return False
        file.is_seen(found.size, found.mtime_ns, now)
        return True

    async def _is_rewritten(self, file: LiveFile, size: int, mtime_ns: int) -> bool:
        """What is longer than what was read of it is found out when it is read on."""
        if size == file.read_size and file.reading is None and mtime_ns != file.mtime_ns:
            return await in_thread(file.is_rewritten)
        return size < file.mark.end

    def _is_again(self, file: LiveFile, found: FoundFile, now: float) -> bool:
        """As short, written since it was read, and left alone since: perhaps the same once more."""
        quiet = now - file.changed_at >= self._settings.closed_after
        same = found.size == file.size and found.mtime_ns == file.mtime_ns
        short = 0 < found.size < TAIL_BYTES and file.is_at_end and file.number > 0
        return same and quiet and short and file.is_settled and file.mtime_ns > file.read_mtime_ns > 0

    def refuse(self, file: LiveFile, why: str) -> None:
        """It is not read until it has changed."""
        if file.problem != why:
            file.problem = why
            self._report.refused(file)

    async def lose(self, file: LiveFile) -> None:
        """What it held is gone from it; perhaps it was copied before."""
        self.turns.files_changed()
        self._counts.truncated += 1
        path = file.path
        file.drop_reading()
        self._files.pop(file.identity, None)
        waiting = [one for one in self._files.values() if one.copy_of is file]
        followed = {one.identity for one in self._files.values() if one.number or one.copy_of}
        if await self._identities.find_copy(file, waiting, followed - {one.identity for one in waiting}):
            if before := self._files.get(file.identity):  # it was not found out yet what that is
                before.close()
            self._files[file.identity] = file
            self._claims[file.identity] = self._name
            self._report.truncated(path, file.path)
            return
        self._report.truncated(path, "")
        if file.number:
            self._identities.reported.add(file.number)
        file.whereabouts, file.away_since = Whereabouts.LOST, self._clock.monotonic()
        file.close()
        file.cuts = ()
        self._lost.append(file)

    async def _miss(self, listing: Listing, now: float) -> None:
        """Names that are not there any more."""
        gone = [file for identity, file in self._files.items() if identity not in listing.files]
        states = await in_thread(lambda: [_state_of(file) for file in gone]) if gone else []
        for file, status in zip(gone, states, strict=True):
            if file.whereabouts is Whereabouts.PRESENT:
                file.whereabouts, file.away_since = Whereabouts.AWAY, now
            if status is None:
                file.is_deleted = True
                continue
            size, mtime_ns, links = status
            file.is_deleted = links == 0
            if await self._is_rewritten(file, size, mtime_ns):
                await self.lose(file)
            else:
                file.is_seen(size, mtime_ns, now)

    async def _recognise(self) -> None:
        """Those that were not recognised yet, and are long enough to be."""
        files = [file for file in self._files.values() if self._is_to_be_recognised(file)]
        before = {file: file.problem for file in files}
        endings = {file: self.ending_of(file) for file in files}
        if files:
            known = {one.number: one for one in self if one.number}
            await self._identities.find(files, known, endings)
        for file in files:
            self._is_recognised(file, before[file], endings[file])

    def _is_to_be_recognised(self, file: LiveFile) -> bool:
        there = file.whereabouts is Whereabouts.PRESENT or file.descriptor is not None
        if file.number or file.copy_of or not file.size or not there:
            return False
        changed = (file.size, file.mtime_ns) != (file.read_size, file.read_mtime_ns)
        return changed or self.ending_of(file) > file.read_ending

    def _is_recognised(self, file: LiveFile, problem: str, ending: Ending) -> None:
        if file.number:
            self.by_number[file.number] = file
        elif (lost := file.copy_of) and lost.identity == file.identity:  # it is read on as what it holds
            self._files[file.identity] = lost
            if lost in self._lost:
                self._lost.remove(lost)
        elif not file.copy_of:
            file.read_size, file.read_mtime_ns = file.size, file.mtime_ns
            file.read_ending = ending
        if file.problem and file.problem != problem:
            self._report.warn_once(f"cannot read {shown_path(file.path)}: {file.problem}")

    async def _check_copies(self, now: float) -> None:
        """Copies whose originals are gone, or that have gone on by themselves."""
        for file in [one for one in self._files.values() if one.copy_of]:
            original = file.copy_of
            assert original
            is_there = self._files.get(original.identity) is original
            if file.copy_until is not None and (not is_there or now >= file.copy_until):
                file.copy_of = None  # it is a file of its own, and read as that
                file.read_size = -1
                continue
            if is_there and file.size == file.same_to:
                continue
            if is_there and await self._identities.is_still_copy(file):
                file.same_to = file.size
                continue
            if is_there and await in_thread(original.is_rewritten):
                continue  # the next look goes on in this copy, under the number of what is on its way
            await self._identities.own(file, is_there=is_there)
            if file.number:
                self.by_number[file.number] = file

    async def _let_go(self, now: float) -> None:
        """Files that are gone, once nothing more is to be had of them and all that was is settled."""
        for file in [*self]:
            away_s = now - file.away_since
            if file.whereabouts is Whereabouts.PRESENT or not file.is_settled or file.reading:
                continue
            if file.whereabouts is Whereabouts.LOST:
                if away_s >= self._settings.rotated_after:
                    self._report.lost(file, "was truncated")
                    self.forget(file, is_gone=True)
            elif file.descriptor is None:  # it may be under another name
                if not await self._find_again(file):
                    self._report.lost(file, "was deleted")
                    self.forget(file, is_gone=True)
            elif away_s >= self._settings.rotated_after and (file.is_at_end or self._is_read(file)):
                if file.number:
                    self._counts.files_done += 1
                self.forget(file, is_gone=file.is_deleted)

    def _is_read(self, file: LiveFile) -> bool:
        at_end = file.read_size == file.size and file.read_ending is Ending.ENDED
        is_closed = self.ending_of(file) is not Ending.OPEN  # then it was found out what it is
        unknown = not file.number and (is_closed or not file.size)
        return at_end or unknown or bool(file.problem) or file.copy_of is not None

    async def _find_again(self, file: LiveFile) -> bool:
        """A file that was not open, renamed to what no pattern matches."""
        found = await in_thread(lambda: recognising.neighbours(file.path, {file.identity}))
        for one in found:
            with suppress(OSError):
                file.descriptor = os.open(one.path, os.O_RDONLY | os.O_CLOEXEC)
                file.path, file.is_deleted = one.path, False
                file.is_seen(one.size, one.mtime_ns, self._clock.monotonic())
                return True
        return False

    def forget(self, file: LiveFile, *, is_gone: bool) -> None:
        """``is_gone``: what has its place on the disk is another file."""
        file.close()
        if self._files.get(file.identity) is file:
            del self._files[file.identity]
            self._claims.pop(file.identity, None)
        if file in self._lost:
            self._lost.remove(file)
        self.by_number.pop(file.number, None)
        if file.number and is_gone:
            self._rows.gone(file.number)

    async def find_renamed(self) -> None:
        """What an earlier process read under names that match, is called otherwise now, and has something
        left to read, or to be sent again."""
        now = self._clock.monotonic()
        wanted = [row for row in await self._identities.not_found(self.by_number) if row.inode > 0]
        moved_to = self._settings.move_to
        for found, row in await in_thread(lambda: recognising.renamed(wanted, moved_to)):
            if found.identity in self._files or not (file := self._add(found, now)):
                continue
            file.whereabouts, file.away_since, file.known_as = Whereabouts.AWAY, now, row.path
            await self._identities.find([file], dict(self.by_number), {file: Ending.CLOSED})
            if file.number == row.number:
                self.by_number[file.number] = file
            else:
                self.forget(file, is_gone=False)

    @property
    def oldest_unread(self) -> float | None:
        """Since when something is there that was not read; the beginning of a line does not count."""
        since = [f.unread_since for f in self if f.unread and f.read_size != f.size]
        return min(since, default=None)


def _state_of(file: LiveFile) -> tuple[int, int, int] | None:
    """(size, time of the last write, names) of what is held open."""
    if file.descriptor is None:
        return None
    status = os.fstat(file.descriptor)
    return status.st_size, status.st_mtime_ns, status.st_nlink
