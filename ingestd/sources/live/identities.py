"""Finds out what a file that was just seen is: one that was read before, a copy of one, or a new one."""

import os
from collections.abc import Callable, Container, Mapping, MutableMapping, Sequence
from contextlib import suppress

from ingestd.core.chunk import MARK_BYTES, NO_MARK, Mark, digest
from ingestd.core.clock import Clock
from ingestd.sources.files.streams import in_thread, shown_path
from ingestd.sources.live import recognising
from ingestd.sources.live.copies import Copies, Twin, begins_alike, compare, mark_of_lost, same_lines
from ingestd.sources.live.live_file import LiveFile, Whereabouts
from ingestd.sources.live.patterns import Identity, is_of
from ingestd.sources.live.reading import TAIL_BYTES, Cut, Ending, FileKind, FileMark, ReadOptions, mark_at
from ingestd.sources.live.recognising import Heads, Inspection
from ingestd.store.file_rows import FileRow, FileRows
from ingestd.store.journal import Journal
from ingestd.store.source_rows import Beginning

_LATEST = 5_000
KnownFiles = MutableMapping[int, LiveFile]
"""By number, all that are in memory."""


class Identities:
    """``patterns``: what files of this source are called. ``cuts``: by the number of a row, chunks that an
    earlier process had. ``doubt_s``: how long so little is a copy that may be the same by
    chance. ``only_new``: what is there is passed over, while that is set."""

    def __init__(
        self,
        rows: FileRows,
        journal: Journal,
        options: ReadOptions,
        *,
        patterns: Sequence[str],
        cuts: Callable[[int], Sequence[Cut]],
        doubt_s: float,
        clock: Clock,
        warn: Callable[[str], None],
    ) -> None:
        self.only_new = False
        self.rewritten = 0
        self.reported = set[int]()  # numbers of files whose truncation was told when it was seen
        """Files that had been written again since an earlier process read them."""
        self._rows = rows
        self._journal = journal
        self._options = options
        self._patterns = patterns
        self._cuts = cuts
        self._copies = Copies(options, cuts)
        self._doubt_s = doubt_s
        self._clock = clock
        self._warn = warn

    async def find(
        self, files: Sequence[LiveFile], known: KnownFiles, endings: Mapping[LiveFile, Ending]
    ) -> None:
        """Each has a number then, or is a copy, or has to be looked at again. Those come first whose places
        on the disk are known: what an earlier process read besides may be in copies. Raises StoreFailed."""
        await self._journal.commit()  # rows of what was read and let go say how far
        rows: dict[Identity, list[FileRow]] = {}
        for row in await self._rows.at([file.identity for file in files]):
            rows.setdefault((row.device, row.inode), []).append(row)
        heads: Heads | None = None
        for file in sorted(files, key=lambda one: one.identity not in rows):
            mine = rows.get(file.identity, [])
            try:
                look = await in_thread(
                    lambda f=file, m=mine: recognising.inspect(  # type: ignore[misc]
                        f.path, f.identity, m, self._options, f.descriptor
                    )
                )
            except OSError as error:
                file.problem = error.strerror or str(error)
                continue
            if look is None:
                continue
            file.problem = ""
            file.kind = look.kind
            if not look.head or (look.kind is not FileKind.FOLLOWED and endings[file] is Ending.OPEN):
                os.close(look.descriptor)
                continue
            file.close()
            file.descriptor = look.descriptor
            twin = None
            if look.row is None and (len(look.content) >= TAIL_BYTES or file.copy_until is None):
                heads = heads or Heads(await self._rows.latest(_LATEST))
                twin = await in_thread(lambda f=file, k=look, h=heads: self._copies.find(f, k, h, known))  # type: ignore[misc]
            await self._settle_on(file, look, twin)
            if file.number:
                known[file.number] = file
                if heads and len(look.content) >= TAIL_BYTES:
                    heads.add(_row_of(file))  # a copy of it may be new, too

    async def _settle_on(self, file: LiveFile, look: Inspection, twin: Twin | None) -> None:
        if twin and twin.file and twin.file.whereabouts is not Whereabouts.LOST:
            file.copy_of, file.same_to = twin.file, twin.position
            if len(look.content) < TAIL_BYTES:
                file.copy_until = self._clock.monotonic() + self._doubt_s
        elif twin and twin.file and twin.position == twin.file.at:
            self.move(twin.file, file, look, twin.mark)
        elif twin and twin.row:
            head = digest(look.head), len(look.head)
            self._rows.is_at(twin.row.number, shown_path(file.known_as), file.identity, head, twin.mark)
            mark = FileMark.of(twin.mark)
            row = twin.row._replace(
                head=head[0], head_bytes=head[1], tail=mark.digest, tail_bytes=mark.size, tail_end=mark.end
            )
            prints = {(0, head[1]): head, (mark.end - mark.size, mark.size): (mark.digest, mark.size)}
            await self._take(file, look._replace(row=row, prints={**look.prints, **prints}))
        else:
            begins = Beginning(twin.position, twin.line, twin.mark) if twin else None
            if self.only_new and not twin and look.row is None:
                begins = await in_thread(lambda: _end_of(look))
            await self._take(file, look, begins)

    async def _take(self, file: LiveFile, look: Inspection, begins: Beginning | None = None) -> None:
        """As the journal knows it, or as new: then what stands before ``begins`` was read elsewhere. A crash
        right behind it finds both or nothing, or it would be read once more."""
        path, row = shown_path(file.known_as), look.row
        if row is None and look.was:
            self._copies.written_again.add(look.was.number)
            self._rows.gone(look.was.number)
        state = await self._journal.find_file(
            path,
            identity=file.identity,
            fingerprints=look.fingerprint,
            size=None,
            from_start=False,
            now=self._clock.wall(),
            begins=begins,
        )
        file.number, file.at, file.line = state.number, state.position, state.line
        file.head = FileMark(row.head_bytes, row.head, row.head_bytes) if row else _head_of(look.head)
        self._grow(file, look.head)
        if row:
            file.mark = FileMark(row.tail_end, row.tail, row.tail_bytes)
        elif begins:
            file.mark = FileMark.of(begins.mark)
        elif look.was and look.was.number in self.reported:
            self.reported.discard(look.was.number)
        elif look.was and look.was.position and look.was.path == path:
            self.rewritten += 1
            self._warn(
                f"{path} is another file than the one that was read before, to byte {look.was.position}; it"
                " is read from its start"
            )
        file.read_size, file.read_ending = -1, Ending.OPEN
        file.cuts = [cut for cut in sorted(set(self._cuts(file.number))) if cut[1] > file.at]
        if (row or begins) and file.mark.end == look.size and not file.cuts:
            file.read_size, file.read_mtime_ns = look.size, look.mtime_ns
            file.read_ending = Ending.CLOSED

    async def grow_head(self, file: LiveFile) -> None:
        """What it begins with is known to 4 KiB, once it is so long: by that a copy is recognised."""
        known, descriptor = file.head.size, file.descriptor
        if known < MARK_BYTES and file.mark.end >= min(2 * known, MARK_BYTES) and descriptor is not None:
            head = await in_thread(lambda: os.pread(descriptor, MARK_BYTES, 0))
            if not await in_thread(file.is_rewritten):  # else it may be the head of something else
                self._grow(file, head)

    def _grow(self, file: LiveFile, head: bytes) -> None:
        if len(head) > file.head.size:
            file.head = _head_of(head)
            self._rows.grown(file.number, (file.head.digest, file.head.size))

    async def not_found(self, known: KnownFiles) -> list[FileRow]:
        """Rows of this source's files that no file was found for."""
        rows = await self._rows.latest(_LATEST)
        others = [row for row in rows if row.number not in known]
        return [row for row in others if is_of(row.path, self._patterns)]

    # --- copies ---

    async def is_still_copy(self, file: LiveFile) -> bool:
        """Whether a copy that has grown, as it is being made, still holds nothing else than its original."""

        def check() -> bool:
            with suppress(OSError):
                look = recognising.inspect(file.path, file.identity, [], self._options)
                if look is None or file.copy_of is None:
                    return False
                try:
                    if look.head == look.content:
                        return compare(look, file.copy_of)
                    at, mark = file.copy_of.at, file.copy_of.mark
                    if not at:
                        return begins_alike(look, file.copy_of)
                    return bool(recognising.mark_in(look, at, mark, self._options, min(TAIL_BYTES, at)))
                finally:
                    os.close(look.descriptor)
            return False

        return await in_thread(check)

    async def own(self, file: LiveFile, *, is_there: bool) -> None:
        """What was a copy: its original is gone, or it went on by itself. What is the same was read there, or
        will be, while the original ``is_there``."""
        original, file.copy_of = file.copy_of, None
        look = await in_thread(lambda: recognising.inspect(file.path, file.identity, [], self._options))
        if original is None or look is None:
            return
        file.close()
        file.descriptor = look.descriptor
        at, line, mark = original.at, original.line, None
        if not is_there or look.head != look.content:
            mark = await in_thread(
                lambda: recognising.mark_in(look, original.at, original.mark, self._options, least=1)
            )
        if mark is None and look.head == look.content:
            if is_there:
                at, line = await in_thread(lambda: same_lines(look, original, file.same_to)), 1
            elif file.same_to < at:
                at, line = file.same_to, 1
            mark = mark_at(look.descriptor, at)
        await self._take(file, look, Beginning(at, line, mark) if mark else None)

    def move(self, lost: LiveFile, copy: LiveFile, look: Inspection, mark: Mark) -> None:
        """What ``lost`` held is in ``copy``, which is read on under its number and not as a file of its
        own."""
        lost.close()
        head = digest(look.head), len(look.head)
        if copy.whereabouts is Whereabouts.PRESENT:
            lost.known_as = copy.known_as
        lost.path, lost.identity, lost.kind = copy.path, copy.identity, copy.kind
        lost.size, lost.mtime_ns, lost.changed_at = copy.size, copy.mtime_ns, copy.changed_at
        lost.descriptor, copy.descriptor = copy.descriptor, None
        lost.whereabouts, lost.away_since = copy.whereabouts, copy.away_since
        lost.is_deleted, lost.is_link = copy.is_deleted, copy.is_link
        lost.mark, lost.head = FileMark.of(mark), _head_of(look.head)
        lost.read_size, lost.read_ending = -1, Ending.OPEN
        lost.cuts = [cut for cut in lost.cuts if cut[0] >= lost.at]
        copy.copy_of = lost
        kept = None if look.head == look.content else NO_MARK  # of what is settled, not of what was read
        self._rows.is_at(lost.number, shown_path(lost.known_as), lost.identity, head, kept)

    async def find_copy(
        self, lost: LiveFile, waiting: Sequence[LiveFile], excluded: Container[Identity]
    ) -> bool:
        """Looks for a copy of what was truncated: among those that wait, then beside it, whatever it is
        called, but for those that are ``excluded``. Whether ``lost`` is read on."""

        def search() -> tuple[LiveFile, Inspection, Mark] | None:
            found = [(one, one.path, one.identity) for one in waiting]
            beside = recognising.others_beside(lost.path, lost.mark.end)
            for one in beside:
                if one.identity not in excluded and one.identity != lost.identity:
                    made = LiveFile(one, lost.changed_at, lambda file, position: None)
                    made.whereabouts, made.away_since = Whereabouts.AWAY, lost.changed_at
                    found.append((made, one.path, one.identity))
            for file, path, identity in found:
                with suppress(OSError):
                    if look := recognising.inspect(path, identity, [], self._options):
                        if mark := mark_of_lost(look, lost, self._options):
                            return file, look, mark
                        os.close(look.descriptor)
            return None

        found = await in_thread(search) if lost.at or lost.cuts else None
        if not found:
            return False
        file, look, mark = found
        file.close()
        file.descriptor, file.kind = look.descriptor, look.kind
        file.size, file.mtime_ns = look.size, look.mtime_ns
        self.move(lost, file, look, mark)
        return True


def _end_of(look: Inspection) -> Beginning:
    """Of what was there before the very first start: behind its last line."""
    if look.kind is FileKind.WHOLE:
        return Beginning(0, 1, mark_at(look.descriptor, look.size))
    at = recognising.behind_last_line(look.descriptor, look.size)
    return Beginning(at, 1, mark_at(look.descriptor, at))


def _row_of(file: LiveFile) -> FileRow:
    return FileRow(
        number=file.number,
        path=file.path,
        device=file.identity[0],
        inode=file.identity[1],
        head=file.head.digest,
        head_bytes=file.head.size,
        position=file.at,
        line=file.line,
        updated=0.0,
        tail=file.mark.digest,
        tail_bytes=file.mark.size,
        tail_end=file.mark.end,
    )


def _head_of(head: bytes) -> FileMark:
    return FileMark(len(head), digest(head), len(head))
