"""Files as a source of events, as they are written, rotated and dropped in directories.

Each file is a source of its own to the journal, which knows how far it is settled; see docs/decisions/018.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import suppress
from functools import partial

from ingestd.core.chunk import NO_MARK, Chunk, Keeper, Mark
from ingestd.core.clock import Clock, wait_until_set
from ingestd.core.receipt import Receipt
from ingestd.sources.broker.source import Outage, raise_failure
from ingestd.sources.files.splitter import Damaged
from ingestd.sources.files.streams import in_thread
from ingestd.sources.live.checkpoints import Checkpoints
from ingestd.sources.live.counts import FileCounts
from ingestd.sources.live.file_set import Claims, FileSet
from ingestd.sources.live.finishing import Finishing
from ingestd.sources.live.identities import Identities
from ingestd.sources.live.live_file import LiveFile
from ingestd.sources.live.patterns import Listing, is_of, look
from ingestd.sources.live.reading import Cut, Ending, FileKind, FileMark, Reading, ReadOptions, Rewritten
from ingestd.sources.live.settings import FilesConfig
from ingestd.sources.live.watcher import Watcher
from ingestd.sources.source import Position
from ingestd.store.connection import StoreFailed
from ingestd.store.file_rows import FileRows
from ingestd.store.journal import Journal

_LOOK_ALL_S = 10.0
"""How often everything is looked at where the system tells of changes."""
_SHARE = 20
"""Looking takes no more than such a part of the time."""
_AWAITED_S = 30.0
"""How long to wait for files that may be what an earlier process was sending."""
_FORGOTTEN_AFTER_S = 90 * 86_400


class FilesSource:
    """``cuts``: by the number of a file the chunks that an earlier process had cut and may have sent.
    ``claims``: shared by all sources of this kind. ``own``: patterns of what this process writes."""

    keeper = Keeper.SOURCE

    def __init__(
        self,
        name: str,
        settings: FilesConfig,
        journal: Journal,
        rows: FileRows,
        options: ReadOptions,
        *,
        cuts: Callable[[int], Sequence[Cut]],
        claims: Claims,
        own: Sequence[str] = (),
        clock: Clock,
        warn: Callable[[str], None],
    ) -> None:
        self.name = f"files.{name}"
        self.counts = FileCounts()
        self.outage = Outage(self.name, self.counts, warn, clock)
        self.starts: dict[int, int] = {}
        self._settings = settings
        self._patterns = settings.patterns
        self._left_out = [*settings.left_out, *own]
        self._options = options
        self._journal = journal
        self._rows = rows
        self._cuts = cuts
        self._clock = clock
        self._warn = warn
        self._identities = Identities(
            rows,
            journal,
            options,
            patterns=self._patterns,
            cuts=cuts,
            doubt_s=2 * settings.closed_after,
            clock=clock,
            warn=warn,
        )
        self._checkpoints = Checkpoints(journal, clock)
        self._set = FileSet(
            self.name,
            settings,
            self._identities,
            rows,
            claims=claims,
            counts=self.counts,
            clock=clock,
            warn=warn,
            moved=self._checkpoints.settled,
        )
        self._busy = asyncio.Lock()
        """A file is not read while it is found out which it is."""
        self._changed = asyncio.Event()
        self._news = asyncio.Event()
        self._stop = asyncio.Event()
        self._awaited = set[int]()
        """Numbers of files that an earlier process had batches of, and that were not found yet."""
        self._opened_at = 0.0
        self.looks, self._looked_s = 0, 0.0
        self._finishing = Finishing(self.name, settings, journal, counts=self.counts, clock=clock, warn=warn)
        self._tasks: list[asyncio.Task[None]] = []
        self._watcher: Watcher

    @property
    def number(self) -> int:
        return next(iter(self.numbers), 0)

    @property
    def numbers(self) -> Collection[int]:
        return self._set.by_number.keys() | self.starts.keys()

    async def open(self) -> None:
        """All that is there is known then. Raises StoreFailed."""
        loop = asyncio.get_running_loop()
        self._watcher = Watcher(self._changed, loop, only_polls=self._settings.watch == "poll")
        is_first = await self._journal.remember(f"files {self.name}", "begun") is None
        self._identities.only_new = is_first and self._settings.start == "new"
        listing = await self._look()
        await self._set.update(listing)
        self._identities.only_new = False
        await self._set.find_renamed()
        self._count_rewritten()
        self.starts = {number: file.at for number, file in self._set.by_number.items()}
        for row in await self._identities.not_found(self._set.by_number):
            if self._cuts(row.number):
                self.starts[row.number] = row.position
                self._awaited.add(row.number)
        self._opened_at = self._clock.monotonic()
        await self._forget_old()
        if await in_thread(lambda: self._watcher.watch(listing.directories)):
            self._changed.set()
        self._tasks = [loop.create_task(work()) for work in (self._keep_looking, self._checkpoints.run)]

    async def chunks(self) -> AsyncIterator[tuple[Chunk, Receipt]]:
        while not self._stop.is_set():
            raise_failure(self._tasks)
            async with self._busy:
                found = None if self._stop.is_set() else self._set.turns.next(only_known=self._is_awaiting)
                read = await self._turn(*found) if found else []
            if found is None:
                await wait_until_set(self._news, self._pause_s, self._clock)
                self._news.clear()
            for chunk in read:
                if self._stop.is_set():
                    return
                self.counts.messages += len(chunk.events)
                self.counts.last_message = self._clock.wall()
                yield chunk, chunk.receipt

    def ack(self, position: Position) -> None:
        """Of the only file; receipts know theirs."""
        (file,) = self._set.by_number.values()
        self._checkpoints.settled(file, position)

    def stop(self) -> None:
        self._stop.set()
        self._news.set()

    async def close(self) -> None:
        self.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks) if self._tasks else None
        async with self._busy:
            with suppress(StoreFailed):
                await self._journal.commit()
            for file in [*self._set]:
                file.close()
        if hasattr(self, "_watcher"):
            await in_thread(self._watcher.close)

    async def nothing_before(self, number: int, place: int, reached: int) -> bool:
        """See ``NothingBefore``."""
        file = self._set.by_number.get(number)
        if file is None:
            return not self._is_awaiting
        return not file.cuts and file.given <= reached

    @property
    def _is_awaiting(self) -> bool:
        """An archive is looked at when it is closed: it may hold what is to be sent again."""
        if self._awaited:
            waited_s = self._clock.monotonic() - self._opened_at
            patient = waited_s < max(_AWAITED_S, 3 * self._settings.closed_after)
            self._awaited -= self._set.by_number.keys()
            if not patient or self._set.is_recognised:
                self._awaited.clear()
        return bool(self._awaited)

    @property
    def oldest_s(self) -> float:
        """For how long the oldest has waited that is not read, or not settled."""
        times = [at for file in self._set if (at := file.acks.oldest_since) is not None]
        if (unread := self._set.oldest_unread) is not None:
            times.append(unread)
        return max(0.0, self._clock.monotonic() - min(times)) if times else 0.0

    # --- reading ---

    async def _turn(self, file: LiveFile, ending: Ending) -> list[Chunk]:
        """Some chunks of one file, or none, and what is known of it then."""
        try:
            reading = file.reading
            if reading is None:
                if not await in_thread(file.open):
                    self._changed.set()  # it has another name by now
                    file.read_size = file.size
                    return []
                reading = file.reading = await in_thread(lambda: self._begin(file, ending))
            regions = await in_thread(reading.turn)
        except Rewritten:
            if file.cuts and not await in_thread(file.is_rewritten):
                file.cuts = ()  # it does not reach to where they end
            else:
                file.size = file.mark.end  # how much was there before is not known
                await self._set.lose(file)
                self._changed.set()
            file.drop_reading()
            return []
        except (Damaged, OSError) as error:
            self._refuse(file, error)
            return []
        reading.number = file.number
        file.is_seen(reading.length, reading.written_ns, self._clock.monotonic())
        file.at, file.line = reading.reached
        chunks = [reading.chunk_of(region, mark) for region, mark in regions]
        for chunk in chunks:  # now: what has no receipt counts as settled
            end = Position(chunk.end, chunk.next_line, chunk.mark)
            chunk.receipt = file.acks.receipt(len(chunk.events), end, self._clock.monotonic())
            file.given = chunk.end
        if reading.mark[0]:
            file.mark = FileMark.of(reading.mark)
        await self._identities.grow_head(file)
        if reading.at_end:
            self._read_to_end(file, reading, regions[-1][1] if regions else None)
        return chunks

    def _begin(self, file: LiveFile, ending: Ending) -> Reading:
        assert file.descriptor is not None
        return Reading(
            file.path,
            file.descriptor,
            file.kind,
            self._options,
            start=file.at,
            line=file.line,
            mark=file.mark,
            head=file.head,
            cuts=file.cuts,
            ending=ending,
            only_cuts=bool(file.cuts),
        )

    def _read_to_end(self, file: LiveFile, reading: Reading, last: Mark | None) -> None:
        """``last``: the mark behind its last chunk, if there is one."""
        self._set.turns.has_turn(file)
        was_known, file.cuts = bool(file.cuts), ()
        half, problem = reading.half, reading.problem
        file.drop_reading()
        if was_known:
            return  # what comes behind it is still to be read
        file.read_size, file.read_ending = reading.goal, reading.ending
        file.read_mtime_ns = reading.written_ns
        file.problem = ""
        if problem:
            self._set.refuse(file, problem)
        elif file.kind is FileKind.WHOLE and half:
            self._set.refuse(
                file,
                f"its last {half.size} bytes, from byte {half.start} (line {half.line}), are not a whole"
                " event: they are read when it has changed",
            )
        file.end_mark = reading.mark if reading.mark != last else NO_MARK
        if file.is_settled:
            self._checkpoints.note_end(file)

    def _refuse(self, file: LiveFile, error: Damaged | OSError) -> None:
        """It is tried again when it has changed."""
        text = str(error) if isinstance(error, Damaged) else f"reading failed: {error.strerror or error}"
        file.read_size, file.read_ending, file.cuts = file.size, Ending.ENDED, ()
        file.drop_reading()
        self._set.turns.has_turn(file)
        self._set.refuse(file, text)

    # --- looking ---

    async def _look(self) -> Listing:
        begun = self._clock.monotonic()
        most = 2 * self._settings.max_files
        listing = await in_thread(lambda: look(self._patterns, self._left_out, most=most))
        self._looked_s = self._clock.monotonic() - begun
        return listing

    @property
    def _pause_s(self) -> float:
        return max(0.02, min(self._settings.poll_every, self._settings.closed_after))

    async def _keep_looking(self) -> None:
        while not self._stop.is_set():
            is_notified = self._watcher.is_notified and not self._set.waits
            await wait_until_set(self._changed, _LOOK_ALL_S if is_notified else self._pause_s, self._clock)
            self._changed.clear()
            listing = await self._look()
            async with self._busy:
                await self._set.update(listing)
                await self._finishing.finish(self._set.by_number.values())
            self.looks += 1
            self._count_rewritten()
            self.counts.watched = self._watcher.watched
            if await in_thread(partial(self._watcher.watch, listing.directories)):
                self._changed.set()
            self._news.set()
            await self._clock.sleep(min(5.0, _SHARE * self._looked_s))

    def _count_rewritten(self) -> None:
        self.counts.truncated += self._identities.rewritten
        self._identities.rewritten = 0

    async def _forget_old(self) -> None:
        rows = await self._rows.older(self._clock.wall() - _FORGOTTEN_AFTER_S)
        mine = [row for row in rows if is_of(row.path, self._patterns)]
        self._rows.forget(row.number for row in mine if row.number not in self.numbers)
