"""How far files are settled, as the journal learns it; on disk soon afterwards."""

from ingestd.core.chunk import NO_MARK
from ingestd.core.clock import Clock
from ingestd.sources.live.live_file import LiveFile
from ingestd.sources.source import Position
from ingestd.store.journal import Journal

_COMMIT_EVERY_S = 1.0


class Checkpoints:
    """``run`` until cancelled."""

    def __init__(self, journal: Journal, clock: Clock) -> None:
        self._journal = journal
        self._clock = clock
        self._moved = False

    def settled(self, file: LiveFile, position: Position) -> None:
        self._journal.moved(file.number, position.offset, position.next_line, position.mark)
        self._moved = True
        if file.is_settled and file.reading is None:
            self.note_end(file)

    def note_end(self, file: LiveFile) -> None:
        """Behind its last event there may be something else: a bracket, blank lines."""
        if file.end_mark[0]:
            self._journal.moved(file.number, file.at, file.line, file.end_mark)
            file.end_mark = NO_MARK
            self._moved = True

    async def run(self) -> None:
        """Raises StoreFailed."""
        while True:
            await self._clock.sleep(_COMMIT_EVERY_S)
            if self._moved:
                self._moved = False
                await self._journal.commit()
